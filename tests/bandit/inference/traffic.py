"""Many runs in which traffic follows the data, and how often a claim may fail in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.inference.observed import Observed


def ever(log_e: FloatArray, level: float) -> BoolArray:
    """Return whether E reached 1/level at any look, from log_e of shape (n_replications, n_epochs)."""
    return np.asarray((log_e >= -np.log(level)).any(axis=-1))


def upper(rate: float, replications: int) -> float:
    """Return the largest share of replications that goes with this error rate, one in 10,000 tests apart."""
    return rate + 3.9 * float(np.sqrt(rate * (1.0 - rate) / replications))


Draw = Callable[[np.random.Generator, int, IntArray], tuple[FloatArray, FloatArray, FloatArray]]
"""Generator, epoch, users per (replication, arm) -> their sums of y, y², y³."""


def binary(rates: FloatArray) -> Draw:
    """Return a world of 0 and 1 with rates of shape (n_epochs, n_arms)."""

    def draw(rng: np.random.Generator, epoch: int, n: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        events = rng.binomial(n, rates[epoch]).astype(np.float64)
        return events, events, events

    return draw


def drifting(start: float, end: float, n_epochs: int, factors: Sequence[float] = (1.0, 1.0)) -> FloatArray:
    """Return rates that move evenly from start to end, times a factor per arm; shape (n_epochs, n_arms)."""
    return np.asarray(np.linspace(start, end, n_epochs)[:, np.newaxis] * np.array(factors))


def run_adaptive(
    draw: Draw,
    *,
    seed: int,
    n_epochs: int = 60,
    n_arms: int = 2,
    batch: int = 150,
    replications: int = 1500,
    floor: float = 0.05,
    bounds: tuple[float, float] | None = (0.0, 1.0),
) -> Observed:
    """Return runs whose traffic follows the data: Thompson sampling with normal posteriors and a floor.

    The chance of being best is the share of 8 posterior draws, and these shares are the propensities.
    """
    rng = np.random.default_rng(seed)
    shape = (replications, n_epochs, n_arms)
    p, n, z, z2, z3 = (np.empty(shape) for _ in range(5))
    users, total, squares = (np.zeros((replications, n_arms)) for _ in range(3))
    for epoch in range(n_epochs):
        mean = (total + 0.5) / (users + 1.0)
        spread = np.maximum(squares / np.maximum(users, 1.0) - mean * mean, 0.0) + 0.25 / (users + 1.0)
        draws = mean + np.sqrt(spread / (users + 1.0)) * rng.standard_normal((8, replications, n_arms))
        wins = (draws.argmax(axis=-1)[..., np.newaxis] == np.arange(n_arms)).mean(axis=0)
        p[:, epoch] = floor + (1.0 - n_arms * floor) * wins
        count = rng.multinomial(batch, p[:, epoch])
        n[:, epoch] = count
        z[:, epoch], z2[:, epoch], z3[:, epoch] = draw(rng, epoch, count)
        users, total, squares = users + count, total + z[:, epoch], squares + z2[:, epoch]
    return Observed(p, n, z, z2, z3, 0.0, bounds, True)


@lru_cache(maxsize=8)
def equal_arms(start: float, end: float, floor: float = 0.05, batch: int = 150) -> Observed:
    """Return runs of two arms with the same rate, which moves from start to end; shared by the tests of all methods."""
    return run_adaptive(binary(drifting(start, end, 60)), seed=21, floor=floor, batch=batch)


EQUAL_ARMS = [(0.5, 0.5, 0.01, 50), (0.02, 0.02, 0.05, 150), (0.3, 0.7, 0.05, 150), (0.5, 0.5, 0.05, 1)]
"""Worlds of equal arms: start, end, floor, batch."""
