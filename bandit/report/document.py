"""The report as a document: a pure function of the experiment, its allocations and its ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bandit.allocation import Allocation
from bandit.best_arm import best_arm
from bandit.engine import posterior_of
from bandit.experiment import Experiment, Guardrail
from bandit.inference.welch import FEWEST_EVENTS, Sample, Welch, sample_of, traffic_moved, welch
from bandit.learning import complete, totals_of
from bandit.ledger import GOAL, Ledger
from bandit.measures import N, guardrail_measure

LEVEL = 0.95
"""Level of the credible intervals."""


@dataclass(frozen=True, slots=True)
class VariantReport:
    """One variant on the goal.

    Attributes:
        key: Name of the variant.
        control: Whether it is the control.
        share: Its probability for new users now; None unless the experiment is running.
        assigned: Users assigned.
        moved: Users moved away from it.
        pending: Users of epochs that are not closed: not in the numbers below.
        with_outcome: Users of closed epochs with a goal value.
        missing: Users of closed epochs without one.
        users: Users in the numbers below: `with_outcome`, and the missing ones where they count as a value.
        mean: Mean outcome of these, in the goal's unit; None without users.
        interval: 95 % credible interval of the arm's mean.
        p_best: Posterior probability of being the best variant.
        expected_loss: Expected loss against the best variant if this one is served, in the goal's unit.
        welch: Welch test against control; None for control, or where it cannot be made.
    """

    key: str
    control: bool
    share: float | None
    assigned: int
    moved: int
    pending: int
    with_outcome: int
    missing: int
    users: int
    mean: float | None
    interval: tuple[float, float] | None
    p_best: float | None
    expected_loss: float | None
    welch: Welch | None


@dataclass(frozen=True, slots=True)
class GuardrailReport:
    """A guardrail: what users of closed epochs show. Reported, not enforced.

    Attributes:
        metric: Its metric.
        limit: The limit in words.
        enforced: Whether a breach keeps users away from a variant.
        users: Users with a value, per variant key.
        mean: Mean outcome per variant key (for a quantile: share above the limit); None without users.
    """

    metric: str
    limit: str
    enforced: bool
    users: dict[str, int]
    mean: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Report:
    """What an experiment says now. Learning and reporting read closed epochs, in order.

    Attributes:
        schema: Version of this document.
        experiment: Key.
        hypothesis: The declared hypothesis.
        state: draft, running, paused or stopped.
        goal: Declared goal: metric, kind, direction, unit of analysis, rule for missing outcomes.
        epochs: Epochs so far.
        closed_epochs: Epochs 1 to this one are closed and read.
        assigned: Users assigned.
        pending: Users of epochs not yet closed.
        alpha: Level of the Welch intervals is 1 − alpha.
        variants: One entry per variant, in file order.
        guardrails: One entry per guardrail, in file order.
        notes: What a reader has to know before using the numbers.
    """

    schema: int
    experiment: str
    hypothesis: str
    state: str
    goal: dict[str, Any]
    epochs: int
    closed_epochs: int
    assigned: int
    pending: int
    alpha: float
    variants: tuple[VariantReport, ...]
    guardrails: tuple[GuardrailReport, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the document as JSON types."""
        return asdict(self)


def build_report(
    experiment: Experiment, ledger: Ledger, allocations: Sequence[Allocation], closed_epochs: int, state: str
) -> Report:
    """Return the report.

    Args:
        experiment: What was asked.
        ledger: Sums of all epochs.
        allocations: One per epoch of the ledger, in order.
        closed_epochs: Epochs 1 to this one are closed.
        state: State of the experiment; "running" shows the last allocation as the current one.
    """
    goal = experiment.goal
    return Report(
        schema=1,
        experiment=experiment.key,
        hypothesis=experiment.hypothesis or "",
        state=state,
        goal={
            "metric": goal.metric,
            "kind": goal.kind,
            "better": goal.better,
            "per_user": goal.per_user,
            "missing": experiment.missing,
        },
        epochs=ledger.n_epochs,
        closed_epochs=closed_epochs,
        assigned=int(ledger.assigned.sum()),
        pending=int(ledger.assigned[closed_epochs:].sum()),
        alpha=experiment.policy.alpha,
        variants=_variants(experiment, ledger, allocations, closed_epochs, state),
        guardrails=tuple(_guardrail(experiment, g, ledger.upto(closed_epochs)) for g in experiment.guardrails),
        notes=_notes(experiment, closed_epochs),
    )


