"""The guardrails' step between policy and allocation: which arms may get users, and how surely.

history -> breaches, certificates -> states, arms to suspend, chance of each arm to keep its limits
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bandit.arrays import FloatArray
from bandit.experiment import Experiment
from bandit.history import History
from bandit.inference.breaches import LEAST_RESPONSE, Breaches, breaches
from bandit.inference.guardrails import GuardrailEvidence, guardrail_evidence
from bandit.inference.observed import observe
from bandit.inference.scores import total_scores
from bandit.inference.shares import arm_shares, breach_levels
from bandit.limits import limit_in_words, limit_of
from bandit.measures import guardrail_measure

GuardrailVerdict = Literal["ok", "unknown", "breached"]
"""ok: certified. breached: the limit is broken. unknown: neither is certain yet."""

States = tuple[tuple[GuardrailVerdict, ...], ...]
"""By guardrail in file order, then by arm."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the guardrails say of every arm at one look.

    Attributes:
        breaches: Evidence against each limit; its last row is the response.
        thresholds: ln of the e-value from which a limit is broken, shape (n_arms,).
        certificates: Evidence in favour of each guardrail; None where nothing can be said.
        states: Of each guardrail and arm.
    """

    breaches: Breaches
    thresholds: FloatArray
    certificates: tuple[GuardrailEvidence | None, ...]
    states: States

    def broken(self, arm: int) -> tuple[int, ...]:
        """Return the limits that an arm breaks, as rows of `breaches`."""
        rows = np.flatnonzero(self.breaches.log_e[:, arm] >= self.thresholds[arm])
        return tuple(int(row) for row in rows)


def judge(experiment: Experiment, history: History) -> Judgement:
    """Return what the guardrails say.

    A limit that ended an arm's generation stays broken, whatever came in later.

    Args:
        experiment: Whose guardrails.
        history: All epochs.
    """
    found = breaches(experiment, history)
    thresholds = -np.log(breach_levels(experiment, history))
    levels = -np.log(arm_shares(experiment, history) / 2.0)
    ended = history.generations_of(experiment.n_arms)
    certificates = tuple(_certificate(experiment, history, row) for row in range(len(experiment.guardrails)))

    def state(row: int, arm: int) -> GuardrailVerdict:
        certificate = certificates[row]
        if found.log_e[row, arm] >= thresholds[arm] or row in ended[arm].broken:
            return "breached"
        return "ok" if certificate is not None and certificate.log_ok[arm] >= levels[arm] else "unknown"

    states = tuple(tuple(state(row, arm) for arm in range(experiment.n_arms)) for row in range(len(certificates)))
    return Judgement(found, thresholds, certificates, states)


def _certificate(experiment: Experiment, history: History, row: int) -> GuardrailEvidence | None:
    rail = experiment.guardrails[row]
    observed = observe(experiment, history, guardrail_measure(experiment, rail))
    known = history.probabilities is not None and len(observed.n) > 0
    scores = total_scores(observed, experiment.control) if known and limit_of(rail).is_relative else None
    return guardrail_evidence(experiment, history, rail, observed, scores)


def breach_in_words(experiment: Experiment, rows: Sequence[int]) -> str:
    """Return which limits are broken, as a phrase."""
    return "; ".join(_row_in_words(experiment, row) for row in rows)


def row_name(experiment: Experiment, row: int) -> str:
    """Return the name of a row of `Breaches`: the guardrail's metric, or "response"."""
    return experiment.guardrails[row].metric if row < len(experiment.guardrails) else "response"


def _row_in_words(experiment: Experiment, row: int) -> str:
    if row < len(experiment.guardrails):
        rail = experiment.guardrails[row]
        return f"{rail.metric} breaks its limit ({limit_in_words(rail)})"
    return no_response_in_words(experiment)


def no_response_in_words(experiment: Experiment) -> str:
    """Return what is wrong with an arm whose users rarely have an outcome."""
    goal, control = experiment.goal.metric, experiment.arms[experiment.control]
    return f"its users have a value of {goal} less than {100 * LEAST_RESPONSE:g} % as often as those of {control}"


def evidence_of(experiment: Experiment, found: Judgement, row: int, arm: int) -> dict[str, object]:
    """Return what a state of a guardrail rests on, as plain values."""
    plain: dict[str, object] = {
        "metric": row_name(experiment, row),
        "e_breach": _bounded(found.breaches.log_e[row, arm]),
        "threshold_breach": _bounded(found.thresholds[arm]),
        "window": int(found.breaches.window[row, arm]),
    }
    level = float(found.breaches.level[row, arm])
    plain |= {"users": int(found.breaches.users[row, arm]), "level": level if math.isfinite(level) else None}
    certificate = found.certificates[row] if row < len(found.certificates) else None
    return plain if certificate is None else plain | {"e_ok": _bounded(certificate.log_ok[arm])}


def _bounded(log_e: float) -> float:
    """Return E, cut where JSON's numbers end."""
    return math.exp(min(float(log_e), 700.0))
