"""The service beside two servers that do nothing: `python tests/benchmarks/service.py [--users 2000000]`.

Real servers on one core, the load of `wrk` from another. All run at once and are loaded in turn, and again in every
round with fresh stores; a ratio is the median over rounds of what was measured in the same round, so that whatever else
the machine does meanwhile touches both its sides.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import httpx
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from simulations.files import check_can_write, write_json
from tests.benchmarks import wrk
from tests.benchmarks.stores import KEY, MOST_USERS, counted, fill, user_id

SERVER_CORE, LOAD_CORE = 0, 1
SMALL = 5_000
"""Users of the small store at first: few enough for the service to know all of them after a second."""


@dataclass(frozen=True, slots=True)
class Load:
    """Requests of one kind to one server.

    Attributes:
        name: For people.
        server: To whom.
        kind: What `wrk` sends.
        connections: Over how many connections.
        locked: Whether another process holds the write lock of the store meanwhile.
    """

    name: str
    server: str
    kind: str
    connections: int
    locked: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """One load in one round: per second, milliseconds, microseconds of the server's CPU time per request.

    Attributes:
        errors: Requests that were refused, broken, or answered without being stored where they had to be.
    """

    rate: float
    p50: float
    p99: float
    cpu: float
    errors: int


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on a figure of one load, as a multiple of another load's."""

    load: Load
    figure: str
    beside: Load
    bound: float

    @property
    def at_least(self) -> bool:
        """Whether more is better."""
        return self.figure == "rate"


RAW, FASTAPI = (
    {connections: Load(name, server, "known", connections) for connections in (32, 128)}
    for name, server in (("raw ASGI, nothing behind", "raw"), ("FastAPI, nothing behind", "fastapi"))
)
KNOWN = Load("choose, known users", "small", "known", 32)
LOCKED = Load("choose, known users, store locked", "small", "known", 32, locked=True)


def writing(store: str, about: str) -> dict[tuple[str, int], Load]:
    """Return the loads that write to a store, by kind and connections."""
    names = {"reward": "reward", "random_reward": "reward, random request ids", "new": "choose, new users"}
    return {
        (kind, connections): Load(name + about, store, kind, connections)
        for kind, name in names.items()
        for connections in (32, 128)
    }


def goals_of(loads: list[Load]) -> list[Goal]:
    """Return what the service has to reach under these loads."""
    goals = [
        Goal(KNOWN, "rate", RAW[32], 0.75),
        Goal(KNOWN, "rate", FASTAPI[32], 3.0),
        Goal(KNOWN, "cpu", RAW[32], 1.25),
        Goal(LOCKED, "rate", KNOWN, 0.9),
        Goal(LOCKED, "p99", KNOWN, 1.5),
    ]
    for load in loads:
        if load.kind == "known":
            continue
        small = load.server == "small"
        if small and load.kind == "random_reward":  # as on the large store, where it has its goals
            continue
        goals.append(Goal(load, "rate", FASTAPI[load.connections], 1.5 if small else 1.1))
        if load.connections == 32:  # beyond that the no-op's own tail differs from run to run
            goals.append(Goal(load, "p99", FASTAPI[32], 1.5 if small else 3.0))
            if small:
                goals.append(Goal(load, "cpu", FASTAPI[32], 0.55 if load.kind == "new" else 0.65))
    return goals


def on_its_core() -> list[str]:
    """Return what keeps a command on the servers' core; nothing where that cannot be."""
    if shutil.which("taskset") is None or SERVER_CORE not in os.sched_getaffinity(0):
        return []
    return ["taskset", "-c", str(SERVER_CORE)]


