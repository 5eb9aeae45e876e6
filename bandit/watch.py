"""Between two looks: could the values that have arrived since tip a guardrail?

A harmful value does not wait for the next epoch, and a look at all evidence at every value would be slow. So after each
look it is worked out how much worse an arm may get before a limit could be broken, and only then is it looked at again.
"""

from __future__ import annotations

import math

import numpy as np

from bandit.epochs import Cell
from bandit.experiment import Experiment
from bandit.generations import Generation
from bandit.inference.breaches import at_risk_again, columns_of_limit, log_e_of_limit
from bandit.inference.restarts import log_e_restarted, starts
from bandit.inference.shares import breach_level_of
from bandit.inference.windows import log_price, looked_at_again
from bandit.ledger import Ledger
from bandit.limits import limit_of
from bandit.measures import BETTING_FRACTIONS, N, measures_of

_STEPS = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
"""Further bad outcomes that are tried."""

_Key = tuple[int, int, int]  # guardrail, arm, window


class Watch:
    """How far each absolute `max` limit of each arm is from being broken.

    Args:
        experiment: Whose limits.

    Attributes:
        slots: The measures that are watched, each with its guardrails.
        tipped: What may have been broken since it was last emptied: (guardrail, arm, window).
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._control = experiment.control
        self._slot_of = looked_at_again(experiment)
        self.slots: dict[int, list[int]] = {}
        for place, slot in self._slot_of.items():
            self.slots.setdefault(slot, []).append(place)
        measures = measures_of(experiment)
        self._limits = {slot: measures[slot].limit for slot in self.slots}
        self._room: dict[_Key, float] = {}
        self.tipped: set[_Key] = set()

    def reset(self) -> None:
        """Forget what was worked out: an epoch has begun, so arms may start again."""
        self._room.clear()
        self.tipped.clear()

    def moved(self, slot: int, cell: Cell, window: int, old: float | None, new: float) -> None:
        """Take note that a user's outcome moved.

        Args:
            slot: The measure, one of `slots`.
            cell: Where the user is counted.
            window: Which one of the user's.
            old: The outcome before, None if there was none.
            new: The outcome now.
        """
        if cell.arm == self._control:
            return
        limit = self._limits[slot]
        if limit is None:
            worse = new - (old or 0.0)
        else:  # what the boldest bet gains: no other gains more
            boldest = BETTING_FRACTIONS[-1]
            before = 0.0 if old is None else math.log1p(boldest * (old / limit - 1.0))
            worse = math.log1p(boldest * (new / limit - 1.0)) - before
        if worse <= 0.0:
            return
        for place in self.slots[slot]:
            key = (place, cell.arm, window)
            left = self._room.get(key, 0.0) - worse
            self._room[key] = left
            if left < 0.0:
                self.tipped.add(key)

    def came_back(self, slot: int, cell: Cell, window: int) -> None:
        """Take note that harm in a later window counts now."""
        if cell.arm != self._experiment.control:
            self.tipped.update((place, cell.arm, window) for place in self.slots[slot])

    def is_broken(self, key: _Key, generation: Generation, ledger: Ledger) -> bool:
        """Say whether a limit is broken, and if not, work out how much worse it may get.

        Args:
            key: One of `tipped`.
            generation: The arm's latest.
            ledger: Of all epochs.
        """
        place, arm, window = key
        rail, slot = self._experiment.guardrails[place], self._slot_of[place]
        own = np.s_[generation.first_epoch - 1 :, arm]
        log_e, sums = log_e_of_limit(limit_of(rail)), ledger.sums[slot][own]
        assigned = ledger.assigned[own].astype(np.float64)
        if window == 1:
            rows = columns_of_limit(rail, sums, assigned)
        else:
            again = ledger.returning[slot, window][own]
            at_risk = at_risk_again(sums[..., N].sum(), assigned.sum(), again[..., N])
            rows = columns_of_limit(rail, again, at_risk)
        since = np.cumsum(rows[::-1], axis=0)[::-1][starts(assigned, 0)]
        n_starts = np.array(len(since))
        threshold = -math.log(breach_level_of(self._experiment, generation))
        threshold += float(log_price(window)) - math.log(2.0)
        now = float(log_e_restarted(log_e, since, n_starts))
        if now >= threshold:
            return True
        self._room[key] = threshold - now - 1e-9
        if self._limits[slot] is None:
            further = since[:, np.newaxis] + np.stack([np.zeros_like(_STEPS), _STEPS], axis=-1)
            further[..., 0] = np.maximum(further[..., 0], further[..., 1])
            kept = log_e_restarted(log_e, further, np.full(len(_STEPS), len(since))) < threshold
            self._room[key] = float(np.max(_STEPS[np.cumprod(kept).astype(bool)], initial=0.0))
        return False
