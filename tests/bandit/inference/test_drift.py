from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bandit.inference.drift import BLOCKS, FEWEST_USERS, drift_p_values
from bandit.inference.observed import Observed
from tests.bandit.inference.making import make_observed, mapped, of_counts
from tests.bandit.inference.traffic import binary, drifting, equal_arms, run_adaptive, upper


def run(observed: Observed, replication: int) -> Observed:
    """Return one run of many."""
    return mapped(observed, lambda x: x[replication])


@given(seed=st.integers(0, 10_000), n_epochs=st.integers(2, 10))
def test_epochs_of_equal_size_give_pearsons_test_on_the_table_of_events(seed: int, n_epochs: int) -> None:
    rng = np.random.default_rng(seed)
    n = np.full((n_epochs, 2), 1000.0 / n_epochs * (n_epochs / 2))
    events = rng.binomial(n.astype(int), 0.3).astype(np.float64)

    p_values = drift_p_values(of_counts(n, events, np.full((n_epochs, 2), 0.5)))

    for arm in range(2):
        table = np.stack([events[:, arm], n[:, arm] - events[:, arm]])
        statistic = stats.chi2_contingency(table, correction=False).statistic
        total = n[:, arm].sum()
        expected = stats.chi2.sf(statistic * (total - 1.0) / total, n_epochs - 1)
        assert p_values[arm] == pytest.approx(expected)


def test_numeric_outcomes_give_the_sum_of_squares_between_blocks_over_the_variance() -> None:
    rng = np.random.default_rng(3)
    blocks = [rng.normal(100.0 + 0.2 * block, 1.0, 60) for block in range(10)]

    observed = make_observed([[y] for y in blocks], np.ones((10, 1)), origin=100.0, bounds=None)

    p_value = float(drift_p_values(observed)[0])

    every = np.concatenate(blocks)
    n_blocks = len(every) // FEWEST_USERS  # of 100 users at least: epochs that start in the same block are one
    starts = [i * 60 * n_blocks // 600 for i in range(10)]
    groups = [np.concatenate([y for y, at in zip(blocks, starts, strict=True) if at == b]) for b in range(n_blocks)]
    between = sum(len(y) * (y.mean() - every.mean()) ** 2 for y in groups)
    assert p_value == pytest.approx(float(stats.chi2.sf(between / every.var(ddof=1), n_blocks - 1)))


def test_a_mean_that_moved_is_found_and_one_that_stayed_is_not() -> None:
    n = np.full((100, 2), 50.0)
    rates = np.stack([np.linspace(0.25, 0.45, 100), np.full(100, 0.35)], axis=-1)
    moved = of_counts(n, n * rates, np.full((100, 2), 0.5))

    p_values = drift_p_values(moved)

    assert p_values[0] < 1e-4
    assert p_values[1] > 0.99


@pytest.mark.parametrize(("n", "rate"), [(0.0, 0.5), (1.0, 1.0), (40.0, 0.5), (1e9, 0.0), (1e9, 1.0)])
def test_there_is_no_doubt_where_users_are_few_or_nothing_varied(n: float, rate: float) -> None:
    users = np.full((3, 2), n)

    assert drift_p_values(of_counts(users, rate * users, np.full((3, 2), 0.5))) == pytest.approx([1.0, 1.0])


def test_a_single_large_epoch_cannot_show_drift() -> None:
    users = np.array([[10_000.0, 10_000.0]])

    assert drift_p_values(of_counts(users, 0.3 * users, np.full((1, 2), 0.5))) == pytest.approx([1.0, 1.0])


def test_constant_means_are_doubted_about_as_often_as_the_level_says_though_traffic_follows_the_data() -> None:
    observed = equal_arms(0.5, 0.5, 0.01, 50)

    flagged = [drift_p_values(run(observed, i)) < 0.01 for i in range(len(observed.n))]

    # Where an arm was unlucky it gets few users until it is not: its blocks are not quite independent.
    assert np.mean(flagged) <= upper(0.02, 2 * len(flagged))


def test_drift_that_misleads_welch_is_nearly_always_found() -> None:
    observed = run_adaptive(binary(drifting(0.3, 0.7, 60)), seed=71, replications=200)

    found = [drift_p_values(run(observed, i)).min() < 0.005 for i in range(200)]

    assert np.mean(found) == 1.0
    assert BLOCKS == 10
