"""Results as text for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.table import Table

from bandit.arrays import FloatArray
from bandit.experiment import Experiment, notes
from bandit.experiment_rules import MOST_VARIANTS
from simulations.advice import advice
from simulations.baselines import Baseline
from simulations.compare import Comparison
from simulations.replay import Replay
from simulations.scores import Estimate, Score
from simulations.worlds import World

_REASONS = {"no_clicks": "no clicks", "one_arm": "one arm", "too_many_arms": f"more than {MOST_VARIANTS} arms"}
_COLUMNS = 3

MOST_TOLD = 4
"""Stretches of a world that are told one by one; of more, the first and the last."""

_PERCENT = frozenset(
    {
        "gain_over_fixed",
        "share_best",
        "picked_best",
        "significant",
        "false_suspensions",
        "share_best_within_limits",
        "decided",
        "wrong_decision",
    }
)


def shown(estimate: Estimate, *, percent: bool = False) -> str:
    """Return a number with its standard error, which has two digits."""
    if estimate.value is None:
        return "–"
    factor, unit = (100.0, " %") if percent else (1.0, "")
    value = estimate.value * factor
    error = 0.0 if estimate.error is None else estimate.error * factor
    if error < 1e-12:
        value = 0.0 if abs(value) < 1e-12 else value  # what is left of equal numbers' difference
        return f"{value:,.6g}{unit}"
    digits = min(max(0, 1 - math.floor(math.log10(error))), 12)
    return f"{value:,.{digits}f} ± {error:,.{digits}f}{unit}"


def side_by_side(rows: Iterable[tuple[str, Sequence[str]]], columns: Iterable[str]) -> Table:
    """Return a plain table: what is measured at the left, a column per policy."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    for name, cells in rows:
        table.add_row(name, *cells)
    return table


def comparison_tables(result: Comparison) -> list[Table]:
    """Return the policies of a comparison side by side, three to a table so that numbers stay on one line."""
    names = list(result.policies)
    parts = [_comparison_table(result, names[start : start + _COLUMNS]) for start in range(0, len(names), _COLUMNS)]
    return [*parts, _baseline_table(result)]


def _baseline_table(result: Comparison) -> Table:
    """Return what one variant for everybody would be worth: what any policy has to be better than."""
    found = result.baselines
    rows = [
        (f"{result.experiment.goal.metric} per user", [f"{each.reward_per_user:.6g}" for each in found.values()]),
        ("regret", [f"{each.regret:,.6g}" for each in found.values()]),
        ("is", [_is(each) for each in found.values()]),
    ]
    return side_by_side(rows, [f"always {arm}" for arm in found])


def _is(baseline: Baseline) -> str:
    said = {
        "control": baseline.control,
        "the cheapest": baseline.cheapest,
        "the best choice": baseline.best_fixed,
        "beyond a limit": baseline.breaks_limit,
    }
    return ", ".join(name for name, holds in said.items() if holds)


def _comparison_table(result: Comparison, policies: Sequence[str]) -> Table:
    scores = [result.policies[name] for name in policies]
    goal = result.experiment.goal
    names = {
        "reward_per_user": f"{goal.metric} per user ({goal.better} is better)",
        "gain_over_fixed": "gain over the equal split",
        "regret": f"regret, {goal.metric} × users",
        "share_best": "users on a best variant",
        "picked_best": "runs that picked a best variant",
        "epochs": "epochs",
    }
    rows = [(text, _row([score.numbers for score in scores], key)) for key, text in names.items()]
    welch = {
        "significant": "Welch: runs with a significant variant",
        "mean_difference": "Welch: best treatment − control",
    }
    rows += [(text, _row([score.welch for score in scores], key)) for key, text in welch.items()]
    if scores[0].deciding:
        deciding = {
            "decided": "runs decided by the horizon",
            "users_to_decision": "users to a decision (the horizon, if there is none)",
            "wrong_decision": "runs decided wrongly",
            "reward_acted_on": f"{goal.metric} per user, acting on the decision",
        }
        rows += [(text, _row([score.deciding for score in scores], key)) for key, text in deciding.items()]
        paired = [result.against_fixed(name).get("reward_acted_on") for name in policies]
        if any(paired):
            cells = ["" if each is None else shown(each) for each in paired]
            rows.append(("… more than the fixed split, run by run", cells))
    rows += _guardrail_rows(scores)
    if result.world.simulated:
        rows += _limit_rows(scores)
    return side_by_side(rows, policies)


