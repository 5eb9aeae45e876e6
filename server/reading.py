"""What is read from the store for people: descriptions, the story of one user.

Plain functions on a connection of their own that cannot write; they are run in worker threads, never on the
event loop. Each reads as of one moment.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from bandit import Bandit, Experiment
from bandit.experiment import notes
from bandit.ids import check_id
from bandit.measures import Measure
from bandit.outcomes import Outcome, outcome_value, parts
from bandit.rewards import RETURNED
from server.columns import outcomes_from, values_from
from server.errors import StoreUnavailable, UnknownExperiment, Unreadable
from server.schema import connect_read_only
from server.states import by_arm, events, moment, ramp_state, variant_state
from server.store import Stored, load

_MOST_CALLS = 1_000
"""Calls of `/reward` of one user that are shown: the last ones."""

_USER = "SELECT epoch, arm, at, moved_at, outcomes FROM assignments WHERE experiment = ? AND user_id = ?"
_CALLS = """
WITH RECURSIVE chain (n, later) AS (
    SELECT last_reward, 0 FROM assignments WHERE experiment = ?1 AND user_id = ?2 AND last_reward
    UNION
    SELECT r.previous, later + 1 FROM chain CROSS JOIN rewards r ON r.n = chain.n WHERE r.previous AND later + 1 < ?3
)
SELECT r.at, r.n, r.request_id, r.previous IS NOT NULL, r.metrics FROM chain CROSS JOIN rewards r ON r.n = chain.n
 UNION ALL
SELECT at, n, request_id, 0, metrics FROM rewards INDEXED BY rewards_of_nobody
 WHERE experiment = ?1 AND user_id = ?2 AND previous IS NULL
 ORDER BY 1 DESC, 2 DESC LIMIT ?3
