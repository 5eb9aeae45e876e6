"""Runs with a new allocation after each user: the variant is drawn, not its probability.

Thompson sampling gives an arm the probability that a draw from its posterior is the largest, so to draw once from each
posterior and take the largest has the same law as to work out the probabilities and draw from them, and is many times
faster where every user has an allocation of their own. Floors are a mixture: with the chance of their sum an arm is
drawn by them, else by the posteriors.
"""

from __future__ import annotations

import numpy as np

from bandit.arrays import FloatArray
from bandit.engine import posterior_of
from bandit.experiment import Experiment
from bandit.learning import Totals
from bandit.posteriors import BetaPosterior
from simulations.runner import Runs


def fits(experiment: Experiment) -> bool:
    """Whether an experiment can be run so: Thompson sampling of a binary goal, renewed after each user.

    The goal has a baseline: without one the prior moves with the mean of all arms.
    """
    policy = experiment.policy
    return (
        policy.kind == "thompson"
        and experiment.goal.kind == "binary"
        and experiment.goal.baseline is not None
        and policy.min_batch == 1
        and policy.growth == 0.0
        and policy.warmup == 0
        and policy.half_life is None
    )


def run_stepwise(
    experiment: Experiment, rates: FloatArray, users: int, runs: int, seeds: np.random.SeedSequence
) -> Runs:
    """Run an experiment many times at once, one user after the other; the law is that of `runner.run_epochs`.

    Time is proportional to users × runs, memory to runs.

    Args:
        experiment: One that `fits`; its guardrails do not act.
        rates: Probability of 1 per arm, shape (n_arms,).
        users: Users of each run, 1 or more.
        runs: How many.
        seeds: One child is spawned.

    Raises:
        ValueError: The experiment cannot be run so.
    """
    if not fits(experiment):
        msg = "allowed: Thompson sampling of a binary goal with a baseline; min_batch = 1, growth = 0, warmup = 0"
        raise ValueError(msg)
    (child,) = seeds.spawn(1)
    rng, n_arms = np.random.default_rng(child), experiment.n_arms
    prior = posterior_of(experiment, Totals.nothing((runs, n_arms)))
    assert isinstance(prior, BetaPosterior)  # noqa: S101 - of a binary goal
    # What the engine reads is turned so that larger is better.
    won = rates if experiment.goal.better == "higher" else 1.0 - rates
    a, b = np.array(prior.a), np.array(prior.b)
    floors = np.cumsum(experiment.floors)
    row = np.arange(runs) * n_arms
    for _ in range(users):
        arm = (rng.standard_gamma(a) / rng.standard_gamma(b)).argmax(axis=1)
        if floors[-1] > 0.0:
            u = rng.random(runs)
            arm = np.where(u < floors[-1], np.searchsorted(floors, u, side="right"), arm)
        success = rng.random(runs) < won[arm]
        place = row + arm
        a.reshape(-1)[place] += success
        b.reshape(-1)[place] += ~success
    successes, failures = a - prior.a, b - prior.b
    n = np.rint(successes + failures)
    # As `Totals` has it: z is turned so that larger is better.
    z = successes if experiment.goal.better == "higher" else -failures
    return Runs(n.astype(np.int64), Totals(n, n, z, np.abs(z), 0.0), np.full(runs, users))
