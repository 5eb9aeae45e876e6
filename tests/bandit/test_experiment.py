"""The experiment file: what it accepts, what it says of what it refuses, what comes out again."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.durations import seconds
from bandit.errors import InvalidExperiment, InvalidId, UnknownVariant
from bandit.experiment import (
    Analysis,
    Experiment,
    Goal,
    Guardrail,
    PolicySettings,
    Rewards,
    Rollout,
    Variant,
    check_id,
    notes,
    parse,
    parse_json,
    parse_toml,
)

Document = dict[str, Any]

FULL = """
key = "support-prompt"
hypothesis = "Three steps resolve more."
salt = "pepper"

[[variants]]
key = "A"
control = true
config = { model = "scout-17b", system_prompt_version = "v1", temperature = 0.7 }

[[variants]]
key = "B"
config = { model = "scout-17b", system_prompt_version = "v2.1-steps", temperature = 0.7 }

[goal]
metric = "resolved"
kind = "binary"
better = "higher"
per_user = "mean"
mde = 0.05
baseline = 0.30

[[guardrails]]
metric = "latency_ms"
kind = "numeric"
quantile = 0.95
max = 1500

[[guardrails]]
metric = "harmful"
field = "safety_flag"
kind = "binary"
per_user = "any"
max = 0.01

[[guardrails]]
metric = "cost_usd"
kind = "numeric"
max_increase = 0.20
cap = 1.0
tolerance = 0.0

[policy]
kind = "thompson"
floor = 0.10
control_floor = 0.20
growth = 0.02
min_batch = 50
max_epoch = "1h"
warmup = 50
alpha = 0.05

[rollout]
exposure = 1.0
ramp = [0.01, 0.05, 0.25, 1.0]

[rewards]
window = "1h"
missing = "worst"

