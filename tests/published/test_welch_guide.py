"""The worked example of a public guide to A/B tests of prompts.

Quality scores of 2,500 users per prompt, drawn by NumPy's legacy generator at seed 42 from normal laws of means 4.00
and 4.08 and standard deviation 0.8. The guide prints means of 4.017 and 4.084 and p = .0033; the code as given
draws other numbers, and finds no difference. So it is the data drawn that is tested here.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bandit.arrays import FloatArray
from bandit.inference.welch import Welch, sample_of, welch
from bandit.planning import plan
from tests.bandit.making import make_experiment

ORIGIN = 4.0


@pytest.fixture(scope="module")
def scores() -> tuple[FloatArray, FloatArray]:
    """Control's scores and the arm's, each of shape (2500,)."""
    legacy = np.random.RandomState(42)  # the guide's generator
    return legacy.normal(4.0, 0.8, 2500), legacy.normal(4.08, 0.8, 2500)


def welch_of(scores: tuple[FloatArray, FloatArray]) -> Welch:
    control, arm = (np.array([len(y), *(((y - ORIGIN) ** power).sum() for power in (1, 2, 3))]) for y in scores)
    test = welch(sample_of(arm, ORIGIN), sample_of(control, ORIGIN), alpha=0.05)
    assert test is not None
    return test


def test_the_scores_drawn_have_these_means(scores: tuple[FloatArray, FloatArray]) -> None:
    control, arm = (float(y.mean()) for y in scores)

    assert (round(control, 3), round(arm, 3)) == (4.027, 4.062)
    assert round(100 * (arm / control - 1), 2) == 0.87


def test_welchs_test_finds_no_difference_in_them(scores: tuple[FloatArray, FloatArray]) -> None:
    test = welch_of(scores)

    assert round(test.p_value, 4) == 0.1212
    assert test.interval[0] < 0 < test.interval[1]


def test_welchs_test_from_sums_is_scipys_on_the_scores(scores: tuple[FloatArray, FloatArray]) -> None:
    expected = stats.ttest_ind(scores[1], scores[0], equal_var=False)
    interval = expected.confidence_interval(0.95)

    test = welch_of(scores)

    assert (test.t, test.df, test.p_value) == pytest.approx((expected.statistic, expected.df, expected.pvalue))
    assert test.interval == pytest.approx((interval.low, interval.high))


def test_a_rate_of_76_percent_and_5_percent_more_need_1872_users() -> None:
    """The guide's sample size. It prints 1,873: a t-test's; statsmodels' z-test gives 1,871.54."""
    result = plan(make_experiment(goal={"mde": 0.05}), baseline=0.76, power=0.8)

    assert result.users_per_variant == 1872
    # By Cohen's h, the other effect size of statsmodels, it would be 1,868.5.
    assert result.cohens_h is not None
    normal = 2 * ((stats.norm.isf(0.025) + stats.norm.isf(0.2)) / result.cohens_h) ** 2
    assert round(normal, 1) == 1868.5
