"""What was acknowledged stays, whatever happens to the process, and however many processes there are."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.running import Client, Command, check_ledger, command, declaration, rows

CLIENTS = 6


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.json"
    # Small batches: many epochs begin and end while the clients call.
    path.write_text(json.dumps(declaration(rewards={"window": "request"}, policy={"min_batch": 20, "warmup": 20})))
    return path


class Told:
    """What a client was told: assignments by user, accepted values by request."""

    def __init__(self) -> None:
        self.assigned: dict[str, tuple[str, float, int]] = {}
        self.accepted: dict[str, tuple[str, dict[str, Any]]] = {}
        self.conflicts: list[str] = []

    def chose(self, answer: dict[str, Any]) -> None:
        if answer["reason"] == "fallback":
            return
        place = (answer["variant"], answer["propensity"], answer["epoch"])
        if self.assigned.setdefault(answer["user_id"], place) != place:
            self.conflicts.append(answer["user_id"])


def visit(client: Client, told: Told, user: str, request: str, metrics: dict[str, Any]) -> None:
    """One user comes and something happens."""
    told.chose(client.choose("x", user))
    response = client.reward("x", user, request, metrics=metrics)
    if response.status_code == 200 and response.json()["accepted"]:
        told.accepted[request] = (user, metrics)


def crowd(urls: list[str], told: list[Told], name: str, stop: Callable[[], bool]) -> Callable[[], None]:
    """Start clients that call until `stop` says so or the server is gone; return what waits for their end."""

    def work(number: int) -> None:
        client, rng = Client(urls[number % len(urls)]), random.Random(number)  # noqa: S311 - a fixed sequence
        for i in range(100_000):
            if stop():
                break
            user = f"{name}{number}-{i}" if rng.random() < 0.7 else f"{name}shared-{rng.randrange(40)}"
            metrics = {"resolved": rng.random() < 0.5, "cost_usd": round(rng.random(), 3)}
            try:
                visit(client, told[number], user, f"{name}{number}-{i}", metrics)
            except httpx.TransportError:
                break
        client.http.close()

    pool = ThreadPoolExecutor(CLIENTS)
    calls = [pool.submit(work, number) for number in range(CLIENTS)]

    def finish() -> None:
        with pool:
            for call in calls:
                call.result()

    return finish


def test_nothing_acknowledged_is_lost_or_counted_twice_by_kill_9(tmp_path: Path, file: Path) -> None:
    db = tmp_path / "b.db"
    told = [Told() for _ in range(CLIENTS)]
    for turn in range(3):
        with command("--db", db, "--experiment", file) as server:
            finish = crowd([server.url], told, f"t{turn}-", lambda: False)
            time.sleep(0.8)
            assert server.stop(signal.SIGKILL) == -signal.SIGKILL
            finish()

    with command("--db", db, "--experiment", file) as server:
        assert sum(len(one.assigned) for one in told) > 100
        for one in told:
            assert not one.conflicts
            for user, place in one.assigned.items():
                again = server.choose("x", user)
                assert ((again["variant"], again["propensity"], again["epoch"]), again["reason"]) == (place, "sticky")
            for request, (user, metrics) in one.accepted.items():
                assert server.reward("x", user, request, metrics=metrics).json()["accepted"] == []
        assert server.stop() == 0

    assert rows(db, "PRAGMA integrity_check") == [("ok",)]
    assert len(rows(db, "SELECT epoch FROM epochs WHERE closed_at IS NOT NULL")) > 3
    check_ledger(db, "x")


def test_two_processes_on_one_file_agree_about_every_user(tmp_path: Path, file: Path) -> None:
    db = tmp_path / "b.db"
    with command("--db", db, "--experiment", file) as one, command("--db", db, "--experiment", file) as two:
        told = [Told() for _ in range(CLIENTS)]
        over = threading.Event()
        finish = crowd([one.url, two.url], told, "race-", over.is_set)
        time.sleep(2.5)
        over.set()
        finish()

        seen: dict[str, tuple[str, float, int]] = {}
        for each in told:
            assert not each.conflicts
            for user, place in each.assigned.items():
                assert seen.setdefault(user, place) == place
        assert len(seen) > 50
        stored = dict(rows(db, "SELECT user_id, epoch FROM assignments"))
        assert {user: epoch for user, (_, _, epoch) in seen.items()}.items() <= stored.items()
        check_ledger(db, "x")

        # The same request at both at once counts once.
        one.choose("x", "twice")
        with ThreadPoolExecutor(2) as both:
            for i in range(20):
                calls = [
                    both.submit(s.reward, "x", "twice", f"twice-{i}", metrics={"cost_usd": 0.1}) for s in (one, two)
                ]
                answers = sorted(len(call.result().json().get("accepted", "-")) for call in calls)
                # With this window a user's first value is final; later ones are accepted for the guardrail alone.
                assert answers == [0, 1]
        assert rows(db, "SELECT number FROM visits WHERE user_id = 'twice'") == [(20,)]
        check_ledger(db, "x")


def test_a_stop_at_one_process_is_seen_by_the_other(tmp_path: Path, file: Path) -> None:
    db = tmp_path / "b.db"
    with command("--db", db, "--experiment", file) as one, command("--db", db, "--experiment", file) as two:
        assert two.choose("x", "u")["reason"] == "new"
        assert one.choose("x", "u")["reason"] == "sticky"

        one.move("x", "stop", serve="B", now=True)

        end = time.monotonic() + 3
        while two.choose("x", "u")["reason"] != "stopped":
            assert time.monotonic() < end
            time.sleep(0.05)
        assert two.choose("x", "new-user")["variant"] == "B"
        assert one.http.post("/experiments", json=declaration("later")).status_code == 201
        assert two.choose("later", "u")["reason"] == "not_enrolled"


def test_several_processes_may_open_a_new_file_at_once(tmp_path: Path, file: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        servers = list(pool.map(lambda _: Command("--db", tmp_path / "b.db", "--experiment", file), range(4)))
    try:
        assert len({server.choose("x", "u")["variant"] for server in servers}) == 1
        assert rows(tmp_path / "b.db", "SELECT count(*) FROM experiments") == [(1,)]
    finally:
        codes = [server.stop() for server in servers]
    assert codes == [0, 0, 0, 0]
