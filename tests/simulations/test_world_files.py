from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bandit.errors import InvalidInput
from simulations.laws import Lognormal, Normal, Rate
from simulations.world_files import InvalidWorld, parse_world, parse_world_json, parse_world_toml
from tests.bandit.making import make_experiment

RAILS = [
    {"metric": "latency", "kind": "numeric", "quantile": 0.95, "max": 1500},
    {"metric": "failed", "kind": "binary", "max": 0.1},
]
EXPERIMENT = make_experiment(guardrails=RAILS)
GOOD = {"resolved": 0.3, "latency": {"mean": 900, "sd": 300, "law": "lognormal"}}


def test_a_world_says_the_law_of_each_metric_in_the_order_of_the_arms() -> None:
    text = """
    [variants.B]
    resolved = 1
    latency = { mean = 1100, sd = 400 }
    [variants.A]
    resolved = 0.3
    latency = { mean = 900, sd = 300, law = "lognormal" }
    """

    world = parse_world_toml(EXPERIMENT, text)

    assert world.laws["resolved"] == (Rate(0.3), Rate(1.0))
    assert world.laws["latency"] == (Lognormal(900.0, 300.0), Normal(1100.0, 400.0))
    assert world.not_simulated == ("failed",)


def test_json_says_the_same() -> None:
    world = parse_world_json(EXPERIMENT, '{"variants": {"A": {"resolved": 0.3}, "B": {"resolved": 0.4}}}')

    assert world.laws == {"resolved": (Rate(0.3), Rate(0.4))}
    assert world.not_simulated == ("latency", "failed")


def test_changes_give_new_laws_to_what_they_name_and_leave_the_rest() -> None:
    text = """
    [variants]
    A = { resolved = 0.3, latency = { mean = 900, sd = 300 } }
    B = { resolved = 0.4, latency = { mean = 900, sd = 300 } }
    [[changes]]
    after_users = 1000
    variants.B.resolved = 0.2
    [[changes]]
    after_users = 5000
    [changes.variants.A]
    resolved = 0.1
    latency = { mean = 500, sd = 10, law = "lognormal" }
    """

    world = parse_world_toml(EXPERIMENT, text)

    assert [change.after_users for change in world.changes] == [1000, 5000]
    before, first, second = world.stretches
    assert (before.laws, before.changes) == (world.laws, ())
    assert first.laws == {**world.laws, "resolved": (Rate(0.3), Rate(0.2))}
    assert second.laws["resolved"] == (Rate(0.1), Rate(0.2))
    assert second.laws["latency"] == (Lognormal(500.0, 10.0), Normal(900.0, 300.0))
    assert [phase.first_user for phase in world.phases()] == [0, 1000, 5000]


def test_a_change_keeps_the_origin_of_sums() -> None:
    experiment = make_experiment(goal={"metric": "stars", "kind": "numeric"})
    law, other = ({"stars": {"mean": mean, "sd": 1}} for mean in (3, 900))
    change = {"after_users": 10, "variants": {"A": other, "B": other}}

    world = parse_world(experiment, {"variants": {"A": law, "B": law}, "changes": [change]})

    assert [phase.goal.origin for phase in world.phases()] == [3.0, 3.0]


def changed(*changes: object, **parts: object) -> dict[str, Any]:
    return {"variants": {"A": GOOD, "B": GOOD}, "changes": list(changes), **parts}


