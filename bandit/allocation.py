"""Allocations: probabilities that hold for one epoch, and when the next one is due."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit.arrays import FloatArray, IntArray
from bandit.experiment import PolicySettings


@dataclass(frozen=True, slots=True)
class Allocation:
    """Probabilities over arms, immutable and numbered.

    Attributes:
        epoch: Number of the epoch in which it holds, from 1.
        probabilities: One per arm, summing to 1: the exact propensity of every assignment of the epoch.
        learned_epochs: It was computed from the closed epochs 1 to this one. What the estimators need of
            "earlier data" follows from it and the ledger.
    """

    epoch: int
    probabilities: tuple[float, ...]
    learned_epochs: int


def with_floors(weights: FloatArray, floors: FloatArray) -> FloatArray:
    """Return p = floor + (1 − Σ floors) w, which keeps the floors and the sum.

    Args:
        weights: Non-negative, summing to 1, shape (..., n_arms).
        floors: Least share of each arm, summing to at most 1, shape (n_arms,).

    Returns:
        Shape (..., n_arms), summing to 1, at least the floors.
    """
    free = max(1.0 - float(floors.sum()), 0.0)
    return floors + free * weights


def batch_size(policy: PolicySettings, before: IntArray | int) -> IntArray:
    """Return how many users end an epoch (or renew an allocation): max(min_batch, growth × users before).

    With geometric growth the number of epochs grows with the logarithm of the traffic.

    Args:
        policy: Its `min_batch` and `growth`.
        before: Users before, any shape.
    """
    grown = np.ceil(policy.growth * np.asarray(before, dtype=np.float64))
    return np.maximum(policy.min_batch, grown).astype(np.int64)
