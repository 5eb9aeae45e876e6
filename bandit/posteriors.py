"""Posteriors of the arms' mean outcomes: prior + ledger sums -> posterior.

Larger is better inside: a goal with `better = "lower"` is turned round before it gets here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special as sc

from bandit.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class BetaPosterior:
    """Independent Beta posteriors of arm means in [0, 1].

    Attributes:
        a: Successes plus prior successes, positive, shape (..., n_arms).
        b: Failures plus prior failures, positive, same shape.
    """

    a: FloatArray
    b: FloatArray

    @property
    def mean(self) -> FloatArray:
        """Posterior mean of each arm, shape (..., n_arms)."""
        return self.a / (self.a + self.b)

    def quantile(self, q: FloatArray | float) -> FloatArray:
        """Posterior quantile of each arm at level q in (0, 1), shape (..., n_arms)."""
        return np.asarray(sc.betaincinv(self.a, self.b, q), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class StudentPosterior:
    """Independent posteriors of arm means: location + scale x Student-t with df degrees of freedom.

    The marginal law of a Gaussian mean with unknown variance under a normal-inverse-gamma prior;
    df = inf is the Gaussian with known variance.

    Attributes:
        location: Posterior means, finite, shape (..., n_arms).
        scale: Non-negative, same shape. 0 is a point mass.
        df: Degrees of freedom above 1, may be inf, same shape.
    """

    location: FloatArray
    scale: FloatArray
    df: FloatArray

    @property
    def mean(self) -> FloatArray:
        """Posterior mean of each arm, shape (..., n_arms)."""
        return self.location

    def quantile(self, q: FloatArray | float) -> FloatArray:
        """Posterior quantile of each arm at level q in (0, 1), shape (..., n_arms)."""
        finite = np.where(np.isfinite(self.df), self.df, 1.0)
        standard = np.where(np.isfinite(self.df), sc.stdtrit(finite, q), sc.ndtri(q))
        return np.asarray(self.location + self.scale * standard, dtype=np.float64)


Posterior = BetaPosterior | StudentPosterior


_PRIOR_USERS = 1.0  # a unit-information prior: what one user says about the mean
_PRIOR_DF = 5.0  # users' worth of prior knowledge of the spread, which all arms share to begin with


def beta_posterior(n: FloatArray, successes: FloatArray, baseline: float | None) -> BetaPosterior:
    """Return Beta posteriors of rates under a prior worth one event.

    The prior's mean is the baseline, else the pooled rate of all arms; its weight is one event of the
    rarer kind, Beta(1, (1−m)/m) for m <= 1/2. At a click rate of 1 % a flat prior would add, to each arm,
    a click that ought to take a hundred users.

    Args:
        n: Users with an outcome, shape (..., n_arms).
        successes: Sum of their outcomes in [0, 1], same shape.
        baseline: Expected rate in (0, 1), or None.
    """
    successes = np.clip(successes, 0.0, n)  # sums moved by difference may be off by a rounding error
    if baseline is None:
        events = successes.sum(axis=-1, keepdims=True) + 0.5
        mean = events / (n.sum(axis=-1, keepdims=True) + 1.0)
    else:
        mean = np.asarray(baseline, dtype=np.float64)
    rare = np.minimum(mean, 1.0 - mean)
    return BetaPosterior(mean / rare + successes, (1.0 - mean) / rare + (n - successes))


def student_posterior(n: FloatArray, z: FloatArray, z2: FloatArray, baseline: float | None) -> StudentPosterior:
    """Return posteriors of means with unknown variance under a prior that follows the metric's own scale.

    Normal-inverse-gamma with prior mean = baseline or pooled mean, worth one user, and prior variance =
    variance about the pooled mean over all arms, worth five. Multiplying or shifting the metric multiplies or
    shifts the posterior, so it changes no allocation.

    Args:
        n: Users with an outcome, shape (..., n_arms).
        z: Sum of their z = y − origin, same shape.
        z2: Sum of z², same shape.
        baseline: Expected mean in units of z, or None.

    Reference:
        Gelman et al., Bayesian Data Analysis (3rd ed.), section 3.3.
    """
    total = np.maximum(n.sum(axis=-1, keepdims=True), 1.0)
    pooled = z.sum(axis=-1, keepdims=True) / total
    prior = pooled if baseline is None else np.asarray(baseline, dtype=np.float64)
    squares = np.maximum(z2.sum(axis=-1, keepdims=True) - total * pooled**2, 0.0)
    # About the prior mean: equal outcomes far from a stated baseline leave doubt about the arms not seen.
    squares = squares + np.minimum(n.sum(axis=-1, keepdims=True), 1.0) * (pooled - prior) ** 2
    variance = squares / np.maximum(total - 1.0, 1.0)

    mean = z / np.maximum(n, 1.0)
    within = np.maximum(z2 - n * mean**2, 0.0)
    users = n + _PRIOR_USERS
    df = n + _PRIOR_DF
    spread = _PRIOR_DF * variance + within + _PRIOR_USERS * n / users * (mean - prior) ** 2
    location = (_PRIOR_USERS * prior + z) / users
    return StudentPosterior(location, np.sqrt(spread / df / users), df)