class Server:
    """A server in a process of its own, on its core.

    Args:
        command: Python's arguments; the command prints its address in its first line.
        log: File for what it says on standard error.
        path: Its store.
    """

    def __init__(self, command: list[str], log: Path, path: Path | None = None) -> None:
        self.path, self.log = path, log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [*on_its_core(), sys.executable, *command],
                stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        found = re.search(r"http://\S+", self.process.stdout.readline())
        if found is None:
            raise ServerFailed(self)
        self.url = found[0]

    def cpu_seconds(self) -> float:
        """Return the CPU time of its process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def check(self) -> None:
        """Ask it something, which waits until it is ready.

        Raises:
            ServerFailed: It ended, or does not answer as it should.
        """
        body = {"experiment": KEY, "user_id": user_id(0)}
        try:
            answer = httpx.post(f"{self.url}/choose", json=body, timeout=60, trust_env=False)
        except httpx.HTTPError as error:
            raise ServerFailed(self) from error
        if answer.status_code != 200 or answer.json()["reason"] == "fallback":
            raise ServerFailed(self)

    def end(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()


class ServerFailed(Exception):
    """A server does not do its work; the message ends with what it said."""

    def __init__(self, server: Server) -> None:
        code = server.process.poll()
        state = "does not answer as it should" if code is None else f"ended with {code}"
        super().__init__(f"{server.process.args!r} {state}\n{server.log.read_text(errors='replace')[-2_000:]}")


@contextmanager
def servers(folder: Path, stores: dict[str, Path]) -> Iterator[dict[str, Server]]:
    """Run the two no-ops, and the service on a copy of each store, until the block ends."""
    noops = str(Path(__file__).with_name("noops.py"))
    with ExitStack() as stack:
        running = {}
        for name, command in {"raw": [noops, "raw"], "fastapi": [noops, "fastapi"]}.items():
            running[name] = Server(command, folder / f"{name}.log")
            stack.callback(running[name].end)
        for name, store in stores.items():
            copy = folder / f"{name}-copy.db"
            for old in folder.glob(f"{copy.name}*"):  # its log as well
                old.unlink()
            shutil.copy(store, copy)
            os.sync()  # so that the disk does not do it later, under load
            running[name] = Server(["-m", "server", "--port", "0", "--db", str(copy)], folder / f"{name}.log", copy)
            stack.callback(running[name].end)
        for server in running.values():
            server.check()
        yield running


@contextmanager
def write_lock(path: Path) -> Iterator[None]:
    """Hold the write lock of a store, as another process that does not let go."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


def measure(load: Load, server: Server, send: Callable[[int], wrk.Answered], seconds: int) -> Measured:
    """Load a server, after a second that does not count.

    Raises:
        ServerFailed: It did not answer at all, or does not answer afterwards.
    """
    path = server.path
    stores = path is not None and load.kind != "known"
    try:
        send(1)
        before = counted(path, load.kind) if path is not None else 0
        with write_lock(path) if load.locked and path is not None else nullcontext():
            cpu = server.cpu_seconds()
            seen = send(seconds)
            cpu = server.cpu_seconds() - cpu
        after = counted(path, load.kind) if path is not None else 0
    except wrk.NoAnswer as error:
        raise ServerFailed(server) from error
    server.check()
    lost = max(seen.requests - seen.refused - (after - before), 0) if stores else 0
    return Measured(
        seen.requests / seen.seconds, seen.p50_ms, seen.p99_ms, cpu / seen.requests * 1e6,
        seen.refused + seen.broken + lost,
    )  # fmt: skip


class Results:
    """What was measured, round by round."""

    def __init__(self, loads: list[Load]) -> None:
        self.rounds: dict[Load, list[Measured]] = {load: [] for load in loads}

    def figure(self, load: Load, name: str) -> float:
        """Return the median of a figure."""
        values: list[float] = [getattr(each, name) for each in self.rounds[load]]
        return median(values)

    def ratio(self, load: Load, name: str, beside: Load) -> float:
        """Return the median over rounds of a figure by another load's."""
        both = zip(self.rounds[load], self.rounds[beside], strict=True)
        ratios: list[float] = [getattr(one, name) / getattr(other, name) for one, other in both]
        return median(ratios)

    def errors(self, load: Load) -> int:
        """Return the errors of all rounds."""
        return sum(each.errors for each in self.rounds[load])

    def met(self, goal: Goal) -> bool:
        """Whether a goal is reached."""
        ratio = self.ratio(goal.load, goal.figure, goal.beside)
        return ratio >= goal.bound if goal.at_least else ratio <= goal.bound

    def to_dict(self, goals: list[Goal]) -> dict[str, Any]:
        """Return everything as JSON values."""
        loads = [
            {
                **asdict(load),
                "requests_per_second": self.figure(load, "rate"),
                "to_raw": self.ratio(load, "rate", RAW[load.connections]),
                "to_fastapi": self.ratio(load, "rate", FASTAPI[load.connections]),
                "p50_ms": self.figure(load, "p50"),
                "p99_ms": self.figure(load, "p99"),
                "cpu_us_per_request": self.figure(load, "cpu"),
                "errors": self.errors(load),
                "rounds": [asdict(each) for each in rounds],
            }
            for load, rounds in self.rounds.items()
        ]
        reached = [
            {
                "load": goal.load.name,
                "connections": goal.load.connections,
                "figure": goal.figure,
                "beside": goal.beside.name,
                "at_least" if goal.at_least else "at_most": goal.bound,
                "measured": self.ratio(goal.load, goal.figure, goal.beside),
                "met": self.met(goal),
            }
            for goal in goals
        ]
        return {"loads": loads, "goals": reached}


