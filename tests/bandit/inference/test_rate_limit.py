"""The mixture e-process of a rate against numerical integration, and exact expectations at the limit."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.special as sc
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from bandit.arrays import FloatArray
from bandit.inference.rate_limit import log_e_above_limit, log_e_below_limit, rate_interval
from tests.bandit.inference.traffic import ever, upper

LogE = Callable[[FloatArray, FloatArray, float], FloatArray]


def one(log_e: LogE, n: float, s: float, limit: float) -> float:
    return float(log_e(np.array([n]), np.array([s]), limit)[0])


def by_quadrature(n: float, s: float, limit: float, *, above: bool) -> float:
    """E as the mean likelihood ratio over the rates of the Beta law on the far side of the limit."""
    law = stats.beta(2.0, 1.0 / limit) if above else stats.beta(1.0, 1.0 / limit)
    low, high = (limit, 1.0) if above else (0.0, limit)

    def weighted(theta: float) -> float:
        log = sc.xlogy(s, theta / limit) + sc.xlogy(n - s, (1.0 - theta) / (1.0 - limit))
        return float(np.exp(log) * law.pdf(theta))

    points = sorted({min(max(x, low), high) for x in (s / max(n, 1.0), 2 * limit, (s + 1) / (n + 2))})
    found, _ = integrate.quad(weighted, low, high, points=points, limit=400, epsabs=0.0, epsrel=1e-9)
    return float(found / (law.cdf(high) - law.cdf(low)))


@given(n=st.integers(0, 400), share=st.floats(0, 1), limit=st.sampled_from([0.01, 0.05, 0.3, 0.8]))
def test_e_values_equal_the_integral_over_rates_beyond_the_limit(n: int, share: float, limit: float) -> None:
    s = round(share * limit * 3.0 * n, 1) if 3.0 * limit < 1.0 else round(share * n, 1)

    above, below = one(log_e_above_limit, n, s, limit), one(log_e_below_limit, n, s, limit)

    assert above == pytest.approx(math.log(by_quadrature(n, s, limit, above=True)), abs=1e-6)
    assert below == pytest.approx(math.log(by_quadrature(n, s, limit, above=False)), abs=1e-6)


@pytest.mark.parametrize("log_e", [log_e_above_limit, log_e_below_limit])
@pytest.mark.parametrize("limit", [0.01, 0.05, 0.5, 0.9])
@pytest.mark.parametrize("part", [1.0, 0.5])
def test_the_exact_mean_of_the_e_value_is_at_most_one_on_the_right_side_of_the_limit(
    log_e: LogE, limit: float, part: float
) -> None:
    rate = limit * part if log_e is log_e_above_limit else 1.0 - (1.0 - limit) * part
    for users in (1, 7, 200):
        s = np.arange(users + 1.0)
        log_e_values = log_e(np.full_like(s, users), s, limit)
        mean = float(np.exp(stats.binom.logpmf(s, users, rate) + log_e_values).sum())

        assert mean == pytest.approx(1.0, abs=1e-9) if part == 1.0 else mean < 1.0


@pytest.mark.parametrize("log_e", [log_e_above_limit, log_e_below_limit])
@given(limit=st.sampled_from([0.01, 0.3, 0.9]), mean=st.floats(0, 1), middle=st.floats(0, 1), n=st.integers(0, 50))
def test_one_more_user_with_any_outcome_inside_the_bounds_is_no_gain_on_average(
    log_e: LogE, limit: float, mean: float, middle: float, n: int
) -> None:
    """Laws on 0, 1/2 and 1 with a mean that keeps the limit, after n users with half an event each."""
    rate = limit * mean if log_e is log_e_above_limit else 1.0 - (1.0 - limit) * mean
    half = min(middle, 2.0 * min(rate, 1.0 - rate))
    before = one(log_e, n, n / 2.0, limit)

    gain = sum(
        chance * math.exp(one(log_e, n + 1.0, n / 2.0 + y, limit) - before)
        for y, chance in ((0.0, 1.0 - rate - half / 2.0), (0.5, half), (1.0, rate - half / 2.0))
    )

    assert gain <= 1.0 + 1e-9


def test_turned_outcomes_of_a_rate_at_one_half_exchange_the_sides_up_to_the_law_mixed_over() -> None:
    n, s = np.array([40.0, 40.0]), np.array([5.0, 35.0])

    above, below = log_e_above_limit(n, s, 0.5), log_e_below_limit(n, s, 0.5)

    assert above[0] < 0.0 < below[0]
    assert below[1] < 0.0 < above[1]


@given(n=st.floats(1, 1e9), share=st.floats(0, 1), limit=st.floats(1e-6, 1.0 - 1e-6))
def test_numbers_are_finite_and_rise_with_events(n: float, share: float, limit: float) -> None:
    s = np.array([share * n, min(share * n + 1.0, n)])

    above, below = log_e_above_limit(np.array([n, n]), s, limit), log_e_below_limit(np.array([n, n]), s, limit)

    slack = 1e-9 * n
    assert np.isfinite(above).all()
    assert np.isfinite(below).all()
    assert above[1] >= above[0] - slack
    assert below[1] <= below[0] + slack


@pytest.mark.parametrize(("n", "s"), [(1e5, 4000.0), (1e6, 51_000.0), (1e6, 30_000.0), (1e9, 6e7)])
def test_far_from_the_limit_e_values_agree_with_an_expansion_about_the_peak(n: float, s: float) -> None:
    """Laplace: the likelihood ratio at its peak beyond the limit times the law's density times the peak's width."""
    limit, peak = 0.05, s / n
    above = peak > limit
    law = stats.beta(2.0, 20.0) if above else stats.beta(1.0, 20.0)
    mass = law.sf(limit) if above else law.cdf(limit)

    log_e = one(log_e_above_limit if above else log_e_below_limit, n, s, limit)

    ratio = s * math.log(peak / limit) + (n - s) * math.log((1 - peak) / (1 - limit))
    width = math.sqrt(2.0 * math.pi * peak * (1 - peak) / n)
    assert log_e == pytest.approx(ratio + math.log(law.pdf(peak) / mass * width), abs=0.02 + 1e-9 * abs(ratio))


@pytest.mark.parametrize("n", [4e4, 8e4, 1e5, 3e5])
@pytest.mark.parametrize("share", [0.4, 0.6])
def test_the_wrong_side_of_the_limit_is_right_where_the_tail_leaves_the_range_of_floats(n: float, share: float) -> None:
    limit = 0.05
    s = share * limit * n
    law, slope = stats.beta(2.0, 1.0 / limit), (n - s) / (1 - limit) - share * n

    def weighted(x: float) -> float:
        theta = limit + x / slope
        log = s * math.log(theta / limit) + (n - s) * math.log((1 - theta) / (1 - limit))
        return float(math.exp(log) * law.pdf(theta) / slope)

    expected, _ = integrate.quad(weighted, 0.0, 60.0, epsabs=0.0, epsrel=1e-10)

    assert one(log_e_above_limit, n, s, limit) == pytest.approx(math.log(expected / law.sf(limit)), abs=1e-7)


def test_the_wrong_side_of_the_limit_keeps_its_digits_far_out() -> None:
    """Below, E tends to the law's density at the limit over the slope of the likelihood ratio there."""
    n, limit = 1e8, 0.05
    s = 0.5 * limit * n

    log_e = one(log_e_above_limit, n, s, limit)

    slope = (n - s) / (1 - limit) - s / limit
    law = stats.beta(2.0, 1.0 / limit)
    assert log_e == pytest.approx(math.log(law.pdf(limit) / law.sf(limit) / slope), abs=1e-4)


