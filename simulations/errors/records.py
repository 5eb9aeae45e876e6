"""Runs of the engine in worlds that move, leave outcomes out and answer late."""

from __future__ import annotations

import numpy as np

from bandit.allocation import batch_size
from bandit.arrays import IntArray
from bandit.engine import allocate, learn
from bandit.experiment import Experiment, PolicySettings
from bandit.learning import Totals, totals_of
from simulations.errors.worlds import Truth
from simulations.records import Record


def epoch_ends(policy: PolicySettings, users: int) -> IntArray:
    """Return the users assigned by the end of each epoch, the last one cut at the horizon."""
    ends, before = [], 0
    while before < users:
        before = min(before + int(batch_size(policy, before)), users)
        ends.append(before)
    return np.array(ends, dtype=np.int64)


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
