"""Is the store in agreement with itself? The ledger rebuilt from the rows that it was made of, and compared.

All is read in one transaction that cannot write, so it is as of one moment and nobody waits for it. In memory is one
page of users at a time, and the outcomes of one (epoch, arm).
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from bandit import Bandit, Experiment
from bandit.epochs import Epoch
from bandit.measures import N, first_origin
from bandit.saved import SavedCell
from server.differences import Difference, Differences
from server.errors import UnknownExperiment
from server.recount import Recount
from server.schema import TERMS, open_stored
from server.store import Stored, load
from server.user_rows import Rules

_OF_CELLS = ("assignments", "cells", "returning_sums", "waiting_sums", "sealed_cells", "base_sums")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in one experiment.

    Attributes:
        key: The experiment.
        experiment: Its declaration; None: it cannot be read.
        state: Where it is in its life.
        epochs: How many it has.
        closed: How many of these are closed.
        users: How many were assigned.
        rewards: Stored calls of `/reward`.
        found: What is not as it should be.
    """

    key: str
    experiment: Experiment | None = None
    state: str = "–"
    epochs: int = 0
    closed: int = 0
    users: int = 0
    rewards: int = 0
    found: Differences = field(default_factory=Differences)


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found in a store.

    Attributes:
        damages: What SQLite says of the file; empty: it is whole.
        verdicts: One per experiment, the oldest first.
    """

    damages: list[str]
    verdicts: list[Verdict]

    @property
    def differences(self) -> int:
        """How many things are not as they should be."""
        return len(self.damages) + sum(verdict.found.total for verdict in self.verdicts)


def verify(path: Path) -> Verification:
    """Return what is not as it should be in a store. A server may go on writing to it meanwhile.

    Args:
        path: The file.

    Raises:
        StoreProblem: It is no store of this version.
    """
    with closing(open_stored(path)) as db:
        db.execute("BEGIN")
        try:
            damages = [text for (text,) in db.execute("PRAGMA integrity_check") if text != "ok"]
            keys = [key for (key,) in db.execute("SELECT key FROM experiments ORDER BY id")]
            return Verification(damages, [_verdict(db, key) for key in keys])
        except sqlite3.DatabaseError as error:
            return Verification([str(error)], [])


def _verdict(db: sqlite3.Connection, key: str) -> Verdict:
    found = Differences()
    try:
        return _examine(db, key, found)
    except sqlite3.DatabaseError:  # the file as a whole
        raise
    except Exception as error:  # noqa: BLE001 - damaged rows fail as they like, and the others are to be looked at
        found.add(Difference("what cannot be read", f"{type(error).__name__}: {error}", "an experiment"))
        return Verdict(key, found=found)


def _examine(db: sqlite3.Connection, key: str, found: Differences) -> Verdict:
    stored = load(db, key)
    if stored is None:
        raise UnknownExperiment(key)
    bandit = Bandit.restored(stored.experiment, stored.saved)
    _check_epochs(db, stored, found)
    _check_origins(stored, found)
    _check_strangers(db, stored, found)
    rules = Rules(stored.id, stored.experiment, stored.saved.origins)
    sealed = _sealed(db, stored.id, found)
    in_chains = 0
    for saved, epoch in zip(stored.saved.epochs, bandit.epochs, strict=True):
        for arm, cell in enumerate(saved.cells):
            in_chains += _check_cell(db, rules, epoch, arm, cell, sealed.get((epoch.allocation.epoch, arm)), found)
    rewards, of_users = db.execute(
        "SELECT count(*), count(previous) FROM rewards WHERE experiment = ?", (stored.id,)
    ).fetchone()
    if of_users != in_chains:
        found.add(Difference("calls of assigned users", of_users, in_chains))
    users = sum(epoch.assigned for epoch in bandit.epochs)
    return Verdict(
        key, stored.experiment, stored.saved.state, len(bandit.epochs), bandit.closed_epochs, users, rewards, found
    )


def _check_epochs(db: sqlite3.Connection, stored: Stored, found: Differences) -> None:
    """Look at the order of epochs and what they say of themselves."""
    saved, n_arms = stored.saved, stored.experiment.n_arms
    numbers = [n for (n,) in db.execute("SELECT epoch FROM epochs WHERE experiment = ? ORDER BY epoch", (stored.id,))]
    if numbers != list(range(1, len(numbers) + 1)):
        found.add(Difference("numbers of epochs", numbers, f"1 to {len(numbers)}"))
    for number, epoch in enumerate(saved.epochs, 1):
        p = epoch.probabilities
        if len(p) != n_arms or min(p) < 0.0 or abs(sum(p) - 1.0) > 1e-9:
            found.add(Difference("probabilities", p, "not negative, sum 1, one per variant", number))
        before = saved.epochs[number - 2] if number > 1 else None
        times = [None if before is None else before.ended_at, epoch.started_at, epoch.ended_at, epoch.closed_at]
        known: list[float] = [time for time in times if time is not None]
        if known != sorted(known) or (before and times[0] is None) or (times[2] is None and times[3] is not None):
            found.add(Difference("end before, start, end, close", times, "in this order", number))
        learned, least = epoch.learned_epochs, 0 if before is None else before.learned_epochs
        if not least <= learned < number or any(e.closed_at is None for e in saved.epochs[:learned]):
            found.add(Difference("epochs learned from", learned, "closed ones, no fewer than before", number))
    going_on = bool(saved.epochs) and saved.epochs[-1].ended_at is None
    if going_on != (saved.state == "running") or (saved.state == "draft" and saved.epochs):
        found.add(Difference("state", saved.state, "running" if going_on else "not running"))


def _check_origins(stored: Stored, found: Differences) -> None:
    cells = [cell for epoch in stored.saved.epochs for cell in epoch.cells]
    for slot, origin in enumerate(stored.saved.origins):
        declared = first_origin(stored.experiment, slot)
        if declared is not None and origin != declared:
            found.add(Difference("origin", origin, declared, measure=slot))
        if origin is None and any(cell.sums[slot][N] for cell in cells):
            found.add(Difference("origin", None, "the first outcome", measure=slot))


def _check_strangers(db: sqlite3.Connection, stored: Stored, found: Differences) -> None:
    """Look for rows of cells that there are not."""
    last = (stored.id, len(stored.saved.epochs), stored.experiment.n_arms - 1)
    for table in _OF_CELLS:
        rows = db.execute(
            f"SELECT epoch, arm, count(*) FROM {table} WHERE experiment = ?"  # noqa: S608 - our own names
            " AND NOT (epoch BETWEEN 1 AND ? AND arm BETWEEN 0 AND ?) GROUP BY epoch, arm",
            last,
        )
        for epoch, arm, n in rows:
            found.add(Difference(f"{table} of an epoch or variant that there is not", n, 0, epoch, arm))


@dataclass(frozen=True, slots=True)
class _Sealed:
    """A cell whose rows were dropped, or may be: of all windows, or of users' first ones; and its sums then."""

    whole: bool
    base: dict[tuple[int, int], list[float]]  # by measure and window


