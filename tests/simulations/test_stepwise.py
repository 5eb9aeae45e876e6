"""A new allocation after each user: drawing the variant has the law of drawing from its probability."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bandit.engine import posterior_of
from bandit.posteriors import BetaPosterior
from simulations.runner import Runs
from simulations.stepwise import fits, run_stepwise
from simulations.worlds import World
from tests.simulations.making import PLAIN, Z, differ, make_world, run

EACH = PLAIN | {"min_batch": 1}


def stepwise(world: World, users: int, runs: int, seed: int = 2) -> Runs:
    return run_stepwise(world.experiment, world.means, users, runs, np.random.SeedSequence(seed))


@pytest.mark.parametrize(
    ("rates", "goal", "policy"),
    [
        ([0.3, 0.6], {"baseline": 0.3}, {}),
        ([0.6, 0.3, 0.5], {"better": "lower", "baseline": 0.6}, {}),
        ([0.3, 0.6, 0.4], {"baseline": 0.4}, {"floor": 0.1, "control_floor": 0.2}),
    ],
)
def test_the_law_is_that_of_probabilities(rates: list[float], goal: dict[str, Any], policy: dict[str, Any]) -> None:
    """Users per arm and rewards after 120 users: means and spreads of 20,000 runs beside 2,000."""
    world = make_world(rates, goal=goal, policy=EACH | policy)
    fast, slow = stepwise(world, 120, 20_000), run(world, 120, 2_000, seed=1)
    for arm in range(len(rates)):
        assert differ(fast.assigned[:, arm], slow.assigned[:, arm]) < Z
        assert differ(fast.totals.z[:, arm], slow.totals.z[:, arm]) < Z
        assert fast.assigned[:, arm].std() == pytest.approx(slow.assigned[:, arm].std(), rel=0.15)
    assert (fast.assigned.sum(axis=1) == 120).all()
    assert set(fast.epochs) == set(slow.epochs) == {120}


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_its_totals_have_the_posterior_that_it_drew_from(better: str) -> None:
    world = make_world([0.2, 0.7], goal={"better": better, "baseline": 0.5}, policy=EACH)
    found = stepwise(world, 400, 200)
    posterior = posterior_of(world.experiment, found.totals)
    assert isinstance(posterior, BetaPosterior)
    mean = posterior.a / (posterior.a + posterior.b)
    truth = np.array([0.2, 0.7]) if better == "higher" else np.array([0.8, 0.3])
    best = int(truth.argmax())
    assert mean[:, best].mean() == pytest.approx(truth[best], abs=0.02)


def test_the_geometric_schedule_loses_no_more_than_renewal_after_each_reward() -> None:
    """Regret after 3,000 users, growth 2 %, 5,000 runs each: equal within noise, which is less than 7 % of it."""
    rates = [0.3, 0.4, 0.35]
    each = make_world(rates, goal={"baseline": 0.3}, policy=EACH)
    epochs = make_world(rates, goal={"baseline": 0.3}, policy=EACH | {"growth": 0.02})
    gaps = 0.4 - np.array(rates)
    a = stepwise(each, 3_000, 5_000).assigned @ gaps
    b = run(epochs, 3_000, 5_000).assigned @ gaps
    assert differ(a, b) < Z
    assert Z * np.sqrt(a.var() / 5_000 + b.var() / 5_000) < 0.07 * a.mean()


@pytest.mark.parametrize(
    "parts",
    [
        {"policy": EACH | {"warmup": 5}}, {"policy": EACH | {"growth": 0.1}}, {"policy": EACH | {"kind": "ucb"}},
        {"policy": EACH | {"half_life": 100}}, {"policy": PLAIN}, {"goal": {}, "policy": EACH},
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(parts: dict[str, Any]) -> None:
    world = make_world([0.3, 0.4], **{"goal": {"baseline": 0.3}, **parts})
    assert not fits(world.experiment)
    with pytest.raises(ValueError, match="min_batch = 1"):
        stepwise(world, 1, 1)
