"""`bandit-sim rehearse`: the experiment by the calendar, before any user sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from simulations.files import check_can_write, read_experiment, read_world, write_json
from simulations.options import ExperimentFile, JsonFile, Policies, Seed, policy_names, show
from simulations.rehearsals.result import rehearsal
from simulations.rehearsals.text import rehearsal_parts
from simulations.sweeps.executors import cores, dask


def rehearse(
    experiment: ExperimentFile,
    truth: Annotated[Path, typer.Option(metavar="WORLD", help="world file with [arrivals]")],
    policies: Policies = None,
    replications: Annotated[int, typer.Option(min=1, max=10**5, help="runs of each policy")] = 20,
    seed: Seed = 1,
    json: JsonFile = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="processes; default: one for each core")] = None,
    cluster: Annotated[
        str | None, typer.Option("--dask", metavar="ADDRESS", help="a Dask scheduler, or local: its own processes")
    ] = None,
) -> None:
    """The whole experiment by the calendar: arrivals, delays, missing rewards, returns, windows, ramps, guardrails.

    User by user through the engine as the service runs it, with a look at the report at the end of each day. Default:
    the file's own policy and the fixed split.
    """
    check_can_write(json)
    asked = read_experiment(experiment)
    names = policy_names(policies, dict.fromkeys((asked.policy.kind, "fixed")))
    world = read_world(truth, asked)
    with (
        Progress(console=Console(stderr=True), transient=True) as bar,
        cores(jobs) if cluster is None else dask(cluster) as executor,
    ):
        task = bar.add_task("runs", total=replications * len(names))
        found = rehearsal(
            world, names, replications=replications, seed=seed, executor=executor, done=lambda: bar.advance(task)
        )
    if json is not None:
        write_json(json, found.to_dict())
    show(json, [f"{asked.key}: a rehearsal", *rehearsal_parts(found)])
