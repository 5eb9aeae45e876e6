from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bandit.arrays import FloatArray
from bandit.errors import InvalidInput
from bandit.inference.welch import welch_p_value
from bandit.planning import Effect, effect_of, not_worse, one_look, plan, shares_of, smallest_mde
from tests.bandit.making import NUMERIC, make_experiment

Z = 3.9
"""Standard errors that luck exceeds once in about 10,000 tests."""

REPLICATIONS = 20_000

Samples = tuple[FloatArray, FloatArray]


def rates(rng: np.random.Generator, rate: float, users: int) -> Samples:
    """Return mean and unbiased variance of many samples of 0 and 1."""
    mean = rng.binomial(users, rate, REPLICATIONS) / users
    return mean, mean * (1 - mean) * users / (users - 1)


def normals(rng: np.random.Generator, mean: float, sd: float, users: int) -> Samples:
    """Return mean and unbiased variance of many normal samples, by their laws."""
    means = rng.normal(mean, sd / math.sqrt(users), REPLICATIONS)
    return means, sd**2 * rng.chisquare(users - 1, REPLICATIONS) / (users - 1)


def welch_power(control: Samples, arm: Samples, users: tuple[int, int], level: float) -> float:
    difference = arm[0] - control[0]
    counts = [np.full(REPLICATIONS, float(n)) for n in users]
    p = welch_p_value(difference, arm[1] / users[1], control[1] / users[0], counts[1], counts[0])
    return float(np.mean(p <= level))


def error(power: float) -> float:
    return math.sqrt(power * (1 - power) / REPLICATIONS)


@pytest.mark.parametrize(
    ("baseline", "mde", "better", "split"),
    [
        (0.76, 0.05, "higher", (0.5, 0.5)),
        (0.30, 0.20, "lower", (0.5, 0.5)),
        (0.10, 0.30, "higher", (0.6, 0.25, 0.15)),
        (0.10, 0.30, "higher", (0.1, 0.45, 0.45)),
    ],
)
def test_welchs_test_of_rates_has_the_power_that_was_planned(
    baseline: float, mde: float, better: str, split: tuple[float, ...]
) -> None:
    asked = make_experiment(len(split), goal={"mde": mde, "baseline": baseline, "better": better})
    effect = effect_of(asked)
    rng = np.random.default_rng(11)

    size = one_look(asked, effect, split, 0.8)

    users = (size.users[0], min(size.users[1:]))
    control, arm = rates(rng, baseline, users[0]), rates(rng, effect.target, users[1])
    # beside the luck: the plan counts Δ²/4 more variance than there is, and a rate is a lattice
    assert welch_power(control, arm, users, size.level) == pytest.approx(0.8, abs=Z * error(0.8) + 0.006)


@pytest.mark.parametrize(("power", "split"), [(0.8, (0.5, 0.5)), (0.9, (0.5, 0.3, 0.2))])
def test_welchs_test_of_means_has_the_power_that_was_planned(power: float, split: tuple[float, ...]) -> None:
    asked = make_experiment(len(split), goal=NUMERIC | {"mde": 0.02, "baseline": 4.0})
    rng = np.random.default_rng(12)

    size = one_look(asked, effect_of(asked, sd=0.8), split, power)

    users = (size.users[0], min(size.users[1:]))
    control, arm = normals(rng, 4.0, 0.8, users[0]), normals(rng, 4.08, 0.8, users[1])
    assert welch_power(control, arm, users, size.level) == pytest.approx(power, abs=Z * error(power) + 0.002)


def test_an_equal_split_of_two_is_the_plain_plan() -> None:
    asked = make_experiment(goal={"baseline": 0.76})

    size = one_look(asked, effect_of(asked), (0.5, 0.5), 0.8)

    assert size.users == (1872, 1872)
    assert size.users[0] == plan(asked).users_per_variant