def _row(numbers: Sequence[Mapping[str, Estimate]], key: str) -> list[str]:
    return [shown(each[key], percent=key in _PERCENT) for each in numbers]


def _guardrail_rows(scores: Sequence[Score]) -> list[tuple[str, list[str]]]:
    rows = []
    for index, guardrail in enumerate(scores[0].guardrails):
        limit = "" if guardrail.limit is None else f" (limit {guardrail.limit:g})"
        percent = guardrail.statistic != "mean"
        cells = [shown(score.guardrails[index].level, percent=percent) for score in scores]
        rows.append((f"guardrail {guardrail.metric}: {guardrail.statistic}{limit}", cells))
    return rows


def _limit_rows(scores: Sequence[Score]) -> list[tuple[str, list[str]]]:
    names = {
        "share_best_within_limits": "users on a best variant within limits",
        "exposed_to_breach": "users on a variant that breaks a limit",
        "false_suspensions": "runs with a false suspension",
    }
    rows = [(text, _row([score.limits for score in scores], key)) for key, text in names.items()]
    for arm in scores[0].suspensions:
        own = [score.suspensions[arm] for score in scores]
        rows.append((f"{arm} suspended: runs", [shown(each.suspended, percent=True) for each in own]))
        rows.append((f"{arm} suspended: after users, median", [shown(each.after) for each in own]))
    return rows


def comparison_sentences(result: Comparison) -> list[str]:
    """Return what has to be said under the table."""
    world, experiment = result.world, result.experiment
    sentences = [*advice(result), _on_welch(result), *_on_bounds(result)]
    if world.simulated:
        sentences.append("Guardrail figures are expected ones per user.")
        sentences += [_on_limits(each, _when(world, place)) for place, each in _turns(world)]
    if world.not_simulated:
        sentences.append(f"Not simulated, as the world says nothing of it: {', '.join(world.not_simulated)}.")
    if world.correlations:
        sentences.append("Metrics are drawn apart here; how they go together (correlations) acts in `rehearse` alone.")
    on_worlds = dict.fromkeys(note for each in world.stretches for note in each.notes)
    sentences += [f"Note: {note}." for note in (*notes(experiment), *on_worlds)]
    sentences.append(
        "A world without a clock: rewards come at once and from every user, so window, max_epoch and missing do not "
        f"act. ± is one standard error over {result.replications:,} runs of {result.users:,} users, seed {result.seed}."
    )
    return sentences


def _on_bounds(result: Comparison) -> list[str]:
    bounds = result.bounds
    if bounds is None:
        return []
    least = ""
    if bounds.users_to_best is not None:
        named = "; nobody can name the best variant at the level of a decision before"
        least = f"{named} {bounds.users_to_best:,.0f} users in the mean (Garivier, Kaufmann)"
    regret = f"A policy that is good in every world has a regret of about {bounds.regret:,.1f} at least"
    return [f"{regret} for so many users (Lai, Robbins: C ln T){least}."]


def _turns(world: World) -> list[tuple[int, World]]:
    """Return the stretches, with their places, in which other variants break limits than before, and the first."""
    found: list[tuple[int, World]] = []
    for place, each in enumerate(world.stretches):
        if not found or (each.broken != found[-1][1].broken).any():
            found.append((place, each))
    return found


def _when(world: World, stretch: int) -> str:
    """Return which stretch of a world that changes is spoken of; empty if it never changes."""
    if not world.changes:
        return ""
    return "before the change, " if stretch == 0 else f"after {world.changes[stretch - 1].after_users:,} users, "


def _on_limits(world: World, when: str) -> str:
    """Return which variants truly break limits, and what is best among the others."""
    arms, broken = world.experiment.arms, world.broken
    breaking = [
        f"{arm} breaks {rail.metric}"
        for rail in world.simulated
        for arm, breaks in zip(arms, world.breaks(rail), strict=True)
        if breaks
    ]
    truth = f"In truth, {when}{', '.join(breaking) or 'every variant keeps its limits'}"
    if not breaking or broken.all():
        return f"{truth}."
    gains = world.means if world.experiment.goal.better == "higher" else -world.means
    best = max((arm for arm in range(len(arms)) if not broken[arm]), key=lambda arm: float(gains[arm]))
    goal = world.experiment.goal.metric
    return f"{truth}; the best that keeps its limits is {arms[best]} with {goal} {world.means[best]:.6g}."


