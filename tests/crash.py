"""Kill a real server under load, again and again, and compare its store with what its clients were told.

python -m tests.crash --kills 200
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.server.harness import Lost, Served, declared
from tests.server.harness_checks import check_store
from tests.server.harness_clients import Client
from tests.server.harness_crowd import Crowd
from tests.server.harness_journal import IN_FLIGHT_NOT_STORED, IN_FLIGHT_STORED

LOAD_SECONDS = (0.05, 1.0)
"""Least and most time of load before a kill."""

CHECK_EACH = 20
"""Kills between two comparisons with the store."""

ASKED_IN_THE_END = 2_000
"""Users, and rewards, that are asked for once more when all is over, of each client at most."""


@dataclass
class Outcome:
    """What a run comes to.

    Attributes:
        clients: With all that they were told.
        path: The store.
        counts: How often what was done, answered and found.
        starts: Seconds that each start took until the server answered.
    """

    clients: list[Client]
    path: Path
    counts: Counter[str]
    starts: list[float]


def crash(
    folder: Path,
    kills: int,
    clients: int = 6,
    workers: int = 1,
    seed: int = 1,
    after_kill: Callable[[], object] = lambda: None,
) -> Outcome:
    """Kill a server so many times under load, and check its store.

    Args:
        folder: Where the store goes.
        kills: How many times.
        clients: Callers at the same time.
        workers: Processes of the server.
        seed: Of what clients do, and when the server is killed.
        after_kill: Called after each one.

    Raises:
        Difference: A promise was broken.
    """
    rng = random.Random(seed)  # noqa: S311 - a fixed sequence
    with Served(folder, declared(), workers) as served:
        crowd = Crowd([Client(f"c{number}", served.url, seed) for number in range(clients)])
        with crowd:
            for kill in range(1, kills + 1):
                crowd.gate.open()
                time.sleep(rng.uniform(*LOAD_SECONDS))
                crowd.gate.doomed = True
                served.kill()
                crowd.gate.still()
                crowd.check()
                if kill % CHECK_EACH == 0:
                    check_store(served.path, crowd.clients)
                after_kill()
                served.start()
        for client in crowd.clients:
            _ask_again(client, rng)
        served.stop()
    found = check_store(served.path, crowd.clients)
    return Outcome(list(crowd.clients), served.path, crowd.counts() + found, served.starts)


def _ask_again(client: Client, rng: random.Random) -> None:
    """Ask once more for what a client was told, in good order."""
    known, sent = list(client.known.values()), client.sent
    for one in rng.sample(known, min(len(known), ASKED_IN_THE_END)):
        client.choose(one)
    for reward in rng.sample(sent, min(len(sent), ASKED_IN_THE_END)):
        client.repeat(reward)
    client.wire.close()


def table(outcome: Outcome) -> Table:
    """Return a run as a table for people."""
    counts, starts = outcome.counts, outcome.starts
    rows = {
        "users asked for": sum(counts[what] for what in counts if what.startswith("choose: ")),
        "… of these with fallback": counts["choose: fallback"],
        "users assigned, each once": counts["assigned"],
        "… moved to control after a suspension": counts["moved"],
        "rewards sent": counts["rewards"],
        "… sent again": counts["repeated"],
        "… used for something else, refused": counts["conflicts"],
        "… that had no answer (503)": counts["503"],
        "values stored, each once": counts["values"],
        "… corrected": counts["corrected"],
        "changes of the experiments": counts["acts"],
        "connections lost": counts["lost"],
        "rewards in flight, stored whole": counts[IN_FLIGHT_STORED],
        "… not stored": counts[IN_FLIGHT_NOT_STORED],
        "epochs": counts["epochs"],
        "… closed": counts["closed"],
        "size of the store, MB": f"{outcome.path.stat().st_size / 1e6:.1f}",
        "start, median and longest, s": f"{statistics.median(starts):.2f}, {max(starts):.2f}",
    }
    shown = Table("", "", show_header=False)
    for what, figure in rows.items():
        shown.add_row(what, str(figure))
    return shown


def main(
    kills: Annotated[int, typer.Option(min=1, help="How many times the server is killed.")] = 200,
    clients: Annotated[int, typer.Option(min=1, help="Callers at the same time.")] = 6,
    workers: Annotated[int, typer.Option(min=1, help="Processes of the server.")] = 1,
    seed: Annotated[int, typer.Option(help="Of what clients do, and when the server is killed.")] = 1,
) -> None:
    """Kill a real server under load, again and again, and compare its store with what its clients were told."""
    errors, start = Console(stderr=True), time.monotonic()
    columns = (TextColumn("kills"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with TemporaryDirectory(prefix="bandit-crash-") as folder:
        try:
            with Progress(*columns, console=errors, transient=True) as bars:
                task = bars.add_task("kills", total=kills)
                outcome = crash(Path(folder), kills, clients, workers, seed, lambda: bars.advance(task))
        except (AssertionError, Lost) as fault:
            errors.print(f"after {time.monotonic() - start:.0f} s: {fault!r}", markup=False)
            sys.exit(1)
        console = Console()
        console.print(table(outcome))
        console.print(f"{kills} kills in {time.monotonic() - start:.0f} s: nothing lost, nothing counted twice.")


if __name__ == "__main__":
    typer.run(main)
