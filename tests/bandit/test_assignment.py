from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.assignment import UnitHash, arm_at, length_prefixed, thresholds

VECTORS = json.loads((Path(__file__).parent / "assignment_vectors.json").read_text())  # made with node's crypto module


@pytest.mark.parametrize("vector", VECTORS["points"], ids=lambda v: f"{v['purpose']}-{v['salt']}-{v['user_id'][:9]}")
def test_points_equal_those_of_another_language(vector: dict[str, object]) -> None:
    point = UnitHash(str(vector["purpose"]), str(vector["salt"]))

    assert point(str(vector["user_id"])) == vector["u"]


@pytest.mark.parametrize("vector", VECTORS["arms"], ids=lambda v: f"{v['user_id']}-{v['probabilities']}")
def test_arms_equal_those_of_another_language(vector: dict[str, Any]) -> None:
    u = UnitHash("arm", str(vector["salt"]))(str(vector["user_id"]))

    assert arm_at(u, thresholds(vector["probabilities"])) == vector["arm"]


def test_parts_are_kept_apart_by_their_lengths() -> None:
    assert length_prefixed("a", "bc") != length_prefixed("ab", "c")
    assert UnitHash("arm", "sal")("tuser") != UnitHash("arm", "salt")("user")


def test_an_arm_owns_its_lower_end_and_not_its_upper_end() -> None:
    ends = thresholds((0.25, 0.75))

    assert arm_at(0.0, ends) == 0
    assert arm_at(math.nextafter(0.25, 0.0), ends) == 0
    assert arm_at(0.25, ends) == 1
    assert arm_at(1.0 - 2.0**-53, ends) == 1


@given(
    weights=st.lists(st.floats(0, 1), min_size=2, max_size=50).filter(lambda w: sum(w) > 0),
    u=st.integers(0, 2**53 - 1),
)
def test_an_arm_without_probability_never_gets_a_user(weights: list[float], u: int) -> None:
    p = [w / sum(weights) for w in weights]

    arm = arm_at(u * 2.0**-53, thresholds(p))

    assert p[arm] > 0


def test_a_last_arm_without_probability_gets_nobody_even_if_rounding_leaves_a_gap() -> None:
    p = [0.1] * 10 + [0.0]  # sums to 0.9999999999999999

    assert arm_at(1.0 - 2.0**-53, thresholds(p)) == 9


def test_users_fall_on_arms_as_the_probabilities_say() -> None:
    point, ends = UnitHash("arm", "s"), thresholds((0.1, 0.2, 0.7))
    n = 20_000

    counts = np.bincount([arm_at(point(f"user-{i}"), ends) for i in range(n)], minlength=3)

    expected = n * np.array([0.1, 0.2, 0.7])
    assert ((counts - expected) ** 2 / expected).sum() < 18.4  # chi-square, 2 degrees of freedom: 1 in 10,000


def test_enrolment_is_independent_of_the_arm() -> None:
    arm, enrol = UnitHash("arm", "s"), UnitHash("enrol", "s")
    n = 20_000

    both = sum(arm(f"user-{i}") < 0.5 and enrol(f"user-{i}") < 0.5 for i in range(n))

    assert abs(both - n / 4) < 3.9 * math.sqrt(n * 3 / 16)
