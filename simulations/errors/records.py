"""Runs of the engine that remember every epoch, and what inference reads of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bandit.allocation import batch_size
from bandit.arrays import FloatArray, IntArray
from bandit.engine import allocate, learn
from bandit.experiment import Experiment, PolicySettings
from bandit.history import History
from bandit.inference.observed import Observed, observe
from bandit.learning import Totals, totals_of
from bandit.ledger import GOAL, Ledger
from simulations.errors.worlds import Truth


@dataclass(frozen=True, slots=True)
class Record:
    """Many runs under one schedule: epochs end by users assigned, so at the same users in every run.

    Attributes:
        ends: Users assigned by the end of each epoch, shape (n_epochs,).
        p: Probability of each arm, shape (n_runs, n_epochs, n_arms).
        assigned: Users assigned, same shape.
        sums: Sums of 1, y, y², y³ over users with an outcome, shape (n_runs, n_epochs, n_arms, 4).
    """

    ends: IntArray
    p: FloatArray
    assigned: IntArray
    sums: FloatArray

    @property
    def moments(self) -> FloatArray:
        """Middle of each epoch, from 0 at the start to 1 at the horizon, shape (n_epochs,)."""
        return moments_of(self.ends)

    def history(self, run: int) -> History:
        """Return one run as the history that a report reads; everything is closed."""
        ledger = Ledger(self.assigned[run], np.zeros_like(self.assigned[run]), (self.sums[run],), (0.0,))
        return History(ledger, len(self.ends), self.p[run])


def epoch_ends(policy: PolicySettings, users: int) -> IntArray:
    """Return the users assigned by the end of each epoch, the last one cut at the horizon."""
    ends, before = [], 0
    while before < users:
        before = min(before + int(batch_size(policy, before)), users)
        ends.append(before)
    return np.array(ends, dtype=np.int64)


def moments_of(ends: IntArray) -> FloatArray:
    """Return the middle of each epoch as a part of the run."""
    starts = np.concatenate([[0], ends[:-1]])
    return np.asarray((starts + ends) / (2.0 * ends[-1]))


def record_runs(
    experiment: Experiment, truth: Truth, users: int, runs: int, seeds: np.random.SeedSequence, window: int = 0
) -> Record:
    """Run an experiment many times at once and keep every epoch.

    Args:
        experiment: Policy, floors, schedule.
        truth: Draws what happens to the users.
        users: Users of each run.
        runs: How many.
        seeds: Two children are spawned, for assignments and for outcomes.
        window: An epoch is closed, and learned from, when so many users have come after it.
    """
    assigning, answering = (np.random.default_rng(child) for child in seeds.spawn(2))
    ends = epoch_ends(experiment.policy, users)
    shape = (runs, len(ends), experiment.n_arms)
    record = Record(ends, np.zeros(shape), np.zeros(shape, np.int64), np.zeros((*shape, 4)))
    learned, closed = Totals.nothing((runs, experiment.n_arms)), 0
    before = np.zeros((runs, experiment.n_arms), np.int64)
    for epoch, moment in enumerate(record.moments):
        start = int(ends[epoch - 1]) if epoch else 0
        while closed < epoch and ends[closed] + window <= start:
            row = totals_of(experiment, record.assigned[:, closed], record.sums[:, closed], 0.0)
            learned, closed = learn(experiment, learned, row), closed + 1
        p = allocate(experiment, learned, before.astype(np.float64))
        drawn = assigning.multinomial(int(ends[epoch]) - start, p)
        record.p[:, epoch], record.assigned[:, epoch] = p, drawn
        record.sums[:, epoch] = truth.draw(answering, drawn, float(moment))
        before += drawn
    return record


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
