"""Runs that remember every epoch, and what inference reads of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.experiment import Experiment
from bandit.history import History
from bandit.inference.observed import Observed, observe
from bandit.ledger import GOAL, Ledger


@dataclass(frozen=True, slots=True)
class Record:
    """Many runs under one schedule: epochs end by users assigned, so at the same users in every run.

    Attributes:
        ends: Users assigned by the end of each epoch, shape (n_epochs,).
        p: Probability of each arm, shape (n_runs, n_epochs, n_arms).
        assigned: Users assigned, same shape.
        sums: Sums of 1, z, z², z³ over users with an outcome, shape (n_runs, n_epochs, n_arms, 4); z = y − origin.
        origin: Of the sums.
    """

    ends: IntArray
    p: FloatArray
    assigned: IntArray
    sums: FloatArray
    origin: float = 0.0

    @property
    def moments(self) -> FloatArray:
        """Middle of each epoch, from 0 at the start to 1 at the horizon, shape (n_epochs,)."""
        return moments_of(self.ends)

    def runs(self, some: slice) -> Record:
        """Return some of the runs."""
        return replace(self, p=self.p[some], assigned=self.assigned[some], sums=self.sums[some])

    def history(self, run: int) -> History:
        """Return one run as the history that a report reads; everything is closed."""
        ledger = Ledger(self.assigned[run], np.zeros_like(self.assigned[run]), (self.sums[run],), (self.origin,))
        return History(ledger, len(self.ends), self.p[run])


@dataclass(slots=True)
class Tape:
    """Keeps every epoch of many runs that have the same horizon, while they go on.

    Memory grows with the number of epochs, so with the logarithm of the users: about 50 bytes for each run, epoch and
    arm.

    Attributes:
        ends: Users assigned by the end of each epoch.
        p: Probability of each arm, by epoch, each of shape (n_runs, n_arms).
        assigned: Users assigned, likewise.
        sums: Sums of the goal, likewise with a last axis of 4.
        suspended: Whether each arm was suspended after the epoch, likewise.
        origin: Of the goal's sums.
    """

    ends: list[int] = field(default_factory=list)
    p: list[FloatArray] = field(default_factory=list)
    assigned: list[IntArray] = field(default_factory=list)
    sums: list[FloatArray] = field(default_factory=list)
    suspended: list[BoolArray] = field(default_factory=list)
    origin: float = 0.0

    def add(self, p: FloatArray, assigned: IntArray, sums: FloatArray, suspended: BoolArray) -> None:
        """Keep an epoch."""
        before = self.ends[-1] if self.ends else 0
        self.ends.append(before + int(assigned[0].sum()))
        self.p.append(p)
        self.assigned.append(assigned)
        self.sums.append(sums)
        self.suspended.append(suspended)

    @property
    def record(self) -> Record:
        """The epochs so far."""
        p, sums = np.stack(self.p, axis=1), np.stack(self.sums, axis=1)
        assigned = np.stack(self.assigned, axis=1)
        return Record(np.array(self.ends, dtype=np.int64), p, assigned, sums, self.origin)


def moments_of(ends: IntArray) -> FloatArray:
    """Return the middle of each epoch as a part of the run."""
    starts = np.concatenate([[0], ends[:-1]])
    return np.asarray((starts + ends) / (2.0 * ends[-1]))


def observed_of(experiment: Experiment, record: Record) -> Observed:
    """Return what inference reads of the goal in each run, arrays of shape (n_runs, n_epochs, n_arms)."""
    return stacked([observe(experiment, record.history(run), GOAL) for run in range(len(record.p))])


def stacked(each: Sequence[Observed]) -> Observed:
    """Return the same measure in several runs as one, with the runs on a first axis."""
    return replace(
        each[0],
        p=np.stack([one.p for one in each]),
        n=np.stack([one.n for one in each]),
        z=np.stack([one.z for one in each]),
        z2=np.stack([one.z2 for one in each]),
        z3=np.stack([one.z3 for one in each]),
    )
