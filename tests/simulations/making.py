"""Factories of worlds and runs for tests: defaults hide all that a test is not about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bandit.arrays import FloatArray, IntArray
from simulations.runner import Runs, run_epochs
from simulations.world_files import parse_world
from simulations.worlds import World
from tests.bandit.making import make_experiment

Z = 3.9
"""Standard errors that luck exceeds once in about 10,000 tests."""

PLAIN = {"floor": 0.0, "control_floor": 0.0, "warmup": 0, "growth": 0.0, "min_batch": 50}
"""Policy settings of the published simulations: batches of 50, no floors, no warm-up."""


def make_world(laws: Sequence[object], **parts: Any) -> World:  # noqa: ANN401 (tables of the experiment file)
    """Return a world with these laws of the goal, binary unless said; keywords are tables of its experiment."""
    asked = make_experiment(len(laws), **parts)
    table = {arm: {asked.goal.metric: law} for arm, law in zip(asked.arms, laws, strict=True)}
    return parse_world(asked, {"variants": table})


def run(world: World, users: int, runs: int, seed: int = 1) -> Runs:
    """Return runs of a world's own experiment."""
    horizons = np.full(runs, users, dtype=np.int64)
    return run_epochs(world.experiment, world.outcomes, horizons, np.random.SeedSequence(seed))


def differ(a: FloatArray | IntArray, b: FloatArray | IntArray) -> float:
    """Return the difference of two means in standard errors."""
    error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    return float(abs(a.mean() - b.mean()) / error)
