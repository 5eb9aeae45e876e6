"""An experiment with its users as one JSON text, and back, exactly."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from bandit.epochs import Epoch
from bandit.errors import InvalidInput, Problem
from bandit.events import Event
from bandit.experiment import Experiment, parse
from bandit.generations import Generation
from bandit.outcomes import Outcome
from bandit.ramp import Ramp
from bandit.rewards import Recorded
from bandit.saved import SavedCell, SavedEpoch, SavedState
from bandit.users import Users, Visit

SCHEMA = 3

DAMAGES = (KeyError, IndexError, TypeError, AttributeError, ValueError, RecursionError)
"""What reading a damaged dump may raise."""

Fill = Callable[[Users, Sequence[Epoch]], None]
"""Puts the dumped users into empty `Users`, given the restored epochs."""


def dump_text(experiment: Experiment, saved: SavedState, users: Users) -> str:
    """Return an experiment, its state and its users as JSON text."""
    return json.dumps(
        {
            "schema": SCHEMA,
            "experiment": experiment.to_dict(),
            "state": asdict(saved),
            "users": [
                [user, cell.epoch.allocation.epoch, cell.arm, users.since[user]] for user, cell in users.cells.items()
            ],
            "outcomes": [list(outcomes.items()) for outcomes in users.outcomes],
            "moved": list(users.moved.items()),
            "visits": [list(visits.items()) for visits in users.visits],
            "recorded": [[*key, *recorded] for key, recorded in users.recorded.items()],
        }
    )


def read_dump(text: str | bytes) -> tuple[Experiment, SavedState, Fill]:
    """Return what `dump_text` was given; the users as a function that puts them in their place.

    A text that is no dump fails in many ways: see `DAMAGES`.
    """
    held = json.loads(text)
    if held["schema"] != SCHEMA:
        raise ValueError(f"schema {held['schema']!r}, allowed: {SCHEMA}")
    state = held["state"]
    epochs = [
        SavedEpoch(**{**epoch, "cells": [SavedCell(**cell) for cell in epoch["cells"]]}) for epoch in state["epochs"]
    ]
    saved = SavedState(
        **{
            **state,
            "epochs": epochs,
            "generations": [
                Generation(**{**generation, "broken": tuple(generation["broken"])})
                for generation in state["generations"]
            ],
            "ramp": Ramp(**state["ramp"]),
            "events": [Event(**event) for event in state["events"]],
            "values": [(metric, arm, bucket, n) for metric, arm, bucket, n in state["values"]],
        }
    )
    return parse(held["experiment"]), saved, _filler(held)


def not_a_dump(error: Exception) -> InvalidInput:
    """Return the error that says that a text is no dump, and why."""
    return InvalidInput([Problem("", f"not a dump of an experiment: {error!r}")])


def _filler(held: dict[str, Any]) -> Fill:
    assigned, outcomes, recorded = held["users"], held["outcomes"], held["recorded"]
    moved, visits = held["moved"], held["visits"]

    def fill(users: Users, epochs: Sequence[Epoch]) -> None:
        by_number = {epoch.allocation.epoch: epoch for epoch in epochs}
        for user, epoch, arm, since in assigned:
            users.put(user, by_number[epoch].cells[arm], since)
        for mine, pairs in zip(users.outcomes, outcomes, strict=True):
            mine.update((user, _state(y)) for user, y in pairs)
        users.moved.update(moved)
        for back, those in zip(users.visits, visits, strict=True):
            back.update((user, Visit(number, index, _state(outcome))) for user, (number, index, outcome) in those)
        users.recorded.update(((request, metric), Recorded(*rest)) for request, metric, *rest in recorded)

    return fill


def _state(written: Outcome | list[Any]) -> Outcome:
    """Return an outcome's state from what JSON makes of it."""
    return (written[0], written[1], written[2]) if isinstance(written, list) else written
