from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bandit.guardrails import GuardrailVerdict
from bandit.report.decision import Facts, Situation, decide, decide_all
from bandit.report.document import GuardrailReport, GuardrailState

NOW = Situation(
    metric="resolved",
    is_share=True,
    higher_is_better=True,
    mde=0.05,
    control="A",
    state="running",
    unit="user",
    has_propensities=True,
    fix_first=(),
    age_days=14.0,
    min_days=7.0,
    horizon=None,
    per_day=1000.0,
    window_days=0.0,
)
NOTHING = Facts(
    variant="B",
    mean=0.33,
    control_mean=0.30,
    log_better=0.0,
    log_worse=0.0,
    log_threshold=math.log(50.0),
    too_small=False,
    gain=0.03,
    recent_gain=0.03,
    guardrails=(),
    no_response="",
    suspended=None,
    users_to_decision=2345.0,
    assuming="the present estimate holds",
    share=0.25,
)
BETTER = replace(NOTHING, log_better=math.log(50.0))
WORSE = replace(NOTHING, log_worse=math.log(50.0), gain=-0.03, mean=0.27)


def on_guardrail(
    state: GuardrailVerdict, users_needed: int | None = None, users: int = 100
) -> tuple[GuardrailReport, GuardrailState]:
    found = GuardrailState(
        "B", state, None, users, 0.02, None, None, 1.0, 1, 1.0, 150.0, 50.0, users_needed, True, "test"
    )
    rail = GuardrailReport("harmful", "at most 1 %", "rate", False, {"B": users}, {"B": 0.02}, None, {}, (found,))
    return rail, found


@pytest.mark.parametrize(
    ("facts", "now", "verdict", "reason"),
    [
        (BETTER, NOW, "deploy", "better"),
        (replace(BETTER, log_better=math.log(49.9)), NOW, "keep_running", "not_enough_data"),
        (WORSE, NOW, "do_not_deploy", "worse"),
        (replace(NOTHING, too_small=True), NOW, "do_not_deploy", "too_small"),
        (replace(BETTER, too_small=True), NOW, "do_not_deploy", "too_small"),
        (replace(BETTER, guardrails=(on_guardrail("breached"),)), NOW, "do_not_deploy", "guardrail"),
        (replace(BETTER, no_response="its users rarely answer"), NOW, "do_not_deploy", "guardrail"),
        (replace(BETTER, suspended="complaints"), NOW, "do_not_deploy", "suspended"),
        (replace(BETTER, suspended=""), NOW, "do_not_deploy", "suspended"),
        (replace(BETTER, guardrails=(on_guardrail("unknown", 80),)), NOW, "keep_running", "guardrail_unknown"),
        (replace(BETTER, guardrails=(on_guardrail("ok"),)), NOW, "deploy", "better"),
        (replace(WORSE, guardrails=(on_guardrail("unknown"),)), NOW, "do_not_deploy", "worse"),
        (replace(NOTHING, guardrails=(on_guardrail("unknown"),)), NOW, "keep_running", "not_enough_data"),
        (BETTER, replace(NOW, fix_first=("users got lost",)), "do_not_deploy", "data"),
        (BETTER, replace(NOW, age_days=6.9), "keep_running", "too_young"),
        (BETTER, replace(NOW, age_days=None), "keep_running", "too_young"),
        (BETTER, replace(NOW, age_days=None, min_days=0.0), "deploy", "better"),
        (replace(BETTER, recent_gain=-0.01), NOW, "keep_running", "novelty"),
        (replace(BETTER, recent_gain=math.nan), NOW, "deploy", "better"),
        (replace(BETTER, gain=-0.01), NOW, "keep_running", "not_enough_data"),
        (replace(WORSE, gain=0.01), NOW, "keep_running", "not_enough_data"),
        (NOTHING, NOW, "keep_running", "not_enough_data"),
        (NOTHING, replace(NOW, horizon="20,000 users"), "inconclusive", "horizon"),
        (BETTER, replace(NOW, horizon="20,000 users"), "deploy", "better"),
        (NOTHING, replace(NOW, state="stopped"), "inconclusive", "stopped"),
        (BETTER, replace(NOW, state="stopped"), "deploy", "better"),
        (BETTER, replace(NOW, has_propensities=False), "unknown", "no_propensities"),
    ],
)
def test_the_rule_decides_in_its_order(facts: Facts, now: Situation, verdict: str, reason: str) -> None:
    decision = decide(now, facts)

    assert (decision.verdict, decision.reason) == (verdict, reason)


