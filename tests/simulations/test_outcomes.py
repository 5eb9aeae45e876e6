"""Guarded metrics of whole epochs have the law of sums over their users."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bandit.arrays import FloatArray
from bandit.measures import BETTING_FRACTIONS, Z2, Z3, N, first_origin, measures_of
from bandit.measures import Z as Z1
from bandit.outcomes import outcome_value
from simulations.outcomes import Metric
from simulations.world_files import parse_world
from simulations.worlds import World
from tests.bandit.making import NUMERIC, make_experiment
from tests.simulations.making import Z, differ

RUNS = 3_000
LATENCY = {"metric": "latency", "kind": "numeric"}
LAW = {"mean": 100.0, "sd": 40.0, "law": "lognormal"}


def world_of(*rails: dict[str, Any], goal: dict[str, Any] | None = None, **laws: Any) -> World:  # noqa: ANN401 (laws)
    asked = make_experiment(guardrails=list(rails), goal=goal or {})
    return parse_world(asked, {"variants": {"A": laws, "B": laws}})


def drawn(world: World, users: int, metric: int = 0) -> tuple[Metric, list[FloatArray]]:
    """Return draws of one guarded metric, `RUNS` runs of A with this many users and B with none."""
    found = world.phases()[0].metrics[metric]
    return found, found.draw(np.random.default_rng(3), np.tile(np.array([users, 0]), (RUNS, 1)))


def by_user(world: World, users: int, place: int, origin: float) -> FloatArray:
    """Return the same rows of variant A from single users, as the engine books them; shape (RUNS, width)."""
    rng = np.random.default_rng(4)
    measure = measures_of(world.experiment)[place]
    rows = np.zeros((RUNS, measure.width))
    for run in range(RUNS):
        for _ in range(users):
            value = world.user(rng, "A")[measure.metric]
            rows[run] += measure.transforms(outcome_value(measure, measure.call(value)), origin)
    return rows


@pytest.mark.parametrize(
    "rail",
    [
        {"metric": "latency", "kind": "binary", "max": 0.1},
        LATENCY | {"quantile": 0.9, "max": 150.0},
        LATENCY | {"max": 120.0},
        LATENCY | {"max": 120.0, "cap": 180.0},
        LATENCY | {"max_increase": 0.1},
        LATENCY | {"quantile": 0.9, "max_increase": 0.1, "at": 130.0},
    ],
    ids=str,
)
def test_every_column_has_the_law_of_a_sum_over_users(rail: dict[str, Any]) -> None:
    users = 3
    world = world_of(rail, resolved=0.5, latency=0.2 if rail["kind"] == "binary" else LAW)

    metric, (rows,) = drawn(world, users)

    expected = by_user(world, users, 1, metric.origins[0])
    assert rows.shape == (RUNS, 2, expected.shape[1])
    assert (rows[:, 1] == 0.0).all()
    assert (rows[:, 0, N] == users).all()
    for column in range(1, expected.shape[1]):
        assert differ(rows[:, 0, column], expected[:, column]) < Z
        assert rows[:, 0, column].std() == pytest.approx(expected[:, column].std(), rel=0.3)


def test_measures_of_one_metric_are_about_the_same_values() -> None:
    rails = [LATENCY | {"quantile": level, "max": above} for level, above in ((0.9, 150.0), (0.5, 100.0))]
    relative = LATENCY | {"quantile": 0.9, "max_increase": 0.1, "at": 120.0}

    metric, (high, low, middle) = drawn(world_of(*rails, relative, resolved=0.5, latency=LAW), 50)

    assert metric.places == (1, 2, 3)
    assert (high[..., Z1] <= middle[..., Z1]).all()
    assert (middle[..., Z1] <= low[..., Z1]).all()
    for rows, measure in zip((high, low, middle), metric.measures, strict=True):
        share = metric.bounds.above(metric.laws[0], measure.above or 0.0)
        error = np.sqrt(share * (1.0 - share) / 50 / RUNS)
        assert abs(rows[:, 0, Z1].mean() / 50 - share) < Z * error
    # Those above 150 are a binomial part of those above 100.
    ratio = high[:, 0, Z1].sum() / low[:, 0, Z1].sum()
    expected = metric.bounds.above(metric.laws[0], 150.0) / metric.bounds.above(metric.laws[0], 100.0)
    assert ratio == pytest.approx(expected, rel=0.02)


def test_a_mean_and_a_share_of_one_metric_come_from_the_same_users() -> None:
    rails = [LATENCY | {"quantile": 0.9, "max": 100.0}, LATENCY | {"max": 110.0}]

    metric, (shares, means) = drawn(world_of(*rails, resolved=0.5, latency=LAW), 20)

    assert np.corrcoef(shares[:, 0, Z1], means[:, 0, Z1])[0, 1] > 0.6
    assert means.shape[-1] == 4 + len(BETTING_FRACTIONS)
    assert list(metric.origins) == pytest.approx([0.0, 100.0])


def test_a_goal_that_is_guarded_is_drawn_once() -> None:
    rail = {"metric": "resolved", "kind": "binary", "max_decrease": 0.1}
    phase = world_of(rail, resolved=0.5).phases()[0]
    users = np.full((200, 2), 30)

    goal, guarded = phase.draw((np.random.default_rng(1), np.random.default_rng(2)), users, np.arange(200), 2)
    plain = phase.goal.draw(np.random.default_rng(1), users, np.arange(200))

    assert guarded is not None
    np.testing.assert_array_equal(goal, guarded)
    np.testing.assert_array_equal(goal, plain)


def test_a_numeric_goal_that_is_guarded_has_all_its_powers() -> None:
    rail = NUMERIC | {"max_increase": 0.1}
    world = world_of(rail, goal=NUMERIC, score={"mean": 5.0, "sd": 1.0})
    assert len(measures_of(world.experiment)) == 1
    phase = world.phases()[0]

    (goal,) = phase.draw((np.random.default_rng(1), np.random.default_rng(2)), np.full((9, 2), 400), np.arange(9), 1)

    assert goal is not None
    assert np.isfinite(goal[..., Z3]).all()
    assert goal[..., Z2] / 400 == pytest.approx(1.0, abs=0.4)
    assert first_origin(world.experiment, 0) is None


def test_a_metric_that_nothing_guards_is_not_drawn() -> None:
    world = world_of({"metric": "harm", "kind": "binary", "max": 0.1}, LATENCY | {"max": 9.0}, resolved=0.5, harm=0.1)
    phase = world.phases()[0]
    luck = (np.random.default_rng(1), np.random.default_rng(2))

    found = phase.draw(luck, np.full((3, 2), 10), np.arange(3), 3)

    assert [rows is None for rows in found] == [False, False, True]
    assert world.phases(guarded=False)[0].metrics == ()
