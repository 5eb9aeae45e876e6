"""Epochs of a running experiment, and the cells (epoch, arm) that its users are counted in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from bandit.allocation import Allocation
from bandit.arrays import FloatArray
from bandit.assignment import thresholds
from bandit.experiment import Experiment
from bandit.ledger import GOAL, Ledger
from bandit.measures import Measure, N


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a user gets.

    Attributes:
        variant: Key of the variant to serve.
        config: The variant's configuration, to be read only.
        propensity: Probability with which the arm was chosen at the user's first visit; None if the user
            does not count in the experiment.
        epoch: Number of the epoch of that first visit, or None.
        reason: "new", "sticky", "moved", "forced", "not_enrolled" or "stopped".
    """

    variant: str
    config: dict[str, Any]
    propensity: float | None
    epoch: int | None
    reason: str


class Cell:
    """The users whom one epoch assigned to one arm.

    Attributes:
        epoch: Their epoch.
        arm: Index of their arm.
        assigned: How many they are.
        moved: How many of them were moved away from the arm.
        sums: For each measure the sums of its transforms over those with an outcome.
        returning: By (measure, window) the same over those who came back in a later window, as far as that counts.
        waiting: By (measure, window, moment) the same over visits that do not count yet (`visits.py`).
        new: The answer to the first `choose` of each of them.
        sticky: The answer to every later one; None once their generation of the arm has ended.
    """

    __slots__ = ("arm", "assigned", "epoch", "moved", "new", "returning", "sticky", "sums", "waiting")

    def __init__(self, experiment: Experiment, epoch: Epoch, arm: int, measures: Sequence[Measure]) -> None:
        variant = experiment.variants[arm]
        self.epoch = epoch
        self.arm = arm
        self.assigned = 0
        self.moved = 0
        self.sums = [[0.0] * measure.width for measure in measures]
        self.returning: dict[tuple[int, int], list[float]] = {}
        self.waiting: dict[tuple[int, int, int], list[float]] = {}
        p = epoch.allocation.probabilities[arm]
        number = epoch.allocation.epoch
        self.new = Assignment(variant.key, variant.config, p, number, "new")
        self.sticky: Assignment | None = Assignment(variant.key, variant.config, p, number, "sticky")


class Epoch:
    """The time during which one allocation holds.

    Attributes:
        allocation: Its probabilities and number.
        started_at: When it began, seconds of the experiment's clock.
        ended_at: When the next one superseded it or the experiment was paused or stopped; None: it is current.
        closed_at: When the windows of all its users had ended; None: outcomes may still change.
        ends: Upper ends of the arms' intervals on [0, 1).
        cells: One per arm.
    """

    __slots__ = ("allocation", "cells", "closed_at", "ended_at", "ends", "started_at")

    def __init__(
        self, experiment: Experiment, allocation: Allocation, started_at: float, measures: Sequence[Measure]
    ) -> None:
        self.allocation = allocation
        self.started_at = started_at
        self.ended_at: float | None = None
        self.closed_at: float | None = None
        self.ends = thresholds(allocation.probabilities)
        self.cells = [Cell(experiment, self, arm, measures) for arm in range(experiment.n_arms)]

    @property
    def assigned(self) -> int:
        """Users assigned in this epoch."""
        return sum(cell.assigned for cell in self.cells)

    @property
    def answered(self) -> bool:
        """Whether each of its users has a goal value."""
        return all(cell.sums[GOAL][N] >= cell.assigned for cell in self.cells)


def ledger_of(
    epochs: Sequence[Epoch], measures: Sequence[Measure], n_arms: int, origins: Sequence[float | None]
) -> Ledger:
    """Return the ledger of these epochs, in their order, without those who came back."""
    empty = Ledger.empty(measures, len(epochs), n_arms)
    if not epochs:
        return Ledger(empty.assigned, empty.moved, empty.sums, tuple(origins))
    cells, shape = [cell for epoch in epochs for cell in epoch.cells], (len(epochs), n_arms)
    return Ledger(
        np.fromiter([cell.assigned for cell in cells], np.int64).reshape(shape),
        np.fromiter([cell.moved for cell in cells], np.int64).reshape(shape),
        tuple(
            # From one flat list: numpy takes twice as long to find out the shape of nested ones.
            np.fromiter(chain.from_iterable([cell.sums[m] for cell in cells]), np.float64).reshape(*shape, -1)
            for m in range(len(measures))
        ),
        tuple(origins),
    )


class ReturningSums:
    """The sums of those who came back, for all epochs: kept, as cells seldom change between two looks.

    Args:
        measures: What is summed about users.
        n_arms: Number of arms.

    Attributes:
        changed: Cells to be read again.
    """

    def __init__(self, measures: Sequence[Measure], n_arms: int) -> None:
        self.changed: set[Cell] = set()
        self._measures = measures
        self._n_arms = n_arms
        self._sums: dict[tuple[int, int], FloatArray] = {}

    def read(self, n_epochs: int) -> dict[tuple[int, int], FloatArray]:
        """Return the sums of so many epochs by (measure, window), each of shape (n_epochs, n_arms, width)."""
        for cell in self.changed:
            for key, row in cell.returning.items():
                self._room(key, n_epochs)[cell.epoch.allocation.epoch - 1, cell.arm] = row
        self.changed.clear()
        return {key: self._room(key, n_epochs)[:n_epochs].copy() for key in self._sums}

    def _room(self, key: tuple[int, int], n_epochs: int) -> FloatArray:
        """Return the array of a window, with room for so many epochs at least."""
        held = self._sums.get(key)
        if held is None or len(held) < n_epochs:
            grown = np.zeros((n_epochs + n_epochs // 4 + 8, self._n_arms, self._measures[key[0]].width))
            if held is not None:
                grown[: len(held)] = held
            self._sums[key] = held = grown
        return held
