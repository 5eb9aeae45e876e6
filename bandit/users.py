"""What an experiment remembers of its users: arm, time of assignment, outcomes, stored rewards."""

from __future__ import annotations

from bandit.epochs import Cell
from bandit.outcomes import Outcome
from bandit.rewards import Recorded


class Users:
    """Plain dictionaries, so that a store can fill them with the users at hand and read them back.

    Attributes:
        cells: The (epoch, arm) of each assigned user.
        since: When each was assigned, seconds of the experiment's clock.
        outcomes: For each measure the outcome state of each user who has one.
        recorded: What was stored under each (request id, metric).
    """

    __slots__ = ("cells", "outcomes", "recorded", "since")

    def __init__(self, n_measures: int) -> None:
        self.cells: dict[str, Cell] = {}
        self.since: dict[str, float] = {}
        self.outcomes: list[dict[str, Outcome]] = [{} for _ in range(n_measures)]
        self.recorded: dict[tuple[str, str], Recorded] = {}

    def forget(self) -> None:
        """Empty the dictionaries, keeping the objects."""
        self.cells.clear()
        self.since.clear()
        self.recorded.clear()
        for outcomes in self.outcomes:
            outcomes.clear()
