"""Allocation with arms that are suspended or may be infeasible, and how fast the past fades."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.allocation import with_floors
from bandit.arrays import FloatArray
from bandit.best_arm import probability_best
from bandit.engine import allocate, fading, posterior_of
from bandit.experiment import Experiment
from bandit.learning import Totals
from tests.bandit.making import make_experiment
from tests.bandit.test_policies import POLICIES, drawn, every_goal, every_policy, made, totals_from


def random_case(
    policy: dict[str, Any], goal: dict[str, Any], seed: int, n_arms: int, shape: tuple[int, ...] = ()
) -> tuple[Experiment, Totals, FloatArray, np.random.Generator]:
    """Return an experiment, what it has learned, users assigned (some rows are in the warm-up), and a generator."""
    rng = np.random.default_rng(seed)
    experiment = made(n_arms, goal, policy, warmup=int(rng.choice([0, 50])))
    moments = drawn(seed, n_arms, shape)
    return experiment, totals_from(experiment, *moments), moments[0], rng


@every_policy
@every_goal
@given(seed=st.integers(0, 10_000), n_arms=st.integers(2, 6))
def test_whatever_is_suspended_or_doubtful_control_gets_the_rest(
    policy: dict[str, Any], goal: dict[str, Any], seed: int, n_arms: int
) -> None:
    experiment, totals, assigned, rng = random_case(policy, goal, seed, n_arms, (3,))
    feasible = rng.choice([0.0, 1.0, 1e-12, 0.3], (3, n_arms))
    suspended = rng.random((3, n_arms)) < 0.4
    feasible[:, 0], suspended[:, 0] = 1.0, False

    p = allocate(experiment, totals, assigned, feasible, suspended)

    assert np.abs(p.sum(axis=-1) - 1.0).max() <= 1e-12
    assert (p >= 0.0).all()
    assert (p[suspended] == 0.0).all()
    assert (p[suspended[:, 1:].all(axis=-1), 0] == 1.0).all()
    if policy["kind"] != "fixed":
        warm = np.where(suspended, np.inf, assigned).min(axis=-1, keepdims=True) >= experiment.policy.warmup
        least = np.where(warm, experiment.floors, 1.0 / n_arms)
        assert (p >= np.where(suspended, 0.0, least) - 1e-12).all()


@every_policy
@every_goal
@given(seed=st.integers(0, 10_000))
def test_nothing_suspended_and_nothing_doubtful_changes_not_one_bit(
    policy: dict[str, Any], goal: dict[str, Any], seed: int
) -> None:
    experiment, totals, assigned, _ = random_case(policy, goal, seed, 4, (2,))

    p = allocate(experiment, totals, assigned)

    nothing = np.zeros(4, dtype=bool)
    np.testing.assert_array_equal(allocate(experiment, totals, assigned, np.ones(4), nothing), p)
    np.testing.assert_array_equal(allocate(experiment, totals, assigned, suspended=np.zeros((2, 4), dtype=bool)), p)


@every_policy
def test_leading_axes_are_free(policy: dict[str, Any]) -> None:
    experiment, totals, assigned, rng = random_case(policy, {}, 1, 4, (2, 5))
    suspended = rng.random((2, 5, 4)) < 0.3
    feasible = rng.random((2, 5, 4))
    feasible[..., 0], suspended[..., 0] = 1.0, False

    p = allocate(experiment, totals, assigned, feasible, suspended)

    for at in np.ndindex(2, 5):
        one = Totals(totals.assigned[at], totals.n[at], totals.z[at], totals.z2[at], totals.origin)
        assert p[at] == pytest.approx(allocate(experiment, one, assigned[at], feasible[at], suspended[at]), abs=1e-9)


def test_thompson_gives_the_best_of_the_feasible_arms_beside_the_floors() -> None:
    experiment = made(3, {}, {"kind": "thompson"}, floor=0.1, control_floor=0.2)
    totals = totals_from(experiment, np.full(3, 100.0), np.array([0.3, 0.36, 0.33]), np.zeros(3))
    feasible = np.array([1.0, 0.4, 0.9])

    p = allocate(experiment, totals, np.full(3, 100.0), feasible)

    weights = probability_best(posterior_of(experiment, totals), feasible)
    assert p == pytest.approx(with_floors(weights, np.array([0.2, 0.1, 0.1])), abs=1e-12)


def test_a_doubtful_arm_keeps_its_floor_and_no_more() -> None:
    experiment = made(3, {}, {"kind": "thompson"}, floor=0.1, control_floor=0.2)
    totals = totals_from(experiment, np.full(3, 900.0), np.array([0.3, 0.6, 0.3]), np.zeros(3))

    p = allocate(experiment, totals, np.full(3, 900.0), np.array([1.0, 0.0, 1.0]))

    assert p[1] == 0.1


def test_the_race_goes_on_among_the_arms_that_are_not_suspended() -> None:
    experiment = made(3, {}, {"kind": "thompson"}, floor=0.1, control_floor=0.2)
    totals = totals_from(experiment, np.full(3, 900.0), np.array([0.3, 0.6, 0.4]), np.zeros(3))

    p = allocate(experiment, totals, np.full(3, 900.0), suspended=np.array([False, True, False]))

    assert p == pytest.approx([0.2, 0.0, 0.8], abs=1e-5)


def test_a_greedy_policy_leaves_the_part_of_its_doubtful_favourite_to_control() -> None:
    experiment = made(3, {}, {"kind": "ucb"}, floor=0.1, control_floor=0.2)
    totals = totals_from(experiment, np.full(3, 900.0), np.array([0.3, 0.6, 0.4]), np.zeros(3))

    p = allocate(experiment, totals, np.full(3, 900.0), np.array([1.0, 0.25, 1.0]))

    assert p == pytest.approx([0.2 + 0.6 * 0.75, 0.1 + 0.6 * 0.25, 0.1])


def test_a_fixed_split_knows_no_doubt_and_gives_the_part_of_suspended_arms_to_control() -> None:
    split = {"A": 0.5, "B": 0.2, "C": 0.3}
    experiment = make_experiment(3, policy={"kind": "fixed", "split": split, "warmup": 1000})
    totals, assigned = Totals.nothing((3,)), np.zeros(3)

    doubtful = allocate(experiment, totals, assigned, np.array([1.0, 0.1, 0.0]))
    suspended = allocate(experiment, totals, assigned, np.array([1.0, 0.1, 0.0]), np.array([False, False, True]))

    assert doubtful.tolist() == [0.5, 0.2, 0.3]
    assert suspended.tolist() == [0.8, 0.2, 0.0]


def test_a_suspended_arm_does_not_hold_the_warm_up() -> None:
    experiment = make_experiment(3, policy={"warmup": 50}, goal={"baseline": 0.3})
    assigned, suspended = np.array([60.0, 49.0, 7.0]), np.array([False, False, True])
    totals = totals_from(experiment, np.array([60.0, 49.0, 7.0]), np.array([0.1, 0.9, 0.5]), np.zeros(3))

    held = allocate(experiment, totals, assigned, suspended=suspended)
    over = allocate(experiment, totals, np.array([60.0, 50.0, 7.0]), suspended=suspended)

    assert held == pytest.approx([2 / 3, 1 / 3, 0.0])
    assert over[1] > 0.5
    assert over[2] == 0.0


def test_the_warm_up_is_over_for_control_alone_when_all_treatments_are_suspended() -> None:
    experiment = make_experiment(3, policy={"warmup": 50})
    suspended = np.array([False, True, True])

    for users in ([0.0, 0.0, 0.0], [50.0, 0.0, 9.0]):
        p = allocate(experiment, Totals.nothing((3,)), np.array(users), suspended=suspended)
        assert p.tolist() == [1.0, 0.0, 0.0]


def test_the_past_weighs_half_after_a_half_life_of_users_or_of_time() -> None:
    by_users = make_experiment(policy={"half_life": 1000})
    by_time = make_experiment(policy={"half_life": "7d"})
    week = 7 * 86_400.0
    users, seconds = np.array([0, 1000, 3000, 500]), np.array([0.0, 2 * week, week, week / 2])

    assert fading(by_users, users, seconds).tolist() == pytest.approx([1.0, 0.5, 0.125, 0.5**0.5])
    assert fading(by_time, users, seconds).tolist() == pytest.approx([1.0, 0.25, 0.5, 0.5**0.5])
    assert fading(by_users, np.array([0, 1000]), 0.0).tolist() == [1.0, 0.5]
    assert fading(by_time, 10**9, week).tolist() == 0.5
    assert fading(by_users, 10**9, 0.0).tolist() == 0.0


@pytest.mark.parametrize("kind", POLICIES)
def test_without_a_half_life_and_under_policies_that_remember_nothing_fades(kind: str) -> None:
    forgetful = kind not in {"fixed", "explore_then_commit"}

    assert fading(make_experiment(policy=POLICIES[kind]), np.array([9, 99]), 1e9).tolist() == [1.0, 1.0]
    for half_life in (10, "1d"):
        experiment = make_experiment(policy=POLICIES[kind] | {"half_life": half_life})
        assert fading(experiment, np.array([10, 10]), 86_400.0).tolist() == [0.5 if forgetful else 1.0] * 2
