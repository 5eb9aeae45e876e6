"""Paths are what loops over the same epochs give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bandit.engine import posterior_of
from simulations.compare import compare
from simulations.decisions import decisions
from simulations.paths import CREDIBLE, MOST_POINTS, path_of, thinned
from simulations.records import Tape
from simulations.runner import Runs, run_epochs
from simulations.world_files import parse_world
from simulations.worlds import World
from tests.bandit.making import make_experiment
from tests.simulations.making import make_world

RUNS = 6


def taped(world: World, users: int, runs: int = RUNS) -> tuple[Tape, Runs]:
    tape = Tape()
    horizons = np.full(runs, users, dtype=np.int64)
    return tape, run_epochs(world.experiment, world.phases(), horizons, np.random.SeedSequence(3), tape=tape)


WORLDS: list[tuple[list[object], dict[str, Any]]] = [
    ([0.3, 0.4], {}),
    ([0.3, 0.2, 0.25], {"goal": {"better": "lower"}}),
    ([{"mean": 105.0, "sd": 20.0}, {"mean": 110.0, "sd": 20.0}], {"goal": {"metric": "score", "kind": "numeric"}}),
    (
        [{"mean": 105.0, "sd": 20.0}, {"mean": 100.0, "sd": 20.0}],
        {"goal": {"metric": "score", "kind": "numeric", "better": "lower"}},
    ),
]


@pytest.mark.parametrize(("laws", "parts"), WORLDS)
def test_a_path_is_what_loops_over_epochs_give(laws: list[object], parts: dict[str, Any]) -> None:
    world = make_world(laws, policy={"min_batch": 100}, **parts)
    tape, _ = taped(world, 1_500)

    path = path_of(world.experiment, world, tape)

    sign = 1.0 if world.experiment.goal.better == "higher" else -1.0
    best = max(sign * mean for mean in world.means)
    lost, given = np.zeros(RUNS), np.zeros(RUNS)
    for epoch, assigned in enumerate(tape.assigned):
        for run in range(RUNS):
            for arm, mean in enumerate(world.means):
                lost[run] += assigned[run, arm] * (best - sign * mean)
                given[run] += assigned[run, arm] * mean
        assert path.users[epoch] == sum(int(each[0].sum()) for each in tape.assigned[: epoch + 1])
        assert path.regret.mean[epoch] == pytest.approx(lost.mean())
        assert path.regret.low[epoch] == pytest.approx(np.quantile(lost, 0.1))
        assert path.regret.high[epoch] == pytest.approx(np.quantile(lost, 0.9))
        assert path.reward.mean[epoch] == pytest.approx((given / path.users[epoch]).mean())
        assert path.allocation.mean[epoch] == pytest.approx(tape.p[epoch].mean(axis=0))
    assert path.truth == pytest.approx(np.tile(world.means, (len(path.users), 1)))
    assert path.decided_after.tolist() == decisions(world.experiment, tape).users.tolist()


@pytest.mark.parametrize(("laws", "parts"), WORLDS)
def test_posteriors_are_in_the_metrics_own_unit_and_direction(laws: list[object], parts: dict[str, Any]) -> None:
    """After 60,000 users the interval is narrow, holds about the truth, and is the engine's of the run's totals."""
    world = make_world(laws, policy={"kind": "fixed"}, **parts)
    tape, runs = taped(world, 60_000, 2)

    path = path_of(world.experiment, world, tape)

    posterior = posterior_of(world.experiment, runs.totals)
    width = (posterior.quantile(0.5 + CREDIBLE / 2) - posterior.quantile(0.5 - CREDIBLE / 2)).mean(axis=0)
    assert path.posterior.high[-1] - path.posterior.low[-1] == pytest.approx(width)
    assert path.posterior.mean[-1] == pytest.approx(world.means, abs=float(width.max()))
    assert (path.posterior.low < path.posterior.mean).all()
    assert (path.posterior.mean < path.posterior.high).all()
    assert (path.posterior.high[0] - path.posterior.low[0] > 5 * width).all()


def test_a_policy_that_forgets_believes_what_it_remembers() -> None:
    world = make_world([0.3, 0.4], policy={"half_life": 500})
    tape, runs = taped(world, 5_000)

    path = path_of(world.experiment, world, tape)

    assert runs.remembered is not None
    assert path.posterior.mean[-1] == pytest.approx(posterior_of(world.experiment, runs.remembered).mean.mean(axis=0))
    assert path.posterior.mean[-1] != pytest.approx(posterior_of(world.experiment, runs.totals).mean.mean(axis=0))


def test_allocations_are_probabilities() -> None:
    world = make_world([0.3, 0.4, 0.35])
    path = path_of(world.experiment, world, taped(world, 2_000)[0])

    assert path.allocation.mean.sum(axis=-1) == pytest.approx(np.ones(len(path.users)))
    assert (path.allocation.low >= 0.0).all()
    assert (path.allocation.high <= 1.0).all()
    assert (path.allocation.low <= path.allocation.high).all()


def test_the_ends_of_paths_are_the_scores() -> None:
    rails = [{"metric": "harmful", "kind": "binary", "per_user": "any", "max": 0.01}]
    laws = {arm: {"resolved": rate, "harmful": h} for arm, rate, h in (("A", 0.3, 0.005), ("B", 0.4, 0.1))}
    world = parse_world(make_experiment(guardrails=rails), {"variants": laws})

    result = compare(world, ["thompson", "fixed"], users=2_000, replications=20, draw=True)

    assert list(result.paths) == list(result.policies)
    for name, path in result.paths.items():
        score = result.policies[name]
        assert path.users[-1] == 2_000
        assert path.regret.mean[-1] == pytest.approx(score.numbers["regret"].value)
        assert path.reward.mean[-1] == pytest.approx(score.numbers["reward_per_user"].value)
        assert path.exposed.mean[-1] == pytest.approx(score.limits["exposed_to_breach"].value)
        assert path.exposed.mean[-1] > 0.0
        until = np.minimum(path.decided_after, 2_000)
        assert until.tolist() == score.each["users_to_decision"].tolist()


def test_pictures_change_no_number_and_are_kept_only_when_asked_for() -> None:
    world = make_world([0.3, 0.4])
    plain = compare(world, ["thompson"], users=500, replications=5)
    drawn = compare(world, ["thompson"], users=500, replications=5, draw=True)

    assert plain.paths == {}
    assert drawn.to_dict() == plain.to_dict()
    undecided = compare(world, ["thompson"], users=500, replications=5, decide=False, draw=True)
    assert undecided.policies["thompson"].deciding == {}
    assert list(undecided.paths) == ["thompson"]


def test_an_epoch_in_which_the_world_changes_is_counted_in_proportion() -> None:
    """Changes come after 150 users, in the middle of the second epoch of 100."""
    change = {"after_users": 150, "variants": {"A": {"resolved": 0.5}}}
    laws = {"A": {"resolved": 0.3}, "B": {"resolved": 0.4}}
    asked = make_experiment(policy={"min_batch": 100, "growth": 0.0, "kind": "fixed"})
    world = parse_world(asked, {"variants": laws, "changes": [change]})
    tape, runs = taped(world, 300, 2_000)

    path = path_of(world.experiment, world, tape)

    assert path.truth.tolist() == [[0.3, 0.4], pytest.approx([0.4, 0.4]), [0.5, 0.4]]
    lost = 0.1 * (runs.in_phases[0, :, 0] + runs.in_phases[1, :, 1])
    assert path.regret.mean[-1] == pytest.approx(lost.mean(), abs=4 * 0.1 * 300**0.5 / 2 / 2_000**0.5)


@pytest.mark.parametrize(
    "ends", [np.arange(50, 10**6, 50), np.array([7]), np.arange(1, 201), np.cumsum(np.full(300, 3)), np.array([1, 10])]
)
def test_thinning_keeps_both_ends_and_few_points(ends: np.ndarray[Any, np.dtype[np.int64]]) -> None:
    kept = thinned(ends)

    assert (kept[0], kept[-1]) == (0, len(ends) - 1)
    assert min(len(ends), MOST_POINTS // 2) <= len(kept) <= min(len(ends), MOST_POINTS)
    assert (np.diff(kept) > 0).all()


def test_a_long_run_is_thinned_and_still_ends_at_its_score() -> None:
    world = make_world([0.3, 0.4], policy={"min_batch": 10, "growth": 0.0})

    result = compare(world, ["fixed"], users=5_000, replications=3, draw=True, decide=False)

    path = result.paths["fixed"]
    assert 100 < len(path.users) <= MOST_POINTS
    assert path.users[0] == 10
    assert path.regret.mean[-1] == pytest.approx(result.policies["fixed"].numbers["regret"].value)
