"""From the rows of a log to its users: who came when, what they got, and which of their rows count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bandit.arrays import FloatArray, IntArray
from bandit.assignment import UnitHash
from bandit.wording import received
from simulations.logs.epochs import Entrants, Stretches, stretches_of
from simulations.logs.faults import Faults, refuse_log
from simulations.logs.log import Log

MOST_STRAYS = 0.5
"""If a larger share of users has more than one variant, they are not what variants were assigned to."""

_ORDER = UnitHash("log", "order")


@dataclass(frozen=True, slots=True)
class Users:
    """Users in the order of assignment, and the rows that count for them.

    Attributes:
        arm: Index of each user's arm, shape (n_users,).
        since: Time of each user's first row, seconds since 1970, same shape; None: no clock.
        stretches: Stretches of constant propensities.
        rows: Indices of the rows that count, in order, shape (n_counted,).
        of: The user of each of these rows, same shape.
        ordered: Whether the order of assignment is known.
        strays: Users with rows of another variant than that of their first row.
        stray_rows: These rows; credited to nobody.
        late_rows: Rows after their user's window, dropped.
    """

    arm: IntArray
    since: FloatArray | None
    stretches: Stretches
    rows: IntArray
    of: IntArray
    ordered: bool
    strays: int
    stray_rows: int
    late_rows: int


def users_of(log: Log, arms: Sequence[str], split: Sequence[float] | None, window: float | None = None) -> Users:
    """Return the users of a log.

    A user's variant is that of their first row, in the order of time, else of the file.

    Args:
        log: The rows.
        arms: Keys of the variants; their order is that of the arms.
        split: Declared share of each arm, or None.
        window: Seconds from a user's first row in which rows count; None, or no times: all do.

    Raises:
        InvalidLog: Propensities or epochs contradict one another, or most users have several variants.
    """
    arm = np.array([arms.index(key) for key in log.variants], dtype=np.int64)[log.variant]
    user = np.arange(log.n_rows) if log.user is None else log.user
    rows = _row_order(log)
    first, ordered = _in_order(log, arms, arm, rows, rows[np.unique(user[rows], return_index=True)[1]], split)
    place = np.empty(len(first), dtype=np.int64)
    place[user[first]] = np.arange(len(first))
    of = place[user[rows]]
    since = None if log.time is None else log.time[first]
    stray = arm[rows] != arm[first][of]
    late = np.zeros(len(rows), dtype=np.bool_)
    if log.time is not None and since is not None and window is not None:
        late = ~stray & (log.time[rows] > since[of] + window)
    counted = ~stray & ~late
    strays = len(np.unique(of[stray]))
    if strays > MOST_STRAYS * len(first):
        column = received(log.roles.column["user"])
        message = (
            f"{strays:,} of {len(first):,} have rows of more than one variant, allowed: one variant per user (--user)"
        )
        raise refuse_log(f"column {column}", message)
    return Users(
        arm=arm[first],
        since=since,
        stretches=stretches_of(_entrants(log, arms, arm, first), split),
        rows=rows[counted],
        of=of[counted],
        ordered=ordered,
        strays=strays,
        stray_rows=int(stray.sum()),
        late_rows=int(late.sum()),
    )


def variants_in_order(log: Log) -> list[str]:
    """Return the log's variants in the order of time, else of the file; those of one time by name."""
    if log.time is None:
        return list(log.variants)
    earliest = np.full(len(log.variants), np.inf)
    np.minimum.at(earliest, log.variant, log.time)
    return [key for _, key in sorted(zip(earliest.tolist(), log.variants, strict=True))]


def _row_order(log: Log) -> IntArray:
    """Return the rows in the order of time, else of the file.

    Rows of one time are ordered by what they say, not by where they stand: users by a hash, as neither ids nor
    variants come in an order that means nothing.
    """
    if log.time is None:
        return np.arange(log.n_rows)
    order = np.argsort(log.time, kind="stable")
    in_order = log.time[order]
    if not (in_order[1:] == in_order[:-1]).any():
        return order
    by_name = np.empty(len(log.variants), dtype=np.int64)
    by_name[np.argsort(np.array(log.variants))] = np.arange(len(log.variants))
    values = [log.metrics[name] for name in sorted(log.metrics, reverse=True)]
    failed = [] if log.failed is None else [log.failed]
    return np.lexsort((*values, *failed, by_name[log.variant], _points(log), log.time))