def tables(results: Results, goals: list[Goal]) -> Iterator[Table]:
    """Yield what was measured, and the goals beside it."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("load")
    for column in ("conn.", "requests/s", "x raw", "x FastAPI", "p50 ms", "p99 ms", "CPU µs", "errors"):
        table.add_column(column, justify="right")
    for load in results.rounds:
        ratios = (results.ratio(load, "rate", noop[load.connections]) for noop in (RAW, FASTAPI))
        table.add_row(
            load.name, str(load.connections), f"{results.figure(load, 'rate'):,.0f}", *(f"{x:.2f}" for x in ratios),
            f"{results.figure(load, 'p50'):.2f}", f"{results.figure(load, 'p99'):.2f}",
            f"{results.figure(load, 'cpu'):.1f}", f"{results.errors(load):,}",
        )  # fmt: skip
    yield table
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("goal", "conn.", "figure", "beside"):
        table.add_column(column)
    for column in ("wanted", "measured", "met"):
        table.add_column(column, justify="right")
    figures = {"rate": "requests/s", "p99": "p99", "cpu": "CPU"}
    for goal in goals:
        wanted = f"{'≥' if goal.at_least else '≤'} {goal.bound:g} x"
        ratio = results.ratio(goal.load, goal.figure, goal.beside)
        met = "yes" if results.met(goal) else "[red]no[/red]"
        connections = str(goal.load.connections)
        table.add_row(
            goal.load.name, connections, figures[goal.figure], goal.beside.name, wanted, f"{ratio:.2f} x", met
        )
    yield table


def run(
    folder: Path, users: int, seconds: int, rounds: int, say: Callable[[str], object]
) -> tuple[Results, list[Goal]]:
    """Measure everything.

    Args:
        folder: Where the stores are.
        users: Users of the large store; 0: there is none.
        seconds: Length of a load.
        rounds: How often each is measured.
        say: Told what is going on.
    """
    loads = [*RAW.values(), *FASTAPI.values(), KNOWN, LOCKED, *writing("small", "").values()]
    sizes = {"small": SMALL}
    if users:
        sizes["large"] = users
        loads += writing("large", f", {users:,} stored").values()
    stores = {name: folder / f"{name}.db" for name in sizes}
    for name, store in stores.items():
        say(f"a store of {sizes[name]:,} users")
        fill(store, sizes[name])
    wrk.write_scripts(folder)
    results, seeds = Results(loads), count(1)
    for number in range(1, rounds + 1):
        with servers(folder, stores) as running:
            for load in loads:
                say(f"round {number} of {rounds}: {load.name}, {load.connections} connections")

                def send(seconds: int, load: Load = load, url: str = running[load.server].url) -> wrk.Answered:
                    return wrk.load(
                        folder, load.kind, url, core=LOAD_CORE, connections=load.connections, seconds=seconds,
                        seed=next(seeds), known=sizes.get(load.server, SMALL),
                    )  # fmt: skip

                results.rounds[load].append(measure(load, running[load.server], send, seconds))
    return results, goals_of(loads)


def main(
    users: Annotated[
        int, typer.Option(min=0, max=MOST_USERS, help="users of a large store; 2000000 for all goals")
    ] = 0,
    seconds: Annotated[int, typer.Option(min=1, max=600, help="length of each load")] = 2,
    rounds: Annotated[int, typer.Option(min=1, max=99, help="how often each is measured; medians count")] = 7,
    folder: Annotated[Path | None, typer.Option(help="where the stores are: on a disk, not in memory")] = None,
    json: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="write the result as JSON; - writes only it, to stdout"),
    ] = None,
) -> None:
    """Measure the service side by side with servers that do nothing; exit code 1 if a request failed."""
    check_can_write(json)
    for tool, install in (("wrk", wrk.INSTALL), ("taskset", "taskset is not there; it is part of util-linux")):
        if shutil.which(tool) is None:
            typer.echo(install, err=True)
            raise typer.Exit(2)
    if not {SERVER_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        typer.echo(f"cores {SERVER_CORE} and {LOAD_CORE} are needed: one for the servers, one for the load", err=True)
        raise typer.Exit(2)
    console = Console(stderr=True)
    with TemporaryDirectory(prefix="bandit-benchmark-", dir=folder) as temporary, console.status("") as status:
        try:
            results, goals = run(Path(temporary), users, seconds, rounds, status.update)
        except ServerFailed as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from error
    if json is not None:
        write_json(json, {"seconds": seconds, "users": users, **results.to_dict(goals)})
    if str(json) != "-":
        out = Console(width=None if sys.stdout.isatty() else 120)
        for table in tables(results, goals):
            out.print(table)
    if any(results.errors(load) for load in results.rounds):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
