"""All that may happen to a few users: expectations without chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bandit.arrays import FloatArray, IntArray
from bandit.inference.observed import Observed


@dataclass(frozen=True, slots=True)
class Paths:
    """All that may happen to a few users, each an epoch of its own.

    Attributes:
        observed: Arrays of shape (n_paths, n_users, 2); arm 0 is control.
        probability: Of each path, shape (n_paths,), summing to 1.
    """

    observed: Observed
    probability: FloatArray

    def mean(self, values: FloatArray) -> float:
        """Return the exact expectation of a number per path."""
        return float(self.probability @ values)


def every_path(
    n_users: int,
    share: Callable[[IntArray, FloatArray], FloatArray],
    means: Callable[[IntArray, FloatArray], tuple[FloatArray, FloatArray]],
    middle: float = 0.0,
) -> Paths:
    """Return all paths of users whose arm and mean outcome may depend in any way on the users before.

    Args:
        n_users: Users; the number of paths is 4 or 6 to this power.
        share: Arms and outcomes of earlier users, shape (n_paths, i) -> P(arm 1) of the next, shape (n_paths,).
        means: The same -> mean outcome under control and under arm 1, each of shape (n_paths,).
        middle: Probability of the outcome 1/2 instead of 0 or 1, where the mean allows.
    """
    levels = np.array([0.0, 1.0] if middle == 0.0 else [0.0, 0.5, 1.0])
    index = np.indices((2 * len(levels),) * n_users).reshape(n_users, -1).T
    arms, y = index % 2, levels[index // 2]
    probability, p = np.ones(len(arms)), np.empty((len(arms), n_users))
    for user in range(n_users):
        before = arms[:, :user], y[:, :user]
        p[:, user] = share(*before)
        arm = arms[:, user]
        mean = np.where(arm == 1, means(*before)[1], means(*before)[0])
        probability *= np.where(arm == 1, p[:, user], 1.0 - p[:, user]) * _law(y[:, user], mean, middle)
    n = np.stack([arms == 0, arms == 1], axis=-1).astype(np.float64)
    z = n * y[..., np.newaxis]
    observed = Observed(np.stack([1.0 - p, p], axis=-1), n, z, z * z / np.maximum(n, 1.0), z**3, 0.0, (0.0, 1.0), True)
    return Paths(observed, probability)


def _law(y: FloatArray, mean: FloatArray, middle: float) -> FloatArray:
    """Return the probability of an outcome of this mean: 1/2 as often as the mean allows, else 0 or 1."""
    half = np.minimum(middle, 2.0 * np.minimum(mean, 1.0 - mean))
    return np.where(y == 0.5, half, np.where(y == 1.0, mean - half / 2.0, 1.0 - mean - half / 2.0))


def stopped(log_e: FloatArray, level: float) -> FloatArray:
    """Return E where it first reaches a level, else at the end: log_e of shape (n_paths, n_users)."""
    reached = log_e >= np.log(level)
    first = np.where(reached.any(axis=-1), reached.argmax(axis=-1), log_e.shape[-1] - 1)
    return np.asarray(np.exp(np.take_along_axis(log_e, first[:, np.newaxis], axis=-1)[:, 0]))
