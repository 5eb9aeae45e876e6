from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.errors import InvalidInput
from bandit.planning import ConfigChange, config_changes, ramp_days, traffic_of, users_at_floors
from tests.bandit.making import NUMERIC, make_experiment


def test_the_reward_window_is_added_to_the_days() -> None:
    asked = make_experiment(rewards={"window": "3d"}, rollout={"exposure": 0.5})

    schedule = traffic_of(asked, 1_000).schedule(5_000)

    assert (schedule.enrolled, schedule.days) == (5_000, 13)


def test_rewards_that_come_with_the_request_add_nothing() -> None:
    assert traffic_of(make_experiment(rewards={"window": "request"}), 100).schedule(1_000).days == 10


@pytest.mark.parametrize(("users", "min_days", "weeks"), [(100, 7, 1), (100, 8, 2), (1_401, 7, 3), (100, 0, 1)])
def test_weeks_are_whole_and_keep_to_min_days(users: int, min_days: float, weeks: int) -> None:
    asked = make_experiment(rewards={"window": "request"}, analysis={"min_days": min_days})

    assert traffic_of(asked, 100).schedule(users).weeks == weeks


@pytest.mark.parametrize(("missing", "enrolled"), [("ignore", 1_250), ("worst", 1_000), ("zero", 1_000)])
def test_users_without_an_outcome_are_needed_on_top_only_where_they_are_left_out(missing: str, enrolled: int) -> None:
    traffic = traffic_of(make_experiment(rewards={"missing": missing}), 100, response_rate=0.8)

    assert traffic.schedule(1_000).enrolled == enrolled


@given(st.floats(1, 1e6), st.floats(0.01, 1.0), st.floats(1, 400))
def test_the_users_of_some_days_come_in_those_days(per_day: float, exposure: float, days: float) -> None:
    asked = make_experiment(rewards={"window": "12h", "missing": "ignore"}, rollout={"exposure": exposure})
    traffic = traffic_of(asked, per_day, response_rate=0.7)

    users = math.floor(traffic.users_in(days))

    assert traffic.schedule(users).days <= math.ceil(days + 1 / (per_day * exposure) + 1e-6)
    assert traffic.schedule(users + 2).days >= math.floor(days)


def test_no_outcome_is_final_before_its_window_is_over() -> None:
    assert traffic_of(make_experiment(rewards={"window": "7d"}), 100).users_in(7) == 0


