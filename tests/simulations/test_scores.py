from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bandit.inference.welch import sample_of, welch
from bandit.learning import Totals
from simulations.runner import Runs
from simulations.scores import Estimate, score
from simulations.world_files import parse_world
from tests.bandit.making import NUMERIC, make_experiment
from tests.simulations.making import PLAIN, Z, make_world, run

FIXED = PLAIN | {"kind": "fixed"}


def binary_runs(users: list[list[int]], successes: list[list[int]], epochs: int = 3) -> Runs:
    n, z = np.array(users, dtype=np.float64), np.array(successes, dtype=np.float64)
    return Runs(n.astype(np.int64), Totals(n, n, z, z, 0.0), np.full(len(users), epochs))


def test_an_estimate_is_a_mean_with_its_standard_error() -> None:
    estimate = Estimate.of(np.array([1.0, 3.0, np.nan]))

    assert estimate.fields("x") == {"x": 2.0, "x_se": pytest.approx(1.0)}


def test_an_estimate_of_one_run_has_no_error_and_of_none_no_value() -> None:
    assert Estimate.of(np.array([2.0])) == Estimate(2.0, None)
    assert Estimate.of(np.array([np.nan])) == Estimate(None, None)


def test_scores_of_two_runs_by_hand() -> None:
    world = make_world([0.2, 0.3, 0.1])
    runs = binary_runs([[50, 40, 10], [10, 90, 0]], [[10, 12, 1], [9, 9, 0]])

    numbers = {name: estimate.value for name, estimate in score(world.experiment, world, runs).numbers.items()}

    assert numbers == {
        "reward_per_user": pytest.approx((0.23 + 0.29) / 2),
        "gain_over_fixed": pytest.approx((0.03 + 0.09) / 2 / 0.2),
        "regret": pytest.approx((0.1 * 50 + 0.2 * 10 + 0.1 * 10) / 2),
        "share_best": pytest.approx(0.65),
        "picked_best": pytest.approx(0.5),
        "epochs": 3.0,
    }


def test_arms_that_tie_for_best_all_count() -> None:
    world = make_world([0.3, 0.3, 0.1])
    runs = binary_runs([[50, 40, 10]], [[15, 12, 1]])

    numbers = score(world.experiment, world, runs).numbers

    assert numbers["share_best"].value == pytest.approx(0.9)
    assert numbers["picked_best"].value == 1.0
    assert numbers["regret"].value == pytest.approx(2.0)


def test_lower_is_better_turns_gain_and_regret_but_not_the_reward() -> None:
    world = make_world([0.3, 0.1], goal={"better": "lower"})
    runs = binary_runs([[25, 75]], [[7, 8]])
    runs = Runs(runs.assigned, Totals(runs.totals.n, runs.totals.n, -runs.totals.z, runs.totals.z2, 0.0), runs.epochs)

    result = score(world.experiment, world, runs)

    values = {name: estimate.value for name, estimate in result.numbers.items()}
    assert values["reward_per_user"] == pytest.approx(0.15)
    assert values["gain_over_fixed"] == pytest.approx(0.25)
    assert values["regret"] == pytest.approx(5.0)
    assert values["share_best"] == pytest.approx(0.75)
    assert values["picked_best"] == 1.0
    assert result.welch["mean_difference"].value == pytest.approx(8 / 75 - 7 / 25)


def test_an_equal_split_without_reward_has_no_relative_gain() -> None:
    world = make_world([0.0, 0.0])

    assert score(world.experiment, world, binary_runs([[5, 5]], [[0, 0]])).numbers["gain_over_fixed"].value is None


@pytest.mark.parametrize("successes", [[30, 42, 31], [30, 46, 29], [30, 20, 47], [0, 0, 0]])
def test_welch_is_the_engines_test_at_a_shared_level(successes: list[int]) -> None:
    world = make_world([0.3, 0.4, 0.3])
    runs = binary_runs([[100, 100, 100]], [successes])

    significant = score(world.experiment, world, runs).welch["significant"].value

    samples = [sample_of(np.array([100.0, s, s]), 0.0) for s in successes]
    tests = [welch(sample, samples[0], 0.05) for sample in samples[1:]]
    assert bool(significant) == any(test is not None and test.p_value <= 0.025 for test in tests)


