"""The report of an experiment: a pure function of what was asked and what happened."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bandit.experiment import Experiment
from bandit.guardrails import Judgement, judge, no_response_in_words
from bandit.history import DAY, History
from bandit.inference.observed import FEWEST_TO_RESPOND, Observed, observe, observe_response
from bandit.inference.shares import arm_shares
from bandit.ledger import GOAL
from bandit.measures import guardrail_measure, measures_of
from bandit.report.checks import data_checks
from bandit.report.comparisons import Evidence, Metric, compare, evidence, statistic_of
from bandit.report.decision import Facts, Situation, decide, decide_all
from bandit.report.document import SCHEMA, Checks, Comparison, GuardrailReport, Horizon, Report
from bandit.report.goal import goal_evidence
from bandit.report.guardrails import Calls, Since, guardrail_report
from bandit.report.outlook import Outlook, outlook, users_per_day
from bandit.report.variants import variant_reports


def build_report(
    experiment: Experiment,
    history: History,
    state: str,
    *,
    one_look: bool = False,
    since: Since | None = None,
    calls: Calls | None = None,
) -> Report:
    """Return the report.

    Args:
        experiment: What was asked.
        history: What happened.
        state: draft, running, paused or stopped; "log" for a log made elsewhere.
        one_look: Whether this is the one look that was planned beforehand, whatever horizon is declared: all closed
            epochs lie before it. Any-time evidence is tuned as if nothing had been said.
        since: Since when guardrails have their states; None: not known.
        calls: Quantiles over calls, for limits on a quantile; None: not known.
    """
    read = _Read.of(experiment, history)
    final = history.closed_epochs or None if one_look else final_epochs(experiment, history)
    checks = data_checks(experiment, history, read.goal.observed, read.response.observed, read.found(read.response))
    doubts = _doubts(checks)
    comparisons = [compare(experiment, history, metric, each, final, doubts) for metric, each in read.each]
    found = judge(experiment, history)
    guardrails = tuple(
        guardrail_report(experiment, history, row, metric, found, since or {}, calls or {}, enforced=state != "log")
        for row, metric in enumerate(read.guardrails)
    )
    now = _situation(experiment, history, state, checks, reached=final is not None)
    facts = _facts(experiment, history, state, read, comparisons[0], guardrails, found)
    decisions = {each.variant: decide(now, each) for each in facts}
    return Report(
        schema=SCHEMA,
        experiment=experiment.key,
        hypothesis=experiment.hypothesis or "",
        state=state,
        goal=_goal(experiment),
        unit=history.unit,
        epochs=history.ledger.n_epochs,
        closed_epochs=history.closed_epochs,
        assigned=int(history.ledger.assigned.sum()),
        pending=int(history.ledger.assigned[history.closed_epochs :].sum()),
        age_days=now.age_days,
        users_per_day=now.per_day,
        alpha=experiment.policy.alpha,
        horizon=_horizon(experiment, history, one_look=one_look, reached=final is not None),
        decision=decide_all(now, decisions, facts),
        variants=variant_reports(experiment, history, state, comparisons[0], decisions, _unreliable(checks, history)),
        comparisons=tuple(each for of_metric in comparisons for each in of_metric),
        guardrails=guardrails,
        checks=checks,
        notes=_notes(experiment, history, state, read.goal.observed),
    )


def final_epochs(experiment: Experiment, history: History) -> int | None:
    """Return how many closed epochs lie before the declared horizon; None: none is declared, or it is not reached."""
    analysis, closed = experiment.analysis, history.closed
    if analysis.horizon_users is not None:
        reached = np.flatnonzero(np.cumsum(closed.users) >= analysis.horizon_users)
        return int(reached[0]) + 1 if reached.size else None
    if analysis.horizon_days is None or history.started_at is None or history.now is None:
        return None
    if not len(history.started_at):
        return None
    end = float(history.started_at[0]) + analysis.horizon_days * DAY
    before = int(np.searchsorted(history.started_at, end, side="left"))
    return before if history.now >= end and before <= history.closed_epochs else None


@dataclass(frozen=True, slots=True)
class _Read:
    """Every metric with its evidence, each read once.

    Attributes:
        goal: The goal.
        guardrails: The metric of each guardrail, in file order; two limits may share one.
        response: Whether a user has a value of the goal.
        evidence: By name and statistic: the goal first, then guardrails, then response.
    """

    goal: Metric
    guardrails: tuple[Metric, ...]
    response: Metric
    evidence: dict[tuple[str, str], tuple[Metric, Evidence]]

    @classmethod
    def of(cls, experiment: Experiment, history: History) -> _Read:
        measures = measures_of(experiment)

        def read(index: int, role: str, better: str | None) -> Metric:
            measure = measures[index]
            return Metric(measure.metric, role, statistic_of(measure), better, observe(experiment, history, index))

        goal = read(GOAL, "goal", experiment.goal.better)
        rails = tuple(read(guardrail_measure(experiment, rail), "guardrail", None) for rail in experiment.guardrails)
        response = Metric(goal.name, "response", "share of users with a value", None, observe_response(history))
        found = {}
        for metric in (goal, *rails, response):
            key = (metric.name, metric.statistic)
            if key not in found:
                found[key] = (metric, evidence(experiment, history, metric.observed))
        return cls(goal, rails, response, found)

    @property
    def each(self) -> list[tuple[Metric, Evidence]]:
        """Every statistic once."""
        return list(self.evidence.values())

    def found(self, metric: Metric) -> Evidence:
        """Return the evidence on a metric."""
        return self.evidence[metric.name, metric.statistic][1]


def _horizon(experiment: Experiment, history: History, *, one_look: bool, reached: bool) -> Horizon:
    if one_look:
        return Horizon(int(history.closed.users.sum()), None, reached)
    return Horizon(experiment.analysis.horizon_users, experiment.analysis.horizon_days, reached)


def _situation(experiment: Experiment, history: History, state: str, checks: Checks, *, reached: bool) -> Situation:
    analysis, goal = experiment.analysis, experiment.goal
    horizon = None
    if reached and analysis.horizon_users is None and analysis.horizon_days is None:
        horizon = "this one look"
    elif reached:
        horizon = (
            f"{analysis.horizon_users:,} {history.unit}s"
            if analysis.horizon_users
            else f"{analysis.horizon_days:g} days"
        )
    started, age = history.started_at, None
    if started is not None and history.now is not None and len(started):
        age = max(history.now - float(started[0]), 0.0) / DAY
    return Situation(
        metric=goal.metric,
        is_share=goal.kind == "binary",
        higher_is_better=goal.better == "higher",
        mde=goal.mde,
        control=experiment.arms[experiment.control],
        state=state,
        unit=history.unit,
        has_propensities=history.probabilities is not None,
        fix_first=checks.fix_first,
        age_days=age,
        min_days=analysis.min_days,
        horizon=horizon,
        per_day=users_per_day(history),
        window_days=(experiment.window_seconds or 0.0) / DAY,
    )


def _facts(
    experiment: Experiment,
    history: History,
    state: str,
    read: _Read,
    comparisons: Sequence[Comparison],
    guardrails: Sequence[GuardrailReport],
    judged: Judgement,
) -> list[Facts]:
    """Return what is known of each treatment, in file order."""
    observed, found = read.goal.observed, read.found(read.goal)
    goal = goal_evidence(experiment, history, observed, found)
    sign = 1.0 if experiment.goal.better == "higher" else -1.0
    shares = history.latest_probabilities if state == "running" else None
    levels = arm_shares(experiment, history) / 2.0
    facts = []
    for comparison in comparisons:
        arm = experiment.arm(comparison.variant)
        states = [(rail, each) for rail in guardrails for each in rail.states if each.variant == comparison.variant]
        recent = comparison.last_seven_days
        ahead = Outlook(None, "") if goal is None else outlook(experiment, history, observed, found, goal, arm)
        facts.append(
            Facts(
                variant=comparison.variant,
                mean=comparison.mean,
                control_mean=comparison.control_mean,
                log_better=0.0 if goal is None else float(goal.log_better[arm]),
                log_worse=0.0 if goal is None else float(goal.log_worse[arm]),
                log_threshold=-math.log(levels[arm]),
                too_small=goal is not None and bool(goal.too_small[arm]),
                gain=math.nan if goal is None else float(goal.gain[arm]),
                recent_gain=math.nan if recent is None or recent.difference is None else sign * recent.difference,
                guardrails=tuple(states),
                no_response=no_response_in_words(experiment)
                if _lacks_response(experiment, history, judged, arm)
                else "",
                suspended=_by_hand(history, experiment, arm),
                users_to_decision=ahead.users,
                assuming=ahead.assuming,
                share=None if shares is None else float(shares[arm]),
                generation_days=_generation_days(experiment, history, arm),
            )
        )
    return facts


def _generation_days(experiment: Experiment, history: History, arm: int) -> float | None:
    """Return the age of an arm's latest generation; None: it has been there from the start, or there is no clock."""
    first = history.generations_of(experiment.n_arms)[arm].first_epoch
    started, now = history.started_at, history.now
    if first == 1 or started is None or now is None:
        return None
    return max(now - float(started[first - 1]), 0.0) / DAY if first <= len(started) else 0.0


