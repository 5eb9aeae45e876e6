"""Error rates as tables for people, on the screen or as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from rich import box
from rich.table import Table

from bandit.markdown_text import table, text
from bandit.report.numbers import NOTHING
from simulations.errors.checks import WORDS, CheckRow
from simulations.errors.rates import BOUNDS, DRIFT_BOUNDS, LUCK, ErrorRates, Row

MISSED = "✗"
COMMON = ("any_time", "decision", "wrong_deploy")

ERRORS = {
    "welch_looks": "Welch, looks",
    "welch_end": "Welch, end",
    "fixed_looks": "fixed, looks",
    "fixed_end": "fixed, end",
    "any_time": "any-time",
    "decision": "decision",
    "wrong_deploy": "wrong deploy",
}
"""Columns of the table of errors."""

INTERVALS = {
    "coverage": "coverage",
    "readable": "readable",
    "coverage_all": "coverage of all",
    "fixed_width": "fixed width",
    "any_time_width": "any-time width",
}
"""Columns of the table of intervals."""

POWER_HEAD = (
    "scenario",
    "regret per 1,000",
    "found better",
    "users, mean",
    "users, median",
    "at the end",
    "by the interval",
    "its users, mean",
)
"""Columns of the table of power."""

GUARDRAIL_HEAD = ("check", "measured", "standard error", "at most", "users, median", "against")
"""Columns of the tables of guardrails."""


def tables(result: ErrorRates) -> list[str | Table]:
    """Return the result as titles, tables and sentences."""
    parts: list[str | Table] = []
    for title, head, rows in _parts(result):
        parts += [title, _rich(head, rows)]
    return [*parts, *sentences(result)]


def document(result: ErrorRates) -> str:
    """Return the result as GitHub-flavoured Markdown."""
    lines: list[str] = []
    for title, head, rows in _parts(result):
        lines += [f"**{title}**", "", *table(head, [[text(cells[0]), *cells[1:]] for cells in rows]), ""]
    return "\n".join([*lines, *(f"- {sentence}" for sentence in sentences(result))]) + "\n"


def _parts(result: ErrorRates) -> Iterator[tuple[str, Sequence[str], list[list[str]]]]:
    """Give title, head and rows of each table."""
    if result.rows:
        yield "Errors", ("scenario", *ERRORS.values()), _with_groups(result.rows, ERRORS, "{:.3f}")
        ours = [row for row in result.rows if not row.reading]
        yield "Intervals", ("scenario", *INTERVALS.values()), _with_groups(ours, INTERVALS, "{:.3f}")
    powers = power_cells(result)
    if powers:
        yield "Power", POWER_HEAD, powers
    for kind, words in WORDS.items():
        rows = [row for row in result.guardrails if row.check.kind == kind]
        if rows:
            yield f"Guardrails, {kind}: {words}", GUARDRAIL_HEAD, _check_cells(rows)


def power_cells(result: ErrorRates) -> list[list[str]]:
    """Return the table of power: scenarios in which an arm is better at some time, read as the product does."""
    rows = [row for row in result.rows if "decided" in row.numbers and not row.reading]
    return [
        [
            row.name,
            _number(row, "regret", "{:.1f}"),
            _number(row, "decided", "{:.3f}"),
            _number(row, "decided_users", "{:,.0f}"),
            NOTHING if row.median_users is None else f"{row.median_users:,.0f}",
            _number(row, "decided_end", "{:.3f}"),
            _number(row, "interval_decided", "{:.3f}"),
            _number(row, "interval_users", "{:,.0f}"),
        ]
        for row in rows
    ]


def sentences(result: ErrorRates) -> list[str]:
    """Return what the numbers are, and where they should lie."""
    found = _of_scenarios(result) if result.rows else []
    if not result.rows:
        found.append(f"{result.replications:,} runs of each check, seed {result.seed}.")
    if result.guardrails:
        found += _GUARDRAIL_SENTENCES
    total = len(result.rows) + len(result.guardrails)
    return [
        *found,
        "A name with a colon shows what goes wrong when runs are read in another way; it has no bounds.",
        f"{MISSED} marks a number out of its bounds by over two standard errors: {result.missed} of {total} rows.",
    ]


def _of_scenarios(result: ErrorRates) -> list[str]:
    common = [row.numbers[name].error or 0.0 for row in result.rows for name in COMMON if not row.reading]
    bounds = "; ".join(
        f"{_words(name)} {'at most ' if low == 0 else f'{low:g} to '}{high:g}" for name, (low, high) in BOUNDS.items()
    )
    drift = "; ".join(f"{_words(name)} at most {high:g}" for name, (_, high) in DRIFT_BOUNDS.items())
    return [
        (
            f"{result.replications:,} runs of each scenario, seed {result.seed}. Standard errors: at most "
            f"{max(common):.4f} for any-time intervals and decisions; all are in the JSON."
        ),
        (
            "Errors are shares of runs. Welch: a 95 % interval of some arm misses the true effect, at some look or at "
            "the end. Fixed: so does the shared-weight interval (levels together 95 %), at looks with events enough. "
            "Any-time: so does the any-time interval at any look. Decision: some arm is at any look declared better or "
            "worse and never is; wrong deploy: declared better. Every closing of an epoch is a look."
        ),
        (
            "Coverage is that of the fixed-time 95 % interval at the end, in runs and of arms with events enough "
            "(readable: their share). An unlucky arm gets few users and is not readable, so where many are not, "
            "coverage is above 95 % and that of all below. Widths are at the end, relative to Welch's 95 % interval "
            "after an equal split of the same users."
        ),
        (
            "Found better: the best arm is declared better at some look; users by then, all of them where it never is. "
            "By the interval: the any-time interval lies above 0 at some look."
        ),
        f"Bounds: {bounds}; where the base rate moves also {drift}.",
    ]


_GUARDRAIL_SENTENCES = [
    (
        "Guardrails: an absolute limit is looked at with every value that could break it, one relative to control and "
        "a certificate at every closing of an epoch. A bound of suspensions is the sum of the shares of alpha that the "
        "limits and windows of the check have; all guardrails together may spend 0.8 alpha."
    ),
    (
        "Delays: users of the arm from which it was beyond its limit, until it is suspended; half of the runs take "
        "longer. Late changes leave out runs that suspended before the change."
    ),
]


def _check_cells(rows: Sequence[CheckRow]) -> list[list[str]]:
    """Return the rows of checks, each group under a line of its own; what is above its bound is marked."""
    cells = []
    for group, members in groupby(rows, key=lambda row: row.check.group):
        cells.append([f"{group}:", *[""] * (len(GUARDRAIL_HEAD) - 1)])
        for row in members:
            mark = f"{MISSED} " if row.missed(LUCK) else ""
            numbers = [(row.number.value, "{:.4f}"), (row.number.error, "{:.4f}"), (row.bound, "{:.4f}")]
            users = [(row.median_users, "{:,.0f}"), (row.against, "{:,.0f}")]
            shown = [NOTHING if value is None else pattern.format(value) for value, pattern in [*numbers, *users]]
            cells.append([f"{mark}{row.name}", *shown])
    return cells


def _words(name: str) -> str:
    return ERRORS.get(name) or INTERVALS[name]


def _number(row: Row, name: str, pattern: str) -> str:
    value = row.numbers[name].value
    shown = NOTHING if value is None else pattern.format(value)
    return f"{MISSED} {shown}" if name in row.missed else shown


def _with_groups(rows: Sequence[Row], columns: Mapping[str, str], pattern: str) -> list[list[str]]:
    """Return the rows, each group under a line of its own; what is out of its bounds is marked."""
    cells = []
    for group, members in groupby(rows, key=lambda row: row.scenario.group):
        cells.append([f"{group}:", *[""] * len(columns)])
        for row in members:
            mark = f"{MISSED} " if set(row.missed) & set(columns) else ""
            cells.append([f"{mark}{row.name}", *(_number(row, name, pattern) for name in columns)])
    return cells


def _rich(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for column in head:
        shown.add_column(column, justify="left" if column == head[0] else "right", no_wrap=column == head[0])
    for cells in rows:
        shown.add_row(*cells)
    return shown
