"""Thompson sampling on arms without luck is an urn, whose law is known exactly.

Flat priors, an allocation per user. If both arms always succeed, the chance of an arm is (its plays + 1)/(all + 2):
the urn of Eggenberger and Pólya (1923), whose counts are uniform. If both always fail, it is (the other's
plays + 1)/(all + 2): the urn of Friedman (1949), whose counts follow the Eulerian numbers, as the descents of a random
permutation do. The law of the plays is carried from user to user, so nothing is simulated.
"""

from __future__ import annotations

import numpy as np
import pytest

from bandit.arrays import FloatArray
from bandit.policies import Thompson
from bandit.posteriors import BetaPosterior

USERS = 400


def law_of_plays(succeed: bool, users: int = USERS) -> FloatArray:
    """Return P(arm 0 was played 0, 1, …, users times), shape (users + 1,)."""
    law = np.ones(1)
    for n in range(users):
        plays = np.arange(n + 1.0)
        counts = 1.0 + np.stack([plays, n - plays], axis=-1)
        flat = np.ones_like(counts)
        posterior = BetaPosterior(counts, flat) if succeed else BetaPosterior(flat, counts)
        first = Thompson().allocate(posterior, np.full(n + 1, float(n)))[:, 0]
        law = np.append(law * (1.0 - first), 0.0) + np.append(0.0, law * first)
    return law


def eulerian(users: int) -> FloatArray:
    """Return the law of the descents of a random permutation of users + 1 elements, shape (users + 1,)."""
    law = np.ones(1)
    for n in range(1, users + 1):
        k = np.arange(n + 1.0)
        law = (np.append(law, 0.0) * (k + 1.0) + np.append(0.0, law) * (n + 1.0 - k)) / (n + 1.0)
    return law


def moments(law: FloatArray) -> tuple[float, float]:
    """Return mean and variance of the share of arm 0."""
    share = np.arange(len(law)) / (len(law) - 1)
    mean = float(law @ share)
    return mean, float(law @ (share - mean) ** 2)


@pytest.fixture(scope="module")
def succeeding() -> FloatArray:
    return law_of_plays(succeed=True)


@pytest.fixture(scope="module")
def failing() -> FloatArray:
    return law_of_plays(succeed=False)


def test_where_both_arms_always_succeed_every_share_is_equally_likely(succeeding: FloatArray) -> None:
    np.testing.assert_allclose(succeeding, 1.0 / (USERS + 1), rtol=1e-6)
    assert moments(succeeding) == pytest.approx((0.5, (1.0 + 2.0 / USERS) / 12.0), rel=1e-6)


def test_where_both_arms_always_fail_the_shares_stay_near_one_half(failing: FloatArray) -> None:
    np.testing.assert_allclose(failing, eulerian(USERS), rtol=0, atol=1e-8)
    # Variance of the descents of a permutation of m elements: (m + 1)/12.
    assert moments(failing) == pytest.approx((0.5, (USERS + 2.0) / 12.0 / USERS**2), rel=1e-6)
