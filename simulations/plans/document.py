"""The design of an experiment as one Markdown document: what is asked, what it needs, how it is decided."""

from __future__ import annotations

from collections.abc import Sequence

from bandit.experiment import Experiment, notes
from bandit.inference.shares import breach_level, decision_level
from bandit.markdown_text import table, text
from bandit.planning import ConfigChange, config_changes
from bandit.report.numbers import NOTHING, percent
from simulations.plans.guardrails import GUARDRAIL_HEAD, count, guardrail_cells, guardrail_sentences
from simulations.plans.sizing import Sizing
from simulations.plans.text import (
    SIZE_HEAD,
    calendar_sentences,
    level,
    policy_sentences,
    size_cells,
    size_sentences,
    summary,
)

_LONGEST = 80  # characters of a config's value that are shown
_PER_USER = {
    "mean": "the mean of the user's values",
    "first": "the user's first value",
    "any": "1 if any value of the user is 1, else 0",
    "sum": "the sum of the user's values",
}


def plan_document(sized: Sizing) -> str:
    """Return the experimental design as GitHub-flavoured Markdown; texts of the file are escaped."""
    experiment = sized.experiment
    lines = [f"# Experiment design: {text(experiment.key)}", "", *_hypothesis(experiment), *_bullets(summary(sized))]
    lines += ["## Variants", "", *_variants(sized)]
    lines += ["## Goal", "", *_goal(sized)]
    lines += ["## Guardrails", "", *_guardrails(sized)]
    lines += ["## Sample size", "", *table(SIZE_HEAD, _escaped(size_cells(sized))), ""]
    lines += _bullets([*size_sentences(sized), *calendar_sentences(sized)])
    lines += ["## Traffic", "", *_bullets([*_traffic(experiment), *policy_sentences(sized)])]
    lines += ["## Decision rule", "", *_decision(experiment)]
    lines += ["## End", "", *_bullets(_end(sized))]
    remarks = notes(experiment)
    if remarks:
        lines += ["## Notes", "", *_bullets([f"{note}." for note in remarks])]
    return "\n".join(lines).rstrip() + "\n"


def _hypothesis(experiment: Experiment) -> list[str]:
    if experiment.hypothesis.strip():
        return [f"**Hypothesis.** {text(experiment.hypothesis)}", ""]
    better = "rises" if experiment.goal.better == "higher" else "falls"
    template = f"If <change>, then {experiment.goal.metric} {better}, because <reason>."
    return [f"**Hypothesis.** None is declared. Write one: “{text(template)}”", ""]


def _variants(sized: Sizing) -> list[str]:
    experiment, always = sized.experiment, sized.any_time
    rows, changed, remarks = [], [], []
    for arm, variant in enumerate(experiment.variants):
        found = config_changes(experiment, arm)
        users = NOTHING if always is None else f"{always.size.users[arm]:,}"
        differs = NOTHING if variant.control else f"{len(found)}"
        name = text(variant.key) + (" (control)" if variant.control else "")
        rows.append((name, percent(sized.shares[arm]), users, differs))
        if found:
            changed += [f"{text(variant.key)} against control:", "", *(f"- {_change(each)}" for each in found), ""]
        if not variant.control:
            remarks += _remarks(variant.key, len(found))
    head = ("variant", "share", "users with looks at any time", "keys that differ from control")
    return [*table(head, rows), "", *_bullets(remarks), *changed]


def _remarks(variant: str, differing: int) -> list[str]:
    if differing == 0:
        return [f"{variant} has the same config as control: an A/A variant, which checks the experiment itself."]
    if differing == 1:
        return []
    return [
        (
            f"Warning: {variant} differs from control in {differing} keys, so nobody will know which of them made a "
            "difference. Test one change at a time, or take the bundle as the change."
        )
    ]


def _change(change: ConfigChange) -> str:
    old, new = ("(none)" if value is None else text(_short(value)) for value in (change.control, change.variant))
    return f"{text(change.path)}: {old} → {new}"


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 1]}…"


def _goal(sized: Sizing) -> list[str]:
    experiment, goal, rewards = sized.experiment, sized.experiment.goal, sized.experiment.rewards
    missing = {
        "worst": f"counts as the worst value, {0 if goal.better == 'higher' else 1}",
        "zero": "counts as 0",
        "ignore": "is left out",
    }
    window = f"{rewards.window} from a user's assignment"
    if rewards.window == "request":
        window = f"values come with the request, at the latest after {rewards.request_timeout}"
    rows = [
        ("metric", f"{goal.metric}, {goal.kind}; {goal.better} is better"),
        ("a user counts as", _PER_USER[goal.per_user]),
        ("a user without a value", missing[experiment.missing]),
        ("reward window", window),
        ("expected of control (baseline)", level(sized, sized.plan.baseline)),
        ("smallest effect that matters (mde)", f"{percent(goal.mde)}, to {level(sized, sized.plan.target)}"),
    ]
    if goal.range is not None:
        rows.append(("range", f"{goal.range[0]:g} to {goal.range[1]:g}; values outside are refused"))
    if goal.cap is not None:
        rows.append(("cap", f"{goal.cap:g}; outcomes are cut there"))
    return [*table(("goal", "declared"), [(name, text(value)) for name, value in rows]), ""]


def _guardrails(sized: Sizing) -> list[str]:
    if not sized.guardrails:
        return ["None is declared: the goal alone decides.", ""]
    return [*table(GUARDRAIL_HEAD, _escaped(guardrail_cells(sized))), "", *_bullets(guardrail_sentences(sized))]


