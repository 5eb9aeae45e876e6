"""Ways of reading the same runs: as the product does, and as it must not be done, to show why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from bandit.arrays import FloatArray, IntArray
from bandit.experiment import Experiment, parse
from bandit.measures import N, Z
from simulations.errors.methods import Looks, looks_at
from simulations.records import Record, observed_of

_OPEN_LOOKS = 15
_GRID = (np.arange(64) + 0.5) / 64


class Reading(Protocol):
    """From runs to what the methods say of them."""

    def __call__(
        self, experiment: Experiment, record: Record, effects: FloatArray, rng: np.random.Generator
    ) -> tuple[Looks, IntArray]:
        """Return what the methods say at each look, and the users assigned by then, shape (n_looks,).

        Args:
            experiment: What was asked.
            record: The runs.
            effects: True effects by epoch, shape (n_epochs, n_arms).
            rng: Source of luck, where reading needs some.
        """
        ...


def closed(
    experiment: Experiment,
    record: Record,
    effects: FloatArray,
    rng: np.random.Generator,  # noqa: ARG001 (needs no luck)
) -> tuple[Looks, IntArray]:
    """As the product does: users are units, and every closing of an epoch is a look at closed epochs."""
    return looks_at(experiment, observed_of(experiment, record), effects), record.ends


@dataclass(frozen=True, slots=True)
class EveryReward:
    """Every 0/1 reward of a user is a unit, as if rewards of one user were not alike.

    Attributes:
        rewards: Rewards of each user.
    """

    rewards: int

    def __call__(
        self, experiment: Experiment, record: Record, effects: FloatArray, rng: np.random.Generator
    ) -> tuple[Looks, IntArray]:
        """Return what the methods say at each look, and the users by then."""
        ones = record.sums[..., Z]
        sums = self.rewards * np.stack([record.sums[..., N], ones, ones, ones], axis=-1)
        return closed(experiment, replace(record, assigned=self.rewards * record.assigned, sums=sums), effects, rng)


def missing_left_out(
    experiment: Experiment, record: Record, effects: FloatArray, rng: np.random.Generator
) -> tuple[Looks, IntArray]:
    """Users without an outcome are left out, although response depends on the outcome."""
    asked = parse({**experiment.to_dict(), "rewards": {"missing": "ignore"}})
    return closed(asked, record, effects, rng)


Delays = Mapping[tuple[int, int], tuple[float, float]]
"""For (arm, outcome): an outcome becomes known after this many further users, uniform between the two."""


@dataclass(frozen=True, slots=True)
class OpenEpochs:
    """Outcomes count as soon as they are known, whether or not their epoch is closed.

    Attributes:
        delays: For each (arm, 0/1 outcome), in further users.
    """

    delays: Delays

    def __call__(
        self, experiment: Experiment, record: Record, effects: FloatArray, rng: np.random.Generator
    ) -> tuple[Looks, IntArray]:
        """Return what the methods say at each of some looks, and the users by then."""
        at = np.unique(np.linspace(0, len(record.ends) - 1, _OPEN_LOOKS + 1).astype(np.int64)[1:])
        known = self.known(record, record.ends[at], rng)
        parts = []
        for look, epoch in enumerate(at):
            upto = slice(None, int(epoch) + 1)
            zeros, ones = known[:, upto, :, 0, look], known[:, upto, :, 1, look]
            sums = np.stack([zeros + ones, ones, ones, ones], axis=-1).astype(np.float64)
            seen = Record(record.ends[upto], record.p[:, upto], zeros + ones, sums)
            parts.append(looks_at(experiment, observed_of(experiment, seen), effects[upto]))
        return Looks.of_last(parts), record.ends[at]

    def known(self, record: Record, looks: IntArray, rng: np.random.Generator) -> IntArray:
        """Return how many outcomes are known by each look, shape (n_runs, n_epochs, n_arms, 2, n_looks)."""
        ones = np.rint(record.sums[..., Z]).astype(np.int64)
        outcomes = np.stack([record.assigned - ones, ones], axis=-1)
        by_look = np.stack([[self._chance(record, looks, arm, y) for y in (0, 1)] for arm in range(outcomes.shape[-2])])
        between = np.diff(by_look, axis=-1, prepend=0.0, append=1.0)
        when = rng.multinomial(outcomes, np.maximum(np.moveaxis(between, 2, 0), 0.0))
        return np.asarray(np.cumsum(when, axis=-1)[..., :-1])

    def _chance(self, record: Record, looks: IntArray, arm: int, outcome: int) -> FloatArray:
        """Return the probability that an outcome is known by each look, shape (n_epochs, n_looks).

        Its user is anywhere in the epoch, all places alike.
        """
        low, high = self.delays[arm, outcome]
        starts = np.concatenate([[0], record.ends[:-1]])
        users = starts[:, np.newaxis] + _GRID * (record.ends - starts)[:, np.newaxis]
        passed = looks[np.newaxis, :, np.newaxis] - users[:, np.newaxis, :]
        return np.asarray(np.clip((passed - low) / (high - low), 0.0, 1.0).mean(axis=-1))