def test_a_broken_guardrail_is_named_with_its_limit() -> None:
    decision = decide(NOW, replace(BETTER, guardrails=(on_guardrail("breached"), on_guardrail("ok"))))

    assert decision.sentence == "Do not deploy B: harmful breaks its limit (2 %; allowed: at most 1 %)."


def test_an_uncertified_guardrail_is_named_with_the_users_needed_and_the_days() -> None:
    decision = decide(NOW, replace(BETTER, guardrails=(on_guardrail("unknown", 1234),)))

    assert "harmful is not yet certain to keep its limit" in decision.sentence
    assert "about 1,300 more users of B are needed" in decision.sentence
    assert decision.expected_users == 4936  # a quarter of the users are B's
    assert decision.expected_days == pytest.approx(4.936)


def test_a_guardrail_out_of_reach_and_one_without_values_are_said_to_be_so() -> None:
    never = decide(NOW, replace(BETTER, guardrails=(on_guardrail("unknown"),)))
    empty = decide(NOW, replace(BETTER, guardrails=(on_guardrail("unknown", users=0),)))

    assert "at its present level it never will be" in never.sentence
    assert never.expected_users is None
    assert "no user has a value of harmful" in empty.sentence


def test_what_is_missing_to_a_decision_is_said_in_users_and_days() -> None:
    decision = decide(NOW, NOTHING)

    assert decision.sentence == (
        "Keep running: not enough data to tell B from A; about 2,400 more users, 3 days at the present traffic, if the "
        "present estimate holds."
    )
    assert (decision.expected_users, decision.assuming) == (2345, "the present estimate holds")


def test_no_deploy_is_promised_before_min_days_and_nothing_without_traffic() -> None:
    waiting = replace(BETTER, guardrails=(on_guardrail("unknown", 100),))
    young = decide(replace(NOW, age_days=1.0), waiting)
    paused = decide(replace(NOW, state="paused"), NOTHING)
    log = decide(replace(NOW, state="log"), NOTHING)

    assert young.expected_days == 6.0
    assert paused.expected_days is None
    assert log.expected_days == pytest.approx(2.345)


def test_a_broken_guardrail_needs_no_propensities() -> None:
    broken = replace(NOTHING, guardrails=(on_guardrail("breached"),))

    assert decide(replace(NOW, has_propensities=False), broken).reason == "guardrail"


def test_lower_is_better_turns_the_words() -> None:
    now = replace(NOW, higher_is_better=False, metric="failed")

    better = decide(now, replace(BETTER, mean=0.27))

    assert better.sentence == "Deploy B: failed is 3 points lower than under A (27 % against 30 %)."


def test_means_that_say_the_opposite_of_the_estimate_are_not_shown() -> None:
    """Where traffic and the base rate moved together, pooled means lie."""
    decision = decide(NOW, replace(BETTER, mean=0.25))

    assert decision.sentence == "Deploy B: resolved is 3 points higher than under A."


def test_of_several_better_variants_the_largest_gain_is_deployed_and_all_are_named() -> None:
    facts = [BETTER, replace(BETTER, variant="C", gain=0.05, mean=0.35), replace(BETTER, variant="D", gain=0.01)]
    decision = decide_all(NOW, {each.variant: decide(NOW, each) for each in facts}, facts)

    assert decision.verdict == "deploy"
    assert decision.sentence.startswith("Deploy C: ")
    assert decision.sentence.endswith("B and D may be deployed too, with a smaller gain.")


def test_control_stays_if_no_variant_is_to_be_deployed() -> None:
    facts = [WORSE, replace(NOTHING, variant="C", too_small=True)]
    decision = decide_all(NOW, {each.variant: decide(NOW, each) for each in facts}, facts)

    assert decision.verdict == "do_not_deploy"
    assert decision.sentence.startswith("Keep A. Do not deploy B: ")
    assert "Do not deploy C: a gain of 5 % or more in resolved is ruled out" in decision.sentence


def test_the_experiment_goes_on_while_a_variant_is_open() -> None:
    waiting = replace(BETTER, variant="C", guardrails=(on_guardrail("unknown", 80),))
    facts = [NOTHING, waiting, replace(WORSE, variant="D")]
    decisions = {each.variant: decide(NOW, each) for each in facts}

    assert decide_all(NOW, decisions, facts) == decisions["C"]
    assert decide_all(NOW, {"B": decisions["B"], "D": decisions["D"]}, [facts[0], facts[2]]) == decisions["B"]


def test_faults_of_the_data_come_first_for_the_experiment() -> None:
    now = replace(NOW, fix_first=("B has 90 users where 100 were expected",))
    facts = [BETTER]

    decision = decide_all(now, {"B": decide(now, BETTER)}, facts)

    assert decision.sentence == "Fix the data first: B has 90 users where 100 were expected."
