from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.allocation import batch_size, with_floors
from bandit.arrays import FloatArray
from bandit.best_arm import probability_best
from bandit.engine import allocate, learn
from bandit.experiment import Experiment
from bandit.learning import Totals, totals_of
from bandit.policies import BayesUCB, EpsilonGreedy, ExploreThenCommit, Fixed, Policy, Thompson, TopTwo
from bandit.posteriors import BetaPosterior
from tests.bandit.making import NUMERIC, make_experiment

POLICIES: dict[str, dict[str, Any]] = {
    "fixed": {"kind": "fixed"},
    "thompson": {"kind": "thompson"},
    "top_two": {"kind": "top_two", "beta": 0.7},
    "epsilon_greedy": {"kind": "epsilon_greedy", "epsilon": 0.2},
    "ucb": {"kind": "ucb"},
    "explore_then_commit": {"kind": "explore_then_commit", "explore_users": 30},
}
GOALS: dict[str, dict[str, Any]] = {
    "binary": {},
    "binary lower": {"better": "lower"},
    "numeric": NUMERIC,
    "numeric lower": NUMERIC | {"better": "lower"},
}
every_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=list(POLICIES))
every_goal = pytest.mark.parametrize("goal", GOALS.values(), ids=list(GOALS))


def made(n_arms: int, goal: dict[str, Any], policy: dict[str, Any], **settings: Any) -> Experiment:  # noqa: ANN401
    return make_experiment(n_arms, goal=goal, policy=policy | {"warmup": 0} | settings)


def totals_from(experiment: Experiment, n: FloatArray, y: FloatArray, spread: FloatArray) -> Totals:
    """Return totals of n users per arm with mean outcome y and, if numeric, standard deviation `spread`."""
    squares = n * y if experiment.goal.kind == "binary" else n * (y**2 + spread**2)
    sums = np.stack([n, n * y, squares, np.zeros_like(n)], axis=-1)
    return totals_of(experiment, n.astype(np.int64), sums, 0.0)


