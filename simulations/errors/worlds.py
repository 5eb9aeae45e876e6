"""Worlds for measuring errors: exact draws of an epoch's sums, with the true moments beside them.

Unlike the worlds that people declare, these move with time, leave outcomes out, and know the third power.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.special as sc

from bandit.arrays import FloatArray, IntArray
from simulations.laws import Lognormal

Share = Callable[[float], FloatArray]
"""Probability of each category per arm, shape (n_arms, n_categories), at a moment from 0 (start) to 1 (horizon)."""


class Truth(Protocol):
    """What is true at a moment of the run (0 start, 1 horizon), and draws from it."""

    def moments(self, moment: float, missing: float | None) -> FloatArray:
        """Return E[1], E[y], E[y²] over the users assigned to each arm, shape (n_arms, 3).

        Args:
            moment: From 0 to 1.
            missing: What a user without an outcome counts; None: nothing, and then E[1] is below 1.
        """
        ...

    def draw(self, rng: np.random.Generator, users: IntArray, moment: float) -> FloatArray:
        """Return the sums of 1, y, y², y³ over users with an outcome.

        Args:
            rng: Source of luck.
            users: Users assigned, shape (n_runs, n_arms).
            moment: From 0 to 1; the world stands still within an epoch.

        Returns:
            Shape (n_runs, n_arms, 4).
        """
        ...


@dataclass(frozen=True, slots=True)
class Categories:
    """Outcomes with few possible values: their counts are multinomial, at a cost that does not depend on users.

    Attributes:
        values: The possible outcomes, nan for "has none", shape (n_categories,).
        share: Their probabilities.
    """

    values: tuple[float, ...]
    share: Share

    def moments(self, moment: float, missing: float | None) -> FloatArray:
        """Return E[1], E[y], E[y²] per arm, shape (n_arms, 3)."""
        values = np.array(self.values)
        if missing is not None:
            values = np.where(np.isnan(values), missing, values)
        return np.asarray(self.share(moment) @ _powers(values)[:, :3])

    def draw(self, rng: np.random.Generator, users: IntArray, moment: float) -> FloatArray:
        """Return the sums of 1, y, y², y³, shape (n_runs, n_arms, 4)."""
        counts = rng.multinomial(users, self.share(moment))
        return np.asarray(counts @ _powers(np.array(self.values)))


@dataclass(frozen=True, slots=True)
class Skewed:
    """Lognormal outcomes, user by user: time is proportional to users.

    Attributes:
        sigma: Standard deviation of ln y.
        means: Mean of each arm before the cut.
        cap: Outcomes are cut there.
    """

    sigma: float
    means: tuple[float, ...] = (1.0, 1.0)
    cap: float = np.inf

    @property
    def laws(self) -> tuple[Lognormal, ...]:
        """The law of each arm before the cut."""
        return tuple(Lognormal(mean, mean * float(np.sqrt(np.expm1(self.sigma**2)))) for mean in self.means)

    def moments(self, moment: float, missing: float | None) -> FloatArray:  # noqa: ARG002 (stands still, all answer)
        """Return E[1], E[y], E[y²] per arm, shape (n_arms, 3).

        E[min(y, c)^j] = exp(jμ + j²σ²/2) Φ((ln c − μ − jσ²)/σ) + c^j P(y > c).
        """
        j = np.arange(3.0)
        mu = np.array([law.mu for law in self.laws])[:, np.newaxis]
        whole = np.exp(j * mu + (j * self.sigma) ** 2 / 2.0)
        if not np.isfinite(self.cap):
            return np.asarray(whole)
        above = np.array([law.above(self.cap) for law in self.laws])[:, np.newaxis]
        return np.asarray(whole * sc.ndtr((np.log(self.cap) - mu) / self.sigma - j * self.sigma) + self.cap**j * above)

    def draw(self, rng: np.random.Generator, users: IntArray, moment: float) -> FloatArray:  # noqa: ARG002
        """Return the sums of 1, y, y², y³, shape (n_runs, n_arms, 4)."""
        sums = np.empty((*users.shape, 4))
        for arm, law in enumerate(self.laws):
            run = np.repeat(np.arange(len(users)), users[:, arm])
            y = np.minimum(law.draw(rng, len(run)), self.cap)
            for power, weights in enumerate((np.ones_like(y), y, y * y, y * y * y)):
                sums[:, arm, power] = np.bincount(run, weights, len(users))
        return sums


def rates(*steady: float) -> Categories:
    """Return binary outcomes with a steady rate per arm."""
    return moving_rates(lambda _: steady)


def moving_rates(rate: Callable[[float], Sequence[float]]) -> Categories:
    """Return binary outcomes with a rate per arm that may depend on the moment."""
    return Categories((1.0, 0.0), lambda moment: np.stack([np.array(rate(moment)), 1.0 - np.array(rate(moment))], -1))


def answered_rates(rate: Callable[[float], float], answers: Sequence[tuple[float, float]]) -> Categories:
    """Return binary outcomes with one rate for all arms, some of which never become known.

    Args:
        rate: Probability of 1 at a moment.
        answers: Per arm the probability that an outcome of 1, and one of 0, becomes known.
    """

    def share(moment: float) -> FloatArray:
        known = np.array(answers) * np.array([rate(moment), 1.0 - rate(moment)])
        return np.concatenate([known, 1.0 - known.sum(axis=-1, keepdims=True)], axis=-1)

    return Categories((1.0, 0.0, np.nan), share)


def user_means(rate: float, rewards: int, correlation: float, n_arms: int = 2) -> Categories:
    """Return means of a user's 0/1 rewards, whose rate differs between users by a Beta law.

    Args:
        rate: Mean rate.
        rewards: Rewards of each user.
        correlation: Between two rewards of one user, in (0, 1).
        n_arms: Number of arms.
    """
    size = (1.0 - correlation) / correlation
    a, b = rate * size, (1.0 - rate) * size
    j = np.arange(rewards + 1.0)
    share = np.exp(sc.betaln(a + j, b + rewards - j) - sc.betaln(a, b)) * sc.comb(rewards, j)
    return Categories(tuple(j / rewards), lambda _: np.tile(share, (n_arms, 1)))


def _powers(values: FloatArray) -> FloatArray:
    """Return 1, y, y², y³ of each value, all 0 for nan, shape (n_categories, 4)."""
    known = np.where(np.isnan(values), 0.0, values)
    return np.stack([(~np.isnan(values)).astype(np.float64), known, known**2, known**3], axis=-1)