def _sealed(db: sqlite3.Connection, number: int, found: Differences) -> dict[tuple[int, int], _Sealed]:
    rows = db.execute("SELECT epoch, arm, whole FROM sealed_cells WHERE experiment = ?", (number,))
    sealed = {(epoch, arm): _Sealed(bool(whole), {}) for epoch, arm, whole in rows}
    for epoch, arm, measure, window, *terms in db.execute(
        f"SELECT epoch, arm, measure, visit_window, {', '.join(TERMS)} FROM base_sums WHERE experiment = ?",  # noqa: S608
        (number,),
    ):
        row = [term for term in terms if term is not None]
        if (epoch, arm) in sealed:
            sealed[epoch, arm].base[measure, window] = row
        else:
            found.add(Difference(f"window {window}, sealed", row, "none: the cell is not sealed", epoch, arm, measure))
    return sealed


def _check_cell(
    db: sqlite3.Connection, rules: Rules, epoch: Epoch, arm: int, cell: SavedCell, sealed: _Sealed | None,
    found: Differences,
) -> int:  # fmt: skip
    """Compare one cell of the ledger with its users; where rows are gone, with the sums that they left.

    Returns:
        How many calls its users have.
    """
    later = sealed is None or not sealed.whole
    recount = Recount(rules, epoch, arm, found, first=sealed is None, later=later)
    while recount.read_page(db):
        pass
    recount.check_counts(cell)
    recount.check_sums(cell)
    if sealed is not None:
        ledger = sums_to_seal(cell, first=True, later=sealed.whole)
        for slot, window in sorted(ledger.keys() | sealed.base.keys()):
            stored, base = ledger.get((slot, window)), sealed.base.get((slot, window))
            if stored != base:
                place = (epoch.allocation.epoch, arm, slot)
                found.add(Difference(f"window {window}, sealed", stored, base, *place))
    return recount.calls


def sums_to_seal(cell: SavedCell, *, first: bool, later: bool) -> dict[tuple[int, int], list[float]]:
    """Return the sums of a cell that do not change any more, by measure and window.

    Args:
        cell: The cell.
        first: Whether these are the sums of users' first windows.
        later: Whether these are the sums of later windows, those included that may wait for ever.
    """
    sums = {(slot, 1): row for slot, row in enumerate(cell.sums) if first and row[N]}
    if later:
        for slot, window, row in [*cell.returning, *((slot, window, row) for slot, window, _, row in cell.waiting)]:
            held = sums.get((slot, window), [0.0] * len(row))
            sums[slot, window] = [a + b for a, b in zip(held, row, strict=True)]
    return sums
