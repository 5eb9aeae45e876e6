"""Welch's test from sums: the test that teams know, with the reasons why it may not be trusted here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special as sc

from bandit.arrays import FloatArray
from bandit.measures import Z2, N, Z

FEWEST_EVENTS = 25
"""Below this many events, or non-events, the normal approximation of a rate is not to be relied on."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Sample moments of one arm's outcomes: number of users, mean, unbiased variance."""

    n: float
    mean: float
    variance: float


@dataclass(frozen=True, slots=True)
class Welch:
    """Two-sided Welch test of an arm against control.

    Attributes:
        difference: Mean of the arm minus mean of control, in the metric's unit.
        interval: Confidence interval of the difference at the level asked for.
        t: Test statistic.
        df: Welch-Satterthwaite degrees of freedom.
        p_value: Two-sided.
        trustworthy: Whether none of the reasons below applies.
        reasons: Why the test does not mean what it says here, in words.
    """

    difference: float
    interval: tuple[float, float]
    t: float
    df: float
    p_value: float
    trustworthy: bool
    reasons: tuple[str, ...]


def sample_of(sums: FloatArray, origin: float) -> Sample:
    """Return the moments behind a ledger row (sums of 1, z, z², …; z = y − origin); n >= 1."""
    n, z, z2 = float(sums[N]), float(sums[Z]), float(sums[Z2])
    mean = z / n
    variance = max(z2 - n * mean * mean, 0.0) / (n - 1.0) if n > 1 else math.nan
    return Sample(n, origin + mean, variance)


def welch_p_value(
    difference: FloatArray,
    error2_arm: FloatArray,
    error2_control: FloatArray,
    n: FloatArray,
    n_control: FloatArray,
) -> FloatArray:
    """Return two-sided p-values of many tests at once; nan where a test cannot be made.

    Args:
        difference: Difference of means, any shape.
        error2_arm: Squared standard error of the arm's mean (unbiased variance / n).
        error2_control: The same of control.
        n: Users of the arm.
        n_control: Users of control.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        error2 = error2_arm + error2_control
        df = _degrees_of_freedom(error2_arm / error2, n, n_control)
        return np.asarray(2.0 * sc.stdtr(df, -np.abs(difference) / np.sqrt(error2)))


def _degrees_of_freedom(
    share: FloatArray | np.float64, n: FloatArray | float, n_control: FloatArray | float
) -> FloatArray:
    """Welch-Satterthwaite, by the arm's share of the squared error: no square of a tiny or huge number."""
    return np.asarray(1.0 / (share**2 / (n - 1.0) + (1.0 - share) ** 2 / (n_control - 1.0)), dtype=np.float64)


def welch(arm: Sample, control: Sample, alpha: float, reasons: Sequence[str] = ()) -> Welch | None:
    """Return the test of equal means without assuming equal variances, or None where it cannot be made.

    It cannot be made with fewer than two users in an arm or where no outcome varied.

    Args:
        arm: The arm's sample.
        control: The control's sample.
        alpha: The interval has level 1 − alpha.
        reasons: Why the result is not to be trusted, if so.

    Reference:
        Welch (1947), The generalization of Student's problem when several different population variances
        are involved.
    """
    if arm.n < 2 or control.n < 2 or arm.variance + control.variance <= 0:
        return None
    e1, e2 = arm.variance / arm.n, control.variance / control.n
    error = math.sqrt(e1 + e2)
    df = float(_degrees_of_freedom(np.float64(e1 / (e1 + e2)), arm.n, control.n))
    difference = arm.mean - control.mean
    t = difference / error
    half = float(sc.stdtrit(df, 1.0 - alpha / 2.0)) * error
    p_value = float(2.0 * sc.stdtr(df, -abs(t)))
    interval = (difference - half, difference + half)
    return Welch(difference, interval, t, df, p_value, not reasons, tuple(reasons))


def traffic_moved(probabilities: FloatArray, assigned: FloatArray, arm: int, control: int) -> bool:
    """Whether the split between an arm and control changed while users were assigned.

    Args:
        probabilities: Shape (n_epochs, n_arms).
        assigned: Users assigned, same shape.
        arm: Index of the arm.
        control: Index of control.
    """
    used = assigned[:, [arm, control]].sum(axis=1) > 0
    pair = probabilities[used][:, [arm, control]]
    if len(pair) == 0:
        return False
    share = pair[:, 0] / pair.sum(axis=1)
    return bool(share.max() - share.min() > 1e-9)
