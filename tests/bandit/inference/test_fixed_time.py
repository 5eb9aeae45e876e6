"""The fixed-time estimate: its formulas, and that it holds where Welch's test does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bandit.inference.fixed_time import fixed_time
from bandit.inference.observed import Observed
from bandit.inference.scores import total_scores
from bandit.inference.welch import welch_p_value
from tests.bandit.inference.making import make_observed, make_outcomes, make_p, of_counts
from tests.bandit.inference.traffic import EQUAL_ARMS, binary, drifting, equal_arms, run_adaptive, upper


def welch_errors(observed: Observed) -> float:
    n, z, z2 = (x.sum(axis=-2) for x in (observed.n, observed.z, observed.z2))
    mean = z / n
    error2 = (z2 / n - mean * mean) / (n - 1.0)
    p = welch_p_value(mean[:, 1] - mean[:, 0], error2[:, 1], error2[:, 0], n[:, 1], n[:, 0])
    return float((p < 0.05).mean())


@pytest.mark.parametrize("ratio", [1.0, 0.9])
def test_interval_and_p_value_are_those_of_a_normal_estimate(ratio: float) -> None:
    observed = make_observed(make_outcomes(1, kind="numeric"), make_p(1), origin=5.0, bounds=None)
    scores = total_scores(observed, 0)

    found = fixed_time(scores, 0.1, ratio)

    for arm in (1, 2):
        law = stats.norm(scores.difference(ratio)[arm], scores.standard_error(ratio)[arm])
        assert (found.low[arm], found.high[arm]) == pytest.approx(law.interval(0.9))
        assert found.p_value[arm] == pytest.approx(2.0 * min(law.cdf(0.0), law.sf(0.0)))
    assert (found.difference[1:] == scores.difference(ratio)[1:]).all()


@given(y=st.floats(0, 1), pi=st.floats(0.001, 0.999), origin=st.sampled_from([0.0, 0.5]))
def test_one_user_has_an_estimate_and_no_interval(y: float, pi: float, origin: float) -> None:
    outcomes = [[np.empty(0), np.array([y])]]

    found = fixed_time(total_scores(make_observed(outcomes, np.array([[1.0 - pi, pi]]), origin=origin), 0), 0.05)

    assert np.isfinite(found.difference[1])
    assert np.isnan([found.standard_error[1], found.low[1], found.high[1], found.p_value[1]]).all()


def test_nobody_has_no_estimate() -> None:
    found = fixed_time(total_scores(of_counts(np.zeros((1, 2)), np.zeros((1, 2)), np.full((1, 2), 0.5)), 0), 0.05)

    assert np.isnan([found.difference, found.standard_error, found.low, found.high, found.p_value]).all()


@pytest.mark.parametrize("world", EQUAL_ARMS)
def test_equal_arms_are_told_apart_at_the_horizon_about_as_often_as_declared(
    world: tuple[float, float, float, int],
) -> None:
    observed = equal_arms(*world)
    events, n = observed.z.sum(axis=-2), observed.n.sum(axis=-2)
    enough = (np.minimum(events, n - events) >= 25).all(axis=-1)

    wrong = fixed_time(total_scores(observed, 0), 0.05).p_value[enough, 1] < 0.05

    assert wrong.mean() <= upper(0.065, 1500) if enough.sum() > 100 else not wrong.any()


def test_a_baseline_that_moves_deceives_welch_and_not_the_shared_weights() -> None:
    observed = equal_arms(0.3, 0.7)

    wrong = fixed_time(total_scores(observed, 0), 0.05).p_value[:, 1] < 0.05

    assert wrong.mean() <= 0.065
    assert welch_errors(observed) > 0.9


def test_intervals_hold_a_true_effect_about_as_often_as_declared() -> None:
    observed = run_adaptive(binary(drifting(0.4, 0.4, 60, (1.0, 1.1))), seed=91, replications=3000)

    found = fixed_time(total_scores(observed, 0), 0.05)

    held = (found.low[:, 1] <= 0.04) & (found.high[:, 1] >= 0.04)
    assert 0.93 <= held.mean() <= 0.965
