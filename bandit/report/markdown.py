"""The report as Markdown for people."""

from __future__ import annotations

from collections.abc import Sequence

from bandit.inference.welch import Welch
from bandit.report.document import GuardrailReport, Report, VariantReport

NOTHING = "–"


def markdown(report: Report) -> str:
    """Return the report as GitHub-flavoured Markdown."""
    goal = report.goal
    status = (
        f"**{report.state}** · goal {_text(goal['metric'])} ({goal['kind']}, {goal['better']} is better) · "
        f"{report.assigned:,} users assigned, {report.pending:,} of them pending · epoch {report.epochs}, "
        f"{report.closed_epochs} closed"
    )
    lines = [
        f"# {_text(report.experiment)}",
        "",
        *([f"> {_text(report.hypothesis)}", ""] if report.hypothesis else []),
        status,
        "",
        *_table(
            ("variant", "share now", "users", "with outcome", "mean", "95 % credible interval", "P(best)",
             "expected loss"),
            [_row(variant) for variant in report.variants],
        ),
        "",
    ]  # fmt: skip
    tests = [(variant.key, variant.welch) for variant in report.variants if variant.welch is not None]
    if tests:
        level = f"{100 * (1 - report.alpha):g} % interval"
        rows = [_test(key, test) for key, test in tests]
        lines += ["## Welch test against control", ""]
        lines += [*_table(("variant", "difference", level, "p-value", "trust"), rows), ""]
    if report.guardrails:
        keys = [variant.key for variant in report.variants]
        rows = [_guardrail(guardrail, keys) for guardrail in report.guardrails]
        lines += ["## Guardrails", ""]
        lines += [*_table(("metric", "limit", *map(_text, keys), "enforced"), rows), ""]
    lines += [f"- {note}" for note in report.notes]
    return "\n".join(lines).rstrip() + "\n"


def _row(variant: VariantReport) -> tuple[str, ...]:
    interval = NOTHING if variant.interval is None else f"{variant.interval[0]:.4g} to {variant.interval[1]:.4g}"
    return (
        _text(variant.key) + (" (control)" if variant.control else ""),
        NOTHING if variant.share is None else f"{variant.share:.1%}",
        f"{variant.users:,}",
        f"{variant.with_outcome:,}",
        _number(variant.mean),
        interval,
        NOTHING if variant.p_best is None else _chance(variant.p_best),
        "< 1e-9"
        if variant.expected_loss is not None and variant.expected_loss < 1e-9
        else _number(variant.expected_loss),
    )


def _test(key: str, test: Welch) -> tuple[str, ...]:
    trust = "yes" if test.trustworthy else "**no**: " + "; ".join(test.reasons)
    low, high = test.interval
    return (_text(key), f"{test.difference:+.4g}", f"{low:+.4g} to {high:+.4g}", f"{test.p_value:.3g}", trust)


def _guardrail(guardrail: GuardrailReport, keys: Sequence[str]) -> tuple[str, ...]:
    means = (_number(guardrail.mean[key]) for key in keys)
    return (_text(guardrail.metric), guardrail.limit, *means, "yes" if guardrail.enforced else "no")


def _chance(p: float) -> str:
    """Show a probability; one that rounds to 0 or 1 is neither."""
    if p < 0.001:
        return "< 0.1%"
    return "> 99.9%" if p > 0.999 else f"{p:.1%}"


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4g}"


def _text(value: str) -> str:
    """Escape what users named, so that it can neither break the table nor become markup."""
    for mark in "\\`*_[]<>|#":
        value = value.replace(mark, "\\" + mark)
    return value.replace("\n", " ")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    align = ["---", *("---:" for _ in head[1:])]
    return ["| " + " | ".join(cells) + " |" for cells in (head, align, *rows)]
