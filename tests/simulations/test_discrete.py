"""Discrete laws: scores and samples, counted instead of drawn one by one."""

from __future__ import annotations

import numpy as np
import pytest

from bandit.errors import InvalidInput
from simulations.laws import Bounds, Discrete
from simulations.outcomes import Numbers
from tests.simulations.making import Z, make_world

LAW = Discrete.of([1, 2, 3, 4, 5], [10, 20, 30, 25, 15])
GOAL = {"kind": "numeric", "range": [1, 5]}


def test_expectations_are_sums_over_the_values() -> None:
    assert LAW.mean == pytest.approx(3.15)
    assert [LAW.above(x) for x in (0, 1, 2.5, 5)] == pytest.approx([1.0, 0.9, 0.7, 0.0])
    assert [LAW.excess(x) for x in (0, 3, 5)] == pytest.approx([3.15, 0.25 + 2 * 0.15, 0.0])
    assert Bounds(2, 4).mean(LAW) == pytest.approx(0.3 * 2 + 0.3 * 3 + 0.4 * 4)


def test_a_sample_counts_what_comes_twice_twice() -> None:
    assert Discrete.of([2.0, 1.0, 2.0, 2.0]) == Discrete((1.0, 2.0), (0.25, 0.75))


@pytest.mark.parametrize("bounds", [Bounds(), Bounds(2, 4)])
def test_counted_sums_have_the_law_of_sums_of_single_draws(bounds: Bounds) -> None:
    """Means of Σz, Σz², Σz³ over 4,000 epochs of 25 users, beside single draws."""
    rng = np.random.default_rng(0)
    users = np.full((4_000, 1), 25)
    counted = Numbers((LAW,), bounds, 3.0).draw(rng, users, np.arange(4_000))[:, 0]
    y = np.clip(LAW.draw(rng, 4_000 * 25), bounds.low, bounds.high).reshape(4_000, 25) - 3.0
    drawn = np.stack([np.full(4_000, 25.0), y.sum(1), (y**2).sum(1), (y**3).sum(1)], axis=1)
    for k in range(1, 4):
        error = np.sqrt(counted[:, k].var() / 4_000 + drawn[:, k].var() / 4_000)
        assert abs(counted[:, k].mean() - drawn[:, k].mean()) < Z * error
        assert counted[:, k].var() == pytest.approx(drawn[:, k].var(), rel=0.1)
    assert (counted[:, 0] == 25).all()


@pytest.mark.parametrize(
    ("law", "field", "words"),
    [
        ({"law": "discrete"}, "values", "missing"),
        ({"law": "discrete", "values": []}, "values", "1 to 100000"),
        ({"law": "discrete", "values": [1, 9]}, "values", "received 9, allowed: inside the values of the metric"),
        ({"law": "discrete", "values": [1, 2], "weights": [0, 0]}, "weights", "not all 0"),
        ({"law": "discrete", "values": [1, 2], "weights": [1]}, "weights", "one for each of the 2 values"),
        ({"law": "discrete", "values": [1, 2], "weights": [1, -1]}, "weights[1]", "0 or more"),
        ({"law": "discrete", "values": [1, float("nan")]}, "values[1]", "finite"),
        ({"law": "discrete", "values": [1], "mean": 3}, "mean", "unknown key"),
        ({"law": "discreet", "values": [1]}, "law", "'normal', 'lognormal', 'discrete'"),
    ],
)  # fmt: skip
def test_what_is_no_discrete_law_is_refused_by_its_field(law: dict[str, object], field: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make_world([law, law], goal=GOAL)
    found = {problem.field: problem.message for problem in caught.value.problems}
    assert words in found[f"variants.A.resolved.{field}"], found
