"""What the service refuses beyond what the engine does."""

from __future__ import annotations

from bandit import BanditError


class UnknownExperiment(BanditError):
    """No experiment has this key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"no experiment has the key {key[:200]!r}; GET /experiments lists them")


class NoSuchVariant(BanditError):
    """A path names a variant that the experiment does not have."""


class ExperimentExists(BanditError):
    """An experiment with this key is stored already."""

    def __init__(self, key: str) -> None:
        super().__init__(f"experiment '{key}' exists; choose another key")


class StoreUnavailable(BanditError):
    """The store cannot take this now; the same request may succeed a moment later."""


class Unreadable(StoreUnavailable):
    """The rows of one experiment cannot be loaded."""

    def __init__(self, key: str) -> None:
        super().__init__(f"experiment {key[:200]!r} cannot be loaded from the store; the server's log says why")


class StoreProblem(BanditError):
    """The file given as a store cannot be one."""


class Unexpected(BanditError):
    """An operation failed in a way that nobody foresaw; nothing of it was stored."""