def test_several_variants_share_alpha() -> None:
    """Bonferroni: three treatments are each tested at 0.05/3."""
    asked = make_experiment(4, goal={"baseline": 0.3, "mde": 0.1})

    size = one_look(asked, effect_of(asked), (0.25,) * 4, 0.8)

    shift = stats.norm.ppf(1 - 0.05 / 6) + stats.norm.ppf(0.8)
    assert size.level == pytest.approx(0.05 / 3)
    assert size.users == (math.ceil(2 * (shift / effect_of(asked).size) ** 2),) * 4


def test_the_smallest_arm_decides_the_total_of_a_split() -> None:
    asked = make_experiment(3, goal=NUMERIC | {"mde": 0.1, "baseline": 10.0})

    size = one_look(asked, effect_of(asked, sd=4.0), (0.5, 0.3, 0.2), 0.8)

    n_control, n_arm = size.users[0], size.users[2]
    reached = 1.0 / (4.0 * math.sqrt(1 / n_control + 1 / n_arm))
    assert reached == pytest.approx(stats.norm.isf(0.05 / 4) + stats.norm.ppf(0.8), rel=1e-3)
    assert size.total == sum(size.users)


@given(st.floats(0.05, 0.9), st.floats(0.02, 0.5), st.floats(0.1, 0.8))
def test_no_unequal_split_of_a_mean_needs_fewer_users_than_the_equal_one(power: float, mde: float, a: float) -> None:
    asked = make_experiment(goal=NUMERIC | {"mde": mde, "baseline": 4.0})
    effect = effect_of(asked, sd=2.0)
    power = max(power, 0.06)

    equal, unequal = (one_look(asked, effect, split, power) for split in ((0.5, 0.5), (a, 1 - a)))

    assert unequal.total >= equal.total - 2  # each arm is rounded up


@pytest.mark.parametrize("split", [{"A": 0.5, "B": 0.3, "C": 0.2}, None])
def test_the_split_of_a_fixed_policy_is_planned(split: dict[str, float] | None) -> None:
    policy: dict[str, Any] = {"kind": "fixed"} | ({} if split is None else {"split": split})

    shares = shares_of(make_experiment(3, policy=policy))

    assert shares == pytest.approx((1 / 3,) * 3 if split is None else (0.5, 0.3, 0.2))


