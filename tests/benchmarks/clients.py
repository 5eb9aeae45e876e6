"""Load without `wrk`: clients in a process of their own, each sending its next request when the answer is there.

`python -m tests.benchmarks.clients URL KIND CONNECTIONS SECONDS SEED KNOWN` prints what `wrk.Answered` holds.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import cast
from urllib.parse import urlsplit

import uvloop

from tests.benchmarks.stores import KEY, user_id
from tests.benchmarks.wrk import Answered, NoAnswer


def requests(kind: str, seed: int, known: int) -> Iterator[bytes]:
    """Yield requests of a kind, as the scripts of `wrk` do; of rewards only those with ids in the order of time."""
    rng, number = random.Random(seed), 0  # noqa: S311 - a load
    while True:
        number += 1
        if kind == "reward":
            metrics = {"resolved": rng.getrandbits(1), "latency_ms": rng.randint(200, 1400)}
            request = f"0199{seed % 65536:04x}-{number:08x}-{rng.getrandbits(32):08x}"
            body = {"user_id": user_id(rng.randrange(known)), "request_id": request, "metrics": metrics}
        else:
            body = {"user_id": user_id(number % known) if kind == "known" else f"{rng.getrandbits(64):016x}"}
        text = json.dumps({"experiment": KEY, **body}).encode()
        path = b"/reward" if kind == "reward" else b"/choose"
        yield (
            b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (path, len(text), text)
        )


class Client(asyncio.Protocol):
    """One connection.

    Args:
        next_one: Returns the next request.
        until: When to send no more, by the monotonic clock.

    Attributes:
        times: Seconds that each answer took.
        refused: Answers with a status beyond 399.
        over: Set when the last answer came, or the connection broke.
    """

    def __init__(self, next_one: Callable[[], bytes], until: float) -> None:
        self.times: list[float] = []
        self.refused = 0
        self.over = asyncio.Event()
        self._next_one, self._until = next_one, until
        self._held = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        """Read an answer, and go on when it is whole."""
        self._held += data
        head, found, body = self._held.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            return
        now = time.monotonic()
        self.times.append(now - self._sent)
        self.refused += head[9:10] > b"3"
        self._held = b""
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - a broken one has no more answers
        """Say that it is over."""
        self.over.set()

    def _send(self) -> None:
        self._sent = time.monotonic()
        self._transport.write(self._next_one())


async def _run(url: str, kind: str, connections: int, seconds: int, seed: int, known: int) -> Answered:
    place, start, some = urlsplit(url), time.monotonic(), requests(kind, seed, known)

    def client() -> Client:
        return Client(lambda: next(some), start + seconds)

    loop, host, port = asyncio.get_running_loop(), place.hostname or "", place.port or 80
    clients = [(await loop.create_connection(client, host, port))[1] for _ in range(connections)]
    await asyncio.gather(*(client.over.wait() for client in clients))
    times = sorted(1e3 * each for client in clients for each in client.times) or [0.0]
    p50, p99 = (times[int(share * (len(times) - 1))] for share in (0.5, 0.99))
    n, refused = sum(len(client.times) for client in clients), sum(client.refused for client in clients)
    return Answered(n, time.monotonic() - start, p50, p99, refused, 0)


def load(kind: str, url: str, *, connections: int, seconds: int, seed: int, known: int) -> Answered:
    """Send requests of one kind; the arguments are those of `wrk.load`.

    Raises:
        NoAnswer: Not one request was answered.
    """
    arguments = map(str, (url, kind, connections, seconds, seed, known))
    run = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.clients", *arguments],
        check=False, capture_output=True, text=True, timeout=seconds + 60,
    )  # fmt: skip
    answered = Answered(**json.loads(run.stdout)) if not run.returncode else None
    if answered is None or not answered.requests:
        raise NoAnswer(run.stderr or run.stdout)
    return answered


if __name__ == "__main__":
    _url, _kind, *_numbers = sys.argv[1:]
    _connections, _seconds, _seed, _known = map(int, _numbers)
    print(json.dumps(asdict(uvloop.run(_run(_url, _kind, _connections, _seconds, _seed, _known)))))  # noqa: T201
