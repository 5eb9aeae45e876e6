"""The ledger: additive sums per (epoch, arm) and measure. All that learning and reporting read.

Ledgers add: those of two processes, or of two stretches of time, make the ledger of both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.measures import Z2, Z3, Measure, N, Z

GOAL = 0
"""The goal is always the first measure."""


def move(row: list[float], measure: Measure, origin: float, old: float | None, new: float | None) -> None:
    """Take a user's old outcome out of a row of sums and put the new one in; None is no outcome.

    Args:
        row: Sums of the measure's transforms of one (epoch, arm), changed in place; length `measure.width`.
        measure: The row's measure.
        origin: Its origin.
        old: The outcome that the row holds for this user.
        new: The outcome that it shall hold.
    """
    if old == new:
        return
    if old is not None:
        put(row, measure, origin, old, -1.0)
    if new is not None:
        put(row, measure, origin, new, 1.0)


def exact_row(measure: Measure, origin: float, outcomes: Iterable[float]) -> list[float]:
    """Return the sums over final outcomes, the same to the last bit in whatever order they came.

    Args:
        measure: The row's measure.
        origin: Its origin.
        outcomes: One final outcome per user.
    """
    terms = [measure.transforms(y, origin) for y in outcomes]
    return [math.fsum(column) for column in zip(*terms, strict=True)] if terms else [0.0] * measure.width


def put(row: list[float], measure: Measure, origin: float, y: float, sign: float = 1.0) -> None:
    """Add sign × `measure.transforms(y, origin)` to a row, term by term: this runs for every reward."""
    row[N] += sign
    z = y - origin
    if z:
        row[Z] += sign * z
        row[Z2] += sign * z * z
        row[Z3] += sign * z * z * z
    if measure.stakes:
        for place, term in enumerate(measure.log_wealths(y), start=4):
            row[place] += sign * term


@dataclass(frozen=True, slots=True)
class Ledger:
    """Sums over users, in epoch order.

    Attributes:
        assigned: Users assigned, shape (n_epochs, n_arms).
        moved: Of these, users moved away from the arm, same shape.
        sums: For each measure the sums of its transforms over users with an outcome,
            shape (n_epochs, n_arms, measure.width).
        origins: For each measure the origin of z = y − origin; None while no outcome has fixed it.
        returning: By (measure, window) the same sums over users who came back in a later window, from window 2 on;
            absent where nobody did.
    """

    assigned: IntArray
    moved: IntArray
    sums: tuple[FloatArray, ...]
    origins: tuple[float | None, ...]
    returning: Mapping[tuple[int, int], FloatArray] = field(default_factory=dict)

    @classmethod
    def empty(cls, measures: Sequence[Measure], n_epochs: int, n_arms: int) -> Ledger:
        """Return a ledger of zeros."""
        counts = np.zeros((n_epochs, n_arms), dtype=np.int64)
        sums = tuple(np.zeros((n_epochs, n_arms, m.width)) for m in measures)
        return cls(counts, counts.copy(), sums, (None,) * len(measures))

    @property
    def n_epochs(self) -> int:
        """Number of epochs covered."""
        return int(self.assigned.shape[0])

    def upto(self, n_epochs: int) -> Ledger:
        """Return the ledger of the first epochs only."""
        return Ledger(
            self.assigned[:n_epochs],
            self.moved[:n_epochs],
            tuple(sums[:n_epochs] for sums in self.sums),
            self.origins,
            {key: sums[:n_epochs] for key, sums in self.returning.items()},
        )

    def kept(self, cells: BoolArray) -> Ledger:
        """Return the ledger with all but these cells set to zero, without those who came back.

        Args:
            cells: Shape (n_epochs, n_arms).
        """
        return Ledger(
            self.assigned * cells,
            self.moved * cells,
            tuple(sums * cells[..., np.newaxis] for sums in self.sums),
            self.origins,
        )

    def __add__(self, other: Ledger) -> Ledger:
        """Return the ledger of the users of both; the shorter one is followed by empty epochs.

        Raises:
            ValueError: The two have other arms or measures, or sums about different origins.
        """
        if [s.shape[1:] for s in self.sums] != [s.shape[1:] for s in other.sums]:
            raise ValueError("ledgers of different experiments cannot be added: their arms or measures differ")
        n_epochs = max(self.n_epochs, other.n_epochs)
        keys = sorted({*self.returning, *other.returning})
        return Ledger(
            _padded(self.assigned, n_epochs) + _padded(other.assigned, n_epochs),
            _padded(self.moved, n_epochs) + _padded(other.moved, n_epochs),
            tuple(_padded(a, n_epochs) + _padded(b, n_epochs) for a, b in zip(self.sums, other.sums, strict=True)),
            tuple(_common(a, b) for a, b in zip(self.origins, other.origins, strict=True)),
            {key: self._returned(key, n_epochs) + other._returned(key, n_epochs) for key in keys},
        )

    def _returned(self, key: tuple[int, int], n_epochs: int) -> FloatArray:
        shape = self.sums[key[0]].shape
        return _padded(self.returning.get(key, np.zeros((0, *shape[1:]))), n_epochs)


_Numbers = TypeVar("_Numbers", FloatArray, IntArray)


def _padded(values: _Numbers, n_epochs: int) -> _Numbers:
    shape = (n_epochs, *values.shape[1:])
    padded = np.zeros(shape, dtype=values.dtype)
    padded[: values.shape[0]] = values
    return padded


def _common(first: float | None, second: float | None) -> float | None:
    if first is not None and second is not None and first != second:
        raise ValueError(f"sums about the origins {first} and {second} cannot be added")
    return second if first is None else first
