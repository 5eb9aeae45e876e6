"""An experiment with its users as one JSON text, and back, exactly."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from bandit.bandit import Bandit
from bandit.errors import InvalidInput, Problem
from bandit.experiment import parse
from bandit.rewards import Recorded
from bandit.saved import SavedCell, SavedEpoch, SavedState

SCHEMA = 1


def dump(bandit: Bandit) -> str:
    """Return everything that a bandit knows as JSON text; `load` makes its equal."""
    users = bandit.users
    return json.dumps(
        {
            "schema": SCHEMA,
            "experiment": bandit.experiment.to_dict(),
            "state": asdict(bandit.saved_state),
            "users": [
                [user, cell.epoch.allocation.epoch, cell.arm, users.since[user]] for user, cell in users.cells.items()
            ],
            "outcomes": [list(outcomes.items()) for outcomes in users.outcomes],
            "recorded": [[*key, *recorded] for key, recorded in users.recorded.items()],
        }
    )


def load(text: str | bytes, clock: Callable[[], float] | None = None) -> Bandit:
    """Return the bandit that was dumped; it goes on exactly where that one was.

    Args:
        text: What `dump` returned.
        clock: As for `Bandit`; give one if the dumped bandit had one.

    Raises:
        InvalidInput: The text is not a dump of this version.
    """
    try:
        held = json.loads(text)
        if held["schema"] != SCHEMA:
            raise InvalidInput([Problem("schema", f"received {held['schema']!r}, allowed: {SCHEMA}")])
        return _loaded(held, clock)
    except (
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        UnicodeDecodeError,
        json.JSONDecodeError,
    ) as error:
        raise InvalidInput([Problem("", f"not a dump of an experiment: {error!r}")]) from error


def _loaded(held: dict[str, Any], clock: Callable[[], float] | None) -> Bandit:
    state = held["state"]
    epochs = [
        SavedEpoch(**{**epoch, "cells": [SavedCell(**cell) for cell in epoch["cells"]]}) for epoch in state["epochs"]
    ]
    bandit = Bandit.restored(parse(held["experiment"]), SavedState(**{**state, "epochs": epochs}), clock)
    users = bandit.users
    for user, epoch, arm, since in held["users"]:
        users.cells[user] = bandit.epochs[epoch - 1].cells[arm]
        users.since[user] = since
    for outcomes, pairs in zip(users.outcomes, held["outcomes"], strict=True):
        outcomes.update((user, tuple(y) if isinstance(y, list) else y) for user, y in pairs)
    users.recorded.update(((request, metric), Recorded(*rest)) for request, metric, *rest in held["recorded"])
    return bandit
