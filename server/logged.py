"""Stored interactions, as they are read: page by page over HTTP, all of them for an export."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bandit import Bandit, InvalidInput, Problem
from bandit.wording import received
from server.judgements import judgements_of
from server.reading import restored, snapshot
from server.states import moment

_TOLD = (
    "variant_id", "model_name", "system_prompt_version", "latency_ms", "prompt_tokens", "completion_tokens",
    "safety_flag", "user_feedback_score", "cost_usd", "failed", "user_input", "model_output",
)  # fmt: skip
_TRUTHS = ("safety_flag", "failed")

FIELDS = (
    "number", "experiment", "request_id", "user_id", "created_at", "variant", "epoch", "propensity", "version",
    "reason", *_TOLD,
    "erased_at", "judgements",
)  # fmt: skip
"""Of an interaction, in the order in which they are written."""

TEXTS = ("user_input", "model_output")
"""Those of them that a person wrote or read."""

_ROWS = (
    f"SELECT n, request_id, user_id, at, epoch, arm, version, reason, {', '.join(_TOLD)}, erased_at FROM interactions"  # noqa: S608 - our own names
    " WHERE experiment = :experiment AND n > :after"
    " AND (:user_id IS NULL OR user_id = :user_id)"
    " AND (:arm IS NULL OR arm = :arm)"
    " AND (:counted IS NULL OR (epoch IS NOT NULL) = :counted)"
    " ORDER BY n LIMIT :limit"
)


class Wanted(NamedTuple):
    """Which interactions.

    Attributes:
        after: Those with a larger number.
        limit: So many at most; −1: all.
        user_id: Of this user alone.
        variant: That count for this variant alone.
        counted: True: that count for a variant; False: that count for none.
    """

    after: int = 0
    limit: int = -1
    user_id: str | None = None
    variant: str | None = None
    counted: bool | None = None


def page(path: Path, key: str, wanted: Wanted) -> dict[str, Any]:
    """Return interactions of an experiment, in the order of coming.

    Raises:
        UnknownExperiment: There is none with this key.
        InvalidInput: It has no such variant.
    """
    with snapshot(path) as db:
        found = list(interactions(db, key, wanted))
    return {"experiment": key, "interactions": found, "next": found[-1]["number"] if found else wanted.after}


def interactions(db: sqlite3.Connection, key: str, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """Yield interactions of an experiment with `FIELDS`, in the order of coming.

    Raises:
        UnknownExperiment: There is none with this key.
        InvalidInput: It has no such variant.
    """
    stored, bandit = restored(db, key)
    arms = bandit.experiment.arms
    if wanted.variant is not None and wanted.variant not in arms:
        raise InvalidInput([Problem("variant", f"received {received(wanted.variant)}, allowed: {', '.join(arms)}")])
    arm = None if wanted.variant is None else arms.index(wanted.variant)
    places = wanted._asdict() | {"experiment": stored.id, "arm": arm}
    rows = db.execute(_ROWS, places)
    return (_document(bandit, key, row) | {"judgements": judged(db, stored.id, row[0])} for row in rows)


def judged(db: sqlite3.Connection, experiment: int, number: int) -> list[dict[str, Any]]:
    """Return what judges said of an interaction, with times for people."""
    return [one | {"at": moment(one["at"])} for one in judgements_of(db, experiment, number)]


def _document(bandit: Bandit, key: str, row: tuple[Any, ...]) -> dict[str, Any]:
    number, request_id, user_id, at, epoch, arm, version, reason, *told, erased_at = row
    said = dict(zip(_TOLD, told, strict=True))
    said |= {name: bool(said[name]) for name in _TRUTHS if said[name] is not None}
    return {
        "number": number,
        "experiment": key,
        "request_id": request_id,
        "user_id": user_id,
        "created_at": moment(at),
        "variant": None if arm is None else bandit.experiment.arms[arm],
        "epoch": epoch,
        "propensity": None if epoch is None else bandit.epochs[epoch - 1].allocation.probabilities[arm],
        "version": version,
        "reason": reason,
        **said,
        "erased_at": moment(erased_at),
    }