def _variants(
    experiment: Experiment, ledger: Ledger, allocations: Sequence[Allocation], closed_epochs: int, state: str
) -> tuple[VariantReport, ...]:
    closed = ledger.upto(closed_epochs)
    assigned = closed.assigned.sum(axis=0)
    observed = closed.sums[GOAL].sum(axis=0)
    origin = closed.origins[GOAL] or 0.0
    whole = complete(experiment, assigned, observed, origin)
    totals = totals_of(experiment, assigned, observed, origin)
    known = totals.n.sum() > 0
    posterior = posterior_of(experiment, totals)
    best = best_arm(posterior)
    low, high = posterior.quantile((1 - LEVEL) / 2), posterior.quantile((1 + LEVEL) / 2)
    samples = [sample_of(row, origin) if row[N] > 0 else None for row in whole]

    def interval(arm: int) -> tuple[float, float] | None:
        ends = (float(low[arm]), float(high[arm]))
        if not known:
            return None
        if experiment.goal.kind == "numeric":
            ends = (ends[0] + totals.origin, ends[1] + totals.origin)
        if experiment.goal.better == "higher":
            return ends
        turn = 1.0 if experiment.goal.kind == "binary" else 0.0
        return (turn - ends[1], turn - ends[0])

    reports = []
    for arm, variant in enumerate(experiment.variants):
        sample = samples[arm]
        reports.append(
            VariantReport(
                key=variant.key,
                control=variant.control,
                share=allocations[-1].probabilities[arm] if state == "running" and allocations else None,
                assigned=int(ledger.assigned[:, arm].sum()),
                moved=int(ledger.moved[:, arm].sum()),
                pending=int(ledger.assigned[closed_epochs:, arm].sum()),
                with_outcome=int(observed[arm, N]),
                missing=int(assigned[arm] - observed[arm, N]),
                users=int(whole[arm, N]),
                mean=None if sample is None else sample.mean,
                interval=interval(arm),
                p_best=float(best.probability[arm]) if known else None,
                expected_loss=float(best.expected_loss[arm]) if known else None,
                welch=_welch(experiment, closed, allocations, samples, arm),
            )
        )
    return tuple(reports)


def _welch(
    experiment: Experiment,
    closed: Ledger,
    allocations: Sequence[Allocation],
    samples: Sequence[Sample | None],
    arm: int,
) -> Welch | None:
    sample, control = samples[arm], samples[experiment.control]
    if arm == experiment.control or sample is None or control is None:
        return None
    reasons = []
    p = np.array([a.probabilities for a in allocations[: closed.n_epochs]])
    if traffic_moved(p, closed.assigned.astype(np.float64), arm, experiment.control):
        reasons.append("traffic moved")
    if experiment.goal.kind == "binary" and min(map(_rarer_events, (sample, control))) < FEWEST_EVENTS:
        reasons.append(f"fewer than {FEWEST_EVENTS} events or non-events in an arm")
    return welch(sample, control, experiment.policy.alpha, reasons)


def _rarer_events(sample: Sample) -> float:
    return sample.n * min(sample.mean, 1.0 - sample.mean)


def _guardrail(experiment: Experiment, guardrail: Guardrail, closed: Ledger) -> GuardrailReport:
    index = guardrail_measure(experiment, guardrail)
    sums = closed.sums[index].sum(axis=0)
    origin = closed.origins[index] or 0.0
    means = {
        key: sample_of(row, origin).mean if row[N] > 0 else None for key, row in zip(experiment.arms, sums, strict=True)
    }
    users = {key: int(row[N]) for key, row in zip(experiment.arms, sums, strict=True)}
    return GuardrailReport(guardrail.metric, limit_in_words(guardrail), False, users, means)


def limit_in_words(guardrail: Guardrail) -> str:
    """Return what a guardrail demands, as a phrase."""
    if guardrail.quantile is not None:
        share = 1.0 - guardrail.quantile
        return f"at most {share:.3g} of calls above {guardrail.max:g}"
    if guardrail.max is not None:
        return f"at most {guardrail.max:g}"
    return f"at most {guardrail.max_increase:.3g} (as a fraction) above control"


def _notes(experiment: Experiment, closed_epochs: int) -> tuple[str, ...]:
    notes = []
    if closed_epochs == 0:
        notes.append("No epoch is closed yet: a user counts when the reward window is over, so there are no numbers.")
    if experiment.guardrails:
        notes.append("Guardrails are reported, not enforced: no variant loses users for breaching one.")
    if experiment.rollout.ramp:
        notes.append("The ramp is reported, not enforced: exposure stays where it is declared.")
    if experiment.policy.kind != "fixed":
        notes.append(
            "Traffic follows the data. P(best), expected loss and credible intervals assume that the arms' means do "
            "not drift; Welch is meant for one look at a fixed split."
        )
    return tuple(notes)
