"""Sample sizes for one look at a split that stays as it is, and for any-time looks on the same terms.

All sizes come from one number, the shift: how many standard errors of the estimated difference the effect has to be
away from zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import scipy.optimize
import scipy.special as sc

from bandit.experiment import Experiment
from bandit.planning.effects import Effect, effect_of, refused

_ROUNDING = 1e-12  # a size that is whole but for the last digits is that whole number


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


@dataclass(frozen=True, slots=True)
class SampleSize:
    """Users with an outcome that a question about the goal needs.

    Attributes:
        level: The error that is allowed for one arm against control.
        sides: 2 where a difference in either direction counts, 1 for "not worse".
        power: Probability of the answer for one given arm, if its effect is the one planned for.
        users: Users of each arm, in file order.
    """

    level: float
    sides: int
    power: float
    users: tuple[int, ...]

    @property
    def total(self) -> int:
        """Users of all arms."""
        return sum(self.users)


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
    alpha = experiment.policy.alpha
    effect = effect_of(experiment, baseline, sd)
    shift = two_sided_shift(alpha, power)
    method = (
        "two-sided two-proportion z-test with pooled standard deviation"
        if experiment.goal.kind == "binary"
        else "two-sided two-sample z-test"
    )
    return Plan(
        users_per_variant=max(math.ceil(2.0 * (shift / effect.size) ** 2 * (1.0 - _ROUNDING)), 1),
        effect_size=effect.size,
        cohens_h=effect.cohens_h,
        baseline=effect.baseline,
        target=effect.target,
        alpha=alpha,
        power=power,
        method=f"{method}; two variants, one look, equal split",
    )


def two_sided_shift(alpha: float, power: float) -> float:
    """Return the shift at which a two-sided z-test has this power.

    Counts rejections on both sides. Reference: Chow, Shao, Wang, Sample Size Calculations in Clinical
    Research; `statsmodels.stats.power.zt_ind_solve_power` solves the same equation.

    Raises:
        InvalidInput: The power is not above alpha and below 1.
    """
    if not alpha < power < 1:
        raise refused("power", f"received {power:g}, allowed: above alpha = {alpha:g} and below 1")
    critical = float(sc.ndtri(1.0 - alpha / 2.0))
    one_sided = critical + float(sc.ndtri(power))  # ignores the wrong side: an upper bound

    def lacking(shift: float) -> float:
        return float(sc.ndtr(shift - critical) + sc.ndtr(-shift - critical)) - power

    return float(scipy.optimize.brentq(lacking, 0.0, one_sided + 1e-9, xtol=1e-13))


def one_sided_shift(alpha: float, power: float) -> float:
    """Return the shift at which a one-sided z-test of level alpha has this power: z(1 − alpha) + z(power)."""
    return float(sc.ndtri(1.0 - alpha) + sc.ndtri(power))


def total_users(effect: Effect, shift: float, shares: Sequence[float], control: int) -> float:
    """Return the users in all, not rounded, at which every arm's effect is so many standard errors.

    The squared standard error of arm − control at n users in all is (v_c/s_c + v_k/s_k)/n; the worst pair decides.

    Args:
        effect: The effect of each arm against control.
        shift: Standard errors.
        shares: Share of each arm, above 0.
        control: Index of control.
    """
    worst = max(
        effect.variance_control / shares[control] + effect.variance_arm / share
        for arm, share in enumerate(shares)
        if arm != control
    )
    return (shift / effect.difference) ** 2 * worst


def users_of_arms(total: float, shares: Sequence[float]) -> tuple[int, ...]:
    """Return whole users of each arm, at least 1 each."""
    return tuple(max(math.ceil(total * share * (1.0 - _ROUNDING)), 1) for share in shares)
