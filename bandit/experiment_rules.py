"""Rules over several parts of an experiment, and the defaults that depend on other parts.

Each `..._problems` function returns the faults it finds, with fields relative to the part they are about.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from bandit.errors import Problem
from bandit.experiment_judges import judge_notes
from bandit.experiment_parts import INTERACTION_FIELDS, Goal, Guardrail, PolicySettings, Rewards, Rollout, Variant
from bandit.wording import listed, path, received, unknown_name

if TYPE_CHECKING:
    from bandit.experiment import Experiment

Missing = Literal["worst", "ignore", "zero"]

MOST_VARIANTS = 50
MOST_GUARDRAILS = 20
LARGEST_CONFIGS = 900_000
"""Bytes of all configs as JSON, so that an experiment's JSON stays below the 1 MB that is read."""

POLICY_OF_SETTING = {
    "split": "fixed",
    "epsilon": "epsilon_greedy",
    "explore_users": "explore_then_commit",
    "beta": "top_two",
}
"""Settings that act under one kind of policy only."""

POLICIES_THAT_REMEMBER = ("fixed", "explore_then_commit")
"""Kinds of policy under which no `half_life` acts: one never learns, the other decides once, from all it has seen."""

RAMP_SETTINGS = ("ramp_users", "ramp_after")
"""Settings that act with a ramp only."""


def variant_problems(variants: Sequence[Variant]) -> list[Problem]:
    """Faults of the variants together: their number, keys, control and size."""
    found = []
    if not 2 <= len(variants) <= MOST_VARIANTS:
        found.append(Problem("", f"received {len(variants)} variants, allowed: 2 to {MOST_VARIANTS}"))
    first: dict[str, int] = {}
    for index, variant in enumerate(variants):
        if first.setdefault(variant.key, index) != index:
            message = f"received {received(variant.key)} again, allowed: each key once"
            found.append(Problem(f"[{index}].key", message))
    controls = [variant.key for variant in variants if variant.control]
    if len(controls) != 1:
        which = f"{len(controls)} ({listed(controls)})" if controls else "none"
        found.append(Problem("", f"received {which} with control = true, allowed: exactly one"))
    size = sum(len(json.dumps(variant.config, ensure_ascii=False).encode()) for variant in variants)
    if size > LARGEST_CONFIGS:
        message = f"received configs of {size} bytes as JSON, allowed: {LARGEST_CONFIGS} together"
        found.append(Problem("", message))
    return found


def guardrail_problems(guardrails: Sequence[Guardrail], goal: Goal | None) -> list[Problem]:
    """Faults of the guardrails together and beside the goal (None: not known)."""
    found = []
    if len(guardrails) > MOST_GUARDRAILS:
        message = f"received {len(guardrails)} guardrails, allowed: at most {MOST_GUARDRAILS}"
        found.append(Problem("", message))
    kinds: dict[str, str] = {} if goal is None else {goal.metric: goal.kind}
    measured: dict[object, int] = {}
    fields: dict[str, tuple[int, str]] = {}
    for index, rail in enumerate(guardrails):
        if rail.field is not None:
            first, field = fields.setdefault(rail.metric, (index, rail.field))
            if field != rail.field:
                message = f"received '{rail.field}', allowed: '{field}', as guardrails[{first}] has it for this metric"
                found.append(Problem(f"[{index}].field", message))
        kind = kinds.setdefault(rail.metric, rail.kind)
        if kind != rail.kind:
            message = f"received '{rail.kind}', allowed: '{kind}', as {received(rail.metric)} is declared above"
            found.append(Problem(f"[{index}].kind", message))
        of = rail.quantile if rail.at is None else rail.at  # a relative quantile limits the share of calls above `at`
        measure = (rail.metric, of, rail.per_user, rail.limit_kind)
        before = measured.setdefault(measure, index)
        if before != index:
            message = f"received what guardrails[{before}] limits already ({received(rail.metric)}), allowed: once"
            found.append(Problem(f"[{index}]", message))
    return found


def floor_of(policy: PolicySettings, n_arms: int) -> float:
    """Least share of each arm: as declared, or max(0.20/arms, min(0.02, 0.40/arms))."""
    return max(0.20 / n_arms, min(0.02, 0.40 / n_arms)) if policy.floor is None else policy.floor


