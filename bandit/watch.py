"""Between two looks: could the values that have arrived since tip a guardrail?

A harmful value does not wait for the next epoch, and a look at all evidence at every value would be slow. So after each
look it is worked out how much worse an arm may get before a limit could be broken, and only then is it looked at again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bandit.arrays import FloatArray, IntArray
from bandit.epochs import Cell, Epoch
from bandit.experiment import Experiment
from bandit.generations import Generation
from bandit.inference.breaches import columns_of_limit, log_e_of_limit, reports
from bandit.inference.restarts import log_e_restarted, starts
from bandit.inference.shares import breach_level_of
from bandit.inference.windows import log_price, looked_at_again
from bandit.limits import limit_of
from bandit.measures import BETTING_FRACTIONS, N, measures_of

_STEPS = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
"""Further bad outcomes that are tried."""

_Key = tuple[int, int, int]  # measure, arm, window


class Watch:
    """How far each absolute `max` limit of each arm is from being broken.

    Args:
        experiment: Whose limits.

    Attributes:
        tipped: What may have been broken since it was last emptied: (measure, arm, window).
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._rails = looked_at_again(experiment)
        measures = measures_of(experiment)
        self._limits = {slot: measures[slot].limit for slot in self._rails}
        self._room: dict[_Key, float] = {}
        self._starts: dict[int, IntArray] = {}
        self.tipped: set[_Key] = set()

    @property
    def slots(self) -> frozenset[int]:
        """The measures that are watched."""
        return frozenset(self._rails)

    def reset(self) -> None:
        """Forget what was worked out: an epoch has begun, so arms may start again."""
        self._room.clear()
        self._starts.clear()
        self.tipped.clear()

    def moved(self, slot: int, cell: Cell, window: int, old: float | None, new: float) -> None:
        """Take note that a user's outcome moved."""
        limit = self._limits[slot]
        if limit is None:
            worse = new - (old or 0.0)
        else:  # what the boldest bet gains: no other gains more
            boldest = BETTING_FRACTIONS[-1]
            before = 0.0 if old is None else math.log1p(boldest * (old / limit - 1.0))
            worse = math.log1p(boldest * (new / limit - 1.0)) - before
        if worse <= 0.0 or cell.arm == self._experiment.control:
            return
        key = (slot, cell.arm, window)
        left = self._room.get(key, 0.0) - worse
        self._room[key] = left
        if left < 0.0:
            self.tipped.add(key)

    def is_broken(self, key: _Key, generation: Generation, epochs: Sequence[Epoch]) -> bool:
        """Say whether a limit is broken, and if not, work out how much worse it may get.

        Args:
            key: One of `tipped`.
            generation: The arm's latest.
            epochs: All epochs.
        """
        slot, arm, window = key
        rail = self._rails[slot]
        log_e = log_e_of_limit(limit_of(rail))
        cells = [epoch.cells[arm] for epoch in epochs[generation.first_epoch - 1 :]]
        assigned = np.array([float(cell.assigned) for cell in cells])
        if arm not in self._starts:
            self._starts[arm] = starts(assigned, 0)
        own = self._starts[arm]
        if window > 1 and rail.per_user == "any" and not reports(np.array([c.sums[slot][N] for c in cells]), assigned):
            self._room[key] = float(_STEPS[-1])
            return False
        rows = columns_of_limit(rail, _rows(cells, slot, window), assigned if window == 1 else None)
        since = np.cumsum(rows[::-1], axis=0)[::-1][own]
        n_starts = np.array(len(own))
        threshold = -math.log(breach_level_of(self._experiment, generation))
        threshold += float(log_price(window)) - math.log(2.0)
        now = float(log_e_restarted(log_e, since, n_starts))
        if now >= threshold:
            return True
        self._room[key] = threshold - now - 1e-9
        if self._limits[slot] is None:
            further = since[:, np.newaxis] + np.stack([np.zeros_like(_STEPS), _STEPS], axis=-1)
            further[..., 0] = np.maximum(further[..., 0], further[..., 1])
            kept = log_e_restarted(log_e, further, np.full(len(_STEPS), len(own))) < threshold
            self._room[key] = float(np.max(_STEPS[np.cumprod(kept).astype(bool)], initial=0.0))
        return False


def _rows(cells: Sequence[Cell], slot: int, window: int) -> FloatArray:
    width = len(cells[0].sums[slot])
    if window == 1:
        return np.array([cell.sums[slot] for cell in cells])
    nobody = [0.0] * width
    return np.array([cell.returning.get((slot, window), nobody) for cell in cells])
