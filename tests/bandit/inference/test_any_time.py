"""The any-time interval: its formulas, when it may be read, and its error over all looks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bandit.arrays import FloatArray, IntArray
from bandit.inference.any_time import (
    FEWEST_EVENTS,
    FEWEST_USERS,
    USERS_PER_SQUARED_SKEWNESS,
    any_time,
    is_readable,
)
from bandit.inference.confidence_sequence import half_width, log_e_value, one_sided_log_e_value, tuning
from bandit.inference.observed import Observed, given_response
from bandit.inference.scores import running_scores
from tests.bandit.inference.making import make_observed, of_counts, stacked
from tests.bandit.inference.traffic import EQUAL_ARMS, Draw, equal_arms, ever, run_adaptive, upper


def numeric(seed: int, n_epochs: int = 6, size: int = 90) -> Observed:
    rng = np.random.default_rng(seed)
    outcomes = [[rng.normal(5.0 + arm, 1.0, size) for arm in range(3)] for _ in range(n_epochs)]
    return make_observed(outcomes, rng.dirichlet(np.full(3, 4.0), n_epochs), origin=5.0, bounds=None)


@pytest.mark.parametrize("ratio", [1.0, 1.1])
def test_interval_and_e_value_are_the_normal_mixture_at_the_estimate_of_each_look(ratio: float) -> None:
    observed = numeric(1)
    scores = running_scores(observed, 0)

    found = any_time(observed, scores, 0, 0.05, 800.0, ratio)

    rho2 = tuning(0.05, 800.0)
    for look in range(3, 6):
        for arm in (1, 2):
            users = float(observed.n[: look + 1, [0, arm]].sum())
            estimate, error = (x[look, arm] for x in (scores.difference(ratio), scores.standard_error(ratio)))
            half = float(half_width(users, rho2, 0.05)) * error
            assert found.readable[look, arm]
            assert (found.low[look, arm], found.high[look, arm]) == pytest.approx((estimate - half, estimate + half))
            assert found.log_e[look, arm] == pytest.approx(float(log_e_value(estimate / error, users, rho2)))


def test_users_of_control_from_before_an_arm_joined_do_not_make_it_readable() -> None:
    p = np.array([[0.5, 0.5, 0.0]] * 3 + [[0.4, 0.3, 0.3]] * 2)
    n = np.array([[400.0, 400.0, 0.0]] * 3 + [[20.0, 15.0, 400.0]] * 2)
    observed = of_counts(n, n / 2, p)

    found = is_readable(observed, 0)

    assert found[2:, 1].all()
    assert not found[:, 2].any()
    assert is_readable(replace(observed, p=np.full_like(p, np.nan)), 0)[-1, 2]  # unknown is not zero


def test_before_it_may_be_read_the_interval_is_everything_and_the_e_value_one() -> None:
    observed = numeric(2)

    found = any_time(observed, running_scores(observed, 0), 0, 0.05, 800.0)

    assert not found.readable[:2].any()  # 180 users per arm
    assert (found.low[:2] == -np.inf).all()
    assert (found.high[:2] == np.inf).all()
    assert (found.log_e[:2] == 0.0).all()


def test_the_p_value_is_one_over_the_largest_e_value_so_far() -> None:
    observed = numeric(3)

    found = any_time(observed, running_scores(observed, 0), 0, 0.05, 800.0)

    assert found.p_value[1] == pytest.approx(math.exp(-found.log_e[:, 1].max()))
    assert found.p_value[0] == 1.0  # control against itself


@pytest.mark.parametrize(("events", "readable"), [(24.0, False), (25.0, True), (975.0, True), (976.0, False)])
def test_a_rate_is_read_once_both_arms_have_events_and_non_events_enough(events: float, readable: bool) -> None:
    assert FEWEST_EVENTS == 25
    n, p = np.full((1, 2), 1000.0), np.full((1, 2), 0.5)

    found = is_readable(of_counts(n, np.array([[500.0, events]]), p), 0)

    assert found[0].tolist() == [True, readable]
    assert is_readable(of_counts(n, np.array([[events, 500.0]]), p), 0)[0, 1] == readable


@given(seed=st.integers(0, 10_000), shape=st.floats(0.02, 5.0))
def test_a_mean_is_read_once_users_outnumber_a_hundred_times_the_squared_skewness(seed: int, shape: float) -> None:
    assert (FEWEST_USERS, USERS_PER_SQUARED_SKEWNESS) == (200, 100.0)
    rng = np.random.default_rng(seed)
    skewed, normal = rng.gamma(shape, 1.0, 500), rng.normal(0.0, 1.0, 500)

    found = is_readable(make_observed([[normal, skewed]], np.full((1, 2), 0.5), origin=0.3, bounds=None), 0)

    skewness = float(stats.skew(skewed))
    assert found[0].tolist() == [True, bool(100.0 * skewness**2 <= 500)]


def test_fractional_outcomes_inside_bounds_are_read_as_a_mean() -> None:
    y = np.random.default_rng(4).normal(0.02, 0.002, 300)  # 6 "events" in all
    observed = make_observed([[y, y]], np.full((1, 2), 0.5))

    assert not is_readable(observed, 0)[0, 1]
    assert is_readable(replace(observed, fractional=True), 0)[0, 1]


@pytest.mark.parametrize("users", [0.0, 1.0, 1e9])
def test_nobody_one_user_and_outcomes_that_do_not_vary_are_not_read(users: float) -> None:
    n = np.full((2, 2), users)

    for bounds in ((0.0, 1.0), None):
        observed = replace(of_counts(n, n, np.full((2, 2), 0.5)), bounds=bounds)
        found = any_time(observed, running_scores(observed, 0), 0, 0.05, 1000.0)
        assert not found.readable.any()


def test_what_a_later_epoch_brings_changes_no_earlier_look() -> None:
    observed = numeric(5)
    later = replace(observed, z=observed.z.copy(), z2=observed.z2.copy())
    later.z[-1] += 50.0
    later.z2[-1] += 5000.0

    one, other = (any_time(o, running_scores(o, 0), 0, 0.05, 800.0) for o in (observed, later))

    assert (one.low[:-1] == other.low[:-1]).all()
    assert (one.log_e[:-1] == other.log_e[:-1]).all()
    assert one.log_e[-1, 1] != other.log_e[-1, 1]


def test_replications_on_a_leading_axis_are_as_one_at_a_time() -> None:
    each = [numeric(seed) for seed in (6, 7)]
    both = stacked(each)

    together = any_time(both, running_scores(both, 0), 0, 0.05, 800.0)

    for index, one in enumerate(each):
        alone = any_time(one, running_scores(one, 0), 0, 0.05, 800.0)
        np.testing.assert_allclose(together.low[index], alone.low)
        np.testing.assert_allclose(together.p_value[index], alone.p_value)


@pytest.mark.parametrize("world", EQUAL_ARMS)
def test_equal_arms_are_told_apart_at_any_look_no_more_often_than_allowed(
    world: tuple[float, float, float, int],
) -> None:
    observed = equal_arms(*world)
    users = float(observed.n[0].sum())

    found = any_time(observed, running_scores(observed, 0), 0, 0.05, users / 2.0)

    wrong = np.asarray(((found.low > 0.0) | (found.high < 0.0))[..., 1].any(axis=-1))
    assert wrong.mean() <= upper(0.05, len(observed.n))
    assert ((found.p_value[:, 1] <= 0.05) == wrong).all()


def lognormal(sigma: float, ratio: float) -> Draw:
    """A world of costs of mean 1 (control) and `ratio`."""

    def draw(rng: np.random.Generator, epoch: int, n: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        del epoch
        most = int(n.max())
        y = np.array([1.0, ratio])[:, np.newaxis] * rng.lognormal(-(sigma**2) / 2.0, sigma, (*n.shape, most))
        y *= np.arange(most) < n[..., np.newaxis]
        return y.sum(axis=-1), (y * y).sum(axis=-1), (y**3).sum(axis=-1)

    return draw


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_skewed_means_at_a_ratio_that_is_just_the_limit_are_rarely_put_on_one_side_of_it(sigma: float) -> None:
    """The arm gets few users, and one-sided tests at a small level are deceived most by skewness."""
    level = 0.01
    observed = run_adaptive(
        lognormal(sigma, 1.2), seed=101, n_epochs=30, batch=400, replications=300, floor=0.1, bounds=None
    )
    scores = running_scores(observed, 0)
    z = scores.difference(1.2) / scores.standard_error(1.2)

    found = one_sided_log_e_value(np.stack([z, -z]), scores.t, tuning(2.0 * level, 6000.0))

    wrong = ((found >= -math.log(level)) & is_readable(observed, 0))[..., 1].any(axis=-1)
    assert (wrong.mean(axis=-1) <= upper(level, 300)).all()


def responding(rates: tuple[float, float], seed: int) -> tuple[Observed, FloatArray]:
    """Two arms with the same mean, which moves from .3 to .5, of whose users only some answer; and users assigned."""
    rng = np.random.default_rng(seed)
    n_epochs, replications = 60, 1500
    p, assigned, n, z = (np.empty((replications, n_epochs, 2)) for _ in range(4))
    users = events = np.zeros((replications, 2))
    for epoch, rate in enumerate(np.linspace(0.3, 0.5, n_epochs)):
        mean = (events + 0.5) / (users + 1.0)
        draws = mean + np.sqrt(0.25 / (users + 1.0)) * rng.standard_normal((8, replications, 2))
        p[:, epoch, 1] = 0.05 + 0.9 * (draws[..., 1] > draws[..., 0]).mean(axis=0)
        p[:, epoch, 0] = 1.0 - p[:, epoch, 1]
        assigned[:, epoch] = rng.multinomial(150, p[:, epoch])
        n[:, epoch] = rng.binomial(assigned[:, epoch].astype(np.int64), rates)
        z[:, epoch] = rng.binomial(n[:, epoch].astype(np.int64), rate)
        users, events = users + n[:, epoch], events + z[:, epoch]
    return of_counts(n, z, p), assigned


def wald_errors(observed: Observed) -> float:
    last = running_scores(observed, 0).at(-1)
    return float((np.abs(last.difference() / last.standard_error())[:, 1] > 1.959964).mean())


def test_response_that_differs_by_arm_is_corrected_for() -> None:
    observed, assigned = responding((0.5, 0.8), seed=111)
    corrected = replace(observed, p=given_response(observed.p, assigned, observed.n))

    sequence = any_time(corrected, running_scores(corrected, 0), 0, 0.05, 3000.0)

    assert wald_errors(observed) > 0.15
    assert wald_errors(corrected) <= 0.07
    assert ever(sequence.log_e[..., 1], 0.05).mean() <= upper(0.05, len(assigned))


def test_users_are_those_with_an_outcome_where_half_do_not_answer() -> None:
    observed, _ = responding((0.5, 0.5), seed=112)

    sequence = any_time(observed, running_scores(observed, 0), 0, 0.05, 2000.0)

    assert wald_errors(observed) <= 0.065 + 3.9 * 0.0056
    assert ever(sequence.log_e[..., 1], 0.05).mean() <= upper(0.05, 1500)
