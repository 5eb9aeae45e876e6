"""`bandit-sim sweep`: many set-ups in one world, on all cores, on the same luck."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress

from bandit.experiment import Experiment
from bandit.wording import received
from simulations.charts.frontier import frontier
from simulations.charts.render import check_can_draw, write_pictures
from simulations.charts.style import Spec
from simulations.compare import POLICIES
from simulations.files import check_can_write, read_experiment, read_world
from simulations.options import ExperimentFile, Replications, Seed, policy_names, show
from simulations.sweeps.executors import cores, dask
from simulations.sweeps.files import append, check_parquet, done_before, write_parquet
from simulations.sweeps.run import Task, rows, tasks
from simulations.sweeps.settings import settings
from simulations.sweeps.text import LEGEND, sweep_tables

_T = TypeVar("_T")


def sweep(
    experiment: ExperimentFile,
    truth: Annotated[Path, typer.Option(metavar="WORLD", help="world file: the truth about each variant")],
    policies: Annotated[
        str | None, typer.Option(metavar="A,B", help=f"default: the file's and fixed; of {', '.join(POLICIES)}")
    ] = None,
    floors: Annotated[str | None, typer.Option(metavar="X,Y", help="least shares of each variant")] = None,
    control_floors: Annotated[str | None, typer.Option(metavar="X,Y", help="least shares of control")] = None,
    growths: Annotated[
        str | None, typer.Option(metavar="X,Y", help="refreshes: an epoch ends when users have grown by this part")
    ] = None,
    users: Annotated[str, typer.Option(metavar="N,M", help="horizons: users of each run")] = "10000",
    replications: Replications = 1_000,
    seed: Seed = 1,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="rows as JSONL; a sweep that was ended goes on in it")
    ] = None,
    parquet: Annotated[Path | None, typer.Option(metavar="FILE", help="all rows as Parquet, in the end")] = None,
    charts: Annotated[
        Path | None, typer.Option(metavar="DIR", help="pictures: reward against users to a decision, by horizon")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="processes; default: one for each core")] = None,
    cluster: Annotated[
        str | None, typer.Option("--dask", metavar="ADDRESS", help="a Dask scheduler, or local: its own processes")
    ] = None,
) -> None:
    """Every combination of policies, floors, refreshes and horizons in one world, a row for each.

    The numbers depend on experiment, world, seed and version alone, not on where or beside what they were measured.
    """
    for file, option in ((out, "--out"), (parquet, "--parquet")):
        if str(file) == "-":
            raise typer.BadParameter("received '-', allowed: a file", param_hint=option)
        check_can_write(file)
    check_parquet(parquet)
    check_can_draw(charts, None)
    asked = read_experiment(experiment)
    world = read_world(truth, asked)
    grid = settings(
        policy_names(policies, dict.fromkeys((asked.policy.kind, "fixed"))),
        _numbers(floors, "--floors", float),
        _numbers(control_floors, "--control-floors", float),
        _numbers(growths, "--growths", float),
        [int(number) for number in _numbers(users, "--users", _whole) if number is not None],
    )
    work = tasks(world, grid, replications, seed)
    known = [] if out is None else done_before(out, work)
    found = [*known, *_measured(work[len(known) :], out, jobs, cluster)]
    if parquet is not None:
        write_parquet(parquet, found)
    if charts is not None:
        horizons = dict.fromkeys(row["users"] for row in found)
        write_pictures(charts, {f"frontier-{each}": _picture(asked, found, each) for each in horizons})
    head = f"{asked.key}: {len(found)} set-ups, {replications:,} runs each, seed {seed}"
    show(None, [head, *sweep_tables(found, asked.goal.better), LEGEND])


def _picture(asked: Experiment, found: Sequence[dict[str, Any]], users: int) -> Spec:
    rows = [row for row in found if row["users"] == users]
    runs = f"{rows[0]['replications']:,} runs of {users:,} users, seed {rows[0]['seed']}; {asked.key}"
    return frontier(rows, asked.goal.metric, (runs,), asked.goal.better)


def _measured(work: Sequence[Task], out: Path | None, jobs: int | None, cluster: str | None) -> list[dict[str, Any]]:
    """Return the rows of the work, each written as soon as those before it are."""
    if not work:
        return []
    found = []
    with (
        Progress(console=Console(stderr=True), transient=True) as bar,
        cores(jobs) if cluster is None else dask(cluster) as executor,
    ):
        for row in bar.track(rows(work, executor), total=len(work), description="set-ups"):
            found.append(row)
            if out is not None:
                append(out, row)
    return found


def _whole(text: str) -> int:
    number = int(text.replace("_", ""))
    if not 1 <= number <= 10**12:
        raise ValueError
    return number


def _numbers(given: str | None, option: str, read: Callable[[str], _T]) -> list[_T | None]:
    """Return the numbers of a list with commas; None alone: the experiment's."""
    if given is None:
        return [None]
    found: list[_T | None] = []
    for text in given.split(","):
        try:
            number = read(text.strip())
        except ValueError:
            whole = "whole numbers from 1 to 10^12" if option == "--users" else "numbers"
            allowed = f"{whole}, with commas between them"
            raise typer.BadParameter(f"received {received(text)}, allowed: {allowed}", param_hint=option) from None
        if number in found:
            raise typer.BadParameter(f"received {received(text)} again, allowed: each once", param_hint=option)
        found.append(number)
    return found