def _lacks_response(experiment: Experiment, history: History, judged: Judgement, arm: int) -> bool:
    """Whether an arm's users have an outcome far less often than control's, now or when that ended its generation."""
    row = len(experiment.guardrails)
    return row in judged.broken(arm) or row in history.generations_of(experiment.n_arms)[arm].broken


def _by_hand(history: History, experiment: Experiment, arm: int) -> str | None:
    """Return why a person suspended an arm, empty if they did not say; None: no person did."""
    generation = history.generations_of(experiment.n_arms)[arm]
    return generation.reason if generation.ended == "suspended" and not generation.broken else None


def _goal(experiment: Experiment) -> dict[str, object]:
    goal = experiment.goal
    return {
        "metric": goal.metric,
        "kind": goal.kind,
        "better": goal.better,
        "per_user": goal.per_user,
        "missing": experiment.missing,
        "mde": goal.mde,
    }


def _doubts(checks: Checks) -> tuple[str, ...]:
    """Return why tests may not be trusted, from the checks of the data."""
    if any(check.flagged for check in checks.assigned):
        return ("users were not assigned as recorded",)
    return ("outcomes go missing by variant",) if checks.fix_first else ()


def _unreliable(checks: Checks, history: History) -> tuple[str, ...]:
    found = list(checks.fix_first[:1])
    if history.probabilities is None:
        found.append("nobody knows whether traffic moved")
    if checks.drift:
        who = f"the mean of {checks.drift[0]}" if len(checks.drift) == 1 else f"the means of {', '.join(checks.drift)}"
        found.append(f"{who} moved over time")
    return tuple(found)


