"""Floors, suspended arms, and what they leave to control."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.allocation import with_floors


def test_weights_that_sum_to_less_than_one_leave_the_rest_to_control() -> None:
    p = with_floors(np.array([0.1, 0.2, 0.3]), np.array([0.2, 0.1, 0.1]), control=0)

    assert p == pytest.approx([0.2 + 0.6 * (0.1 + 0.4), 0.1 + 0.6 * 0.2, 0.1 + 0.6 * 0.3])


def test_a_suspended_arm_gets_nothing_and_its_floor_is_free_again() -> None:
    suspended = np.array([False, False, True])

    p = with_floors(np.array([0.1, 0.2, 0.7]), np.array([0.2, 0.1, 0.1]), suspended, control=0)

    assert p[2] == 0.0
    assert p == pytest.approx([0.2 + 0.7 * (0.1 + 0.7), 0.1 + 0.7 * 0.2, 0.0])


def test_control_gets_everything_if_all_others_are_suspended() -> None:
    suspended = np.array([True, False, True, True])

    p = with_floors(np.array([0.4, 0.1, 0.2, 0.3]), np.array([0.05, 0.2, 0.05, 0.05]), suspended, control=1)

    assert p.tolist() == [0.0, 1.0, 0.0, 0.0]


def test_suspended_arms_need_a_control_to_leave_their_share_to() -> None:
    with pytest.raises(ValueError, match="no control"):
        with_floors(np.array([0.5, 0.5]), np.zeros(2), np.array([False, True]))


@given(seed=st.integers(0, 10_000), n_arms=st.integers(2, 6), full=st.booleans())
def test_every_row_is_an_allocation_that_keeps_the_floors(seed: int, n_arms: int, full: bool) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(n_arms, 0.3), (4, 3)) * rng.choice([1.0, 0.9, 0.0], (4, 3, 1))
    floors = rng.dirichlet(np.ones(n_arms)) * (1.0 if full else rng.uniform(0, 1))
    control = int(rng.integers(n_arms))
    suspended = rng.random((4, 3, n_arms)) < 0.5
    suspended[..., control] = False

    p = with_floors(weights, floors, suspended, control)

    assert np.abs(p.sum(axis=-1) - 1.0).max() <= 1e-12
    assert (p[suspended] == 0.0).all()
    assert (p >= np.where(suspended, 0.0, floors)).all()
    assert (p[..., control][np.delete(suspended, control, axis=-1).all(axis=-1)] == 1.0).all()
    for at in np.ndindex(4, 3):
        going = ~suspended[at]
        placed = floors + (1.0 - floors[going].sum()) * weights[at]
        others = going & (np.arange(n_arms) != control)
        assert p[at][others] == pytest.approx(placed[others], abs=1e-12)
        assert p[at] == pytest.approx(with_floors(weights[at], floors, suspended[at], control), abs=1e-15)
