"""The frontier of a plan: reward against the time to a decision, floor by floor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bandit.experiment import Experiment
from simulations.commands import app
from simulations.compare import compare
from simulations.plans.frontier import Frontier, frontier, planned_world
from simulations.plans.frontier_text import frontier_parts
from simulations.plans.sizing import sizing
from tests.bandit.making import make_experiment


def asked(n_arms: int = 2, **policy: object) -> Experiment:
    return make_experiment(n_arms, goal={"baseline": 0.3, "mde": 0.3}, policy=policy)


def found(experiment: Experiment, users: int | None = None) -> Frontier:
    return frontier(sizing(experiment, 1000.0), users=users, replications=100, seed=2)


def test_the_world_is_the_plans_own() -> None:
    world = planned_world(asked(3), sizing(asked(3), 1000.0), None)
    assert [law.mean for law in world.laws["resolved"]] == pytest.approx([0.3, 0.39, 0.3])

    lower = make_experiment(2, goal={"baseline": 5.0, "mde": 0.1, "kind": "numeric", "better": "lower"})
    (control, treatment) = planned_world(lower, sizing(lower, 1000.0, sd=2.0), 2.0).laws["resolved"]
    assert (control.mean, treatment.mean) == pytest.approx((5.0, 4.5))


def test_a_point_has_the_numbers_of_compare() -> None:
    experiment = asked(floor=0.1, control_floor=0.2)
    point = found(experiment, users=2_000).points[0]

    world = planned_world(experiment, sizing(experiment, 1000.0), None)
    same = compare(world, ["thompson", "fixed"], users=2_000, replications=100, seed=2)
    assert point.score == same.policies["thompson"]
    assert point.over_fixed == same.against_fixed("thompson")
    assert point.days == pytest.approx(point.score.until_decision / 1_000.0)


def test_lower_floors_gain_more_and_decide_later() -> None:
    points = found(asked()).points[1:]
    floors = [point.setting.floor for point in points]
    assert floors == [0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4]
    gains = [point.over_fixed["reward_per_user"].value or 0.0 for point in points]
    users = [point.score.until_decision for point in points]
    assert gains == sorted(gains, reverse=True)
    assert users[0] > users[3] > users[-1]


def test_what_decides_too_seldom_is_not_advised() -> None:
    one = found(asked())
    decided = {point.setting.floor: point.score.deciding["decided"].value or 0.0 for point in one.points}
    assert decided[0.0] < 0.8
    assert one.best.setting.floor != 0.0
    gains = {
        point.setting.floor: point.over_fixed["reward_acted_on"].value or 0.0
        for point in one.points
        if decided[point.setting.floor] >= 0.8
    }
    assert gains[one.best.setting.floor] == max(gains.values())


def test_a_plan_for_a_fixed_split_is_tried_with_thompson_sampling_and_half_lives_in_time_do_not_act() -> None:
    assert found(asked(kind="fixed"), users=200).points[0].setting.policy == "thompson"
    assert found(asked(half_life="7d"), users=200).points[0].score == found(asked(), users=200).points[0].score


def test_it_ends_in_advice() -> None:
    one = found(asked(4))
    _, advice, legend, world = frontier_parts(sizing(asked(4), 1000.0), one)
    assert isinstance(advice, str)
    assert advice.startswith("Launch thompson with")
    assert "control at 0.3, one variant at 0.39" in str(world)
    assert "same luck" in str(legend)

    hopeless = found(asked(), users=60)  # nothing can be decided
    assert hopeless.best is hopeless.fixed
    assert str(frontier_parts(sizing(asked(), 1000.0), hopeless)[1]).startswith("Launch a fixed split")


def test_the_command_shows_and_writes_it(tmp_path: Path) -> None:
    file = tmp_path / "e.toml"
    file.write_text(
        'key = "x"\nvariants = [{ key = "A", control = true }, { key = "B" }]\n'
        'goal = { metric = "resolved", kind = "binary", baseline = 0.3, mde = 0.3 }\n'
    )
    base = ["plan", str(file), "--users-per-day", "500", "--bandit", "--replications", "20", "--horizon", "300"]
    shown = CliRunner().invoke(app, base)
    assert shown.exit_code == 0, shown.output
    assert "Moving traffic, by simulation" in shown.output
    alone = CliRunner().invoke(app, [*base[:4], "--charts", str(tmp_path / "pictures")])
    assert (alone.exit_code, "--bandit" in alone.output) == (2, True), alone.output
    drawn = CliRunner().invoke(app, [*base, "--charts", str(tmp_path / "pictures")])
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "pictures" / "frontier.svg").read_text().startswith("<svg")
    document = json.loads(CliRunner().invoke(app, [*base, "--json", "-"]).output)
    assert list(document["bandit"]) == ["users", "replications", "seed", "points", "fixed", "power", "best"]
    assert document["bandit"]["users"] == 300
    assert document["bandit"]["points"][1]["floor"] == 0.0
    assert document["bandit"]["points"][1]["reward_acted_on_over_fixed_se"] > 0.0


def test_where_lower_is_better_a_gain_is_less() -> None:
    experiment = make_experiment(4, goal={"baseline": 0.3, "mde": 0.3, "better": "lower"})
    one = found(experiment)
    assert one.best is not one.fixed
    assert (one.best.over_fixed["reward_acted_on"].value or 0.0) < 0.0
    _, advice, *_ = frontier_parts(sizing(experiment, 1000.0), one)
    assert str(advice).startswith("Launch thompson with")
    assert one.sign == -1.0


def test_what_the_world_has_not_as_the_plan_is_said() -> None:
    experiment = make_experiment(2, goal={"kind": "numeric", "range": [1, 5], "baseline": 4.5, "mde": 0.05})
    sized = sizing(experiment, 1000.0, sd=1.0)
    one = frontier(sized, 1.0, users=200, replications=5)
    assert any("cut to goal.range" in str(part) for part in frontier_parts(sized, one))
