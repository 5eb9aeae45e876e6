"""Lai and Robbins (1985): the regret of a good policy grows as C ln T, and Thompson sampling's as just that."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simulations.bounds import regret_constant
from tests.simulations.making import PLAIN, Z, make_world, run

# Rates, T, C ln T.
INSTANCES = [
    ([0.9, 0.8], 5_000, 19.2),
    ([0.25, 0.2], 10_000, 65.8),
    ([0.05, 0.04], 20_000, 87.9),
    ([0.1, *[0.05] * 3, *[0.02] * 3, *[0.01] * 3], 20_000, 172.8),
    ([0.5, *[0.4] * 9], 10_000, 411.7),
    ([0.5, *[0.48] * 9], 10_000, 2072),
]


@pytest.mark.parametrize(("rates", "users", "bound"), INSTANCES)
def test_the_constants_of_the_published_comparison(rates: list[float], users: int, bound: float) -> None:
    assert regret_constant(np.array(rates)) * math.log(users) == pytest.approx(bound, rel=5e-4, abs=0.05)


def test_thompson_samplings_regret_grows_by_c_for_each_unit_of_ln_t() -> None:
    """Asymptotically optimal, Kaufmann, Korda, Munos (2012): from 1 to 10 million users the slope is C."""
    rates, n_runs = np.array([0.9, 0.8]), 1_500
    world = make_world(rates.tolist(), goal={"baseline": 0.5}, policy=PLAIN | {"growth": 0.02})

    early, late = (0.1 * run(world, users, n_runs, seed).assigned[:, 1] for seed, users in ((1, 10**6), (2, 10**7)))

    unit = math.log(10.0) * regret_constant(rates)
    error = math.hypot(early.std(), late.std()) / math.sqrt(n_runs) / unit
    assert abs((late.mean() - early.mean()) / unit - 1.0) < Z * error
    assert Z * error < 0.35  # or it would say little


def test_a_floor_of_traffic_costs_regret_that_is_linear() -> None:
    """Each arm below the best keeps its floor: T × floor × gap, for ever."""
    floor, users, n_runs = 0.05, 10**6, 200
    world = make_world(
        [0.9, 0.8], goal={"baseline": 0.5}, policy=PLAIN | {"growth": 0.02, "floor": floor, "control_floor": floor}
    )

    early, late = (run(world, n, n_runs).assigned[:, 1] * 0.1 for n in (users, 2 * users))

    error = math.hypot(early.std(), late.std()) / math.sqrt(n_runs)
    assert abs((late.mean() - early.mean()) - users * floor * 0.1) < Z * error
