"""What a guardrail limits: as a number, and in words."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.experiment import Guardrail
from bandit.limits import Limit, limit_in_words, limit_of, share_above

P95: dict[str, Any] = {"metric": "latency_ms", "kind": "numeric", "quantile": 0.95}


def rail(kind: str = "binary", **limit: Any) -> Guardrail:  # noqa: ANN401 (keys of a guardrail)
    return Guardrail(**{"metric": "m", "kind": kind} | limit)


LIMITS = [
    (rail(max=0.01), Limit("rate", False, 0.01, 0.01), "at most 1 %"),
    (rail(min=0.9, tolerance=0.1), Limit("rate", True, 0.9, 0.81), "at least 90 %"),
    (rail(max_increase=0.5), Limit("rate ratio", False, 1.5, 1.5), "at most 50 % above control"),
    (rail(max_decrease=0.01), Limit("rate ratio", True, 0.99, 0.99), "at most 1 % below control"),
    (rail("numeric", max=2.5), Limit("mean", False, 2.5, 2.5), "at most 2.5"),
    (rail("numeric", max_increase=0.2), Limit("mean ratio", False, 1.2, 1.2), "at most 20 % above control"),
    (rail(**P95, max=1500.0), Limit("rate", False, 0.05, 0.05), "at most 5 % of calls above 1500"),
    (
        rail(**P95, max_increase=0.1, at=1200.0, tolerance=0.2),
        Limit("rate ratio", False, 1.1, 1.32),
        "calls above 1200 at most 10 % more often than control",
    ),
    (
        rail(**P95, max_increase=0.0, at=0.0),
        Limit("rate ratio", False, 1.0, 1.0),
        "calls above 0 at most 0 % more often than control",
    ),
]


@pytest.mark.parametrize(("guardrail", "limit", "words"), LIMITS, ids=[words for _, _, words in LIMITS])
def test_a_limit_is_a_number_and_a_phrase(guardrail: Guardrail, limit: Limit, words: str) -> None:
    found = limit_of(guardrail)

    assert (found.of, found.above) == (limit.of, limit.above)
    assert (found.declared, found.certified) == pytest.approx((limit.declared, limit.certified), rel=1e-12)
    assert found.is_relative == guardrail.is_relative
    assert limit_in_words(guardrail) == words


def test_the_level_of_a_relative_quantile_moves_no_limit() -> None:
    """Control's share of calls above `at` is measured, whatever it was thought to be."""
    assert limit_of(rail(**P95 | {"quantile": 0.5}, max_increase=0.1, at=1200.0)).declared == pytest.approx(1.1)


@given(st.integers(1, 10**6 - 1))
def test_the_share_above_a_quantile_is_the_one_written(millionths: int) -> None:
    assert share_above(millionths / 10**6) == float(Decimal(10**6 - millionths) / 10**6)


@pytest.mark.parametrize("quantile", [1 - 2**-53, 1 - 1e-13])
def test_the_share_above_a_quantile_near_one_is_not_lost(quantile: float) -> None:
    assert share_above(quantile) == pytest.approx(1 - quantile, rel=0.1)
    assert limit_of(rail(**P95 | {"quantile": quantile}, max=1.0)).declared > 0
