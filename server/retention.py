"""Raw rows are dropped when they are old; what they were summed into stays.

    cell closed long ago ─► recounted ─► sealed: its sums are copied to the base ─► its users' old rows are dropped

The unit is the cell (epoch, arm), because the sums of a closed one are final: copied whole, they are equal to the
ledger to the last bit, for ever. A cell whose rows do not make its sums is left as it is, and the log says so.

Interactions go as they are: nothing is summed from them, and what they said of metrics is in rows of rewards.

Nothing can count twice: a value whose row is gone comes after its user's window, and that is looked at before anything
else, so it is `late`. Guardrails with an absolute `max` do look at later windows, and there a value that comes again
would be a further one. So what such a guardrail reads (rows of its metric, users' visits) stays until the experiment is
stopped; after that nobody looks at later windows either, and they are sealed as well.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import zip_longest
from typing import NamedTuple

from bandit import parse_json
from bandit.saved import SavedCell
from server.columns import values_from, values_text
from server.differences import Differences
from server.recount import CALLS, USERS, Recount
from server.schema import TERMS
from server.store import Store
from server.user_rows import Rules
from server.verify import sums_to_seal

ROWS = 500
"""Users and calls whose rows are changed in one transaction, about."""

AGAIN = 0.25
"""Part of the time that rows are kept after which a cell is looked at again, for late rows and for a stop."""

REST = 60.0
"""Seconds until the next look when there was nothing to do, at most."""

log = logging.getLogger("bandit.server")

_DUE = """
SELECT c.experiment, c.epoch, c.arm, s.whole
  FROM experiments x
  JOIN epochs e ON e.experiment = x.id
  JOIN cells c ON c.experiment = x.id AND c.epoch = e.epoch
  LEFT JOIN sealed_cells s ON s.experiment = c.experiment AND s.epoch = c.epoch AND s.arm = c.arm
 WHERE coalesce(e.closed_at, CASE WHEN x.truncated THEN x.stopped_at END) <= :old
   AND (s.swept_at IS NULL OR s.swept_at <= :again)
"""
_EARLIER = (
    "SELECT n, metrics FROM rewards INDEXED BY rewards_of_nobody"
    " WHERE experiment = ? AND user_id = ? AND previous IS NULL AND at <= ?"
)
_OLD_INTERACTION = "SELECT 1 FROM (SELECT at FROM interactions ORDER BY n LIMIT 1) WHERE at <= ?"
_OLD_INTERACTIONS = (
    "SELECT experiment, n FROM (SELECT experiment, n, at FROM interactions ORDER BY n LIMIT ?2) WHERE at <= ?1"
)
_BASE = (
    "INSERT INTO base_sums (experiment, epoch, arm, measure, visit_window, "  # noqa: S608 - our own names
    f"{', '.join(TERMS)}) VALUES (?, ?, ?, ?, ?{', ?' * len(TERMS)})"
)
_STATE = "SELECT whole FROM sealed_cells WHERE experiment = ? AND epoch = ? AND arm = ?"
_SEAL = "REPLACE INTO sealed_cells (experiment, epoch, arm, whole, swept_at) VALUES (?, ?, ?, ?, NULL)"
_SWEPT = "UPDATE sealed_cells SET swept_at = ? WHERE experiment = ? AND epoch = ? AND arm = ? AND whole = ?"


class _Cell(NamedTuple):
    """A cell by its place, and how far it is sealed: None: not; 0: users' first windows; 1: all windows."""

    experiment: int
    epoch: int
    arm: int
    sealed: int | None


