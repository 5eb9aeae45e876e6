"""When the store does not work, or an operation fails as nobody foresaw."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

import server.views
from bandit import Assignment, Bandit
from bandit.measures import Measure
from server.errors import StoreProblem, StoreUnavailable
from server.intake import CAPACITY
from server.operations import Choose
from server.schema import TERMS, Synchronous, migrations, prepare
from server.store import Store
from server.writer import Writer
from tests.server.running import Service, check_ledger, everything, in_process, is_problem, rows, wait_until


def broken(*_: object) -> None:
    raise sqlite3.OperationalError("disk I/O error")


def test_a_store_that_fails_gives_fallback_and_503_and_recovers(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.create()
    service.choose("x", "known")
    before = everything(service.path)

    for step in ("begin", "write", "commit"):
        with monkeypatch.context() as patch:
            patch.setattr(service.writer.store, step, broken)
            new = service.choose("x", f"new-{step}")
            told = service.reward("x", "known", "r")
            made = service.http.post("/experiments/x/pause")
            known = service.choose("x", "known")
        assert (new["variant"], new["reason"], new["propensity"], new["epoch"]) == ("A", "fallback", None, None)
        assert new["config"] == {"model": "m1"}
        for response in (told, made):
            assert "Traceback" not in is_problem(response, 503)["detail"]
            assert response.headers["retry-after"] == "1"
        assert known["reason"] == "sticky"  # from memory
        assert everything(service.path) == before

    assert service.choose("x", "new-begin")["reason"] == "new"
    assert service.reward("x", "known", "r").json()["accepted"] == ["resolved"]
    assert service.get("/experiments/x")["state"] == "running"
    check_ledger(service.path, "x")


def test_a_locked_store_gives_fallback_in_time_and_nothing_of_it_is_stored(path: Path) -> None:
    with in_process(path, choose_seconds=0.25) as service:
        _ask_a_locked_store(service)


def _ask_a_locked_store(service: Service) -> None:
    service.create()
    service.choose("x", "known")

    with closing(sqlite3.connect(service.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        new = service.choose("x", "new")
        took = time.monotonic() - start
        assert service.choose("x", "known")["reason"] == "sticky"
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(service.reward, "x", "known", "r")  # a reward can wait longer
            time.sleep(0.3)
            other.execute("ROLLBACK")
            assert waiting.result().json()["accepted"] == ["resolved"]

    assert new["reason"] == "fallback"
    assert 0.2 < took < 1.0
    assert rows(service.path, "SELECT user_id FROM assignments") == [("known",)]
    assert service.choose("x", "new")["reason"] == "new"


def test_one_operation_that_fails_unforeseen_fails_alone(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.create()
    good = Bandit.choose

    def choose(bandit: Bandit, user_id: str) -> Assignment:
        answer = good(bandit, user_id)
        if user_id == "poison":
            raise RuntimeError("after it changed something")
        return answer

    monkeypatch.setattr(Bandit, "choose", choose)
    with closing(sqlite3.connect(service.path, isolation_level=None)) as other, ThreadPoolExecutor(16) as pool:
        other.execute("BEGIN IMMEDIATE")  # so that all of them wait for one transaction
        users = [*(f"u{i}" for i in range(7)), "poison", *(f"v{i}" for i in range(7))]
        body = [{"experiment": "x", "user_id": user} for user in users]
        calls = [pool.submit(service.http.post, "/choose", json=one) for one in body]
        time.sleep(0.1)
        other.execute("ROLLBACK")
        answers = [call.result() for call in calls]

    assert [a.status_code for a in answers] == [200] * 7 + [500] + [200] * 7
    is_problem(answers[7], 500)
    assert len(rows(service.path, "SELECT user_id FROM assignments")) == 14
    check_ledger(service.path, "x")


def test_requests_beyond_the_queue_are_turned_away_at_once(path: Path) -> None:
    writer = Writer(Store(path))  # never started, so nobody takes what waits

    async def overload() -> list[object]:
        waiting = [asyncio.ensure_future(writer.ask(Choose("x", "u"), 0.3)) for _ in range(CAPACITY)]
        await asyncio.sleep(0)
        start = time.monotonic()
        with pytest.raises(StoreUnavailable, match="too many"):
            await writer.ask(Choose("x", "u"), 0.3)
        assert time.monotonic() - start < 0.1
        return await asyncio.gather(*waiting, return_exceptions=True)

    outcomes = asyncio.run(overload())
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    writer.store.close()


def test_what_gave_up_in_the_queue_is_never_done(path: Path) -> None:
    with in_process(path) as service:
        service.create()
    writer = Writer(Store(path))

    async def give_up_then_start() -> None:
        with pytest.raises(StoreUnavailable, match="in time"):
            await writer.ask(Choose("x", "gone"), 0.05)
        writer.start()
        await writer.ask(Choose("x", "there"), 5)

    asyncio.run(give_up_then_start())
    writer.close()
    assert rows(path, "SELECT user_id FROM assignments") == [("there",)]


def test_a_writer_that_dies_ends_the_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    died = threading.Event()
    writer = Writer(Store(path), on_death=died.set)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    monkeypatch.setattr(writer, "_look_around", lambda: 1 / 0)

    writer.start()

    assert died.wait(5)
    writer.store.close()


def test_a_known_user_costs_no_statement(service: Service) -> None:
    service.create()
    service.choose("x", "u")
    statements: list[str] = []
    service.writer.store.db.set_trace_callback(statements.append)

    for _ in range(100):
        assert service.choose("x", "u")["reason"] == "sticky"

    service.writer.store.db.set_trace_callback(None)
    assert [s for s in statements if s != "PRAGMA data_version"] == []  # that one is asked once a second


def test_an_idle_experiment_begins_no_transaction(service: Service) -> None:
    service.create(policy={"max_epoch": "1s"})
    service.choose("x", "u")
    service.clock.now += 10  # renews once: there was an assignment
    wait_until(lambda: service.get("/experiments/x")["epochs"] == 2)
    service.clock.now += 2
    time.sleep(1.2)
    statements: list[str] = []
    service.writer.store.db.set_trace_callback(statements.append)

    time.sleep(2.2)

    service.writer.store.db.set_trace_callback(None)
    assert set(statements) <= {"PRAGMA data_version"}
    assert service.get("/experiments/x")["epochs"] == 2


def test_a_choice_that_changes_nothing_writes_nothing(path: Path) -> None:
    with in_process(path) as service:
        service.create()
        service.choose("x", "u")
    with in_process(path) as service:
        log = path.with_name("bandit.db-wal")
        size = log.stat().st_size if log.exists() else 0

        assert service.choose("x", "u")["reason"] == "sticky"  # read under lock: this process did not know them

        assert (log.stat().st_size if log.exists() else 0) == size


@pytest.mark.parametrize(("setting", "number"), [("full", 2), ("normal", 1)])
def test_a_commit_is_as_safe_as_it_is_set(path: Path, setting: Synchronous, number: int) -> None:
    with closing(Store(path, setting)) as store:
        assert store.db.execute("PRAGMA synchronous").fetchone() == (number,)


def test_the_store_is_durable_and_its_log_is_bounded(path: Path) -> None:
    store = Store(path)

    found = [store.db.execute(f"PRAGMA {name}").fetchone()[0] for name in
             ("journal_mode", "synchronous", "wal_autocheckpoint", "journal_size_limit")]  # fmt: skip

    assert found == ["wal", 2, 1000, 64 * 1024 * 1024]
    tables = rows(path, "SELECT name, strict FROM pragma_table_list WHERE type = 'table' AND schema = 'main'")
    assert {name for name, strict in tables if not strict} == {"sqlite_schema", "sqlite_sequence", "_sqlite_migrations"}
    store.close()


def test_the_ledger_has_room_for_the_widest_measure() -> None:
    widest = Measure("m", "numeric", "mean", cap=2.0, limit=1.0)

    assert widest.width == len(TERMS)


def test_a_newer_store_is_refused(path: Path) -> None:
    prepare(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, 'of_next_year', '')",
            (migrations.name,),
        )

    with pytest.raises(StoreProblem, match="newer version"):
        Store(path)


def test_a_file_of_something_else_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)

    with pytest.raises(StoreProblem, match="cannot use"):
        Store(path)


def test_readiness_needs_the_store(service: Service) -> None:
    assert service.get("/readyz") == {"status": "ready"}
    assert service.get("/healthz") == {"status": "ok"}

    service.path.rename(service.path.with_suffix(".away"))

    is_problem(service.http.get("/readyz"), 503)
    assert service.get("/healthz") == {"status": "ok"}
    service.path.with_suffix(".away").rename(service.path)


def test_a_store_that_fails_leaves_nothing_to_serve_for_an_unknown_experiment(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.writer.store, "begin", broken)

    is_problem(service.http.post("/choose", json={"experiment": "x", "user_id": "u"}), 503)


def test_a_server_whose_writer_ended_is_not_ready(service: Service) -> None:
    service.create()
    service.writer.close()

    is_problem(service.http.get("/readyz"), 503)
    assert service.choose("x", "u")["reason"] == "fallback"
    is_problem(service.reward("x", "u", "r"), 503)


def test_users_beyond_the_memory_are_still_known_to_the_store(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.views, "GENERATION", 10)
    service.create()
    first = {f"u{i}": service.choose("x", f"u{i}")["variant"] for i in range(45)}

    for user in [*first, *first]:
        answer = service.choose("x", user)
        assert (answer["variant"], answer["reason"]) == (first[user], "sticky")
        assert service.choose("x", "u0")["variant"] == first["u0"]

    assert rows(service.path, "SELECT count(*) FROM assignments") == [(45,)]
