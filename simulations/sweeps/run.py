"""A sweep: a row for each set-up, measured anywhere, equal everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

from bandit import __version__
from bandit.json_values import content_hash
from simulations.compare import FIXED, PAIRED, run_policy
from simulations.scores import Estimate, Score
from simulations.sweeps.settings import Setting
from simulations.worlds import World

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Task:
    """One row's work, which can be sent to another machine.

    Attributes:
        world: The truth, with its experiment.
        name: Of the world: 12 hex digits that are others whenever experiment or world is another.
        setting: The set-up.
        replications: Runs.
        seed: The same for every set-up: policies meet the same luck.
    """

    world: World = field(compare=False)
    name: str
    setting: Setting
    replications: int
    seed: int

    @property
    def identity(self) -> dict[str, object]:
        """What the row is about; equal identities have equal numbers."""
        return {
            "schema": SCHEMA,
            "version": __version__,
            "experiment": self.world.experiment.key,
            "world": self.name,
            "seed": self.seed,
            "replications": self.replications,
            **asdict(self.setting),
        }


def tasks(world: World, settings: Sequence[Setting], replications: int, seed: int) -> list[Task]:
    """Return the work of a sweep.

    Raises:
        InvalidInput: A set-up does not fit the experiment; so nothing has been run in vain.
    """
    name = world_name(world)
    for setting in settings:
        setting.asked(world.experiment)
    return [Task(world, name, setting, replications, seed) for setting in settings]


def world_name(world: World) -> str:
    """Return 12 hex digits that are others whenever experiment or world is another."""
    laws = [
        {"after_users": start, "laws": {metric: [repr(law) for law in each] for metric, each in stretch.laws.items()}}
        for start, stretch in zip((0, *(change.after_users for change in world.changes)), world.stretches, strict=True)
    ]
    more = {} if world.calendar is None else {"calendar": repr(world.calendar)}
    more |= {"correlations": repr(sorted(world.correlations.items()))} if world.correlations else {}
    return content_hash({"experiment": world.experiment.to_dict(), "laws": laws, **more})


def rows(work: Sequence[Task], executor: Executor) -> Iterator[dict[str, Any]]:
    """Yield the rows in the order of the work, as they are ready; equal on every executor.

    Args:
        work: From `tasks`.
        executor: Processes of this machine, a Dask cluster's, or any other.
    """
    yield from executor.map(row, work)


def row(task: Task) -> dict[str, Any]:
    """Return one row: what it is about, then the numbers of `scores.score`, each with its standard error.

    `…_over_fixed`: how much more than the fixed split, over pairs of runs with the same luck.
    """
    found, base = _measured(task), _fixed(replace(task, setting=task.setting.fixed))
    numbers: dict[str, Estimate] = {**found.numbers, **found.deciding, **found.limits}
    numbers |= {f"welch_{name}": estimate for name, estimate in found.welch.items()}
    for name in PAIRED if task.setting.policy != FIXED else ():
        numbers[f"{name}_over_fixed"] = Estimate.of(found.each[name] - base.each[name])
    fields = {key: value for name, estimate in numbers.items() for key, value in estimate.fields(name).items()}
    return {**task.identity, **fields}


def _measured(task: Task) -> Score:
    asked = task.setting.asked(task.world.experiment)
    return run_policy(task.world, asked, task.setting.users, task.replications, task.seed)


@lru_cache(maxsize=8)  # many rows are measured against one fixed split
def _fixed(task: Task) -> Score:
    return _measured(task)
