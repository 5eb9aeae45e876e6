"""Worlds: the truth about every variant, and draws from it, of whole epochs or of single users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bandit.arrays import FloatArray, IntArray
from bandit.experiment import Experiment, Guardrail
from bandit.ledger import GOAL
from bandit.measures import Z2, N, Z, first_origin, guardrail_measure, measures_of, metric_bounds
from simulations.laws import Bounds, Law, Normal

_CHUNK = 1 << 18
"""Users drawn at a time where a sum has no law of its own: bounds memory, 2 MB an array."""


class Outcomes(Protocol):
    """Goal outcomes of whole epochs, as the sums that the ledger keeps."""

    @property
    def origin(self) -> float:
        """The sums are of z = outcome − origin."""
        ...

    def draw(self, rng: np.random.Generator, users: IntArray, rows: IntArray) -> FloatArray:
        """Return the sums of 1, z, z², z³ over the users of one epoch.

        z³ is not drawn (nan): no allocation reads it.

        Args:
            rng: Source of luck.
            users: Users assigned per row and arm, shape (n_rows, n_arms).
            rows: Which row of the run each of them is, shape (n_rows,).

        Returns:
            Shape (n_rows, n_arms, 4).
        """
        ...


@dataclass(frozen=True, slots=True)
class Successes:
    """Binary goals: exactly binomial, at a cost that does not depend on the number of users.

    Attributes:
        rates: Probability of 1 per arm, shape (n_arms,), or per row of the run, shape (n_rows, n_arms).
    """

    rates: FloatArray

    @property
    def origin(self) -> float:
        """Zero: a sum of outcomes is a number of successes."""
        return 0.0

    def draw(self, rng: np.random.Generator, users: IntArray, rows: IntArray) -> FloatArray:
        """Return the sums of 1, z, z², z³ over the users of one epoch, shape (n_rows, n_arms, 4)."""
        successes = rng.binomial(users, self.rates[rows] if self.rates.ndim > 1 else self.rates)
        return np.stack([users, successes, successes, successes], axis=-1).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numeric goals, arm by arm.

    Normal outcomes without bounds: the sum is normal and the squares about the mean are chi-square, exactly
    and at no cost per user. Anything else is drawn user by user, in chunks: time is proportional to users
    (about 0.03 s per million), memory is not.

    Attributes:
        laws: One per arm.
        bounds: Outcomes are cut to them.
        origin: The sums are of z = outcome − origin.
    """

    laws: tuple[Law, ...]
    bounds: Bounds
    origin: float

    def draw(self, rng: np.random.Generator, users: IntArray, rows: IntArray) -> FloatArray:  # noqa: ARG002
        """Return the sums of 1, z, z², z³ over the users of one epoch, shape (n_rows, n_arms, 4)."""
        sums = np.full((*users.shape, 4), np.nan)
        sums[..., N] = users
        for arm, law in enumerate(self.laws):
            exact = isinstance(law, Normal) and not self.bounds.act
            draw = self._normal if exact else self._one_by_one
            sums[:, arm, Z], sums[:, arm, Z2] = draw(rng, law, users[:, arm])
        return sums

    def _normal(self, rng: np.random.Generator, law: Law, users: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return Σz and Σz² per row: Σz ~ N(nμ, nσ²), Σ(z − z̄)² ~ σ² χ²(n − 1), independent."""
        assert isinstance(law, Normal)  # noqa: S101  (draw looked)
        n = users.astype(np.float64)
        z = n * (law.mean - self.origin) + law.sd * np.sqrt(n) * rng.standard_normal(n.shape)
        squares = law.sd**2 * 2.0 * rng.standard_gamma(np.maximum(n - 1.0, 0.0) / 2.0)
        return z, squares + z * z / np.maximum(n, 1.0)

    def _one_by_one(self, rng: np.random.Generator, law: Law, users: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return Σz and Σz² per row, from each user's own outcome."""
        ends = np.cumsum(users)
        z_sum, z2_sum = np.zeros(len(users)), np.zeros(len(users))
        for start in range(0, int(ends[-1]), _CHUNK):
            user = np.arange(start, min(start + _CHUNK, int(ends[-1])))
            row = np.searchsorted(ends, user, side="right")
            z = np.clip(law.draw(rng, len(user)), self.bounds.low, self.bounds.high) - self.origin
            z_sum += np.bincount(row, z, len(users))
            z2_sum += np.bincount(row, z * z, len(users))
        return z_sum, z2_sum


@dataclass(frozen=True)
class World:
    """The truth about the variants of one experiment.

    Attributes:
        experiment: Whose variants and metrics it is about.
        laws: For each simulated metric one law per arm, in the order of `experiment.arms`.
    """

    experiment: Experiment
    laws: Mapping[str, tuple[Law, ...]]

    @property
    def not_simulated(self) -> tuple[str, ...]:
        """Guardrail metrics that this world says nothing about, in file order."""
        every = dict.fromkeys(guardrail.metric for guardrail in self.experiment.guardrails)
        return tuple(metric for metric in every if metric not in self.laws)

    @property
    def simulated(self) -> tuple[Guardrail, ...]:
        """The guardrails whose metric has a law."""
        return tuple(g for g in self.experiment.guardrails if g.metric in self.laws)

    @property
    def means(self) -> FloatArray:
        """Expected goal outcome of a user per arm, cut as the goal says, shape (n_arms,), unit of the metric."""
        goal = self.experiment.goal
        bounds = Bounds(*metric_bounds(self.experiment, goal.metric))
        return np.array([bounds.mean(law, goal.cap) for law in self.laws[goal.metric]])

    @property
    def outcomes(self) -> Outcomes:
        """Goal outcomes of whole epochs."""
        goal = self.experiment.goal
        laws = self.laws[goal.metric]
        if goal.kind == "binary":
            return Successes(np.array([law.mean for law in laws]))
        bounds = Bounds(*metric_bounds(self.experiment, goal.metric))
        high = bounds.high if goal.cap is None else min(bounds.high, goal.cap)
        # Without a declared origin the running engine takes its first outcome; any one near the means gives
        # the same allocations, since they do not depend on it.
        origin = first_origin(self.experiment, GOAL)
        return Numbers(laws, Bounds(bounds.low, high), float(self.means.mean()) if origin is None else origin)

    @property
    def notes(self) -> tuple[str, ...]:
        """What in this world may not be what its author thinks, one sentence each."""
        goal = self.experiment.goal
        declared = np.array([law.mean for law in self.laws[goal.metric]])
        if np.allclose(declared, self.means, rtol=1e-6, atol=0.0):
            return ()
        cut = ", ".join(f"{arm} {mean:.6g}" for arm, mean in zip(self.experiment.arms, self.means, strict=True))
        return (f"outcomes of '{goal.metric}' are cut to goal.range and goal.cap; their true means are then {cut}",)

    def guardrail_means(self, guardrail: Guardrail) -> FloatArray:
        """Expected outcome of a user on a guardrail per arm: a rate, a mean, or a share above the limit.

        Args:
            guardrail: One of `simulated`.

        Returns:
            Shape (n_arms,).
        """
        measure = measures_of(self.experiment)[guardrail_measure(self.experiment, guardrail)]
        bounds = Bounds(*metric_bounds(self.experiment, guardrail.metric))
        laws = self.laws[guardrail.metric]
        if measure.above is not None:
            return np.array([bounds.above(law, measure.above) for law in laws])
        return np.array([bounds.mean(law, measure.cap) for law in laws])

    def user(self, rng: np.random.Generator, arm: str) -> dict[str, float]:
        """Return what happens to one user of a variant: one value per simulated metric."""
        index = self.experiment.arm(arm)
        values: dict[str, float] = {}
        for metric, laws in self.laws.items():
            bounds = Bounds(*metric_bounds(self.experiment, metric))
            values[metric] = float(np.clip(laws[index].draw(rng, 1)[0], bounds.low, bounds.high))
        return values
