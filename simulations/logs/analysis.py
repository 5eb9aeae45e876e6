"""The report on a log of an experiment that ran elsewhere: the same as the service gives, and an A/A check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bandit.durations import seconds
from bandit.experiment import Experiment
from bandit.history import History
from bandit.report import Report, build_report
from bandit.report.document import Comparison
from bandit.report.setup_check import RowCounts, SetupCheck, setup_check
from bandit.wording import received
from simulations.files import faults_in
from simulations.logs.columns import Named
from simulations.logs.correlation import intra_user_correlation
from simulations.logs.faults import refuse_log
from simulations.logs.ledger import history_of
from simulations.logs.log import Log, read_log
from simulations.logs.notes import notes_of
from simulations.logs.question import Question, experiment_of, with_options
from simulations.logs.users import Users, users_of
from simulations.logs.values import check_values, columns_of, with_fields


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a log says.

    Attributes:
        experiment: What was asked, options included.
        report: The report; its notes say what was assumed and what was left out.
        rows: How rows became users.
        late_rows: Rows after their user's window, not counted.
        stray_rows: Rows of another variant than that of their user's first row, not counted.
        check: The A/A check, if it was asked for.
    """

    experiment: Experiment
    report: Report
    rows: RowCounts
    late_rows: int
    stray_rows: int
    check: SetupCheck | None

    def to_dict(self) -> dict[str, Any]:
        """Return the report's JSON, with what became of the rows as `log`.

        An A/A check stands in the place of the decisions, as `setup_check`: no variant is to be deployed.
        """
        document = self.report.to_dict()
        document["log"] = {
            "rows_counted": self.rows.rows,
            "late_rows": self.late_rows,
            "stray_rows": self.stray_rows,
            "stray_users": self.rows.strays,
        }
        if self.check is not None:
            document["decision"] = None
            for variant in document["variants"]:
                variant["decision"] = None
            document["setup_check"] = self.check.to_dict()
        return document


def analyze_log(
    path: Path,
    question: Question,
    named: Named | None = None,
    declared: Experiment | None = None,
    *,
    same: bool = False,
    watch: Callable[[int], None] | None = None,
) -> Analysis:
    """Return the report on a log.

    Args:
        path: A file for `read_log`.
        question: What options ask, beside the experiment or instead of it.
        named: Columns named by options.
        declared: The experiment of a file; None: it is derived from the log.
        same: Whether all variants had the same configuration, so that the set-up is to be checked (A/A).
        watch: Told the bytes that were read, as they are.

    Raises:
        InvalidInput: The log is not right, or does not fit what is asked.
    """
    if declared is None:
        return _derived(path, question, named, same=same, watch=watch)
    return _as_declared(path, question, named, declared, same=same, watch=watch)


def _derived(
    path: Path, question: Question, named: Named | None, *, same: bool, watch: Callable[[int], None] | None
) -> Analysis:
    wanted = () if question.goal is None else (question.goal,)
    log = read_log(path, named, metrics=wanted, watch=watch)
    experiment, assumed = experiment_of(log, question, path)
    others = [name for name in log.metrics if name != experiment.goal.metric]
    split = None if question.split is None else experiment.split
    reading = _Reading.of(path, log, experiment, question, split, question.window)
    found = [] if not same else [each for name in others for each in _differences(reading, question, path, name)]
    if others and not same:
        names = ", ".join(received(name) for name in others)
        assumed.append(
            f"Further columns of numbers: {names}. Declare them as guardrails to get them judged (--experiment)."
        )
    return reading.analysis(question, assumed, found, same=same)


def _as_declared(
    path: Path,
    question: Question,
    named: Named | None,
    declared: Experiment,
    *,
    same: bool,
    watch: Callable[[int], None] | None,
) -> Analysis:
    experiment = with_options(declared.to_dict(), question)
    log = read_log(path, named, variants=experiment.arms, metrics=columns_of(experiment), only=True, watch=watch)
    log = with_fields(log, experiment)
    with faults_in(path):
        if experiment.goal.metric not in log.metrics:
            message = f"there is no column {received(experiment.goal.metric)} with values, the goal of the experiment"
            raise refuse_log("line 1", message)
        check_values(log, experiment)
    split = experiment.split if experiment.policy.kind == "fixed" else None
    reading = _Reading.of(path, log, experiment, question, split, experiment.rewards.window)
    return reading.analysis(question, _overrides(question), (), same=same)


def _overrides(question: Question) -> list[str]:
    """Return which options stand in the place of what the experiment file says."""
    names = ("split", "window", "alpha", "horizon_users", "min_days")
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(question, name) is not None]
    return [f"Options were taken instead of what the experiment file says: {', '.join(given)}."] if given else []


@dataclass(frozen=True, slots=True)
class _Reading:
    """A log as one experiment reads it.

    Attributes:
        log: The rows.
        users: From `users_of`.
        experiment: What is asked.
        history: What the report reads.
        window: Seconds from a user's first row in which rows count; None: all count.
    """

    log: Log
    users: Users
    experiment: Experiment
    history: History
    window: float | None

    @classmethod
    def of(
        cls,
        path: Path,
        log: Log,
        experiment: Experiment,
        question: Question,
        split: Sequence[float] | None,
        length: str | None,
    ) -> _Reading:
        if question.window is not None and question.window != "request" and log.time is None:
            raise refuse_log(
                "--window", "received beside a log without times, allowed: with a column of times (--time)"
            )
        window = None if length in (None, "request") or log.time is None else seconds(length)
        with faults_in(path):
            users = users_of(log, experiment.arms, split, window)
        return cls(log, users, experiment, history_of(log, users, experiment, window), window)

    def analysis(
        self, question: Question, assumed: Sequence[str], others: Sequence[Comparison], *, same: bool
    ) -> Analysis:
        """Return the report and the check."""
        experiment = self.experiment
        if question.one_look and self.history.closed_epochs == 0:
            message = "no user's window had ended when the log ends, so there is nothing to look at"
            raise refuse_log("--one-look", message)
        one_look = question.one_look
        notes = notes_of(self.log, self.users, experiment, self.history, self.window, one_look=one_look, same=same)
        report = build_report(experiment, self.history, "log", one_look=question.one_look)
        report = replace(report, notes=(*assumed, *notes, *report.notes))
        users = self.users
        rows = RowCounts(
            rows=len(users.rows),
            users=len(users.arm),
            strays=users.strays,
            correlation=intra_user_correlation(self.log.metrics[experiment.goal.metric][users.rows], users.of),
        )
        check = setup_check(experiment, self.history, report, rows, others) if same else None
        return Analysis(experiment, report, rows, users.late_rows, users.stray_rows, check)


def _differences(reading: _Reading, question: Question, path: Path, name: str) -> list[Comparison]:
    """Return how variants differ on a metric that is not the goal."""
    asked = replace(question, goal=name, missing=None, per_user=None)
    experiment = experiment_of(reading.log, asked, path)[0]
    history = history_of(reading.log, reading.users, experiment, reading.window)
    return [each for each in build_report(experiment, history, "log").comparisons if each.role == "goal"]