def test_a_bandit_is_planned_as_an_equal_split_unless_one_is_given() -> None:
    asked = make_experiment(policy={"kind": "thompson"})

    assert shares_of(asked) == (0.5, 0.5)
    assert shares_of(asked, {"B": 0.25, "A": 0.75}) == (0.75, 0.25)


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ({"A": 0.5, "B": 0.4}, "sum to 0.9"),
        ({"A": 0.5, "X": 0.5}, "unknown variant"),
        ({"A": 1.0, "B": 0.0}, "'B' no users"),
        ({"A": 1.5, "B": -0.5}, "0 or more"),
    ],
)
def test_a_split_that_cannot_be_planned_is_refused(split: dict[str, float], words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as refusal:
        shares_of(make_experiment(), split)

    assert all(problem.field.startswith("split") for problem in refusal.value.problems)


def test_a_declared_split_without_users_for_a_variant_is_refused_by_name() -> None:
    asked = make_experiment(policy={"kind": "fixed", "split": {"A": 1.0, "B": 0.0}})

    with pytest.raises(InvalidInput, match=r"policy\.split.*'B' no users"):
        shares_of(asked)


def test_an_equal_arm_is_shown_to_be_not_worse_with_the_power_planned() -> None:
    """Two-proportion z-test of arm − control above −margin; both rates 0.4, margin 10 % of it."""
    asked = make_experiment(goal={"baseline": 0.4})
    rng = np.random.default_rng(14)

    size = not_worse(asked, 0.1, (0.5, 0.5))

    control, arm = (rates(rng, 0.4, users) for users in size.users)
    error2 = control[1] / size.users[0] + arm[1] / size.users[1]
    shown = (arm[0] - control[0] + 0.04) / np.sqrt(error2) >= stats.norm.isf(0.025)
    assert size.level == 0.025
    assert float(shown.mean()) == pytest.approx(0.8, abs=Z * error(0.8) + 0.003)


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_not_worse_has_its_closed_form_in_either_direction(better: str) -> None:
    asked = make_experiment(3, goal=NUMERIC | {"baseline": 4.0, "better": better})

    size = not_worse(asked, 0.05, (1 / 3,) * 3, sd=1.5, power=0.9)

    shift = stats.norm.isf(0.05 / 4) + stats.norm.ppf(0.9)
    assert size.users == (math.ceil(2 * (shift * 1.5 / 0.2) ** 2),) * 3
    assert size.sides == 1


@pytest.mark.parametrize(
    ("goal", "margin", "arguments", "field"),
    [
        ({"baseline": 0.4}, 0.0, {}, "non-inferiority"),
        ({"baseline": 0.4}, math.nan, {}, "non-inferiority"),
        ({"baseline": 0.4}, 1e-18, {}, "non-inferiority"),
        ({"baseline": 0.6, "better": "lower"}, 0.9, {}, "non-inferiority"),
        ({"baseline": 0.4}, 0.1, {"power": 0.01}, "power"),
        ({}, 0.1, {}, "baseline"),
        (NUMERIC | {"baseline": 4.0}, 0.1, {}, "sd"),
        (NUMERIC | {"baseline": 4.0, "range": [3.9, 5]}, 0.1, {"sd": 1.0}, "non-inferiority"),
    ],
)
def test_a_margin_that_cannot_be_planned_is_refused_by_name(
    goal: dict[str, object], margin: float, arguments: dict[str, float], field: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        not_worse(make_experiment(goal=goal), margin, (0.5, 0.5), **arguments)

    assert [problem.field for problem in refusal.value.problems] == [field]


def needed(effect: Effect) -> float:
    """Return the users of two arms in all that find an effect 2.8 standard errors away from zero."""
    return 4 * (2.8 / effect.size) ** 2


@given(st.floats(0.02, 0.9), st.integers(300, 10**7), st.sampled_from(["higher", "lower"]))
def test_the_smallest_effect_of_some_users_needs_those_users(baseline: float, users: int, better: str) -> None:
    asked = make_experiment(goal={"baseline": baseline, "better": better})

    mde = smallest_mde(asked, None, None, needed, users)

    if mde is None:  # not even the largest rate that is possible
        most = 1.0 if better == "lower" else (1 - baseline) / baseline
        assert needed(effect_of(asked, mde=most * (1 - 1e-6))) > users * 0.999
    else:
        assert needed(effect_of(asked, mde=mde)) == pytest.approx(users, rel=1e-4)


def test_the_smallest_effect_of_a_mean_has_its_closed_form() -> None:
    asked = make_experiment(goal=NUMERIC | {"baseline": -4.0})

    mde = smallest_mde(asked, None, 2.0, needed, 10_000)

    assert mde == pytest.approx(2.8 * 2.0 * math.sqrt(4 / 10_000) / 4.0, rel=1e-5)


def test_without_users_there_is_no_smallest_effect() -> None:
    rate = make_experiment(goal={"baseline": 0.3})
    bounded = make_experiment(goal=NUMERIC | {"baseline": 4.0, "range": [1, 5]})

    assert smallest_mde(rate, None, None, needed, 0.0) is None
    assert smallest_mde(bounded, None, 2.0, needed, 20) is None  # even 5 is too near
    assert smallest_mde(rate, None, None, lambda _: None, 10**9) is None  # nothing is ever found


def test_a_target_outside_the_range_of_the_goal_is_refused() -> None:
    asked = make_experiment(goal=NUMERIC | {"baseline": 4.0, "range": [1, 5], "mde": 0.5})

    with pytest.raises(
        InvalidInput, match=r"goal\.mde: leads from a baseline of 4 to 6; allowed: a target from 1 to 5"
    ):
        effect_of(asked, sd=1.0)
