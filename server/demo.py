"""The example of `--demo`: made-up users who call the server over HTTP like an application would."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from urllib.parse import urlsplit

import numpy as np

from bandit import parse_toml

RESOLVED = {"A": 0.30, "B": 0.38, "C": 0.24}
"""Share of users whose issue is resolved, by variant."""

LATENCY_MS = {"A": (900.0, 250.0), "B": (1050.0, 200.0), "C": (700.0, 200.0)}
"""Mean and standard deviation of the latency."""

USERS_PER_SECOND = 100.0


class Demo:
    """An example experiment and its users.

    Args:
        url: Of the server that they call.
    """

    def __init__(self, url: str) -> None:
        self.experiment = parse_toml(files("server").joinpath("demo.toml").read_text(encoding="utf-8"))
        self._address = urlsplit(url)
        self._over = threading.Event()
        self._rng = np.random.default_rng(1)

    @contextmanager
    def feeding(self) -> Iterator[None]:
        """Let users come until the block ends."""
        thread = threading.Thread(target=self._feed, name="bandit-demo", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(timeout=5)

    def _feed(self) -> None:
        while not self._over.is_set():
            connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=5)
            try:
                self._visits(connection)
            except (OSError, http.client.HTTPException):
                self._over.wait(0.2)  # not up yet, or going down
            finally:
                connection.close()

    def _visits(self, connection: http.client.HTTPConnection) -> None:
        due = time.monotonic()
        while not self._over.is_set():
            self._visit(connection)
            due = max(due + 1 / USERS_PER_SECOND, time.monotonic() - 1)
            self._over.wait(max(due - time.monotonic(), 0))

    def _visit(self, connection: http.client.HTTPConnection) -> None:
        """One user comes, gets a variant, and something happens."""
        choice = _post(connection, "/choose", {"experiment": self.experiment.key})
        variant = choice["variant"]
        mean, deviation = LATENCY_MS[variant]
        told = {
            "experiment": self.experiment.key,
            "user_id": choice["user_id"],
            "request_id": choice["request_id"],
            "variant": variant,
            "metrics": {
                "resolved": bool(self._rng.random() < RESOLVED[variant]),
                "latency_ms": round(max(float(self._rng.normal(mean, deviation)), 1.0), 1),
            },
        }
        if choice["reason"] in ("new", "sticky"):
            _post(connection, "/reward", told)


def _post(connection: http.client.HTTPConnection, path: str, body: Mapping[str, object]) -> dict[str, str]:
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise http.client.HTTPException(f"{path} answered {response.status}")
    answer: dict[str, str] = json.loads(content)
    return answer
