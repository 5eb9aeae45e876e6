"""What an experiment remembers of its users: arm, time of assignment, outcomes, stored rewards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from bandit.epochs import Cell
from bandit.outcomes import Outcome
from bandit.rewards import Recorded


class Visit(NamedTuple):
    """The latest later window in which a user has a value of a measure.

    Attributes:
        number: 2 for the first such window, then one more each.
        place: Which window after assignment it is, from 1 for the second one.
        outcome: The user's outcome state in it.
    """

    number: int
    place: int
    outcome: Outcome


class Users:
    """Plain dictionaries, so that a store can fill them with the users at hand and read them back.

    Attributes:
        cells: The (epoch, arm) of each assigned user.
        since: When each was assigned, seconds of the experiment's clock.
        outcomes: For each measure the outcome state of each user who has one.
        recorded: What was stored under each (request id, metric).
        moved: When users whose generation of the arm has ended first came to hear of it.
        visits: For each measure the latest later window of each user who came back.
        of_cell: The users of each cell that was assigned one and has not closed.
    """

    __slots__ = ("cells", "moved", "of_cell", "outcomes", "recorded", "since", "visits")

    def __init__(self, n_measures: int) -> None:
        self.cells: dict[str, Cell] = {}
        self.since: dict[str, float] = {}
        self.outcomes: list[dict[str, Outcome]] = [{} for _ in range(n_measures)]
        self.recorded: dict[tuple[str, str], Recorded] = {}
        self.moved: dict[str, float] = {}
        self.visits: list[dict[str, Visit]] = [{} for _ in range(n_measures)]
        self.of_cell: dict[Cell, list[str]] = {}

    def put(self, user_id: str, cell: Cell, since: float) -> None:
        """Remember an assigned user."""
        self.cells[user_id] = cell
        self.since[user_id] = since
        if cell.epoch.closed_at is None:
            self.of_cell.setdefault(cell, []).append(user_id)

    def outcomes_of(self, cell: Cell) -> Iterator[tuple[int, Outcome]]:
        """Yield (measure, outcome state) of every user of a cell, for the last time: the cell is closing."""
        for user_id in self.of_cell.pop(cell, []):
            for slot, outcomes in enumerate(self.outcomes):
                if user_id in outcomes:
                    yield slot, outcomes[user_id]

    def forget(self) -> None:
        """Empty the dictionaries, keeping the objects."""
        self.cells.clear()
        self.since.clear()
        self.recorded.clear()
        self.moved.clear()
        self.of_cell.clear()
        for outcomes in self.outcomes:
            outcomes.clear()
        for visits in self.visits:
            visits.clear()
