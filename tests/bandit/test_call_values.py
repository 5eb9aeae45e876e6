"""The quantile over calls that is shown beside a guardrail on one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit import Bandit, markdown
from bandit.call_values import CallValues
from tests.bandit.guarding import HOUR, LATENCY, guarded, user_of
from tests.bandit.making import Clock

ONE = guarded(guardrails=[LATENCY])


@given(
    values=st.lists(st.floats(-1e9, 1e9).filter(lambda x: x == 0.0 or abs(x) > 1e-9), min_size=1, max_size=60),
    q=st.sampled_from([0.05, 0.5, 0.9, 0.95, 0.99]),
)
def test_a_quantile_is_within_one_percent_of_that_of_the_calls(values: list[float], q: float) -> None:
    counts = CallValues(ONE)
    for value in values:
        counts.count("latency_ms", 1, value)

    found = counts.quantile("latency_ms", 1, q)

    assert found == pytest.approx(float(np.quantile(values, q, method="inverted_cdf")), rel=0.0101, abs=0.0)
    assert counts.quantile("latency_ms", 0, q) is None


def test_the_report_shows_it_of_calls_whatever_users_they_are_of() -> None:
    clock = Clock()
    bandit = Bandit(ONE, clock)
    names = itertools.count()
    busy, idle = user_of(bandit, "B", names), user_of(bandit, "B", names)
    for _ in range(18):
        bandit.reward(busy, {"latency_ms": 100.0})
    for _ in range(2):
        bandit.reward(idle, {"latency_ms": 5000.0})
    bandit.reward(busy, {}, failed=True)  # has no latency
    for _ in range(2):  # the epoch ends, then it closes
        clock.now += HOUR + 1.0
        bandit.tick()
    bandit.reward(busy, {"latency_ms": 9000.0})  # in a later window

    (rail,) = bandit.report().guardrails

    assert rail.quantile == 0.9
    assert rail.calls == {"B": pytest.approx(100.0, rel=0.01)}
    assert rail.mean["B"] == pytest.approx((1 / 19 + 1.0) / 2)
    assert f"(P90 of calls {rail.calls['B']:.3g})" in markdown(bandit.report())
    assert Bandit.load(bandit.dump(), clock).report().guardrails == bandit.report().guardrails


def test_a_corrected_value_is_counted_once_and_a_new_version_begins_anew() -> None:
    bandit = Bandit(ONE)
    user = user_of(bandit, "B", itertools.count())
    bandit.reward(user, {"latency_ms": 5000.0}, request_id="r")
    bandit.reward(user, {"latency_ms": 50.0}, request_id="r", replace=True)
    assert bandit.report().guardrails[0].calls == {"B": pytest.approx(50.0, rel=0.01)}

    bandit.change("B", {"version": 2})
    assert bandit.report().guardrails[0].calls == {}
    bandit.reward(user, {"latency_ms": 5000.0})  # of the version before
    assert bandit.report().guardrails[0].calls == {}
