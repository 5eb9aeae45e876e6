"""What `verify` finds: things that are not stored as they follow from the rest."""

from __future__ import annotations

from typing import NamedTuple


class Difference(NamedTuple):
    """One thing that is not stored as it follows from the rest.

    Attributes:
        what: What differs.
        stored: What the store says.
        rebuilt: What follows from the rest of it.
        epoch: Number of the epoch, or None.
        arm: Index of the arm, or None.
        measure: Index of the measure, or None.
    """

    what: str
    stored: object
    rebuilt: object
    epoch: int | None = None
    arm: int | None = None
    measure: int | None = None


class Differences:
    """Differences as they are found: all are counted, and the first ones kept.

    Attributes:
        first: The first ones, at most `KEPT`.
        total: How many there are.
    """

    KEPT = 100

    def __init__(self) -> None:
        self.first: list[Difference] = []
        self.total = 0

    def add(self, difference: Difference) -> None:
        """Take note of one."""
        self.total += 1
        if len(self.first) < self.KEPT:
            self.first.append(difference)
