from __future__ import annotations

import math

import pytest
from scipy import stats

from bandit.errors import InvalidInput
from bandit.planning import plan
from tests.bandit.making import NUMERIC, make_experiment


def test_the_public_guides_example_needs_1872_users_per_variant() -> None:
    """statsmodels 0.14 `zt_ind_solve_power(0.038/sqrt(.779*.221), alpha=.05, power=.8)` gives 1871.54."""
    result = plan(make_experiment(goal={"mde": 0.05}), baseline=0.76)

    assert result.users_per_variant == 1872
    assert result.cohens_h == pytest.approx(2 * math.asin(math.sqrt(0.798)) - 2 * math.asin(math.sqrt(0.76)))


def test_a_click_rate_of_4_against_5_percent_comes_near_the_published_number() -> None:
    """Scott (2015) prints 22,330 in all at power .95, with unpooled variance under the alternative."""
    result = plan(make_experiment(goal={"mde": 0.25, "baseline": 0.04}), power=0.95)

    assert 2 * result.users_per_variant == pytest.approx(22330, rel=5e-4)


@pytest.mark.parametrize(("baseline", "mde", "power"), [(0.3, 0.1, 0.8), (0.02, 0.5, 0.9), (0.5, 0.9, 0.06)])
def test_the_planned_number_is_the_smallest_that_reaches_the_power(baseline: float, mde: float, power: float) -> None:
    result = plan(make_experiment(goal={"mde": mde}), baseline, power=power)

    def reached(users: int) -> float:
        shift, critical = result.effect_size * math.sqrt(users / 2), stats.norm.ppf(0.975)
        return float(stats.norm.sf(critical - shift) + stats.norm.cdf(-critical - shift))

    assert reached(result.users_per_variant) >= power > reached(result.users_per_variant - 1)


def test_lower_is_better_plans_for_a_decrease() -> None:
    result = plan(make_experiment(goal={"mde": 0.1, "better": "lower"}), 0.5)

    assert result.target == pytest.approx(0.45)


def test_a_numeric_goal_is_planned_with_its_standard_deviation() -> None:
    result = plan(make_experiment(goal=NUMERIC | {"mde": 0.02}), baseline=4.0, sd=0.8)

    users = 2 * ((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * 0.8 / 0.08) ** 2
    assert result.users_per_variant == math.ceil(users)
    assert result.cohens_h is None


@pytest.mark.parametrize(
    ("goal", "arguments", "field"),
    [
        ({}, {}, "baseline"),
        ({}, {"baseline": 1.2}, "baseline"),
        ({}, {"baseline": math.nan}, "baseline"),
        ({"mde": 0.5}, {"baseline": 0.9}, "goal.mde"),
        ({}, {"baseline": 0.3, "power": 1.0}, "power"),
        ({}, {"baseline": 0.3, "power": 0.05}, "power"),
        ({}, {"baseline": 0.3, "sd": 1.0}, "sd"),
        (NUMERIC, {"baseline": 4.0}, "sd"),
        (NUMERIC, {"baseline": 4.0, "sd": 0.0}, "sd"),
        (NUMERIC, {"baseline": 0.0, "sd": 1.0}, "baseline"),
        (NUMERIC, {"baseline": 1e308, "sd": 1.0}, "baseline"),
        (NUMERIC, {"baseline": 1.0, "sd": 1e200}, "sd"),
        ({"mde": 1e-17}, {"baseline": 0.3}, "goal.mde"),
    ],
)
def test_what_cannot_be_planned_is_refused_by_name(
    goal: dict[str, object], arguments: dict[str, float], field: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        plan(make_experiment(goal=goal), **arguments)

    assert [problem.field for problem in refusal.value.problems] == [field]


def test_a_negative_baseline_is_planned_for_a_gain() -> None:
    assert plan(make_experiment(goal=NUMERIC | {"mde": 0.05}), baseline=-10.0, sd=3.0).target == -9.5
