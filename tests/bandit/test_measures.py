"""What the guardrails of an experiment sum about users."""

from __future__ import annotations

from typing import Any

import pytest

from bandit.measures import (
    Measure,
    first_origin,
    guardrail_measure,
    measures_of,
    metric_bounds,
    metric_kinds,
    outcome_bounds,
)
from bandit.outcomes import Outcome, outcome_value, with_call
from tests.bandit.making import make_experiment

LATENCY: dict[str, Any] = {"metric": "latency", "kind": "numeric"}
ABSOLUTE = LATENCY | {"quantile": 0.95, "max": 1500}
RELATIVE = LATENCY | {"quantile": 0.95, "max_increase": 0.1, "at": 1200}


def test_a_relative_quantile_counts_calls_above_its_reference() -> None:
    asked = make_experiment(guardrails=[RELATIVE])

    (_, found) = measures_of(asked)

    assert found == Measure("latency", "numeric", "mean", above=1200, failed=1.0)
    assert [found.call(value) for value in (1199.9, 1200.0, 1200.1)] == [0.0, 0.0, 1.0]
    assert (outcome_bounds(asked, 1), first_origin(asked, 1)) == ((0.0, 1.0), 0.0)


def test_a_relative_quantile_takes_any_number_of_its_metric() -> None:
    asked = make_experiment(guardrails=[RELATIVE | {"at": -3}])

    assert metric_kinds(asked)["latency"] == "numeric"
    assert metric_bounds(asked, "latency") == (-float("inf"), float("inf"))


def test_limits_of_one_metric_share_a_measure_where_calls_count_alike() -> None:
    asked = make_experiment(guardrails=[ABSOLUTE, RELATIVE, RELATIVE | {"at": 1500}])

    assert [guardrail_measure(asked, rail) for rail in asked.guardrails] == [1, 2, 1]


@pytest.mark.parametrize(("values", "share"), [([1000, 1300], 0.5), ([1300, None], 1.0), ([900, None, 1], 1 / 3)])
def test_the_outcome_of_a_user_is_the_share_of_their_calls_above(values: list[float | None], share: float) -> None:
    """None is a failed call: it is above every limit."""
    (_, measure) = measures_of(make_experiment(guardrails=[RELATIVE]))
    assert measure.failed is not None
    outcome: Outcome | None = None

    for value in values:
        outcome = with_call(outcome, measure.failed if value is None else measure.call(value))

    assert outcome is not None
    assert outcome_value(measure, outcome) == pytest.approx(share)