def drawn(seed: int, n_arms: int, shape: tuple[int, ...] = ()) -> tuple[FloatArray, FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    n = rng.integers(0, 400, (*shape, n_arms)).astype(np.float64)
    return n, np.round(n * rng.uniform(0, 1, n.shape)) / np.maximum(n, 1), rng.uniform(0.1, 2, n.shape)


def allocation(experiment: Experiment, moments: tuple[FloatArray, FloatArray, FloatArray]) -> FloatArray:
    return allocate(experiment, totals_from(experiment, *moments), moments[0])


@every_policy
@every_goal
@given(seed=st.integers(0, 10_000), n_arms=st.integers(2, 6))
def test_allocations_are_probabilities_that_keep_the_floors(
    policy: dict[str, Any], goal: dict[str, Any], seed: int, n_arms: int
) -> None:
    experiment = made(n_arms, goal, policy)

    p = allocation(experiment, drawn(seed, n_arms))

    assert p.sum() == pytest.approx(1.0, abs=1e-12)
    if policy["kind"] != "fixed":
        assert (p >= np.array(experiment.floors) - 1e-12).all()


@every_policy
@every_goal
@given(seed=st.integers(0, 10_000), order=st.permutations(range(4)))
def test_relabelling_the_arms_relabels_the_allocation(
    policy: dict[str, Any], goal: dict[str, Any], seed: int, order: list[int]
) -> None:
    experiment = made(4, goal, policy, control_floor=0.05, floor=0.05)
    n, y, spread = drawn(seed, 4)

    p = allocation(experiment, (n, y, spread))
    relabelled = allocation(experiment, (n[order], y[order], spread[order]))

    assert relabelled == pytest.approx(p[order], abs=1e-9)


@every_policy
@every_goal
def test_leading_axes_are_free(policy: dict[str, Any], goal: dict[str, Any]) -> None:
    experiment = made(3, goal, policy)
    n, y, spread = drawn(1, 3, (2, 5))

    p = allocation(experiment, (n, y, spread))

    for at in np.ndindex(2, 5):
        assert p[at] == pytest.approx(allocation(experiment, (n[at], y[at], spread[at])), abs=1e-9)


@every_policy
@every_goal
def test_without_data_arms_differ_only_by_their_floors(policy: dict[str, Any], goal: dict[str, Any]) -> None:
    experiment = made(4, goal, policy, floor=0.02, control_floor=0.02)

    p = allocation(experiment, (np.zeros(4), np.zeros(4), np.zeros(4)))

    assert p == pytest.approx([0.25] * 4, abs=1e-9)


@every_policy
@given(scale=st.floats(1e-2, 1e3), shift=st.floats(-1e3, 1e3), seed=st.integers(0, 10_000))
def test_scaling_or_shifting_a_numeric_metric_moves_no_traffic(
    policy: dict[str, Any], scale: float, shift: float, seed: int
) -> None:
    experiment = made(3, NUMERIC, policy)
    n, y, spread = drawn(seed, 3)

    assert allocation(experiment, (n, scale * y + shift, scale * spread)) == pytest.approx(
        allocation(experiment, (n, y, spread)), abs=1e-6
    )


@every_policy
@pytest.mark.parametrize("kind", ["binary", "numeric"])
@given(seed=st.integers(0, 10_000))
def test_lower_is_better_mirrors_higher_is_better(policy: dict[str, Any], kind: str, seed: int) -> None:
    n, y, spread = drawn(seed, 3)
    goal = {"metric": "m", "kind": kind, "baseline": 0.3}
    mirrored = goal | {"better": "lower", "baseline": 0.7 if kind == "binary" else -0.3}

    higher = allocation(made(3, goal, policy), (n, y, spread))
    lower = allocation(made(3, mirrored, policy), (n, 1 - y if kind == "binary" else -y, spread))

    # Top-two divides probabilities of winning by one another, which magnifies their rounding.
    assert lower == pytest.approx(higher, abs=1e-6 if policy["kind"] == "top_two" else 1e-9)


@given(seed=st.integers(0, 10_000))
def test_one_more_success_never_lowers_an_arms_chance_under_a_stated_baseline(seed: int) -> None:
    experiment = made(3, {"baseline": 0.4}, {"kind": "thompson"}, floor=0, control_floor=0)
    n, y, spread = drawn(seed, 3)
    n, wins = n + 1, n * y
    more = wins + np.array([1.0, 0.0, 0.0])

    assert allocation(experiment, (n, more / n, spread))[0] >= allocation(experiment, (n, wins / n, spread))[0] - 1e-9


def test_the_split_of_a_fixed_policy_knows_no_floors_and_no_warm_up() -> None:
    experiment = make_experiment(policy={"kind": "fixed", "split": {"A": 0.99, "B": 0.01}, "warmup": 1000})

    assert allocation(experiment, drawn(1, 2)).tolist() == [0.99, 0.01]


def test_the_warm_up_is_an_equal_split_that_ends_by_assigned_users_not_by_answers() -> None:
    experiment = make_experiment(goal={"baseline": 0.5}, policy={"warmup": 50}, rewards={"missing": "ignore"})
    silent = totals_from(experiment, np.array([60.0, 0.0]), np.array([0.9, 0.0]), np.zeros(2))

    assert allocate(experiment, silent, np.array([60.0, 49.0])).tolist() == [0.5, 0.5]
    assert allocate(experiment, silent, np.array([60.0, 50.0]))[0] > 0.5


def test_floors_are_added_before_the_rest_is_shared() -> None:
    p = with_floors(np.array([0.0, 0.25, 0.75]), np.array([0.2, 0.1, 0.1]))

    assert p == pytest.approx([0.2, 0.1 + 0.6 * 0.25, 0.1 + 0.6 * 0.75])


@pytest.mark.parametrize(("before", "size"), [(0, 50), (2500, 50), (2501, 51), (10**9, 2 * 10**7)])
def test_epochs_grow_with_the_users_before(before: int, size: int) -> None:
    assert batch_size(make_experiment().policy, before) == size


def test_the_number_of_epochs_grows_with_the_logarithm_of_the_traffic() -> None:
    settings, users, epochs = make_experiment().policy, 0, 0
    while users < 10**9:
        users += int(batch_size(settings, users))
        epochs += 1

    assert 690 <= epochs <= 1400  # 50 batches of 50, then ln(1e9 / 2500) / ln(1.02) = 651


def test_top_two_equals_its_published_formula() -> None:
    posterior = BetaPosterior(np.array([9.0, 7.0, 4.0]), np.array([5.0, 6.0, 6.0]))
    w = probability_best(posterior)

    p = TopTwo(0.7).allocate(posterior, np.array(0.0))

    expected = [w[k] * (0.7 + 0.3 * sum(w[j] / (1 - w[j]) for j in range(3) if j != k)) for k in range(3)]
    assert p == pytest.approx(expected)


def test_top_two_still_challenges_an_arm_that_wins_for_certain() -> None:
    posterior = BetaPosterior(np.array([9e6, 1e6, 1e6]), np.array([1e6, 9e6, 9e6]))

    p = TopTwo(0.5).allocate(posterior, np.array(0.0))

    assert p == pytest.approx([0.5, 0.25, 0.25], abs=1e-9)


def test_challengers_whose_chances_cannot_be_told_apart_share_alike_without_a_jump() -> None:
    def challengers(n: float) -> FloatArray:
        posterior = BetaPosterior(np.array([0.6, 0.3, 0.29]) * n, np.array([0.4, 0.7, 0.71]) * n)
        return TopTwo(0.5).allocate(posterior, np.array(0.0))

    shares = np.array([challengers(n) for n in np.geomspace(20, 1e5, 400)])

    assert shares[-1] == pytest.approx([0.5, 0.25, 0.25])
    assert np.abs(np.diff(shares, axis=0)).max() < 0.03


RACE = BetaPosterior(np.array([9.0, 7.0, 4.0, 6.0]), np.array([5.0, 6.0, 6.0, 4.0]))
DOUBT = np.array([1.0, 0.6, 0.0, 1e-12])


def test_thompson_follows_the_best_of_the_feasible_arms() -> None:
    assert Thompson().allocate(RACE, np.array(0.0), DOUBT).tolist() == probability_best(RACE, DOUBT).tolist()


def test_top_two_leaves_suspended_arms_out_of_the_contest_and_shrinks_the_others() -> None:
    w = probability_best(RACE, np.array([1.0, 1.0, 0.0, 1.0]))

    p = TopTwo(0.7).allocate(RACE, np.array(0.0), DOUBT)

    whole = [w[k] * (0.7 + 0.3 * sum(w[j] / (1 - w[j]) for j in range(4) if j != k)) for k in range(4)]
    assert p == pytest.approx(np.array(whole) * DOUBT, abs=1e-7)
    assert p[2] == 0.0


@pytest.mark.parametrize("chance", [0.0, 5e-324, 1e-12, 0.25])
def test_the_only_challenger_of_top_two_keeps_no_more_than_its_chance(chance: float) -> None:
    posterior = BetaPosterior(np.array([5.0, 9.0]), np.array([9.0, 5.0]))

    p = TopTwo(0.5).allocate(posterior, np.array(0.0), np.array([1.0, chance]))

    assert p[1] == pytest.approx(0.5 * chance, abs=1e-9)
    assert p.sum() <= 1.0


@pytest.mark.parametrize("policy", [EpsilonGreedy(0.2), BayesUCB(), ExploreThenCommit(10), ExploreThenCommit(99)])
def test_other_rules_give_their_weights_times_the_chance_to_be_feasible(policy: Policy) -> None:
    users = np.array(50.0)

    p = policy.allocate(RACE, users, DOUBT)

    assert p.tolist() == (policy.allocate(RACE, users) * DOUBT).tolist()


@pytest.mark.parametrize("policy", [EpsilonGreedy(0.2), BayesUCB(), ExploreThenCommit(10)])
def test_another_arm_leads_where_the_leader_is_suspended(policy: Policy) -> None:
    posterior = BetaPosterior(np.array([4.0, 9.0, 6.0]), np.array([6.0, 1.0, 4.0]))

    p = policy.allocate(posterior, np.array(50.0), np.array([1.0, 0.0, 1.0]))

    assert p[1] == 0.0
    assert p[2] >= 0.8


def test_the_classical_test_knows_no_doubt() -> None:
    assert Fixed((0.4, 0.3, 0.2, 0.1)).allocate(RACE, np.array(9.0), DOUBT).tolist() == [0.4, 0.3, 0.2, 0.1]


def test_greedy_rules_split_ties_evenly() -> None:
    posterior = BetaPosterior(np.array([3.0, 1.0, 3.0]), np.array([2.0, 4.0, 2.0]))

    assert EpsilonGreedy(0.3).allocate(posterior, np.array(9.0)) == pytest.approx([0.45, 0.1, 0.45])
    assert BayesUCB().allocate(posterior, np.array(9.0)).tolist() == [0.5, 0.0, 0.5]


def test_ucb_prefers_the_larger_quantile_not_the_larger_mean() -> None:
    posterior = BetaPosterior(np.array([600.0, 5.0]), np.array([400.0, 5.0]))

    assert BayesUCB().allocate(posterior, np.array(1000.0)).tolist() == [0.0, 1.0]


def test_explore_then_commit_commits_for_good() -> None:
    experiment = made(2, {}, {"kind": "explore_then_commit", "explore_users": 40}, floor=0, control_floor=0)
    early = totals_from(experiment, np.array([20.0, 20.0]), np.array([0.5, 0.6]), np.zeros(2))
    later = totals_from(experiment, np.array([0.0, 500.0]), np.array([0.0, 0.1]), np.zeros(2))

    exploring = learn(experiment, Totals.nothing((2,)), totals_from(experiment, *(np.full(2, x) for x in (10, 0.9, 0))))
    committed = learn(experiment, learn(experiment, Totals.nothing((2,)), early), later)

    assert allocate(experiment, exploring, exploring.assigned).tolist() == [0.5, 0.5]
    assert allocate(experiment, committed, committed.assigned).tolist() == [0.0, 1.0]
    assert ExploreThenCommit(40).allocate(BetaPosterior(np.ones(2), np.ones(2)), np.array(99)).tolist() == [
        0.5,
        0.5,
    ]
