"""What a reader of the report on a log has to know: what was read, what was left out, what cannot be said."""

from __future__ import annotations

from bandit.experiment import Experiment
from bandit.history import History
from bandit.wording import listed, received
from simulations.logs.log import Log
from simulations.logs.users import Users


def notes_of(
    log: Log,
    users: Users,
    experiment: Experiment,
    history: History,
    window: float | None,
    *,
    one_look: bool,
    same: bool,
) -> list[str]:
    """Return the notes, a sentence or two each.

    Args:
        log: The rows.
        users: From `users_of`.
        experiment: What is asked.
        history: From `history_of`.
        window: Seconds in which a user's rows count; None: all do.
        one_look: Whether this is the one look that was planned beforehand.
        same: Whether an A/A check stands in the place of the decision.
    """
    notes = [_read(log, users), *_left_out(log, users), *_windows(log, users, experiment, history, window)]
    if one_look:
        notes.append(
            f"This is declared to be the one look planned beforehand (--one-look): the horizon is these "
            f"{history.closed.users.sum():,.0f} {history.unit}s, and fixed-time numbers are final. That is right "
            "only if their number was fixed before the first one, and nobody looked."
        )
    elif experiment.analysis.horizon_users is None and experiment.analysis.horizon_days is None and not same:
        notes.append(
            "No horizon was declared, so fixed-time numbers are not final. If this is the one look that was planned "
            "beforehand, say so (--one-look); if a number of users was, --horizon-users."
        )
    notes += _propensities(users, history)
    notes += _unknown_metrics(log, experiment)
    return notes


def _read(log: Log, users: Users) -> str:
    found = [f"{role} {received(column)}" for role, column in log.roles.column.items()]
    if log.roles.each:
        found.append(f"propensities {listed(log.roles.each.values())}")
    who = f"{log.n_rows:,} rows" if log.user is None else f"{log.n_rows:,} rows of {len(users.arm):,} users"
    return f"Read: {who}. Columns: {', '.join(found)}."


def _left_out(log: Log, users: Users) -> list[str]:
    notes = []
    if users.stray_rows:
        notes.append(
            f"{users.strays:,} users have rows of more than one variant: they count for that of their first row, and "
            f"their {users.stray_rows:,} rows of another are left out."
        )
    if users.late_rows:
        notes.append(f"{users.late_rows:,} rows came after their user's window and are left out.")
    notes += [f"Column {received(name)} is left out: {reason}." for name, reason in log.unread.items()]
    return notes


def _windows(log: Log, users: Users, experiment: Experiment, history: History, window: float | None) -> list[str]:
    if window is not None:
        pending = int(history.ledger.assigned[history.closed_epochs :].sum())
        if not pending:
            return []
        return [
            f"The window of {pending:,} users had not ended when the log ends: they are in no number but `assigned`."
        ]
    if experiment.window_seconds is None or log.user is None or len(users.rows) == len(users.arm):
        return []
    if log.time is None:
        return ["There are no times, so every row of a user counts, however late it came."]
    late = "users at the end of the log had less time than those at its beginning"
    return [f"No window was given (--window), so every row of a user counts, however late: {late}."]


def _propensities(users: Users, history: History) -> list[str]:
    notes = list(users.stretches.notes)
    if history.probabilities is None:
        notes.append(
            "Without propensities there remain means and Welch's test, and Welch's test is right only if the split was "
            "fixed all the time and this is the one look. Intervals that allow for looking at any time, the check of "
            "the split, and decisions need the split (--split A=0.5,B=0.5) or a column of propensities."
        )
    if not users.ordered:
        notes.append(
            "Nothing says the order in which users came (--time): they are put into that of a hash. Whether means "
            "moved over time cannot be seen, and any-time evidence is that of a random order."
        )
    return notes


def _unknown_metrics(log: Log, experiment: Experiment) -> list[str]:
    without = dict.fromkeys(
        rail.metric
        for rail in experiment.guardrails
        if rail.metric not in log.metrics and not (rail.metric == "failed" and log.failed is not None)
    )
    return [f"The log has no values of {received(name)}: its guardrail cannot be judged." for name in without]
