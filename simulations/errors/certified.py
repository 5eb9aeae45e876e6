"""Certificates of an arm that is exactly at its limit: how often is one given, at any closing of an epoch."""

from __future__ import annotations

import numpy as np
from scipy import optimize

from bandit.arrays import BoolArray, FloatArray
from bandit.experiment import Experiment
from bandit.inference.any_time import is_readable
from bandit.inference.confidence_sequence import one_sided_log_e_value, tuning
from bandit.inference.exact import log_wealths_below_ratio
from bandit.inference.mean_limit import log_wealths_below
from bandit.inference.mixture import log_mean
from bandit.inference.observed import Observed
from bandit.inference.rate_limit import log_e_below_limit
from bandit.inference.scores import running_scores
from bandit.inference.shares import arm_share, planned_pair_users
from bandit.measures import Measure, N
from simulations.errors.arm_users import arm_epochs
from simulations.errors.worlds import Skewed


def certified_rates(
    experiment: Experiment, rng: np.random.Generator, limit: float, threshold: float, users: int, runs: int
) -> BoolArray:
    """Return whether an arm at a rate's limit is ever certified, shape (n_runs,).

    Args:
        experiment: Gives the epochs.
        rng: Source of luck.
        limit: In (0, 1).
        threshold: ln of the e-value that certifies.
        users: Of the arm.
        runs: How many.
    """
    n = arm_epochs(experiment, users)
    s = np.cumsum(rng.binomial(n, limit, (runs, len(n))), axis=1)
    log_e = log_e_below_limit(np.broadcast_to(np.cumsum(n), s.shape).astype(np.float64), s.astype(np.float64), limit)
    return np.asarray((log_e >= threshold).any(axis=1))


def certified_means(
    experiment: Experiment, rng: np.random.Generator, measure: Measure, sigma: float, threshold: float, users: int,
    runs: int,
) -> BoolArray:  # fmt: skip
    """Return the same of a capped mean of lognormal outcomes.

    Args:
        experiment: Gives the epochs.
        rng: Source of luck.
        measure: With a limit and a cap.
        sigma: Standard deviation of ln y before the cut.
        threshold: ln of the e-value that certifies.
        users: Of the arm.
        runs: How many.
    """
    assert measure.limit is not None  # noqa: S101 (callers have both)
    assert measure.cap is not None  # noqa: S101 - only those with a cap come here
    n = arm_epochs(experiment, users)
    law = Skewed(sigma, (mean_before_cut(measure.limit, sigma, measure.cap),), measure.cap).laws[0]
    ratio = np.minimum(law.draw(rng, runs * users).reshape(runs, users), measure.cap) / measure.limit - 1.0
    sums = np.zeros((runs, len(n), 1, measure.width))
    sums[..., 0, N] = n
    firsts = np.cumsum(n) - n
    for place, stake in enumerate(measure.stakes, start=measure.width - len(measure.stakes)):
        if stake < 0.0:
            sums[..., 0, place] = np.add.reduceat(np.log1p(stake * ratio), firsts, axis=1)
    log_e = log_mean(log_wealths_below(measure, sums, 0.0))
    return np.asarray((log_e[..., 0] >= threshold).any(axis=1))


def certified_ratios(observed: Observed, control: int, ratio: float, threshold: float) -> BoolArray:
    """Return the same of each arm against control, for outcomes with bounds, shape (n_runs, n_arms)."""
    log_e = log_mean(log_wealths_below_ratio(observed, control, ratio))
    return np.asarray((log_e >= threshold).any(axis=-2))


def certified_unbounded_ratios(experiment: Experiment, observed: Observed, ratio: float, threshold: float) -> BoolArray:
    """Return the same by the confidence sequence, which is asymptotic, where it may be read."""
    return np.asarray((log_e_within_ratio(experiment, observed, ratio) >= threshold).any(axis=-2))


def log_e_within_ratio(experiment: Experiment, observed: Observed, ratio: float) -> FloatArray:
    """Return ln E against "the mean is at no time below ratio × control's" after each epoch, asymptotic.

    Args:
        experiment: Control, levels.
        observed: A measure without bounds in many runs.
        ratio: Above 0.

    Returns:
        Shape (n_runs, n_epochs, n_arms); 0 where it may not be read.
    """
    scores = running_scores(observed, experiment.control)
    error = scores.standard_error(ratio)
    readable = is_readable(observed, experiment.control) & (error > 0.0)
    z = np.divide(-scores.difference(ratio), error, out=np.zeros_like(error), where=readable)
    log_e = one_sided_log_e_value(z, scores.t, tuning(arm_share(experiment), planned_pair_users(experiment)))
    return np.asarray(np.where(readable, log_e, 0.0))


def mean_before_cut(mean: float, sigma: float, cap: float) -> float:
    """Return the mean of a lognormal outcome that has this mean once it is cut.

    Args:
        mean: Below the cap.
        sigma: Standard deviation of its logarithm.
        cap: Where outcomes are cut.
    """

    def excess(before: float) -> float:
        return float(Skewed(sigma, (before,), cap).moments(0.0, None)[0, 1]) - mean

    return float(optimize.brentq(excess, mean, 1e3 * cap, xtol=1e-12, rtol=1e-14))
