"""Windows of users who come back: their numbers, and what looking at them costs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.inference.windows import is_looked_at_again, log_price, looked_at_again, window_of
from bandit.measures import measures_of
from tests.bandit.making import make_experiment


def numbers_by_definition(most: int) -> dict[int, int]:
    """Each further visit is the next one, or a fifth beyond the last, whichever is later."""
    found, visit, window = {}, 1, 1
    while visit <= most:
        found[visit] = window
        visit, window = max(visit + 1, visit * 6 // 5), window + 1
    return found


def test_the_first_ten_visits_are_windows_of_their_own() -> None:
    assert [window_of(visit) for visit in range(1, 11)] == list(range(1, 11))


def test_later_ones_get_rarer_by_a_fifth() -> None:
    known = numbers_by_definition(100_000)
    found = {visit: number for visit in range(1, 100_001) if (number := window_of(visit)) is not None}

    assert found == known
    assert [visit for visit in found if 10 <= visit < 40] == [10, 12, 14, 16, 19, 22, 26, 31, 37]


@given(st.integers(1, 10**5))
def test_whoever_goes_on_coming_is_looked_at_before_another_quarter_of_the_visits(visit: int) -> None:
    assert any(window_of(each) is not None for each in range(visit, visit + visit // 4 + 1))


def test_nobody_is_in_a_window_before_the_first_visit() -> None:
    assert window_of(0) is None
    assert window_of(-3) is None
    assert window_of(11) is None


def test_numbers_of_windows_grow_with_the_logarithm_of_visits() -> None:
    last = max(number for visit in range(90_000, 130_000) if (number := window_of(visit)) is not None)

    assert last < 10 + math.log(130_000 / 10) / math.log(1.15)


def test_the_prices_of_all_windows_together_are_one() -> None:
    d = np.arange(1, 1_000_001)
    shares = np.exp(-log_price(d))

    assert shares[:3].tolist() == pytest.approx([1 / 2, 1 / 6, 1 / 12])
    assert float(shares.sum()) == pytest.approx(1.0 - 1.0 / 1_000_001)  # Σ 1/(d(d+1)) = 1 − 1/(n+1)
    assert float(log_price(1)) == pytest.approx(math.log(2.0))


def test_an_absolute_max_is_looked_at_again_and_no_other_limit() -> None:
    experiment = make_experiment(
        guardrails=[
            {"metric": "harm", "kind": "binary", "max": 0.01},
            {"metric": "solved", "kind": "binary", "min": 0.5},
            {"metric": "cost", "kind": "numeric", "max_increase": 0.2, "cap": 9.0},
            {"metric": "latency", "kind": "numeric", "max": 9.0, "quantile": 0.95},
            {"metric": "spend", "kind": "numeric", "max": 2.0},
            {"metric": "latency", "kind": "numeric", "max_increase": 0.1, "quantile": 0.9, "at": 9.0},
        ]
    )

    again = looked_at_again(experiment)

    assert [is_looked_at_again(rail) for rail in experiment.guardrails] == [True, False, False, True, True, False]
    assert list(again) == [0, 3, 4]
    assert [measures_of(experiment)[slot].metric for slot in again.values()] == ["harm", "latency", "spend"]
