"""The label e-process against a user-by-user calculation, its laws, and exact expectations under the null."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.arrays import FloatArray, IntArray
from bandit.inference.label import BETS, log_e_higher, log_e_lower
from bandit.inference.observed import Observed
from tests.bandit.inference.making import (
    Outcomes,
    joined,
    make_observed,
    make_outcomes,
    make_p,
    mapped,
    of_counts,
    stacked,
)
from tests.bandit.inference.paths import every_path, stopped
from tests.bandit.inference.traffic import EQUAL_ARMS, binary, drifting, equal_arms, ever, run_adaptive, upper

SEEDS = st.integers(0, 10_000)


def wealth_by_user(outcomes: Outcomes, p: FloatArray, first: int, second: int, bet: float) -> float:
    """Wealth of one bet against "the first arm is never above the second", multiplied user by user."""
    wealth = 1.0
    for epoch, arms in enumerate(outcomes):
        before = [y for past in outcomes[:epoch] for arm in (first, second) for y in past[arm]]
        q = (sum(before) + 1.0) / (len(before) + 2.0)
        u = bet / math.sqrt(q * (1.0 - q))
        t_k, t_c = (1.0 / (1.0 + math.exp(-(math.log(q / (1.0 - q)) + shift))) for shift in (u / 2.0, -u / 2.0))
        r_1, r_0 = t_k / t_c, (1.0 - t_k) / (1.0 - t_c)
        pi = p[epoch, first] / (p[epoch, first] + p[epoch, second])
        for y in arms[first]:
            wealth *= r_1**y * r_0 ** (1.0 - y)
        for y in (*arms[first], *arms[second]):
            wealth /= (1.0 - pi + pi * r_1) ** y * (1.0 - pi + pi * r_0) ** (1.0 - y)
    return wealth


@given(seed=SEEDS, kind=st.sampled_from(["binary", "fraction"]))
def test_e_values_equal_the_mean_wealth_of_bets_made_user_by_user(seed: int, kind: str) -> None:
    outcomes, p = make_outcomes(seed, kind=kind), make_p(seed)
    observed = make_observed(outcomes, p)

    higher, lower = log_e_higher(observed, 1), log_e_lower(observed, 1)

    for arm in (0, 2):
        up = np.mean([wealth_by_user(outcomes, p, arm, 1, bet) for bet in BETS])
        down = np.mean([wealth_by_user(outcomes, p, 1, arm, bet) for bet in BETS])
        assert np.exp(higher[-1, arm]) == pytest.approx(up)
        assert np.exp(lower[-1, arm]) == pytest.approx(down)


def followed(arms: IntArray, y: FloatArray) -> FloatArray:
    """Traffic that chases success: the arm of the last event gets nine users in ten."""
    if y.shape[1] == 0:
        return np.full(len(y), 0.3)
    return np.where((y[:, -1] > 0.5) == (arms[:, -1] == 1), 0.9, 0.1)


def same_but_drifting(arms: IntArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Equal means that depend on all that happened before."""
    mean = 0.1 + 0.8 * (arms.sum(axis=1) + 2.0 * y.sum(axis=1)) / (3.0 * max(y.shape[1], 1))
    return mean, mean


