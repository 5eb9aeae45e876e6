"""Variants on the goal: users, means, and what the posterior says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bandit.best_arm import best_arm
from bandit.engine import posterior_of
from bandit.experiment import Experiment
from bandit.generations import Generation
from bandit.guardrails import row_name
from bandit.history import History
from bandit.inference.welch import sample_of
from bandit.learning import complete, totals_of
from bandit.ledger import GOAL
from bandit.measures import N
from bandit.report.document import Comparison, Decision, Suspension, VariantReport

LEVEL = 0.95
"""Level of the credible intervals."""


def variant_reports(
    experiment: Experiment,
    history: History,
    state: str,
    comparisons: Sequence[Comparison],
    decisions: Mapping[str, Decision],
    unreliable: Sequence[str],
) -> tuple[VariantReport, ...]:
    """Return one entry per variant, in file order.

    Args:
        experiment: What was asked.
        history: What happened.
        state: Of the experiment; only a running one has shares.
        comparisons: Those on the goal.
        decisions: Per treatment.
        unreliable: Why the posterior's numbers may mislead.
    """
    ledger, closed = history.ledger, history.readable.ledger
    assigned, observed = closed.assigned.sum(axis=0), closed.sums[GOAL].sum(axis=0)
    origin = closed.origins[GOAL] or 0.0
    whole = complete(experiment, assigned, observed, origin)
    totals = totals_of(experiment, assigned, observed, origin)
    known = totals.n.sum() > 0
    posterior = posterior_of(experiment, totals)
    best = best_arm(posterior)
    low, high = posterior.quantile((1 - LEVEL) / 2), posterior.quantile((1 + LEVEL) / 2)
    tests = {comparison.variant: comparison.welch for comparison in comparisons}
    generations = history.generations_of(experiment.n_arms)
    current = history.latest_probabilities if state == "running" else None
    return tuple(
        VariantReport(
            key=variant.key,
            control=variant.control,
            share=None if current is None else float(current[arm]),
            assigned=int(ledger.assigned[:, arm].sum()),
            moved=int(ledger.moved[:, arm].sum()),
            pending=int(ledger.assigned[history.closed_epochs :, arm].sum()),
            with_outcome=int(observed[arm, N]),
            missing=int(assigned[arm] - observed[arm, N]),
            users=int(whole[arm, N]),
            mean=sample_of(whole[arm], origin).mean if whole[arm, N] > 0 else None,
            interval=_turned(experiment, float(low[arm]), float(high[arm]), totals.origin)
            if whole[arm, N] > 0
            else None,
            p_best=float(best.probability[arm]) if known else None,
            expected_loss=float(best.expected_loss[arm]) if known else None,
            unreliable=tuple(unreliable) if known else (),
            welch=tests.get(variant.key),
            decision=decisions.get(variant.key),
            suspended=_suspension(experiment, generations[arm]),
            generation=generations[arm].number,
        )
        for arm, variant in enumerate(experiment.variants)
    )


def _suspension(experiment: Experiment, generation: Generation) -> Suspension | None:
    if generation.ended != "suspended":
        return None
    broken = tuple(row_name(experiment, row) for row in generation.broken)
    return Suspension(generation.reason, broken, generation.last_epoch or 0)


def _turned(experiment: Experiment, low: float, high: float, origin: float) -> tuple[float, float]:
    """Return an interval of the posterior, of which larger is better, in the metric's own direction and unit."""
    if experiment.goal.kind == "numeric":
        low, high = low + origin, high + origin
    if experiment.goal.better == "higher":
        return low, high
    turn = 1.0 if experiment.goal.kind == "binary" else 0.0
    return turn - high, turn - low
