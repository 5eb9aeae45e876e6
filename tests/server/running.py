"""A running service: in this process for speed, or as the real command."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import uvicorn

from bandit import parse_json
from bandit.inference.windows import window_of
from bandit.measures import FAILED, measures_of
from server.app import create_app
from server.schema import TERMS
from server.store import Store
from server.workers import http_config
from server.writer import Writer
from tests.server.unpacked import opened

JSON = {"Content-Type": "application/json"}


def declaration(key: str = "x", **changes: object) -> dict[str, Any]:
    """An experiment as JSON: variants A (control) and B, a binary goal, a limit on latency."""
    return {
        "key": key,
        "variants": [
            {"key": "A", "control": True, "config": {"model": "m1"}},
            {"key": "B", "config": {"model": "m2", "n": [1, {"deep": None}]}},
        ],
        "goal": {"metric": "resolved", "kind": "binary"},
        "guardrails": [
            {"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max": 1500},
            {"metric": "cost_usd", "kind": "numeric", "max": 0.5, "cap": 2.0},
        ],
        **changes,
    }


class Client:
    """Calls of a service, as an application makes them."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=20, trust_env=False)

    def choose(self, key: str, user_id: str) -> dict[str, Any]:
        response = self.http.post("/choose", json={"experiment": key, "user_id": user_id})
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def reward(self, key: str, user_id: str, request_id: str, **more: object) -> httpx.Response:
        body = {"experiment": key, "user_id": user_id, "request_id": request_id, "metrics": {"resolved": 1}}
        return self.http.post("/reward", json={**body, **more})

    def create(self, key: str = "x", *, start: bool = True, **changes: object) -> None:
        response = self.http.post("/experiments", json=declaration(key, **changes))
        assert response.status_code == 201, response.text
        if start:
            assert self.move(key, "start").status_code == 200

    def move(self, key: str, action: str, **body: object) -> httpx.Response:
        path = f"/experiments/{quote(key, safe='')}/{action}"
        return self.http.post(path, json=body) if body else self.http.post(path)

    def switch(self, key: str, variant: str, action: str, **body: object) -> httpx.Response:
        path = f"/experiments/{quote(key, safe='')}/variants/{quote(variant, safe='')}/{action}"
        return self.http.post(path, json=body) if body else self.http.post(path)

    def expose(self, key: str, exposure: float | None, **body: object) -> httpx.Response:
        return self.http.patch(f"/experiments/{quote(key, safe='')}", json={"exposure": exposure, **body})

    def force(self, key: str, user_id: str, variant: str, **body: object) -> httpx.Response:
        path = f"/experiments/{quote(key, safe='')}/forced/{quote(user_id, safe='')}"
        return self.http.put(path, json={"variant": variant, **body})

    def events(self, key: str) -> list[dict[str, Any]]:
        """All events, page by page."""
        found: list[dict[str, Any]] = []
        page: dict[str, Any] = {"events": [None], "next": 0}
        while page["events"]:
            page = self.get(f"/experiments/{quote(key, safe='')}/events", after=str(page["next"]), limit="50")
            found += page["events"]
        return found

    def get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - whatever JSON says
        response = self.http.get(path, params=parameters)
        assert response.status_code == 200, response.text
        return response.json()


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Service(Client):
    """A service in this process, on a real socket."""

    def __init__(self, url: str, path: Path, writer: Writer, clock: Clock) -> None:
        super().__init__(url)
        self.path, self.writer, self.clock = path, writer, clock


