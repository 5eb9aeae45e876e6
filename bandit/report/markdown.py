"""The report as Markdown for people: what to do first, what it rests on below."""

from __future__ import annotations

from collections.abc import Sequence

from bandit.inference.welch import Welch
from bandit.markdown_text import table, text
from bandit.report.document import (
    ArmCheck,
    Comparison,
    Estimate,
    GuardrailReport,
    GuardrailState,
    Report,
    VariantReport,
)
from bandit.report.numbers import NOTHING, about, days, level, percent

_VERDICTS = {
    "deploy": "deploy",
    "keep_running": "keep running",
    "do_not_deploy": "do not deploy",
    "inconclusive": "inconclusive",
    "unknown": "not known",
}


def markdown(report: Report) -> str:
    """Return the report as GitHub-flavoured Markdown."""
    lines = [f"# {text(report.experiment)}", ""]
    if report.hypothesis:
        lines += [f"> {text(report.hypothesis)}", ""]
    lines += [_status(report), "", *_decision(report), "## Variants", "", *_variants(report)]
    lines += _goal(report)
    if report.guardrails:
        lines += ["## Guardrails", "", *_guardrails(report)]
    lines += _others(report)
    if report.judged:
        lines += ["## Judges beside people", "", *_judged(report)]
    lines += ["## Are the data right?", "", *(f"- {text(line)}" for line in check_lines(report)), ""]
    if report.notes:
        lines += ["## Notes", "", *(f"- {text(note)}" for note in report.notes)]
    return "\n".join(lines).rstrip() + "\n"


def _status(report: Report) -> str:
    goal = report.goal
    goal_words = f"goal {text(goal['metric'])} ({goal['kind']}, {goal['better']} is better)"
    if report.state == "log":
        age = "" if report.age_days is None else f" over {days(report.age_days)}"
        pending = f", {report.pending:,} of them too late to count" if report.pending else ""
        return f"**log** · {goal_words} · {report.assigned:,} {report.unit}s{age}{pending}"
    age = "" if report.age_days is None else f"{days(report.age_days)} old · "
    return (
        f"**{report.state}** · {age}{goal_words} · {report.assigned:,} users assigned, {report.pending:,} of them "
        f"pending · epoch {report.epochs}, {report.closed_epochs} closed"
    )


def _decision(report: Report) -> list[str]:
    lines = ["## Decision", "", f"**{text(report.decision.sentence)}**", ""]
    others = [
        variant.decision.sentence
        for variant in report.variants
        if variant.decision is not None and variant.decision.sentence not in report.decision.sentence
    ]
    return lines + ([*(f"- {text(sentence)}" for sentence in others), ""] if others else [])


def _is_share(report: Report) -> bool:
    return bool(report.goal["kind"] == "binary")


def _variants(report: Report) -> list[str]:
    share = _is_share(report)
    running = any(variant.share is not None for variant in report.variants)
    lifts = {each.variant: each for each in report.comparisons if each.role == "goal"}
    head = [
        "variant",
        *(["share now"] if running else []),
        f"{report.unit}s",
        "with outcome",
        "mean",
        "against control",
    ]
    head += ["P(best)", "expected loss", "95 % credible interval", "what to do"]
    rows = []
    for variant in report.variants:
        found = lifts.get(variant.key)
        lift = None if found is None or found.lift is None else found.lift.relative
        interval = NOTHING
        if variant.interval is not None:
            interval = " to ".join(level(end, is_share=share) for end in variant.interval)
        cells = [text(variant.key) + (" (control)" if variant.control else "")]
        cells += [NOTHING if variant.share is None else f"{variant.share:.1%}"] if running else []
        cells += [f"{variant.users:,}", f"{variant.with_outcome:,}", level(variant.mean, is_share=share)]
        cells += [
            NOTHING if lift is None else f"{100.0 * lift:+.3g} %",
            _chance(variant.p_best),
            _loss(variant, is_share=share),
            interval,
        ]
        cells += [NOTHING if variant.decision is None else _VERDICTS[variant.decision.verdict]]
        rows.append(tuple(cells))
    lines = [*table(head, rows, f"l{'r' * (len(head) - 2)}l"), ""]
    reasons = dict.fromkeys(reason for variant in report.variants for reason in variant.unreliable)
    if reasons:
        lines += [
            f"P(best), expected loss and credible intervals may mislead here: {text('; '.join(reasons))}.",
            "",
        ]
    return lines


