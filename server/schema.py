"""The tables of a store, and how a file gets them: migrations, none of which loses what was stored."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Literal

from sqlite_utils import Database, Migrations

from server.errors import StoreProblem
from server.one_row_per_call import copy_rewards, copy_sums, copy_users

TERMS = ("n", "z", "z2", "z3", *(f"up_{i}" for i in range(1, 8)), *(f"down_{i}" for i in range(1, 8)))
"""Columns of `sums` in the order of transforms; the widest measure, a mean with limit and cap, fills them all."""

PATIENCE = 15.0
"""Seconds that a start waits for other processes that open the same file."""

CACHE_KIB = 8 * 1024
"""Memory of the writer's connection for pages of the file, at most, in KiB; SQLite's own default is 2,000."""

migrations = Migrations("adaptive-bandit")

_FIRST = f"""
CREATE TABLE experiments (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    definition TEXT NOT NULL,
    state TEXT NOT NULL,
    serve INTEGER NOT NULL,
    truncated INTEGER NOT NULL,
    now REAL,
    origins TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at REAL NOT NULL,
    started_at REAL,
    stopped_at REAL
) STRICT;
CREATE TABLE epochs (
    experiment INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    probabilities TEXT NOT NULL,
    learned_epochs INTEGER NOT NULL,
    started_at REAL NOT NULL,
    ended_at REAL,
    closed_at REAL,
    PRIMARY KEY (experiment, epoch)
) STRICT, WITHOUT ROWID;
CREATE TABLE cells (
    experiment INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    arm INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    assigned INTEGER NOT NULL,
    moved INTEGER NOT NULL,
    PRIMARY KEY (experiment, epoch, arm, shard)
) STRICT, WITHOUT ROWID;
CREATE TABLE sums (
    experiment INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    arm INTEGER NOT NULL,
    measure INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    {", ".join(f"{term} REAL" for term in TERMS)},
    PRIMARY KEY (experiment, epoch, arm, measure, shard)
) STRICT, WITHOUT ROWID;
CREATE TABLE assignments (
    experiment INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    arm INTEGER NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (experiment, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX assignments_by_cell ON assignments (experiment, epoch, arm);
CREATE TABLE outcomes (
    experiment INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    measure INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    total REAL NOT NULL,
    first REAL NOT NULL,
    PRIMARY KEY (experiment, user_id, measure)
) STRICT, WITHOUT ROWID;
CREATE TABLE rewards (
    experiment INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    metric TEXT NOT NULL,
    revision INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    value REAL NOT NULL,
    at REAL NOT NULL,
    epoch INTEGER,
    arm INTEGER,
    reason TEXT,
    firsts INTEGER NOT NULL,
    PRIMARY KEY (experiment, request_id, metric, revision)
) STRICT, WITHOUT ROWID;
CREATE INDEX rewards_by_user ON rewards (experiment, user_id);
"""


# What a store of before gets: generations, states and events are empty, which says that nothing has happened yet.
_GUARDRAILS = f"""
ALTER TABLE experiments ADD COLUMN ramp_step INTEGER NOT NULL DEFAULT 0;
ALTER TABLE experiments ADD COLUMN ramp_first_epoch INTEGER NOT NULL DEFAULT 1;
ALTER TABLE experiments ADD COLUMN ramp_since REAL NOT NULL DEFAULT 0;
ALTER TABLE experiments ADD COLUMN exposure_by_hand REAL;
ALTER TABLE assignments ADD COLUMN moved_at REAL;
CREATE TABLE visits (
    experiment INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    measure INTEGER NOT NULL,
    number INTEGER NOT NULL,
    place INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    total REAL NOT NULL,
    first REAL NOT NULL,
    PRIMARY KEY (experiment, user_id, measure)
) STRICT, WITHOUT ROWID;
CREATE TABLE returning_sums (
    experiment INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    arm INTEGER NOT NULL,
    measure INTEGER NOT NULL,
    visit_window INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    {", ".join(f"{term} REAL" for term in TERMS)},
    PRIMARY KEY (experiment, epoch, arm, measure, visit_window, shard)
) STRICT, WITHOUT ROWID;
CREATE TABLE generations (
    experiment INTEGER NOT NULL,
    place INTEGER NOT NULL,
    arm INTEGER NOT NULL,
    number INTEGER NOT NULL,
    first_epoch INTEGER NOT NULL,
    last_epoch INTEGER,
    closed_epochs INTEGER,
    ended TEXT,
    broken TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (experiment, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE guardrail_states (
    experiment INTEGER NOT NULL,
    guardrail INTEGER NOT NULL,
    arm INTEGER NOT NULL,
    state TEXT NOT NULL,
    since REAL,
    PRIMARY KEY (experiment, guardrail, arm)
) STRICT, WITHOUT ROWID;
CREATE TABLE forced (
    experiment INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    arm INTEGER NOT NULL,
    PRIMARY KEY (experiment, user_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE events (
    experiment INTEGER NOT NULL,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    at REAL,
    epoch INTEGER NOT NULL,
    actor TEXT NOT NULL,
    variant TEXT,
    reason TEXT NOT NULL,
    evidence TEXT NOT NULL,
    PRIMARY KEY (experiment, number)
) STRICT, WITHOUT ROWID;
"""


_WAITING = f"""
CREATE TABLE waiting_sums (
    experiment INTEGER NOT NULL,
    moment INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    arm INTEGER NOT NULL,
    measure INTEGER NOT NULL,
    visit_window INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    {", ".join(f"{term} REAL" for term in TERMS)},
    PRIMARY KEY (experiment, moment, epoch, arm, measure, visit_window, shard)
) STRICT, WITHOUT ROWID;
"""


# A row's version is that of its experiment when it was last written, so that another process reads only what is new.
_VERSIONS = """
ALTER TABLE experiments ADD COLUMN structure INTEGER NOT NULL DEFAULT 0;
UPDATE experiments SET structure = version;
ALTER TABLE cells ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sums ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE returning_sums ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE waiting_sums ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
CREATE INDEX cells_by_version ON cells (experiment, version);
CREATE INDEX sums_by_version ON sums (experiment, version);
CREATE INDEX returning_sums_by_version ON returning_sums (experiment, version);
CREATE INDEX waiting_sums_by_version ON waiting_sums (experiment, version);
"""


_SEALED = f"""
CREATE TABLE sealed_cells (
    experiment INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    arm INTEGER NOT NULL,
    whole INTEGER NOT NULL,
    swept_at REAL,
    PRIMARY KEY (experiment, epoch, arm)
) STRICT, WITHOUT ROWID;
CREATE TABLE base_sums (
    experiment INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    arm INTEGER NOT NULL,
    measure INTEGER NOT NULL,
    visit_window INTEGER NOT NULL,
    {", ".join(f"{term} REAL" for term in TERMS)},
    PRIMARY KEY (experiment, epoch, arm, measure, visit_window)
) STRICT, WITHOUT ROWID;
"""


_CALL_VALUES = """
CREATE TABLE call_values (
    experiment INTEGER NOT NULL,
    metric TEXT NOT NULL,
    arm INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    n INTEGER NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (experiment, metric, arm, bucket)
) STRICT, WITHOUT ROWID;
CREATE INDEX call_values_by_version ON call_values (experiment, version);
"""


# Each page that a commit touches is written whole, so there are as few of them as can be: what belongs to a cell is one
# short row; a random id costs one page of the user, and one of the request if its id is not made in the order of time.
# A user's rewards are a chain, because an index of them would be a further page. `previous` is the number of the user's
# reward before, 0 for the first one, and NULL where the user had no variant.
_ONE_ROW = """
ALTER TABLE cells ADD COLUMN sums TEXT NOT NULL DEFAULT '[]';
ALTER TABLE assignments ADD COLUMN last_reward INTEGER NOT NULL DEFAULT 0;
ALTER TABLE assignments ADD COLUMN outcomes TEXT;
ALTER TABLE assignments ADD COLUMN visits TEXT;
ALTER TABLE rewards RENAME TO rewards_before;
DROP INDEX rewards_by_user;
CREATE TABLE rewards (
    n INTEGER PRIMARY KEY,
    experiment INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    part INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    at REAL NOT NULL,
    previous INTEGER,
    metrics TEXT NOT NULL
) STRICT;
"""

_ONE_ROW_AFTER = f"""
DROP TABLE rewards_before;
DROP TABLE sums;
DROP TABLE outcomes;
DROP TABLE visits;
CREATE UNIQUE INDEX rewards_by_request ON rewards (experiment, request_id, part);
CREATE INDEX rewards_of_nobody ON rewards (experiment, user_id) WHERE previous IS NULL;
CREATE VIEW outcomes AS
SELECT a.experiment, a.user_id, CAST(o.key AS INTEGER) AS measure,
       CASE o.type WHEN 'array' THEN json_extract(o.value, '$[0]') ELSE 1 END AS calls,
       CASE o.type WHEN 'array' THEN json_extract(o.value, '$[1]') ELSE o.value END AS total,
       CASE o.type WHEN 'array' THEN json_extract(o.value, '$[2]') ELSE o.value END AS first
  FROM assignments a JOIN json_each(a.outcomes) o;
CREATE VIEW sums AS
SELECT c.experiment, c.epoch, c.arm, s.key AS measure, c.shard, {
    ", ".join(f"json_extract(s.value, '$[{place}]') AS {term}" for place, term in enumerate(TERMS))
}
  FROM cells c JOIN json_each(c.sums) s
 WHERE json_array_length(s.value);
CREATE VIEW visits AS
SELECT experiment, user_id, measure, number, place,
       CASE type WHEN 'array' THEN json_extract(outcome, '$[0]') ELSE 1 END AS calls,
       CASE type WHEN 'array' THEN json_extract(outcome, '$[1]') ELSE outcome END AS total,
       CASE type WHEN 'array' THEN json_extract(outcome, '$[2]') ELSE outcome END AS first
  FROM (
    SELECT a.experiment, a.user_id, CAST(v.key AS INTEGER) AS measure, json_extract(v.value, '$[0]') AS number,
           json_extract(v.value, '$[1]') AS place, json_extract(v.value, '$[2]') AS outcome,
           json_type(v.value, '$[2]') AS type
      FROM assignments a JOIN json_each(a.visits) v
  );
CREATE VIEW reward_values AS
SELECT r.experiment, r.request_id, v.key AS metric, json_extract(v.value, '$[3]') AS revision, r.user_id,
       json_extract(v.value, '$[0]') AS value, r.at, a.epoch, a.arm, json_extract(v.value, '$[1]') AS reason,
       json_extract(v.value, '$[2]') AS firsts
  FROM rewards r JOIN json_each(r.metrics) v
  LEFT JOIN assignments a
    ON r.previous IS NOT NULL AND a.experiment = r.experiment AND a.user_id = r.user_id
   AND coalesce(json_extract(v.value, '$[1]'), 'returned') = 'returned';
"""  # noqa: S608 - our own names


# What a commit changes in the ledger is as few rows as can be, and no index moves with each of them: another process
# finds the cells of open epochs by their place. Those of closed ones change only where users are moved.
_FEWER = """
ALTER TABLE call_values RENAME TO call_values_before;
DROP INDEX call_values_by_version;
CREATE TABLE call_values (
    experiment INTEGER NOT NULL,
    metric TEXT NOT NULL,
    arm INTEGER NOT NULL,
    version INTEGER NOT NULL,
    counts TEXT NOT NULL,
    PRIMARY KEY (experiment, metric, arm)
) STRICT, WITHOUT ROWID;
INSERT INTO call_values
SELECT experiment, metric, arm, max(version), json_group_object(bucket, n) FROM call_values_before WHERE n > 0
 GROUP BY experiment, metric, arm;
DROP TABLE call_values_before;
DROP INDEX cells_by_version;
CREATE INDEX moved_cells_by_version ON cells (experiment, version) WHERE moved > 0;
"""

_INTERACTIONS = """
CREATE TABLE interactions (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    experiment INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    at REAL NOT NULL,
    epoch INTEGER,
    arm INTEGER,
    version INTEGER,
    reason TEXT,
    variant_id TEXT,
    model_name TEXT,
    system_prompt_version TEXT,
    latency_ms REAL,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    safety_flag INTEGER,
    user_feedback_score REAL,
    cost_usd REAL,
    prices TEXT,
    failed INTEGER,
    user_input TEXT,
    model_output TEXT,
    digest TEXT,
    erased_at REAL
) STRICT;
CREATE UNIQUE INDEX interactions_by_request ON interactions (experiment, request_id);
CREATE INDEX interactions_by_user ON interactions (experiment, user_id);
CREATE INDEX interactions_by_experiment ON interactions (experiment);
"""


_JUDGEMENTS = """
CREATE TABLE judgements (
    experiment INTEGER NOT NULL,
    n INTEGER NOT NULL,
    judge TEXT NOT NULL,
    version TEXT NOT NULL,
    state TEXT NOT NULL,
    claimed_until REAL NOT NULL,
    at REAL,
    scores TEXT,
    reasoning TEXT,
    reason TEXT,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    cost_usd REAL,
    attempts INTEGER,
    model TEXT,
    PRIMARY KEY (experiment, n, judge)
) STRICT, WITHOUT ROWID;
CREATE INDEX judgements_claimed ON judgements (experiment, judge, claimed_until) WHERE state = 'claimed';
CREATE TABLE judge_cursors (
    experiment INTEGER NOT NULL,
    judge TEXT NOT NULL,
    version TEXT NOT NULL,
    upto INTEGER NOT NULL,
    day TEXT NOT NULL DEFAULT '',
    calls INTEGER NOT NULL DEFAULT 0,
    usd REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (experiment, judge)
) STRICT, WITHOUT ROWID;
"""

_LABELS = """
CREATE TABLE labels (
    experiment INTEGER NOT NULL,
    n INTEGER NOT NULL,
    metric TEXT NOT NULL,
    value REAL NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (experiment, n, metric)
) STRICT, WITHOUT ROWID;
"""


@migrations()
def first_tables(db: Database) -> None:
    """Experiments, their ledger, their users."""
    _run(db, _FIRST)


@migrations()
def guardrails(db: Database) -> None:
    """What constrains arms: generations, users moved, users who come back, exposure, states, events."""
    _run(db, _GUARDRAILS)


@migrations()
def waiting_visits(db: Database) -> None:
    """Sums of visits that do not count yet; whatever a store of before has in `returning_sums` counts."""
    _run(db, _WAITING)


@migrations()
def versions_of_rows(db: Database) -> None:
    """Which rows of the ledger another process has not seen yet."""
    _run(db, _VERSIONS)


@migrations()
def sealed_cells(db: Database) -> None:
    """Sums of cells whose users' raw rows were dropped, or may be."""
    _run(db, _SEALED)


@migrations()
def call_values(db: Database) -> None:
    """How many calls had which value; a store of before begins to count with its next call."""
    _run(db, _CALL_VALUES)


@migrations()
def one_row_per_call(db: Database) -> None:
    """One row for a user, a call of `/reward`, a cell; views show the values one by one, as the tables did."""
    _run(db, _ONE_ROW)
    copy_rewards(db.conn)
    copy_users(db.conn)
    copy_sums(db.conn, TERMS)
    _run(db, _ONE_ROW_AFTER)


@migrations()
def fewer_pages(db: Database) -> None:
    """One row for the values of an arm's calls, and an index of those cells alone that it is needed for."""
    _run(db, _FEWER)


@migrations()
def interactions(db: Database) -> None:
    """The interaction log."""
    _run(db, _INTERACTIONS)


@migrations()
def judgements(db: Database) -> None:
    """What judges say of interactions, and how far they have come."""
    _run(db, _JUDGEMENTS)


@migrations()
def labels(db: Database) -> None:
    """What people say of interactions."""
    _run(db, _LABELS)


def _run(db: Database, script: str) -> None:
    # Not `executescript`, which would commit the transaction that all migrations share.
    for statement in script.split(";\n"):
        if statement.strip():
            db.conn.execute(statement)


Synchronous = Literal["full", "normal"]
"""When a commit is safe. full: before it is answered. normal: with the next checkpoint; the file stays whole, and
nothing is lost if the process ends, but a power cut or a crash of the system may take what was answered since."""


def connect(path: Path, busy_seconds: float, synchronous: Synchronous) -> sqlite3.Connection:
    """Return a connection for writing, to be used by one thread at a time; transactions are written out.

    Args:
        path: The file.
        busy_seconds: How long one statement waits for another process's lock.
        synchronous: When a commit is safe.
    """
    db = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, check_same_thread=False)
    db.execute(f"PRAGMA synchronous = {synchronous}")
    db.execute("PRAGMA wal_autocheckpoint = 1000")
    db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    db.execute(f"PRAGMA journal_size_limit = {64 * 1024 * 1024}")
    return db


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Return a connection that cannot write."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=2.0, isolation_level=None)


def open_stored(path: Path, *, older: bool = False) -> sqlite3.Connection:
    """Return a connection that cannot write to a file that is a store.

    Args:
        path: The file.
        older: Whether a store of an older version will do.

    Raises:
        StoreProblem: There is no such file, it is no store, or one of another version.
    """
    if not path.is_file():
        raise StoreProblem(f"there is no file '{path}'")
    try:
        with contextlib.ExitStack() as closing:
            db = closing.enter_context(contextlib.closing(connect_read_only(path)))
            _refuse_foreign(Database(db), path, older=older)
            closing.pop_all()
            return db
    except sqlite3.Error as error:
        raise StoreProblem(f"'{path}' is no store of bandit-server, or cannot be read: {error}") from error


def _refuse_foreign(db: Database, path: Path, *, older: bool) -> None:
    if not migrations.applied(db):
        raise StoreProblem(f"'{path}' is no store of bandit-server: it has none of its tables")
    _refuse_newer(db, path)
    if not older and migrations.pending(db):
        raise StoreProblem(f"'{path}' was written by an older version; start bandit-server on it once")


def prepare(path: Path) -> None:
    """Make the file what this version needs: write-ahead log on, every migration applied.

    Several processes may do this at once.

    Raises:
        StoreProblem: The file cannot be opened, is no store, or was written by a newer version.
    """
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)) as db:
            _log_ahead(db)
            db.execute("BEGIN IMMEDIATE")
            _migrate(Database(db), path)
            # Begun in earnest: a read-only file lets a transaction begin, and refuses what is written in it.
            db.execute(f"PRAGMA user_version = {int(db.execute('PRAGMA user_version').fetchone()[0])}")
            db.execute("COMMIT")
            db.execute("SELECT key, version FROM experiments ORDER BY key").fetchall()  # a damaged page says so here
            db.execute("SELECT id, definition FROM experiments NOT INDEXED").fetchall()
    except sqlite3.Error as error:
        raise StoreProblem(f"cannot use '{path}' as a store: {error}") from error


def _migrate(db: Database, path: Path) -> None:
    _refuse_newer(db, path)
    migrations.apply(db)


def _refuse_newer(db: Database, path: Path) -> None:
    known = {migration.name for migration in migrations.pending(Database(memory=True))}
    newer = [migration.name for migration in migrations.applied(db) if migration.name not in known]
    if newer:
        raise StoreProblem(
            f"'{path}' was written by a newer version (it has {', '.join(newer)}); start that version or another file"
        )


def _log_ahead(db: sqlite3.Connection) -> None:
    """Switch to the write-ahead log if it is not on; the switch does not heed the busy time-out, so retry."""
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            if db.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
                return
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(0.02)
