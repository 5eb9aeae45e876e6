from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.arrays import FloatArray
from bandit.inference.sample_ratio import STAKES, log_e_sample_ratio
from tests.bandit.inference.making import make_p
from tests.bandit.inference.traffic import EQUAL_ARMS, equal_arms, ever, upper


def by_user(users: FloatArray, p: FloatArray, arm: int) -> float:
    """Mean wealth over stakes, multiplied user by user."""
    wealth = dict.fromkeys(STAKES, 1.0)
    for epoch, counts in enumerate(users):
        for each, count in enumerate(counts):
            for stake in STAKES:
                factor = math.exp(stake * (each == arm)) / (1 - p[epoch, arm] + p[epoch, arm] * math.exp(stake))
                wealth[stake] *= factor ** int(count)
    return sum(wealth.values()) / len(STAKES)


@given(seed=st.integers(0, 10_000))
def test_e_values_equal_the_mean_wealth_multiplied_user_by_user(seed: int) -> None:
    users = np.random.default_rng(seed).integers(0, 9, (5, 3)).astype(np.float64)
    p = make_p(seed)

    log_e = log_e_sample_ratio(users, p)

    for arm in range(3):
        assert np.exp(log_e[-1, arm]) == pytest.approx(by_user(users, p, arm))
        assert np.exp(log_e[2, arm]) == pytest.approx(by_user(users[:3], p[:3], arm))


def test_the_exact_mean_is_one_for_every_arm_though_probabilities_follow_who_came_before() -> None:
    total = np.zeros(3)
    for path in product(range(3), repeat=5):
        users, p, probability = np.zeros((5, 3)), np.empty((5, 3)), 1.0
        for step, arm in enumerate(path):
            p[step] = np.roll([0.6, 0.3, 0.1], path[step - 1] if step else 0)
            probability *= p[step, arm]
            users[step, arm] = 1.0
        total += probability * np.exp(log_e_sample_ratio(users, p)[-1])

    assert total == pytest.approx(np.ones(3), abs=1e-12)


@pytest.mark.parametrize("world", EQUAL_ARMS)
def test_traffic_that_follows_the_data_sets_it_off_no_more_often_than_allowed(
    world: tuple[float, float, float, int],
) -> None:
    observed = equal_arms(*world)

    wrong = ever(log_e_sample_ratio(observed.n, observed.p).max(axis=-1), 0.05 / 2.0)

    assert wrong.mean() <= upper(0.05, len(wrong))


def test_users_lost_by_one_arm_set_it_off_for_both() -> None:
    n = np.tile([500.0, 400.0], (20, 1))

    log_e = log_e_sample_ratio(n, np.full((20, 2), 0.5))

    assert (log_e[-1] > math.log(1e6)).all()


def test_arms_that_could_not_be_drawn_and_empty_epochs_say_nothing() -> None:
    users = np.array([[5.0, 3.0, 0.0], [0.0, 0.0, 0.0]])

    log_e = log_e_sample_ratio(users, np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]))

    assert log_e[:, 2] == pytest.approx(0.0, abs=1e-12)
    assert log_e[1] == pytest.approx(log_e[0])


def test_a_billion_users_give_finite_numbers() -> None:
    assert np.isfinite(log_e_sample_ratio(np.array([[1e9, 1.0]]), np.array([[0.5, 0.5]]))).all()
