"""Allocations: probabilities that hold for one epoch, and when the next one is due."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit.arrays import BoolArray, FloatArray, IntArray
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


def with_floors(
    weights: FloatArray, floors: FloatArray, suspended: BoolArray | None = None, control: int | None = None
) -> FloatArray:
    """Return p = floor + (1 − Σ floors) w over the arms that are not suspended, and the rest on control.

    The sum is that over the floors of these arms. The rest is what the weights leave of it: they may sum to less
    than 1, and those of suspended arms do not count.

    Args:
        weights: Non-negative, summing to 1, or to less if there is a control, shape (..., n_arms).
        floors: Least share of each arm, summing to at most 1, shape (n_arms,).
        suspended: Arms that get nothing, never control, same shape as the weights; None: no arm is.
        control: Index of the arm that gets the rest; None: nothing is left over.

    Returns:
        Shape (..., n_arms), summing to 1; exactly 0 for suspended arms, at least the floors for the others;
        exactly 1 for control if no other arm is left.

    Raises:
        ValueError: Arms are suspended and there is no control.
    """
    if control is None:
        if suspended is not None:
            raise ValueError("suspended arms leave a share for control: received no control")
        free = max(1.0 - float(floors.sum()), 0.0)
        return floors + free * weights
    gone = np.zeros(weights.shape, dtype=bool) if suspended is None else suspended
    kept = np.where(gone, 0.0, floors)
    free = np.maximum(1.0 - kept.sum(axis=-1, keepdims=True), 0.0)
    p = kept + np.where(gone, 0.0, free * weights)
    p[..., control] = 0.0
    # Where the floors leave nothing, a rounding error must not take control below its own.
    p[..., control] = np.maximum(1.0 - p.sum(axis=-1), floors[control])
    return p


def batch_size(policy: PolicySettings, before: IntArray | int) -> IntArray:
    """Return how many users end an epoch (or renew an allocation): max(min_batch, growth × users before).

    With geometric growth the number of epochs grows with the logarithm of the traffic.

    Args:
        policy: Its `min_batch` and `growth`.
        before: Users before, any shape.
    """
    grown = np.ceil(policy.growth * np.asarray(before, dtype=np.float64))
    return np.maximum(policy.min_batch, grown).astype(np.int64)