LATER = {"after_users": 100, "variants": {"B": {"resolved": 0.1}}}
CHANGE_FAULTS: list[tuple[dict[str, Any], str, str]] = [
    (changed(changes=3), "changes", "tables [[changes]]"),
    (changed(3), "changes[0]", "a table of 'after_users', 'over_users', 'variants'"),
    (changed(LATER | {"after": 1}), "changes[0].after", "did you mean 'after_users'"),
    (changed({"variants": LATER["variants"]}), "changes[0].after_users", "missing: a whole number"),
    (
        changed(LATER | {"after_users": 0}),
        "changes[0].after_users",
        "received 0, allowed: a whole number of users from 1",
    ),
    (changed(LATER | {"after_users": 1.5}), "changes[0].after_users", "received 1.5"),
    (changed(LATER | {"after_users": True}), "changes[0].after_users", "received True"),
    (changed(LATER, LATER), "changes[1].after_users", "later than the change before it (at 100)"),
    (changed({"after_users": 5}), "changes[0].variants", "missing: a table of variants"),
    (changed({"after_users": 5, "variants": {}}), "changes[0].variants", "a table of variants"),
    (changed({"after_users": 5, "variants": {"C": {}}}), "changes[0].variants.C", "unknown variant"),
    (changed({"after_users": 5, "variants": {"B": 3}}), "changes[0].variants.B", "a table of metrics"),
    (changed({"after_users": 5, "variants": {"B": {"resolvd": 1}}}), "changes[0].variants.B.resolvd", "'resolved'"),
    (changed({"after_users": 5, "variants": {"B": {"resolved": 2}}}), "changes[0].variants.B.resolved", "received 2"),
    (
        changed({"after_users": 5, "variants": {"B": {"latency": {"mean": 1, "sd": -1}}}}),
        "changes[0].variants.B.latency.sd",
        "0 or more",
    ),
    (
        {"variants": {"A": {"resolved": 0.3}, "B": {"resolved": 0.3}}}
        | {"changes": [{"after_users": 5, "variants": {"B": {"latency": GOOD["latency"]}}}]},
        "changes[0].variants.B.latency",
        "has no law before the change",
    ),
]
FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "variants", "missing"),
    ({"variants": 3}, "variants", "received 3"),
    ({"variant": {}, "variants": {"A": GOOD, "B": GOOD}}, "variant", "did you mean 'variants'"),
    ({"variants": {"A": {"resolved": 0.3}}}, "variants.B.resolved", "missing; the goal"),
    ({"variants": {"A": GOOD, "B": GOOD, "b": GOOD}}, "variants.b", "unknown variant"),
    ({"variants": {"A": GOOD, "B": 3}}, "variants.B", "a table of metrics"),
    ({"variants": {"A": GOOD, "B": GOOD | {"resolvd": 1}}}, "variants.B.resolvd", "did you mean 'resolved'"),
    ({"variants": {"A": GOOD, "B": GOOD | {"resolved": 1.2}}}, "variants.B.resolved", "received 1.2"),
    ({"variants": {"A": GOOD, "B": GOOD | {"resolved": True}}}, "variants.B.resolved", "received True"),
    ({"variants": {"A": GOOD, "B": GOOD | {"resolved": float("nan")}}}, "variants.B.resolved", "received nan"),
    ({"variants": {"A": GOOD, "B": GOOD | {"failed": 0.1}}}, "variants.B.failed", "cannot be simulated"),
    ({"variants": {"A": GOOD, "B": {"resolved": 0.1}}}, "variants.B.latency", "given for 'A'"),
    ({"variants": {"A": GOOD, "B": GOOD | {"latency": 900}}}, "variants.B.latency", "mean = "),
]
LAW_FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"mean": 1}, "sd", "missing; the standard deviation"),
    ({"sd": 1}, "mean", "missing; the expected"),
    ({"mean": 1, "sd": -1}, "sd", "0 or more"),
    ({"mean": float("inf"), "sd": 1}, "mean", "finite"),
    ({"mean": "1", "sd": 1}, "mean", "a number"),
    ({"mean": 1e13, "sd": 1}, "mean", "1e12"),
    ({"mean": 0, "sd": 1, "law": "lognormal"}, "mean", "above 0"),
    ({"mean": 1, "sd": 1, "law": "gamma"}, "law", "'normal', 'lognormal'"),
    ({"mean": 1, "sdd": 1, "sd": 1}, "sdd", "did you mean 'sd'"),
]


