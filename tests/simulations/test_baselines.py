"""What policies are measured against, and which of them is advised."""

from __future__ import annotations

import math

import pytest

from simulations.advice import advice
from simulations.baselines import baselines, floors
from simulations.bounds import divergence
from simulations.compare import compare
from simulations.world_files import parse_world
from simulations.worlds import World
from tests.bandit.making import make_experiment
from tests.simulations.making import make_world


def costly(**more: object) -> World:
    """B is better and dearer than control; C is best, and harms."""
    rails = [
        {"metric": "harmful", "kind": "binary", "per_user": "any", "max": 0.01},
        {"metric": "cost_usd", "kind": "numeric", "max": 1.0, "cap": 2.0},
    ]
    table = {
        arm: {"resolved": rate, "harmful": harm, "cost_usd": {"mean": cost, "sd": 0.1}}
        for arm, rate, harm, cost in (("A", 0.3, 0.002, 0.2), ("B", 0.36, 0.004, 0.3), ("C", 0.4, 0.05, 0.4))
    }
    return parse_world(make_experiment(3, guardrails=rails), {"variants": table, **more})


def test_one_variant_for_everybody_is_worth_its_mean() -> None:
    found = baselines(costly(), 1_000)

    assert [each.reward_per_user for each in found.values()] == pytest.approx([0.3, 0.36, 0.4])
    assert [each.regret for each in found.values()] == pytest.approx([100.0, 40.0, 0.0])
    assert [name for name, each in found.items() if each.control] == ["A"]
    assert [name for name, each in found.items() if each.cheapest] == ["A"]
    assert [name for name, each in found.items() if each.breaks_limit] == ["C"]
    assert [name for name, each in found.items() if each.best_fixed] == ["B"]


def test_a_change_counts_by_the_users_who_come_after_it() -> None:
    change = {"after_users": 250, "variants": {"B": {"resolved": 0.2}}}
    found = baselines(costly(changes=[change]), 1_000)

    assert found["B"].reward_per_user == pytest.approx(0.25 * 0.36 + 0.75 * 0.2)
    assert found["B"].regret == pytest.approx(250 * 0.04 + 750 * 0.2)
    assert [name for name, each in found.items() if each.best_fixed] == ["A"]


def test_bounds_of_two_rates_by_hand() -> None:
    found = floors(make_world([0.3, 0.4]), 10_000)

    assert found is not None
    assert found.regret == pytest.approx(0.1 / float(divergence(0.3, 0.4)) * math.log(10_000))
    assert found.users_to_best is not None
    # Two arms: nobody needs fewer than kl(b, 1 - b) / max_w min KL, which is no more than the mean of both divergences.
    b = 0.05 / 2.0
    assert found.users_to_best > float(divergence(b, 1.0 - b)) / float(divergence(0.3, 0.4))
    lower = floors(make_world([0.3, 0.4], goal={"better": "lower"}), 10_000)
    assert lower is not None
    assert lower.regret == pytest.approx(0.1 / float(divergence(0.6, 0.7)) * math.log(10_000))


@pytest.mark.parametrize(
    "world",
    [
        make_world([0.3, 0.3]),
        make_world([0.0, 0.3]),
        make_world([{"mean": 1.0, "sd": 1.0}, {"mean": 2.0, "sd": 1.0}], goal={"kind": "numeric"}),
        costly(),
    ],
)
def test_where_bounds_say_nothing_there_are_none(world: World) -> None:
    assert floors(world, 100) is None


def test_several_best_variants_cannot_be_told_apart() -> None:
    found = floors(make_world([0.3, 0.4, 0.4]), 10_000)
    assert found is not None
    assert found.users_to_best is None


def test_a_policy_that_gains_is_advised() -> None:
    result = compare(make_world([0.3, 0.3, 0.3, 0.4]), ["thompson", "fixed"], users=5_000, replications=100)

    first, second = advice(result)[:2]
    assert first.startswith("Launch thompson: it gives +")
    assert "thompson decides" in second
    assert "fixed decides" in second


def test_a_policy_that_gains_nothing_is_not() -> None:
    result = compare(make_world([0.3, 0.3]), ["thompson", "fixed"], users=2_000, replications=100)
    assert advice(result)[0].startswith("Launch a fixed split")


def test_a_policy_that_loses_is_not() -> None:
    world = make_world([0.4, 0.3], policy={"kind": "explore_then_commit", "explore_users": 100})
    result = compare(world, ["epsilon_greedy", "fixed"], users=300, replications=100)
    sentences = advice(result)
    assert "are too few" in sentences[-1]


def test_exposure_to_a_breach_is_said() -> None:
    sentences = advice(compare(costly(), ["thompson", "fixed"], users=3_000, replications=50))
    assert any("on a variant that breaks a limit" in each for each in sentences)


def test_lower_is_better_turns_everything() -> None:
    world = make_world([0.4, 0.4, 0.3], goal={"better": "lower"})
    result = compare(world, ["thompson", "fixed"], users=5_000, replications=100)
    assert advice(result)[0].startswith("Launch thompson: it gives +")


@pytest.mark.parametrize("rates", [[0.9, 1e-7], [0.3, 0.1 + 0.2]])
def test_where_the_equations_have_no_solution_in_reach_nothing_is_said(rates: list[float]) -> None:
    found = floors(make_world(rates), 1_000)
    assert found is not None
    assert found.users_to_best is None


def test_equal_variants_are_all_the_best_choice_also_after_a_gradual_change() -> None:
    changes = [
        {"after_users": 100, "over_users": 70, "variants": {arm: {"resolved": 0.41} for arm in "AB"}},
        {"after_users": 200, "variants": {arm: {"resolved": 0.33} for arm in "AB"}},
    ]
    document = {"variants": {arm: {"resolved": 0.3} for arm in "AB"}, "changes": changes}
    world = parse_world(make_experiment(), document)
    assert all(each.best_fixed for users in range(50, 400, 7) for each in baselines(world, users).values())


def test_the_cheapest_is_so_after_cutting() -> None:
    rails = [{"metric": "cost_usd", "kind": "numeric", "max": 1.0}]
    laws = {"A": {"mean": 0.1, "sd": 0.0}, "B": {"mean": 0.09, "sd": 0.5}}  # cut at 0, B costs more
    document = {"variants": {arm: {"resolved": 0.3, "cost_usd": law} for arm, law in laws.items()}}
    found = baselines(parse_world(make_experiment(guardrails=rails), document), 100)
    assert [arm for arm, each in found.items() if each.cheapest] == ["A"]
