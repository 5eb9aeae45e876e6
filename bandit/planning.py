"""Sample sizes of a fixed split: two variants, one look."""

from __future__ import annotations

import math
from dataclasses import dataclass

import scipy.optimize
import scipy.special as sc

from bandit.errors import InvalidInput, Problem
from bandit.experiment import Experiment
from bandit.experiment_parts import LARGEST_VALUE


@dataclass(frozen=True, slots=True)
class Plan:
    """What a fixed equal split of two variants needs.

    Attributes:
        users_per_variant: Smallest whole number of users per variant that reaches the power.
        effect_size: Standardised difference of means, difference / standard deviation.
        cohens_h: 2 asin √p₁ − 2 asin √p₀ for a rate, None for a mean.
        baseline: Control's mean outcome.
        target: The mean outcome that the smallest relevant effect leads to.
        alpha: Two-sided level.
        power: Probability of finding that effect.
        method: The test that is planned for, in words.
    """

    users_per_variant: int
    effect_size: float
    cohens_h: float | None
    baseline: float
    target: float
    alpha: float
    power: float
    method: str


def plan(experiment: Experiment, baseline: float | None = None, sd: float | None = None, power: float = 0.8) -> Plan:
    """Return the sample size that finds the experiment's smallest relevant effect.

    Args:
        experiment: Its goal gives direction, `mde` (relative) and, if `baseline` is None, the baseline; its
            policy gives alpha.
        baseline: Control's mean outcome; a rate in (0, 1) for a binary goal.
        sd: Standard deviation of a user's outcome, above 0; needed for a numeric goal, not allowed for a rate.
        power: In (0, 1), above alpha.

    Raises:
        InvalidInput: A number is missing or out of range.
    """
    goal, alpha = experiment.goal, experiment.policy.alpha
    baseline = goal.baseline if baseline is None else baseline
    if baseline is None:
        raise _refused("baseline", "missing: give goal.baseline in the file, or --baseline")
    if not alpha < power < 1:
        raise _refused("power", f"received {power:g}, allowed: above alpha = {alpha:g} and below 1")
    change = abs(baseline) * goal.mde
    target = baseline + (change if goal.better == "higher" else -change)
    if goal.kind == "binary":
        if sd is not None:
            raise _refused("sd", "not allowed for a binary goal: the rate gives it")
        effect, h = _effect_of_rates(baseline, target)
        method = "two-sided two-proportion z-test with pooled standard deviation"
    else:
        effect, h = _effect_of_means(baseline, target, sd), None
        method = "two-sided two-sample z-test"
    users = math.ceil(_users(effect, alpha, power))
    return Plan(users, effect, h, baseline, target, alpha, power, f"{method}; two variants, one look, equal split")


def _effect_of_rates(baseline: float, target: float) -> tuple[float, float]:
    if not 0 < baseline < 1:
        raise _refused("baseline", f"received {baseline:g}, allowed for a binary goal: above 0 and below 1")
    if not 0 < target < 1:
        raise _refused(
            "goal.mde",
            f"leads from a baseline of {baseline:g} to {target:g}; allowed: a target above 0 and below 1",
        )
    if target == baseline:
        raise _refused("goal.mde", f"is too small to change a baseline of {baseline:g}")
    pooled = (baseline + target) / 2.0
    effect = abs(target - baseline) / math.sqrt(pooled * (1.0 - pooled))
    h = 2.0 * math.asin(math.sqrt(target)) - 2.0 * math.asin(math.sqrt(baseline))
    return effect, abs(h)


def _effect_of_means(baseline: float, target: float, sd: float | None) -> float:
    if sd is None:
        raise _refused("sd", "missing: a numeric goal needs the standard deviation of a user's outcome (--sd)")
    if not (1e-15 <= sd <= LARGEST_VALUE):
        raise _refused("sd", f"received {sd:g}, allowed: a number above 0, from 1e-15 to 1e15")
    if not abs(baseline) <= LARGEST_VALUE or target == baseline:
        raise _refused(
            "baseline", f"received {baseline:g}, allowed: from -1e15 to 1e15 and not 0, since the effect is relative"
        )
    return abs(target - baseline) / sd


def _users(effect: float, alpha: float, power: float) -> float:
    """Return users per variant (not rounded) at which a two-sided z-test has this power.

    Counts rejections on both sides. Reference: Chow, Shao, Wang, Sample Size Calculations in Clinical
    Research; `statsmodels.stats.power.zt_ind_solve_power` solves the same equation.
    """
    critical = float(sc.ndtri(1.0 - alpha / 2.0))
    one_sided = 2.0 * ((critical + float(sc.ndtri(power))) / effect) ** 2  # ignores the wrong side: an upper bound

    def lacking(users: float) -> float:
        shift = effect * math.sqrt(users / 2.0)
        return float(sc.ndtr(shift - critical) + sc.ndtr(-shift - critical)) - power

    return float(scipy.optimize.brentq(lacking, 0.0, one_sided * (1.0 + 1e-9) + 1e-9, xtol=1e-9))


def _refused(field: str, message: str) -> InvalidInput:
    return InvalidInput([Problem(field, message)])