def _on_welch(result: Comparison) -> str:
    """Return how Welch's test does here: its false positives if the arms are equal, else its bias."""
    alpha = result.experiment.policy.alpha
    stretches = [world.means for world in result.world.stretches]
    if all(means.max() == means.min() for means in stretches):
        false = ", ".join(
            f"{name} {shown(s.welch['significant'], percent=True)}" for name, s in result.policies.items()
        )
        return (
            f"All variants are equal in this world, so each significant run is a false positive of Welch's test, "
            f"which promises at most {alpha:.3g} in all: {false}."
        )
    truths = [_true_difference(result.experiment, means) for means in stretches]
    if len(truths) > 1:
        told = [f"{truth:+.6g}" for truth in truths]
        shown_truths = ", then ".join(told if len(told) <= MOST_TOLD else [told[0], "step by step", told[-1]])
        return f"The true difference of the best treatment is {shown_truths}: what Welch's test reads is a mixture."
    return (
        f"The true difference of the best treatment is {truths[0]:+.6g}; where traffic moves, Welch's is "
        "biased. To see its false positives, compare in a world whose variants are all equal."
    )


def _true_difference(experiment: Experiment, means: FloatArray) -> float:
    """Return the mean of the best treatment less that of control."""
    treatments = [float(mean) for arm, mean in enumerate(means) if arm != experiment.control]
    best = max(treatments) if experiment.goal.better == "higher" else min(treatments)
    return best - float(means[experiment.control])


def replay_title(result: Replay) -> str:
    """Return what was replayed, in one line."""
    tests = result.truths.tests
    left_out = [f"{count:,} with {_REASONS[key]}" for key, count in result.truths.left_out.items() if count]
    users = sum(sum(test.impressions) for test in tests)
    return f"{len(tests):,} recorded tests, {users:,} users; left out: {', '.join(left_out) or 'none'}"


def replay_table(result: Replay) -> Table:
    """Return the policies of a replay, a row each."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for column in ("clicks gained over the equal split", "regret of the equal split removed"):
        table.add_column(column, justify="right")
    for name, score in result.policies.items():
        table.add_row(name, shown(score.gain_over_fixed, percent=True), shown(score.regret_removed, percent=True))
    return table


def replay_sentences(result: Replay) -> list[str]:
    """Return what has to be said under the table."""
    truths = result.truths
    return [
        "Sums of expected clicks over all tests, by the engine's default schedule; no warm-up, no baseline.",
        f"Truth: observed rates, shrunk toward their test's as arms differ by {truths.spread:.1%} of it (one s.d.).",
        f"± is one standard error over tests; runs of each test: {result.replications:,}; seed {result.seed}.",
    ]


def check_lines(experiment: Experiment) -> list[str]:
    """Return what an experiment file asks for, line by line."""
    goal, policy, rewards = experiment.goal, experiment.policy, experiment.rewards
    arms = [f"{v.key} (control)" if v.control else v.key for v in experiment.variants]
    least = experiment.split if policy.kind == "fixed" else experiment.floors
    shares = ", ".join(f"{arm} {share:.1%}" for arm, share in zip(experiment.arms, least, strict=True))
    baseline = "" if goal.baseline is None else f", baseline {goal.baseline:g}"
    lines = [
        f"experiment  {experiment.key}",
        f"variants    {', '.join(arms)}",
        f"goal        {goal.metric}: {goal.kind}, {goal.better} is better, {goal.per_user} per user{baseline}",
        f"policy      {policy.kind}, warm-up {policy.warmup} users per variant, alpha {policy.alpha:g}",
        f"{'split ' if policy.kind == 'fixed' else 'floors'}      {shares}" + _left_over(experiment),
        f"rewards     window {rewards.window}, a user without {goal.metric} counts as: {experiment.missing}",
        f"exposure    {experiment.rollout.exposure:.4g} of the users",
    ]
    for guardrail in experiment.guardrails:
        limit = f"{guardrail.limit_kind} {getattr(guardrail, guardrail.limit_kind):g}"
        of = "" if guardrail.quantile is None else f"quantile {guardrail.quantile:g}, "
        lines.append(f"guardrail   {guardrail.metric}: {of}{limit}")
    return lines + [f"note        {note}" for note in notes(experiment)]


def _left_over(experiment: Experiment) -> str:
    """Say what share of the traffic the policy moves."""
    if experiment.policy.kind == "fixed":
        return ""
    return f" at least; the policy moves the other {max(1 - sum(experiment.floors), 0):.1%}"
