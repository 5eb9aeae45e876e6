"""The effect that is planned for: from a baseline to the level that the smallest relevant effect leads to."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bandit.errors import InvalidInput, Problem
from bandit.experiment import Experiment
from bandit.experiment_parts import LARGEST_VALUE
from bandit.measures import metric_bounds


@dataclass(frozen=True, slots=True)
class Effect:
    """Two levels of the goal and how much users vary about them.

    Attributes:
        baseline: Control's mean outcome.
        target: The arm's mean outcome.
        size: Standardised difference, |target − baseline| / standard deviation.
        cohens_h: |2 asin √target − 2 asin √baseline| for a rate, None for a mean.
        variance_control: Variance of a user's outcome under control …
        variance_arm: … and under the arm. For rates each has Δ²/4 on top, Δ = target − baseline: on an equal split
            their mean is then the pooled variance p̄(1 − p̄), that of `size`, and an unequal split still counts
            which of the two varies more.
    """

    baseline: float
    target: float
    size: float
    cohens_h: float | None
    variance_control: float
    variance_arm: float

    @property
    def difference(self) -> float:
        """|target − baseline|, in the unit of the metric."""
        return abs(self.target - self.baseline)


def effect_of(
    experiment: Experiment, baseline: float | None = None, sd: float | None = None, mde: float | None = None
) -> Effect:
    """Return the smallest relevant effect of an experiment's goal.

    Args:
        experiment: Its goal gives kind, direction and what is None below.
        baseline: Control's mean outcome, default `goal.baseline`; a rate in (0, 1) for a binary goal.
        sd: Standard deviation of a user's outcome, above 0; needed for a numeric goal, not allowed for a rate.
        mde: Relative effect, above 0; default `goal.mde`.

    Raises:
        InvalidInput: A number is missing or out of range.
    """
    goal = experiment.goal
    baseline = known_baseline(experiment, baseline)
    change = abs(baseline) * (goal.mde if mde is None else mde)
    target = baseline + (change if goal.better == "higher" else -change)
    if goal.kind == "binary":
        check_rate(baseline, sd)
        return _effect_of_rates(baseline, target)
    checked = checked_sd(experiment, baseline, sd)
    if target == baseline:
        raise refused("goal.mde", f"is too small to change a baseline of {baseline:g}")
    low, high = bounds_of(experiment)
    if not low <= target <= high:
        raise refused(
            "goal.mde",
            f"leads from a baseline of {baseline:g} to {target:g}; allowed: a target from {low:g} to {high:g}",
        )
    return Effect(baseline, target, abs(target - baseline) / checked, None, checked**2, checked**2)


def known_baseline(experiment: Experiment, baseline: float | None) -> float:
    """Return the baseline given, or that of the goal.

    Raises:
        InvalidInput: There is neither.
    """
    baseline = experiment.goal.baseline if baseline is None else baseline
    if baseline is None:
        raise refused("baseline", "missing: give goal.baseline in the file, or --baseline")
    return baseline


def check_rate(baseline: float, sd: float | None) -> None:
    """Refuse a baseline that is no rate, and a standard deviation beside one."""
    if sd is not None:
        raise refused("sd", "not allowed for a binary goal: the rate gives it")
    if not 0 < baseline < 1:
        raise refused("baseline", f"received {baseline:g}, allowed for a binary goal: above 0 and below 1")


def bounds_of(experiment: Experiment) -> tuple[float, float]:
    """Return the least and the largest mean that the goal can have."""
    goal = experiment.goal
    if goal.kind == "binary":
        return 0.0, 1.0
    low, high = metric_bounds(experiment, goal.metric)
    high = high if goal.cap is None else min(high, goal.cap)
    return max(low, -LARGEST_VALUE), min(high, LARGEST_VALUE)


def checked_sd(experiment: Experiment, baseline: float, sd: float | None) -> float:
    """Return the standard deviation of a numeric goal; refuse a missing or impossible one, or such a baseline."""
    if sd is None:
        raise refused("sd", "missing: a numeric goal needs the standard deviation of a user's outcome (--sd)")
    if not (1e-15 <= sd <= LARGEST_VALUE):
        raise refused("sd", f"received {sd:g}, allowed: a number above 0, from 1e-15 to 1e15")
    low, high = bounds_of(experiment)
    if not low <= baseline <= high or baseline == 0:
        raise refused(
            "baseline",
            f"received {baseline:g}, allowed: from {low:g} to {high:g} and not 0, since the effect is relative",
        )
    return sd


def _effect_of_rates(baseline: float, target: float) -> Effect:
    if not 0 < target < 1:
        raise refused(
            "goal.mde",
            f"leads from a baseline of {baseline:g} to {target:g}; allowed: a target above 0 and below 1",
        )
    if target == baseline:
        raise refused("goal.mde", f"is too small to change a baseline of {baseline:g}")
    pooled = (baseline + target) / 2.0
    size = abs(target - baseline) / math.sqrt(pooled * (1.0 - pooled))
    h = 2.0 * math.asin(math.sqrt(target)) - 2.0 * math.asin(math.sqrt(baseline))
    extra = (target - baseline) ** 2 / 4.0
    variances = (baseline * (1.0 - baseline) + extra, target * (1.0 - target) + extra)
    return Effect(baseline, target, size, abs(h), *variances)


def refused(field: str, message: str) -> InvalidInput:
    """Return the error about one field."""
    return InvalidInput([Problem(field, message)])
