"""A real system prompt that trades refusals against harm, under a guardrail: see tests/data/xstest/README.md.

A user asks one safe and one unsafe prompt, drawn at random. The goal is a full answer to the safe one, the guardrail an
answer to the unsafe one that is no full refusal. Without its system prompt the model helps far more often, and lets
five of the 200 unsafe prompts through instead of one.
"""

from __future__ import annotations

import csv
import gzip
import math
from pathlib import Path

import numpy as np
import pytest

from bandit import Bandit
from bandit.experiment import Experiment, parse
from bandit.inference.shares import breach_level
from simulations.bounds import divergence

DATA = Path(__file__).parents[1] / "data" / "xstest" / "labels.csv.gz"
FULL_COMPLIANCE, FULL_REFUSAL = 1, 2
LIMIT = 0.01
ORDERS = 20

Labels = dict[tuple[str, int], list[int]]
"""Labels by arm and kind of prompt (1: safe), in the order of the prompts."""


@pytest.fixture(scope="module")
def labels() -> Labels:
    found: Labels = {}
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            found.setdefault((row["arm"], int(row["safe_prompt"])), []).append(int(row["label"]))
    return found


def asked(control: str, treatment: str, *, guarded: bool = True, kind: str = "fixed") -> Experiment:
    rail = {"metric": "unsafe_answer", "kind": "binary", "max": LIMIT, "per_user": "any"}
    return parse(
        {
            "key": "system-prompt",
            "salt": "system-prompt",
            "variants": [{"key": control, "control": True}, {"key": treatment}],
            "goal": {"metric": "helped", "kind": "binary"},
            "guardrails": [rail] if guarded else [],
            "policy": {"kind": kind, "min_batch": 500},
            "analysis": {"min_days": 0},
        }
    )


def run(experiment: Experiment, labels: Labels, users: int, seed: int) -> tuple[Bandit, int | None]:
    """Return the bandit, and the users of the treatment by the time it was suspended, or None."""
    bandit = Bandit(experiment)
    prompts = np.random.default_rng(seed).random((users, 2))
    treatment, had = experiment.arms[1], 0
    for user, (safe, unsafe) in enumerate(prompts):
        name = f"{seed}-{user}"
        arm = bandit.choose(name).variant
        had += arm == treatment
        helped = labels[arm, 1][int(safe * 250)] == FULL_COMPLIANCE
        harmed = labels[arm, 0][int(unsafe * 200)] != FULL_REFUSAL
        bandit.reward(
            name, {"helped": helped, "unsafe_answer": harmed} if experiment.guardrails else {"helped": helped}
        )
        if any(event.kind == "suspended" for event in bandit.events):
            return bandit, had
    return bandit, None


def test_the_shares_are_those_published(labels: Labels) -> None:
    def share(arm: str, safe: int, label: int) -> float:
        found = labels[arm, safe]
        assert len(found) == (250 if safe else 200)
        return found.count(label) / len(found)

    assert share("llama2orig", 1, FULL_REFUSAL) == 0.38
    assert share("llama2orig", 1, 3) == 0.216
    assert (share("llama2orig", 1, FULL_COMPLIANCE), share("llama2new", 1, FULL_COMPLIANCE)) == (0.404, 0.704)
    assert (share("llama2orig", 0, FULL_REFUSAL), share("llama2new", 0, FULL_REFUSAL)) == (0.995, 0.975)
    assert share("gpt4", 0, FULL_REFUSAL) == 0.975


def test_the_variant_that_lets_harm_through_is_taken_away_although_it_helps_more(labels: Labels) -> None:
    """At 2.5 times its limit, on an equal split: in 19 of 20 orders within 4,000 users, half of them about as soon as
    it can be known.
    """
    experiment = asked("llama2orig", "llama2new")
    until = []
    for seed in range(ORDERS):
        bandit, users = run(experiment, labels, 4_000, seed)
        until.append(math.inf if users is None else users)
        assert users is None or bandit.report().decision.verdict == "do_not_deploy"

    soonest = math.log(1.0 / breach_level(experiment)) / float(divergence(0.025, LIMIT))
    assert sum(math.isfinite(users) for users in until) >= ORDERS - 1
    assert float(np.median(until)) < 1.6 * soonest


def test_the_variant_that_keeps_the_limit_stays(labels: Labels) -> None:
    """At half of its limit: in none of 20 orders. The bound is 1 in 200 each, so that one would be luck of 1 in 10."""
    experiment = asked("llama2new", "llama2orig")

    assert breach_level(experiment) == pytest.approx(0.005)
    assert [run(experiment, labels, 2_000, seed)[1] for seed in range(ORDERS)] == [None] * ORDERS


def test_until_it_is_taken_away_it_gets_few_users(labels: Labels) -> None:
    """The variant that helps more gets most users, unless it may well be beyond its limit."""
    guarded, free = (asked("llama2orig", "llama2new", guarded=guarded, kind="thompson") for guarded in (True, False))

    shares = []
    for seed in range(8):
        bandit, _ = run(guarded, labels, 3_000, seed)
        assert bandit.allocation is not None
        shares.append(bandit.allocation.probabilities[1])
    bandit, _ = run(free, labels, 3_000, 1)

    assert max(shares) < 0.4
    assert float(np.median(shares)) < 0.2
    assert bandit.allocation is not None
    assert bandit.allocation.probabilities[1] == pytest.approx(1.0 - free.floors[free.control], abs=0.01)
    assert bandit.report().decision.verdict == "deploy"
