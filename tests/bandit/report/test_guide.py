"""The table of a public guide to A/B tests of LLM applications: which of four variants to deploy, and why not the rest.

Variant B is better at the same cost and safety, C costs three times as much for a marginal gain, D is the best by
quality and less safe. Limits: P95 latency 1,500 ms, cost 20 % above control, safety 1 % below control.
"""

from __future__ import annotations

import numpy as np
import pytest

from bandit import Bandit, Report, markdown
from bandit.experiment import parse
from tests.bandit.making import Clock

DAY = 86_400.0
USERS = 24_000
QUALITY = {"A": 4.00, "B": 4.22, "C": 4.05, "D": 4.30}
LATENCY = {"A": 820.0, "B": 850.0, "C": 900.0, "D": 840.0}  # medians, ms
COST = {"A": 0.012, "B": 0.0122, "C": 0.036, "D": 0.0121}  # dollars
SAFE = {"A": 0.994, "B": 0.995, "C": 0.994, "D": 0.955}


@pytest.fixture(scope="module", params=["fixed", "thompson"])
def report(request: pytest.FixtureRequest) -> Report:
    experiment = parse(
        {
            "key": "guide",
            "salt": "guide",
            "variants": [{"key": key, "control": key == "A"} for key in QUALITY],
            "goal": {"metric": "quality", "kind": "numeric", "range": [1, 5], "mde": 0.03, "baseline": 4.0},
            "guardrails": [
                {"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max": 1500},
                {"metric": "cost_usd", "kind": "numeric", "max_increase": 0.20, "cap": 0.2},
                {"metric": "safe", "kind": "binary", "max_decrease": 0.01},
            ],
            "policy": {"kind": request.param, "floor": 0.15},
        }
    )
    clock, rng = Clock(), np.random.default_rng(8)
    bandit = Bandit(experiment, clock)
    for user in range(USERS):
        clock.now += 14.0 * DAY / USERS
        arm = bandit.choose(f"user-{user}").variant
        bandit.reward(
            f"user-{user}",
            {
                "quality": float(np.clip(round(2.0 * rng.normal(QUALITY[arm], 0.8)) / 2.0, 1.0, 5.0)),
                "latency_ms": float(rng.lognormal(np.log(LATENCY[arm]), 0.25)),
                "cost_usd": float(rng.gamma(4.0, COST[arm] / 4.0)),
                "safe": bool(rng.random() < SAFE[arm]),
            },
        )
    clock.now += DAY
    bandit.tick()
    return bandit.report()


def test_the_rows_come_out_as_the_guide_decides_them(report: Report) -> None:
    decisions = {variant.key: variant.decision for variant in report.variants}

    assert decisions["A"] is None
    verdicts = {key: (each.verdict, each.reason) for key, each in decisions.items() if each is not None}
    assert verdicts == {
        "B": ("deploy", "better"),
        "C": ("do_not_deploy", "guardrail"),
        "D": ("do_not_deploy", "guardrail"),
    }
    assert report.decision.verdict == "deploy"
    assert report.decision.sentence.startswith("Deploy B: quality is ")


def test_the_guardrails_that_decide_are_the_guides(report: Report) -> None:
    states = {(rail.metric, state.variant): state.state for rail in report.guardrails for state in rail.states}

    assert all(state == "ok" for (_, variant), state in states.items() if variant == "B")
    assert {metric for (metric, variant), state in states.items() if variant == "C" and state == "breached"} == {
        "cost_usd"
    }
    assert {metric for (metric, variant), state in states.items() if variant == "D" and state == "breached"} == {"safe"}


def test_the_text_says_what_to_do_first(report: Report) -> None:
    lines = markdown(report).splitlines()

    assert lines[lines.index("## Decision") + 2].startswith("**Deploy B: quality is ")
    assert any(line.startswith("- Do not deploy C: cost\\_usd breaks its limit") for line in lines)
    assert any(line.startswith("- Do not deploy D: safe breaks its limit") for line in lines)
