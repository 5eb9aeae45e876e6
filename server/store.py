"""The store: experiments, assignments and rewards in one SQLite file.

`Store` is the only writer's way in and speaks of experiments, users and rewards. All rows of one experiment are
changed only inside a transaction that began with `begin`, so what was read in it still holds when it commits.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bandit import Experiment, parse_json
from bandit.events import Event
from bandit.measures import Measure, measures_of
from bandit.outcomes import Outcome
from bandit.ramp import Ramp
from bandit.rewards import Recorded
from bandit.saved import SavedCell, SavedEpoch, SavedState
from server import constraints, interactions
from server.columns import counts_from, outcomes_from, sums_from, values_from
from server.constraints import RAMP, Constraints, ramp_of, ramp_row
from server.schema import TERMS, Synchronous, connect, prepare

BUSY_SECONDS = 0.1
"""How long one attempt to begin a transaction waits: shorter than the time limit of `choose`."""

SHARD = 0
"""Ledger rows of this process; SQLite has one writer at a time, so one row per cell is enough."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An experiment as it is stored, without its users.

    Attributes:
        id: Its number in this store.
        version: Raised by every transaction that changes the experiment.
        experiment: The declaration, with its salt and the present configurations.
        saved: Its state and ledger.
        created_at: Times in seconds since 1970; None: has not happened.
        started_at: First start.
        stopped_at: The stop.
    """

    id: int
    version: int
    experiment: Experiment
    saved: SavedState
    created_at: float
    started_at: float | None
    stopped_at: float | None


@dataclass(slots=True)
class Changes:
    """What one batch changed in one experiment; ledger rows are new absolute values."""

    state: str
    serve: int
    truncated: bool
    now: float
    origins: list[float | None]
    ramp: Ramp
    started_at: float | None
    stopped_at: float | None
    stored: Constraints
    """As they are stored."""
    constraints: Constraints
    """As they are now."""
    events: list[Event]
    """Those that are not stored yet."""
    structural: bool = True
    """Whether more changed than counts and sums."""
    definition: str | None = None
    """The declaration as JSON text where it is another one than the stored one."""
    assignments: list[tuple[str, int, int, float]] = field(default_factory=list)
    """User, epoch, arm, time."""
    moved: list[tuple[str, float]] = field(default_factory=list)
    """User, time."""
    rewards: list[tuple[int, str, int, str, float, int | None, str]] = field(default_factory=list)
    """Number, request, part, user, time, number of the user's call before, values."""
    rewarded: list[tuple[str, int, str | None]] = field(default_factory=list)
    """User, number of the last call, outcomes."""
    visits: list[tuple[str, str | None]] = field(default_factory=list)
    """User, visits."""
    cells: list[tuple[int, int, int, int, str]] = field(default_factory=list)
    """Epoch, arm, assigned, moved, sums."""
    interactions: list[interactions.Row] = field(default_factory=list)
    """New interactions."""
    returning: list[tuple[int, int, int, int, list[float]]] = field(default_factory=list)
    """Epoch, arm, measure, window, sums."""
    waiting: list[tuple[int, int, int, int, int, list[float]]] = field(default_factory=list)
    """Epoch, arm, measure, window, moment, sums."""
    values: list[tuple[str, int, str]] = field(default_factory=list)
    """Metric, arm, calls by bucket."""
    counted_upto: int | None = None
    """Visits that waited for a moment up to this one do so no more; None: as before."""
    new_epochs: list[tuple[int, str, int, float, float | None, float | None]] = field(default_factory=list)
    """Epoch, probabilities, learned epochs, started, ended, closed."""
    epoch_times: list[tuple[float | None, float | None, int]] = field(default_factory=list)
    """Ended, closed, epoch."""


