"""Several processes on one file: what each reads of the others, and what they answer while one holds the lock."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

import server.writer
from bandit import Assignment, Bandit, parse_json
from server.live import Reward
from server.operations import Choose, Count, Create, Move, Operation, Switch
from server.store import Store
from server.writer import Writer
from tests.server.running import Client, Clock, Command, check_ledger, command, declaration, rows, wait_until
from tests.server.test_twin import in_order

LATENCY = {"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max": 1500}
HARM = {"metric": "harmful", "kind": "binary", "per_user": "any", "max": 0.2}


class Pair:
    """Two writers on one file, each in a thread of its own."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path, self.clock = path, clock
        self.writers = [Writer(Store(path), clock, monotonic=lambda: 0.0) for _ in range(2)]
        for writer in self.writers:
            writer.start()

    async def ask(self, which: int, operation: Operation) -> Any:  # noqa: ANN401 - whatever it answers
        return await self.writers[which].ask(operation, 10)

    async def begin(self, **changes: Any) -> None:  # noqa: ANN401 - whatever JSON says
        await self.ask(0, Create(parse_json(json.dumps(declaration(salt="s", **changes)))))
        await self.ask(0, Move("x", "start"))

    async def close(self) -> None:
        for writer in self.writers:
            await asyncio.to_thread(writer.close)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every experiment that is loaded as a whole, by its key."""
    found: list[str] = []
    load = Store.load

    def noted(self: Store, key: str) -> object:
        found.append(key)
        return load(self, key)

    monkeypatch.setattr(Store, "load", noted)
    monkeypatch.setattr(server.writer, "WAKE", 1e9)
    return found


def test_a_process_reads_only_what_the_others_counted_and_is_then_as_stored(path: Path, loaded: list[str]) -> None:
    async def both() -> None:
        pair = Pair(path, Clock())
        await pair.begin(policy={"min_batch": 1000}, guardrails=[HARM, LATENCY])
        await pair.ask(1, Choose("x", "u0"))
        before = len(loaded)
        for i in range(60):
            await pair.ask(i % 2, Choose("x", f"u{i}"))
            metrics = {"resolved": 1, "harmful": 0, "latency_ms": 10.0 * i}
            await pair.ask((i + 1) % 2, Count("x", Reward(f"u{i // 2}", f"r{i}", metrics)))
        pair.clock.now += 3_700
        for i in range(40):  # visits that wait, and those of the other process
            await pair.ask(i % 2, Count("x", Reward(f"u{i}", f"back-{i}", {"harmful": 0})))
        assert len(loaded) - before <= 3  # the first epoch ended and closed in between
        await pair.ask(0, Choose("x", "v0"))
        await pair.ask(1, Choose("x", "v1"))
        stored = pair.writers[0].store.load("x")
        assert stored is not None
        for writer in pair.writers[1:]:
            live = writer.live("x")
            assert live is not None
            assert in_order(live.bandit.saved_state) == in_order(stored.saved)
            assert len(stored.saved.values) > 20
            fresh = Bandit.restored(stored.experiment, stored.saved, pair.clock)
            assert live.bandit.timeline.left == fresh.timeline.left
            assert live.bandit.alarm == fresh.alarm
            assert live.bandit.ledger.returning.keys() == fresh.ledger.returning.keys()
        await pair.close()

    asyncio.run(both())
    check_ledger(path, "x")


def test_an_epoch_is_as_full_as_all_processes_together_make_it(path: Path, loaded: list[str]) -> None:
    async def both() -> None:
        pair = Pair(path, Clock())
        await pair.begin(policy={"min_batch": 20, "warmup": 10})
        answers = [await pair.ask(i % 2, Choose("x", f"u{i}")) for i in range(41)]
        assert [answer.epoch for answer in answers] == [1] * 20 + [2] * 20 + [3]
        await pair.close()

    asyncio.run(both())
    assert set(loaded) == {"x"}


def test_a_process_that_is_an_epoch_behind_draws_from_the_one_that_is_current(path: Path) -> None:
    async def both() -> None:
        pair = Pair(path, Clock())
        await pair.begin()
        await pair.ask(1, Choose("x", "u0"))
        await pair.ask(0, Switch("x", "B", on=False))
        answers: list[Assignment] = [await pair.ask(1, Choose("x", f"v{i}")) for i in range(20)]
        assert {(answer.variant, answer.epoch) for answer in answers} == {("A", 2)}
        await pair.close()

    asyncio.run(both())


def test_users_with_a_variant_are_answered_while_another_process_holds_the_lock(path: Path) -> None:
    async def both() -> None:
        pair = Pair(path, Clock())
        await pair.begin(policy={"min_batch": 1000})
        drawn = {f"u{i}": (await pair.ask(0, Choose("x", f"u{i}"))).variant for i in range(20)}
        await pair.close()
        late = Writer(Store(path), pair.clock, monotonic=lambda: 0.0)  # has never heard of them
        late.start()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            asked = [asyncio.ensure_future(late.ask(Choose("x", user), 10)) for user in (*drawn, "new")]
            _, waiting = await asyncio.wait(asked[:-1], timeout=5)
            assert not waiting
            assert not asked[-1].done()
            answers: list[Any] = [each.result() for each in asked[:-1]]
            assert {answer.reason for answer in answers} == {"sticky"}
            assert dict(zip(drawn, (answer.variant for answer in answers), strict=True)) == drawn
            other.execute("ROLLBACK")
        last: Any = await asked[-1]
        assert last.reason == "new"
        await asyncio.to_thread(late.close)

    asyncio.run(both())


def test_what_a_lock_hides_is_not_answered_from_before(path: Path) -> None:
    """A suspension that this process has not read yet must not be overlooked."""

    async def both() -> None:
        pair = Pair(path, Clock())
        await pair.begin(policy={"min_batch": 1000})
        drawn = [(await pair.ask(0, Choose("x", f"u{i}"))).variant for i in range(20)]
        user = f"u{drawn.index('B')}"
        await pair.ask(1, Switch("x", "B", on=False))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            asked = asyncio.ensure_future(pair.ask(0, Choose("x", user)))
            await asyncio.sleep(0.5)
            assert not asked.done()
            other.execute("ROLLBACK")
        assert ((await asked).variant, (await asked).reason) == ("A", "moved")
        await pair.close()

    asyncio.run(both())


def children(parent: Command) -> list[int]:
    """The serving processes of a command."""
    found = Path(f"/proc/{parent.process.pid}/task/{parent.process.pid}/children").read_text(encoding="ascii").split()
    return [pid for pid in map(int, found) if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_workers_share_one_file_and_one_that_dies_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps(declaration(policy={"min_batch": 20})))
    path = tmp_path / "b.db"
    with command("--db", path, "--experiment", file, "--workers", "2") as server:
        wait_until(lambda: len(children(server)) == 2)
        with several(server.url) as clients:
            for i in range(80):
                clients[i % 8].choose("x", f"u{i % 40}")
            drawn = {f"u{i}": {client.choose("x", f"u{i}")["variant"] for client in clients} for i in range(40)}
        assert all(len(variants) == 1 for variants in drawn.values())

        time.sleep(2.5)  # one that lived no longer is not replaced
        first, second = children(server)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(children(server)) == 2 and first not in children(server))
        assert second in children(server)
        with several(server.url) as clients:
            assert {user: {client.choose("x", user)["variant"] for client in clients} for user in drawn} == drawn
        assert server.stop() == 0
    assert rows(path, "SELECT count(*) FROM assignments") == [(40,)]
    check_ledger(path, "x")


@contextmanager
def several(url: str) -> Iterator[list[Client]]:
    """Clients with a connection each, so that every process answers some of them, once all are answered."""
    clients = [Client(url) for _ in range(8)]
    try:
        for client in clients:
            wait_until(partial(answers, client), 20)
        yield clients
    finally:
        for client in clients:
            client.http.close()


def answers(client: Client) -> bool:
    try:
        return client.http.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_processes_end_with_the_one_that_started_them_however_it_ended(tmp_path: Path) -> None:
    models = tmp_path / "models.toml"
    models.write_text('[servers.none]\nbase_url = "http://127.0.0.1:9/v1"\n')
    with command("--db", tmp_path / "b.db", "--workers", "2", "--models", models) as server:
        wait_until(lambda: len(children(server)) == 3)
        started = children(server)
        wait_until(partial(answers, server), 20)
        os.kill(server.process.pid, signal.SIGKILL)
        wait_until(lambda: not any(is_there(child) for child in started), seconds=30)
        server.stop()


def is_there(process: int) -> bool:
    """Whether a process is alive, and no zombie."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
