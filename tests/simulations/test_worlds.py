from __future__ import annotations

import numpy as np
import pytest

from bandit.arrays import FloatArray
from bandit.measures import Z2, N
from bandit.measures import Z as Z1
from simulations.laws import Bounds, Law, Lognormal, Normal
from simulations.world_files import parse_world
from simulations.worlds import Numbers, Successes
from tests.bandit.making import NUMERIC, make_experiment
from tests.simulations.making import Z, make_world

RUNS = 4_000


def drawn(outcomes: Numbers | Successes, users: list[int], runs: int = RUNS) -> FloatArray:
    counts = np.tile(np.array(users, dtype=np.int64), (runs, 1))
    return outcomes.draw(np.random.default_rng(7), counts, np.arange(runs))


def test_binary_sums_are_binomial() -> None:
    sums = drawn(Successes(np.array([0.2, 1.0, 0.5])), [40, 10, 0])

    assert (sums[..., N] == [40, 10, 0]).all()
    assert (sums[..., Z1] == sums[..., Z2]).all()
    assert (sums[:, 1, Z1] == 10).all()
    assert (sums[:, 2, Z1] == 0).all()
    assert abs(sums[:, 0, Z1].mean() - 8.0) < Z * np.sqrt(6.4 / RUNS)
    assert sums[:, 0, Z1].var() == pytest.approx(6.4, rel=Z * np.sqrt(2 / RUNS))


def test_rates_may_differ_from_run_to_run() -> None:
    outcomes = Successes(np.array([[0.0, 1.0], [1.0, 0.0]]))

    sums = outcomes.draw(np.random.default_rng(1), np.array([[5, 5]]), np.array([1]))

    assert sums[0, :, Z1].tolist() == [5.0, 0.0]


@pytest.mark.parametrize("n", [1, 2, 30])
@pytest.mark.parametrize("law", [Normal(4.0, 2.0), Lognormal(4.0, 2.0)], ids=repr)
def test_numeric_sums_have_the_law_of_sums_over_users(law: Law, n: int) -> None:
    sums = drawn(Numbers((law, law), Bounds(), 3.0), [n, 0])

    z = law.draw(np.random.default_rng(8), RUNS * n).reshape(RUNS, n) - 3.0
    for column, expected in ((Z1, z.sum(axis=1)), (Z2, (z * z).sum(axis=1))):
        got = sums[:, 0, column]
        error = np.sqrt((got.var() + expected.var()) / RUNS)
        assert abs(got.mean() - expected.mean()) < Z * error
        assert np.quantile(got, 0.25) == pytest.approx(np.quantile(expected, 0.25), abs=Z * 2.0 * error)
    squares = sums[:, 0, Z2] - sums[:, 0, Z1] ** 2 / n
    assert squares.min() > -1e-9
    assert (squares.mean() < 1e-9) == (n == 1)
    assert (sums[:, 1, :3] == 0).all()


def test_users_drawn_one_by_one_are_booked_to_their_own_run_and_arm() -> None:
    constant = (Lognormal(5.0, 0.0), Lognormal(7.0, 0.0))
    users = np.array([[3, 0], [0, 2], [400_000, 1]])

    sums = Numbers(constant, Bounds(high=6.0), 4.0).draw(np.random.default_rng(1), users, np.arange(3))

    assert sums[..., Z1] == pytest.approx(users * [1.0, 2.0])
    assert sums[..., Z2] == pytest.approx(users * [1.0, 4.0])


def test_outcomes_are_cut_to_the_range_and_the_truth_is_the_mean_after_cutting() -> None:
    experiment = make_experiment(goal=NUMERIC | {"range": [1, 5], "cap": 4.5})
    laws = {"score": {"mean": 4.0, "sd": 1.0}}
    world = parse_world(experiment, {"variants": {"A": laws, "B": laws}})

    sums = world.outcomes.draw(np.random.default_rng(1), np.array([[100_000, 0]]), np.arange(1))
    rng = np.random.default_rng(2)
    values = np.array([world.user(rng, "A")["score"] for _ in range(2_000)])

    mean = world.outcomes.origin + sums[0, 0, Z1] / 100_000
    assert mean == pytest.approx(world.means[0], abs=Z * 0.8 / np.sqrt(100_000))
    assert world.means[0] < 3.9
    assert "cut" in world.notes[0]
    assert 4.5 < values.max() <= 5.0  # the engine cuts at the cap
    assert values.min() >= 1.0


def test_a_limit_on_a_mean_needs_values_that_are_not_negative() -> None:
    rail = {"metric": "cost", "kind": "numeric", "max": 2.0}
    experiment = make_experiment(guardrails=[rail])
    laws = {"resolved": 0.5, "cost": {"mean": 0.5, "sd": 1.0}}
    world = parse_world(experiment, {"variants": {"A": laws, "B": laws}})
    rng = np.random.default_rng(1)

    values = [world.user(rng, "B")["cost"] for _ in range(100)]

    assert min(values) == 0.0
    assert world.guardrail_means(experiment.guardrails[0])[0] > 0.5


def test_guardrails_are_described_by_rate_mean_or_share_above_the_limit() -> None:
    rails = [
        {"metric": "latency", "kind": "numeric", "quantile": 0.95, "max": 100.0},
        {"metric": "harmful", "kind": "binary", "max": 0.01},
        {"metric": "cost", "kind": "numeric", "max_increase": 0.2, "cap": 1e9},
        {"metric": "unknown", "kind": "binary", "max": 0.01},
    ]
    experiment = make_experiment(guardrails=rails)
    laws = {"resolved": 0.5, "latency": {"mean": 100, "sd": 9}, "harmful": 0.02, "cost": {"mean": 3, "sd": 0}}
    world = parse_world(experiment, {"variants": {"A": laws, "B": laws}})

    levels = [world.guardrail_means(rail)[1] for rail in world.simulated]

    assert levels == pytest.approx([0.5, 0.02, 3.0])
    assert world.not_simulated == ("unknown",)


def test_a_world_draws_binary_values_that_the_engine_accepts() -> None:
    world = make_world([0.5, 0.5])
    rng = np.random.default_rng(1)

    values = {world.user(rng, "A")["resolved"] for _ in range(50)}

    assert values == {0.0, 1.0}
