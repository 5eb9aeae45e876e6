"""The values of a store one by one, in temporary tables over its columns of text, and back.

`sums`, `outcomes`, `visits` and `rewards` are then tables with a row for each value, which a test can read, and spoil,
in SQL; floats are those of the store to the last bit, which SQLite's own reading of JSON does not promise.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from bandit.rewards import RETURNED
from server.one_row_per_call import copy_rewards, copy_sums, copy_users
from server.schema import TERMS

_TABLES = {
    "sums": ("experiment", "epoch", "arm", "measure", "shard", *TERMS),
    "outcomes": ("experiment", "user_id", "measure", "calls", "total", "first"),
    "visits": ("experiment", "user_id", "measure", "number", "place", "calls", "total", "first"),
    "rewards": (
        "experiment", "request_id", "metric", "revision", "user_id", "value", "at", "epoch", "arm", "reason", "firsts",
    ),
}  # fmt: skip
_NAMED = re.compile(rf"(?<!main\.)\b({'|'.join(_TABLES)})\b")


def needs_unpacking(sql: str) -> bool:
    """Whether a statement is about one of the tables; `main.rewards` is the store's own one."""
    return _NAMED.search(sql) is not None


def unpack(db: sqlite3.Connection) -> None:
    """Make the tables."""
    for table, columns in _TABLES.items():
        db.execute(f"CREATE TEMP TABLE {table} ({', '.join(columns)})")
        places = ", ".join("?" * len(columns))
        db.executemany(f"INSERT INTO temp.{table} VALUES ({places})", list(_ROWS[table](db)))  # noqa: S608


def pack(db: sqlite3.Connection) -> None:
    """Write what the tables hold into the store, and drop them."""
    db.execute("UPDATE assignments SET outcomes = NULL, visits = NULL, last_reward = 0")
    db.execute("UPDATE cells SET sums = '[]'")
    db.execute("DELETE FROM main.rewards")
    db.execute("ALTER TABLE temp.rewards RENAME TO rewards_before")
    copy_users(db)
    copy_sums(db, TERMS)
    copy_rewards(db)
    for table in ("sums", "outcomes", "visits", "rewards_before"):
        db.execute(f"DROP TABLE temp.{table}")


@contextmanager
def opened(path: Path, sql: str) -> Iterator[sqlite3.Connection]:
    """Open a store for reading, with the tables if a statement is about them."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN")
        if needs_unpacking(sql):
            unpack(db)
        yield db
        db.execute("ROLLBACK")


def spoil(path: Path, *statements: str) -> None:
    """Change a store by SQL; each statement has to change something."""
    with closing(sqlite3.connect(path)) as db, db:
        tables = any(map(needs_unpacking, statements))
        if tables:
            unpack(db)
        for statement in statements:
            assert db.execute(statement).rowcount > 0, "nothing was changed"
        if tables:
            pack(db)


def _sums(db: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    for *place, shard, text in db.execute("SELECT experiment, epoch, arm, shard, sums FROM cells"):
        for measure, row in enumerate(json.loads(text)):
            if row:
                yield *place, measure, shard, *row, *[None] * (len(TERMS) - len(row))


def _outcomes(db: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    users = db.execute("SELECT experiment, user_id, outcomes FROM assignments WHERE outcomes IS NOT NULL")
    for *user, text in users:
        for measure, state in json.loads(text).items():
            yield *user, int(measure), *_state(state)


def _visits(db: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    for *user, text in db.execute("SELECT experiment, user_id, visits FROM assignments WHERE visits IS NOT NULL"):
        for measure, (number, place, state) in json.loads(text).items():
            yield *user, int(measure), number, place, *_state(state)


def _rewards(db: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    calls = db.execute(
        "SELECT r.experiment, r.request_id, r.user_id, r.at, r.metrics, a.epoch, a.arm FROM main.rewards r"
        " LEFT JOIN assignments a ON r.previous IS NOT NULL AND a.experiment = r.experiment AND a.user_id = r.user_id"
        " ORDER BY r.n"
    )
    for experiment, request, user, at, text, *place in calls:
        for metric, (value, reason, firsts, revision) in json.loads(text).items():
            counted = place if reason in (None, RETURNED) else (None, None)
            yield experiment, request, metric, revision, user, value, at, *counted, reason, firsts


def _state(state: float | list[float]) -> list[float]:
    return state if isinstance(state, list) else [1, state, state]


_ROWS = {"sums": _sums, "outcomes": _outcomes, "visits": _visits, "rewards": _rewards}