[analysis]
horizon_users = 20000
min_days = 7
"""

BINARY: Document = {
    "key": "greeting",
    "variants": [{"key": "A", "control": True}, {"key": "B"}],
    "goal": {"metric": "resolved", "kind": "binary"},
    "guardrails": [
        {"metric": "harmful", "kind": "binary", "max": 0.01},
        {"metric": "latency", "kind": "numeric", "quantile": 0.95, "max": 1500},
        {"metric": "cost", "kind": "numeric", "max": 0.5},
    ],
}
NUMERIC: Document = BINARY | {"goal": {"metric": "score", "kind": "numeric"}}
P95_OF_CONTROL: Document = {
    "metric": "latency",
    "kind": "numeric",
    "quantile": 0.95,
    "max_increase": 0.1,
    "at": 1200,
}
SUM: Document = BINARY | {"goal": {"metric": "score", "kind": "numeric", "per_user": "sum"}}
FOUR: Document = BINARY | {"variants": [{"key": "A", "control": True}, {"key": "B"}, {"key": "C"}, {"key": "D"}]}


def changed(document: Document, *changes: tuple[str, object]) -> Document:
    """Return a copy in which the values at dotted places are replaced or added."""
    whole = copy.deepcopy(document)
    for place, value in changes:
        *path, last = place.split(".")
        table: Any = whole
        for step in path:
            table = table[int(step)] if isinstance(table, list) else table.setdefault(step, {})
        if isinstance(table, list):
            table[int(last)] = value
        else:
            table[last] = value
    return whole


def faults(document: Document) -> list[tuple[str, str]]:
    """Return (field, message) of each problem of a document that must be refused."""
    with pytest.raises(InvalidExperiment) as refusal:
        parse(document)
    return [(problem.field, problem.message) for problem in refusal.value.problems]


def text_fault(text: str | bytes) -> str:
    """Return the message about a JSON text that must be refused as a whole."""
    with pytest.raises(InvalidExperiment) as refusal:
        parse_json(text)
    (problem,) = refusal.value.problems
    assert problem.field == ""
    return problem.message


def test_the_full_file_parses() -> None:
    experiment = parse_toml(FULL)

    assert experiment.arms == ("A", "B")
    assert experiment.n_arms == 2
    assert experiment.control == 0
    assert experiment.arm("B") == 1
    assert experiment.floors == (0.20, 0.10)
    assert experiment.split == (0.5, 0.5)
    assert experiment.missing == "worst"
    assert experiment.window_seconds == 3600
    assert experiment.max_epoch_seconds == 3600
    assert experiment.request_timeout_seconds == 60
    assert [rail.field_name for rail in experiment.guardrails] == ["latency_ms", "safety_flag", "cost_usd"]
    assert experiment.variants[1].config["temperature"] == 0.7
    assert experiment.rollout.ramp == (0.01, 0.05, 0.25, 1.0)


def test_settings_of_other_policies_are_written_only_if_given() -> None:
    policy = parse(changed(BINARY, ("policy.kind", "top_two"), ("policy.epsilon", 0.3))).to_dict()["policy"]

    assert policy["beta"] == 0.5
    assert policy["epsilon"] == 0.3
    assert "explore_users" not in policy


def test_the_full_file_comes_back_from_its_json() -> None:
    experiment = parse_toml(FULL)

    again = parse_json(experiment.to_json())

    assert again == experiment
    assert again == parse_json(experiment.to_json().encode())
    assert again == parse(experiment.to_dict())
    assert again.to_dict() == experiment.to_dict()


def test_a_minimal_file_gets_the_documented_defaults() -> None:
    experiment = parse(
        {
            "key": "k",
            "variants": [{"key": "A"}, {"key": "B", "control": True}],
            "goal": {"metric": "resolved", "kind": "binary"},
        }
    )

    assert experiment == Experiment(
        key="k",
        hypothesis="",
        salt=None,
        variants=(Variant(key="A"), Variant(key="B", control=True, config={})),
        goal=Goal(metric="resolved", kind="binary", better="higher", per_user="mean", mde=0.05),
        guardrails=(),
        policy=PolicySettings(
            kind="thompson",
            floor=None,
            control_floor=0.20,
            growth=0.02,
            min_batch=50,
            max_epoch="1h",
            warmup=50,
            alpha=0.05,
            split=None,
            epsilon=0.1,
            explore_users=1000,
            beta=0.5,
            half_life=None,
        ),
        rollout=Rollout(exposure=1.0, ramp=None, ramp_users=100, ramp_after="1h"),
        rewards=Rewards(window="1h", missing=None, request_timeout="60s"),
        analysis=Analysis(horizon_users=None, horizon_days=None, min_days=7),
    )
    assert experiment.control == 1
    assert experiment.floors == (0.1, 0.2)
    assert notes(experiment) == ()


@pytest.mark.parametrize(("arms", "floor"), [(2, 0.1), (4, 0.05), (10, 0.02), (20, 0.02), (50, 0.008)])
def test_the_default_floor_shrinks_with_the_number_of_arms(arms: int, floor: float) -> None:
    variants = [{"key": f"v{index}", "control": index == 0} for index in range(arms)]

    floors = parse(BINARY | {"variants": variants}).floors

    assert floors == (0.2, *([pytest.approx(floor)] * (arms - 1)))
    assert math.fsum(floors) <= 1


@pytest.mark.parametrize(
    ("document", "missing"),
    [
        (BINARY, "worst"),
        (NUMERIC, "ignore"),
        (SUM, "zero"),
        (changed(SUM, ("rewards.missing", "zero")), "zero"),
        (changed(BINARY, ("rewards.missing", "ignore")), "ignore"),
        (changed(NUMERIC, ("rewards.missing", "zero"), ("goal.range", [-1, 1])), "zero"),
    ],
)
def test_missing_is_resolved_by_the_goal(document: Document, missing: str) -> None:
    assert parse(document).missing == missing


LEGAL = [
    changed(BINARY, ("policy.floor", 0.5), ("policy.control_floor", 0.5)),
    changed(BINARY, ("policy.floor", 0), ("policy.control_floor", 1)),
    changed(FOUR, ("policy.floor", 0.25)),
    changed(BINARY, ("policy.kind", "fixed"), ("policy.split", {"A": 0.9, "B": 0.1})),
    changed(BINARY, ("policy.split", {"A": 1, "B": 0})),
    changed(BINARY, ("rewards.window", "request"), ("rewards.request_timeout", "1.5m")),
    changed(BINARY, ("rollout.ramp", [1.0])),
    changed(BINARY, ("guardrails.0", {"metric": "failed", "kind": "binary", "max": 0.05})),
    changed(BINARY, ("guardrails.0", {"metric": "resolved", "kind": "binary", "max_increase": 0})),
    changed(BINARY, ("guardrails.0.max", None), ("guardrails.0.max_increase", 0.1)),
    changed(BINARY, ("guardrails.2", {"metric": "latency", "kind": "numeric", "max": 900, "per_user": "sum"})),
    changed(BINARY, ("guardrails.1.max", -5)),
    changed(BINARY, ("variants.1.config", {"deep": [{"null": None, "list": [1, 2.5, "ü", True]}]})),
    changed(BINARY, ("analysis.horizon_days", 14.5), ("analysis.min_days", 0)),
    changed(NUMERIC, ("goal.range", [1, 5]), ("goal.cap", 4), ("goal.baseline", 4)),
    changed(BINARY, ("policy", {"warmup": 0, "min_batch": 1, "alpha": 0.5, "growth": 10, "max_epoch": "366d"})),
    changed(BINARY, ("guardrails", [{"metric": f"m{n}", "kind": "binary", "max": 0.1} for n in range(20)])),
    changed(NUMERIC, ("goal.range", [1, 5]), ("goal.baseline", 1)),
    changed(SUM, ("goal.range", [0, 5])),
    changed(NUMERIC, ("goal.range", [-5, 0]), ("rewards.missing", "zero")),
    changed(NUMERIC, ("goal.better", "lower"), ("goal.baseline", -3)),
    changed(BINARY, ("salt", "ü" * 100), ("hypothesis", "x" * 2000)),
    changed(BINARY, ("guardrails.0", P95_OF_CONTROL)),
    changed(BINARY, ("guardrails.0", P95_OF_CONTROL | {"at": -1e15, "max_increase": 0, "tolerance": 0.2})),
    changed(BINARY, ("policy.half_life", "7d")),
    changed(BINARY, ("policy.half_life", 10**15)),
    changed(BINARY, ("policy.half_life", 1)),
    changed(BINARY, ("rollout", {"ramp": [0.1, 1], "ramp_users": 1, "ramp_after": "366d"})),
    changed(BINARY, ("rollout", {"ramp_users": 10**15, "ramp_after": "1s"})),
]


@pytest.mark.parametrize("document", LEGAL)
def test_what_is_legal_parses_and_comes_back(document: Document) -> None:
    experiment = parse(document)

    assert parse_json(experiment.to_json()) == experiment


LONG = "x" * 201
BROKEN: list[tuple[Document, str, Sequence[str]]] = [
    # keys: unknown, missing
    (changed(BINARY, ("polcy", {})), "polcy", ["unknown key", "did you mean 'policy'?", "allowed: 'key', 'hypoth"]),
    (changed(BINARY, ("goal.basline", 1)), "goal.basline", ["did you mean 'baseline'?", "'metric'", "'cap'"]),
    (changed(BINARY, ("variants.1.contrl", True)), "variants[1].contrl", ["did you mean 'control'?"]),
    (changed(BINARY, ("guardrails.0.maximum", 1)), "guardrails[0].maximum", ["'max'", "'quantile'"]),
    (changed(BINARY, ("rollout.exposur", 1)), "rollout.exposur", ["'exposure'"]),
    (changed(BINARY, ("rewards.windw", "1h")), "rewards.windw", ["'window'"]),
    (changed(BINARY, ("analysis.days", 1)), "analysis.days", ["unknown key", "'min_days'"]),
    (changed(BINARY, ("goal", {"kind": "binary"})), "goal.metric", ["missing", "metric that is to improve"]),
    (changed(BINARY, ("goal", {"metric": "m"})), "goal.kind", ["missing", "'numeric'"]),
    (changed(BINARY, ("variants.1", {})), "variants[1].key", ["missing", "name of the variant"]),
    (changed(BINARY, ("guardrails.0", {"kind": "binary", "max": 0.1})), "guardrails[0].metric", ["missing"]),
    ({k: v for k, v in BINARY.items() if k != "key"}, "key", ["missing", "name of the experiment"]),
    ({k: v for k, v in BINARY.items() if k != "variants"}, "variants", ["missing", "control = true"]),
    ({k: v for k, v in BINARY.items() if k != "goal"}, "goal", ["missing", "[goal]"]),
    # types
    (changed(BINARY, ("goal", 3)), "goal", ["received 3", "a table"]),
    (changed(BINARY, ("variants", {"A": {}})), "variants", ["received {'A'", "a list"]),
    (changed(BINARY, ("goal.mde", "0.05")), "goal.mde", ["received '0.05'", "a number"]),
    (changed(BINARY, ("goal.mde", True)), "goal.mde", ["received True", "a number"]),
    (changed(BINARY, ("goal.mde", math.inf)), "goal.mde", ["received inf", "finite"]),
    (changed(BINARY, ("goal.mde", math.nan)), "goal.mde", ["received nan", "finite"]),
    (changed(BINARY, ("goal.mde", 10**400)), "goal.mde", ["1329 bits", "number"]),
    (changed(BINARY, ("policy.min_batch", 1.0)), "policy.min_batch", ["received 1.0", "a whole number"]),
    (changed(BINARY, ("policy.min_batch", True)), "policy.min_batch", ["received True", "a whole number"]),
    (changed(BINARY, ("variants.1.control", 1)), "variants[1].control", ["received 1", "true or false"]),
    (changed(BINARY, ("hypothesis", 1)), "hypothesis", ["received 1", "text"]),
    (changed(BINARY, ("hypothesis", "\ud800")), "hypothesis", ["lone surrogates"]),
    (changed(BINARY, ("hypothesis", "x" * 2001)), "hypothesis", ["at most 2000"]),
    # names
    (changed(BINARY, ("key", "a/b")), "key", ["'a/b'", "URLs"]),
    (changed(BINARY, ("key", "..")), "key", ["'..'", "URLs"]),
    (changed(BINARY, ("key", "")), "key", ["empty", "1 to 200 bytes"]),
    (changed(BINARY, ("key", LONG)), "key", ["201 bytes", "1 to 200 bytes"]),
    (changed(BINARY, ("variants.1.key", ".")), "variants[1].key", ["'.'"]),
    (changed(BINARY, ("variants.1.key", "a\x7f")), "variants[1].key", ["control characters"]),
    (changed(BINARY, ("salt", "")), "salt", ["empty"]),
    (changed(BINARY, ("goal.metric", "a\nb")), "goal.metric", ["control characters"]),
    (changed(BINARY, ("guardrails.0.metric", "")), "guardrails[0].metric", ["empty"]),
    (changed(BINARY, ("guardrails.0.field", LONG)), "guardrails[0].field", ["201 bytes"]),
    # variants
    (changed(BINARY, ("variants", [{"key": "A", "control": True}])), "variants", ["received 1", "2 to 50"]),
    (changed(BINARY, ("variants", [{"key": f"{n}", "control": n == 0} for n in range(51)])), "variants", ["51"]),
    (changed(BINARY, ("variants.1.key", "A")), "variants[1].key", ["'A' again", "once"]),
    (changed(BINARY, ("variants.0.control", False)), "variants", ["none", "exactly one"]),
    (changed(BINARY, ("variants.1.control", True)), "variants", ["2 ('A', 'B')", "exactly one"]),
    (changed(BINARY, ("variants.1.config", [1])), "variants[1].config", ["a table"]),
    (changed(BINARY, ("variants.1.config", {"t": math.nan})), "variants[1].config.t", ["nan", "finite"]),
    (changed(BINARY, ("variants.1.config", {"t": [2**70]})), "variants[1].config.t[0]", ["64 bits"]),
    (changed(BINARY, ("variants.1.config", {"t": object})), "variants[1].config.t", ["received <class", "lists"]),
    (changed(BINARY, ("variants.1.config", {"t": {3: 4}})), "variants[1].config.t", ["key 3", "text"]),
    (changed(BINARY, ("variants.1.config", {"t": "\udfff"})), "variants[1].config.t", ["lone surrogates"]),
    (changed(BINARY, ("variants.1.config", {"t": "x" * 900_000})), "variants", ["900011 bytes", "900000"]),
    # goal
    (changed(BINARY, ("goal.kind", "bin")), "goal.kind", ["received 'bin', allowed: 'binary', 'numeric'"]),
    (changed(BINARY, ("goal.better", "more")), "goal.better", ["'more'", "'higher', 'lower'"]),
    (changed(BINARY, ("goal.metric", "failed")), "goal.metric", ["built-in"]),
    (changed(BINARY, ("goal.per_user", "sum")), "goal.per_user", ["'sum'", "'mean', 'first', 'any'"]),
    (changed(NUMERIC, ("goal.per_user", "any")), "goal.per_user", ["'any'", "'mean', 'first', 'sum'"]),
    (changed(BINARY, ("goal.mde", 0)), "goal.mde", ["received 0", "above 0"]),
    (changed(BINARY, ("goal.range", [0, 1])), "goal.range", ["only for kind 'numeric'"]),
    (changed(BINARY, ("goal.cap", 1)), "goal.cap", ["only for kind 'numeric'"]),
    (changed(NUMERIC, ("goal.range", [5, 5])), "goal.range", ["(5.0, 5.0)", "low below high"]),
    (changed(NUMERIC, ("goal.range", [5])), "goal.range", ["[5]", "[low, high]"]),
    (changed(NUMERIC, ("goal.range", 5)), "goal.range", ["received 5", "[low, high]"]),
    (changed(NUMERIC, ("goal.range", [1, 5]), ("goal.cap", 1)), "goal.cap", ["received 1", "more than 1"]),
    (changed(NUMERIC, ("goal.range", [1, 5]), ("goal.baseline", 6)), "goal.baseline", ["received 6", "1 to 5"]),
    (changed(NUMERIC, ("goal.cap", 5), ("goal.baseline", 6)), "goal.baseline", ["received 6", "at most goal.cap, 5"]),
    (changed(NUMERIC, ("goal.baseline", math.inf)), "goal.baseline", ["inf", "finite"]),
    (changed(BINARY, ("goal.baseline", 1)), "goal.baseline", ["received 1", "above 0 and below 1"]),
    (changed(BINARY, ("goal.baseline", 0)), "goal.baseline", ["received 0"]),
    # guardrails
    (changed(BINARY, ("guardrails", [BINARY["guardrails"][0]] * 21)), "guardrails", ["received 21", "at most 20"]),
    (changed(BINARY, ("guardrails.0.max", 1)), "guardrails[0].max", ["received 1", "above 0 and below 1"]),
    (changed(BINARY, ("guardrails.0.max", 0)), "guardrails[0].max", ["received 0", "above 0 and below 1"]),
    (changed(BINARY, ("guardrails.0.max", None)), "guardrails[0].max", ["missing", "max_increase"]),
    (changed(BINARY, ("guardrails.0.max_increase", 0.1)), "guardrails[0].max", ["exactly one"]),
    (
        changed(BINARY, ("guardrails.0.max", None), ("guardrails.0.max_increase", -0.1)),
        "guardrails[0].max_increase",
        ["received -0.1", "0 or more"],
    ),
    (changed(BINARY, ("guardrails.0.per_user", "sum")), "guardrails[0].per_user", ["'sum'", "'any'"]),
    (changed(BINARY, ("guardrails.0.quantile", 0.9)), "guardrails[0].quantile", ["only for kind 'numeric'"]),
    (changed(BINARY, ("guardrails.0.cap", 2)), "guardrails[0].cap", ["only for kind 'numeric'"]),
    (changed(BINARY, ("guardrails.0.tolerance", -1)), "guardrails[0].tolerance", ["received -1", "0 or more"]),
    (changed(BINARY, ("guardrails.1.quantile", 1)), "guardrails[1].quantile", ["received 1", "below 1"]),
    (changed(BINARY, ("guardrails.1.quantile", 0)), "guardrails[1].quantile", ["received 0", "above 0"]),
    (changed(BINARY, ("guardrails.1.max", None)), "guardrails[1].max", ["missing", "quantile needs"]),
    (changed(BINARY, ("guardrails.1.max", None)), "guardrails[1].max", ["or max_increase and at"]),
    (changed(BINARY, ("guardrails.1.max", math.inf)), "guardrails[1].max", ["finite"]),
    (
        changed(BINARY, ("guardrails.1", P95_OF_CONTROL | {"at": None})),
        "guardrails[1].at",
        ["missing", "shares of calls above a value", "give it as at"],
    ),
    (changed(BINARY, ("guardrails.1", P95_OF_CONTROL | {"at": "1200"})), "guardrails[1].at", ["'1200'", "a number"]),
    (changed(BINARY, ("guardrails.1", P95_OF_CONTROL | {"at": 1e16})), "guardrails[1].at", ["1e+16", "-1e15 to 1e15"]),
    (
        changed(BINARY, ("guardrails.1.at", 1200)),
        "guardrails[1].at",
        ["received 1200 beside max", "only with max_increase", "one of the two"],
    ),
    (changed(BINARY, ("guardrails.2.at", 1)), "guardrails[2].at", ["received 1", "only with quantile and max_incr"]),
    (changed(BINARY, ("guardrails.0.at", 1)), "guardrails[0].at", ["received 1", "only with quantile and max_incr"]),
    (
        changed(BINARY, ("guardrails.2", {"metric": "cost", "kind": "numeric", "max_increase": 0.1, "at": 1})),
        "guardrails[2].at",
        ["received 1", "only with quantile"],
    ),
    (
        changed(BINARY, ("guardrails.1.max_increase", 0.1)),
        "guardrails[1].max",
        ["received 1500 beside max_increase", "exactly one"],
    ),
    (
        changed(BINARY, ("guardrails.1.max", None), ("guardrails.1.max_decrease", 0.1)),
        "guardrails[1].max_decrease",
        ["received 0.1", "allowed with quantile: max, or max_increase and at"],
    ),
    (
        changed(BINARY, ("guardrails.1", P95_OF_CONTROL | {"max_increase": None, "max_decrease": 0.1})),
        "guardrails[1].max_decrease",
        ["allowed with quantile: max, or max_increase and at"],
    ),
    (
        changed(BINARY, ("guardrails.1.max", None), ("guardrails.1.min", 0.1)),
        "guardrails[1].min",
        ["received 0.1", "only for kind 'binary'; a quantile has max, or max_increase and at"],
    ),
    (changed(BINARY, ("guardrails.1", P95_OF_CONTROL | {"quantile": 2})), "guardrails[1].quantile", ["below 1"]),
    (
        changed(BINARY, ("guardrails.1", P95_OF_CONTROL | {"max_increase": -1, "at": None})),
        "guardrails[1].max_increase",
        ["received -1", "0 or more"],
    ),
    (changed(BINARY, ("guardrails.1", P95_OF_CONTROL | {"cap": 9})), "guardrails[1].cap", ["with quantile: none"]),
    (changed(BINARY, ("guardrails.1.per_user", "sum")), "guardrails[1].per_user", ["with quantile"]),
    (changed(BINARY, ("guardrails.1.per_user", "any")), "guardrails[1].per_user", ["'any'", "'mean'"]),
    (changed(BINARY, ("guardrails.1.cap", 2000)), "guardrails[1].cap", ["with quantile: none"]),
    (changed(BINARY, ("guardrails.2.max", 0)), "guardrails[2].max", ["received 0", "above 0"]),
    (changed(BINARY, ("guardrails.2.cap", 0.5)), "guardrails[2].cap", ["received 0.5", "more than max, 0.5"]),
    (changed(BINARY, ("guardrails.2.cap", 0)), "guardrails[2].cap", ["received 0", "above 0"]),
    (changed(BINARY, ("guardrails.2.metric", "resolved")), "guardrails[2].kind", ["'numeric'", "'binary'"]),
    (changed(BINARY, ("guardrails.2.metric", "failed")), "guardrails[2].kind", ["'binary'", "built-in"]),
    (
        changed(BINARY, ("guardrails.0", BINARY["guardrails"][2])),
        "guardrails[2]",
        ["guardrails[0] limits already", "'cost'"],
    ),
    (
        changed(BINARY, ("guardrails.0", P95_OF_CONTROL), ("guardrails.2", P95_OF_CONTROL | {"quantile": 0.9})),
        "guardrails[2]",
        ["guardrails[0] limits already", "'latency'"],  # the share of calls above 1200 against control's
    ),
    # policy
    (changed(BINARY, ("policy.kind", "greedy")), "policy.kind", ["'greedy'", "'epsilon_greedy', 'ucb', 'explore"]),
    (
        changed(FOUR, ("policy.floor", 0.3)),
        "policy.floor",
        ["received 0.3 with 4 variants and control_floor 0.2", "at most 0.25 fits"],
    ),
    (
        changed(FOUR, ("policy.floor", 0.3), ("policy.control_floor", 0.3)),
        "policy.floor",
        ["received 0.3 with 4 variants and control_floor 0.3", "at most 0.233333… fits"],
    ),
    (
        changed(BINARY, ("policy.control_floor", 0.95)),
        "policy.floor",
        ["received none (default 0.1)", "control_floor 0.95", "at most 0.05 fits"],
    ),
    (changed(BINARY, ("policy.floor", 1.1)), "policy.floor", ["received 1.1", "0 to 1"]),
    (changed(BINARY, ("policy.control_floor", -0.1)), "policy.control_floor", ["received -0.1", "0 to 1"]),
    (changed(BINARY, ("policy.growth", 11)), "policy.growth", ["received 11", "0 to 10"]),
    (changed(BINARY, ("policy.min_batch", 0)), "policy.min_batch", ["received 0", "from 1"]),
    (changed(BINARY, ("policy.warmup", -1)), "policy.warmup", ["received -1", "from 0"]),
    (changed(BINARY, ("policy.alpha", 0)), "policy.alpha", ["received 0", "above 0"]),
    (changed(BINARY, ("policy.alpha", 0.51)), "policy.alpha", ["received 0.51", "at most 0.5"]),
    (changed(BINARY, ("policy.epsilon", 1.5)), "policy.epsilon", ["received 1.5", "0 to 1"]),
    (changed(BINARY, ("policy.explore_users", 0)), "policy.explore_users", ["received 0", "from 1"]),
    (changed(BINARY, ("policy.beta", 1)), "policy.beta", ["received 1", "below 1"]),
    *[
        (
            changed(BINARY, ("policy.half_life", value)),
            "policy.half_life",
            [f"received {shown}", words, "or a number of users, a whole number from 1 to 10^15"],
        )
        for value, shown, words in [
            (0, "0", '"7d"'),
            (-1, "-1", '"7d"'),
            (10**15 + 1, "1000000000000001", '"7d"'),
            (10**400, "a whole number of 1329 bits", '"7d"'),
            (7.0, "7.0", '"7d"'),
            (True, "True", '"7d"'),
            ("7", "'7'", '"7d"'),
            ("7w", "'7w'", '"7d"'),
            (["7d"], "['7d']", '"7d"'),
            ("0d", "'0d'", "more than 0s"),
            ("367d", "'367d'", "at most 366d"),
        ]
    ],
    (changed(BINARY, ("policy.split", {"A": 1})), "policy.split", ["missing 'B'"]),
    (
        changed(BINARY, ("policy.split", {"A": 0.5, "B": 0.5, "Z": 0})),
        "policy.split.Z",
        ["unknown variant", "allowed: 'A', 'B'"],
    ),
    (changed(BINARY, ("policy.split", {"A": 0.5, "B": 0.4})), "policy.split", ["sum to 0.9", "allowed: 1"]),
    (changed(BINARY, ("policy.split", {"A": 1.5, "B": -0.5})), "policy.split.B", ["received -0.5"]),
    # durations
    (changed(BINARY, ("policy.max_epoch", 3600)), "policy.max_epoch", ["received 3600", '"90s"', '"7d"']),
    (changed(BINARY, ("policy.max_epoch", "0s")), "policy.max_epoch", ["received '0s'", "more than 0s"]),
    (changed(BINARY, ("policy.max_epoch", "367d")), "policy.max_epoch", ["received '367d'", "366d"]),
    (changed(BINARY, ("policy.max_epoch", "request")), "policy.max_epoch", ["received 'request'"]),
    (changed(BINARY, ("rewards.window", "1 h")), "rewards.window", ["received '1 h'", '"15m"', 'or "request"']),
    (changed(BINARY, ("rewards.window", 3600)), "rewards.window", ["received 3600", 'or "request"']),
    (changed(BINARY, ("rewards.request_timeout", "soon")), "rewards.request_timeout", ["'soon'"]),
    # rollout, rewards, analysis
    (changed(BINARY, ("rollout.exposure", 1.01)), "rollout.exposure", ["received 1.01", "0 to 1"]),
    (changed(BINARY, ("rollout.ramp", [])), "rollout.ramp", ["received []", "increasing"]),
    (changed(BINARY, ("rollout.ramp", [0.5, 0.5])), "rollout.ramp", ["[0.5, 0.5]", "increasing"]),
    (changed(BINARY, ("rollout.ramp", [0, 0.5])), "rollout.ramp", ["above 0"]),
    (changed(BINARY, ("rollout.ramp", [0.5, 1.5])), "rollout.ramp", ["at most 1"]),
    (changed(BINARY, ("rollout.ramp", ["1"])), "rollout.ramp[0]", ["received '1'", "a number"]),
    (changed(BINARY, ("rollout.ramp_users", 0)), "rollout.ramp_users", ["received 0", "from 1 to 10^15"]),
    (changed(BINARY, ("rollout.ramp_users", 1.0)), "rollout.ramp_users", ["received 1.0", "a whole number"]),
    (changed(BINARY, ("rollout.ramp_after", 3600)), "rollout.ramp_after", ["received 3600", '"15m"']),
    (changed(BINARY, ("rollout.ramp_after", "0s")), "rollout.ramp_after", ["received '0s'", "more than 0s"]),
    (changed(BINARY, ("rewards.missing", "none")), "rewards.missing", ["'none'", "'worst', 'ignore', 'zero'"]),
    (changed(NUMERIC, ("rewards.missing", "worst")), "rewards.missing", ["'worst'", "'ignore', 'zero'"]),
    (changed(SUM, ("rewards.missing", "ignore")), "rewards.missing", ["'ignore'", "'zero'"]),
    (changed(SUM, ("goal.range", [1, 5])), "rewards.missing", ["none", "0 is outside goal.range [1, 5]"]),
    (
        changed(NUMERIC, ("rewards.missing", "zero"), ("goal.range", [1, 5])),
        "rewards.missing",
        ["'zero'", "0 is outside goal.range [1, 5]"],
    ),
    (changed(BINARY, ("analysis.horizon_users", 0)), "analysis.horizon_users", ["received 0", "from 1"]),
    (changed(BINARY, ("analysis.horizon_days", 0)), "analysis.horizon_days", ["received 0", "above 0"]),
    (changed(BINARY, ("analysis.min_days", -1)), "analysis.min_days", ["received -1", "0 or more"]),
    (
        changed(BINARY, ("analysis.horizon_days", 7), ("analysis.horizon_users", 100)),
        "analysis.horizon_days",
        ["received 7", "at most one"],
    ),
]


@pytest.mark.parametrize(("document", "field", "words"), BROKEN, ids=[f"{n}-{row[1]}" for n, row in enumerate(BROKEN)])
def test_a_broken_rule_names_the_field_and_what_is_allowed(
    document: Document, field: str, words: Sequence[str]
) -> None:
    found = faults(document)

    messages = [message for place, message in found if place == field]
    assert len(messages) == 1, found
    for word in words:
        assert word in messages[0]
    assert len(found) == 1 or field == "guardrails", found  # nothing is blamed that is right


def test_a_quantile_relative_to_control_comes_back_as_it_was() -> None:
    experiment = parse(changed(BINARY, ("guardrails.1", P95_OF_CONTROL)))
    rail = experiment.guardrails[1]

    assert (rail.limit_kind, rail.is_relative, rail.at) == ("max_increase", True, 1200)
    assert experiment.to_dict()["guardrails"][1] == P95_OF_CONTROL | {"per_user": "mean", "tolerance": 0}
    assert "at" not in experiment.to_dict()["guardrails"][0]


def test_a_metric_may_have_absolute_and_relative_quantiles() -> None:
    """One absolute limit for each quantile, one relative limit for each value that calls are compared with."""
    same = {"metric": "latency", "kind": "numeric"}
    rails = [
        BINARY["guardrails"][1],
        P95_OF_CONTROL,
        P95_OF_CONTROL | {"at": 3000},
        P95_OF_CONTROL | {"per_user": "first"},
        same | {"quantile": 0.5, "max": 800},
        same | {"max_increase": 0.1},
    ]

    assert len(parse(BINARY | {"guardrails": rails}).guardrails) == len(rails)


@pytest.mark.parametrize(
    ("half_life", "in_seconds", "in_users"),
    [("7d", 604_800.0, None), ("90s", 90.0, None), (1, None, 1.0), (10**15, None, 1e15), (None, None, None)],
)
def test_a_half_life_is_a_time_or_a_number_of_users(
    half_life: str | int | None, in_seconds: float | None, in_users: float | None
) -> None:
    experiment = parse(BINARY).with_policy(half_life=half_life)

    assert (experiment.half_life_seconds, experiment.half_life_users) == (in_seconds, in_users)
    assert experiment.to_dict()["policy"].get("half_life") == half_life
    assert experiment.with_policy(half_life=None) == parse(BINARY)


def test_a_ramp_takes_a_step_after_a_hundred_users_and_an_hour_unless_told_otherwise() -> None:
    plain, told = (
        parse(changed(BINARY, ("rollout", {"ramp": [0.1, 1.0]} | more)))
        for more in ({}, {"ramp_users": 7, "ramp_after": "2d"})
    )

    assert (plain.rollout.ramp_users, plain.ramp_after_seconds) == (100, 3600)
    assert (told.rollout.ramp_users, told.ramp_after_seconds) == (7, 172_800)
    assert plain.to_dict()["rollout"] == {"exposure": 1, "ramp": [0.1, 1], "ramp_users": 100, "ramp_after": "1h"}


def test_settings_of_a_ramp_are_written_without_one_only_if_given() -> None:
    plain, given = parse(BINARY), parse(changed(BINARY, ("rollout.ramp_users", 100)))

    assert plain.to_dict()["rollout"] == {"exposure": 1.0}
    assert given.to_dict()["rollout"] == {"exposure": 1.0, "ramp_users": 100}


@pytest.mark.parametrize(
    ("rollout", "steps"),
    [
        ({}, (1.0,)),
        ({"exposure": 0.3}, (0.3,)),
        ({"ramp": [0.01, 0.5, 1.0]}, (0.01, 0.5, 1.0)),
        ({"exposure": 0.3, "ramp": [0.01, 0.5, 1.0]}, (0.01, 0.3, 0.3)),
        ({"exposure": 0.3, "ramp": [0.01, 0.2]}, (0.01, 0.2)),
        ({"exposure": 0.0, "ramp": [0.5]}, (0.0,)),
    ],
)
def test_on_each_step_of_a_ramp_exposure_is_the_most_that_is_enrolled(
    rollout: Document, steps: tuple[float, ...]
) -> None:
    assert parse(changed(BINARY, ("rollout", rollout))).rollout.steps == steps


def test_all_problems_are_reported_at_once() -> None:
    document = {
        "polcy": {},
        "key": "a/b",
        "variants": [{"key": "A"}, {"key": "A"}],
        "goal": {"kind": "binary", "per_user": "sum", "mde": 0, "baseline": 2},
        "guardrails": [{"metric": "m", "kind": "numeric", "quantile": 2, "tolerance": -1, "max": 1}],
        "policy": {"floor": 2, "alpha": 3, "max_epoch": 5},
        "rollout": {"exposure": 3, "ramp": []},
        "rewards": {"window": 1, "missing": "best"},
        "analysis": {"min_days": -1},
    }

    assert [field for field, _ in faults(document)] == [
        "key",
        "variants[1].key",
        "variants",
        "goal.metric",
        "goal.per_user",
        "goal.mde",
        "goal.baseline",
        "guardrails[0].quantile",
        "guardrails[0].tolerance",
        "policy.floor",
        "policy.max_epoch",
        "policy.alpha",
        "rollout.exposure",
        "rollout.ramp",
        "rewards.window",
        "rewards.missing",
        "analysis.min_days",
        "polcy",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty"]),
        (" \n", ["empty"]),
        ("{", ["not JSON", "line 1 column 2"]),
        ('{"key": "a",\n "goal": nope}', ["line 2 column 10"]),
        ('{"key": NaN}', ["NaN", "finite"]),
        ('{"key": -Infinity}', ["-Infinity"]),
        ('{"key": "a", "key": "b"}', ["duplicate key 'key'"]),
        ('{"a": {"b": 1, "c": 2, "b": 3}}', ["duplicate key 'b'"]),
        ("[]", ["received []", "an object"]),
        ("null", ["received None", "an object"]),
        ('{"key": ' + "9" * 5000 + "}", ["5000 characters", "64 bits"]),
        ('{"key": ' * 100_000, ["nested too deeply"]),
        ("[" * 100_000, ["nested too deeply"]),
        ('{"key": "a\0"}', ["NUL", "line 1, column 11"]),
        (b'{"key": "\xff"}', ["not UTF-8", "byte 9"]),
        (b"\xef\xbb\xbf{}", ["byte order mark"]),
        (b"[" * 1_000_001, ["1 MB"]),
        ("ü" * 500_001, ["1 MB"]),
    ],
)
def test_a_broken_json_text_is_refused_with_its_place(text: str | bytes, words: Sequence[str]) -> None:
    message = text_fault(text)

    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty"]),
        ("key = ", ["not TOML", "line 1, column 7"]),
        ('key = "a"\nkey = "b"', ["not TOML", "line 2"]),
        ("key = " + "[" * 50_000, ["nested too deeply"]),
        ("key = " + "9" * 5000, ["not TOML", "thousands of digits", "64 bits"]),
        ("key" + ".a" * 400_000 + " = 1", ["more than 100 names", "line 1, column 1"]),
        ("\0", ["NUL"]),
        ("#" * 1_000_001, ["1 MB"]),
        ("\ufeff", ["byte order mark"]),
    ],
)
def test_a_broken_toml_text_is_refused_with_its_place(text: str, words: Sequence[str]) -> None:
    with pytest.raises(InvalidExperiment) as refusal:
        parse_toml(text)

    (problem,) = refusal.value.problems
    assert problem.field == ""
    for word in words:
        assert word in problem.message


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("config = { since = 2026-01-01 }", "variants[1].config.since"),
        ("config = { t = inf }", "variants[1].config.t"),
        ("config = { t = 0x" + "F" * 5000 + " }", "variants[1].config.t"),
        ("config." + "a." * 60 + "b = 1", "variants[1].config"),
        ("config.x = " + "[" * 20 + "]" * 20, "variants[1].config"),
    ],
)
def test_a_config_that_json_cannot_carry_is_refused(line: str, field: str) -> None:
    text = 'key = "k"\ngoal = {metric = "m", kind = "binary"}\n[[variants]]\nkey = "A"\ncontrol = true\n'

    with pytest.raises(InvalidExperiment) as refusal:
        parse_toml(text + f'[[variants]]\nkey = "B"\n{line}')

    assert [problem.field for problem in refusal.value.problems] == [field]


def test_very_many_problems_are_counted_rather_than_listed() -> None:
    unknown = faults(BINARY | {f"unknown{number}": 1 for number in range(1000)})
    long_list = faults(BINARY | {"guardrails": [1] * 100_000})

    assert len(unknown) == 201
    assert unknown[-1] == ("", "and 800 more problems")
    assert long_list == [("guardrails", "received a list of 100000 values, allowed: far fewer than 1000")]


def test_a_huge_integer_inside_a_value_is_shown_by_its_size() -> None:
    (problem,) = faults(changed(BINARY, ("goal.mde", {"a": [1 << 20_000]})))

    assert problem == ("goal.mde", "received {'a': [a whole number of 20001 bits]}, allowed: a number")


def test_deep_and_long_values_are_shown_cut() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]

    found = faults(changed(BINARY, ("goal.mde", deep), ("hypothesis", ["x" * 10_000]), ("y" * 1000, 1)))

    assert [field for field, _ in found][:2] == ["hypothesis", "goal.mde"]
    assert all(len(message) < 300 and len(field) < 100 for field, message in found)


@pytest.mark.parametrize("document", [None, [], "text", 3, {3: 4}, {"\ud800": 1}])
def test_what_is_no_table_of_names_is_refused(document: Any) -> None:  # noqa: ANN401 (whatever a caller passes)
    assert faults(document)


def test_models_are_frozen() -> None:
    experiment = parse(BINARY)

    for part, name in [(experiment, "key"), (experiment.goal, "mde"), (experiment.policy, "floor")]:
        with pytest.raises(pydantic.ValidationError, match="frozen"):
            setattr(part, name, "other")


def test_a_config_belongs_to_its_experiment_alone() -> None:
    document = changed(BINARY, ("variants.0.config", {"tools": ["search"]}))
    experiment = parse(document)

    document["variants"][0]["config"]["tools"].append("mail")
    experiment.to_dict()["variants"][0]["config"]["tools"].append("mail")

    assert experiment.variants[0].config == {"tools": ["search"]}


def test_a_model_built_in_python_is_checked_too() -> None:
    with pytest.raises(pydantic.ValidationError, match="allowed only for kind 'numeric'"):
        Goal(metric="m", kind="binary", cap=1.0)
    with pytest.raises(pydantic.ValidationError, match="exactly one"):
        Experiment(key="k", variants=(Variant(key="A"), Variant(key="B")), goal=Goal(metric="m", kind="binary"))
    with pytest.raises(pydantic.ValidationError, match="above 0"):
        Guardrail(metric="m", kind="numeric", max=0.0)


def test_an_unknown_variant_is_named_with_those_there_are() -> None:
    with pytest.raises(UnknownVariant, match=r"^variant: received 'X', allowed: 'A', 'B'$"):
        parse(BINARY).arm("X")


def test_a_salt_and_policy_settings_can_be_changed() -> None:
    experiment = parse(BINARY)
    assert experiment.floors == (0.2, 0.1)

    salted = experiment.with_salt("pepper")
    fixed = salted.with_policy(kind="fixed", split={"A": 0.7, "B": 0.3}, floor=0.2)

    assert experiment.salt is None
    assert salted.salt == "pepper"
    assert (fixed.salt, fixed.split, fixed.floors) == ("pepper", (0.7, 0.3), (0.2, 0.2))
    assert fixed.with_policy(floor=None, split=None, kind="thompson") == salted


def test_a_changed_policy_is_checked() -> None:
    experiment = parse(BINARY)

    with pytest.raises(InvalidExperiment, match=r"^policy.floor: .* at most 0.5 fits$"):
        experiment.with_policy(floor=0.6)
    with pytest.raises(InvalidExperiment, match=r"^policy.flor: unknown key; did you mean 'floor'\?"):
        experiment.with_policy(flor=0.6)
    with pytest.raises(InvalidExperiment, match=r"^salt: "):
        experiment.with_salt("")


def test_notes_say_what_does_not_act() -> None:
    settings = {"split": {"A": 0.5, "B": 0.5}, "epsilon": 0.1, "explore_users": 10, "beta": 0.5}
    experiment = parse(changed(BINARY, ("policy", settings), ("rollout", {"ramp_after": "1h", "ramp_users": 5})))

    said = notes(experiment)

    assert [sentence.split()[0].rstrip(":") for sentence in said] == [
        *(f"policy.{name}" for name in settings),
        "rollout.ramp_users",
        "rollout.ramp_after",
    ]
    assert said[-1] == "rollout.ramp_after acts only with rollout.ramp"
    assert notes(parse(experiment.to_dict())) == said


def test_guardrails_and_a_ramp_are_no_note() -> None:
    document = changed(BINARY, ("guardrails.1", P95_OF_CONTROL), ("rollout", {"ramp": [0.1, 1.0], "ramp_users": 5}))

    assert notes(parse(document)) == ()


@pytest.mark.parametrize("kind", ["thompson", "top_two", "epsilon_greedy", "ucb", "fixed", "explore_then_commit"])
def test_a_half_life_under_a_policy_that_does_not_forget_is_a_note(kind: str) -> None:
    said = notes(parse(BINARY).with_policy(kind=kind, half_life="7d"))

    note = f"policy.half_life does not act under kind '{kind}', which forgets nothing"
    assert said == ((note,) if kind in {"fixed", "explore_then_commit"} else ())
    assert notes(parse(BINARY).with_policy(kind=kind)) == ()


def test_a_ramp_that_ends_below_exposure_is_a_note() -> None:
    (said,) = notes(parse(changed(BINARY, ("rollout.ramp", [0.1, 0.25]))))

    assert said == "rollout.ramp ends at 0.25, so the share enrolled never reaches rollout.exposure, 1"
    assert notes(parse(changed(BINARY, ("rollout", {"exposure": 0.25, "ramp": [0.1, 0.25]})))) == ()


def test_a_setting_under_its_own_policy_is_no_note() -> None:
    document = changed(BINARY, ("guardrails", []), ("policy.kind", "epsilon_greedy"), ("policy.epsilon", 0.2))

    assert notes(parse(document)) == ()


def test_a_default_of_the_former_policy_is_no_note() -> None:
    experiment = parse(changed(BINARY, ("guardrails", []), ("policy.kind", "epsilon_greedy")))

    assert notes(experiment.with_policy(kind="thompson")) == ()


@pytest.mark.parametrize("value", ["a", "user 7", "x" * 200, "ü" * 100, "日本", "\xa0", "👩\u200d💻"])
def test_an_id_is_given_back(value: str) -> None:
    assert check_id(value, "user_id") == value


@pytest.mark.parametrize("value", ["", LONG, "ü" * 101, "a\n", "\x00", "\x7f", "\x85", "\ud800", 7, None, b"a"])
def test_what_is_no_id_is_refused(value: object) -> None:
    with pytest.raises(InvalidId, match=r"^user_id: received .*, allowed: 1 to 200 bytes"):
        check_id(value, "user_id")


@pytest.mark.parametrize(
    ("text", "length"), [("90s", 90), ("15m", 900), ("1h", 3600), ("36h", 129_600), ("7d", 604_800), ("1.5h", 5400)]
)
def test_a_duration_is_read_in_seconds(text: str, length: float) -> None:
    assert seconds(text) == length


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "1h ", "1e3s", "1h30m", ".5h", "١h", "1H", 60, True, None])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="allowed: a duration as text"):
        seconds(text)


# Properties

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
known_names = st.sampled_from(
    sorted(
        {
            name
            for model in (Experiment, Goal, Guardrail, PolicySettings, Rollout, Variant)
            for name in model.model_fields
        }
    )
)
almost_values = st.recursive(
    json_values | st.sampled_from(["binary", "numeric", "mean", "sum", "any", "fixed", "1h", "A", "B", 0.5, 1, True]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(known_names, inner, max_size=5),
    max_leaves=12,
)
ids = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/"), min_size=1, max_size=20).filter(
    lambda name: name not in {".", "..", "failed"}
)
shares = st.floats(0, 1)
json_configs = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Return a legal experiment as plain values."""
    names = draw(st.lists(ids, min_size=2, max_size=5, unique=True))
    control = draw(st.integers(0, len(names) - 1))
    kind = draw(st.sampled_from(["binary", "numeric"]))
    metrics = draw(st.lists(ids, min_size=1, max_size=4, unique=True))
    limit = draw(st.floats(0.01, 0.99))
    relative = {"quantile": limit, "max_increase": draw(st.floats(0, 10)), "at": draw(st.floats(-1e15, 1e15))}
    goal: Document = {"metric": metrics[0], "kind": kind, "better": draw(st.sampled_from(["higher", "lower"]))}
    if kind == "numeric" and draw(st.booleans()):
        goal |= {"range": [-1, 5], "baseline": 2, "cap": draw(st.floats(2, 10))}
    return {
        "key": draw(ids),
        "variants": [
            {"key": name, "control": index == control, "config": draw(json_configs)} for index, name in enumerate(names)
        ],
        "goal": goal,
        "guardrails": [
            {"metric": name, "kind": "numeric"} | draw(st.sampled_from([{"max": limit, "cap": 1}, relative]))
            for name in metrics[1:]
        ],
        "policy": {
            "kind": draw(st.sampled_from(["fixed", "thompson", "top_two", "ucb"])),
            "floor": draw(st.floats(0, 0.2)),
            "growth": draw(st.floats(0, 10)),
            "max_epoch": draw(st.sampled_from(["1s", "1.5h", "366d"])),
            "half_life": draw(st.sampled_from([None, "7d"]) | st.integers(1, 10**15)),
        },
        "rollout": {"exposure": draw(shares)} | draw(st.sampled_from([{}, {"ramp": [limit]}, {"ramp_users": 9}])),
        "rewards": {"window": draw(st.sampled_from(["request", "90s"]))},
    }


