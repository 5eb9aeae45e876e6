from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bandit import Bandit
from simulations.runner import run_epochs, run_users
from simulations.world_files import parse_world
from simulations.worlds import Successes
from tests.bandit.making import NUMERIC, make_experiment
from tests.simulations.making import PLAIN, Z, differ, make_world, run

POLICIES = ["fixed", "thompson", "top_two", "epsilon_greedy", "ucb", "explore_then_commit"]


def test_every_user_is_assigned_once_and_answers() -> None:
    world = make_world([0.3, 0.4, 0.5])

    runs = run(world, users=1_234, runs=20)

    assert (runs.assigned.sum(axis=1) == 1_234).all()
    assert (runs.totals.n == runs.assigned).all()
    assert (runs.totals.assigned == runs.assigned).all()
    assert (runs.totals.z <= runs.totals.n).all()


def test_horizons_may_differ_and_end_each_run_by_itself() -> None:
    experiment = make_experiment(policy=PLAIN | {"kind": "fixed"})
    horizons = np.array([0, 1, 50, 51, 1_000])

    runs = run_epochs(experiment, Successes(np.array([0.5, 0.5])), horizons, np.random.SeedSequence(1))

    assert runs.assigned.sum(axis=1).tolist() == horizons.tolist()
    assert runs.epochs.tolist() == [0, 1, 1, 2, 20]


def test_a_run_does_not_depend_on_shorter_ones_beside_it_in_law() -> None:
    experiment = make_experiment(policy=PLAIN)
    rates = np.array([0.3, 0.4])
    mixed = np.tile(np.array([300, 1_000]), 1_000)

    together = run_epochs(experiment, Successes(rates), mixed, np.random.SeedSequence(1)).assigned[1::2, 1]
    alone = run_epochs(experiment, Successes(rates), np.full(1_000, 1_000), np.random.SeedSequence(2)).assigned[:, 1]

    assert differ(together, alone) < Z


def test_epochs_grow_with_the_traffic() -> None:
    world = make_world([0.5, 0.5], policy={"kind": "fixed"})

    runs = run(world, users=1_000_000, runs=2)

    assert runs.epochs.tolist() == [353, 353]  # 50 of 50 users, then 2 % of all before


def test_the_same_seed_gives_the_same_runs() -> None:
    world = make_world([0.3, 0.4])

    first, again, other = (run(world, users=500, runs=10, seed=seed) for seed in (1, 1, 2))

    assert (first.assigned == again.assigned).all()
    assert (first.totals.z == again.totals.z).all()
    assert (first.assigned != other.assigned).any()


def test_whoever_watches_is_told_of_every_user() -> None:
    world = make_world([0.3, 0.4])
    seen: list[int] = []

    run_epochs(world.experiment, world.outcomes, np.array([300, 500]), np.random.SeedSequence(1), seen.append)

    assert sum(seen) == 800


def test_a_policy_that_has_committed_reads_no_more_but_the_run_remembers_all() -> None:
    world = make_world([0.2, 0.8], policy=PLAIN | {"kind": "explore_then_commit", "explore_users": 200})

    runs = run(world, users=2_000, runs=50)

    assert (runs.totals.n.sum(axis=1) == 2_000).all()
    assert runs.assigned[:, 1].mean() > 1_800


def test_a_commitment_outlasts_the_runs_that_end_beside_it() -> None:
    policy = PLAIN | {"kind": "explore_then_commit", "explore_users": 100}
    experiment = make_experiment(policy=policy)
    horizons = np.concatenate([np.arange(150, 1_000, 50), np.full(200, 1_000)])

    runs = run_epochs(experiment, Successes(np.array([0.5, 0.5])), horizons, np.random.SeedSequence(1))

    untied = (runs.assigned[-200:] != 0).all(axis=1) & (runs.assigned[-200:].min(axis=1) < 200)
    assert untied.sum() > 150
    assert runs.assigned[-200:][untied].min(axis=1).max() < 100  # none but explorers on the arm not committed to