@pytest.mark.parametrize(("document", "field", "message"), FAULTS + CHANGE_FAULTS, ids=lambda part: str(part)[:40])
def test_a_fault_is_named_with_its_place(document: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(InvalidWorld) as caught:
        parse_world(EXPERIMENT, document)

    assert [problem.field for problem in caught.value.problems] == [field]
    assert message in caught.value.problems[0].message


@pytest.mark.parametrize(("law", "key", "message"), LAW_FAULTS, ids=lambda part: str(part)[:40])
def test_a_fault_of_a_law_is_named_with_its_place(law: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(InvalidWorld) as caught:
        parse_world(EXPERIMENT, {"variants": {"A": GOOD, "B": GOOD | {"latency": law}}})

    assert [problem.field for problem in caught.value.problems] == [f"variants.B.latency.{key}"]
    assert message in caught.value.problems[0].message


def test_all_faults_are_named_at_once() -> None:
    wrong = {"resolved": 2, "latency": {"mean": 1}, "extra": 1}

    with pytest.raises(InvalidWorld) as caught:
        parse_world(EXPERIMENT, {"variants": {"A": wrong, "B": wrong}, "x": 1})

    assert len(caught.value.problems) == 7


def test_a_mean_outside_the_range_of_the_goal_is_impossible() -> None:
    experiment = make_experiment(goal={"metric": "stars", "kind": "numeric", "range": [1, 5]})
    law = {"stars": {"mean": 6, "sd": 1}}

    with pytest.raises(InvalidWorld, match="1 to 5"):
        parse_world(experiment, {"variants": {"A": law, "B": law}})


@pytest.mark.parametrize("text", ["", "x =", "[variants]\nA = 1\nA = 2"])
def test_text_that_is_no_toml_is_refused_in_words(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_world_toml(EXPERIMENT, text)


def test_a_gradual_change_comes_in_twenty_steps_and_then_holds() -> None:
    change = {"after_users": 1000, "over_users": 400, "variants": {"B": {"resolved": 0.2}}}
    document = {"variants": {"A": {"resolved": 0.3}, "B": {"resolved": 0.4}}, "changes": [change]}
    world = parse_world(make_experiment(), document)

    assert [each.after_users for each in world.changes] == [*range(1000, 1400, 20), 1400]
    rates = [each.means[1] for each in world.stretches]
    assert rates[0] == 0.4
    assert rates[1:-1] == pytest.approx(np.linspace(0.395, 0.205, 20))
    assert rates[-1] == 0.2
    assert all(each.means[0] == 0.3 for each in world.stretches)
    assert np.mean(rates[1:-1]) == pytest.approx(0.3)


def test_a_gradual_change_of_few_users_has_a_step_for_each() -> None:
    change = {"after_users": 10, "over_users": 2, "variants": {"B": {"resolved": 0.2}}}
    document = {"variants": {"A": {"resolved": 0.3}, "B": {"resolved": 0.4}}, "changes": [change]}
    assert [each.after_users for each in parse_world(make_experiment(), document).changes] == [10, 11, 12]


@pytest.mark.parametrize(
    ("over", "law", "words"),
    [
        (0, {"mean": 2.0, "sd": 1.0}, "1 to 10^15"),
        ("9", {"mean": 2.0, "sd": 1.0}, "1 to 10^15"),
        (5, {"mean": 2.0, "sd": 1.0, "law": "lognormal"}, "laws of one kind"),
    ],
)
def test_a_gradual_change_that_cannot_be_is_refused(over: object, law: object, words: str) -> None:
    change = {"after_users": 10, "over_users": over, "variants": {"B": {"resolved": law}}}
    laws = {arm: {"resolved": {"mean": 1.0, "sd": 1.0}} for arm in "AB"}
    with pytest.raises(InvalidWorld) as caught:
        parse_world(make_experiment(goal={"kind": "numeric"}), {"variants": laws, "changes": [change]})
    assert any(
        problem.field == "changes[0].over_users" and words in problem.message for problem in caught.value.problems
    )


def test_a_gradual_change_of_a_world_that_is_at_fault_hides_no_fault() -> None:
    change = {"after_users": 10, "over_users": 5, "variants": {"B": {"resolved": 0.2}}}
    document = {"variants": {"A": {"resolved": 2.0}, "B": {"resolved": 0.4}}, "changes": [change]}
    with pytest.raises(InvalidWorld) as caught:
        parse_world(make_experiment(), document)
    assert [problem.field for problem in caught.value.problems] == ["variants.A.resolved"]