@given(n=st.integers(1, 5000), share=st.floats(0, 1), alpha=st.sampled_from([0.05, 0.002]))
def test_ends_of_the_interval_are_where_the_likelihood_ratio_of_all_rates_is_one_over_alpha(
    n: int, share: float, alpha: float
) -> None:
    s = float(round(share * n))

    low, high = rate_interval(np.array([float(n)]), np.array([s]), alpha)

    def beyond(t: float) -> float:
        mixture = float(sc.betaln(s + 0.5, n - s + 0.5) - sc.betaln(0.5, 0.5))
        return mixture - float(sc.xlogy(s, t) + sc.xlog1py(n - s, -t)) + math.log(alpha)

    if s == 0:
        assert low[0] == 0.0
    else:
        assert low[0] == pytest.approx(float(optimize.brentq(beyond, 1e-300, s / n, xtol=1e-15)), abs=1e-9)
    if s == n:
        assert high[0] == 1.0
    else:
        assert high[0] == pytest.approx(float(optimize.brentq(beyond, s / n, 1.0 - 1e-16, xtol=1e-15)), abs=1e-9)


def test_without_users_nothing_is_known() -> None:
    zero = np.zeros(2)

    assert log_e_above_limit(zero, zero, 0.05) == pytest.approx([0.0, 0.0], abs=1e-12)
    assert log_e_below_limit(zero, zero, 0.05) == pytest.approx([0.0, 0.0], abs=1e-12)
    low, high = rate_interval(zero, zero, 0.05)
    assert (low.tolist(), high.tolist()) == ([0.0, 0.0], [1.0, 1.0])


def at_every_tenth_user(rate: float, users: int, replications: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Users and events so far, shape (replications, looks)."""
    events = np.random.default_rng(seed).binomial(10, rate, (replications, users // 10))
    return np.broadcast_to(np.arange(10.0, users + 1, 10.0), events.shape), np.cumsum(events, axis=-1).astype(
        np.float64
    )


@pytest.mark.parametrize("log_e", [log_e_above_limit, log_e_below_limit])
def test_an_arm_at_its_limit_is_called_breached_or_certified_no_more_often_than_allowed(log_e: LogE) -> None:
    n, s = at_every_tenth_user(0.05, 2000, 1000, seed=51)

    wrong = ever(log_e(n, s, 0.05), 0.05)

    assert wrong.mean() <= upper(0.05, len(wrong))


def test_not_being_breached_is_no_certificate() -> None:
    """Arms 20 % above the limit are hardly ever breached in so few users, and never certified."""
    n, s = at_every_tenth_user(0.06, 2000, 1000, seed=52)

    breached, certified = ever(log_e_above_limit(n, s, 0.05), 0.01), ever(log_e_below_limit(n, s, 0.05), 0.01)

    assert breached.mean() < 0.3
    assert certified.mean() <= upper(0.001, len(certified))


def test_the_interval_holds_the_rate_at_all_looks_together() -> None:
    n, s = at_every_tenth_user(0.3, 1000, 1000, seed=53)

    low, high = rate_interval(n, s, 0.05)

    missed = np.asarray(((low > 0.3) | (high < 0.3)).any(axis=-1))
    assert missed.mean() <= upper(0.05, len(n))
