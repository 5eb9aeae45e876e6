"""What several commands of `bandit-sim` take, and how they show what they found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bandit.errors import InvalidInput
from bandit.wording import received, unknown_name
from simulations.compare import POLICIES, settings_of

ExperimentFile = Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="experiment file, .toml or .json")]
Policies = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        help=f"policies, with commas between them: {', '.join(POLICIES)}; one that forgets: thompson:half_life=USERS",
    ),
]
Floor = Annotated[float | None, typer.Option(min=0, max=1, help="least share of each variant, instead of the file's")]
ControlFloor = Annotated[float | None, typer.Option(min=0, max=1, help="least share of control")]
Seed = Annotated[int, typer.Option(min=0, help="the same seed gives the same numbers")]
Users = Annotated[int, typer.Option(min=1, max=10**12, help="users of each run")]
Replications = Annotated[int, typer.Option(min=1, max=10**6, help="runs of each policy")]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="write the result as JSON; - writes only it, to stdout")
]


def policy_names(given: str | None, default: Iterable[str]) -> list[str]:
    """Return the policies asked for, each known and named once.

    Raises:
        typer.BadParameter: One is unknown, named twice or empty.
    """
    if given is None:
        return list(default)
    names = [name.strip() for name in given.split(",")]
    for index, name in enumerate(names):
        if name.partition(":")[0] not in POLICIES:
            raise typer.BadParameter(
                f"unknown policy {received(name)}; {unknown_name(name, POLICIES)}", param_hint="--policies"
            )
        try:
            settings_of(name)
        except InvalidInput as error:
            raise typer.BadParameter(error.problems[0].message, param_hint="--policies") from None
        if name in names[:index]:
            raise typer.BadParameter(f"received {received(name)} again, allowed: each once", param_hint="--policies")
    return names


def show(json: Path | None, parts: Sequence[str | Table]) -> None:
    """Print text and tables to standard output, unless JSON has gone there."""
    if json is not None and str(json) == "-":
        return
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=120)
    for part in parts:
        console.print(part, markup=False) if isinstance(part, str) else console.print(part)
