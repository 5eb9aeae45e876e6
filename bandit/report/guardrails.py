"""Guardrails in the report: the state of each variant on each of them, with its evidence."""

from __future__ import annotations

import math

from bandit.experiment import Experiment, Guardrail
from bandit.history import History
from bandit.inference.guardrails import GuardrailEvidence, guardrail_evidence
from bandit.inference.shares import breach_level, decision_level
from bandit.limits import limit_in_words, limit_of
from bandit.report.comparisons import Evidence, Metric, mean_of
from bandit.report.document import GuardrailReport, GuardrailState, GuardrailVerdict
from bandit.report.numbers import e_value, ends, number


def guardrail_report(
    experiment: Experiment, history: History, guardrail: Guardrail, metric: Metric, found: Evidence
) -> GuardrailReport:
    """Return a guardrail with the state of every variant.

    Args:
        experiment: Levels, control.
        history: What happened.
        guardrail: One of the experiment's.
        metric: Its measure.
        found: From `evidence` of it.
    """
    observed = metric.observed
    scores = None if found.scores is None else found.scores.at(-1)
    evidence = guardrail_evidence(experiment, history, guardrail, observed, scores)
    relative = limit_of(guardrail).is_relative
    arms = (
        [] if evidence is None else [a for a in range(experiment.n_arms) if not (relative and a == experiment.control)]
    )
    return GuardrailReport(
        metric=guardrail.metric,
        limit=limit_in_words(guardrail),
        statistic=metric.statistic,
        enforced=False,
        users={key: int(observed.n[:, arm].sum()) for arm, key in enumerate(experiment.arms)},
        mean={key: mean_of(observed, arm) for arm, key in enumerate(experiment.arms)},
        states=tuple(_state(experiment, evidence, arm, relative=relative) for arm in arms if evidence is not None),
    )


def _relative(evidence: GuardrailEvidence, arm: int, raw: float) -> float | None:
    """Return arm / control − 1: that of the interval where there is one, as traffic that moved misleads the raw one."""
    estimate = float(evidence.relative[arm])
    return number(estimate) if math.isfinite(estimate) else number(raw)


def _state(experiment: Experiment, evidence: GuardrailEvidence, arm: int, *, relative: bool) -> GuardrailState:
    breach, ok = -math.log(breach_level(experiment)), -math.log(decision_level(experiment))
    state: GuardrailVerdict = "unknown"
    if evidence.log_breach[arm] >= breach:
        state = "breached"
    elif evidence.log_ok[arm] >= ok:
        state = "ok"
    needed = float(evidence.users_needed(ok)[arm]) if state == "unknown" else math.inf
    level, base = float(evidence.level[arm]), float(evidence.level[experiment.control])
    return GuardrailState(
        variant=experiment.arms[arm],
        state=state,
        users=int(evidence.users[arm]),
        level=number(level),
        relative=_relative(evidence, arm, level / base - 1.0) if relative and base > 0.0 else None,
        interval=ends(evidence.low[arm], evidence.high[arm]),
        e_breach=e_value(evidence.log_breach[arm]),
        e_ok=e_value(evidence.log_ok[arm]),
        threshold_breach=math.exp(breach),
        threshold_ok=math.exp(ok),
        users_needed=int(needed) if math.isfinite(needed) else None,
        exact=evidence.exact_breach and evidence.exact_ok,
        method=evidence.method,
    )