def test_welch_agrees_with_the_engines_in_every_small_table() -> None:
    world = make_world([0.3, 0.4])
    tables = [[s, t] for s in range(13) for t in range(10)]

    found = score(world.experiment, world, binary_runs([[12, 9]] * len(tables), tables)).welch["significant"].value

    pairs = [[sample_of(np.array([n, s, s], float), 0.0) for n, s in zip((12, 9), t, strict=True)] for t in tables]
    tests = [welch(arm, control, 0.05) for control, arm in pairs]
    assert found == pytest.approx(np.mean([test is not None and test.p_value <= 0.05 for test in tests]), abs=1e-12)


def test_several_best_treatments_are_averaged_whatever_their_order() -> None:
    world = make_world([0.2, 0.3, 0.3])
    runs = binary_runs([[100, 100, 100]], [[20, 30, 40]])

    assert score(world.experiment, world, runs).welch["mean_difference"].value == pytest.approx(0.15)


def test_a_fixed_split_has_the_reward_and_regret_of_its_shares() -> None:
    policy = FIXED | {"split": {"A": 0.5, "B": 0.3, "C": 0.2}}
    world = make_world([0.2, 0.3, 0.1], policy=policy)

    numbers = score(world.experiment, world, run(world, 2_000, 1_000)).numbers

    # Reward of a user: .5 .2 + .3 .3 + .2 .1 = .21; regret of a user .5 .1 + .2 .2 = .09; equal split: .2
    for name, expected in {
        "reward_per_user": 0.21,
        "regret": 180.0,
        "gain_over_fixed": 0.05,
        "share_best": 0.3,
    }.items():
        estimate = numbers[name]
        assert estimate.value is not None
        assert estimate.error is not None
        assert abs(estimate.value - expected) < Z * estimate.error
    # Its standard error is that of a mean reward of 2,000 users drawn from the split: known in closed form.
    variance = (0.5 * 0.2**2 + 0.3 * 0.3**2 + 0.2 * 0.1**2 - 0.21**2) / 2_000 / 1_000
    assert numbers["reward_per_user"].error == pytest.approx(np.sqrt(variance), rel=0.1)


@pytest.mark.parametrize("arms", [2, 4])
def test_welch_on_a_fixed_split_keeps_its_level(arms: int) -> None:
    world = make_world([0.5] * arms, policy=FIXED)

    false = score(world.experiment, world, run(world, 2_000, 4_000)).welch["significant"].value

    # Tests against one control are correlated, 1/2 each: 1 − ∫ φ(z) [Φ(√2 c + z) − Φ(−√2 c + z)]³ dz at Bonferroni's c.
    expected = 0.05 if arms == 2 else 0.0445
    assert false == pytest.approx(expected, abs=Z * np.sqrt(0.05 * 0.95 / 4_000))


@pytest.mark.parametrize(("floor", "published"), [(0.0, 0.121), (0.05, 0.079)])
def test_welch_after_thompson_sampling_errs_as_an_independent_simulation_found(floor: float, published: float) -> None:
    # Two arms at .5, 10,000 users, batches of 50, 4,000 runs there (s.e. .005) and 2,500 here.
    policy = PLAIN | {"floor": floor, "control_floor": floor}
    world = make_world([0.5, 0.5], policy=policy, goal={"baseline": 0.5})

    welch_scores = score(world.experiment, world, run(world, 10_000, 2_500)).welch

    false = welch_scores["significant"].value
    error = np.sqrt(published * (1 - published) * (1 / 4_000 + 1 / 2_500))
    assert false == pytest.approx(published, abs=Z * error)
    if floor == 0.0:
        assert false is not None
        assert false > 0.05 + Z * np.sqrt(0.05 * 0.95 / 2_500)


def test_welch_is_biased_where_traffic_moves_and_not_on_a_fixed_split() -> None:
    found = {}
    for kind in ("fixed", "thompson"):
        world = make_world([0.50, 0.55], policy=PLAIN | {"kind": kind})
        found[kind] = score(world.experiment, world, run(world, 2_000, 2_000)).welch["mean_difference"]

    values = {kind: (estimate.value or 0.0, estimate.error or 0.0) for kind, estimate in found.items()}
    assert abs(values["fixed"][0] - 0.05) < Z * values["fixed"][1]
    assert values["thompson"][0] - 0.05 > Z * values["thompson"][1]