def _traffic(experiment: Experiment) -> list[str]:
    policy, rollout = experiment.policy, experiment.rollout
    ramp, share = "", rollout.steps[-1]
    if len(set(rollout.steps)) > 1:
        steps = " → ".join(map(percent, dict.fromkeys(rollout.steps)))
        measured = " with a value of every guardrail" if experiment.guardrails else ""
        ramp = (
            f" A ramp raises that share step by step: {steps}. The next step comes once each treatment has "
            f"{rollout.ramp_users:,} users{measured} on this one, after {rollout.ramp_after} at the earliest."
        )
    rest = "" if share == 1 else " The others get control and are not counted."
    enrolled = f"{percent(share)} of users are in the experiment.{rest}{ramp}"
    sticky = "A user keeps the variant first assigned."
    if policy.kind == "fixed":
        return [enrolled, sticky, f"Shares stay as they are: {_shares(experiment, experiment.split)}."]
    return [
        enrolled,
        sticky,
        (
            f"Policy {policy.kind}: an equal split until each variant has {policy.warmup:,} users, then shares follow "
            f"the data. Least shares: {_shares(experiment, experiment.floors)}."
        ),
        (
            f"Shares are renewed after {100 * policy.growth:g} % more users and at least {policy.min_batch:,}, or "
            f"after {policy.max_epoch}."
        ),
    ]


def _shares(experiment: Experiment, shares: Sequence[float]) -> str:
    return ", ".join(f"{arm} {percent(share)}" for arm, share in zip(experiment.arms, shares, strict=True))


def _decision(experiment: Experiment) -> list[str]:
    odds, mde, several = _odds(decision_level(experiment)), percent(experiment.goal.mde), experiment.n_arms > 2
    steps = [
        (
            f"**Do not deploy** if {'a guardrail is breached or ' if experiment.guardrails else ''}the variant was "
            "suspended by hand. The same if users or outcomes are missing in a way that chance does not explain: then "
            "fix the data first."
        ),
        (
            f"**Do not deploy** if the evidence that control is better has reached {odds}, or if a gain of {mde} or "
            "more is ruled out: the variant is worse, or not better by enough to matter."
        ),
        (
            f"**Deploy** if the evidence that the variant is better has reached {odds}{_conditions(experiment)} and "
            "its last seven days do not point the other way."
            f"{' Of several such variants, deploy the one with the largest estimated gain.' if several else ''}"
        ),
        (
            "**Keep running** if the variant is better but something of step 3 is lacking; the report says what, and "
            "how many users it still takes."
        ),
        "**Keep running** otherwise. At the horizon, or once stopped: **inconclusive, keep control**.",
    ]
    of = "each variant" if several else "the variant"
    return [
        f"At every look, the report takes these steps for {of}; the first that applies decides.",
        "",
        *(f"{number}. {step}" for number, step in enumerate(steps, 1)),
        "",
        *_bullets(_meaning(experiment)),
    ]


def _conditions(experiment: Experiment) -> str:
    days = experiment.analysis.min_days
    certified = ", every guardrail is certified" if experiment.guardrails else ""
    return certified + (f", the experiment is at least {days:g} {'day' if days == 1 else 'days'} old," if days else "")


def _meaning(experiment: Experiment) -> list[str]:
    level_, over = decision_level(experiment), "all variants and looks" if experiment.n_arms > 2 else "all looks"
    breaks = ", or that breaks a limit," if experiment.guardrails else ""
    found = [
        (
            f"Evidence of {_odds(level_)}: if the claim were false, at most 1 of {1.0 / level_:,.4g} experiments would "
            "show such evidence at any look."
        ),
        (
            f"So the chance of ever deploying a variant that is not better{breaks} is at most "
            f"{percent(experiment.policy.alpha / 2)}, over {over}."
        ),
    ]
    if experiment.guardrails:
        found.append(
            f"A guardrail is certified while the evidence that its limit is kept is {_odds(level_)} or more, and "
            f"breached once the evidence that it is broken reaches {_odds(breach_level(experiment))}. In between, "
            "nobody knows yet."
        )
    return found


def _odds(level_: float) -> str:
    return f"{1.0 / level_:,.4g} to 1"


def _end(sized: Sizing) -> list[str]:
    analysis, needed = sized.experiment.analysis, sized.decision
    final = "what is not decided by then is inconclusive, and control is kept. The interval for one look is final then."
    if analysis.horizon_users is not None:
        declared = f"{analysis.horizon_users:,} users"
        short = needed is not None and analysis.horizon_users < needed.enrolled
    elif analysis.horizon_days is not None:
        declared = f"{analysis.horizon_days:g} days"
        short = needed is not None and analysis.horizon_days < needed.days
    else:
        advice = "" if needed is None else f" Declare analysis.horizon_users = {needed.enrolled} to end it as planned."
        return [f"No horizon is declared: the experiment runs until it is decided or stopped.{advice}"]
    if short and needed is not None:
        plan = f"{needed.enrolled:,} users, {count(needed.days, 'day')}"
        return [f"Horizon {declared}: {final}", f"Warning: the horizon is shorter than the plan ({plan})."]
    return [f"Horizon {declared}: {final}"]


def _escaped(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [tuple(map(text, row)) for row in rows]


def _bullets(sentences: list[str]) -> list[str]:
    return [*(f"- {text(sentence)}" for sentence in sentences), ""] if sentences else []
