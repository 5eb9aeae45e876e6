"""CPU time per request beside servers that do nothing, against bounds: `python -m tests.benchmarks.cpu`.

Exit code 1 if a bound is broken. Seconds per request say as much of the machine and of its neighbours as of the code;
the least CPU time of some rounds in turn, as a multiple of a no-op's, says something of the code. The bounds are well
above what is measured (about 1.2, .63 and .74), so that they break when the code becomes much slower, not when the
machine does. The load comes from Python here, on the same cores; with `wrk` and a core for each side (`service.py`)
the ratios are smaller.
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks import clients, wrk
from tests.benchmarks.service import SMALL, Load, measure, servers
from tests.benchmarks.stores import fill

RAW, FASTAPI = Load("raw ASGI no-op", "raw", "known", 32), Load("FastAPI no-op", "fastapi", "known", 32)
BOUNDS = (
    (Load("choose, known users", "small", "known", 32), RAW, 1.6),
    (Load("choose, new users", "small", "new", 32), FASTAPI, 0.95),
    (Load("reward", "small", "reward", 32), FASTAPI, 1.1),
)
"""A load, what it is measured beside, and the most times its CPU time."""

ROUNDS = 5


def main() -> int:
    """Measure, print a line for each bound, and return 1 if one is broken."""
    times: dict[Load, list[float]] = {load: [] for load in (RAW, FASTAPI, *(load for load, _, _ in BOUNDS))}
    seeds = count(1)
    with TemporaryDirectory(prefix="bandit-cpu-") as temporary:
        folder = Path(temporary)
        fill(folder / "small.db", SMALL)
        with servers(folder, {"small": folder / "small.db"}) as running:
            for _ in range(ROUNDS):
                for load, so_far in times.items():
                    server = running[load.server]

                    def send(seconds: int, load: Load = load, url: str = server.url) -> wrk.Answered:
                        return clients.load(
                            load.kind, url, connections=load.connections, seconds=seconds, seed=next(seeds), known=SMALL
                        )

                    measured = measure(load, server, send, 1)
                    if measured.errors:
                        print(f"{load.name}: {measured.errors} errors")  # noqa: T201 - what the command says
                        return 1
                    so_far.append(measured.cpu)
    broken = False
    for load, beside, bound in BOUNDS:
        ratio = min(times[load]) / min(times[beside])
        broken |= ratio > bound
        verdict = "above its bound" if ratio > bound else "bound"
        print(  # noqa: T201
            f"{load.name}: {min(times[load]):.0f} µs of CPU per request, {ratio:.2f} times the {beside.name},"
            f" {verdict} {bound}"
        )
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
