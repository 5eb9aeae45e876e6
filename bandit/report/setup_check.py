"""A/A check: is the set-up to be trusted, judged by data in which every variant was the same.

A set-up is right if nothing can be told apart. Counts are tested as in every report (three checks share alpha);
differences share another alpha over all metrics and variants, at all looks together. So a set-up without a fault fails
with a probability of at most 2 alpha, however often it is looked at. What small faults would have stayed hidden is part
of the answer: see `Sensitivity`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bandit.experiment import Experiment
from bandit.history import History
from bandit.markdown_text import table, text
from bandit.report.document import ArmCheck, Comparison, Report
from bandit.report.numbers import level, percent

Outcome = Literal["pass", "warn", "fail", "unknown"]
"""`warn`: to be known, no fault; `unknown`: the data cannot say, so the set-up is not shown to be right."""

FEELABLE = 1.05
"""Errors that are off by a smaller factor are right enough."""

MOST_STRAYS = 0.01
"""A set-up fails if a larger share of users had more than one variant."""


@dataclass(frozen=True, slots=True)
class RowCounts:
    """How rows became users.

    Attributes:
        rows: Rows that count.
        users: Users.
        strays: Users with rows of more than one variant.
        correlation: Intra-user correlation of the goal's values, at most 1; None where no user has two.
    """

    rows: int
    users: int
    strays: int
    correlation: float | None


@dataclass(frozen=True, slots=True)
class SetupItem:
    """One question about the set-up.

    Attributes:
        name: What was looked at.
        outcome: One of `Outcome`.
        sentence: What was found, for people.
    """

    name: str
    outcome: Outcome
    sentence: str


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """How large a difference the check could have seen on a metric.

    Attributes:
        metric: Name of the metric.
        statistic: What was compared, in words.
        variant: Key of the variant compared with control.
        control_mean: Control's mean outcome, in the metric's unit.
        difference: The variant's estimated difference from control, same unit.
        half_width: Half of the any-time interval, same unit: differences much smaller stay hidden; None: too few users.
        relative: `half_width` over |control's mean|; None where that is 0.
        p_value: Any-time p-value of no difference; None where it cannot be had.
    """

    metric: str
    statistic: str
    variant: str
    control_mean: float | None
    difference: float | None
    half_width: float | None
    relative: float | None
    p_value: float | None


@dataclass(frozen=True, slots=True)
class SetupCheck:
    """Whether a set-up is to be trusted.

    Attributes:
        passed: Whether nothing failed and nothing is unknown.
        false_alarm: Largest probability with which a set-up without a fault fails.
        items: The questions, each with its outcome.
        sensitivity: One entry per metric and treatment.
    """

    passed: bool
    false_alarm: float
    items: tuple[SetupItem, ...]
    sensitivity: tuple[Sensitivity, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the check as JSON types."""
        return asdict(self)


def setup_check(
    experiment: Experiment,
    history: History,
    report: Report,
    rows: RowCounts | None = None,
    others: Sequence[Comparison] = (),
) -> SetupCheck:
    """Return the check of data in which all variants had the same configuration.

    Args:
        experiment: What was asked.
        history: What happened.
        report: From `build_report` of the two.
        rows: How rows became users; None: not known.
        others: Comparisons on metrics that the experiment does not name, from reports of their own.
    """
    alpha = experiment.policy.alpha
    compared = [each for each in (*report.comparisons, *others) if each.role != "response"]
    sizes = tuple(_sensitivity(each) for each in compared)
    items = [
        _counts("sample ratio", report.checks.assigned, history.unit, "assigned"),
        _responses(report, history.unit),
        *(
            _difference(size, alpha / len(sizes), is_goal=each.role == "goal" and each not in others)
            for size, each in zip(sizes, compared, strict=True)
        ),
        _drift(report, has_clock=history.started_at is not None),
        *_rows(rows, history.unit),
    ]
    passed = all(item.outcome in ("pass", "warn") for item in items)
    return SetupCheck(passed, 2.0 * alpha, tuple(items), sizes)


def setup_markdown(check: SetupCheck) -> list[str]:
    """Return the check as lines of Markdown, without a heading."""
    failed, unknown = ([item.name for item in check.items if item.outcome == kind] for kind in ("fail", "unknown"))
    verdict = "**The set-up passes.**"
    if failed:
        verdict = f"**The set-up fails**: {text(', '.join(failed))}."
    elif unknown:
        verdict = f"**Whether the set-up is right cannot be said yet**: {text(', '.join(unknown))}."
    rows = [(text(item.name), _MARKS[item.outcome], text(item.sentence)) for item in check.items]
    seen = [
        f"- {text(each.metric)} ({text(each.statistic)}), {text(each.variant)} against control: {_hidden(each)}"
        for each in check.sensitivity
    ]
    error = f"A set-up without a fault fails with a probability of at most {percent(check.false_alarm)}"
    return [
        f"{verdict} {error}, at all looks together.",
        "",
        *table(("question", "outcome", "what was found"), rows, "lll"),
        "",
        "What this check could have seen:",
        "",
        *seen,
    ]


_MARKS: dict[Outcome, str] = {"pass": "pass", "warn": "note", "fail": "**FAIL**", "unknown": "**unknown**"}


