"""A server that is killed and started again on one store and one port, and the wire on which clients call it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from tests.server.running import Command, declaration

WINDOWS, REQUESTS = "windows", "requests"
"""Keys of the two experiments: one where a user's outcome is final after a window, one where the first value is."""

PATIENCE = 30.0
"""Seconds without an answer after which a client gives up: the server hangs."""


class Difference(AssertionError):
    """What was found is not what was promised."""


class Lost(Exception):
    """The connection broke before an answer came: what was asked may have been done, or not."""


def declared(window: str = "4s", **policy: object) -> list[dict[str, Any]]:
    """Return both experiments, by default with small batches and short windows: many epochs begin, end and close.

    Args:
        window: That of the first one; users of the second one without a value are missing after it.
        policy: Other settings of the policy.
    """
    policy = {"min_batch": 20, "warmup": 20, "max_epoch": "2s", **policy}
    rails = [
        {"metric": "harmful", "kind": "binary", "per_user": "any", "max": 0.2},
        {"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max": 1500},
    ]
    return [
        declaration(WINDOWS, guardrails=rails, policy=policy, rewards={"window": window}),
        declaration(REQUESTS, policy=policy, rewards={"window": "request", "request_timeout": window}),
    ]


def options(folder: Path, experiments: Sequence[dict[str, Any]]) -> list[str | Path]:
    """Return the options of a server on a store in a folder, where the files of its experiments are put as well."""
    found: list[str | Path] = ["--db", folder / "bandit.db"]
    for experiment in experiments:
        file = folder / f"{experiment['key']}.json"
        file.write_text(json.dumps(experiment))
        found += ["--experiment", file]
    return found


class Wire:
    """One keep-alive connection to a server.

    Args:
        url: Of the server.

    Attributes:
        took: Milliseconds of each answer, by path.
    """

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self.took: dict[str, list[float]] = {}
        self._connection = HTTPConnection(address.hostname or "", address.port, timeout=PATIENCE)

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Return status and document of an answer.

        Raises:
            Lost: The connection broke.
            Difference: There is a connection, but no answer.
        """
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        start = time.perf_counter()
        try:
            self._connection.request(method, path, content, headers)
            response = self._connection.getresponse()
            answer = response.read()
        except TimeoutError as error:
            raise Difference(f"{method} {path} had no answer in {PATIENCE:g} s") from error
        except (OSError, HTTPException) as error:
            self.close()
            raise Lost from error
        self.took.setdefault(path, []).append(1e3 * (time.perf_counter() - start))
        return response.status, msgspec.json.decode(answer)

    def close(self) -> None:
        """Let the connection go; the next call makes another one."""
        self._connection.close()


class Served:
    """`bandit-server` on one store and one port, whatever happens to its process.

    Args:
        folder: Where the store and the files of the experiments go.
        experiments: As JSON.
        workers: Processes.
    """

    def __init__(self, folder: Path, experiments: Sequence[dict[str, Any]], workers: int = 1) -> None:
        self.path = folder / "bandit.db"
        self.starts: list[float] = []
        """Seconds until it answered, start by start."""
        self._options = options(folder, experiments)
        if workers > 1:
            self._options += ["--workers", str(workers)]
        self._port = "0"
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._command.process.returncode is None:
            self._kill()

    def start(self) -> None:
        """Start it, the first time on a free port, and return when it answers."""
        begun = time.monotonic()
        self._command = Command("--port", self._port, *self._options)
        self.url = self._command.url
        self._port = str(urlsplit(self.url).port)
        assert self._command.http.get("/readyz").status_code == 200
        self.starts.append(time.monotonic() - begun)

    def processes(self) -> list[int]:
        """Return the ids of its processes."""
        parent = self._command.process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children")
        return [parent, *map(int, children.read_text().split() if children.exists() else [])]

    def memory(self) -> int:
        """Return the resident memory of its processes in bytes."""
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.processes()]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")

    def cpu(self) -> float:
        """Return the seconds of processor time that its processes have used since their start."""
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.processes()]
        return sum(int(user) + int(system) for *_, user, system in (stat[:13] for stat in stats)) / os.sysconf(
            "SC_CLK_TCK"
        )

    def log_size(self) -> int:
        """Return the size of the store's write-ahead log in bytes."""
        log = self.path.with_name(f"{self.path.name}-wal")
        return log.stat().st_size if log.exists() else 0

    def kill(self) -> None:
        """Kill all its processes at once, as `kill -9` does."""
        self._ended(-signal.SIGKILL, self._kill())

    def _kill(self) -> int:
        if self._command.process.poll() is None:
            for process in self.processes():
                with suppress(ProcessLookupError):  # a worker may end by itself when its parent is gone
                    os.kill(process, signal.SIGKILL)
        return self._command.stop(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order."""
        self._ended(0, self._command.stop())

    def _ended(self, expected: int, code: int) -> None:
        """Check how it ended, and that it had nothing to complain of."""
        if code != expected:
            raise Difference(f"the server ended with {code}, not with {expected}: {self._command.output}")
        if "Traceback" in self._command.output:
            raise Difference(f"the server's log has an unforeseen fault: {self._command.output}")
