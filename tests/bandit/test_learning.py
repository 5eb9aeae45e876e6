"""Totals that forget, and totals of arms that start anew."""

from __future__ import annotations

import math
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest

from bandit.arrays import FloatArray, IntArray
from bandit.engine import allocate, fading, learn
from bandit.experiment import Experiment
from bandit.learning import Totals, totals_of
from tests.bandit.making import NUMERIC, make_experiment

DAY = 86_400.0


def random_epochs(experiment: Experiment, rng: np.random.Generator, n_epochs: int) -> tuple[IntArray, FloatArray]:
    """Return a ledger: users assigned, shape (n_epochs, n_arms), and their sums, (n_epochs, n_arms, 4)."""
    n = rng.integers(0, 60, (n_epochs, experiment.n_arms))
    y = [[rng.normal(5, 2, users) for users in epoch] for epoch in n]
    if experiment.goal.kind == "binary":
        y = [[(outcomes > 5).astype(float) for outcomes in epoch] for epoch in y]
    sums = [[[float((outcomes**power).sum()) for power in range(4)] for outcomes in epoch] for epoch in y]
    return n, np.array(sums)


@pytest.mark.parametrize("half_life", [300, "2d"])
@pytest.mark.parametrize("goal", [{}, {"better": "lower"}, NUMERIC, NUMERIC | {"better": "lower"}])
def test_the_running_totals_are_one_weighted_sum_over_the_ledger(half_life: int | str, goal: dict[str, Any]) -> None:
    experiment = make_experiment(3, goal=goal, policy={"half_life": half_life, "warmup": 0})
    rng = np.random.default_rng(5)
    n, sums = random_epochs(experiment, rng, 25)
    ends = np.cumsum(rng.uniform(0, DAY, 25))
    users = np.cumsum(n.sum(axis=-1))

    running = Totals.nothing((3,))
    for e in range(25):
        since = float(ends[e] - ends[max(e - 1, 0)])
        faded = running.faded(fading(experiment, int(n[e].sum()), since))
        running = learn(experiment, faded, totals_of(experiment, n[e], sums[e], 0.0))

    age = (users[-1] - users) / 300 if half_life == 300 else (ends[-1] - ends) / (2 * DAY)
    weight = 0.5**age
    weighted = totals_of(experiment, np.tensordot(weight, n, 1), np.tensordot(weight, sums, 1), 0.0)
    np.testing.assert_allclose(astuple(running)[:4], astuple(weighted)[:4], rtol=1e-12)
    assert weight.min() < 0.1
    np.testing.assert_allclose(
        allocate(experiment, running, n.sum(axis=0).astype(float)),
        allocate(experiment, weighted, n.sum(axis=0).astype(float)),
        rtol=0,
        atol=1e-9,
    )


def numbered(shape: tuple[int, ...]) -> Totals:
    """Return totals in which no two sums are alike."""
    assigned, n, z, z2 = np.arange(1.0, 1.0 + 4 * math.prod(shape)).reshape(4, *shape)
    return Totals(assigned, n, z, z2, 7.0)


def test_each_row_fades_by_its_own_factor() -> None:
    totals = numbered((2, 2, 3))

    faded = totals.faded(np.array([[1.0, 0.5], [0.25, 0.0]]))

    for before, after in zip(astuple(totals)[:4], astuple(faded)[:4], strict=True):
        np.testing.assert_array_equal(after[0, 0], before[0, 0])
        np.testing.assert_array_equal(after[0, 1], before[0, 1] / 2)
        np.testing.assert_array_equal(after[1, 0], before[1, 0] / 4)
        np.testing.assert_array_equal(after[1, 1], 0.0)
    assert faded.origin == 7.0


def test_an_arm_that_starts_anew_has_no_totals_and_the_others_keep_theirs() -> None:
    totals = numbered((2, 3))

    anew = totals.without(np.array([[False, True, False], [False, False, False]]))

    for before, after in zip(astuple(totals)[:4], astuple(anew)[:4], strict=True):
        assert after.tolist() == [[before[0, 0], 0.0, before[0, 2]], before[1].tolist()]
    assert anew.origin == 7.0