def _goal(report: Report) -> list[str]:
    rows = []
    share = _is_share(report)
    for found in (each for each in report.comparisons if each.role == "goal"):
        horizon, when = "; not final before the horizon", "fixed-time estimate"
        if found.final:
            horizon, when = "", "fixed-time estimate at the horizon"
        once = _trust(found.reasons, "yes") + horizon
        rows += [
            _row(found, "any-time interval", found.any_time, share, _trust(found.doubts, "yes, at any look")),
            _row(found, when, found.fixed_time, share, once),
            _row(found, "… all users weighted alike", found.unweighted, share, once),
            _row(found, "… last seven days", found.last_seven_days, share, _trust(found.doubts, "for its sign")),
            _welch(found, share, report.alpha / (len(report.variants) - 1)),
        ]
    shown = [row for row in rows if row is not None]
    if not shown:
        return []
    evidence = [_evidence(each) for each in report.comparisons if each.role == "goal" and each.e_process is not None]
    lines = [f"## {text(report.goal['metric'])} against control", ""]
    lines += [*table(("variant", "method", "difference", "interval", "p-value", "trust it?"), shown, "llrrrl"), ""]
    lines += [_legend(report, is_share=share), ""]
    return lines + ([*(f"- {line}" for line in evidence), ""] if evidence else [])


def _row(
    found: Comparison,
    method: str,
    estimate: Estimate | None,
    share: bool,
    trust: str,
) -> tuple[str, ...] | None:
    if estimate is None or estimate.difference is None:
        return None
    interval = "not before there are more data"
    if estimate.interval is not None:
        interval = " to ".join(_signed(end, share) for end in estimate.interval)
    name = f"{method}, {percent(estimate.level)}"
    p_value = NOTHING if estimate.p_value is None or estimate.interval is None else f"{estimate.p_value:.3g}"
    if estimate.interval is None:
        trust = "not yet"
    elif method == "any-time interval":
        p_value += " so far"
    return (text(found.variant), name, _signed(estimate.difference, share), interval, p_value, trust)


def _legend(report: Report, *, is_share: bool) -> str:
    """Return how the table is to be read."""
    points = "pt: percentage points. " if is_share else ""
    several = ""
    if len(report.variants) > 2:
        level_of_one = report.alpha / (len(report.variants) - 1)
        several = f" P-values are those of one variant alone: compare them with {level_of_one:.3g}."
    return (
        f"{points}The percentage behind a method is that of its interval; variants share the error of "
        f"{report.alpha:g}. The any-time p-value is the smallest at any look so far.{several}"
    )


def _welch(found: Comparison, share: bool, level_of_one: float) -> tuple[str, ...] | None:
    test: Welch | None = found.welch
    if test is None:
        return None
    interval = " to ".join(_signed(end, share) for end in test.interval)
    trust = _trust(test.reasons, "yes")
    return (
        text(found.variant),
        f"Welch's test, {percent(1.0 - level_of_one)}",
        _signed(test.difference, share),
        interval,
        f"{test.p_value:.3g}",
        trust,
    )


def _evidence(found: Comparison) -> str:
    process = found.e_process
    assert process is not None  # noqa: S101 (the caller looked)
    exact = "exact at any look" if process.exact else "asymptotic: outcomes are missing"
    if found.doubts:
        exact = f"not to be trusted: {text('; '.join(found.doubts))}"
    return (
        f"{text(found.variant)}: evidence that it is at some time higher than control {_e(process.higher)}, lower "
        f"{_e(process.lower)} (e-values now, {exact}; p at its smallest so far {process.p_value:.3g})."
    )


def _trust(reasons: Sequence[str], otherwise: str) -> str:
    return "**no**: " + text("; ".join(reasons)) if reasons else otherwise


def _guardrails(report: Report) -> list[str]:
    keys = [variant.key for variant in report.variants]
    rows = [
        (text(rail.metric), text(rail.limit), *(_guardrail_cell(rail, key) for key in keys))
        for rail in report.guardrails
    ]
    lines = [*table(("metric", "limit", *map(text, keys)), rows, "ll"), ""]
    asymptotic = [rail.metric for rail in report.guardrails if any(not state.exact for state in rail.states)]
    if asymptotic:
        lines += [f"Asymptotic, not exact: {text(', '.join(dict.fromkeys(asymptotic)))}.", ""]
    return lines


def _guardrail_cell(rail: GuardrailReport, key: str) -> str:
    state = next((each for each in rail.states if each.variant == key), None)
    shown = level(rail.mean[key], is_share=rail.statistic != "mean")
    if rail.quantile is not None and key in rail.calls:
        shown += f" (P{100.0 * rail.quantile:g} of calls {rail.calls[key]:.3g})"
    if state is None:
        return shown
    return f"{shown} {_guardrail_state(state)}"


def _guardrail_state(state: GuardrailState) -> str:
    relative = "" if state.relative is None else f"({100.0 * state.relative:+.3g} %) "
    if state.state == "breached":
        return f"{relative}**breached**"
    needed = "" if state.users_needed is None else f", about {about(state.users_needed)} more users"
    return f"{relative}{state.state}{needed}"


