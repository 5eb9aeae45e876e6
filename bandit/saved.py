"""The state of a running experiment as plain values, for dumps and stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bandit.allocation import Allocation
from bandit.epochs import Epoch
from bandit.events import Event
from bandit.experiment import Experiment
from bandit.generations import Generation
from bandit.guardrails import GuardrailVerdict
from bandit.measures import Measure
from bandit.ramp import Ramp

State = Literal["draft", "running", "paused", "stopped"]
"""draft -> running <-> paused -> stopped."""


@dataclass(frozen=True, slots=True)
class SavedCell:
    """Users of one epoch and arm: how many, how many moved away, sums per measure, those who came back."""

    assigned: int
    moved: int
    sums: list[list[float]]
    returning: list[tuple[int, int, list[float]]]
    """Measure, window, sums."""
    waiting: list[tuple[int, int, int, list[float]]]
    """Measure, window, moment, sums."""


@dataclass(frozen=True, slots=True)
class SavedEpoch:
    """One epoch; times in seconds of the experiment's clock, None: has not happened."""

    probabilities: list[float]
    learned_epochs: int
    started_at: float
    ended_at: float | None
    closed_at: float | None
    cells: list[SavedCell]

    @classmethod
    def of(cls, epoch: Epoch) -> SavedEpoch:
        """Return the plain values of an epoch."""
        cells = [
            SavedCell(
                cell.assigned, cell.moved, [list(row) for row in cell.sums],
                [(*key, list(row)) for key, row in cell.returning.items()],
                [(*key, list(row)) for key, row in cell.waiting.items()],
            )
            for cell in epoch.cells
        ]  # fmt: skip
        allocation = epoch.allocation
        return cls(
            list(allocation.probabilities),
            allocation.learned_epochs,
            epoch.started_at,
            epoch.ended_at,
            epoch.closed_at,
            cells,
        )

    def restored(self, experiment: Experiment, number: int, measures: Sequence[Measure]) -> Epoch:
        """Return the epoch with these values, under its number."""
        allocation = Allocation(number, tuple(self.probabilities), self.learned_epochs)
        epoch = Epoch(experiment, allocation, self.started_at, measures)
        epoch.ended_at, epoch.closed_at = self.ended_at, self.closed_at
        for cell, saved in zip(epoch.cells, self.cells, strict=True):
            cell.assigned, cell.moved = saved.assigned, saved.moved
            cell.sums = [list(row) for row in saved.sums]
            cell.returning = {(measure, window): list(row) for measure, window, row in saved.returning}
            cell.waiting = {(measure, window, moment): list(row) for measure, window, moment, row in saved.waiting}
        return epoch


@dataclass(frozen=True, slots=True)
class SavedState:
    """A running experiment without its users.

    Attributes:
        state: Where it is in its life.
        serve: Arm that everyone gets after the stop.
        truncated: Whether it was stopped at once, so that open epochs are not read for the goal.
        now: The latest time seen, or None.
        origins: Per measure the origin of its sums, or None.
        epochs: All epochs, in order from number 1.
        generations: All generations of the arms.
        ramp: Who is let in.
        forced: Arm of each user to whom it was given by hand.
        states: Row of the guardrail, arm, state and since when, where it is or was another than "unknown".
        events: What changed, in order.
        values: Metric, arm, bucket and number of calls, as in `call_values.py`.
    """

    state: State
    serve: int
    truncated: bool
    now: float | None
    origins: list[float | None]
    epochs: list[SavedEpoch]
    generations: list[Generation]
    ramp: Ramp
    forced: dict[str, int]
    states: list[tuple[int, int, GuardrailVerdict, float | None]]
    events: list[Event]
    values: list[tuple[str, int, int, int]]