def behind(arms: IntArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The arm is below control, by a distance that moves."""
    mean, _ = same_but_drifting(arms, y)
    return mean, mean * (0.4 if y.shape[1] % 2 else 0.9)


@pytest.mark.parametrize("means", [same_but_drifting, behind])
@pytest.mark.parametrize(("users", "middle"), [(5, 0.0), (4, 0.5)])
def test_the_exact_mean_of_the_e_value_is_at_most_one_however_it_is_stopped(
    means: Callable[[IntArray, FloatArray], tuple[FloatArray, FloatArray]], users: int, middle: float
) -> None:
    paths = every_path(users, followed, means, middle)
    log_e = log_e_higher(paths.observed, 0)[..., 1]

    assert paths.probability.sum() == pytest.approx(1.0, abs=1e-12)
    for look in range(users):
        assert paths.mean(np.exp(log_e[:, look])) <= 1.0 + 1e-12
    for level in (1.01, 1.05, 1.2):
        assert paths.mean(stopped(log_e, level)) <= 1.0 + 1e-12


def test_the_exact_mean_of_the_e_value_is_one_on_the_edge_of_the_null() -> None:
    paths = every_path(5, followed, same_but_drifting)

    for log_e in (log_e_higher(paths.observed, 0), log_e_lower(paths.observed, 0)):
        assert paths.mean(np.exp(log_e[:, -1, 1])) == pytest.approx(1.0, abs=1e-12)
        assert paths.mean(np.where(np.exp(log_e[:, -1, 1]) > 1.0, 1.0, 0.0)) > 0.1  # it does bet


def test_a_better_arm_makes_the_exact_mean_exceed_one() -> None:
    paths = every_path(5, followed, lambda _, y: (np.full(len(y), 0.3), np.full(len(y), 0.8)))

    assert paths.mean(np.exp(log_e_higher(paths.observed, 0)[:, -1, 1])) > 1.02
    assert paths.mean(np.exp(log_e_lower(paths.observed, 0)[:, -1, 1])) < 1.0


LEVELS = np.array([1e-4, 0.03, 0.5, 0.97, 0.9999])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("pi", [1e-6, 0.02, 0.5, 0.98, 1.0 - 1e-6])
def test_one_more_user_is_no_gain_on_average_whatever_was_learned_and_however_outcomes_fall(
    level: float, pi: float
) -> None:
    """E[factor] over arm and outcome, on a grid of true means and of laws on 0, 1/2, 1."""
    p = np.array([[1.0 - pi, pi]])
    past = of_counts(np.full((1, 2), 500.0), np.full((1, 2), 500.0 * level), np.array([[0.5, 0.5]]))
    start = float(log_e_higher(past, 0)[-1, 1])

    def gain(arm: int, y: float) -> float:
        z = np.zeros((1, 2))
        n = z.copy()
        n[0, arm], z[0, arm] = 1.0, y
        user = Observed(p, n, z, z * z, z**3, 0.0, (0.0, 1.0), True)
        return math.exp(float(log_e_higher(joined(past, user), 0)[-1, 1]) - start)

    gains = np.array([[gain(arm, y) for y in (0.0, 0.5, 1.0)] for arm in (0, 1)])
    for theta_c in (0.0, 1e-5, 0.1, 0.5, 0.9, 1.0):
        for part in (0.0, 0.5, 1.0):
            for middle in (0.0, 0.3):
                laws = np.array([law(theta, middle) for theta in (theta_c, part * theta_c)])
                mean = float(((1.0 - pi) * laws[0] @ gains[0]) + pi * (laws[1] @ gains[1]))
                assert mean <= 1.0 + 1e-9


def law(theta: float, middle: float) -> FloatArray:
    half = min(middle, 2.0 * min(theta, 1.0 - theta))
    return np.array([1.0 - theta - half / 2.0, half, theta - half / 2.0])


def test_turned_outcomes_exchange_higher_and_lower() -> None:
    outcomes, p = make_outcomes(3), make_p(3)

    one = make_observed(outcomes, p)
    turned = make_observed([[1.0 - y for y in arms] for arms in outcomes], p)

    np.testing.assert_allclose(log_e_higher(turned, 0)[:, 1:], log_e_lower(one, 0)[:, 1:], atol=1e-12)


def test_relabelled_arms_have_relabelled_e_values() -> None:
    observed, order = make_observed(make_outcomes(4), make_p(4)), [2, 0, 1]

    relabelled = log_e_higher(mapped(observed, lambda x: x[..., order]), 1)

    np.testing.assert_allclose(relabelled, log_e_higher(observed, 0)[..., order])


def test_replications_on_a_leading_axis_are_as_one_at_a_time() -> None:
    each = [make_observed(make_outcomes(seed), make_p(seed)) for seed in range(3)]

    together = log_e_lower(stacked(each), 0)

    np.testing.assert_allclose(together, [log_e_lower(one, 0) for one in each], atol=1e-12)


@given(seed=SEEDS)
def test_what_a_later_epoch_brings_changes_no_earlier_look(seed: int) -> None:
    observed = make_observed(make_outcomes(seed), make_p(seed))
    later = replace(observed, z=observed.z.copy())
    later.z[-1] = observed.n[-1]

    for log_e in (log_e_higher, log_e_lower):
        assert (log_e(later, 0)[:-1] == log_e(observed, 0)[:-1]).all()


def test_empty_epochs_and_those_in_which_only_one_of_the_pair_could_be_drawn_bet_nothing() -> None:
    users = np.array([[7.0, 0.0], [0.0, 9.0], [0.0, 0.0], [0.0, 0.0]])
    forced = of_counts(users, users / 3.0, np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.0, 0.0]]))

    for log_e in (log_e_higher, log_e_lower):
        assert log_e(forced, 0)[:, 1] == pytest.approx(0.0, abs=1e-12)


def test_the_origin_and_the_bounds_of_outcomes_do_not_matter() -> None:
    outcomes, p = make_outcomes(6), make_p(6)

    shares = make_observed(outcomes, p)
    stars = make_observed([[1.0 + 4.0 * y for y in arms] for arms in outcomes], p, origin=3.5, bounds=(1.0, 5.0))

    np.testing.assert_allclose(log_e_higher(stars, 0), log_e_higher(shares, 0), atol=1e-9)


@pytest.mark.parametrize("rate", [0.0, 1e-9, 0.5, 1.0])
def test_a_billion_users_give_finite_numbers(rate: float) -> None:
    n = np.full((3, 2), 1e9)

    for log_e in (log_e_higher, log_e_lower):
        value = log_e(of_counts(n, rate * n, np.array([[0.98, 0.02], [0.5, 0.5], [1.0 - 1e-9, 1e-9]])), 0)
        assert np.isfinite(value).all()


def test_a_clear_difference_among_many_users_is_found_at_about_the_information_it_holds() -> None:
    n = np.full((200, 2), 50.0)

    log_e = log_e_higher(of_counts(n, n * np.array([0.50, 0.60]), np.full((200, 2), 0.5)), 0)[-1, 1]

    rates = (0.5, 0.5 / 0.55), (0.6, 0.6 / 0.55), (0.5, 0.5 / 0.45), (0.4, 0.4 / 0.45)
    best = 10_000 * sum(share * math.log(ratio) for share, ratio in rates)
    assert 0.85 * best - math.log(len(BETS)) <= log_e <= best


@pytest.mark.parametrize("world", EQUAL_ARMS)
def test_equal_arms_are_told_apart_at_any_look_no_more_often_than_allowed(
    world: tuple[float, float, float, int],
) -> None:
    observed = equal_arms(*world)

    wrong = ever(log_e_higher(observed, 0)[..., 1], 0.05), ever(log_e_lower(observed, 0)[..., 1], 0.05)

    for side in wrong:
        assert side.mean() <= upper(0.05, len(side))


def test_e_values_at_the_end_have_mean_one_though_traffic_follows_the_data() -> None:
    observed = run_adaptive(binary(drifting(0.3, 0.5, 40)), seed=22, n_epochs=40, batch=25, replications=4000)

    e = np.exp(log_e_higher(observed, 0)[:, -1, 1])

    assert e.mean() == pytest.approx(1.0, abs=3.9 * float(e.std()) / math.sqrt(len(e)))