def _others(report: Report) -> list[str]:
    """Return the differences on every other metric."""
    complete = all(variant.missing == 0 for variant in report.variants)
    rows = []
    for found in report.comparisons:
        if found.role == "goal" or found.mean is None or (found.role == "response" and complete):
            continue
        share = found.statistic != "mean"
        any_time = found.any_time
        interval = NOTHING
        if any_time is not None and any_time.interval is not None:
            interval = " to ".join(_signed(end, share) for end in any_time.interval)
        difference = NOTHING if any_time is None or any_time.difference is None else _signed(any_time.difference, share)
        rows.append(
            (
                text(f"{found.metric}, {found.statistic}"),
                text(found.variant),
                level(found.mean, is_share=share),
                level(found.control_mean, is_share=share),
                difference,
                interval,
            )
        )
    if not rows:
        return []
    head = ("metric", "variant", "its mean", "control's", "difference", "any-time interval")
    return ["## Other metrics against control", "", *table(head, rows, "ll"), ""]


def _judged(report: Report) -> list[str]:
    lines = []
    for one in report.judged:
        said = f"{text(one.judge)} ({one.version}) scored {one.scored:,} interactions for {text(one.metric)}"
        beside = f"of {one.labelled:,} that people labelled it gave {one.accuracy:.0%} their value"
        lines += [f"{said}; {beside}, and {one.bias:+.3g} more in the mean.", ""]
        rows = [
            (
                text(each.variant) + (" − control" if each.difference else ""),
                _number_in(each.judge_alone, each.judge_alone_interval),
                _number_in(each.labels_alone, each.labels_alone_interval),
                _number_in(each.corrected, each.corrected_interval),
                text("; ".join(each.reasons)),
            )
            for each in one.estimates
        ]
        lines += [*table(("", "judge alone", "labels alone", "corrected by labels", "but"), rows, "lrrrl"), ""]
    remark = (
        "95 % intervals over users of all epochs together, for one look. What is corrected by labels holds whatever the"
        " judge is worth; the decision above reads its scores as they came."
    )
    return [*lines, remark, ""]


def _number_in(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return NOTHING
    return f"{value:.4g} ({interval[0]:.4g} to {interval[1]:.4g})"


def check_lines(report: Report) -> list[str]:
    """Return what the checks of the data say, one sentence each."""
    checks = report.checks
    lines = []
    if checks.assigned:
        lines.append(_check("Users assigned against their probabilities", checks.assigned))
        harmless = "" if checks.response_matters else "; harmless, as a missing outcome counts as a value"
        if any(check.flagged for check in checks.assigned):
            lines.append("Users with an outcome, and response: cannot be told while users are missing.")
        else:
            lines.append(_check("Users with an outcome against these probabilities", checks.with_outcome, harmless))
            lines.append(_check("Response against control's", checks.response, harmless))
    else:
        lines.append("Nobody can say whether users were assigned as intended: probabilities are not known.")
    if report.state == "log" and report.age_days is None:
        lines.append("There are no times, so nobody can say whether means moved.")
    elif checks.drift:
        lines.append(f"The mean moved over time: {', '.join(checks.drift)}.")
    else:
        lines.append("No mean moved over time, as far as can be seen.")
    return lines


def _check(what: str, found: Sequence[ArmCheck], remark: str = "") -> str:
    odd = [
        f"{each.variant} {each.users:,} where {each.expected:,.0f} were expected (e-value {_e(each.e_value)})"
        for each in found
        if each.flagged
    ]
    return f"{what}: {'; '.join(odd)}{remark}." if odd else f"{what}: as expected."


def _loss(variant: VariantReport, *, is_share: bool) -> str:
    loss = variant.expected_loss
    if loss is None:
        return NOTHING
    unit, scale = (" pt", 100.0) if is_share else ("", 1.0)
    return f"< 1e-9{unit}" if scale * loss < 1e-9 else f"{scale * loss:.3g}{unit}"


def _chance(p: float | None) -> str:
    """Show a probability; one that rounds to 0 or 1 is neither."""
    if p is None:
        return NOTHING
    if p < 0.001:
        return "< 0.1%"
    return "> 99.9%" if p > 0.999 else f"{p:.1%}"


def _signed(value: float, share: bool) -> str:
    """Show a difference; of shares in points of a hundred."""
    return f"{100.0 * value:+.3g} pt" if share else f"{value:+.4g}"


def _e(value: float) -> str:
    if value >= 1e6:
        return "over a million"
    return f"{value:,.0f}" if value >= 100.0 else f"{value:.3g}"