@given(documents())
def test_what_goes_in_comes_out(document: Document) -> None:
    experiment = parse(document)

    again = parse_json(experiment.to_json())

    assert again == experiment
    assert again.to_json() == experiment.to_json()
    assert again.floors == experiment.floors
    assert math.fsum(again.floors) <= 1 + 1e-12


def refused_or_parsed(text: str) -> None:
    """Parse; nothing but an experiment, or a refusal whose words can be sent to a client, may come of it."""
    try:
        words = parse_json(text).to_json()
    except InvalidExperiment as refusal:
        words = str(refusal)
    assert words.encode()


@given(json_values | almost_values)
def test_any_json_is_parsed_or_refused(value: object) -> None:
    refused_or_parsed(json.dumps(value))


@given(st.dictionaries(known_names, almost_values), st.sampled_from([BINARY, NUMERIC, SUM]))
def test_any_change_of_a_legal_file_is_parsed_or_refused(change: Document, document: Document) -> None:
    refused_or_parsed(json.dumps(document | change))
    for table in ("goal", "policy", "rollout"):
        refused_or_parsed(json.dumps(document | {table: document.get(table, {}) | change}))


@given(st.dictionaries(st.sampled_from(sorted(Guardrail.model_fields)), almost_values | st.floats(-1, 2)))
def test_any_guardrail_is_parsed_or_refused(change: Document) -> None:
    for rail in (P95_OF_CONTROL, *BINARY["guardrails"]):
        refused_or_parsed(json.dumps(BINARY | {"guardrails": [rail | change]}))


@given(st.text(st.characters()) | st.binary())
def test_any_text_is_parsed_or_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidExperiment):
        parse_json(text)
    with pytest.raises(InvalidExperiment):
        parse_toml(text if isinstance(text, str) else text.decode("latin-1"))


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("goal", "baseline", 1e160),
        ("goal", "range", [0.0, 1e301]),
        ("goal", "cap", 1e16),
        ("guardrail", "max", 1e-300),
        ("guardrail", "max", 1e16),
        ("guardrail", "cap", 1e200),
    ],
)
def test_numbers_that_no_sum_could_hold_are_refused(table: str, key: str, value: object) -> None:
    goal: dict[str, object] = {"metric": "score", "kind": "numeric"}
    guardrail: dict[str, object] = {"metric": "cost", "kind": "numeric", "max": 1.0}
    (goal if table == "goal" else guardrail)[key] = value

    with pytest.raises(InvalidExperiment) as refusal:
        parse(
            {
                "key": "k",
                "variants": [{"key": "A", "control": True}, {"key": "B"}],
                "goal": goal,
                "guardrails": [guardrail],
            }
        )

    (problem,) = refusal.value.problems
    assert key in problem.field
    assert "1e" in problem.message.split("allowed", 1)[1]
