"""A rehearsal as people read it: a table, and which set-up to launch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from simulations.advice import SURE, WORTH
from simulations.baselines import COST
from simulations.compare import FIXED
from simulations.rehearsals.result import Rehearsal
from simulations.scores import Estimate
from simulations.tables import shown, side_by_side


def rehearsal_parts(found: Rehearsal) -> list[Table | str]:
    """Return the table of a rehearsal, and what it says."""
    return [_table(found), *_sentences(found)]


def _table(found: Rehearsal) -> Table:
    world, policies = found.world, list(found.runs)
    goal = world.experiment.goal
    arms = world.experiment.arms
    treatments = [arm for arm, variant in zip(arms, world.experiment.variants, strict=True) if not variant.control]
    names = {
        "users": "users",
        "visits": "visits",
        "reward_per_user": f"{goal.metric} per visit ({goal.better} is better)",
        "reward_acted_on": f"{goal.metric} per visit, acting on the decision",
        "decided": "runs decided",
        "days_to_decision": "days to a decision (all of them, if there is none)",
        "wrong_decision": "runs decided wrongly",
        "share_best_within_limits": "visits on the best variant within limits",
        "exposed_to_breach": "visits on a variant that breaks a limit",
    }
    names |= {f"share_of.{arm}": f"visits on {arm}" for arm in arms}
    names |= {f"level.{metric}": f"{metric} per visit" for metric in world.laws if metric != goal.metric}
    rows = [(text, [_shown(found, policy, name) for policy in policies]) for name, text in names.items()]
    for arm in treatments:
        each = [found.runs[policy][f"suspended_day.{arm}"] for policy in policies]
        share = [Estimate.of(np.isfinite(days).astype(np.float64)) for days in each]
        rows.append((f"{arm} suspended: runs", [shown(one, percent=True) for one in share]))
        rows.append((f"{arm} suspended: day, mean", [shown(Estimate.of(days)) for days in each]))
    return side_by_side(rows, policies)


def _shown(found: Rehearsal, policy: str, name: str) -> str:
    percent = name in ("decided", "wrong_decision", "share_best_within_limits") or name.startswith("share_of.")
    return shown(found.number(policy, name), percent=percent)


def _sentences(found: Rehearsal) -> list[str]:
    world = found.world
    calendar = world.calendar
    assert calendar is not None  # noqa: S101 - a rehearsal has one
    arrivals = f"{calendar.users_per_day:,g} users a day for {calendar.days:g} days"
    method = (
        f"{found.replications:,} runs of {arrivals}, seed {found.seed}; in each the same users come under every policy,"
        " are served by the engine as the service runs it, and the report is read at the end of each day. A variant's"
        " truth is that of a visit. ± is one standard error."
    )
    return [*_advice(found), *_cost(found), method]


def _advice(found: Rehearsal) -> list[str]:
    others = [policy for policy in found.runs if policy != FIXED]
    if FIXED not in found.runs or not others:
        return []
    if found.replications < 2:
        return ["One run advises nothing; more (--replications) say how much of a difference is luck."]
    goal = found.world.experiment.goal
    sign = 1.0 if goal.better == "higher" else -1.0

    def gain(policy: str) -> tuple[float, float]:
        over = found.over_fixed(policy, "reward_acted_on") or Estimate(None, None)
        return sign * (over.value or 0.0), over.error or 0.0

    best = max(others, key=lambda policy: gain(policy)[0])
    value, error = gain(best)
    reward = abs(found.number(FIXED, "reward_per_user").value or 0.0)
    worth = value > SURE * error and value > WORTH * reward
    size = f"{100 * value / reward:+.2g} ± {100 * error / reward:.1g} %" if reward else f"{value:+.3g} ± {error:.1g}"
    against = f"{size} of {goal.metric} against the fixed split, if everybody gets what was decided from then on"
    chosen = best if worth else FIXED
    verdict = f"Launch {best}: it gives {against}." if worth else f"Launch a fixed split: {best} gives {against}."
    return [verdict, f"{_course(found, chosen)} {_course(found, FIXED if worth else best)}"]


def _course(found: Rehearsal, policy: str) -> str:
    decided = found.number(policy, "decided").value or 0.0
    days = found.number(policy, "days_to_decision").value or 0.0
    wrong = found.number(policy, "wrong_decision").value or 0.0
    exposed = found.number(policy, "exposed_to_breach").value or 0.0
    harmed = f", after {exposed:,.0f} visits on a variant that breaks a limit" if exposed else ""
    return f"{policy} decides {decided:.0%} of the runs, in {days:.1f} days in the mean, {wrong:.0%} wrongly{harmed}."


def _cost(found: Rehearsal) -> Sequence[str]:
    if COST not in found.world.laws:
        return []
    said = []
    for policy in found.runs:
        each = found.number(policy, f"level.{COST}").value or 0.0
        visits = found.number(policy, "visits").value or 0.0
        said.append(f"{policy} about {each * visits:,.0f} US$ ({each:.4g} a visit)")
    return [f"What a run costs: {', '.join(said)}."]
