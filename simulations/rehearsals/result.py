"""Many rehearsals, policy by policy, with pairs of runs in which the same users come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from bandit import __version__
from bandit.arrays import FloatArray
from bandit.errors import InvalidInput, Problem
from simulations.compare import FIXED, under
from simulations.rehearsals.run import Task, rehearse
from simulations.scores import Estimate
from simulations.sweeps.run import world_name
from simulations.worlds import World

PAIRED = ("reward_per_user", "reward_acted_on", "days_to_decision")


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What several policies came to by the calendar.

    Attributes:
        world: The truth.
        seed: Repeats the same numbers on the same version.
        replications: Runs of each policy.
        runs: By policy, by number (`run.rehearse` says which), one value per run, shape (n_runs,).
    """

    world: World
    seed: int
    replications: int
    runs: Mapping[str, Mapping[str, FloatArray]]

    def number(self, policy: str, name: str) -> Estimate:
        """Return the mean of a number over runs; a day of suspension over the runs that suspended."""
        return Estimate.of(self.runs[policy][name])

    def over_fixed(self, policy: str, name: str) -> Estimate | None:
        """Return how much more a policy has than the fixed split, over pairs of runs; None without one."""
        if policy == FIXED or FIXED not in self.runs:
            return None
        return Estimate.of(self.runs[policy][name] - self.runs[FIXED][name])

    def to_dict(self) -> dict[str, object]:
        """Return JSON values: each number with its standard error beside it."""
        policies = {policy: self._policy(policy) for policy in self.runs}
        return {
            "schema": 1,
            "version": __version__,
            "experiment": self.world.experiment.key,
            "world": world_name(self.world),
            "seed": self.seed,
            "replications": self.replications,
            "policies": policies,
        }

    def _policy(self, policy: str) -> dict[str, object]:
        fields: dict[str, object] = {}
        for name in self.runs[policy]:
            fields |= self.number(policy, name).fields(name)
        for name in PAIRED:
            over = self.over_fixed(policy, name)
            if over is not None:
                fields |= over.fields(f"{name}_over_fixed")
        return fields


def rehearsal(
    world: World,
    policies: Sequence[str],
    *,
    replications: int,
    seed: int,
    executor: Executor,
    done: Callable[[], object] = lambda: None,
) -> Rehearsal:
    """Return what policies come to; numbers do not depend on the executor.

    Args:
        world: The truth, with a calendar.
        policies: Names, as `compare` takes them.
        replications: Runs of each, 1 or more.
        seed: Not negative.
        executor: Where the runs are done.
        done: Called after each run.

    Raises:
        InvalidInput: The world has no calendar, or a policy is unknown.
    """
    if world.calendar is None:
        message = "the world has no clock; add [arrivals] with users_per_day and days"
        raise InvalidInput([Problem("arrivals", message)])
    for policy in policies:
        under(world.experiment, policy)
    work = [Task(world, policy, seed, run) for run in range(replications) for policy in policies]
    found: dict[str, list[Mapping[str, float]]] = {policy: [] for policy in policies}
    for task, numbers in zip(work, executor.map(rehearse, work), strict=True):
        found[task.policy].append(numbers)
        done()
    runs = {policy: {name: np.array([one[name] for one in each]) for name in each[0]} for policy, each in found.items()}
    return Rehearsal(world, seed, replications, runs)
