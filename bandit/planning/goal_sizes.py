"""Users that the goal needs for one look: better than control, not worse than control; and the effect they find."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from bandit.errors import InvalidInput, Problem
from bandit.experiment import Experiment
from bandit.inference.shares import fixed_time_level
from bandit.planning.effects import Effect, bounds_of, check_rate, checked_sd, effect_of, known_baseline, refused
from bandit.planning.fixed_time import SampleSize, one_sided_shift, total_users, two_sided_shift, users_of_arms

_SMALLEST_MDE = 1e-9
_MDE_STEP = 1e-6  # relative: nobody plans in more digits


def shares_of(experiment: Experiment, split: Mapping[str, float] | None = None) -> tuple[float, ...]:
    """Return the share of each arm that a plan counts with, all above 0.

    Args:
        experiment: Its own split counts under the policy `fixed`; every other policy is planned as an equal split.
        split: Share of each variant by key, instead.

    Raises:
        InvalidInput: The split names other variants, does not sum to 1, or leaves a variant without users.
    """
    if split is not None:
        try:
            experiment = experiment.with_policy(kind="fixed", split=dict(split))
        except InvalidInput as error:
            raise InvalidInput([Problem(p.field.removeprefix("policy."), p.message) for p in error.problems]) from None
    if experiment.policy.kind != "fixed":
        return (1.0 / experiment.n_arms,) * experiment.n_arms
    without = [key for key, share in zip(experiment.arms, experiment.split, strict=True) if share < 1e-9]
    if without:
        field = "policy.split" if split is None else "split"
        raise refused(field, f"gives {without[0]!r} no users, allowed in a plan: shares above 0, from 1e-9")
    return experiment.split


def one_look(experiment: Experiment, effect: Effect, shares: Sequence[float], power: float) -> SampleSize:
    """Return the size for one look that compares every arm with control.

    Each comparison has the level alpha/(K − 1) (Bonferroni), so the chance of any false difference is at most
    alpha. The power is that of finding one given arm that differs by the effect, not of finding all.

    Args:
        experiment: Gives alpha and the number of arms.
        effect: The effect of that arm.
        shares: Share of each arm, above 0.
        power: In (0, 1), above the level.
    """
    level = fixed_time_level(experiment)
    total = total_users(effect, two_sided_shift(level, power), shares, experiment.control)
    return SampleSize(level, 2, power, users_of_arms(total, shares))


def not_worse(
    experiment: Experiment,
    margin: float,
    shares: Sequence[float],
    *,
    baseline: float | None = None,
    sd: float | None = None,
    power: float = 0.8,
) -> SampleSize:
    """Return the size that shows that an arm equal to control is not worse by more than a margin.

    The test is that the fixed-time interval of level 1 − alpha/(K − 1) lies above −margin, one-sided at
    alpha/(2(K − 1)): the same interval answers "better" and "not worse". Reference: Blackwelder (1982),
    "Proving the null hypothesis" in clinical trials.

    Args:
        experiment: Gives alpha, the number of arms, the kind and direction of the goal.
        margin: Loss that is accepted, relative to the baseline, above 0: 0.02 is 2 %.
        shares: Share of each arm, above 0.
        baseline: Mean outcome of all arms, default `goal.baseline`.
        sd: Standard deviation of a user's outcome; numeric goals only.
        power: Probability of showing it for one given arm.

    Raises:
        InvalidInput: A number is missing or out of range.
    """
    if not 0 < margin < math.inf:
        raise refused("non-inferiority", f"received {margin:g}, allowed: a relative margin above 0, such as 0.02")
    level = fixed_time_level(experiment) / 2.0
    if not level < power < 1:
        raise refused("power", f"received {power:g}, allowed: above {level:g} and below 1")
    effect = _loss(experiment, margin, baseline, sd)
    total = total_users(effect, one_sided_shift(level, power), shares, experiment.control)
    return SampleSize(level, 1, power, users_of_arms(total, shares))


def _loss(experiment: Experiment, margin: float, baseline: float | None, sd: float | None) -> Effect:
    """Return the step from the baseline to the worst level accepted; both arms vary as control does."""
    baseline = known_baseline(experiment, baseline)
    change = abs(baseline) * margin
    worst = baseline - change if experiment.goal.better == "higher" else baseline + change
    if experiment.goal.kind == "binary":
        check_rate(baseline, sd)
        variance = baseline * (1.0 - baseline)
    else:
        variance = checked_sd(experiment, baseline, sd) ** 2
    low, high = bounds_of(experiment)
    if not low <= worst <= high:
        message = f"accepts a loss from {baseline:g} to {worst:g}; allowed: a margin that ends from {low:g} to {high:g}"
        raise refused("non-inferiority", message)
    if worst == baseline:
        raise refused("non-inferiority", f"received {margin:g}, too small to change a baseline of {baseline:g}")
    return Effect(baseline, worst, abs(worst - baseline) / math.sqrt(variance), None, variance, variance)


def smallest_mde(
    experiment: Experiment,
    baseline: float | None,
    sd: float | None,
    needed: Callable[[Effect], float | None],
    users: float,
) -> float | None:
    """Return the smallest relative effect that these users find, None if there is none.

    Args:
        experiment: Gives kind and direction of the goal.
        baseline: Control's mean outcome, default `goal.baseline`.
        sd: Standard deviation; numeric goals only.
        needed: Users in all that an effect needs, None: it is never found. A larger effect needs no more.
        users: Users with an outcome in all arms together.
    """
    known, goal = known_baseline(experiment, baseline), experiment.goal
    low, high = bounds_of(experiment)
    most = ((high - known) if goal.better == "higher" else (known - low)) / abs(known)
    if goal.kind == "binary":
        most *= 1.0 - 1e-9  # a rate of 0 or 1 is no target

    def enough(mde: float) -> bool:
        size = needed(effect_of(experiment, known, sd, mde))
        return size is not None and size <= users

    if users <= 0 or most <= _SMALLEST_MDE or not enough(most):
        return None
    lower, upper = math.log(_SMALLEST_MDE), math.log(most)
    while upper - lower > _MDE_STEP:
        middle = (lower + upper) / 2.0
        lower, upper = (lower, middle) if enough(math.exp(middle)) else (middle, upper)
    return math.exp(upper)
