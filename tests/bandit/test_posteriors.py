from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bandit.arrays import FloatArray
from bandit.posteriors import BetaPosterior, StudentPosterior, beta_posterior, student_posterior


def array(*values: float) -> FloatArray:
    return np.array(values, dtype=np.float64)


def test_a_beta_posterior_without_data_and_baseline_is_flat() -> None:
    posterior = beta_posterior(array(0, 0), array(0, 0), None)

    assert posterior.a.tolist() == posterior.b.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("baseline", "a", "b"), [(0.01, 1, 99), (0.5, 1, 1), (0.8, 4, 1)])
def test_a_baseline_moves_the_prior_with_the_weight_of_one_event(baseline: float, a: float, b: float) -> None:
    posterior = beta_posterior(array(0, 0), array(0, 0), baseline)

    assert posterior.a == pytest.approx([a, a])
    assert posterior.b == pytest.approx([b, b])


def test_at_low_click_rates_an_unlucky_arm_is_not_believed_to_be_far_better() -> None:
    """Under a flat prior, 50 users without a click leave a mean of 2 %, twice the rate of all others."""
    posterior = beta_posterior(array(5000, 50), array(50, 0), None)

    assert posterior.mean[1] < 0.01


def test_fractions_count_as_part_of_a_success() -> None:
    posterior = beta_posterior(array(2), array(0.5 + 0.25), 0.5)

    assert (posterior.a[0], posterior.b[0]) == (1.75, 2.25)


def test_rounding_errors_of_moved_sums_leave_a_proper_posterior() -> None:
    posterior = beta_posterior(array(3, 3), array(-1e-16, 3 + 1e-15), 0.5)

    assert posterior.a.min() >= 1
    assert posterior.b.min() >= 1


def sums(y: FloatArray) -> tuple[float, float, float]:
    return float(len(y)), float(y.sum()), float((y**2).sum())


def moments(*arms: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    n, z, z2 = zip(*(sums(y) for y in arms), strict=True)
    return array(*n), array(*z), array(*z2)


def test_with_many_users_the_numeric_posterior_is_the_classical_t_interval() -> None:
    y = np.random.default_rng(1).normal(4.0, 0.8, 5000)

    posterior = student_posterior(*moments(y, y + 1), None)

    low, high = stats.t.interval(0.95, len(y) - 1, y.mean(), stats.sem(y))
    assert posterior.quantile(0.025)[0] == pytest.approx(low, abs=2e-3)
    assert posterior.quantile(0.975)[0] == pytest.approx(high, abs=2e-3)


def test_the_numeric_posterior_is_the_textbook_normal_inverse_gamma_update() -> None:
    """Source: Gelman et al., Bayesian Data Analysis, 3rd ed., section 3.3, written out with its own symbols."""
    y, other = array(1.0, 2.0, 4.0), array(3.0, 3.0)
    both = np.concatenate([y, other])
    mu0, kappa0, nu0, sigma2_0 = both.mean(), 1.0, 5.0, both.var(ddof=1)

    posterior = student_posterior(*moments(y, other), None)

    n, ybar, s2 = 3, y.mean(), y.var(ddof=1)
    kappa, nu = kappa0 + n, nu0 + n
    mu = (kappa0 * mu0 + n * ybar) / kappa
    sigma2 = (nu0 * sigma2_0 + (n - 1) * s2 + kappa0 * n / kappa * (ybar - mu0) ** 2) / nu
    assert posterior.location[0] == pytest.approx(mu)
    assert posterior.scale[0] == pytest.approx(np.sqrt(sigma2 / kappa))
    assert posterior.df[0] == nu


@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-50, 50), seed=st.integers(0, 1000), n=st.integers(2, 30))
def test_the_numeric_posterior_follows_the_metric_when_it_is_scaled_and_shifted(
    scale: float, shift: float, seed: int, n: int
) -> None:
    rng = np.random.default_rng(seed)
    shift *= scale  # sums are taken about an origin near the data, so a shift is never far from the spread
    a, b = rng.normal(0, 1, n), rng.normal(0.5, 2, n + 3)

    plain = student_posterior(*moments(a, b), None)
    moved = student_posterior(*moments(scale * a + shift, scale * b + shift), None)

    spread = np.abs(shift) + scale
    assert moved.location == pytest.approx(scale * plain.location + shift, abs=1e-9 * spread)
    assert moved.scale == pytest.approx(scale * plain.scale, rel=1e-5)


def test_nothing_seen_differs_from_nothing_varied() -> None:
    seen = student_posterior(array(10, 0), array(30, 0), array(90, 0), None)

    assert seen.location.tolist() == [3.0, 3.0]
    assert seen.scale.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("q", [0.025, 0.5, 0.999])
def test_quantiles_equal_those_of_scipy(q: float) -> None:
    beta = BetaPosterior(array(0.5, 3, 1e6), array(9, 1, 1e6))
    student = StudentPosterior(array(1, -2, 0), array(2, 0.1, 3), array(5, 1e4, np.inf))

    assert beta.quantile(q) == pytest.approx(stats.beta.ppf(q, beta.a, beta.b))
    expected = [stats.t.ppf(q, 5, 1, 2), stats.t.ppf(q, 1e4, -2, 0.1), stats.norm.ppf(q, 0, 3)]
    assert student.quantile(q) == pytest.approx(expected)


def test_one_outcome_far_from_the_baseline_leaves_doubt_about_the_arms_not_seen() -> None:
    posterior = student_posterior(array(1, 0), array(5, 0), array(25, 0), 10.0)

    assert posterior.scale.min() > 1
