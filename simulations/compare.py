"""Policies side by side in one world: the same experiment, users and seeds under each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from bandit.errors import InvalidInput, Problem
from bandit.experiment import Experiment
from bandit.experiment_parts import PolicyKind
from bandit.wording import unknown_name
from simulations.runner import run_epochs
from simulations.scores import Score, score
from simulations.worlds import World

POLICIES: tuple[str, ...] = get_args(PolicyKind)
"""Names of the policies that the engine has."""

Watcher = Callable[[str, int], None]
"""Is told after each epoch the policy and how many users it had, over all runs."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What several policies came to in one world.

    Attributes:
        experiment: What was asked.
        world: The truth.
        seed: Repeats the same numbers on the same versions.
        users: Users of each run.
        replications: Runs of each policy.
        policies: Scores by name, in the order asked for.
    """

    experiment: Experiment
    world: World
    seed: int
    users: int
    replications: int
    policies: Mapping[str, Score]

    def to_dict(self) -> dict[str, object]:
        """Return the JSON contract, schema 1."""
        return {
            "schema": 1,
            "seed": self.seed,
            "users": self.users,
            "replications": self.replications,
            "not_simulated": list(self.world.not_simulated),
            "policies": {name: result.to_dict() for name, result in self.policies.items()},
        }


def compare(
    world: World,
    policies: Sequence[str],
    *,
    users: int = 10_000,
    replications: int = 1_000,
    seed: int = 1,
    floor: float | None = None,
    control_floor: float | None = None,
    watch: Watcher | None = None,
) -> Comparison:
    """Return how policies fare in a world.

    Every policy starts from the same seeds, so its numbers do not depend on the others asked for.

    Args:
        world: The truth, and the experiment it is about.
        policies: Names among `POLICIES`.
        users: Users of each run, 1 or more.
        replications: Runs of each policy, 1 or more.
        seed: Not negative.
        floor: Least share of each arm instead of the experiment's; "fixed" has none.
        control_floor: Least share of control instead of the experiment's.
        watch: Called after each epoch.

    Raises:
        InvalidInput: A policy is unknown or the floors do not fit.
    """
    horizons = np.full(replications, users, dtype=np.int64)
    scores: dict[str, Score] = {}
    for name in policies:
        asked = under(world.experiment, name, floor, control_floor)
        told = None if watch is None else _about(watch, name)
        runs = run_epochs(asked, world.outcomes, horizons, np.random.SeedSequence(seed), told)
        scores[name] = score(asked, world, runs)
    return Comparison(world.experiment, world, seed, users, replications, scores)


def under(
    experiment: Experiment, policy: str, floor: float | None = None, control_floor: float | None = None
) -> Experiment:
    """Return the experiment under another policy and other floors; None keeps a floor.

    "fixed" is the file's split if the file's policy is "fixed", else the equal one.

    Raises:
        InvalidInput: The policy is unknown or the floors do not fit.
    """
    if policy not in POLICIES:
        raise InvalidInput([Problem("policies", f"unknown policy; {unknown_name(policy, POLICIES)}")])
    changes: dict[str, object] = {"kind": policy}
    if policy == "fixed" and experiment.policy.kind != "fixed":
        changes["split"] = None
    if floor is not None:
        changes["floor"] = floor
    if control_floor is not None:
        changes["control_floor"] = control_floor
    return experiment.with_policy(**changes)


def _about(watch: Watcher, name: str) -> Callable[[int], None]:
    return lambda users: watch(name, users)