def policy_problems(policy: PolicySettings, variants: Sequence[Variant]) -> list[Problem]:
    """Faults of the policy beside the variants: floors above 1, a split that is none."""
    n_arms = len(variants)
    found = _split_problems(policy.split, [variant.key for variant in variants])
    floor, control_floor = floor_of(policy, n_arms), policy.control_floor
    if (n_arms - 1) * floor + max(floor, control_floor) > 1 + 1e-12:
        largest = (1 - control_floor) / (n_arms - 1) if control_floor >= 1 / n_arms else 1 / n_arms
        given = f"none (default {floor:g})" if policy.floor is None else f"{floor:g}"
        message = (
            f"received {given} with {n_arms} variants and control_floor {control_floor:g}; "
            f"allowed: at most {_rounded_down(largest)} fits"
        )
        found.append(Problem("floor", message))
    return found


def _rounded_down(share: float) -> str:
    """A share in six digits that are never above it, with … if it has more."""
    digits = math.floor(share * 1e6 + 1e-9) / 1e6
    return f"{digits:g}" if math.isclose(digits, share, abs_tol=1e-12) else f"{digits:.6f}…"


def _split_problems(split: dict[str, float] | None, arms: list[str]) -> list[Problem]:
    """Faults of a declared split: other keys than the variants', a sum that is not 1."""
    if split is None:
        return []
    found = [
        Problem(path(("split", key)), f"unknown variant; {unknown_name(key, arms)}") for key in split if key not in arms
    ]
    found += [
        Problem("split", f"missing {received(arm)}; a share for each variant") for arm in arms if arm not in split
    ]
    total = math.fsum(split.values())
    if not found and abs(total - 1) > 1e-9:
        found.append(Problem("split", f"received shares that sum to {total:.12g}, allowed: 1"))
    return found


def missing_of(rewards: Rewards, goal: Goal) -> Missing:
    """What a user without a goal value counts as: as declared, or by the goal."""
    if rewards.missing is not None:
        return rewards.missing
    if goal.per_user == "sum":
        return "zero"
    return "worst" if goal.kind == "binary" else "ignore"


def reward_problems(rewards: Rewards, goal: Goal) -> list[Problem]:
    """Faults of `missing` beside the goal."""
    missing = missing_of(rewards, goal)
    if goal.per_user == "sum" and missing != "zero":
        return [Problem("missing", f"received '{missing}', allowed with goal.per_user = 'sum': 'zero'")]
    if missing == "worst" and goal.kind != "binary":
        return [Problem("missing", "received 'worst', allowed for a numeric goal: 'ignore', 'zero'")]
    if missing == "zero" and goal.range is not None and not goal.range[0] <= 0 <= goal.range[1]:
        low, high = goal.range
        given = "received 'zero'" if rewards.missing else "received none, so 'zero' (per_user = 'sum')"
        return [
            Problem(
                "missing",
                f"{given}, but 0 is outside goal.range [{low:g}, {high:g}]; allowed: a range with 0",
            )
        ]
    return []


def notes(experiment: Experiment) -> tuple[str, ...]:
    """What is legal but may not do what its author thinks, one sentence each."""
    policy = experiment.policy
    sentences = [
        f"policy.{name} acts only under kind '{kind}', not under '{policy.kind}'"
        for name, kind in POLICY_OF_SETTING.items()
        if name in policy.model_fields_set and getattr(policy, name) is not None and kind != policy.kind
    ]
    if policy.half_life is not None and policy.kind in POLICIES_THAT_REMEMBER:
        sentences.append(f"policy.half_life does not act under kind '{policy.kind}', which forgets nothing")
    sentences += [
        f"guardrails[{index}].field: the interaction log has no such metric, but {', '.join(INTERACTION_FIELDS)};"
        f" only /reward feeds '{rail.metric}'"
        for index, rail in enumerate(experiment.guardrails)
        if rail.field is not None and rail.field not in INTERACTION_FIELDS
    ]
    return (
        *sentences,
        *_rollout_notes(experiment.rollout),
        *judge_notes(experiment.judges, experiment.rewards, experiment.guardrails),
    )


def _rollout_notes(rollout: Rollout) -> list[str]:
    if rollout.ramp is None:
        given = [name for name in RAMP_SETTINGS if name in rollout.model_fields_set]
        return [f"rollout.{name} acts only with rollout.ramp" for name in given]
    if rollout.ramp[-1] < rollout.exposure:
        last, exposure = rollout.ramp[-1], rollout.exposure
        return [f"rollout.ramp ends at {last:g}, so the share enrolled never reaches rollout.exposure, {exposure:g}"]
    return []
