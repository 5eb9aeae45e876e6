"""Faults of a log: each with its line and column, the first of them in words, the rest as a number."""

from __future__ import annotations

from bandit.errors import InvalidInput, Problem
from bandit.wording import received

MOST_NAMED = 20


class InvalidLog(InvalidInput):
    """A log is not right; the problems name its lines and columns."""


class Faults:
    """Collects what is wrong with a log while it is read.

    Attributes:
        count: How many faults were found.
        first: Line and problem of the first ones.
    """

    def __init__(self) -> None:
        self.count = 0
        self.first: list[tuple[int, Problem]] = []

    def add(self, line: int, column: str | None, message: str) -> None:
        """Note a fault of a line, or of one column in it."""
        self.count += 1
        if len(self.first) < MOST_NAMED:
            where = f"line {line}" if column is None else f"line {line}, column {received(column)}"
            self.first.append((line, Problem(where, message)))

    def extend(self, other: Faults) -> None:
        """Note all faults that another one holds."""
        self.first = sorted(self.first + other.first, key=lambda fault: fault[0])[:MOST_NAMED]
        self.count += other.count

    def refuse_any(self) -> None:
        """Raise if there are faults.

        Raises:
            InvalidLog: With the first 20 in the order of lines, and how many more there are.
        """
        if not self.count:
            return
        problems = [problem for _, problem in sorted(self.first, key=lambda fault: fault[0])]
        if self.count > len(problems):
            problems.append(Problem("", f"and {self.count - len(problems)} more faults"))
        raise InvalidLog(problems)


def refuse_log(field: str, message: str) -> InvalidLog:
    """Return the error about a log as a whole, an option or a column of it."""
    return InvalidLog([Problem(field, message)])
