"""The guardrails of a plan in words and cells."""

from __future__ import annotations

from bandit.experiment import Guardrail
from bandit.limits import limit_in_words
from bandit.planning import Certification
from bandit.report.numbers import NOTHING, percent
from simulations.plans.sizing import GuardrailRow, Sizing

NEVER = "never"
GUARDRAIL_HEAD = ("guardrail", "limit", "expected", "users of a variant", "days")


def guardrail_warnings(sized: Sizing) -> list[str]:
    """Return what keeps guardrails from being certified, or from being so in time."""
    never = [
        f"Warning: no variant can be deployed, as {row.certification.metric} cannot be certified: "
        f"{row.certification.reason}."
        for row in sized.guardrails
        if row.certification.reason is not None
    ]
    return [*never, *_late(sized)]


def _late(sized: Sizing) -> list[str]:
    late = [
        f"{row.certification.metric} ({count(row.schedule.days, 'day')})"
        for row in sized.guardrails
        if row.schedule is not None and row.schedule.days > sized.max_days
    ]
    if not late:
        return []
    allowed = f"{sized.max_days:g} days (--max-days)"
    return [f"Warning: these guardrails need more than {allowed} to be certified: {', '.join(late)}."]


def guardrail_cells(sized: Sizing) -> list[tuple[str, ...]]:
    """Return the guardrails: cells under `GUARDRAIL_HEAD`."""
    pairs = zip(sized.experiment.guardrails, sized.guardrails, strict=True)
    return [_guardrail_row(guardrail, row) for guardrail, row in pairs]


def _guardrail_row(guardrail: Guardrail, row: GuardrailRow) -> tuple[str, ...]:
    found = row.certification
    limit, about = limit_in_words(guardrail), "about " if found.approximate else ""
    if guardrail.tolerance:
        limit += f" (certified {found.side} {_level(found, found.limit)})"
    return (
        found.metric,
        limit,
        _level(found, found.expected) + (" (assumed)" if found.assumed else ""),
        NEVER if found.users is None else f"{about}{found.users:,}",
        NOTHING if row.schedule is None else f"{row.schedule.days:,}",
    )


def _level(found: Certification, number: float) -> str:
    if found.kind == "rate":
        return percent(number)
    if found.kind == "mean":
        return f"{number:.4g}"
    change = round(number - 1.0, 12)
    return "as control" if change == 0 else f"{percent(abs(change))} {'above' if change > 0 else 'below'} control"


def guardrail_sentences(sized: Sizing) -> list[str]:
    """Return how certification is to be read, and what was assumed."""
    sentences = [
        (
            "Certified: the data show that the limit is kept; a variant is deployed only then. The sizes are for the "
            "expected level, and 4 to 5 of 10 experiments need more. A variant exactly at its limit is never "
            "certified: set the limit where harm begins, or declare a tolerance."
        )
    ]
    sentences += [
        f"Assumed for {row.certification.metric}: {'; '.join(row.certification.assumed)}."
        for row in sized.guardrails
        if row.certification.assumed
    ]
    return sentences


def count(number: int, noun: str) -> str:
    """Return a number of things in words: 1 day, 2 days."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