class Retention:
    """Drops what is old, a little at each step, so that requests wait for milliseconds only.

    An epoch that was open when its experiment was stopped at once never closes; for it the stop counts.

    Args:
        store: The writer's; used by its thread.
        seconds: How long rows are kept after their users' epoch has closed.
    """

    def __init__(self, store: Store, seconds: float) -> None:
        self._store = store
        self._seconds = seconds
        self._work: Iterator[None] = iter(())
        self._next_look = float("-inf")
        self._refused: set[_Cell] = set()

    def step(self, now: float) -> bool:
        """Do the next piece of work; return whether there was any.

        Args:
            now: Seconds since 1970.

        Raises:
            sqlite3.Error: The store does not work now, or is busy; the piece has not happened.
        """
        for _ in self._work:
            return True
        if now < self._next_look:
            return False
        if self._drop_interactions(now):
            return True
        cell = self._due(now)
        if cell is None:
            self._next_look = now + min(REST, self._seconds * AGAIN)
            return False
        self._work = self._fold(cell, now)
        return True

    def _drop_interactions(self, now: float) -> bool:
        """Drop old interactions, which nothing is summed from; return whether there were any."""
        old = (now - self._seconds, ROWS)
        if self._store.db.execute(_OLD_INTERACTION, old[:1]).fetchone() is None:
            return False
        with self._store.transaction():
            dropped = self._store.db.execute(_OLD_INTERACTIONS, old).fetchall()
            for table in ("judgements", "labels", "interactions"):
                self._store.db.executemany(f"DELETE FROM {table} WHERE experiment = ? AND n = ?", dropped)  # noqa: S608 - our own names
        return True

    def _due(self, now: float) -> _Cell | None:
        """Return a cell with something to do; None: there is none."""
        times = {"old": now - self._seconds, "again": now - self._seconds * AGAIN}
        with closing(self._store.db.execute(_DUE, times)) as rows:
            return next((cell for cell in map(_Cell._make, rows) if cell not in self._refused), None)

    def _fold(self, cell: _Cell, now: float) -> Iterator[None]:
        try:
            yield from self._seal_and_sweep(cell, now)
        except sqlite3.Error:
            raise
        except Exception:  # rows that nobody can make sense of; those of other cells are not to wait for them
            log.exception("old rows of epoch %d of experiment no. %d are kept", cell.epoch, cell.experiment)
            self._refused.add(cell)

    def _seal_and_sweep(self, cell: _Cell, now: float) -> Iterator[None]:
        old, db = now - self._seconds, self._store.db
        key, definition, origins, stopped_at = db.execute(
            "SELECT key, definition, origins, stopped_at FROM experiments WHERE id = ?", cell[:1]
        ).fetchone()
        experiment = parse_json(definition)
        rules = Rules(cell.experiment, experiment, json.loads(origins))
        whole = cell.sealed == 1 or not rules.watched or (stopped_at is not None and stopped_at <= old)
        if cell.sealed is None or cell.sealed < whole:
            found = Differences()
            read = partial(self._store.epoch, cell.experiment, cell.epoch, experiment)
            epoch = read().restored(experiment, cell.epoch, rules.measures)
            recount = Recount(rules, epoch, cell.arm, found, first=cell.sealed is None, later=whole)
            while recount.read_page(db):
                yield
            with self._store.transaction():
                (sealed,) = db.execute(_STATE, cell[:3]).fetchone() or (None,)
                if sealed != cell.sealed:
                    return  # another process was quicker, and may have dropped what was to be counted here
                ledger = read().cells[cell.arm]
                recount.check_sums(ledger)
                if not found.total:
                    self._seal(cell, ledger, whole=whole)
            if found.total:
                log.error(
                    "old rows of epoch %d of experiment '%s' are kept, because they do not make its sums;"
                    " `bandit-server verify` says more", cell.epoch, key,
                )  # fmt: skip
                self._refused.add(cell)
                return
            yield
        yield from self._sweep(cell, frozenset() if whole else rules.read_later, old, with_visits=whole)
        with self._store.transaction():
            db.execute(_SWEPT, (now, *cell[:3], int(whole)))

    def _seal(self, cell: _Cell, ledger: SavedCell, *, whole: bool) -> None:
        """Copy the sums of a cell to the base; those of first windows are there already if it was sealed before."""
        sums = sums_to_seal(ledger, first=cell.sealed is None, later=whole)
        rows = ((*cell[:3], *key, *row, *[None] * (len(TERMS) - len(row))) for key, row in sums.items())
        self._store.db.executemany(_BASE, rows)
        self._store.db.execute(_SEAL, (*cell[:3], int(whole)))

    def _sweep(self, cell: _Cell, kept: frozenset[str], old: float, *, with_visits: bool) -> Iterator[None]:
        """Drop the old calls of a sealed cell's users, and their outcomes.

        Args:
            cell: The cell.
            kept: Metrics whose values stay.
            old: Calls of before this time go.
            with_visits: Whether visits go too.
        """
        db, after, row = self._store.db, "", True
        forget = "outcomes = NULL, visits = NULL" if with_visits else "outcomes = NULL"
        while row is not None:
            with self._store.transaction():
                room = ROWS
                while room > 0:
                    next_one = (*cell[:3], after, 1)
                    row = db.execute(USERS, next_one).fetchone()
                    if row is None:
                        break
                    user, *_, last, _, _ = row
                    db.execute(
                        f"UPDATE assignments SET {forget} WHERE experiment = ? AND user_id = ?",  # noqa: S608 - our own names
                        (cell.experiment, user),
                    )
                    chain = [_Call(*call) for _, *call in db.execute(CALLS, next_one)] if last else []
                    n = _drop(db, chain, kept, old, room)
                    _drop_earlier(db, cell.experiment, user, kept, old)
                    if n < room:
                        after = user
                    room -= n + 1
            yield


