"""Raw rows of an experiment as JSON lines or CSV, while a server works on the store."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any, Literal

from server import logged
from server.challenging import challenging
from server.columns import outcomes_from, values_from
from server.reading import outcome, restored
from server.schema import open_stored
from server.states import moment

What = Literal["interactions", "rewards", "assignments"]
MOST_CHALLENGING = 200
"""Interactions for an offline evaluation, unless another number is wanted."""
Format = Literal["jsonl", "csv"]

REWARDS = ("experiment", "request_id", "user_id", "at", "variant", "epoch", "metric", "value", "revision", "reason")
ASSIGNMENTS = ("experiment", "user_id", "variant", "epoch", "propensity", "at", "moved_at", "outcomes")


def export(path: Path, key: str, what: What, form: Format, out: IO[str], *, texts: bool = True) -> int:
    """Write rows of an experiment, as of one moment, and return how many.

    Args:
        path: The store.
        key: The experiment.
        what: Interactions; values of rewards, one by one; or assigned users with their outcomes.
        form: A JSON object on each line, or CSV with a header.
        out: Where they go; for CSV opened with `newline=""`.
        texts: Whether interactions have what users asked and were answered.

    Raises:
        StoreProblem: It is no store of this version.
        UnknownExperiment: There is none with this key.
    """
    with closing(open_stored(path)) as db:
        db.execute("BEGIN")
        fields, rows = _ROWS[what](db, key)
        if not texts:
            fields = tuple(field for field in fields if field not in logged.TEXTS)
        return _write(rows, fields, form, out)


def export_challenging(path: Path, key: str, limit: int, out: IO[str], *, identity: bool) -> int:
    """Write the interactions that teach most as JSON lines, and return how many.

    Args:
        path: The store.
        key: The experiment.
        limit: So many at most.
        out: Where they go.
        identity: Whether they say whose they are.

    Raises:
        StoreProblem: It is no store of this version.
        UnknownExperiment: There is none with this key.
    """
    with closing(open_stored(path)) as db:
        db.execute("BEGIN")
        found = challenging(db, key, limit, identity=identity)
    for one in found:
        out.write(json.dumps(one, ensure_ascii=False) + "\n")
    return len(found)


def _write(rows: Iterable[Mapping[str, Any]], fields: Sequence[str], form: Format, out: IO[str]) -> int:
    n = 0
    if form == "csv":
        writer = csv.writer(out)
        writer.writerow(fields)
        for row in rows:
            writer.writerow([_cell(row[field]) for field in fields])
            n += 1
        return n
    for row in rows:
        out.write(json.dumps({field: row[field] for field in fields}, ensure_ascii=False) + "\n")
        n += 1
    return n


def _cell(value: object) -> object:
    """Return a value as a cell of CSV: nothing for null, and a table as JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, dict | list) else value


def _interactions(db: sqlite3.Connection, key: str) -> tuple[Sequence[str], Iterator[Mapping[str, Any]]]:
    return logged.FIELDS, logged.interactions(db, key, logged.Wanted())


def _rewards(db: sqlite3.Connection, key: str) -> tuple[Sequence[str], Iterator[Mapping[str, Any]]]:
    stored, bandit = restored(db, key)
    rows = db.execute(
        "SELECT r.request_id, r.user_id, r.at, r.metrics, r.previous IS NOT NULL, a.epoch, a.arm"
        "  FROM rewards r LEFT JOIN assignments a ON a.experiment = r.experiment AND a.user_id = r.user_id"
        " WHERE r.experiment = ? ORDER BY r.n",
        (stored.id,),
    )

    def values() -> Iterator[Mapping[str, Any]]:
        for request_id, user_id, at, metrics, assigned, epoch, arm in rows:
            for metric, held in sorted(values_from(user_id, metrics).items()):
                counts = assigned and held.reason in (None, "returned")
                yield {
                    "experiment": key, "request_id": request_id, "user_id": user_id, "at": moment(at),
                    "variant": bandit.experiment.arms[arm] if counts else None, "epoch": epoch if counts else None,
                    "metric": metric, "value": held.value, "revision": held.revision, "reason": held.reason,
                }  # fmt: skip

    return REWARDS, values()


def _assignments(db: sqlite3.Connection, key: str) -> tuple[Sequence[str], Iterator[Mapping[str, Any]]]:
    stored, bandit = restored(db, key)
    rows = db.execute(
        "SELECT user_id, epoch, arm, at, moved_at, outcomes FROM assignments WHERE experiment = ? ORDER BY user_id",
        (stored.id,),
    )

    def users() -> Iterator[Mapping[str, Any]]:
        for user_id, epoch, arm, at, moved_at, outcomes in rows:
            yield {
                "experiment": key, "user_id": user_id, "variant": bandit.experiment.arms[arm], "epoch": epoch,
                "propensity": bandit.epochs[epoch - 1].allocation.probabilities[arm], "at": moment(at),
                "moved_at": moment(moved_at),
                "outcomes": [outcome(bandit.measures[slot], state) for slot, state in outcomes_from(outcomes).items()],
            }  # fmt: skip

    return ASSIGNMENTS, users()


_ROWS: Mapping[What, Callable[[sqlite3.Connection, str], tuple[Sequence[str], Iterator[Mapping[str, Any]]]]] = {
    "interactions": _interactions,
    "rewards": _rewards,
    "assignments": _assignments,
}
