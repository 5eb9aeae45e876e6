from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.ledger import Ledger, move
from bandit.measures import Measure, guardrail_measure, measures_of
from bandit.outcomes import Outcome, outcome_value, with_call, with_replacement
from tests.bandit.making import make_experiment

LATENCY = {"metric": "latency_ms", "kind": "numeric"}
values = st.lists(st.floats(0, 100), min_size=1, max_size=8)


def outcome_of(measure: Measure, calls: list[float]) -> Outcome:
    state: Outcome | None = None
    for call in calls:
        state = with_call(state, measure.call(call))
    assert state is not None
    return state


@pytest.mark.parametrize("per_user", ["mean", "first", "any", "sum"])
@given(calls=values)
def test_a_users_calls_make_one_outcome(per_user: str, calls: list[float]) -> None:
    measure = Measure("m", "numeric", per_user)
    expected = {
        "mean": sum(calls) / len(calls),
        "first": calls[0],
        "any": float(any(calls)),
        "sum": sum(calls),
    }

    assert outcome_value(measure, outcome_of(measure, calls)) == pytest.approx(expected[per_user])


@pytest.mark.parametrize("per_user", ["mean", "first", "sum"])
@given(calls=values, at=st.integers(0, 7), new=st.floats(0, 100))
def test_a_corrected_call_leaves_the_outcome_as_if_it_had_come_right(
    per_user: str, calls: list[float], at: int, new: float
) -> None:
    measure, at = Measure("m", "numeric", per_user), at % len(calls)

    corrected = with_replacement(outcome_of(measure, calls), calls[at], new, is_first=at == 0)

    right = outcome_of(measure, [*calls[:at], new, *calls[at + 1 :]])
    assert outcome_value(measure, corrected) == pytest.approx(outcome_value(measure, right), abs=1e-9)


def test_a_quantile_counts_calls_above_the_limit_not_means_above_it() -> None:
    measure = Measure("latency_ms", "numeric", "mean", above=1500.0)

    assert outcome_value(measure, outcome_of(measure, [100, 1600, 1500, 9000])) == 0.5


def test_outcomes_are_cut_at_the_cap() -> None:
    assert outcome_value(Measure("cost", "numeric", "sum", cap=1.0), (3, 2.5, 0.5)) == 1.0


@given(calls=st.lists(st.tuples(st.integers(0, 5), st.floats(0, 3)), max_size=30), origin=st.floats(-2, 2))
def test_outcomes_moved_by_difference_equal_the_sums_over_final_outcomes(
    calls: list[tuple[int, float]], origin: float
) -> None:
    measure = Measure("cost", "numeric", "mean", limit=1.0, cap=2.0)
    row, states = [0.0] * measure.width, dict[int, Outcome]()
    for user, value in calls:
        old = outcome_value(measure, states[user]) if user in states else None
        states[user] = with_call(states.get(user), value)
        move(row, measure, origin, old, outcome_value(measure, states[user]))

    final = [measure.transforms(outcome_value(measure, state), origin) for state in states.values()]
    expected = [math.fsum(column) for column in zip(*final, strict=True)] or [0.0] * measure.width
    assert row == pytest.approx(expected, abs=1e-9)


def test_log_wealths_are_of_bets_of_both_signs_where_a_cap_keeps_them_fair() -> None:
    open_ended = Measure("cost", "numeric", "mean", limit=0.5)
    capped = Measure("cost", "numeric", "mean", limit=0.5, cap=2.0)

    assert min(open_ended.stakes) > 0
    assert min(capped.stakes) < 0 < max(capped.stakes)
    for y in (0.0, 2.0):
        assert all(math.isfinite(term) for term in capped.transforms(y, 0.0))
    assert capped.transforms(2.0, 0.0)[4] == pytest.approx(math.log(1 + 0.01 * 3))


def test_a_metric_may_be_measured_in_several_ways() -> None:
    experiment = make_experiment(
        goal=LATENCY | {"better": "lower"},
        guardrails=[LATENCY | {"quantile": 0.95, "max": 1500}, LATENCY | {"max_increase": 0.1}],
    )

    measures = measures_of(experiment)

    assert [(m.metric, m.above) for m in measures] == [("latency_ms", None), ("latency_ms", 1500.0)]
    assert [guardrail_measure(experiment, g) for g in experiment.guardrails] == [1, 0]


def random_ledger(seed: int, n_epochs: int) -> Ledger:
    rng = np.random.default_rng(seed)
    measures = measures_of(make_experiment(3, guardrails=[LATENCY | {"max": 900}]))
    empty = Ledger.empty(measures, n_epochs, 3)
    sums = tuple(rng.integers(0, 9, s.shape).astype(float) for s in empty.sums)
    return Ledger(rng.integers(0, 99, (n_epochs, 3)), rng.integers(0, 9, (n_epochs, 3)), sums, (0.0, None))


@given(st.integers(0, 99), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_ledgers_add_in_any_order(seed: int, i: int, j: int, k: int) -> None:
    a, b, c = random_ledger(seed, i), random_ledger(seed + 1, j), random_ledger(seed + 2, k)

    left, right = (a + b) + c, c + (b + a)

    assert (left.assigned == right.assigned).all()
    assert (left.moved == right.moved).all()
    assert all((x == y).all() for x, y in zip(left.sums, right.sums, strict=True))


def test_sums_about_different_origins_do_not_add() -> None:
    a, b = random_ledger(1, 2), random_ledger(2, 2)
    moved = Ledger(b.assigned, b.moved, b.sums, (1.0, None))

    with pytest.raises(ValueError, match=r"origins 0\.0 and 1\.0"):
        _ = a + moved


def test_ledgers_of_different_experiments_do_not_add() -> None:
    other = Ledger.empty(measures_of(make_experiment(2)), 1, 2)

    with pytest.raises(ValueError, match="different experiments"):
        _ = random_ledger(1, 1) + other