def test_polyas_urn() -> None:
    # Both arms always succeed, Beta(1, 1), an allocation per user: the number of users of an arm is uniform on
    # 0 .. T, with mean T/2 and variance of the share (1 + 2/T)/12, exactly.
    users, n_runs = 60, 6_000
    goal = {"baseline": 0.5}  # this prior is Beta(1, 1)
    world = make_world([1.0, 1.0], goal=goal, policy=PLAIN | {"min_batch": 1})

    counts = run(world, users, n_runs).assigned[:, 0]

    share = counts / users
    assert abs(share.mean() - 0.5) < Z * np.sqrt((1 + 2 / users) / 12 / n_runs)
    seen = np.bincount(counts, minlength=users + 1)
    expected = n_runs / (users + 1)
    chi_square = ((seen - expected) ** 2 / expected).sum()
    assert abs(chi_square - users) < Z * np.sqrt(2 * users)


def test_arms_that_always_fail_share_the_traffic() -> None:
    world = make_world([0.0, 0.0], goal={"baseline": 0.5}, policy=PLAIN | {"min_batch": 1})

    share = run(world, 100, 1_000).assigned[:, 0] / 100

    assert abs(share.mean() - 0.5) < Z * share.std() / np.sqrt(1_000)
    assert share.std() < 0.06


@pytest.mark.parametrize(
    ("floors", "published"),
    [(0.0, 22.9), (0.01, 27.1), (0.05, 43.2)],  # Bernoulli .25/.2, T = 10,000, batches of 50, s.e. <= 3 %
)
def test_regret_of_thompson_sampling_agrees_with_an_independent_simulation(floors: float, published: float) -> None:
    policy = PLAIN | {"floor": floors, "control_floor": floors}
    world = make_world([0.25, 0.2], goal={"baseline": 0.5}, policy=policy)

    regret = 0.05 * run(world, 10_000, 1_500).assigned[:, 1]

    error = np.hypot(regret.std() / np.sqrt(len(regret)), 0.03 * published)
    assert abs(regret.mean() - published) < Z * error


@pytest.mark.parametrize("kind", POLICIES)
def test_relabelled_arms_give_relabelled_results(kind: str) -> None:
    policy = {"kind": kind, "control_floor": 0.0}
    rates = [0.25, 0.3, 0.35]

    forward = run(make_world(rates, policy=policy), 1_500, 600, seed=1).assigned
    backward = run(make_world(rates[::-1], policy=policy), 1_500, 600, seed=2).assigned[:, ::-1]

    assert all(differ(forward[:, arm], backward[:, arm]) < Z for arm in range(3))


@pytest.mark.parametrize("kind", POLICIES)
def test_lower_is_better_with_failures_is_higher_is_better_with_successes(kind: str) -> None:
    rates = np.array([0.25, 0.3])

    higher = run(make_world(rates.tolist(), policy={"kind": kind}), 1_500, 600, seed=1).assigned
    lower = make_world((1 - rates).tolist(), policy={"kind": kind}, goal={"better": "lower"})

    assert differ(higher[:, 1], run(lower, 1_500, 600, seed=2).assigned[:, 1]) < Z


MODES: list[tuple[str, dict[str, Any], list[Any]]] = [
    ("binary", {"policy": {"warmup": 20, "min_batch": 20}}, [0.2, 0.5, 0.4]),
    ("lower", {"policy": {"kind": "ucb", "min_batch": 20}, "goal": {"better": "lower"}}, [0.5, 0.3, 0.4]),
    ("normal", {"goal": NUMERIC, "policy": {"min_batch": 30}}, [{"mean": m, "sd": 2} for m in (5, 5.8, 5.4)]),
    (
        "lognormal",
        {"goal": NUMERIC | {"cap": 9.0, "baseline": 5.0}, "policy": {"kind": "top_two", "min_batch": 30}},
        [{"mean": m, "sd": 2, "law": "lognormal"} for m in (5, 5.8, 5.4)],
    ),
]