@contextmanager
def in_process(path: Path, clock: Clock | None = None, *, choose_seconds: float = 5.0) -> Iterator[Service]:
    """Serve a store from a thread of this process; with patience, because a test machine's disk may be slow."""
    clock = Clock() if clock is None else clock
    writer = Writer(Store(path), clock, monotonic=lambda: 0.0, on_death=lambda: None)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = create_app(path, writer=writer, choose_seconds=choose_seconds)
        server = uvicorn.Server(http_config(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        service = Service(url, path, writer, clock)
        try:
            wait_until(lambda: server.started)
            yield service
        finally:
            service.http.close()
            server.should_exit = True
            thread.join(timeout=20)


class Command(Client):
    """`bandit-server` as a process of its own."""

    def __init__(self, *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "server", "--port", "0", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.banner = self.process.stdout.readline()
        found = re.search(r"http://\S+", self.banner)
        if found is None:
            self.banner += self.process.stdout.read()
            raise AssertionError(self.banner)  # the command refused to start, and this is what it said
        self.url = found[0]
        super().__init__(self.url)

    def choose(self, key: str, user_id: str) -> dict[str, Any]:
        """Ask until the store was quick enough: the command's limit is a quarter of a second."""
        for _ in range(20):
            answer = super().choose(key, user_id)
            if answer["reason"] != "fallback":
                break
        return answer

    def stop(self, how: int = signal.SIGTERM) -> int:
        """End it and return its exit code."""
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(how)
        # Not `communicate`: it would leave out what was read ahead with the first line.
        assert self.process.stdout is not None
        self.output = self.process.stdout.read()
        self.process.stdout.close()
        return self.process.wait(timeout=20)


@contextmanager
def command(*arguments: str | Path) -> Iterator[Command]:
    """Run the command until the block ends."""
    running = Command(*arguments)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.stop(signal.SIGKILL)


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def rows(path: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """What a store holds."""
    with opened(path, sql) as db:
        return db.execute(sql, values).fetchall()


def everything(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables of a store."""
    tables = (
        "experiments", "epochs", "cells", "sums", "assignments", "outcomes", "rewards", "visits", "returning_sums",
        "waiting_sums", "call_values", "generations", "guardrail_states", "forced", "events",
        "interactions",
    )  # fmt: skip
    return {table: rows(path, f"SELECT * FROM {table}") for table in tables}  # noqa: S608 - our own names


def check_ledger(path: Path, key: str) -> int:
    """Rebuild the ledger of an experiment from its rows, compare, and return the number of credited users."""
    number, definition, origins = rows(path, "SELECT id, definition, origins FROM experiments WHERE key = ?", key)[0]
    measures = measures_of(parse_json(definition))
    assigned = rows(
        path,
        "SELECT epoch, arm, count(*), count(moved_at) FROM assignments WHERE experiment = ? GROUP BY epoch, arm",
        number,
    )
    counted = rows(path, "SELECT epoch, arm, assigned, moved FROM cells WHERE experiment = ? AND assigned > 0", number)
    assert sorted(assigned) == sorted(counted)
    check_returning(path, number, len(measures))

    valid = rows(
        path,
        "SELECT user_id, metric, epoch, arm, value, max(revision) FROM rewards WHERE experiment = ? AND reason IS NULL"
        " GROUP BY request_id, metric",
        number,
    )
    outcomes: dict[tuple[str, int, int, int], list[float]] = {}
    for user, metric, epoch, arm, value, _ in valid:
        for index, measure in enumerate(measures):
            if metric == FAILED and value and measure.failed is not None:
                outcomes.setdefault((user, epoch, arm, index), []).append(measure.failed)
            elif measure.metric == metric:
                outcomes.setdefault((user, epoch, arm, index), []).append(measure.call(value))
    sums: dict[tuple[int, int, int], list[float]] = {}
    for (_, epoch, arm, index), values in outcomes.items():
        measure, origin = measures[index], json.loads(origins)[index] or 0.0
        y = sum(values) / len(values)
        terms = measure.transforms(y if measure.cap is None else min(y, measure.cap), origin)
        row = sums.setdefault((epoch, arm, index), [0.0] * measure.width)
        sums[epoch, arm, index] = [old + term for old, term in zip(row, terms, strict=True)]
    stored = {
        (epoch, arm, measure): [term for term in terms if term is not None]
        for epoch, arm, measure, *terms in rows(
            path,
            f"SELECT epoch, arm, measure, {', '.join(TERMS)} FROM sums WHERE experiment = ?",  # noqa: S608
            number,
        )
    }
    assert stored.keys() == sums.keys()
    for place, terms in sums.items():
        assert stored[place][0] == terms[0]  # users are exact
        assert all(abs(a - b) <= 1e-9 * max(1.0, abs(b)) for a, b in zip(stored[place], terms, strict=True))
    return len({user for user, *_ in outcomes})


def check_returning(path: Path, number: int, n_measures: int) -> None:
    """Compare the users who came back, by (epoch, arm, measure), with the visits that are stored of them."""
    for measure in range(n_measures):
        visits = rows(
            path,
            "SELECT epoch, arm, visits.number FROM visits JOIN assignments USING (experiment, user_id)"
            " WHERE experiment = ? AND measure = ?",
            number,
            measure,
        )
        came: dict[tuple[int, int, int], float] = {}
        for epoch, arm, visit in visits:
            for window in filter(None, map(window_of, range(2, visit + 1))):
                came[epoch, arm, window] = came.get((epoch, arm, window), 0.0) + 1.0
        summed = rows(
            path,
            "SELECT epoch, arm, visit_window, sum(n) FROM (SELECT experiment, epoch, arm, measure, visit_window, n"
            " FROM returning_sums UNION ALL SELECT experiment, epoch, arm, measure, visit_window, n FROM waiting_sums)"
            " WHERE experiment = ? AND measure = ? GROUP BY epoch, arm, visit_window",
            number,
            measure,
        )
        assert {tuple(place): n for *place, n in summed} == came


def is_problem(response: httpx.Response, status: int) -> Mapping[str, Any]:
    """Check that an answer is a problem document of this status, and return it."""
    assert response.status_code == status, (response.status_code, response.text)
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail"} <= document.keys()
    assert document["status"] == status
    assert len(response.content) < 4_000  # what was received is not repeated at length
    return document
