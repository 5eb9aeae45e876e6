"""Any-time interval: the effect of an arm against control, right at all looks together.

The confidence sequence of `confidence_sequence.py` on the shared-weight scores. Its coverage is asymptotic, so it is
read only once the data of both arms are enough for a normal approximation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bandit.arrays import BoolArray, FloatArray
from bandit.inference.confidence_sequence import half_width, log_e_value, tuning
from bandit.inference.observed import Observed
from bandit.inference.scores import Scores

FEWEST_EVENTS = 25
"""Events, and non-events, per arm before a rate is read."""

FEWEST_USERS = 200
"""Users per arm before a mean is read …"""

USERS_PER_SQUARED_SKEWNESS = 100.0
"""… and this many times its squared skewness: the sum is then skewed by 1/10 at most.

Skewness moves the chance to be z errors off on one side by about exp(skewness z³/6), and at small levels z is 4. With
25 instead of 100, costs with a log-sd of 1 at the limit were certified with an error of 0.009 where 0.002 was meant.
"""


@dataclass(frozen=True, slots=True)
class AnyTime:
    """Estimates after each epoch, arrays of shape (..., n_epochs, n_arms).

    Attributes:
        difference: Mean of the arm minus ratio × mean of control, unit of the metric.
        low: Lower end of the interval; −inf where it may not be read yet.
        high: Upper end; inf where it may not be read yet.
        log_e: ln of the e-value against no difference, 0 where it may not be read yet.
        readable: Whether it may be read.
    """

    difference: FloatArray
    low: FloatArray
    high: FloatArray
    log_e: FloatArray
    readable: BoolArray

    @property
    def p_value(self) -> FloatArray:
        """Smallest 1/E so far, at most 1: valid at whatever look it is read, shape (..., n_arms)."""
        most = self.log_e.max(axis=-2, initial=0.0)
        return np.asarray(np.exp(-most))


def any_time(
    observed: Observed,
    scores: Scores,
    control: int,
    alpha: FloatArray | float,
    planned_users: float,
    ratio: float = 1.0,
) -> AnyTime:
    """Return the interval of level 1 − alpha and its e-value after each epoch.

    Args:
        observed: The measure.
        scores: From `running_scores` of it.
        control: Index of control.
        alpha: Two-sided error over all looks, in (0, 1); a number, or one per arm.
        planned_users: Users of the pair for which it is tightest; fixed before the first user.
        ratio: The contrast is mean(arm) − ratio × mean(control).
    """
    rho2 = tuning(alpha, planned_users)
    difference, error = scores.difference(ratio), scores.standard_error(ratio)
    readable = is_readable(observed, control) & (error > 0.0)
    with np.errstate(invalid="ignore"):
        half = np.where(readable, half_width(scores.t, rho2, alpha) * error, np.inf)
        z = np.divide(difference, error, out=np.zeros_like(difference), where=readable)
    log_e = np.where(readable, log_e_value(z, scores.t, rho2), 0.0)
    centre = np.where(readable, difference, 0.0)
    return AnyTime(difference, centre - half, centre + half, log_e, readable)


def is_readable(
    observed: Observed, control: int, users_per_squared_skewness: float = USERS_PER_SQUARED_SKEWNESS
) -> BoolArray:
    """Whether the data of an arm and of control allow a normal approximation, after each epoch.

    Args:
        observed: The measure. Epochs in which an arm had probability 0 are not read for it.
        control: Index of control.
        users_per_squared_skewness: Users per arm before a mean is read.

    Returns:
        Shape (..., n_epochs, n_arms).
    """
    drawn = ~(observed.p == 0.0)  # unknown is not zero

    def enough(of: Callable[[FloatArray], FloatArray]) -> BoolArray:
        n = np.cumsum(of(observed.n), axis=-2)
        if observed.bounds is not None and not observed.fractional:
            events = np.cumsum(of(observed.shares), axis=-2)
            return np.asarray(np.minimum(events, n - events) >= FEWEST_EVENTS)
        skewness = _skewness(n, *(np.cumsum(of(s), axis=-2) for s in (observed.z, observed.z2, observed.z3)))
        return np.asarray((n >= FEWEST_USERS) & (n >= users_per_squared_skewness * skewness**2))

    # Users of control count for an arm where they could have had it: those before an arm joined tell it nothing.
    shared = bool(drawn.all())
    base = (lambda sums: sums[..., [control]]) if shared else (lambda sums: sums[..., [control]] * drawn)
    return enough(lambda sums: sums) & enough(base)


def _skewness(n: FloatArray, z: FloatArray, z2: FloatArray, z3: FloatArray) -> FloatArray:
    """Return the sample skewness from sums; infinite where nothing varied."""
    seen = np.maximum(n, 1.0)
    mean, second, third = z / seen, z2 / seen, z3 / seen
    variance = second - mean * mean
    central = third - 3.0 * mean * second + 2.0 * mean**3
    varied = variance > 1e-12 * second
    return np.divide(central, variance**1.5, out=np.full_like(mean, np.inf), where=varied)