@dataclass(frozen=True, slots=True)
class News:
    """What other processes counted in one experiment; rows are new absolute values, as in `Changes`.

    Attributes:
        version: Of the experiment.
        now: The latest time.
        cells: Epoch, arm, assigned, moved.
        sums: (Epoch, arm, measure) and sums.
        returning: (Epoch, arm, measure, window) and sums.
        waiting: (Epoch, arm, measure, window, moment) and sums.
        values: Metric, arm, bucket, calls: all of an arm where one has changed.
    """

    version: int
    now: float
    cells: list[tuple[int, int, int, int]]
    sums: list[tuple[tuple[int, ...], list[float]]]
    returning: list[tuple[tuple[int, ...], list[float]]]
    waiting: list[tuple[tuple[int, ...], list[float]]]
    values: list[tuple[str, int, int, int]]


def _row(into: str, *columns: str) -> str:
    """Return the statement that puts a row into a table; columns in the order of its values."""
    return f"{into} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


_USER = "WHERE experiment = ?1 AND user_id = ?2"
_ASSIGNMENT = _row("INSERT INTO assignments", "experiment", "user_id", "epoch", "arm", "at")
_REWARDED = f"UPDATE assignments SET last_reward = ?3, outcomes = ?4 {_USER}"  # noqa: S608 - our own names
_VISITS = f"UPDATE assignments SET visits = ?3 {_USER}"  # noqa: S608 - our own names
_MOVED = f"UPDATE assignments SET moved_at = ?3 {_USER}"  # noqa: S608 - our own names
_REWARD = _row("INSERT INTO rewards", "experiment", "n", "request_id", "part", "user_id", "at", "previous", "metrics")
_PLACE = ("experiment", "version", "epoch", "arm", "shard")
_CELL = (
    _row("INSERT INTO cells", *_PLACE, "assigned", "moved", "sums")
    + " ON CONFLICT DO UPDATE SET version = excluded.version,"
    " assigned = excluded.assigned, moved = excluded.moved, sums = excluded.sums"
)
_AGAIN = ("measure", "visit_window")
_RETURNING = _row("REPLACE INTO returning_sums", *_PLACE, *_AGAIN, *TERMS)
_WAITING = _row("REPLACE INTO waiting_sums", *_PLACE, *_AGAIN, "moment", *TERMS)
_CALL_VALUES = _row("REPLACE INTO call_values", "experiment", "version", "metric", "arm", "counts")
_TIMES = ("started_at", "ended_at", "closed_at")
_EPOCH = _row("INSERT INTO epochs", "experiment", "epoch", "probabilities", "learned_epochs", *_TIMES)
_PLACES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_PADDING = (None,) * len(TERMS)


class User(NamedTuple):
    """An assigned user, as stored.

    Attributes:
        user_id: Who.
        epoch: Number of the epoch that assigned the user.
        arm: The arm drawn.
        since: When, seconds since 1970.
        moved: Since when the user is moved, or None.
        last_reward: Number of the user's last call of `/reward`, 0 if there was none.
        outcomes: The outcome states as text, or None.
        visits: The latest visits as text, or None.
    """

    user_id: str
    epoch: int
    arm: int
    since: float
    moved: float | None
    last_reward: int
    outcomes: str | None
    visits: str | None


