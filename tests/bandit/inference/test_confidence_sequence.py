from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, optimize

from bandit.inference.confidence_sequence import half_width, log_e_value, one_sided_log_e_value, tuning
from tests.bandit.inference.traffic import ever, upper

ALPHAS = st.sampled_from([0.2, 0.05, 0.002])


@given(alpha=ALPHAS, users=st.floats(1, 1e9), t=st.floats(1, 1e9))
def test_the_e_value_is_one_over_alpha_where_the_interval_just_covers_zero(
    alpha: float, users: float, t: float
) -> None:
    rho2 = tuning(alpha, users)

    log_e = log_e_value(half_width(t, rho2, alpha), t, rho2)

    assert float(log_e) == pytest.approx(-math.log(alpha), rel=1e-9)


@given(z=st.floats(-6, 6), t=st.floats(1, 1e6), rho2=st.floats(1e-6, 1.0))
def test_e_values_are_likelihood_ratios_mixed_over_normal_effects(z: float, t: float, rho2: float) -> None:
    """The sum is z √t for outcomes of variance 1; effects have the law N(0, ρ²), one-sided its positive half."""
    peak = z * math.sqrt(t) * rho2 / (1.0 + t * rho2)
    width = math.sqrt(rho2 / (1.0 + t * rho2))

    def weighted(x: float) -> float:
        effect = peak + width * x
        log = effect * z * math.sqrt(t) - t * effect**2 / 2.0 - effect**2 / (2.0 * rho2)
        return math.exp(log) * width / math.sqrt(2.0 * math.pi * rho2)

    two, _ = integrate.quad(weighted, -12.0, 12.0, epsabs=0.0, epsrel=1e-10)
    one, _ = integrate.quad(
        weighted, max(-peak / width, -12.0), 12.0 + max(-peak / width, 0.0), epsabs=0.0, epsrel=1e-10
    )

    assert float(log_e_value(z, t, rho2)) == pytest.approx(math.log(two), abs=1e-7)
    assert float(one_sided_log_e_value(z, t, rho2)) == pytest.approx(math.log(2.0 * one), abs=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.002])
def test_the_interval_is_about_tightest_at_the_users_it_is_tuned_to(alpha: float) -> None:
    best = optimize.minimize_scalar(
        lambda log: float(half_width(5000.0, math.exp(log), alpha)), bounds=(-20.0, 0.0), method="bounded"
    ).fun

    assert float(half_width(5000.0, tuning(alpha, 5000.0), alpha)) == pytest.approx(best, rel=0.01)


def test_nothing_is_said_before_the_first_user() -> None:
    assert half_width(0.0, 0.001, 0.05) == math.inf
    assert log_e_value(0.0, 0.0, 0.001) == 0.0
    assert one_sided_log_e_value(0.0, 0.0, 0.001) == pytest.approx(0.0, abs=1e-15)


def test_far_effects_of_a_billion_users_give_finite_numbers() -> None:
    for z in (-1e4, 1e4):
        assert math.isfinite(float(log_e_value(z, 1e9, 1e-3)))
        assert math.isfinite(float(one_sided_log_e_value(z, 1e9, 1e-3)))


@pytest.mark.parametrize("drift", [0.0, -0.01])
def test_sums_without_a_positive_effect_reach_the_level_no_more_often_than_allowed(drift: float) -> None:
    rng, t = np.random.default_rng(81), np.arange(10.0, 3001.0, 10.0)
    steps = rng.normal(drift * 10.0, math.sqrt(10.0), (3000, len(t)))
    z = np.cumsum(steps, axis=-1) / np.sqrt(t)

    one_sided = ever(one_sided_log_e_value(z, t, tuning(0.1, 1500.0)), 0.05)
    two_sided = ever(log_e_value(z, t, tuning(0.05, 1500.0)), 0.05)

    assert one_sided.mean() <= upper(0.05 if drift == 0.0 else 0.005, len(z))
    if drift == 0.0:
        assert two_sided.mean() <= upper(0.05, len(z))
        assert two_sided.mean() > 0.01