def _counts(name: str, counts: Sequence[ArmCheck], unit: str, what: str) -> SetupItem:
    """Return whether counts of users are as expected."""
    if not counts:
        cure = "declare the split, or give propensities"
        return SetupItem(name, "unknown", f"Nobody knows with which probabilities {unit}s were assigned: {cure}.")
    found = "; ".join(
        f"{each.variant} {each.users:,} {what}, {each.expected:,.0f} expected{_odds(each)}" for each in counts
    )
    return SetupItem(name, "fail" if any(each.flagged for each in counts) else "pass", f"{found}.")


def _odds(check: ArmCheck) -> str:
    return f" (e-value {check.e_value:.3g})" if check.flagged else ""


def _responses(report: Report, unit: str) -> SetupItem:
    """Return whether users have a value of the goal equally often."""
    checks = report.checks
    if not checks.response:
        return _counts("response", (), unit, "")
    if any(each.flagged for each in checks.assigned):  # they would be missed here as well
        return SetupItem("response", "unknown", f"Cannot be told while {unit}s are missing before they could answer.")
    odd = [each for each in checks.with_outcome if each.flagged]
    return _counts("response", (*odd, *checks.response), unit, f"with a value of {report.goal['metric']}")


def _sensitivity(found: Comparison) -> Sensitivity:
    interval = None if found.any_time is None else found.any_time.interval
    half = None if interval is None else (interval[1] - interval[0]) / 2.0
    estimate = found.any_time or found.fixed_time
    mean = found.control_mean
    p_value = None if found.any_time is None else found.any_time.p_value
    if found.e_process is not None:
        p_value = found.e_process.p_value
    return Sensitivity(
        metric=found.metric,
        statistic=found.statistic,
        variant=found.variant,
        control_mean=mean,
        difference=None if estimate is None else estimate.difference,
        half_width=half,
        relative=None if half is None or not mean else half / abs(mean),
        p_value=p_value,
    )


def _difference(found: Sensitivity, limit: float, *, is_goal: bool) -> SetupItem:
    """Return whether a variant can be told from control although both are the same."""
    name = f"{found.metric} of {found.variant}"
    if found.p_value is None:
        return SetupItem(name, "unknown", "Cannot be tested without propensities or without values.")
    p = f"p = {found.p_value:.2g} at any look"
    if found.p_value <= limit:
        what = "differs" if found.difference is None else f"differs by {found.difference:+.3g}"
        return SetupItem(name, "fail", f"The {found.statistic} {what} from control's although both are the same: {p}.")
    if found.half_width is None and is_goal:
        return SetupItem(name, "unknown", "Too few users, or no variation, to say anything: collect more.")
    if found.half_width is None:
        sentence = f"Nothing seen, but so few or so skewed values show little: {p}."
        return SetupItem(name, "warn", sentence)
    return SetupItem(name, "pass", f"No difference from control: {p}.")


def _hidden(found: Sensitivity) -> str:
    if found.half_width is None:
        cause = "probabilities are not known" if found.p_value is None else "too few users, or too skewed"
        return f"nothing; {cause}."
    part = "" if found.relative is None else f", {percent(found.relative)} of control's {found.statistic}"
    mean = "" if found.control_mean is None else f" (control: {level(found.control_mean, is_share=False)})"
    return f"a difference of about {found.half_width:.3g}{part}{mean}; smaller ones stay hidden."


def _drift(report: Report, *, has_clock: bool) -> SetupItem:
    moved = report.checks.drift
    if moved:
        who = ", ".join(moved)
        return SetupItem(
            "drift", "warn", f"The goal's mean moved over time in {who}: no fault, but means are averages."
        )
    if not has_clock:
        return SetupItem("drift", "warn", "There are no times, so whether means moved cannot be told.")
    return SetupItem("drift", "pass", "The goal's mean did not move over time.")


def _rows(rows: RowCounts | None, unit: str) -> list[SetupItem]:
    if rows is None:
        return []
    return [_unit(rows, unit)] if unit == "row" else [_strays(rows), _unit(rows, unit)]


def _strays(rows: RowCounts) -> SetupItem:
    """Return whether users kept their variant."""
    share = rows.strays / rows.users
    if not rows.strays:
        return SetupItem("sticky users", "pass", "No user changed variant.")
    found = f"{rows.strays:,} of {rows.users:,} users changed variant ({percent(share, 2)}): "
    if share > MOST_STRAYS:
        return SetupItem("sticky users", "fail", f"{found}assignment is not sticky, or ids are not those of users.")
    return SetupItem("sticky users", "warn", f"{found}few enough; they count for their first one.")


def _unit(rows: RowCounts, unit: str) -> SetupItem:
    """Return whether the unit that is counted is the one that is independent."""
    if unit == "row":
        found = "No column says the user, so nobody knows which rows are one user's, and errors may be too small."
        return SetupItem("unit", "warn", found)
    each = rows.rows / rows.users
    if rows.correlation is None or each <= 1.0:
        return SetupItem("unit", "pass", "A user has one row.")
    inflation = math.sqrt(1.0 + (each - 1.0) * max(rows.correlation, 0.0))
    found = f"A user has {each:.3g} rows, with a correlation of {rows.correlation:.2g} within users. Users are counted"
    if inflation < FEELABLE:
        return SetupItem("unit", "pass", f"{found}; counting rows would do no harm.")
    return SetupItem("unit", "pass", f"{found}; with rows, errors would be {inflation:.2g} times what they seem to be.")