@pytest.mark.parametrize(("parts", "laws"), [mode[1:] for mode in MODES], ids=[mode[0] for mode in MODES])
def test_whole_epochs_and_single_users_have_the_same_law(parts: dict[str, Any], laws: list[Any]) -> None:
    users, n_runs = 300, 150
    world = make_world(laws, **parts)
    metric, rng = world.experiment.goal.metric, np.random.default_rng(5)
    by_user, outcomes = np.zeros((n_runs, 3)), np.zeros(n_runs)
    for i in range(n_runs):
        asked = world.experiment.with_salt(f"salt-{i}")
        records = run_users(asked, map(str, range(users)), lambda _, arm: world.user(rng, arm))
        for record in records:
            by_user[i, asked.arm(record.arm)] += 1
        cap = world.experiment.goal.cap or np.inf
        outcomes[i] = np.mean([min(record.outcomes[metric], cap) for record in records])

    runs = run(world, users, 3_000)

    sign = 1.0 if world.experiment.goal.better == "higher" else -1.0
    assert all(differ(by_user[:, arm], runs.assigned[:, arm].astype(float)) < Z for arm in range(3))
    assert differ(outcomes, sign * (runs.totals.origin + runs.totals.z.sum(axis=1) / users)) < Z
    # The spread from run to run is the same too; s.e. of a standard deviation <= 1.5 sd / sqrt(2 runs) here.
    spread = runs.assigned[:, 1].std()
    assert abs(by_user[:, 1].std() - spread) < Z * 1.5 * spread / np.sqrt(2 * n_runs)


def test_numeric_goals_move_traffic_to_the_better_mean() -> None:
    laws = [{"mean": 1e6 + shift, "sd": 1.0} for shift in (0.0, 0.5)]
    world = make_world(laws, goal=NUMERIC)

    share = run(world, 3_000, 100).assigned[:, 1] / 3_000

    assert share.mean() > 0.7  # at most 0.8: control keeps 0.20


def test_a_record_says_what_a_user_got_with_which_probability() -> None:
    experiment = make_experiment(policy={"min_batch": 4, "growth": 0.0, "warmup": 2})

    records = run_users(experiment, [f"u{i}" for i in range(12)], lambda _, arm: {"resolved": float(arm == "B")})

    assert [record.epoch for record in records] == [1] * 4 + [2] * 4 + [3] * 4
    assert all(record.outcomes == {"resolved": float(record.arm == "B")} for record in records)
    assert {record.propensity for record in records[:4]} == {0.5}
    later = [record.propensity for record in records[8:] if record.arm == "B" and record.propensity is not None]
    assert min(later) > 0.5


def test_a_bandit_can_be_handed_over_and_returning_users_keep_their_arm() -> None:
    bandit = Bandit(make_experiment())

    records = run_users(bandit, ["u1", "u2", "u1"], lambda *_: {"resolved": 1.0})

    assert records[0].arm == records[2].arm
    assert bandit.ledger.assigned.sum() == 2


def test_users_outside_the_exposure_get_control_and_no_epoch() -> None:
    experiment = make_experiment(rollout={"exposure": 0.0})

    records = run_users(experiment, ["u1"], lambda *_: {"resolved": 1.0})

    assert (records[0].arm, records[0].propensity, records[0].epoch) == ("A", None, None)


def test_a_world_of_guardrails_answers_single_users() -> None:
    rail = {"metric": "latency", "kind": "numeric", "quantile": 0.95, "max": 100.0}
    experiment = make_experiment(guardrails=[rail])
    laws = {"resolved": 0.5, "latency": {"mean": 50, "sd": 10}}
    world = parse_world(experiment, {"variants": {"A": laws, "B": laws}})
    rng = np.random.default_rng(1)

    records = run_users(experiment, ["u1"], lambda _, arm: world.user(rng, arm))

    assert set(records[0].outcomes) == {"resolved", "latency"}
