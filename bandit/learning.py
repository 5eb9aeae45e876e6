"""What the closed epochs say about the goal: ledger rows -> totals per arm, in epoch order.

The rule for missing outcomes is applied here and the goal is turned round here, once, so that everything
after this step sees complete sums of which larger is better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.experiment import Experiment
from bandit.measures import Z2, N, Z


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums of the goal over users, per arm; larger is better.

    Attributes:
        assigned: Users assigned, shape (..., n_arms).
        n: Users whose outcome counts, shape (..., n_arms); a missing outcome with a defined value counts.
        z: Sum of z = ±(y − origin), same shape; the sign is − where lower is better.
        z2: Sum of z², same shape.
        origin: ±origin: the arm's mean outcome, larger is better, is origin + z/n.
    """

    assigned: FloatArray
    n: FloatArray
    z: FloatArray
    z2: FloatArray
    origin: float

    @classmethod
    def nothing(cls, shape: tuple[int, ...]) -> Totals:
        """Return totals before the first user, with arrays of this shape."""
        zero = np.zeros(shape)
        return cls(zero, zero, zero, zero, 0.0)

    def __add__(self, other: Totals) -> Totals:
        """Return the totals of the users of both; the later origin holds (an empty one has none)."""
        return Totals(
            self.assigned + other.assigned,
            self.n + other.n,
            self.z + other.z,
            self.z2 + other.z2,
            other.origin,
        )

    def faded(self, factor: FloatArray) -> Totals:
        """Return the totals with every user counting this much less: a forgetting memory of past epochs.

        Fading before each epoch is added weighs an epoch by the product of the factors since.

        Args:
            factor: In [0, 1], shape (...), the same for all arms of a row.
        """
        each = np.asarray(factor)[..., np.newaxis]
        return Totals(self.assigned * each, self.n * each, self.z * each, self.z2 * each, self.origin)

    def without(self, arm_mask: BoolArray) -> Totals:
        """Return the totals with the sums of the marked arms at 0, as before their first user.

        Args:
            arm_mask: Which arms start anew, shape (..., n_arms).
        """
        assigned, n, z, z2 = (np.where(arm_mask, 0.0, sums) for sums in (self.assigned, self.n, self.z, self.z2))
        return Totals(assigned, n, z, z2, self.origin)


def missing_value(experiment: Experiment) -> float | None:
    """Return the outcome of a user of a closed epoch without a goal value, or None: the user is left out."""
    match experiment.missing:
        case "worst":
            return 0.0 if experiment.goal.better == "higher" else 1.0
        case "zero":
            return 0.0
        case _:
            return None


def complete(experiment: Experiment, assigned: IntArray, sums: FloatArray, origin: float) -> FloatArray:
    """Return the goal's sums of 1, z, z², z³ with the missing outcomes of closed epochs put in.

    They need no rows: their number is assigned − n.

    Args:
        experiment: Says what a missing outcome counts.
        assigned: Users assigned in closed epochs, shape (..., n_arms).
        sums: The goal's ledger sums, shape (..., n_arms, at least 4).
        origin: Origin of z.

    Returns:
        Shape (..., n_arms, 4).
    """
    sums = sums[..., :4]
    value = missing_value(experiment)
    if value is None:
        return sums
    z = value - origin
    missing = assigned - sums[..., N]
    added = missing[..., np.newaxis] * np.array([1.0, z, z * z, z * z * z])
    return np.asarray(sums + added, dtype=np.float64)


def totals_of(experiment: Experiment, assigned: IntArray, sums: FloatArray, origin: float) -> Totals:
    """Return the totals of closed users: missing outcomes put in, turned so that larger is better.

    Args:
        experiment: Its goal gives the direction.
        assigned: Users assigned in closed epochs, shape (..., n_arms).
        sums: The goal's ledger sums, shape (..., n_arms, at least 4).
        origin: Origin of z.
    """
    whole = complete(experiment, assigned, sums, origin)
    sign = 1.0 if experiment.goal.better == "higher" else -1.0
    return Totals(assigned.astype(np.float64), whole[..., N], sign * whole[..., Z], whole[..., Z2], sign * origin)
