r"""Betting e-process: is an arm's mean above or below a fixed limit, at any time.

Setting. Outcomes y_i >= 0, one per user, with mean μ_i given the past. A bet at the stake λ multiplies its wealth by
1 + λ(y/m − 1), m being the limit. The ledger sums the logarithms, for the fixed stakes of `Measure.stakes`.

Above. For 0 < λ < 1 the factor is positive, and its mean 1 + λ(μ_i/m − 1) is at most 1 if μ_i <= m: exact whatever the
outcomes look like, without a cap and without a variance.

Below. For λ < 0 the factor is positive only up to a cap: |λ| (cap/m − 1) < 1. Against a limit loosened by a tolerance,
m(1 + τ) < cap, its mean is at most 1 + λτ > 0 if μ_i >= m(1 + τ), so the factor divided by 1 + λτ is a fair bet there.

Without a cap nothing exact says that a mean is low: one user in a million may be enormous. What is left is the normal
mixture of `confidence_sequence.py` on the arm's own users. It is asymptotic, and read only where the sample is not too
skewed; a tail that the sample has not shown yet deceives it.

Source: Waudby-Smith, Ramdas (2024), Estimating means of bounded random variables by betting.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bandit.arrays import BoolArray, FloatArray
from bandit.inference.any_time import is_readable
from bandit.inference.confidence_sequence import half_width, one_sided_log_e_value, tuning
from bandit.inference.observed import Observed
from bandit.measures import BETTING_FRACTIONS, Measure, N

USERS_PER_SQUARED_SKEWNESS_ALONE = 200.0
"""Users before the mean of one arm is read by itself, per squared skewness: twice as many as in a comparison, where the
skewness of two arms partly cancels. At its limit, an arm whose costs have a log-sd of 2 was certified with an error of
0.07 where 25 users were wanted and 0.002 meant; with 100 it was 0.008, with 200 never."""

_FIRST = 4  # place of the first log-wealth in a ledger row
UPWARD = slice(_FIRST, _FIRST + len(BETTING_FRACTIONS))
"""Places of the log-wealths of upward bets in a ledger row."""

_DOWNWARD = slice(UPWARD.stop, UPWARD.stop + len(BETTING_FRACTIONS))


def log_wealths_above(sums: FloatArray) -> FloatArray:
    """Return the log-wealths of bets against "the mean is at no time above the limit", after each epoch.

    Args:
        sums: Ledger rows of a measure with a limit, shape (..., n_epochs, n_arms, width).

    Returns:
        Shape (n_bets, ..., n_epochs, n_arms); their `log_mean` is ln E.
    """
    return np.cumsum(np.moveaxis(sums[..., UPWARD], -1, 0), axis=-2)


def log_wealths_below(measure: Measure, sums: FloatArray, tolerance: float) -> FloatArray:
    """Return the log-wealths of bets against "the mean is at no time below limit × (1 + tolerance)", after each epoch.

    Args:
        measure: With a limit and a cap above limit × (1 + tolerance).
        sums: Its ledger rows, shape (..., n_epochs, n_arms, width).
        tolerance: 0 or more.

    Returns:
        As `log_wealths_above`.
    """
    stakes = np.array(measure.stakes[len(BETTING_FRACTIONS) :])
    logs = sums[..., _DOWNWARD] - sums[..., [N]] * np.log1p(stakes * tolerance)
    return np.cumsum(np.moveaxis(logs, -1, 0), axis=-2)


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean outcome of each arm by itself, arrays of shape (..., n_arms).

    Attributes:
        n: Users.
        mean: Unit of the metric; nan without users.
        variance: Of one user's outcome; nan without users.
        readable: Whether a normal approximation may be read.
    """

    n: FloatArray
    mean: FloatArray
    variance: FloatArray
    readable: BoolArray

    @classmethod
    def of(cls, observed: Observed) -> Mean:
        """Return the means of a measure over all its epochs."""
        n, z, z2 = (sums.sum(axis=-2) for sums in (observed.n, observed.z, observed.z2))
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = z / n
            variance = np.maximum(z2 / n - mean * mean, 0.0)
        readable = _readable_alone(observed) & (variance > 1e-12 * z2 / np.maximum(n, 1.0))
        return cls(n, mean + observed.origin, variance, readable)

    def interval(self, alpha: FloatArray | float, planned_users: float) -> tuple[FloatArray, FloatArray]:
        """Return the any-time interval of level 1 − alpha, asymptotic; nan where it may not be read.

        Args:
            alpha: Two-sided error over all looks, in (0, 1).
            planned_users: Users of an arm for which it is tightest; fixed before the first user.
        """
        n = np.where(self.readable, self.n, 1.0)
        half = half_width(n, tuning(alpha, planned_users), alpha) * np.sqrt(self.variance / n)
        half = np.where(self.readable, half, np.nan)
        return self.mean - half, self.mean + half

    def log_e_below(
        self, limit: float, alpha: FloatArray | float, planned_users: float, factor: FloatArray | float = 1.0
    ) -> FloatArray:
        """Return ln E against "the mean is at no time below the limit", asymptotic; 0 where it may not be read.

        Args:
            limit: Unit of the metric.
            alpha: Two-sided error that it is tuned to, in (0, 1).
            planned_users: As for `interval`.
            factor: With so many times the users, all else as it is; any shape that goes with the arrays.
        """
        n = np.where(self.readable, self.n * factor, 1.0)
        z = np.where(self.readable, (limit - self.mean) / np.sqrt(np.where(self.readable, self.variance, 1.0) / n), 0.0)
        log_e = one_sided_log_e_value(z, n, tuning(alpha, planned_users))
        return np.asarray(np.where(self.readable, log_e, 0.0))


def _readable_alone(observed: Observed) -> BoolArray:
    """Whether each arm's own users allow a normal approximation, shape (..., n_arms)."""

    def alone(sums: FloatArray) -> FloatArray:
        return np.asarray(sums.sum(axis=-2)[..., np.newaxis, np.newaxis])  # one epoch, one arm, which is its control

    n, z, z2, z3 = (alone(sums) for sums in (observed.n, observed.z, observed.z2, observed.z3))
    each = replace(observed, p=n, n=n, z=z, z2=z2, z3=z3)
    return np.asarray(is_readable(each, 0, USERS_PER_SQUARED_SKEWNESS_ALONE)[..., 0, 0])
