from __future__ import annotations

import json
import math
from typing import Any

import pytest

from bandit.errors import InvalidInput
from bandit.planning import Expectations
from simulations.plans.sizing import Sizing, sizing
from tests.bandit.making import NUMERIC, make_experiment

HARMFUL = {"metric": "harmful", "kind": "binary", "per_user": "any", "max": 0.01}
COST = {"metric": "cost_usd", "kind": "numeric", "max_increase": 0.2, "cap": 1.0}
REQUEST = {"window": "request"}


def sized(arms: int = 2, per_day: float = 1_000, **parts: Any) -> Sizing:  # noqa: ANN401 (tables of the file, options)
    """Return the plan of an experiment with a baseline of 0.3; options of `sizing` are told by their names."""
    names = ("sd", "power", "split", "expectations", "response_rate", "margin", "max_days", "baseline")
    options = {name: parts.pop(name) for name in names if name in parts}
    parts["goal"] = {"baseline": 0.3} | parts.get("goal", {})
    return sizing(make_experiment(arms, **parts), per_day, **options)


def document(found: Sizing) -> dict[str, Any]:
    """Return the JSON of a plan as another program reads it."""
    read: dict[str, Any] = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    return read


def test_the_contract_counts_two_variants_one_look_and_whole_days() -> None:
    # baseline .76, mde 5 %, alpha .05, power .8: 1,872 per variant, the z-solution of statsmodels 1,871.5
    found = document(sized(3, baseline=0.76, rollout={"exposure": 0.5}, rewards={"window": "9d"}))

    contract = ("schema", "users_per_variant", "total_users", "days", "effect_size", "cohens_h", "method")
    assert {key: found[key] for key in contract} == {
        "schema": 1,
        "users_per_variant": 1_872,
        "total_users": 5_616,
        "days": 12,  # neither the window nor a correction is in it
        "effect_size": pytest.approx(0.0916, abs=1e-4),
        "cohens_h": pytest.approx(2 * (math.asin(math.sqrt(0.798)) - math.asin(math.sqrt(0.76)))),
        "method": "two-sided two-proportion z-test with pooled standard deviation; two variants, one look, equal split",
    }


def test_the_document_has_a_field_for_everything_else() -> None:
    found = document(sized(guardrails=[HARMFUL], expectations=Expectations({"harmful": 0.002})))

    assert list(found)[7:] == [
        *("experiment", "baseline", "target", "mde", "alpha", "power", "split", "sizes", "any_time_inflation"),
        *("non_inferiority", "guardrails", "floors", "traffic", "decision", "reach"),
    ]
    assert list(found["sizes"]) == ["any_time", "two_variants", "all_variants"]
    assert list(found["sizes"]["any_time"]) == [
        *("level", "sides", "power", "users", "total_users", "enrolled", "days", "weeks"),
    ]
    assert (found["split"], found["target"]) == ({"A": 0.5, "B": 0.5}, pytest.approx(0.315))
    assert found["guardrails"][0]["metric"] == "harmful"
    assert found["guardrails"][0]["expected"] == 0.002
    assert list(found["guardrails"][0]["schedule"]) == ["enrolled", "days", "weeks"]


def test_means_have_no_cohens_h() -> None:
    found = document(sized(goal=NUMERIC | {"baseline": 4.0}, sd=0.8))

    assert (found["cohens_h"], found["floors"]) == (None, None)


def test_the_sizes_stand_side_by_side_with_every_correction() -> None:
    found = sized(4, split={"A": 0.4, "B": 0.2, "C": 0.2, "D": 0.2}, margin=0.1)

    assert list(found.rows) == ["two_variants", "all_variants", "split", "any_time", "not_worse"]
    level = {name: row.size.level for name, row in found.rows.items()}
    assert level == pytest.approx(
        {
            "two_variants": 0.05,
            "all_variants": 0.05 / 3,
            "split": 0.05 / 3,
            "any_time": 0.02 / 3,
            "not_worse": 0.025 / 3,
        }
    )
    assert found.rows["two_variants"].size.users == (found.plan.users_per_variant,) * 4
    assert found.one_look is found.rows["split"]


