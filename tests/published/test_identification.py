"""Garivier and Kaufmann (2016): how traffic has to be shared to name the best arm soonest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from bandit.arrays import FloatArray
from simulations.bounds import best_weights, divergence, fewest_users, information
from tests.simulations.making import PLAIN, make_world, run

# Rates, w* as printed, T*, and T* kl(.1, .9): the least expected number of users at an error of 10 %.
INSTANCES = [
    ([0.5, 0.45, 0.43, 0.4], [0.417, 0.390, 0.136, 0.057], 989.8, 1740),
    ([0.3, 0.21, 0.2, 0.19, 0.18], [0.336, 0.251, 0.177, 0.132, 0.104], 326.6, 574),
]


@pytest.mark.parametrize(("rates", "printed", "difficulty", "users"), INSTANCES)
def test_the_best_weights_are_the_printed_ones(
    rates: list[float], printed: list[float], difficulty: float, users: int
) -> None:
    weights, found = best_weights(np.array(rates))

    np.testing.assert_allclose(weights, printed, rtol=0, atol=0.00051)
    assert found == pytest.approx(difficulty, abs=0.1)
    assert fewest_users(found, 0.1) == pytest.approx(users, abs=1.0)


@pytest.mark.parametrize("rates", [instance[0] for instance in INSTANCES])
def test_a_general_optimiser_finds_the_same_weights(rates: list[float]) -> None:
    mu, n_arms = np.array(rates), len(rates)

    # The largest t such that every rival is ruled out at t nats per 1,000 users or faster.
    def slack(x: FloatArray) -> FloatArray:
        shares = x[:-1] / x[:-1].sum()
        return np.array([1_000.0 * float(information(shares[[0, a]], mu[[0, a]])) - x[-1] for a in range(1, n_arms)])

    def slowness(x: FloatArray, *_: object, **__: object) -> float:
        return -float(x[-1])

    found = optimize.minimize(
        slowness,
        np.append(np.full(n_arms, 1.0 / n_arms), 0.0),
        method="SLSQP",
        constraints=(
            optimize.NonlinearConstraint(slack, 0.0, np.inf),
            optimize.LinearConstraint(np.append(np.ones(n_arms), 0.0), 1.0, 1.0),
        ),
        bounds=optimize.Bounds(np.append(np.full(n_arms, 1e-6), 0.0), np.append(np.ones(n_arms), np.inf)),
        tol=1e-12,
    )

    weights, difficulty = best_weights(mu)
    np.testing.assert_allclose(found.x[:-1], weights, rtol=0, atol=1e-3)
    assert 1_000.0 / found.x[-1] == pytest.approx(difficulty, rel=1e-4)


@given(st.floats(0.02, 0.97), st.floats(0.05, 0.95))
def test_two_arms_are_told_apart_at_chernoffs_information(best: float, part: float) -> None:
    """K = 2: at the best weights both rates are equally far from the middle m, and 1/T* is that distance."""
    rates = np.array([best, best * part])

    weights, difficulty = best_weights(rates)

    m = optimize.brentq(lambda q: float(divergence(rates[0], q) - divergence(rates[1], q)), rates[1], rates[0])
    assert weights @ rates == pytest.approx(m, rel=1e-5)
    assert 1.0 / difficulty == pytest.approx(float(divergence(best, m)), rel=1e-5)


@given(st.sampled_from(INSTANCES), st.integers(0, 10_000))
def test_no_other_weights_are_better(instance: tuple[list[float], list[float], float, int], seed: int) -> None:
    rates = np.array(instance[0])
    weights, difficulty = best_weights(rates)
    rng = np.random.default_rng(seed)
    other = rng.dirichlet(10.0 ** rng.uniform(0, 3) * weights)

    assert information(other, rates) <= (1.0 + 1e-9) / difficulty


@pytest.mark.parametrize(("rates", "printed"), [instance[:2] for instance in INSTANCES])
def test_top_two_shares_traffic_as_the_theory_asks_for(rates: list[float], printed: list[float]) -> None:
    """Russo (2016): with the best arm's own share as beta, top-two sampling tends to w*."""
    users, n_runs = 10_000, 200

    def shares(policy: dict[str, object]) -> FloatArray:
        world = make_world(rates, goal={"baseline": 0.5}, policy=PLAIN | {"growth": 0.02} | policy)
        return np.asarray(run(world, users, n_runs).assigned.mean(axis=0) / users)

    def distance(p: FloatArray) -> float:
        return float(np.abs(p - printed).sum()) / 2.0

    top_two = distance(shares({"kind": "top_two", "beta": printed[0]}))
    assert top_two < 0.08
    assert top_two < 0.5 * distance(shares({"kind": "fixed"}))
    assert top_two < 0.2 * distance(shares({"kind": "thompson"}))
