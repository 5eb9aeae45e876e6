"""What happens to the users of whole epochs, as the sums that the ledger keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bandit.arrays import FloatArray, IntArray
from bandit.ledger import GOAL
from bandit.measures import Measure, N, Z
from simulations.laws import Bounds, Discrete, Law, Normal

_CHUNK = 1 << 18
"""Users drawn at a time where a sum has no law of its own: bounds memory, 2 MB an array."""


_MOST_VALUES = 4_096
"""Values of a discrete law that are counted; of more each user's own is drawn."""


class Outcomes(Protocol):
    """Goal outcomes of whole epochs, as the sums that the ledger keeps."""

    @property
    def origin(self) -> float:
        """The sums are of z = outcome − origin."""
        ...

    def draw(self, rng: np.random.Generator, users: IntArray, rows: IntArray) -> FloatArray:
        """Return the sums of 1, z, z², z³ over the users of one epoch.

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
        return _counted(users, rng.binomial(users, self.rates[rows] if self.rates.ndim > 1 else self.rates))


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numeric goals, arm by arm.

    Normal outcomes without bounds: the sum is normal and the squares about the mean are chi-square, exactly
    and at no cost per user; so are discrete outcomes, which are counted. Anything else is drawn user by user, in
    chunks: time is proportional to users (about 0.03 s per million), memory is not.

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
        sums = np.empty((*users.shape, 4))
        sums[..., N] = users
        for arm, law in enumerate(self.laws):
            if isinstance(law, Normal) and not self.bounds.act:
                sums[:, arm, Z:] = self._normal(rng, law, users[:, arm])
            else:
                sums[:, arm, Z:] = _one_by_one(rng, law, self.bounds, users[:, arm], self._columns)[0]
        return sums

    def _normal(self, rng: np.random.Generator, law: Normal, users: IntArray) -> FloatArray:
        """Return Σz, Σz² and Σz³ per row, shape (n_rows, 3).

        Σz ~ N(nμ, nσ²) and Σ(z − z̄)² ~ σ² χ²(n − 1), independent, are exact. Of the sample skewness, which is
        independent of both (Basu), mean and variance are exact, 0 and 6(n − 2)/((n + 1)(n + 3)), and its law is taken
        as normal.
        """
        n = users.astype(np.float64)
        z = n * (law.mean - self.origin) + law.sd * np.sqrt(n) * rng.standard_normal(n.shape)
        squares = law.sd**2 * 2.0 * rng.standard_gamma(np.maximum(n - 1.0, 0.0) / 2.0)
        skewness = np.sqrt(6.0 * np.maximum(n - 2.0, 0.0) / ((n + 1.0) * (n + 3.0))) * rng.standard_normal(n.shape)
        size = np.maximum(n, 1.0)
        mean, variance = z / size, squares / size
        cubes = n * skewness * variance**1.5 + 3.0 * mean * squares + n * mean**3
        return np.stack([z, squares + z * mean, cubes], axis=-1)

    def _columns(self, values: FloatArray) -> list[list[FloatArray]]:
        z = values - self.origin
        return [[z, z * z, z * z * z]]


@dataclass(frozen=True, slots=True)
class Metric:
    """All measures of one metric, drawn together: they are about the same values of the same users.

    Rates and shares above a limit are counts, at a cost that does not depend on the number of users. A measure of a
    mean needs every user's value, for its powers and the logarithms of its bets: time is proportional to users.

    Attributes:
        laws: One per arm.
        bounds: Values are cut to them.
        places: Indices of its measures among those of the experiment.
        measures: These measures.
        origins: The origin of each.
    """

    laws: tuple[Law, ...]
    bounds: Bounds
    places: tuple[int, ...]
    measures: tuple[Measure, ...]
    origins: tuple[float, ...]

    def draw(self, rng: np.random.Generator, users: IntArray) -> list[FloatArray]:
        """Return the ledger rows of each measure over the users of one epoch.

        Args:
            rng: Source of luck.
            users: Users assigned, shape (n_rows, n_arms); each has one value.

        Returns:
            One array per measure, shape (n_rows, n_arms, width of the measure).
        """
        if self.measures[0].kind == "binary":
            rows = _counted(users, rng.binomial(users, [law.mean for law in self.laws]))
            return [rows for _ in self.measures]
        if all(measure.above is not None for measure in self.measures):
            return self._above(rng, users)
        found = [np.zeros((*users.shape, measure.width)) for measure in self.measures]
        for arm, law in enumerate(self.laws):
            for sums, drawn in zip(
                found, _one_by_one(rng, law, self.bounds, users[:, arm], self._columns), strict=True
            ):
                sums[:, arm, N] = users[:, arm]
                sums[:, arm, Z:] = drawn
        return found

    def _above(self, rng: np.random.Generator, users: IntArray) -> list[FloatArray]:
        """Return how many values are above each limit, from the lowest up: those above the next are among them."""
        limits = [measure.above or 0.0 for measure in self.measures]
        found = {}
        count, share = users, np.ones(len(self.laws))
        for limit in sorted(set(limits)):
            further = np.array([self.bounds.above(law, limit) for law in self.laws])
            chance = np.divide(further, share, out=np.zeros_like(share), where=share > 0.0)
            count, share = rng.binomial(count, np.minimum(chance, 1.0)), further
            found[limit] = _counted(users, count)
        return [found[limit] for limit in limits]

    def _columns(self, values: FloatArray) -> list[list[FloatArray]]:
        return [
            _transforms(measure, origin, values) for measure, origin in zip(self.measures, self.origins, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Phase:
    """What happens to users from one of them on, until the next phase.

    Attributes:
        first_user: How many users a run has had before it.
        goal: Goal outcomes.
        metrics: The guarded metrics, each drawn with luck of its own: given the arm, they are independent. One that is
            the goal's metric as well is drawn together with the goal, in the place of `goal`.
    """

    first_user: int
    goal: Outcomes
    metrics: tuple[Metric, ...] = ()

    def draw(
        self,
        luck: tuple[np.random.Generator, np.random.Generator],
        users: IntArray,
        rows: IntArray,
        n_measures: int,
    ) -> list[FloatArray | None]:
        """Return the ledger rows of each measure over users of one epoch; None: it has no guarded metric.

        Args:
            luck: That of the goal, and that of all else.
            users: Users assigned, shape (n_rows, n_arms).
            rows: Which row of the run each of them is, shape (n_rows,).
            n_measures: Measures of the experiment, the goal's first.
        """
        found: list[FloatArray | None] = [None] * n_measures
        if not any(GOAL in metric.places for metric in self.metrics):
            found[GOAL] = self.goal.draw(luck[0], users, rows)
        for metric in self.metrics:
            drawn = metric.draw(luck[0] if GOAL in metric.places else luck[1], users)
            for place, sums in zip(metric.places, drawn, strict=True):
                found[place] = sums
        return found


def _counted(users: IntArray, events: IntArray) -> FloatArray:
    """Return the sums of 1, z, z², z³ of zeros and ones."""
    return np.stack([users, events, events, events], axis=-1).astype(np.float64)


def _transforms(measure: Measure, origin: float, values: FloatArray) -> list[FloatArray]:
    """Return what `measure.transforms` gives for each value, without the 1: z, z², z³ and log-wealths."""
    if measure.above is not None:
        y = (values > measure.above).astype(np.float64)
    else:
        y = values if measure.cap is None else np.minimum(values, measure.cap)
    z = y - origin
    powers = [z, z * z, z * z * z]
    if measure.limit is None:
        return powers
    ratio = y / measure.limit - 1.0
    return [*powers, *(np.log1p(stake * ratio) for stake in measure.stakes)]


def _one_by_one(
    rng: np.random.Generator,
    law: Law,
    bounds: Bounds,
    users: IntArray,
    columns: Callable[[FloatArray], list[list[FloatArray]]],
) -> list[FloatArray]:
    """Return sums per row over each user's own value, in chunks.

    Args:
        rng: Source of luck.
        law: Of a value.
        bounds: Values are cut to them.
        users: Users per row, shape (n_rows,).
        columns: From values to what is summed: for each measure its columns.

    Returns:
        For each measure an array of shape (n_rows, n_columns).
    """
    if isinstance(law, Discrete) and len(law.values) <= _MOST_VALUES:
        # How many users have each value is all there is to draw: exact, at a cost that does not depend on users.
        counts = rng.multinomial(users, law.shares).astype(np.float64)
        return [counts @ np.stack(each, axis=-1) for each in columns(np.clip(law.values, bounds.low, bounds.high))]
    found: list[FloatArray] = [np.zeros((len(users), len(each))) for each in columns(np.array([max(bounds.low, 1.0)]))]
    for row in _chunks(users):
        values = np.clip(law.draw(rng, len(row)), bounds.low, bounds.high)
        for sums, each in zip(found, columns(values), strict=True):
            for place, column in enumerate(each):
                sums[:, place] += np.bincount(row, column, len(users))
    return found


def _chunks(users: IntArray) -> Iterator[IntArray]:
    """Yield the row of each user, in order, so many at a time."""
    ends = np.cumsum(users)
    for start in range(0, int(ends[-1]), _CHUNK):
        reached = np.clip(ends, start, start + _CHUNK) - start
        yield np.repeat(np.arange(len(users)), reached - np.concatenate([[0], reached[:-1]]))
