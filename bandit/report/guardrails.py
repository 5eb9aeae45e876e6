"""Guardrails in the report: the state of each variant on each of them, with its evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bandit.experiment import Experiment
from bandit.guardrails import Judgement
from bandit.history import History
from bandit.inference.guardrails import GuardrailEvidence
from bandit.inference.shares import arm_shares
from bandit.limits import limit_in_words, limit_of
from bandit.report.comparisons import Metric, mean_of
from bandit.report.document import GuardrailReport, GuardrailState
from bandit.report.numbers import e_value, ends, number

Since = Mapping[tuple[int, int], float | None]
"""Since when a guardrail, by its row, and an arm have their state, seconds of the experiment's clock."""

Calls = Mapping[tuple[int, int], float]
"""The quantile over calls that a guardrail, by its row, limits, of an arm; unit of the metric."""


def guardrail_report(
    experiment: Experiment,
    history: History,
    row: int,
    metric: Metric,
    found: Judgement,
    since: Since,
    calls: Calls,
    *,
    enforced: bool,
) -> GuardrailReport:
    """Return a guardrail with the state of every variant.

    Args:
        experiment: Levels, control.
        history: What happened.
        row: Index of one of the experiment's guardrails.
        metric: Its measure.
        found: What the guardrails say.
        since: Of the states.
        calls: Quantiles over calls.
        enforced: Whether a breach keeps users away.
    """
    guardrail, observed, evidence = experiment.guardrails[row], metric.observed, found.certificates[row]
    relative = limit_of(guardrail).is_relative
    arms = [arm for arm in range(experiment.n_arms) if not (relative and arm == experiment.control)]
    return GuardrailReport(
        metric=guardrail.metric,
        limit=limit_in_words(guardrail),
        statistic=metric.statistic,
        enforced=enforced,
        users={key: int(observed.n[:, arm].sum()) for arm, key in enumerate(experiment.arms)},
        mean={key: mean_of(observed, arm) for arm, key in enumerate(experiment.arms)},
        quantile=guardrail.quantile,
        calls={key: calls[row, arm] for arm, key in enumerate(experiment.arms) if (row, arm) in calls},
        states=()
        if evidence is None
        else tuple(_state(experiment, history, row, arm, found, evidence, since) for arm in arms),
    )


def _state(
    experiment: Experiment,
    history: History,
    row: int,
    arm: int,
    found: Judgement,
    evidence: GuardrailEvidence,
    since: Since,
) -> GuardrailState:
    relative = limit_of(experiment.guardrails[row]).is_relative
    ok, state = -math.log(arm_shares(experiment, history)[arm] / 2.0), found.states[row][arm]
    low, high = evidence.interval()
    needed = float(evidence.users_needed(ok)[arm]) if state == "unknown" else math.inf
    level, base = float(evidence.level[arm]), float(evidence.level[experiment.control])
    return GuardrailState(
        variant=experiment.arms[arm],
        state=state,
        since=since.get((row, arm)),
        users=int(evidence.users[arm]),
        level=number(level),
        relative=_relative(evidence, arm, level / base - 1.0) if relative and base > 0.0 else None,
        interval=ends(low[arm], high[arm]),
        e_breach=e_value(found.breaches.log_e[row, arm]),
        window=int(found.breaches.window[row, arm]),
        e_ok=e_value(evidence.log_ok[arm]),
        threshold_breach=e_value(found.thresholds[arm]),
        threshold_ok=math.exp(ok),
        users_needed=int(needed) if math.isfinite(needed) else None,
        exact=evidence.exact_breach and evidence.exact_ok,
        method=evidence.method,
    )


def _relative(evidence: GuardrailEvidence, arm: int, raw: float) -> float | None:
    """Return arm / control − 1: that of the interval where there is one, as traffic that moved misleads the raw one."""
    estimate = float(evidence.relative[arm])
    return number(estimate) if math.isfinite(estimate) else number(raw)