def _points(log: Log) -> FloatArray:
    """Return a number in [0, 1) for each row that depends on its user alone; without users, on its line."""
    if log.user is None:
        return np.array([_ORDER(str(line)) for line in log.lines.tolist()])
    return np.array([_ORDER(name) for name in log.user_ids])[log.user]


def _in_order(
    log: Log, arms: Sequence[str], arm: IntArray, rows: IntArray, first: IntArray, split: Sequence[float] | None
) -> tuple[IntArray, bool]:
    """Return users' first rows in the order of assignment, and whether that order is known.

    Without times a file is often sorted by variant: unless epochs or propensities speak for an order, users are put
    into that of a hash. Users of one declared epoch stand together.

    Args:
        log: The rows.
        arms: Keys of the arms.
        arm: Arm of each row.
        rows: From `_row_order`.
        first: First row of each user.
        split: Declared shares, or None.
    """
    known = log.time is not None
    if log.time is not None:
        place = np.empty(log.n_rows, dtype=np.int64)
        place[rows] = np.arange(log.n_rows)
        first = first[np.argsort(place[first])]
    else:
        first = np.sort(first)
        known = log.epoch is None and split is None and _propensities_move(_entrants(log, arms, arm, first))
        if not known:
            first = first[np.argsort(_points(log)[first], kind="stable")]
    rank = _ranks(log, first)[0]
    if rank is not None:
        return first[np.argsort(rank, kind="stable")], True
    return first, known


def _propensities_move(entrants: Entrants) -> bool:
    return len(stretches_of(entrants, None).starts) > 1


def _entrants(log: Log, arms: Sequence[str], arm: IntArray, first: IntArray) -> Entrants:
    rank, names = _ranks(log, first)
    if log.each and (missing := [key for key in arms if key not in log.each]):
        prefix = next(iter(log.roles.each.values())).rpartition(".")[0]
        message = f"there is no column '{prefix}.{missing[0]}', allowed: one for each variant"
        raise refuse_log("line 1", message)
    return Entrants(
        arm=arm[first],
        line=log.lines[first],
        epoch=rank,
        epochs=names,
        own=None if log.propensity is None else log.propensity[first],
        each=np.column_stack([log.each[key][first] for key in arms]) if log.each else None,
        n_arms=len(arms),
    )


def _ranks(log: Log, first: IntArray) -> tuple[IntArray | None, list[str]]:
    """Return the rank of each user's declared epoch, and the names of epochs by rank.

    Epochs are in the order in which they got their first users, without times in that of their numbers.
    """
    if log.epoch is None:
        return None, []
    codes, faults = log.epoch[first], Faults()
    for index in np.flatnonzero(codes < 0):
        column = log.roles.column["epoch"]
        faults.add(
            int(log.lines[first[index]]), column, "received an empty cell in a user's first row, allowed: an epoch"
        )
    faults.refuse_any()
    earliest = np.zeros(len(log.epochs))
    if log.time is not None:
        earliest[:] = np.inf
        np.minimum.at(earliest, codes, log.time[first])
    present = np.unique(codes).tolist()
    numbers = {code: _number(log.epochs[code]) for code in present}
    if log.time is None and None in numbers.values():
        name = next(log.epochs[code] for code, number in numbers.items() if number is None)
        message = f"received {received(name)}, allowed without a column of times: numbers, which say the order"
        raise refuse_log(f"column {received(log.roles.column['epoch'])}", message)
    present.sort(key=lambda code: (earliest[code], numbers[code] or 0.0, log.epochs[code]))
    rank = np.zeros(len(log.epochs), dtype=np.int64)
    rank[present] = np.arange(len(present))
    return rank[codes], [log.epochs[code] for code in present]


def _number(name: str) -> float | None:
    try:
        return float(name)
    except ValueError:
        return None
