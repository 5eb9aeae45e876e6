"""Steady load on a real server for a long time: do its memory, its latency and its write-ahead log stay as they are?

python -m tests.soak --minutes 60
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.server.harness import REQUESTS, WINDOWS, Lost, Served, Wire, declared
from tests.server.harness_clients import Client
from tests.server.harness_crowd import Crowd

USER_BYTES = 142
"""What a server keeps of a user, until two generations of them are full: see `tests/benchmarks/memory.py`."""

DOUBLED = 2.0
"""A dictionary doubles at once, so memory grows in steps: by up to about twice what the new users need."""

ALLOWED_BYTES = 8e6
"""Memory that may come besides: epochs with their sums, whose number grows with the logarithm of that of the users;
arenas of the allocator; what a report needs while it is made."""

LOG_BYTES = 64 * 1024 * 1024
"""`journal_size_limit` of the store."""

SLOWER = 1.5
"""How many times what a request costs in the second quarter it may cost in the last one."""

REMEMBERED = 5_000
"""Users, and rewards, that a client remembers; it comes back to these."""


@dataclass(frozen=True)
class Sample:
    """A look at server and clients.

    Attributes:
        seconds: Since the start.
        requests: Answered so far.
        users: New users so far.
        memory: Resident memory of the server, bytes.
        log: Size of the write-ahead log, bytes.
        cpu: Milliseconds of the server's processor time per request since the sample before.
        choose: Median and 99th percentile of the answers to `/choose` since the sample before, milliseconds.
        reward: The same of `/reward`.
    """

    seconds: float
    requests: int
    users: int
    memory: int
    log: int
    cpu: float
    choose: tuple[float, float]
    reward: tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """Whether something stays as it is, in a sentence."""

    good: bool
    sentence: str


def soak(
    folder: Path,
    seconds: float,
    each: float = 10.0,
    clients: int = 4,
    rate: float | None = None,
    workers: int = 1,
    seed: int = 1,
    after_sample: Callable[[], object] = lambda: None,
) -> list[Sample]:
    """Load a server and look at it from time to time.

    Args:
        folder: Where the store goes.
        seconds: How long.
        each: Seconds between two samples.
        clients: Callers at the same time.
        rate: Visits of users, repetitions and corrections per second; None: as many as the clients can.
        workers: Processes of the server.
        seed: Of what clients do.
        after_sample: Called after each one.

    Raises:
        Difference: A promise was broken.
    """
    pause = 0.0 if rate is None else clients / rate
    experiments = declared("10s", min_batch=50, warmup=50, max_epoch="1h")
    with Served(folder, experiments, workers) as served:
        names = [f"c{number}" for number in range(clients)]
        crowd = Crowd([Client(name, served.url, seed, operates=False, keeps=REMEMBERED) for name in names], pause)
        looker, samples = _Looker(served, crowd), list[Sample]()
        reader = Wire(served.url)
        with crowd:
            crowd.gate.open()
            start = time.monotonic()
            while not samples or samples[-1].seconds < seconds:
                time.sleep(max(start + (len(samples) + 1) * each - time.monotonic(), 0.0))
                crowd.check()
                for key in (WINDOWS, REQUESTS):
                    assert reader.call("GET", f"/experiments/{key}/report")[0] == 200
                samples.append(looker.look(time.monotonic() - start))
                after_sample()
            crowd.gate.still()
        crowd.check()
        reader.close()
        served.stop()
    return samples


class _Looker:
    """Samples a server and its clients.

    Args:
        served: The server.
        crowd: Its clients.
    """

    def __init__(self, served: Served, crowd: Crowd) -> None:
        self._served, self._crowd = served, crowd
        self._requests, self._cpu = 0, served.cpu()

    def look(self, seconds: float) -> Sample:
        """Return what there is so many seconds after the start."""
        took: dict[str, list[float]] = {"/choose": [], "/reward": []}
        for client in self._crowd.clients:
            heard, client.wire.took = client.wire.took, {}
            for path, times in list(heard.items()):
                took[path] += times
        new, cpu = sum(map(len, took.values())), self._served.cpu()
        spent, self._cpu, self._requests = cpu - self._cpu, cpu, self._requests + new
        choose, reward = (np.quantile(times or [np.nan], [0.5, 0.99]).tolist() for times in took.values())
        return Sample(
            seconds,
            self._requests,
            users=sum(client.counts["choose: new"] for client in self._crowd.clients),
            memory=self._served.memory(),
            log=self._served.log_size(),
            cpu=1e3 * spent / max(new, 1),
            choose=(choose[0], choose[1]),
            reward=(reward[0], reward[1]),
        )


def memory_verdict(samples: Sequence[Sample]) -> Verdict:
    """Whether memory grows by no more than what new users need, in the second half, when all is warm."""
    late = samples[len(samples) // 2 :]
    growth, users = late[-1].memory - late[0].memory, late[-1].users - late[0].users
    requests = np.array([sample.requests for sample in late]) / 1e6
    slope = np.polyfit(requests, [sample.memory / 1e6 for sample in late], 1)[0]
    allowed = DOUBLED * USER_BYTES * users + ALLOWED_BYTES
    return Verdict(
        growth <= allowed,
        f"memory grew by {growth / 1e6:.1f} MB in the second half ({slope:.1f} MB per million requests), allowed: "
        f"{allowed / 1e6:.1f} MB, of which {(allowed - ALLOWED_BYTES) / 1e6:.1f} MB for {users:,} new users",
    )


def log_verdict(samples: Sequence[Sample]) -> Verdict:
    """Whether the write-ahead log keeps to its limit."""
    largest = max(sample.log for sample in samples)
    return Verdict(
        largest <= LOG_BYTES,
        f"the write-ahead log had at most {largest / 1e6:.1f} MB, allowed: {LOG_BYTES / 1e6:.1f} MB",
    )


def speed_verdicts(samples: Sequence[Sample]) -> list[Verdict]:
    """Whether a request costs as much in the last quarter as in the second one: processor time, and time to wait."""
    quarter = max(len(samples) // 4, 1)
    second, last = samples[quarter : 2 * quarter] or samples, samples[-quarter:]

    def verdict(what: str, cost: Callable[[Sample], float]) -> Verdict:
        before, after = (float(np.median([cost(sample) for sample in those])) for those in (second, last))
        sentence = f"{what}: {after:.2f} ms in the last quarter, {before:.2f} ms in the second, allowed: {SLOWER} times"
        return Verdict(after <= SLOWER * before, sentence)

    return [
        verdict("processor time per request", lambda sample: sample.cpu),
        verdict("median of /choose", lambda sample: sample.choose[0]),
        verdict("p99 of /choose", lambda sample: sample.choose[1]),
        verdict("median of /reward", lambda sample: sample.reward[0]),
        verdict("p99 of /reward", lambda sample: sample.reward[1]),
    ]


def table(samples: Sequence[Sample], most: int = 25) -> Table:
    """Return samples as a table for people, at most so many of them."""
    columns = (
        "s", "requests", "new users", "memory MB", "WAL MB", "CPU ms", "choose p50", "p99", "reward p50", "p99",
    )  # fmt: skip
    shown = Table(*columns)
    for place in sorted(set(np.linspace(0, len(samples) - 1, min(len(samples), most)).round().astype(int).tolist())):
        sample = samples[place]
        shown.add_row(
            f"{sample.seconds:.0f}", f"{sample.requests:,}", f"{sample.users:,}", f"{sample.memory / 1e6:.1f}",
            f"{sample.log / 1e6:.1f}", *(f"{time:.2f}" for time in (sample.cpu, *sample.choose, *sample.reward)),
        )  # fmt: skip
    return shown


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long.")] = 60.0,
    rate: Annotated[
        float, typer.Option(min=1, help="Visits of users, repetitions and corrections per second, if it can.")
    ] = 300.0,
    clients: Annotated[int, typer.Option(min=1, help="Callers at the same time.")] = 4,
    workers: Annotated[int, typer.Option(min=1, help="Processes of the server.")] = 1,
    each: Annotated[float, typer.Option(min=0.5, help="Seconds between two looks.")] = 10.0,
    seed: Annotated[int, typer.Option(help="Of what clients do.")] = 1,
) -> None:
    """Load a real server steadily and say whether its memory, latency and write-ahead log stay as they are."""
    errors = Console(stderr=True)
    columns = (TextColumn("soaking"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with TemporaryDirectory(prefix="bandit-soak-") as folder:
        try:
            with Progress(*columns, console=errors, transient=True) as bars:
                task = bars.add_task("soaking", total=60.0 * minutes)
                samples = soak(
                    Path(folder), 60.0 * minutes, each, clients, rate, workers, seed, lambda: bars.advance(task, each)
                )
        except (AssertionError, Lost) as fault:
            errors.print(f"{fault!r}", markup=False)
            sys.exit(1)
    console = Console()
    console.print(table(samples))
    verdicts = [memory_verdict(samples), log_verdict(samples), *speed_verdicts(samples)]
    for verdict in verdicts:
        console.print(f"{'flat' if verdict.good else 'NOT FLAT'}: {verdict.sentence}", soft_wrap=True)
    sys.exit(0 if all(verdict.good for verdict in verdicts) else 1)


if __name__ == "__main__":
    typer.run(main)
