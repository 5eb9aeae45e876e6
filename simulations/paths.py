"""How a policy's runs go, epoch by epoch: what pictures show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.engine import fading, learn, posterior_of
from bandit.experiment import Experiment
from bandit.learning import Totals, totals_of
from simulations.decisions import decisions
from simulations.records import Tape
from simulations.worlds import World

MOST_POINTS = 200
"""Points of a line: more are not seen, and only make files large."""

INNER = (0.1, 0.9)
"""Quantiles over runs that a band lies between."""

CREDIBLE = 0.95
"""Posterior probability that a credible interval holds."""


@dataclass(frozen=True, slots=True)
class Band:
    """A line and what lies around it.

    Attributes:
        mean: Over runs, shape (n_points,) or (n_points, n_arms).
        low: Lower edge, same shape.
        high: Upper edge, same shape.
    """

    mean: FloatArray
    low: FloatArray
    high: FloatArray

    @classmethod
    def over_runs(cls, values: FloatArray) -> Band:
        """Return the mean and the `INNER` quantiles over the first axis, the runs."""
        low, high = np.quantile(values, INNER, axis=0)
        return cls(values.mean(axis=0), low, high)


@dataclass(frozen=True, slots=True)
class Path:
    """What became of many runs of one policy by the end of each epoch; at most `MOST_POINTS` of them are kept.

    Attributes:
        users: Users of a run so far, increasing, shape (n_points,).
        regret: Expected goal outcome lost so far against the best arm, positive is worse, shape (n_points,).
        reward: Expected goal outcome per user so far, unit of the metric, shape (n_points,).
        allocation: Probability of each arm in the epoch that ends there, shape (n_points, n_arms).
        posterior: What the policy believes of each arm's mean, unit of the metric, shape (n_points, n_arms): the mean
            over runs of the posterior's mean and of both ends of its central `CREDIBLE` interval.
        truth: True mean of each arm in that epoch, same unit and shape.
        exposed: Users so far on treatments that truly break a limit, shape (n_points,).
        decided_after: Users by which each run was decided, shape (n_runs,); inf: not by the horizon.
    """

    users: IntArray
    regret: Band
    reward: Band
    allocation: Band
    posterior: Band
    truth: FloatArray
    exposed: Band
    decided_after: FloatArray


def path_of(experiment: Experiment, world: World, tape: Tape) -> Path:
    """Return how the runs of one policy went.

    Rewards and regret are expected ones given the assignments, as in `scores.score`. Users of an epoch in which the
    world changes are counted before and after the change in proportion: the tape does not say who came when, and the
    mean over runs is right.

    Args:
        experiment: What was asked, with the policy that ran.
        world: The truth.
        tape: Its runs, one epoch or more.
    """
    record = tape.record
    kept = thinned(record.ends)
    means, lost, broken = _truths(experiment, world, record.ends)

    def so_far(each: FloatArray) -> FloatArray:
        return np.asarray(np.cumsum(np.einsum("rea,ea->re", record.assigned, each), axis=1)[:, kept])

    users = record.ends[kept]
    return Path(
        users=users,
        regret=Band.over_runs(so_far(lost)),
        reward=Band.over_runs(so_far(means) / users),
        allocation=Band.over_runs(record.p[:, kept]),
        posterior=_posterior(experiment, tape, kept),
        truth=means[kept],
        exposed=Band.over_runs(so_far(broken)),
        decided_after=decisions(experiment, tape).users,
    )


def thinned(ends: IntArray, most: int = MOST_POINTS) -> IntArray:
    """Return which epochs are drawn: the first, the last, and between them some evenly apart on a logarithmic axis.

    Args:
        ends: Users by the end of each epoch, 1 or more, increasing, shape (n_epochs,).
        most: Largest number of epochs returned, 2 or more.

    Returns:
        Indices of epochs, increasing, shape (n_points,).
    """
    if len(ends) <= most:
        return np.arange(len(ends))
    wanted = np.geomspace(ends[0], ends[-1], most)
    return np.unique(np.minimum(np.searchsorted(ends, wanted), len(ends) - 1))


def _truths(experiment: Experiment, world: World, ends: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return per epoch and arm the mean outcome, what is lost against the best arm, and whether it breaks a limit.

    In an epoch in which the world changes all three are means over its users; shapes (n_epochs, n_arms).
    """
    stretches = world.stretches
    begins = np.array([0.0, *(change.after_users for change in world.changes), np.inf])
    starts = np.concatenate([[0], ends[:-1]])
    common = np.minimum(ends[:, np.newaxis], begins[1:]) - np.maximum(starts[:, np.newaxis], begins[:-1])
    share = np.maximum(common, 0.0) / (ends - starts)[:, np.newaxis]
    means = np.array([each.means for each in stretches])
    gains = means if experiment.goal.better == "higher" else -means
    broken = np.array([each.broken for each in stretches]) & _treatments(experiment)
    return share @ means, share @ (gains.max(axis=-1, keepdims=True) - gains), share @ broken.astype(np.float64)


def _treatments(experiment: Experiment) -> BoolArray:
    """Return which arms are not control, shape (n_arms,)."""
    return np.asarray(np.arange(experiment.n_arms) != experiment.control)


def _posterior(experiment: Experiment, tape: Tape, kept: IntArray) -> Band:
    """Return what the policy believed at the end of some epochs, by all that it then read."""
    learned, found = Totals.nothing(tape.p[0].shape), []
    levels = (0.5 - CREDIBLE / 2.0, 0.5 + CREDIBLE / 2.0)
    drawn = frozenset(kept.tolist())
    for epoch, (assigned, sums) in enumerate(zip(tape.assigned, tape.sums, strict=True)):
        learned = learned.faded(fading(experiment, assigned.sum(axis=-1), 0.0))
        learned = learn(experiment, learned, totals_of(experiment, assigned, sums, tape.origin))
        if epoch in drawn:
            posterior = posterior_of(experiment, learned)
            each = [posterior.mean, *(posterior.quantile(level) for level in levels)]
            found.append([_in_units(experiment, values.mean(axis=0), learned.origin) for values in each])
    mean, *edges = np.moveaxis(np.array(found), 1, 0)
    return Band(mean, np.minimum(*edges), np.maximum(*edges))


def _in_units(experiment: Experiment, values: FloatArray, origin: float) -> FloatArray:
    """Return values of a posterior, of which larger is better, in the metric's own direction and unit."""
    if experiment.goal.kind == "numeric":
        values = values + origin
    if experiment.goal.better == "higher":
        return values
    return 1.0 - values if experiment.goal.kind == "binary" else -values