class _Call(NamedTuple):
    """A call of `/reward` of a user."""

    n: int
    experiment: int
    user_id: str
    previous: int
    request: str
    part: int
    at: float
    metrics: str | None


def _drop(db: sqlite3.Connection, chain: Sequence[_Call], kept: frozenset[str], old: float, most: int) -> int:
    """Drop old calls of a user, or of their values those that are not kept; return how many calls that were.

    All parts of a request are treated at once, so that no correction is left without what it corrects. If the answer
    is less than `most`, nothing old is left.
    """
    aged = {call.request: list[_Call]() for call in chain if call.at <= old}
    for call in chain:
        if call.request in aged:
            aged[call.request].append(call)
    less: dict[int, _Call] = {}
    for calls in aged.values():
        fewer = [call._replace(metrics=_only(kept, call.user_id, call.metrics)) for call in calls]
        if fewer != calls:
            less |= {call.n: call for call in fewer}
            if len(less) >= most:
                break
    if not less:
        return 0
    left = [call for call in (less.get(call.n, call) for call in chain) if call.metrics is not None]
    linked = [call._replace(previous=before.n if before else 0) for call, before in zip_longest(left, left[1:]) if call]
    held = {call.n: call for call in chain}
    db.executemany("DELETE FROM rewards WHERE n = ?", [(n,) for n in held.keys() - {call.n for call in left}])
    db.executemany(
        "UPDATE rewards SET previous = ?, metrics = ? WHERE n = ?",
        [(call.previous, call.metrics, call.n) for call in linked if call != held[call.n]],
    )
    db.execute(
        "UPDATE assignments SET last_reward = ? WHERE experiment = ? AND user_id = ?",
        (left[0].n if left else 0, chain[0].experiment, chain[0].user_id),
    )
    return len(less)


def _drop_earlier(db: sqlite3.Connection, experiment: int, user_id: str, kept: frozenset[str], old: float) -> None:
    """Drop the same of what was sent of a user before they had a variant."""
    for n, metrics in db.execute(_EARLIER, (experiment, user_id, old)).fetchall():
        left = _only(kept, user_id, metrics)
        if left is None:
            db.execute("DELETE FROM rewards WHERE n = ?", (n,))
        elif left != metrics:
            db.execute("UPDATE rewards SET metrics = ? WHERE n = ?", (left, n))


def _only(kept: frozenset[str], user_id: str, metrics: str | None) -> str | None:
    """Return what is left of a call's values, None if nothing is."""
    if not kept or metrics is None:
        return None
    values = values_from(user_id, metrics)
    left = {metric: value for metric, value in values.items() if metric in kept}
    return metrics if len(left) == len(values) else values_text(left) if left else None