def test_numeric_goals_are_scored_in_their_own_unit() -> None:
    laws = [{"mean": 100.0, "sd": 10.0}, {"mean": 103.0, "sd": 10.0}]
    world = make_world(laws, goal=NUMERIC, policy=FIXED)

    result = score(world.experiment, world, run(world, 1_000, 1_000))

    difference = result.welch["mean_difference"]
    assert difference.value is not None
    assert difference.error is not None
    assert abs(difference.value - 3.0) < Z * difference.error
    assert difference.error == pytest.approx(10 * np.sqrt(4 / 1_000 / 1_000), rel=0.1)
    assert result.numbers["reward_per_user"].value == pytest.approx(101.5, abs=0.01)


def test_the_median_has_the_error_of_order_statistics() -> None:
    rng = np.random.default_rng(1)

    estimates = [Estimate.median(rng.normal(size=401)) for _ in range(400)]

    # A normal median has the standard error √(π/2)/√n.
    expected = np.sqrt(np.pi / 2 / 401)
    assert np.mean([each.error for each in estimates if each.error is not None]) == pytest.approx(expected, rel=0.08)
    assert np.std([each.value for each in estimates if each.value is not None]) == pytest.approx(expected, rel=0.15)
    assert Estimate.median(np.array([np.nan, 3.0])) == Estimate(3.0, None)
    assert Estimate.median(np.array([np.nan])) == Estimate(None, None)
    assert Estimate.median(np.array([5.0, 1.0])) == Estimate(3.0, 2.0)


def in_phases(first: list[list[int]], second: list[list[int]], after: list[list[float]] | None = None) -> Runs:
    """Return runs with users per run and arm before and after a change, nobody of whom succeeded."""
    by_phase = np.array([first, second])
    users = by_phase.sum(axis=0)
    n, nothing = users.astype(np.float64), np.zeros(users.shape)
    suspended = None if after is None else np.array(after)
    return Runs(users, Totals(n, n, nothing, nothing, 0.0), np.full(len(users), 3), by_phase, suspended)


def test_regret_follows_the_laws_of_each_users_time() -> None:
    experiment = make_experiment()
    laws = [
        {arm: {"resolved": rate} for arm, rate in zip("AB", rates, strict=True)} for rates in ((0.3, 0.5), (0.3, 0.1))
    ]
    world = parse_world(experiment, {"variants": laws[0], "changes": [{"after_users": 100, "variants": laws[1]}]})
    runs = in_phases([[20, 80]], [[150, 50]])

    numbers = {name: estimate.value for name, estimate in score(experiment, world, runs).numbers.items()}

    assert numbers["regret"] == pytest.approx(20 * 0.2 + 50 * 0.2)
    reward = (20 * 0.3 + 80 * 0.5 + 150 * 0.3 + 50 * 0.1) / 300
    equal = (100 * 0.4 + 200 * 0.2) / 300
    assert numbers["reward_per_user"] == pytest.approx(reward)
    assert numbers["gain_over_fixed"] == pytest.approx(reward / equal - 1.0)
    assert numbers["share_best"] == pytest.approx((80 + 150) / 300)


def test_the_pick_reads_what_is_remembered() -> None:
    world = make_world([0.2, 0.3])
    runs = binary_runs([[50, 50]], [[25, 5]])

    assert score(world.experiment, world, runs).numbers["picked_best"].value == 0.0
    recent = Totals(*(np.array([[10.0, 10.0]]),) * 2, *(np.array([[1.0, 6.0]]),) * 2, 0.0)
    forgetful = replace(runs, remembered=recent)
    assert score(world.experiment, world, forgetful).numbers["picked_best"].value == 1.0


def test_a_suspended_variant_is_not_picked() -> None:
    world = make_world([0.2, 0.3, 0.1])
    runs = binary_runs([[50, 50, 50]] * 2, [[10, 25, 5]] * 2)

    suspended = replace(runs, suspended_after=np.array([[np.nan, 150.0, np.nan], [np.nan] * 3]))

    assert score(world.experiment, world, suspended).numbers["picked_best"].value == 0.5


