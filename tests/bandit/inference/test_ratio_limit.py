"""The ratio e-process against numerical minimisation user by user, and exact expectations on the limit."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from bandit.arrays import FloatArray, IntArray
from bandit.inference.mixture import log_mean
from bandit.inference.ratio_limit import BETS, log_wealths_above_ratio, log_wealths_below_ratio, nearest_on_line
from tests.bandit.inference.making import Outcomes, make_observed, make_outcomes, make_p, mapped, of_counts
from tests.bandit.inference.paths import every_path, stopped
from tests.bandit.inference.traffic import binary, drifting, ever, run_adaptive, upper

SEEDS = st.integers(0, 10_000)
RATIOS = st.sampled_from([0.5, 0.9, 1.0, 1.2, 3.0])
SIDES = {1.0: log_wealths_above_ratio, -1.0: log_wealths_below_ratio}


def kl(p: float, q: float) -> float:
    return p * math.log(p / q) + (1.0 - p) * math.log((1.0 - p) / (1.0 - q))


def nearest_by_search(pi: float, a: float, b: float, ratio: float) -> float:
    def far(theta: float) -> float:
        return pi * kl(a, ratio * theta) + (1.0 - pi) * kl(b, theta)

    end = min(1.0, 1.0 / ratio)
    found = optimize.minimize_scalar(
        far, bounds=(1e-12, end * (1.0 - 1e-12)), method="bounded", options={"xatol": 1e-13}
    )
    return float(found.x)


@given(
    pi=st.floats(0.01, 0.99),
    a=st.floats(0.01, 0.99),
    b=st.floats(0.01, 0.99),
    ratio=st.floats(0.2, 4.0),
)
def test_the_nearest_point_of_the_line_is_that_of_a_search(pi: float, a: float, b: float, ratio: float) -> None:
    theta, rest, rest_k = nearest_on_line(np.array(pi), np.array(a / (1 - a)), np.array(b / (1 - b)), ratio)

    assert theta == pytest.approx(nearest_by_search(pi, a, b, ratio), abs=1e-6)
    assert (rest, rest_k) == pytest.approx((1 - theta, 1 - ratio * theta), abs=1e-12)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("pi", [0.0, 1e-9, 0.5, 1.0])
@pytest.mark.parametrize("odds", [1e-12, 1.0, 1e12])
def test_the_nearest_point_keeps_its_digits_at_the_edges(ratio: float, pi: float, odds: float) -> None:
    theta, rest, rest_k = nearest_on_line(np.array(pi), np.array(odds), np.array(0.5 * odds), ratio)

    assert 0.0 < theta <= min(1.0, 1.0 / ratio)
    assert rest >= 0.0
    assert rest_k >= 0.0
    if odds == 1e-12:  # for rare events the sum of events is kept: θ (π r + 1 − π) = π a + (1 − π) b
        assert theta == pytest.approx(1e-12 * (pi + 0.5 * (1 - pi)) / (pi * ratio + 1 - pi), rel=1e-6)


def guesses(outcomes: Outcomes, epoch: int, arm: int, ratio: float, pi: float, bet: float, side: float) -> list[float]:
    """a, b: the most likely point of the line by earlier users, moved off it by a distance in log odds."""
    s, f = min(ratio, 1.0) / 2.0, 1.0 - min(ratio, 1.0) / 2.0
    s_c, f_c = min(1.0 / ratio, 1.0) / 2.0, 1.0 - min(1.0 / ratio, 1.0) / 2.0
    for past in outcomes[:epoch]:
        s, f = s + past[arm].sum(), f + (1.0 - past[arm]).sum()
        s_c, f_c = s_c + past[0].sum(), f_c + (1.0 - past[0]).sum()
    n, n_c = s + f, s_c + f_c
    level = nearest_by_search(n / (n + n_c), s / n, s_c / n_c, ratio)
    q = level * (pi * ratio + 1.0 - pi)
    shift = side * bet / math.sqrt(q * (1.0 - q))
    assert abs(shift) < 5.0
    log_odds = math.log(ratio * level / (1.0 - ratio * level)), math.log(level / (1.0 - level))
    moved = log_odds[0] + (1.0 - pi) * shift, log_odds[1] - pi * shift
    return [1.0 / (1.0 + math.exp(-x)) for x in moved]


def log_wealth_by_user(outcomes: Outcomes, p: FloatArray, arm: int, ratio: float, bet: float, side: float) -> float:
    total = 0.0
    for epoch, arms in enumerate(outcomes):
        pi = p[epoch, arm] / (p[epoch, arm] + p[epoch, 0])
        a, b = guesses(outcomes, epoch, arm, ratio, pi, bet, side)
        nearest = nearest_by_search(pi, a, b, ratio)
        for guess, null, ys in ((a, ratio * nearest, arms[arm]), (b, nearest, arms[0])):
            for y in ys:
                total += y * math.log(guess / null) + (1.0 - y) * math.log((1.0 - guess) / (1.0 - null))
    return total


@given(seed=SEEDS, ratio=RATIOS, side=st.sampled_from([1.0, -1.0]))
def test_wealths_equal_those_of_bets_made_user_by_user(seed: int, ratio: float, side: float) -> None:
    outcomes, p = make_outcomes(seed, n_epochs=4, n_arms=2), make_p(seed, 4, 2)

    wealths = SIDES[side](make_observed(outcomes, p), 0, ratio)

    for place, bet in enumerate(BETS):
        expected = log_wealth_by_user(outcomes, p, 1, ratio, bet, side)
        assert wealths[place, -1, 1] == pytest.approx(expected, abs=2e-5)


def followed(arms: IntArray, y: FloatArray) -> FloatArray:
    if y.shape[1] == 0:
        return np.full(len(y), 0.3)
    return np.where((y[:, -1] > 0.5) == (arms[:, -1] == 1), 0.9, 0.1)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("part", [1.0, 0.5])
@pytest.mark.parametrize(("users", "middle"), [(5, 0.0), (4, 0.5)])
def test_the_exact_mean_of_the_e_value_is_at_most_one_however_it_is_stopped(
    ratio: float, part: float, users: int, middle: float
) -> None:
    def above(arms: IntArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        base = 0.05 + 0.6 * (arms.sum(axis=1) + y.sum(axis=1)) / (2.0 * max(y.shape[1], 1))
        return base, part * ratio * base

    def below(arms: IntArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        base, arm = above(arms, y)
        return part * base, arm / part

    for means, wealths in ((above, log_wealths_above_ratio), (below, log_wealths_below_ratio)):
        paths = every_path(users, followed, means, middle)
        log_e = log_mean(wealths(paths.observed, 0, ratio))[..., 1]

        assert paths.probability.min() >= 0.0
        assert paths.mean(np.exp(log_e[:, -1])) <= 1.0 + 1e-12
        assert paths.mean(stopped(log_e, 1.05)) <= 1.0 + 1e-12
        assert paths.mean(np.where(np.exp(log_e[:, -1]) > 1.0, 1.0, 0.0)) > 0.1  # it does bet


@given(ratio=st.floats(0.2, 4.0), pi=st.floats(1e-4, 1.0 - 1e-4), level=st.floats(1e-6, 1.0 - 1e-6), seed=SEEDS)
def test_the_factor_of_one_user_has_mean_one_or_less_at_every_point_that_keeps_the_limit(
    ratio: float, pi: float, level: float, seed: int
) -> None:
    """Steps 2 and 3 of the proof, for guesses anywhere outside the limit."""
    end = min(1.0, 1.0 / ratio)
    rng = np.random.default_rng(seed)
    b = level * end * 0.999
    a = min(ratio * b + (1.0 - ratio * b) * float(rng.uniform(0.01, 0.99)), 1.0 - 1e-9)
    theta, rest, rest_k = (
        float(x) for x in nearest_on_line(np.array(pi), np.array(a / (1 - a)), np.array(b / (1 - b)), ratio)
    )
    gain = {(1, 1): a / (ratio * theta), (1, 0): (1 - a) / rest_k, (0, 1): b / theta, (0, 0): (1 - b) / rest}

    for theta_c in np.linspace(0.0, 1.0, 9):
        for theta_k in np.linspace(0.0, min(1.0, ratio * theta_c), 5):
            mean_k = theta_k * gain[1, 1] + (1 - theta_k) * gain[1, 0]
            mean_c = theta_c * gain[0, 1] + (1 - theta_c) * gain[0, 0]
            assert pi * mean_k + (1 - pi) * mean_c <= 1.0 + 1e-7


def test_at_ratio_one_turned_outcomes_exchange_above_and_below() -> None:
    outcomes, p = make_outcomes(3), make_p(3)

    one = make_observed(outcomes, p)
    turned = make_observed([[1.0 - y for y in arms] for arms in outcomes], p)

    above, below = log_wealths_above_ratio(turned, 0, 1.0), log_wealths_below_ratio(one, 0, 1.0)
    np.testing.assert_allclose(above[..., 1:], below[..., 1:], atol=1e-9)


def test_relabelled_arms_and_replications_are_as_one_at_a_time() -> None:
    observed, order = make_observed(make_outcomes(4), make_p(4)), [2, 0, 1]

    alone = log_wealths_above_ratio(observed, 0, 1.2)
    relabelled = log_wealths_above_ratio(mapped(observed, lambda x: x[..., order]), 1, 1.2)
    doubled = log_wealths_above_ratio(mapped(observed, lambda x: np.stack([x, x])), 0, 1.2)

    np.testing.assert_allclose(relabelled[..., [0, 2]], alone[..., [2, 1]], atol=1e-12)
    np.testing.assert_allclose(doubled[:, 1], alone, atol=1e-12)


@given(seed=SEEDS, ratio=RATIOS)
def test_what_a_later_epoch_brings_changes_no_earlier_look(seed: int, ratio: float) -> None:
    observed = make_observed(make_outcomes(seed), make_p(seed))
    later = replace(observed, z=observed.z.copy())
    later.z[-1] = observed.n[-1]

    for wealths in SIDES.values():
        assert (wealths(later, 0, ratio)[:, :-1] == wealths(observed, 0, ratio)[:, :-1]).all()


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_empty_epochs_and_those_in_which_only_one_of_the_pair_could_be_drawn_bet_nothing(ratio: float) -> None:
    users = np.array([[7.0, 0.0], [0.0, 9.0], [0.0, 0.0], [0.0, 0.0]])
    forced = of_counts(users, users / 3.0, np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.0, 0.0]]))

    for wealths in SIDES.values():
        np.testing.assert_allclose(wealths(forced, 0, ratio)[..., 1], 0.0, atol=1e-12)


@pytest.mark.parametrize("rate", [0.0, 1e-9, 0.5, 1.0])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.2, 4.0])
def test_a_billion_users_give_finite_numbers(rate: float, ratio: float) -> None:
    n = np.array([[1e9, 1e9], [1e9, 0.0], [0.0, 1e9], [1e9, 1e9], [1e9, 1.0]])
    observed = of_counts(n, rate * n, np.array([[0.98, 0.02], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [1.0 - 1e-9, 1e-9]]))

    for wealths in SIDES.values():
        assert np.isfinite(wealths(observed, 0, ratio)).all()


@pytest.mark.parametrize("ratio", [0.8, 1.25])
def test_an_arm_at_its_limit_is_called_breached_or_certified_no_more_often_than_allowed(ratio: float) -> None:
    observed = run_adaptive(binary(drifting(0.05, 0.3, 60, (1.0, ratio))), seed=41, floor=0.02)

    for wealths in SIDES.values():
        wrong = ever(log_mean(wealths(observed, 0, ratio))[..., 1], 0.05)
        assert wrong.mean() <= upper(0.05, len(wrong))


def test_a_rate_that_doubled_is_found() -> None:
    n = np.full((50, 2), 100.0)
    observed = of_counts(n, n * np.array([0.02, 0.05]), np.full((50, 2), 0.5))

    assert log_mean(log_wealths_above_ratio(observed, 0, 1.2))[-1, 1] > math.log(1000.0)
    assert log_mean(log_wealths_below_ratio(observed, 0, 1.2))[-1, 1] < 0.0