@pytest.mark.parametrize(
    ("per_day", "response", "fields"),
    [
        (0.0, None, ["users-per-day"]),
        (math.nan, None, ["users-per-day"]),
        (math.inf, None, ["users-per-day"]),
        (10.0, 0.0, ["response-rate"]),
        (10.0, 1.1, ["response-rate"]),
        (-1.0, math.nan, ["users-per-day", "response-rate"]),
    ],
)
def test_impossible_traffic_is_refused_by_name(per_day: float, response: float | None, fields: list[str]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        traffic_of(make_experiment(), per_day, response)

    assert [problem.field for problem in refusal.value.problems] == fields


@pytest.mark.parametrize(
    ("rollout", "enrolled"),
    [({"ramp": [0.1, 0.4]}, 400), ({"ramp": [0.1, 0.4], "exposure": 0.2}, 200), ({"ramp": [0.1, 1.0]}, 1_000)],
)
def test_the_days_are_those_of_the_last_step_of_a_ramp(rollout: dict[str, Any], enrolled: int) -> None:
    traffic = traffic_of(make_experiment(rollout=rollout, rewards={"window": "request"}), 1_000)

    assert traffic.users_in(1) == enrolled


@pytest.mark.parametrize(
    ("rollout", "days"),
    [
        ({}, 0.0),
        ({"exposure": 0.5}, 0.0),
        ({"ramp": [0.5]}, 0.0),
        ({"ramp": [0.01, 1.0]}, 50.0),  # 10 users a day, a fifth of them on the smallest treatment, which needs 100
        ({"ramp": [0.01, 0.1, 1.0]}, 55.0),
        ({"ramp": [0.01, 1.0], "ramp_users": 1}, 0.5),
        ({"ramp": [0.01, 0.1, 1.0], "ramp_users": 1, "ramp_after": "12h"}, 1.0),  # 0.5 for the users, 0.5 at least
        ({"ramp": [0.01, 0.1, 1.0], "exposure": 0.1}, 50.0),  # the step to 0.1 is the last one that lets more users in
    ],
)
def test_a_step_of_a_ramp_lasts_until_the_smallest_treatment_has_its_users(
    rollout: dict[str, Any], days: float
) -> None:
    asked = make_experiment(3, rollout=rollout)

    assert ramp_days(asked, traffic_of(asked, 1_000), (0.1, 0.7, 0.2)) == pytest.approx(days)


@pytest.mark.parametrize(
    ("rollout", "field"),
    [
        ({"exposure": 0.0}, "rollout.exposure"),
        ({"exposure": 1e-320}, "rollout.exposure"),
        ({"exposure": 1e-10, "ramp": [1e-12, 0.5]}, "rollout.exposure"),
        ({"ramp": [1e-320, 1e-10]}, "rollout.ramp"),
    ],
)
def test_hardly_anybody_enrolled_is_no_plan(rollout: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        traffic_of(make_experiment(rollout=rollout), 1_000)

    assert [problem.field for problem in refusal.value.problems] == [field]


def test_the_arm_with_the_smallest_floor_has_its_events_last() -> None:
    asked = make_experiment(3, policy={"floor": 0.05, "control_floor": 0.4})

    found = users_at_floors(asked, 0.2)

    assert found is not None
    assert (found.arm, found.floor, found.events, found.users) == ("B", 0.05, 25, 2_500)


def test_a_common_event_waits_for_its_non_events() -> None:
    asked = make_experiment(policy={"floor": 0.1, "control_floor": 0.1})
    common, rare = users_at_floors(asked, 0.9), users_at_floors(asked, 0.1)

    assert common == rare


def test_an_arm_without_a_floor_may_never_have_events() -> None:
    found = users_at_floors(make_experiment(policy={"floor": 0.0}), 0.2)

    assert found is not None
    assert found.users is None


@pytest.mark.parametrize("parts", [{"goal": NUMERIC}, {"policy": {"kind": "fixed"}}])
def test_means_and_fixed_splits_have_no_events_at_floors(parts: dict[str, Any]) -> None:
    assert users_at_floors(make_experiment(**parts), 0.2) is None


def changes(control: dict[str, Any], variant: dict[str, Any]) -> tuple[ConfigChange, ...]:
    variants = [{"key": "A", "control": True, "config": control}, {"key": "B", "config": variant}]
    return config_changes(make_experiment(variants=variants), 1)


def test_nested_keys_that_differ_are_named_by_their_path() -> None:
    control = {"model": {"name": "small", "limits": {"tokens": 100}}, "top_k": 5}
    variant = {"model": {"name": "large", "limits": {"tokens": 200}}, "top_k": 5}

    assert changes(control, variant) == (
        ConfigChange("model.name", '"small"', '"large"'),
        ConfigChange("model.limits.tokens", "100", "200"),
    )


def test_a_key_that_only_one_of_them_has_differs() -> None:
    assert changes({"a": None, "b": 1}, {"b": 1, "c": {"d": 2}}) == (
        ConfigChange("a", "null", None),
        ConfigChange("c", None, '{"d": 2}'),
    )


@pytest.mark.parametrize(
    ("old", "new", "differ"),
    [(1, 1.0, False), (1, True, True), ([1, 2], [2, 1], True), ({"a": [1]}, {"a": [1]}, False), ({}, [], True)],
)
def test_values_are_compared_as_values(old: object, new: object, differ: bool) -> None:
    assert bool(changes({"x": old}, {"x": new})) == differ


def test_control_does_not_differ_from_itself() -> None:
    assert config_changes(make_experiment(), 0) == ()
