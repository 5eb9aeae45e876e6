"""A plan in words and tables, for people who know no statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table

from bandit.experiment import Experiment
from bandit.planning import ramp_days
from bandit.report.numbers import NOTHING, percent
from simulations.plans.guardrails import (
    GUARDRAIL_HEAD,
    NEVER,
    count,
    guardrail_cells,
    guardrail_sentences,
    guardrail_warnings,
)
from simulations.plans.sizing import Row, Sizing

SIZE_HEAD = ("to find the effect", "users of a variant", "users in all", "days", "weeks")


def plan_parts(sized: Sizing) -> list[str | Table]:
    """Return a plan as sentences and tables."""
    parts: list[str | Table] = [*summary(sized), _table(SIZE_HEAD, size_cells(sized)), *size_sentences(sized)]
    parts += policy_sentences(sized)
    if sized.guardrails:
        parts += [_table(GUARDRAIL_HEAD, guardrail_cells(sized)), *guardrail_sentences(sized)]
    return [*parts, *calendar_sentences(sized)]


def summary(sized: Sizing) -> list[str]:
    """Return the plan in a sentence, and what stands in its way."""
    need, decision = sized.plan, sized.decision
    change = f"{sized.experiment.goal.metric} from {level(sized, need.baseline)} to {level(sized, need.target)}"
    if decision is None:
        return [f"No plan leads to a decision to deploy a variant that moves {change}.", *warnings(sized)]
    certified = ", and each guardrail is certified in 5 to 6 of 10" if sized.guardrails else ""
    return [
        (
            f"Plan for {count(decision.days, 'day')} ({count(decision.weeks, 'whole week')}) and "
            f"{decision.enrolled:,} users. By then, a variant that moves {change} is found to be better in at least "
            f"{_per_hundred(need.power)} of 100 experiments, however often you look{certified}."
        ),
        *warnings(sized),
    ]


def warnings(sized: Sizing) -> list[str]:
    """Return what stands in the way of a decision."""
    return [*guardrail_warnings(sized), *([_reach(sized)] if sized.out_of_reach else [])]


def _reach(sized: Sizing) -> str:
    once, always = sized.one_look.schedule, sized.any_time
    if always is None:
        needs = "is too small for looks at any time, whatever the traffic"
        helps = "a larger mde"
    else:
        needs = f"needs {count(always.schedule.days, 'day')} with looks at any time"
        fewer = "fewer variants, " if sized.experiment.n_arms > 2 else ""
        helps = f"more traffic, a larger mde, {fewer}or a goal that varies less between users"
    return (
        f"Warning: an effect of {percent(sized.experiment.goal.mde)} {needs} ({count(once.days, 'day')} with one "
        f"look). Within {sized.max_days:g} days (--max-days) this traffic finds "
        f"{_within_reach(sized.smallest['any_time'])} with looks at any time, and "
        f"{_within_reach(sized.smallest['one_look'])} with one look. What helps: {helps}."
    )


def _within_reach(mde: float | None) -> str:
    if mde is None:
        return "no effect, however large,"
    digits = 10.0 ** (math.floor(math.log10(mde)) - 2)
    return f"an effect of {percent(math.ceil(mde / digits) * digits)} or more"  # rounded down it would be out of reach


def size_cells(sized: Sizing) -> list[tuple[str, ...]]:
    """Return the sizes of the goal, all corrections side by side: cells under `SIZE_HEAD`."""
    treatments = sized.experiment.n_arms - 1
    names = {"two_variants": "one look", "split": "one look, split as planned"}
    if treatments > 1:
        names = {
            "two_variants": "one look, as for two variants",
            "all_variants": f"one look, {treatments} variants against control",
            "split": names["split"],
        }
    cells = [_size_row(name, sized.rows[key], sized.experiment) for key, name in names.items() if key in sized.rows]
    always = "looks at any time" + (", split as planned" if "split" in sized.rows else "")
    found = sized.any_time
    cells.append((always, NEVER, *[NOTHING] * 3) if found is None else _size_row(always, found, sized.experiment))
    if sized.margin is not None:
        name = f"one look, not worse by {percent(sized.margin)}"
        cells.append(_size_row(name, sized.rows["not_worse"], sized.experiment))
    return cells


def _size_row(name: str, row: Row, experiment: Experiment) -> tuple[str, ...]:
    users = row.size.users
    control = users[experiment.control]
    others = [users_of for arm, users_of in enumerate(users) if arm != experiment.control]
    each = f"{min(others):,}" if len(set(others)) == 1 else f"{min(others):,} to {max(others):,}"
    if {control} != set(others):
        each += f", control {control:,}"
    return (name, each, f"{row.schedule.enrolled:,}", f"{row.schedule.days:,}", f"{row.schedule.weeks:,}")


def size_sentences(sized: Sizing) -> list[str]:
    """Return how the sizes are to be read."""
    need, treatments = sized.plan, sized.experiment.n_arms - 1
    standard = f"effect size {need.effect_size:.4f}"
    standard += "" if need.cohens_h is None else f", Cohen's h {need.cohens_h:.4f}"
    sentences = [
        (
            f"{need.users_per_variant:,} users per variant find {need.baseline:g} → {need.target:g} with power "
            f"{need.power:g} at a two-sided alpha of {need.alpha:g} ({standard}): {need.method}."
        ),
        (
            f"Power {need.power:g}: if a variant has that effect, {_per_hundred(need.power)} of 100 experiments find "
            f"it. Alpha {need.alpha:g}: if no variant has any, at most {_per_hundred(need.alpha)} of 100 claim one."
        ),
        (
            "One look: choose the day beforehand and judge on that day alone. Who looks every day and stops when it "
            "looks good finds effects that are not there."
        ),
    ]
    if sized.experiment.goal.kind == "numeric":
        sentences.append(
            "Every variant is taken to vary as control does (--sd); one that varies more, as costs do that rise, needs "
            "more users."
        )
    if sized.inflation is not None:
        sentences.append(
            "Looks at any time: look as often as you like; the report decides so. It takes up to "
            f"{sized.inflation:.2f} times the users of one look, and often fewer."
        )
    if treatments > 1:
        sentences.append(
            f"{treatments} variants are compared with control, so each is tested at alpha {need.alpha:g}/{treatments}. "
            f"Power {need.power:g} is that of finding one given variant, not all of them."
        )
    if sized.margin is not None:
        sentences.append(
            f"Not worse: a variant as good as control is shown, in {_per_hundred(need.power)} of 100 experiments, to "
            f"lose less than {percent(sized.margin)} of control's {level(sized, need.baseline)}."
        )
    return sentences


def policy_sentences(sized: Sizing) -> list[str]:
    """Return what a policy that moves traffic changes."""
    experiment, found = sized.experiment, sized.floors
    if experiment.policy.kind == "fixed":
        return []
    sentences = [
        (
            f"These sizes are for shares that do not move. The policy {experiment.policy.kind} moves them toward "
            "better variants; a variant that drops to its least share takes longer to judge."
        )
    ]
    if found is not None:
        enough = f"{found.events} events and {found.events} non-events that an interval needs"
        when = "may never have" if found.users is None else f"has, after {found.users:,} users in all,"
        cure = "; raise policy.floor" if found.users is None else ""
        sentences.append(f"At its least share of {percent(found.floor)}, {found.arm} {when} the {enough}{cure}.")
    return sentences


def calendar_sentences(sized: Sizing) -> list[str]:
    """Return what is in the days and what is not."""
    experiment, traffic = sized.experiment, sized.traffic
    window, share = experiment.rewards.window, percent(traffic.exposure)
    within = "" if traffic.exposure == 1 else f", {share} of them in the experiment"
    ends = (
        "rewards come with the request, so no waiting time is added"
        if window == "request"
        else f"the last user's reward window of {window} is included"
    )
    sentences = [
        f"Days: at {traffic.users_per_day:,g} users a day{within}; {ends}.",
        "Weeks: end on a whole week, since weekdays and weekends differ"
        + (f"; at least {traffic.min_days:g} days (analysis.min_days)." if traffic.min_days else "."),
        *_response_sentences(sized),
    ]
    rollout = experiment.rollout
    if len(set(rollout.steps)) > 1:
        steps = ", ".join(map(percent, dict.fromkeys(rollout.steps)))
        least = ramp_days(experiment, traffic, sized.shares)
        sentences.append(
            f"Ramp ({steps}): the time of its steps comes on top; the days are those at {share}. With "
            f"{rollout.ramp_users:,} users of each treatment and {rollout.ramp_after} on a step, those before the "
            f"last take at least {least:.3g} {'day' if f'{least:.3g}' == '1' else 'days'} at this split."
        )
    return sentences


def _response_sentences(sized: Sizing) -> list[str]:
    rate, missing, metric = sized.response_rate, sized.experiment.missing, sized.experiment.goal.metric
    if missing == "ignore" and rate is None:
        return [f"Every user is taken to have a value of {metric}; if not, give --response-rate."]
    if rate is None or rate == 1:
        return []
    if missing == "ignore":
        return [f"{percent(rate)} of the users have a value of {metric}: “users in all” and days include the others."]
    counts = "the worst value" if missing == "worst" else "0"
    known = level(sized, sized.plan.baseline)
    return [
        (
            f"A user without {metric} counts as {counts}, so the response rate changes no size; the baseline of "
            f"{known} must include these users."
        )
    ]


def level(sized: Sizing, number: float) -> str:
    """Return a level of the goal in words: a share in percent, a mean as it is."""
    return percent(number, 4) if sized.experiment.goal.kind == "binary" else f"{number:.4g}"


def _per_hundred(share: float) -> str:
    return f"{100 * share:.4g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for index, name in enumerate(head):
        table.add_column(name, justify="right" if index else "left")
    for cells in rows:
        table.add_row(*cells)
    return table
