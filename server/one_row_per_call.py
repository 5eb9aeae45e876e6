"""Moves the rows of a store whose values had a row each into rows of users, of calls and of cells."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from bandit.rewards import Recorded
from bandit.users import Visit
from server.columns import outcomes_text, sums_text, values_text, visits_text

_CHUNK = 10_000
"""Rows that are in memory at a time."""

_OF_USER = itemgetter(0, 1)
_OF_CELL = itemgetter(0, 1, 2, 3)
_OF_CALL = itemgetter(0, 1, 2, 3, 4)


def copy_rewards(db: sqlite3.Connection) -> None:
    """Write calls in the order of time, each knowing the one before of its user.

    Args:
        db: Has the values in `rewards_before`, an empty `rewards`, and `assignments` with `last_reward`.
    """
    for call in _written(
        db, "INSERT INTO rewards (n, experiment, request_id, part, user_id, at, previous, metrics)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _calls(db),
    ):  # fmt: skip
        n, experiment, _, _, user, _, previous, _ = call
        if previous is not None:
            db.execute(
                "UPDATE assignments SET last_reward = ? WHERE experiment = ? AND user_id = ?", (n, experiment, user)
            )


def _calls(db: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """Yield rows of calls. Values that one transaction stored of a request are a call; a value comes once in it."""
    values = db.execute(
        "SELECT r.experiment, r.request_id, r.user_id, r.at, a.at, r.metric, r.value, r.reason, r.firsts, r.revision"
        " FROM rewards_before r LEFT JOIN assignments a ON a.experiment = r.experiment AND a.user_id = r.user_id"
        " ORDER BY r.at, r.experiment, r.request_id, r.revision, r.metric"
    )
    parts: dict[tuple[int, str], int] = {}
    last: dict[tuple[int, str], int] = {}
    n = 0
    for (experiment, request, user, at, since), group in groupby(values, key=_OF_CALL):
        calls: list[dict[str, Recorded]] = []
        for *_, metric, value, reason, firsts, revision in group:
            if not calls or metric in calls[-1]:
                calls.append({})
            calls[-1][metric] = Recorded(user, float(value), reason, firsts, revision)
        for call in calls:
            n += 1
            part = parts[experiment, request] = parts.get((experiment, request), -1) + 1
            previous = None
            if since is not None and since <= at:
                previous = last.get((experiment, user), 0)
                last[experiment, user] = n
            yield n, experiment, request, part, user, at, previous, values_text(call)


def copy_users(db: sqlite3.Connection) -> None:
    """Write outcomes and visits into the rows of users.

    Args:
        db: Has them in tables of their own, and `assignments` with columns for them.
    """
    for column, rows in (("outcomes", _outcomes(db)), ("visits", _visits(db))):
        for _ in _written(db, f"UPDATE assignments SET {column} = ? WHERE experiment = ? AND user_id = ?", rows):  # noqa: S608 - our own names
            pass


def copy_sums(db: sqlite3.Connection, terms: Sequence[str]) -> None:
    """Write sums into the rows of cells.

    Args:
        db: Has them in a table of their own, and `cells` with a column for them.
        terms: Names of that table's columns.
    """
    rows = db.execute(
        f"SELECT experiment, epoch, arm, shard, measure, {', '.join(terms)} FROM sums"  # noqa: S608 - our own names
        " ORDER BY experiment, epoch, arm, shard, measure"
    )
    for place, group in groupby(rows, key=_OF_CELL):
        sums: list[list[float]] = []
        for _, _, _, _, measure, *row in group:
            sums += [[] for _ in range(measure - len(sums))]
            sums.append([float(term) for term in row if term is not None])
        db.execute(
            "UPDATE cells SET sums = ? WHERE experiment = ? AND epoch = ? AND arm = ? AND shard = ?",
            (sums_text(sums), *place),
        )


def _outcomes(db: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    rows = db.execute(
        "SELECT experiment, user_id, measure, calls, total, first FROM outcomes ORDER BY experiment, user_id"
    )
    for (experiment, user), group in groupby(rows, key=_OF_USER):
        yield outcomes_text({measure: _state(*state) for _, _, measure, *state in group}), experiment, user


def _visits(db: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    rows = db.execute(
        "SELECT experiment, user_id, measure, number, place, calls, total, first FROM visits"
        " ORDER BY experiment, user_id"
    )
    for (experiment, user), group in groupby(rows, key=_OF_USER):
        visits = {measure: Visit(number, place, _state(*state)) for _, _, measure, number, place, *state in group}
        yield visits_text(visits), experiment, user


def _state(calls: int, total: float, first: float) -> float | tuple[int, float, float]:
    return float(total) if calls == 1 else (calls, float(total), float(first))


def _written(db: sqlite3.Connection, sql: str, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Write rows a chunk at a time, yielding each after it was written."""
    rows = iter(rows)
    while chunk := list(islice(rows, _CHUNK)):
        db.executemany(sql, chunk)
        yield from chunk
