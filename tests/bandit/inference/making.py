"""Users of tests of inference, one by one, and what the ledger keeps of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from bandit.arrays import FloatArray
from bandit.inference.observed import Observed

Outcomes = list[list[FloatArray]]
"""Outcomes of users, by epoch and arm."""


def make_outcomes(seed: int, *, n_epochs: int = 5, n_arms: int = 3, kind: str = "fraction", most: int = 9) -> Outcomes:
    """Return random outcomes: "binary", "fraction" (in [0, 1]) or "numeric"; epochs may be empty."""
    rng = np.random.default_rng(seed)

    def draw(size: int) -> FloatArray:
        match kind:
            case "binary":
                return rng.integers(0, 2, size).astype(np.float64)
            case "fraction":
                return rng.beta(0.4, 0.6, size).round(1)
            case _:
                return rng.normal(5.0, 2.0, size)

    return [[draw(int(size)) for size in rng.integers(0, most, n_arms)] for _ in range(n_epochs)]


def make_p(seed: int, n_epochs: int = 5, n_arms: int = 3) -> FloatArray:
    """Return random propensities, shape (n_epochs, n_arms)."""
    return np.random.default_rng(seed).dirichlet(np.full(n_arms, 2.0), n_epochs)


def make_observed(
    outcomes: Outcomes,
    p: FloatArray,
    *,
    origin: float = 0.0,
    bounds: tuple[float, float] | None = (0.0, 1.0),
) -> Observed:
    """Return what inference reads of these users."""

    def sums(power: int) -> FloatArray:
        return np.array([[float(((y - origin) ** power).sum()) for y in arms] for arms in outcomes])

    return Observed(p, sums(0), sums(1), sums(2), sums(3), origin, bounds, True)


def of_counts(n: FloatArray, events: FloatArray, p: FloatArray) -> Observed:
    """Return a binary measure from users and events, arrays of shape (..., n_epochs, n_arms)."""
    return Observed(np.broadcast_to(p, n.shape), n, events, events, events, 0.0, (0.0, 1.0), True)


def mapped(observed: Observed, change: Callable[[FloatArray], FloatArray]) -> Observed:
    """Return the measure with all its arrays changed alike."""
    return _combined([observed], lambda arrays: change(arrays[0]))


def joined(first: Observed, second: Observed) -> Observed:
    """Return the epochs of the first, then those of the second."""
    return _combined([first, second], lambda arrays: np.concatenate(arrays, axis=-2))


def stacked(each: Sequence[Observed]) -> Observed:
    """Return the measures of several runs on one leading axis."""
    return _combined(each, np.stack)


def _combined(each: Sequence[Observed], combine: Callable[[list[FloatArray]], FloatArray]) -> Observed:
    return replace(
        each[0],
        p=combine([one.p for one in each]),
        n=combine([one.n for one in each]),
        z=combine([one.z for one in each]),
        z2=combine([one.z2 for one in each]),
        z3=combine([one.z3 for one in each]),
    )
