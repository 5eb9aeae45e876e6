"""One family of errors: each says what was received, what is allowed, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class BanditError(Exception):
    """Anything that this engine refuses."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of an input.

    Attributes:
        field: Where it is, as a path: `goal.kind`, `variants[1].key`.
        message: What was received, what is allowed.
    """

    field: str
    message: str

    def __str__(self) -> str:
        """Return the fault as one line."""
        return f"{self.field}: {self.message}" if self.field else self.message


class InvalidInput(BanditError, ValueError):
    """Input that cannot be understood; carries every fault found, nothing was changed."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class InvalidExperiment(InvalidInput):
    """The declaration of an experiment is not right."""


class InvalidId(InvalidInput):
    """A user id, request id or key is not 1 to 200 bytes of UTF-8 without control characters."""


class InvalidReward(InvalidInput):
    """A reward names an unknown metric or has a value that its metric cannot have."""


class UnknownVariant(InvalidInput):
    """A name that is no variant of this experiment."""


class ConflictingReward(BanditError):
    """The same request id and metric came before with another value or for another user."""


class NoAssignment(BanditError):
    """A reward of a user who was never assigned but would be now: call choose first."""


class WrongState(BanditError):
    """The experiment's state does not allow this change."""
