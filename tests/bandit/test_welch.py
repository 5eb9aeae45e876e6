from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bandit.arrays import FloatArray
from bandit.inference.welch import Sample, sample_of, traffic_moved, welch, welch_p_value


def row(y: FloatArray, origin: float) -> FloatArray:
    z = y - origin
    return np.array([len(y), z.sum(), (z**2).sum(), (z**3).sum()])


@given(seed=st.integers(0, 500), n=st.integers(2, 60), m=st.integers(2, 60), origin=st.floats(-10, 10))
def test_welch_from_sums_equals_scipy_on_the_outcomes(seed: int, n: int, m: int, origin: float) -> None:
    rng = np.random.default_rng(seed)
    arm, control = rng.normal(3, 1, n), rng.normal(2.5, 2, m)

    test = welch(sample_of(row(arm, origin), origin), sample_of(row(control, origin), origin), alpha=0.1)

    expected = stats.ttest_ind(arm, control, equal_var=False)
    interval = expected.confidence_interval(0.9)
    assert test is not None
    assert (test.t, test.df, test.p_value) == pytest.approx((expected.statistic, expected.df, expected.pvalue))
    assert test.interval == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("scale", [1e-150, 1e-80, 1e12])
def test_the_scale_of_the_metric_does_not_matter(scale: float) -> None:
    rng = np.random.default_rng(4)
    arm, control = rng.normal(3, 1, 50), rng.normal(2.5, 2, 60)

    test = welch(sample_of(row(scale * arm, 0.0), 0.0), sample_of(row(scale * control, 0.0), 0.0), alpha=0.05)

    assert test is not None
    assert test.p_value == pytest.approx(stats.ttest_ind(arm, control, equal_var=False).pvalue)


def test_many_tests_at_once_equal_one_at_a_time() -> None:
    a, c = Sample(40, 0.5, 0.25), Sample(90, 0.4, 0.24)
    one = welch(a, c, alpha=0.05)

    p = welch_p_value(
        np.array([a.mean - c.mean, 0.0]),
        np.array([a.variance / a.n, 0.0]),
        np.array([c.variance / c.n, 0.0]),
        np.array([a.n, 0.0]),
        np.array([c.n, 0.0]),
    )

    assert one is not None
    assert p[0] == pytest.approx(one.p_value)
    assert np.isnan(p[1])


@pytest.mark.parametrize(
    ("arm", "control"),
    [(Sample(1, 1.0, float("nan")), Sample(9, 1.0, 2.0)), (Sample(9, 1.0, 0.0), Sample(9, 0.0, 0.0))],
)
def test_no_test_is_made_of_single_users_or_of_outcomes_that_do_not_vary(arm: Sample, control: Sample) -> None:
    assert welch(arm, control, alpha=0.05) is None


def test_traffic_moved_only_if_the_split_of_the_pair_changed_for_somebody() -> None:
    p = np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [0.1, 0.4, 0.5]])
    users = np.array([[5.0, 5.0, 0.0], [5.0, 5.0, 9.0], [0.0, 0.0, 9.0]])

    assert not traffic_moved(p, users, arm=1, control=0)  # nobody of the pair came in the third epoch
    assert traffic_moved(p, users, arm=2, control=0)
    assert not traffic_moved(p[:0], users[:0], arm=1, control=0)
