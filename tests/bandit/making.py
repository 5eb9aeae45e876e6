"""Factories of experiments for tests: defaults hide all that a test is not about."""

from __future__ import annotations

from typing import Any

from bandit.experiment import Experiment, parse


def make_experiment(arms: int = 2, **parts: Any) -> Experiment:  # noqa: ANN401 (tables of the experiment file)
    """Return an experiment with a binary goal "resolved"; each keyword replaces or extends a table."""
    names = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[:arms]
    goal: dict[str, Any] = {"metric": "resolved", "kind": "binary"}
    document: dict[str, Any] = {
        "key": "greeting",
        "salt": "salt",
        "variants": [{"key": name, "control": name == "A", "config": {"prompt": name}} for name in names],
        "goal": goal | parts.pop("goal", {}),
    }
    return parse(document | parts)


NUMERIC = {"metric": "score", "kind": "numeric"}


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