def test_an_equal_split_has_no_row_of_its_own() -> None:
    assert list(sized(2, split={"A": 0.5, "B": 0.5}).rows) == ["two_variants", "all_variants", "any_time"]


def test_a_decision_waits_for_the_slowest_of_goal_guardrails_and_min_days() -> None:
    goal = sized(rewards=REQUEST)
    guardrail = sized(rewards=REQUEST, guardrails=[HARMFUL], expectations=Expectations({"harmful": 0.0098}))
    young = sized(rewards=REQUEST, per_day=1e6, analysis={"min_days": 9.5})

    assert goal.any_time is not None
    assert goal.decision is not None
    assert (goal.decision.days, goal.decision.weeks) == (goal.any_time.schedule.days, goal.any_time.schedule.weeks)
    assert guardrail.guardrails[0].schedule is not None
    assert guardrail.decision is not None
    assert guardrail.decision == guardrail.guardrails[0].schedule
    assert guardrail.decision.days > goal.decision.days
    assert young.decision is not None
    assert (young.decision.days, young.decision.weeks) == (10, 2)


def test_a_guardrail_at_its_limit_leaves_no_decision() -> None:
    found = sized(guardrails=[HARMFUL, COST], expectations=Expectations({"harmful": 0.01}))

    assert found.decision is None
    assert document(found)["decision"] is None
    assert document(found)["guardrails"][0]["schedule"] is None


def test_an_effect_that_looks_at_any_time_never_find_leaves_no_decision() -> None:
    found = sized(goal={"mde": 0.001})

    assert (found.any_time, found.inflation, found.decision, found.out_of_reach) == (None, None, None, True)
    assert document(found)["sizes"]["any_time"] is None


def test_the_smallest_treatment_waits_longest_for_its_certificate() -> None:
    """Its users come at a fifth of the traffic."""
    found = sized(3, guardrails=[HARMFUL], split={"A": 0.5, "B": 0.3, "C": 0.2}, rewards=REQUEST)

    row = found.guardrails[0]
    assert row.certification.users is not None
    assert row.schedule is not None
    assert row.schedule.enrolled == math.ceil(row.certification.users / 0.2)


def test_users_without_a_goal_value_do_not_delay_guardrails() -> None:
    parts: dict[str, Any] = {"guardrails": [HARMFUL], "rewards": {"missing": "ignore"}}
    all_answer, half = sized(**parts), sized(**parts, response_rate=0.5)

    assert half.guardrails == all_answer.guardrails
    assert half.one_look.schedule.enrolled == 2 * all_answer.one_look.schedule.enrolled


@pytest.mark.parametrize("arms", [2, 3])
def test_what_is_within_reach_needs_the_days_allowed(arms: int) -> None:
    wanted = sized(arms, max_days=20)
    assert wanted.out_of_reach

    for name, row in (("one_look", "all_variants"), ("any_time", "any_time")):
        mde = wanted.smallest[name]
        assert mde is not None
        within, beyond = (sized(arms, goal={"mde": mde * times}).rows[row].schedule.days for times in (1.001, 0.98))
        assert within <= 20 < beyond


def test_an_effect_within_the_days_allowed_is_no_worry() -> None:
    assert not sized(per_day=10_000).out_of_reach


@pytest.mark.parametrize("per_day", [0, -1, math.nan, math.inf])
def test_users_per_day_must_be_positive(per_day: float) -> None:
    with pytest.raises(InvalidInput, match="users-per-day"):
        sized(per_day=per_day)


@pytest.mark.parametrize("days", [0, -1, math.nan, math.inf])
def test_the_longest_time_must_be_positive(days: float) -> None:
    with pytest.raises(InvalidInput, match="max-days"):
        sized(max_days=days)


def test_nobody_enrolled_is_no_plan() -> None:
    with pytest.raises(InvalidInput, match="exposure"):
        sized(rollout={"exposure": 0.0})
