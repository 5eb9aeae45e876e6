"""Laws of one user's outcome on one metric: what the world knows and the engine has to find out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.special as sc

from bandit.arrays import FloatArray


class Law(Protocol):
    """The distribution of an outcome y."""

    @property
    def mean(self) -> float:
        """Expected outcome."""
        ...

    def excess(self, x: float) -> float:
        """Return E[max(y − x, 0)]."""
        ...

    def above(self, x: float) -> float:
        """Return P(y > x)."""
        ...

    def draw(self, rng: np.random.Generator, size: int) -> FloatArray:
        """Return independent outcomes, shape (size,)."""
        ...

    def quantile(self, u: FloatArray) -> FloatArray:
        """Return the outcome below which a share u of all lies, u in (0, 1), same shape."""
        ...


@dataclass(frozen=True, slots=True)
class Rate:
    """0 or 1.

    Attributes:
        mean: Probability of 1, in [0, 1].
    """

    mean: float

    def excess(self, x: float) -> float:
        """Return E[max(y − x, 0)]."""
        return self.mean * max(1.0 - x, 0.0) + (1.0 - self.mean) * max(-x, 0.0)

    def above(self, x: float) -> float:
        """Return P(y > x)."""
        return self.mean * (x < 1.0) + (1.0 - self.mean) * (x < 0.0)

    def draw(self, rng: np.random.Generator, size: int) -> FloatArray:
        """Return zeros and ones, shape (size,)."""
        return (rng.random(size) < self.mean).astype(np.float64)

    def quantile(self, u: FloatArray) -> FloatArray:
        """Return zeros, and ones above 1 − mean, shape of u."""
        return (u > 1.0 - self.mean).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Normal:
    """The normal law.

    Attributes:
        mean: Expected outcome.
        sd: Standard deviation, not negative; 0 is a constant.
    """

    mean: float
    sd: float

    def excess(self, x: float) -> float:
        """Return E[max(y − x, 0)] = σ φ(d) − (x − μ) Φ(−d), d = (x − μ)/σ."""
        if self.sd == 0.0 or not math.isfinite(x):
            return max(self.mean - x, 0.0)
        d = (x - self.mean) / self.sd
        density = math.exp(-0.5 * d * d) / math.sqrt(2.0 * math.pi)
        return self.sd * density - (x - self.mean) * float(sc.ndtr(-d))

    def above(self, x: float) -> float:
        """Return P(y > x)."""
        if self.sd == 0.0:
            return float(self.mean > x)
        return float(sc.ndtr((self.mean - x) / self.sd))

    def draw(self, rng: np.random.Generator, size: int) -> FloatArray:
        """Return independent outcomes, shape (size,)."""
        return rng.normal(self.mean, self.sd, size)

    def quantile(self, u: FloatArray) -> FloatArray:
        """Return the outcomes at shares u in (0, 1), same shape."""
        return np.asarray(self.mean + self.sd * sc.ndtri(u))


@dataclass(frozen=True, slots=True)
class Lognormal:
    """The lognormal law, by the mean and standard deviation of the outcome itself, not of its logarithm.

    Attributes:
        mean: Expected outcome, above 0.
        sd: Standard deviation, not negative; 0 is a constant.
    """

    mean: float
    sd: float

    @property
    def sigma(self) -> float:
        """Standard deviation of ln y."""
        return math.sqrt(math.log1p((self.sd / self.mean) ** 2))

    @property
    def mu(self) -> float:
        """Mean of ln y."""
        return math.log(self.mean) - 0.5 * self.sigma**2

    def excess(self, x: float) -> float:
        """Return E[max(y − x, 0)] = mean Φ(d + σ) − x Φ(d), d = (μ − ln x)/σ."""
        if x <= 0.0 or self.sd == 0.0 or not math.isfinite(x):
            return max(self.mean - x, 0.0)
        d = (self.mu - math.log(x)) / self.sigma
        return max(self.mean * float(sc.ndtr(d + self.sigma)) - x * float(sc.ndtr(d)), 0.0)

    def above(self, x: float) -> float:
        """Return P(y > x)."""
        if x <= 0.0 or self.sd == 0.0:
            return float(self.mean > x)
        return float(sc.ndtr((self.mu - math.log(x)) / self.sigma))

    def draw(self, rng: np.random.Generator, size: int) -> FloatArray:
        """Return independent outcomes, shape (size,)."""
        return rng.lognormal(self.mu, self.sigma, size)

    def quantile(self, u: FloatArray) -> FloatArray:
        """Return the outcomes at shares u in (0, 1), same shape."""
        return np.asarray(np.exp(self.mu + self.sigma * sc.ndtri(u)))


@dataclass(frozen=True, slots=True)
class Discrete:
    """Some values, each with its share: scores from 1 to 5, or a sample that was recorded.

    Attributes:
        values: Finite, each once.
        shares: Probability of each, summing to 1.
    """

    values: tuple[float, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float], weights: Sequence[float] | None = None) -> Discrete:
        """Return the law of values that come as often as their weights say.

        Args:
            values: One or more, finite; one that comes twice counts twice.
            weights: Not negative, not all 0, in any unit; None: all alike, as in a sample.
        """
        given = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
        known, place = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True)
        shares = np.bincount(place, given) / given.sum()
        return cls(tuple(known.tolist()), tuple(shares.tolist()))

    @property
    def mean(self) -> float:
        """Expected outcome."""
        return self._expected(np.array(self.values))

    def excess(self, x: float) -> float:
        """Return E[max(y − x, 0)]."""
        return self._expected(np.maximum(np.array(self.values) - x, 0.0)) if math.isfinite(x) else 0.0

    def above(self, x: float) -> float:
        """Return P(y > x)."""
        return self._expected((np.array(self.values) > x).astype(np.float64))

    def draw(self, rng: np.random.Generator, size: int) -> FloatArray:
        """Return independent outcomes, shape (size,)."""
        return rng.choice(self.values, size, p=self.shares)

    def quantile(self, u: FloatArray) -> FloatArray:
        """Return the outcomes at shares u in (0, 1), same shape."""
        place = np.searchsorted(np.cumsum(self.shares), u, side="left")
        return np.array(self.values)[np.minimum(place, len(self.values) - 1)]

    def _expected(self, each: FloatArray) -> float:
        return float(each @ np.array(self.shares))


def between(old: Law, new: Law, share: float) -> Law | None:
    """Return the law that lies a share of the way from one to another of its kind; None if they are of two kinds.

    Args:
        old: A rate, or a normal or lognormal law.
        new: Another one.
        share: From 0 (old) to 1 (new).
    """

    def mixed(a: float, b: float) -> float:
        return a + share * (b - a)

    match old, new:
        case Rate(), Rate():
            return Rate(mixed(old.mean, new.mean))
        case Normal(), Normal():
            return Normal(mixed(old.mean, new.mean), mixed(old.sd, new.sd))
        case Lognormal(), Lognormal():
            return Lognormal(mixed(old.mean, new.mean), mixed(old.sd, new.sd))
        case _:
            return old if old == new else None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What values a metric can have; outcomes of a law beyond are cut to the nearer end.

    Attributes:
        low: Least value, may be −inf.
        high: Largest value, may be inf.
    """

    low: float = -math.inf
    high: float = math.inf

    @property
    def act(self) -> bool:
        """Whether there is a bound at all."""
        return math.isfinite(self.low) or math.isfinite(self.high)

    def mean(self, law: Law, cap: float | None = None) -> float:
        """Expected outcome when it is cut to these bounds and then at a cap.

        E[y] + E[max(low − y, 0)] − E[max(y − high, 0)], where E[max(low − y, 0)] = low − E[y] + excess(low).
        """
        high = self.high if cap is None else min(self.high, cap)
        if high <= self.low:
            return high
        raised = self.low - law.mean + law.excess(self.low) if math.isfinite(self.low) else 0.0
        return law.mean + raised - law.excess(high)

    def above(self, law: Law, limit: float) -> float:
        """Probability that an outcome cut to these bounds lies above a limit."""
        if limit < self.low:
            return 1.0
        return 0.0 if limit >= self.high else law.above(limit)