"""


def listing(path: Path) -> list[dict[str, Any]]:
    """Return key, state, users and goal of every experiment, the oldest first."""
    with snapshot(path) as db:
        users = dict(db.execute("SELECT experiment, sum(assigned) FROM cells GROUP BY experiment"))
        rows = db.execute("SELECT id, key, state, created_at, definition FROM experiments ORDER BY id").fetchall()
    return [
        {
            "key": key,
            "state": state,
            "goal": _goal(definition),
            "users": users.get(number, 0),
            "created_at": moment(at),
        }
        for number, key, state, at, definition in rows
    ]


def description(path: Path, key: str) -> dict[str, Any]:
    """Return an experiment with its live state.

    Raises:
        UnknownExperiment: There is none with this key.
    """
    with snapshot(path) as db:
        stored, bandit = restored(db, key)
    current = bandit.allocation
    return {
        **declared(stored.experiment),
        "state": bandit.state,
        "serve": stored.experiment.arms[bandit.serve] if bandit.state == "stopped" else None,
        "allocation": current
        and {"epoch": current.epoch, "probabilities": by_arm(stored.experiment, current.probabilities)},
        "exposure": bandit.exposure,
        "ramp": ramp_state(bandit),
        "variants": [variant_state(bandit, arm) for arm in range(stored.experiment.n_arms)],
        "users": sum(epoch.assigned for epoch in bandit.epochs),
        "epochs": len(bandit.epochs),
        "closed_epochs": bandit.closed_epochs,
        "created_at": moment(stored.created_at),
        "started_at": moment(stored.started_at),
        "stopped_at": moment(stored.stopped_at),
    }


def declared(experiment: Experiment) -> dict[str, Any]:
    """Return what an experiment is by declaration, with what its author should know."""
    return {
        "key": experiment.key,
        "salt": experiment.salt,
        "definition": experiment.to_dict(),
        "notes": list(notes(experiment)),
    }


def happened(path: Path, key: str, after: int, limit: int) -> dict[str, Any]:
    """Return what changed in an experiment, in order.

    Args:
        path: The store.
        key: The experiment.
        after: Number of the last event that is known already; 0: none.
        limit: Most that are returned.

    Raises:
        UnknownExperiment: There is none with this key.
    """
    with snapshot(path) as db:
        _, bandit = restored(db, key)
    found = events(bandit, after, limit)
    return {"experiment": key, "events": found, "next": found[-1]["number"] if found else after}


def story(path: Path, key: str, user_id: str) -> dict[str, Any]:
    """Return why a user got their variant, and what was stored of them.

    Args:
        path: The store.
        key: The experiment.
        user_id: Whose story.

    Raises:
        UnknownExperiment: There is none with this key.
        InvalidId: The user id cannot be one.
    """
    check_id(user_id, "user_id")
    with snapshot(path) as db:
        stored, bandit = restored(db, key)
        row = db.execute(_USER, (stored.id, user_id)).fetchone()
        calls = db.execute(_CALLS, (stored.id, user_id, _MOST_CALLS)).fetchall()
    assignment, outcomes = (None, None) if row is None else (row[:4], row[4])
    return {
        "experiment": key,
        "user_id": user_id,
        "state": bandit.state,
        "point": bandit.point(user_id),
        "enrolled": bandit.enrols(user_id),
        "forced": bandit.experiment.arms[bandit.forced[user_id]] if user_id in bandit.forced else None,
        "assignment": None if assignment is None else _assignment(bandit, assignment),
        "why": _why(bandit, user_id, assignment),
        "outcomes": [outcome(bandit.measures[slot], state) for slot, state in sorted(outcomes_from(outcomes).items())],
        "rewards": [value for call in sorted(calls) for value in _values(stored.experiment, user_id, assignment, call)],
    }


def ready(path: Path) -> None:
    """Raise `StoreUnavailable` unless the store can be read and has its tables."""
    with snapshot(path) as db:
        db.execute("SELECT count(*) FROM experiments").fetchone()


@contextmanager
def snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """Read a store as of one moment.

    Raises:
        StoreUnavailable: It cannot be read now.
    """
    try:
        with closing(connect_read_only(path)) as db:
            db.execute("BEGIN")
            yield db
    except sqlite3.Error as error:
        raise StoreUnavailable(f"the store cannot be read now: {error}") from error


def restored(db: sqlite3.Connection, key: str) -> tuple[Stored, Bandit]:
    """Return a stored experiment, and as it goes on.

    Raises:
        UnknownExperiment: There is none with this key.
        Unreadable: Its rows cannot be loaded.
    """
    try:
        stored = load(db, key)
        if stored is not None:
            return stored, Bandit.restored(stored.experiment, stored.saved)
    except sqlite3.OperationalError:  # the store as a whole
        raise
    except Exception as error:
        raise Unreadable(key) from error
    raise UnknownExperiment(key)


def _goal(definition: str) -> str | None:
    try:
        return str(json.loads(definition)["goal"]["metric"])
    except (ValueError, LookupError, TypeError):  # one bad row must not hide the others
        return None


def _assignment(bandit: Bandit, row: tuple[int, int, float, float | None]) -> dict[str, Any]:
    epoch, arm, at, moved_at = row
    probabilities = bandit.epochs[epoch - 1].allocation.probabilities
    return {
        "variant": bandit.experiment.arms[arm],
        "epoch": epoch,
        "propensity": probabilities[arm],
        "probabilities": by_arm(bandit.experiment, probabilities),
        "at": moment(at),
        "moved_at": moment(moved_at),
    }


def _why(bandit: Bandit, user_id: str, row: tuple[int, int, float, float | None] | None) -> str:
    """Return in words why a user has the variant that they have."""
    usual = _why_usually(bandit, user_id, row)
    if user_id not in bandit.forced:
        return usual
    variant = bandit.experiment.arms[bandit.forced[user_id]]
    return f"The user was given {variant!r} by hand, and nobody learns from it. Without that: {usual}"


def _why_usually(bandit: Bandit, user_id: str, row: tuple[int, int, float, float | None] | None) -> str:
    if row is not None:
        epoch, arm, _, moved_at = row
        ends = bandit.epochs[epoch - 1].ends
        low = ends[arm - 1] if arm else 0.0
        drawn = (
            f"The user's point {bandit.point(user_id):.6f} lies in [{low:.6f}, {ends[arm]:.6f}), the part of "
            f"{bandit.experiment.arms[arm]!r} in epoch {epoch}, when choose was first called; "
        )
        cell = bandit.epochs[epoch - 1].cells[arm]
        if cell.sticky is not None:
            return f"{drawn}it stays so."
        since = "from the next call on" if moved_at is None else f"since {moment(moved_at)}"
        if bandit.timeline.destination(cell) == arm:
            return f"{drawn}its config changed after that; {since} the user is moved to the new one and counts no more."
        return f"{drawn}it was taken away from users after that; {since} the user is moved, and gets control for good."
    if bandit.state != "running":
        return f"The user has no variant, and the experiment is {bandit.state}."
    if not bandit.enrols(user_id):
        return "The user is outside the exposure: control, not counted."
    return "choose was never called for this user."


def outcome(measure: Measure, state: Outcome) -> dict[str, Any]:
    """Return a user's outcome on a measure."""
    return {
        "metric": measure.metric,
        "per_user": measure.per_user,
        "above": measure.above,
        "calls": parts(state)[0],
        "value": outcome_value(measure, state),
    }


def _values(
    experiment: Experiment, user_id: str, assignment: Sequence[Any] | None, call: tuple[float, int, str, int, str]
) -> Iterator[dict[str, Any]]:
    """Yield the values of a call, with where each counts."""
    at, _, request_id, assigned, metrics = call
    for metric, stored in sorted(values_from(user_id, metrics).items()):
        counts = assigned and assignment is not None and stored.reason in (None, RETURNED)
        yield {
            "request_id": request_id,
            "metric": metric,
            "revision": stored.revision,
            "value": stored.value,
            "at": moment(at),
            "epoch": assignment[0] if counts and assignment is not None else None,
            "variant": experiment.arms[assignment[1]] if counts and assignment is not None else None,
            "reason": stored.reason,
        }