def _notes(experiment: Experiment, history: History, state: str, observed: Observed) -> tuple[str, ...]:
    notes = []
    if history.closed_epochs == 0:
        notes.append("No epoch is closed yet: a user counts when the reward window is over, so there are no numbers.")
    if not observed.exact and history.closed_epochs:
        notes.append(
            f"Users without a value of {experiment.goal.metric} are left out. The first epoch, and others before "
            f"{FEWEST_TO_RESPOND} users of a variant came, are in the means but in no interval and no evidence: how "
            "often variants respond is not known before."
        )
    if history.unit == "row":
        notes.append(
            "Every row counts as a user of its own. Rows of one user are no independent users: errors are larger."
        )
    if state == "log":
        traffic_may_move = history.probabilities is not None and bool(
            np.ptp(history.probabilities, axis=0).max() > 1e-9
        )
    else:
        traffic_may_move = experiment.policy.kind != "fixed"
    if traffic_may_move:
        notes.append(
            "Traffic follows the data. Decisions rest on the any-time evidence, which allows for that and for looking "
            "at any time; P(best), expected loss and credible intervals assume that the arms' means do not drift, and "
            "Welch is meant for one look at a fixed split."
        )
    if state != "log" and experiment.policy.half_life is not None:
        notes.append(
            f"The allocation weighs old users less (half-life {experiment.policy.half_life}); P(best) and all other "
            "numbers here weigh users of all times alike."
        )
    return tuple(notes)
