"""Experiments with guardrails, and users who come to harm in them."""

from __future__ import annotations

import itertools
from typing import Any, cast

from bandit import Bandit, Experiment
from bandit.events import Event
from tests.bandit.making import make_experiment

HARMFUL = {"metric": "harmful", "kind": "binary", "max": 0.05}
LATENCY = {"metric": "latency_ms", "kind": "numeric", "quantile": 0.9, "max": 1000}
COST = {"metric": "cost", "kind": "numeric", "max": 1.0}
HOUR = 3600.0


def guarded(arms: int = 2, **parts: Any) -> Experiment:  # noqa: ANN401 (tables of the experiment file)
    """Return an experiment with one guardrail on harm."""
    return make_experiment(arms, **({"guardrails": [HARMFUL]} | parts))


def user_of(bandit: Bandit, variant: str, names: itertools.count[int]) -> str:
    """Return a new user who has this variant."""
    new = (f"user-{i}" for i in itertools.islice(names, 2000))
    return next(user for user in new if bandit.choose(user).variant == variant)


def harm(bandit: Bandit, variant: str = "B", users: int = 40) -> list[str]:
    """Let users of a variant come to harm until it is suspended; return them."""
    names = itertools.count()
    harmed: list[str] = []
    while not suspended(bandit, variant):
        assert len(harmed) < users
        harmed.append(user_of(bandit, variant, names))
        bandit.reward(harmed[-1], {"harmful": 1, "resolved": 1})
    return harmed


def suspended(bandit: Bandit, variant: str) -> bool:
    return bool(bandit.timeline.suspended[bandit.experiment.arm(variant)])


def broken_limit(event: Event) -> dict[str, Any]:
    """Return the evidence of the only limit that a suspension names."""
    (evidence,) = cast("list[dict[str, Any]]", event.evidence["limits"])
    return evidence