class Store:
    """The writer's connection.

    Args:
        path: The file; made, or brought up to date, if need be.
        synchronous: When a commit is safe.
    """

    def __init__(self, path: Path, synchronous: Synchronous = "full") -> None:
        prepare(path)
        self.path = path
        self.synchronous = synchronous
        self.db = connect(path, BUSY_SECONDS, synchronous)
        self.db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()  # the log is there from the first reading on
        self._files = path, path.with_name(path.name + "-wal")
        self._place = self._identity()
        self._last_reward: int | None = None

    # Transactions

    def begin(self) -> None:
        """Begin a transaction that may write; raises `sqlite3.OperationalError` while another process does.

        Also if file or log are not those that were opened: what is written to them then is lost.
        """
        self.rollback()  # an earlier one whose own rollback failed
        self._last_reward = None
        if self._identity() != self._place:
            raise sqlite3.OperationalError(
                f"'{self.path}' or its write-ahead log was moved, replaced or deleted; put it back, or restart"
            )
        self.db.execute("BEGIN IMMEDIATE")

    def _identity(self) -> list[tuple[int, int]] | None:
        """Return what file and log are to the system; None: one of them is not there."""
        try:
            both = [file.stat() for file in self._files]
        except OSError:
            return None
        return [(each.st_dev, each.st_ino) for each in both]

    def commit(self) -> None:
        """Make everything since `begin` durable."""
        self.db.execute("COMMIT")

    def rollback(self) -> None:
        """Undo everything since `begin`."""
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")

    def probe(self) -> None:
        """Raise `sqlite3.Error` unless the file can be written: write something that changes nothing."""
        self.begin()
        try:
            version = int(self.db.execute("PRAGMA user_version").fetchone()[0])
            self.db.execute(f"PRAGMA user_version = {version}")
            self.commit()
        finally:
            self.rollback()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read what belongs together as of one moment, without a lock."""
        self.rollback()
        self.db.execute("BEGIN")
        try:
            yield
        finally:
            self.rollback()

    def close(self) -> None:
        """Put the write-ahead log into the file and close it."""
        with suppress(sqlite3.Error):  # the log may as well stay: the next start reads it
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.db.close()

    # Experiments

    def foreign_changes(self) -> int:
        """Return a number that differs after another connection has changed the file."""
        return int(self.db.execute("PRAGMA data_version").fetchone()[0])

    def versions(self) -> dict[str, int]:
        """Return the version of every experiment by its key."""
        return dict(self.db.execute("SELECT key, version FROM experiments"))

    def news(self, experiment: int, since: int, closed: int) -> News | None:
        """Return what other processes counted after a version; None: more than counts and sums changed.

        Args:
            experiment: Its number.
            since: The version.
            closed: How many epochs are closed, from the first one on. In these nothing but moves is counted.
        """
        row = self.db.execute("SELECT version, structure, now FROM experiments WHERE id = ?", (experiment,)).fetchone()
        if row is None or row[1] > since:
            return None
        place = (experiment, since)
        cells = self.db.execute(
            "SELECT epoch, arm, assigned, moved, sums FROM cells WHERE experiment = ?1 AND epoch > ?3 AND version > ?2"
            " UNION ALL SELECT epoch, arm, assigned, moved, sums FROM cells INDEXED BY moved_cells_by_version"
            " WHERE experiment = ?1 AND version > ?2 AND moved > 0 AND epoch <= ?3",
            (*place, closed),
        ).fetchall()

        def sums(table: str, *names: str) -> list[tuple[tuple[int, ...], list[float]]]:
            columns, n = ", ".join((*names, *TERMS)), len(names)
            rows = self.db.execute(f"SELECT {columns} FROM {table} WHERE experiment = ? AND version > ?", place)  # noqa: S608 - our own names
            return [(row[:n], [float(term) for term in row[n:] if term is not None]) for row in rows]

        return News(
            row[0],
            float(row[2]),
            [tuple(row[:4]) for row in cells],
            [
                ((epoch, arm, measure), row)
                for epoch, arm, *_, text in cells
                for measure, row in enumerate(sums_from(text))
                if row
            ],
            sums("returning_sums", "epoch", "arm", "measure", "visit_window"),
            sums("waiting_sums", "epoch", "arm", "measure", "visit_window", "moment"),
            _call_values(self.db, *place),
        )

    def version(self, key: str) -> int | None:
        """Return the version of an experiment, None if there is none."""
        row = self.db.execute("SELECT version FROM experiments WHERE key = ?", (key,)).fetchone()
        return None if row is None else int(row[0])

    def load(self, key: str) -> Stored | None:
        """Return a stored experiment, None if there is none."""
        return load(self.db, key)

    def create(self, experiment: Experiment, saved: SavedState, now: float) -> None:
        """Store a new experiment as a draft."""
        self.db.execute(
            "INSERT INTO experiments (key, definition, state, serve, truncated, now, origins, version, created_at,"  # noqa: S608 - our own names
            f" {', '.join(RAMP)}) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?)",
            (
                experiment.key, experiment.to_json(), saved.state, saved.serve, int(saved.truncated), saved.now,
                json.dumps(saved.origins), now, *ramp_row(saved.ramp),
            ),
        )  # fmt: skip

    # Users

    def user(self, experiment: int, user_id: str) -> User | None:
        """Return an assigned user, or None."""
        return next(self.users(experiment, [user_id]), None)

    def users(self, experiment: int, users: Sequence[str]) -> Iterator[User]:
        """Yield those of these users who are assigned."""
        return map(User._make, self._among(
            "SELECT user_id, epoch, arm, at, moved_at, last_reward, outcomes, visits FROM assignments"
            " WHERE experiment = ? AND user_id IN ",
            experiment, users,
        ))  # fmt: skip

    def outcomes_of_cell(self, experiment: int, epoch: int, arm: int) -> Iterator[tuple[str, int, Outcome]]:
        """Yield the outcomes of all users of an (epoch, arm) as (user, measure, state)."""
        rows = self.db.execute(
            "SELECT user_id, outcomes FROM assignments INDEXED BY assignments_by_cell"
            " WHERE experiment = ? AND epoch = ? AND arm = ? AND outcomes IS NOT NULL",
            (experiment, epoch, arm),
        )
        return ((user, measure, outcome) for user, text in rows for measure, outcome in outcomes_from(text).items())

    def recorded(self, experiment: int, requests: Sequence[str]) -> Iterator[tuple[str, int, dict[str, Recorded]]]:
        """Yield the calls stored under request ids as (request id, part, what by metric), in any order."""
        found = self._among(
            "SELECT request_id, part, user_id, metrics FROM rewards WHERE experiment = ? AND request_id IN ",
            experiment, requests,
        )  # fmt: skip
        return ((request, part, values_from(user, text)) for request, part, user, text in found)

    def interactions(self, experiment: int, requests: Sequence[str]) -> Mapping[str, interactions.Known]:
        """Return those of these requests that are stored interactions."""
        return interactions.known(self._among(
            "SELECT request_id, user_id, arm, reason, digest FROM interactions"
            " WHERE experiment = ? AND request_id IN ",
            experiment, requests,
        ))  # fmt: skip

    def next_reward(self) -> int:
        """Return the number of another call of `/reward`, which is to be stored in this transaction."""
        if self._last_reward is None:
            self._last_reward = int(self.db.execute("SELECT coalesce(max(n), 0) FROM rewards").fetchone()[0])
        self._last_reward += 1
        return self._last_reward

    def _among(self, sql: str, experiment: int, ids: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query for ids; the numbers of places are few, so that statements stay prepared."""
        for first in range(0, len(ids), _PLACES[-1]):
            some = list(ids[first : first + _PLACES[-1]])
            places = next(n for n in _PLACES if n >= len(some))
            some += some[:1] * (places - len(some))
            yield from self.db.execute(f"{sql}({', '.join('?' * places)})", (experiment, *some))

    # Writing

    def write(self, experiment: int, version: int, changes: Changes) -> None:
        """Write what a batch changed.

        Args:
            experiment: Its number.
            version: The one that it has then.
            changes: What changed.
        """
        many, db, place = self.db.executemany, self.db, (experiment, version)
        for sql, of_users in (
            (_ASSIGNMENT, changes.assignments), (_MOVED, changes.moved), (_REWARD, changes.rewards),
            (_REWARDED, changes.rewarded), (_VISITS, changes.visits), (interactions.INSERT, changes.interactions),
        ):  # fmt: skip
            if of_users:
                many(sql, [(experiment, *row) for row in of_users])
        many(_CELL, [(*place, epoch, arm, SHARD, *rest) for epoch, arm, *rest in changes.cells])
        for sql, rows in ((_RETURNING, changes.returning), (_WAITING, changes.waiting)):
            many(
                sql,
                [(*place, epoch, arm, SHARD, *key, *sums, *_PADDING[len(sums) :]) for epoch, arm, *key, sums in rows],
            )
        many(_CALL_VALUES, [(*place, *row) for row in changes.values])
        if changes.counted_upto is not None:
            db.execute(
                "DELETE FROM waiting_sums WHERE experiment = ? AND moment <= ?", (experiment, changes.counted_upto)
            )
        many(_EPOCH, [(experiment, *row) for row in changes.new_epochs])
        for ended_at, closed_at, epoch in changes.epoch_times:
            db.execute(
                "UPDATE epochs SET ended_at = ?, closed_at = ? WHERE experiment = ? AND epoch = ?",
                (ended_at, closed_at, experiment, epoch),
            )
        constraints.write(db, experiment, changes.stored, changes.constraints, changes.events)
        if changes.definition is not None:
            db.execute("UPDATE experiments SET definition = ? WHERE id = ?", (changes.definition, experiment))
        db.execute(
            "UPDATE experiments SET state = ?, serve = ?, truncated = ?, now = ?, origins = ?, started_at = ?,"  # noqa: S608 - our own names
            f" stopped_at = ?, {', '.join(f'{name} = ?' for name in RAMP)}, version = ?,"
            " structure = CASE WHEN ? THEN ? ELSE structure END WHERE id = ?",
            (
                changes.state, changes.serve, int(changes.truncated), changes.now, json.dumps(changes.origins),
                changes.started_at, changes.stopped_at, *ramp_row(changes.ramp), version,
                changes.structural, version, experiment,
            ),
        )  # fmt: skip

    # Retention

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what the block writes durable at its end; if it fails nothing of it has happened."""
        self.begin()
        try:
            yield
            self.commit()
        finally:
            self.rollback()

    def epoch(self, experiment: int, number: int, declared: Experiment) -> SavedEpoch:
        """Return one epoch of an experiment with its ledger.

        Args:
            experiment: Number of the experiment.
            number: Number of the epoch, which exists.
            declared: The experiment.
        """
        place, measures = (experiment, number), measures_of(declared)
        probabilities, learned, started_at, ended_at, closed_at = self.db.execute(
            "SELECT probabilities, learned_epochs, started_at, ended_at, closed_at FROM epochs"
            " WHERE experiment = ? AND epoch = ?",
            place,
        ).fetchone()
        counts = {
            arm: row
            for arm, *row in self.db.execute(
                "SELECT arm, assigned, moved, sums FROM cells WHERE experiment = ? AND epoch = ? AND shard = ?",
                (*place, SHARD),
            )
        }
        cells = [_cell(measures, *counts.get(arm, _NOBODY)) for arm in range(declared.n_arms)]

        def sums(table: str, *names: str) -> Iterator[tuple[int, list[int], list[float]]]:
            for arm, *row in self.db.execute(
                f"SELECT arm, {', '.join((*names, *TERMS))} FROM {table}"  # noqa: S608 - our own names
                " WHERE experiment = ? AND epoch = ? AND shard = ?",
                (*place, SHARD),
            ):
                yield arm, row[: len(names)], [float(term) for term in row[len(names) :] if term is not None]

        for arm, (measure, window), row in sums("returning_sums", "measure", "visit_window"):
            cells[arm].returning.append((measure, window, row))
        for arm, (measure, window, moment), row in sums("waiting_sums", "measure", "visit_window", "moment"):
            cells[arm].waiting.append((measure, window, moment, row))
        return SavedEpoch(json.loads(probabilities), learned, started_at, ended_at, closed_at, cells)


def load(db: sqlite3.Connection, key: str) -> Stored | None:
    """Return a stored experiment, None if there is none; to be called inside one transaction."""
    row = db.execute(
        "SELECT id, version, definition, state, serve, truncated, now, origins, created_at, started_at, stopped_at,"  # noqa: S608 - our own names
        f" {', '.join(RAMP)} FROM experiments WHERE key = ?",
        (key,),
    ).fetchone()
    if row is None:
        return None
    number, version, definition, state, serve, truncated, now, origins, created_at, started_at, stopped_at, *ramp = row
    experiment = parse_json(definition)
    held = constraints.load(db, number, experiment)
    saved = SavedState(
        state,
        serve,
        bool(truncated),
        _float(now),
        [_float(origin) for origin in json.loads(origins)],
        _epochs(db, number, experiment),
        held.generations,
        ramp_of(*ramp),
        held.forced,
        held.states,
        held.events,
        _call_values(db, number, since=0),
    )
    return Stored(number, version, experiment, saved, float(created_at), _float(started_at), _float(stopped_at))


def _call_values(db: sqlite3.Connection, number: int, since: int) -> list[tuple[str, int, int, int]]:
    rows = db.execute(
        "SELECT metric, arm, counts FROM call_values WHERE experiment = ? AND version > ?", (number, since)
    )
    return [(metric, arm, bucket, n) for metric, arm, text in rows for bucket, n in counts_from(text).items()]


def _epochs(db: sqlite3.Connection, number: int, experiment: Experiment) -> list[SavedEpoch]:
    measures = measures_of(experiment)
    counts = {
        (epoch, arm): row
        for epoch, arm, *row in db.execute(
            "SELECT epoch, arm, assigned, moved, sums FROM cells WHERE experiment = ? AND shard = ?", (number, SHARD)
        )
    }

    returning: dict[tuple[int, int], list[tuple[int, int, list[float]]]] = {}
    for epoch, arm, measure, window, *terms in db.execute(
        f"SELECT epoch, arm, measure, visit_window, {', '.join(TERMS)} FROM returning_sums"  # noqa: S608 - our own names
        " WHERE experiment = ? AND shard = ?",
        (number, SHARD),
    ):
        row = [float(term) for term in terms[: measures[measure].width]]
        returning.setdefault((epoch, arm), []).append((measure, window, row))
    waiting: dict[tuple[int, int], list[tuple[int, int, int, list[float]]]] = {}
    for epoch, arm, measure, window, moment, *terms in db.execute(
        f"SELECT epoch, arm, measure, visit_window, moment, {', '.join(TERMS)} FROM waiting_sums"  # noqa: S608 - our own names
        " WHERE experiment = ? AND shard = ?",
        (number, SHARD),
    ):
        row = [float(term) for term in terms[: measures[measure].width]]
        waiting.setdefault((epoch, arm), []).append((measure, window, moment, row))

    def cell(epoch: int, arm: int) -> SavedCell:
        saved = _cell(measures, *counts.get((epoch, arm), _NOBODY))
        saved.returning.extend(returning.get((epoch, arm), []))
        saved.waiting.extend(waiting.get((epoch, arm), []))
        return saved

    epochs = db.execute(
        "SELECT epoch, probabilities, learned_epochs, started_at, ended_at, closed_at FROM epochs"
        " WHERE experiment = ? ORDER BY epoch",
        (number,),
    )
    return [
        SavedEpoch(
            json.loads(probabilities), learned, float(started), _float(ended), _float(closed),
            [cell(epoch, arm) for arm in range(experiment.n_arms)],
        )
        for epoch, probabilities, learned, started, ended, closed in epochs
    ]  # fmt: skip


_NOBODY = (0, 0, "[]")


def _cell(measures: Sequence[Measure], assigned: int, moved: int, text: str) -> SavedCell:
    sums = [[0.0] * measure.width for measure in measures]
    for measure, row in enumerate(sums_from(text)):
        if row and len(row) != len(sums[measure]):
            raise ValueError(f"measure {measure} has {len(row)} sums, and {len(sums[measure])} terms")
        sums[measure] = row or sums[measure]
    return SavedCell(assigned, moved, sums, [], [])


def _float(value: float | None) -> float | None:
    # SQLite may give a REAL that holds a whole number back as an integer.
    return None if value is None else float(value)