def test_whoever_breaks_a_limit_and_who_is_suspended_wrongly_is_counted_by_the_truth_of_the_time() -> None:
    rails = [{"metric": "harmful", "kind": "binary", "max": 0.01}]
    experiment = make_experiment(3, guardrails=rails)
    # Control breaks the limit, but is not counted; B breaks it after the change, C never.
    laws = {arm: {"resolved": 0.3, "harmful": harm} for arm, harm in (("A", 0.5), ("B", 0.01), ("C", 0.005))}
    change = {"after_users": 100, "variants": {"B": {"harmful": 0.02}}}
    world = parse_world(experiment, {"variants": laws, "changes": [change]})
    nan = np.nan
    runs = in_phases(
        [[40, 30, 30]] * 4,
        [[200, 60, 0], [100, 100, 100], [300, 0, 0], [160, 40, 60]],
        [[nan, nan, nan], [nan, 100, nan], [nan, 150, nan], [nan, 200, 160]],
    )

    result = score(experiment, world, runs)

    assert result.limits["exposed_to_breach"].value == pytest.approx((60 + 100 + 0 + 40) / 4)
    # Run 2: suspended at 100 users, before the change; run 4: C, which keeps its limit.
    assert result.limits["false_suspensions"].value == pytest.approx(0.5)
    # All are equally good, but B is not allowed after the change.
    within = [1 - 60 / 360, 1 - 100 / 400, 1.0, 1 - 40 / 360]
    assert result.limits["share_best_within_limits"].value == pytest.approx(np.mean(within))
    assert list(result.suspensions) == ["B", "C"]
    b, c = result.suspensions.values()
    assert (b.breaks, b.suspended.value, b.after.value) == (True, 0.75, 150.0)
    assert (c.breaks, c.suspended.value, c.after.value) == (False, 0.25, 160.0)
    assert world.stretches[1].broken.tolist() == [True, True, False]


LIMITS: list[tuple[dict[str, object], object, object, bool]] = [
    ({"kind": "binary", "max": 0.1}, 0.05, 0.11, True),
    ({"kind": "binary", "max": 0.1}, 0.05, 0.1, False),
    ({"kind": "binary", "min": 0.9}, 0.95, 0.89, True),
    ({"kind": "binary", "max_increase": 0.2}, 0.1, 0.121, True),
    ({"kind": "binary", "max_increase": 0.2}, 0.1, 0.12, False),
    ({"kind": "binary", "max_decrease": 0.1}, 0.5, 0.44, True),
    ({"kind": "numeric", "max": 3.0}, {"mean": 2.0, "sd": 0.0}, {"mean": 3.1, "sd": 0.0}, True),
    ({"kind": "numeric", "max_increase": 0.5, "cap": 9.0}, {"mean": 2.0, "sd": 0.0}, {"mean": 3.0, "sd": 0.0}, False),
    ({"kind": "numeric", "quantile": 0.5, "max": 3.0}, {"mean": 2.0, "sd": 1.0}, {"mean": 3.0, "sd": 1.0}, False),
    ({"kind": "numeric", "quantile": 0.5, "max": 3.0}, {"mean": 2.0, "sd": 1.0}, {"mean": 3.1, "sd": 1.0}, True),
    (
        {"kind": "numeric", "quantile": 0.9, "max_increase": 0.5, "at": 3.0},
        {"mean": 2.0, "sd": 1.0},
        {"mean": 2.5, "sd": 1.0},
        True,
    ),
]


@pytest.mark.parametrize(("rail", "control", "treatment", "breaks"), LIMITS, ids=lambda part: str(part)[:45])
def test_an_arm_breaks_a_limit_if_its_true_level_is_beyond_it(
    rail: dict[str, object], control: object, treatment: object, breaks: bool
) -> None:
    experiment = make_experiment(guardrails=[{"metric": "m", **rail}])
    variants = {"A": {"resolved": 0.3, "m": control}, "B": {"resolved": 0.3, "m": treatment}}

    world = parse_world(experiment, {"variants": variants})

    assert world.broken.tolist() == [False, breaks]


def test_guardrails_are_expected_outcomes_of_the_users_there_were() -> None:
    experiment = make_experiment(guardrails=[{"metric": "harmful", "kind": "binary", "max": 0.01}])
    laws = {arm: {"resolved": 0.3, "harmful": harm} for arm, harm in (("A", 0.02), ("B", 0.06))}
    world = parse_world(experiment, {"variants": laws})

    (guardrail,) = score(experiment, world, binary_runs([[75, 25]], [[20, 9]])).guardrails

    assert guardrail.to_dict() == {
        "metric": "harmful",
        "statistic": "rate",
        "limit": 0.01,
        "per_user": pytest.approx(0.03),
        "per_user_se": None,
    }
