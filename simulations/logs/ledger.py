"""From the users of a log to what the report reads: sums per (epoch, arm).

Calls make outcomes and outcomes make sums by the engine's own functions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bandit.arrays import FloatArray, IntArray
from bandit.experiment import Experiment
from bandit.history import History
from bandit.ledger import Ledger, exact_row
from bandit.measures import FAILED, Measure, first_origin, measures_of
from bandit.outcomes import Outcome, outcome_value, with_call
from simulations.logs.epochs import cuts
from simulations.logs.log import Log
from simulations.logs.users import Users


def history_of(log: Log, users: Users, experiment: Experiment, window: float | None = None) -> History:
    """Return what the report reads.

    Args:
        log: The rows.
        users: From `users_of`, with this experiment's arms.
        experiment: Says what is measured. A metric without values in the log has no sums.
        window: As for `users_of`; users whose window had not ended at the log's last time are in open epochs.
    """
    n_users, n_arms = len(users.arm), experiment.n_arms
    now = None if log.time is None else float(log.time.max())
    n_closed = n_users
    if users.since is not None and now is not None and window is not None:
        still_open = np.flatnonzero(users.since + window >= now)
        n_closed = int(still_open[0]) if still_open.size else n_users
    starts = cuts(users.stretches.starts, n_users, n_closed)
    shape = (len(starts), n_arms)
    epoch = np.searchsorted(starts, np.arange(n_users), side="right") - 1
    cell = epoch * n_arms + users.arm

    sums, origins = [], []
    for slot, measure in enumerate(measures_of(experiment)):
        outcomes, first = _outcomes(log, users, measure, first_is_final=experiment.window_seconds is None)
        declared = first_origin(experiment, slot)
        origin = first if declared is None else declared
        sums.append(_sums(measure, origin or 0.0, outcomes, cell, shape))
        origins.append(origin)
    assigned = np.bincount(cell, minlength=len(starts) * n_arms).reshape(shape).astype(np.int64)
    p = users.stretches.probabilities
    return History(
        ledger=Ledger(assigned, np.zeros(shape, dtype=np.int64), tuple(sums), tuple(origins)),
        closed_epochs=int(np.searchsorted(starts, n_closed)),
        probabilities=None if p is None else p[np.searchsorted(users.stretches.starts, starts, side="right") - 1],
        started_at=None if users.since is None else _beginnings(users.since, starts),
        now=now,
        unit="row" if log.user is None else "user",
    )


def _beginnings(since: FloatArray, starts: IntArray) -> FloatArray:
    """Return when each epoch began, never before the one before it, although declared epochs may overlap in time."""
    return np.asarray(np.maximum.accumulate(np.minimum.reduceat(since, starts)))


def _calls(log: Log, users: Users, measure: Measure) -> tuple[IntArray, list[float]]:
    """Return the user of each call on a measure, and what it counts; a failed call counts the measure's own value."""
    values = np.full(log.n_rows, np.nan)
    failed = np.full(log.n_rows, np.nan) if log.failed is None else log.failed
    if measure.metric == FAILED:
        values = failed
    elif measure.metric in log.metrics:
        values = log.metrics[measure.metric]
    values, crashed = values[users.rows], failed[users.rows] == 1.0
    counted = crashed if measure.failed is not None else np.zeros_like(crashed)
    counted = counted | (~crashed & ~np.isnan(values))
    fixed = measure.failed or 0.0
    calls = [
        fixed if failure else measure.call(value)
        for value, failure in zip(values[counted].tolist(), crashed[counted].tolist(), strict=True)
    ]
    return users.of[counted], calls


def _outcomes(
    log: Log, users: Users, measure: Measure, *, first_is_final: bool
) -> tuple[list[Outcome | None], float | None]:
    """Return the state of each user's outcome, None without a call, and the first outcome that there was."""
    states: list[Outcome | None] = [None] * len(users.arm)
    of, calls = _calls(log, users, measure)
    for user, call in zip(of.tolist(), calls, strict=True):
        before = states[user]
        if before is None:
            states[user] = call
        elif not first_is_final:
            states[user] = with_call(before, call)
    return states, outcome_value(measure, calls[0]) if calls else None


def _sums(
    measure: Measure, origin: float, outcomes: Sequence[Outcome | None], cell: IntArray, shape: tuple[int, int]
) -> FloatArray:
    """Return the sums over users, shape (n_epochs, n_arms, measure.width)."""
    of_cell: list[list[float]] = [[] for _ in range(shape[0] * shape[1])]
    for outcome, place in zip(outcomes, cell.tolist(), strict=True):
        if outcome is not None:
            of_cell[place].append(outcome_value(measure, outcome))
    return np.array([exact_row(measure, origin, each) for each in of_cell]).reshape(*shape, measure.width)
