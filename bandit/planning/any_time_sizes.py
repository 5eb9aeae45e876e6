"""Users after which looks at any time have found the effect: until "better than control" reaches 1/b in the report.

Which evidence decides is fixed by the goal, as in the report: exact bets where outcomes are bounded, else the
confidence sequence. All are planned on a normal approximation, at the last look alone, so the size is an upper bound:
earlier looks may decide before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy.special as sc

from bandit.arrays import FloatArray
from bandit.experiment import Experiment
from bandit.inference.any_time import FEWEST_USERS
from bandit.inference.bounded import STAKES
from bandit.inference.confidence_sequence import one_sided_log_e_value, tuning
from bandit.inference.label import BETS
from bandit.inference.mixture import log_mean
from bandit.inference.shares import arm_share, decision_level, planned_pair_users
from bandit.measures import outcome_bounds
from bandit.planning.effects import Effect, refused
from bandit.planning.fixed_time import SampleSize, users_of_arms
from bandit.planning.smallest import smallest


def any_time(experiment: Experiment, effect: Effect, shares: Sequence[float], power: float) -> SampleSize | None:
    """Return the size at which an arm with this effect is found to be better, however often one looks.

    Args:
        experiment: Gives the goal's bounds, alpha, the number of arms, the horizon.
        effect: The effect of that arm.
        shares: Share of each arm, above 0; the treatment with the smallest one decides.
        power: Probability that the evidence is there at the last look, in (0, 1).

    Returns:
        None where the evidence does not grow with the users: bets are of fixed sizes, and lose on an effect that is
        less than half of the smallest.

    Raises:
        InvalidInput: The power is not above 0 and below 1.
    """
    if not 0 < power < 1:
        raise refused("power", f"received {power:g}, allowed: above 0 and below 1")
    control, level = shares[experiment.control], decision_level(experiment)
    treatment = min(share for arm, share in enumerate(shares) if arm != experiment.control)
    bounds, luck = outcome_bounds(experiment, 0), float(sc.ndtri(power))
    if bounds is None:
        log_e = _by_sequence(experiment, effect, control, treatment, luck)
        fewest = math.ceil(FEWEST_USERS / min(shares))  # before, the sequence is not read
    else:
        ways = [_by_labels(effect, bounds, control, treatment, luck)]
        if experiment.goal.kind == "numeric":
            first = experiment.policy.min_batch
            ways.append(_by_bounded_bets(effect, bounds, control, treatment, luck, first))
        log_e, fewest = _mean_over_bets(ways), 1
    total = smallest(lambda users: log_e(users) >= -math.log(level))
    if total is None:
        return None
    return SampleSize(level, 1, power, users_of_arms(max(total, fewest), shares))


def _mean_over_bets(ways: Sequence[Callable[[float], FloatArray]]) -> Callable[[float], float]:
    """Return ln of the mean wealth of all bets together."""

    def log_e(users: float) -> float:
        return float(log_mean(np.concatenate([way(users) for way in ways])))

    return log_e


def _by_labels(
    effect: Effect, bounds: tuple[float, float], control: float, treatment: float, luck: float
) -> Callable[[float], FloatArray]:
    """Return the log-wealths of the label e-process by users in all, at their (1 − power) quantile.

    With outcomes scaled to [0, 1], q their mean in the pair, π the arm's share of it and standard units √(q(1−q)), a
    bet b multiplies its wealth by about exp(b S − b² V/2), V = π(1−π) × users of the pair. S is about normal with
    mean δV, δ the effect in those units, and variance V × variance/(q(1−q)).
    """
    low, high = bounds
    pi = treatment / (treatment + control)
    mean = ((1.0 - pi) * effect.baseline + pi * effect.target - low) / (high - low)
    unit = math.sqrt(mean * (1.0 - mean)) * (high - low)
    delta = effect.difference / unit
    noise = math.sqrt(pi * effect.variance_control + (1.0 - pi) * effect.variance_arm) / unit
    bets = np.array(BETS)

    def log_wealths(users: float) -> FloatArray:
        v = pi * control * users  # π(1 − π)(treatment + control)
        s = delta * v - luck * noise * math.sqrt(v)
        return np.asarray(bets * s - bets**2 * v / 2.0)

    return log_wealths


def _by_bounded_bets(
    effect: Effect, bounds: tuple[float, float], control: float, treatment: float, luck: float, first: int
) -> Callable[[float], FloatArray]:
    """Return the log-wealths of `bounded.py` by users in all, at their (1 − power) quantile.

    Its scores x are taken with guesses that are right: about normal sums of mean π(1−π)Δ/B and variance
    π(1−π)((1−π)v_k + πv_c)/B² per user of the pair, Δ and v on the scale of [0, 1]. The guesses are from earlier
    epochs, so nothing is bet on the `first` users, those of the first epoch.
    """
    low, high = bounds
    pi = treatment / (treatment + control)
    control_mean, arm_mean = ((mean - low) / (high - low) for mean in (effect.baseline, effect.target))
    if arm_mean < control_mean:  # lower is better: the same with outcomes turned round
        control_mean, arm_mean = 1.0 - control_mean, 1.0 - arm_mean
    fixed = pi * (1.0 - pi) * (arm_mean - control_mean)
    bound = max((1.0 - pi) * arm_mean, pi * (1.0 - control_mean)) - fixed
    mean = fixed / bound
    spread = pi * (1.0 - pi) * ((1.0 - pi) * effect.variance_arm + pi * effect.variance_control)
    variance = spread / (high - low) ** 2 / bound**2
    stakes = np.array(STAKES)

    def log_wealths(users: float) -> FloatArray:
        t = (treatment + control) * max(users - first, 0.0)
        scores = mean * t - luck * math.sqrt(variance * t)
        return np.asarray(stakes * scores + (np.log1p(-stakes) + stakes) * (variance + mean**2) * t)

    return log_wealths


def _by_sequence(
    experiment: Experiment, effect: Effect, control: float, treatment: float, luck: float
) -> Callable[[float], float]:
    """Return ln E of the confidence sequence by users in all, at its (1 − power) quantile."""
    rho2 = tuning(arm_share(experiment), planned_pair_users(experiment))
    spread = math.sqrt(effect.variance_control / control + effect.variance_arm / treatment)

    def log_e(users: float) -> float:
        z = effect.difference * math.sqrt(users) / spread - luck
        return float(one_sided_log_e_value(z, users * (control + treatment), rho2))

    return log_e
