"""Many calls of /choose or /reward at once: each is answered as if it were alone, and none waits for another."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

import server.intake
from bandit import Assignment, Bandit
from server.hot import Hot
from server.problems import RETRY_AFTER
from server.store import Store
from server.views import View
from server.writer import Writer
from tests.server.running import Service, check_ledger, in_process, is_problem, rows


def asked(*users: str) -> list[dict[str, Any]]:
    return [{"experiment": "x", "user_id": user} for user in users]


def told(user: str, request: str, **metrics: object) -> dict[str, Any]:
    return {"experiment": "x", "user_id": user, "request_id": request, "metrics": metrics or {"resolved": 1}}


def batch(service: Service, path: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    response = service.http.post(f"{path}/batch", json={"items": items})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    assert list(answer) == ["items"]
    assert len(answer["items"]) == len(items)
    found: list[dict[str, Any]] = answer["items"]
    return found


def statuses(items: list[dict[str, Any]]) -> list[int]:
    return [item["status"] for item in items]


def reasons(items: list[dict[str, Any]]) -> list[str]:
    return [item["reason"] for item in items]


def test_each_item_is_answered_at_its_place_like_the_call_alone(service: Service) -> None:
    service.create()
    service.create("paused", start=False)
    known = service.choose("x", "known")
    service.force("x", "tester", "B")

    items = batch(
        service,
        "/choose",
        [
            *asked("new-1", "known"),
            {"experiment": "nowhere", "user_id": "known"},
            {"experiment": "paused", "user_id": "known"},
            {"experiment": "x", "user_id": "", "request_id": "r"},
            {"experiment": "x", "user_id": "tester", "request_id": "r"},
            {"experiment": "x"},
        ],
    )

    assert statuses(items) == [200, 200, 404, 200, 422, 200, 200]
    new, again, nowhere, paused, nameless, forced, made = items
    assert (new["user_id"], new["reason"]) == ("new-1", "new")
    assert again == {**known, "request_id": again["request_id"], "reason": "sticky", "status": 200}
    assert nowhere == is_problem(service.http.post("/choose", json={"experiment": "nowhere"}), 404)
    assert (paused["experiment"], paused["reason"]) == ("paused", "not_enrolled")
    assert [error["field"] for error in nameless["errors"]] == ["user_id"]
    assert (forced["variant"], forced["reason"], forced["request_id"]) == ("B", "forced", "r")
    assert made["reason"] == "new"
    alone = service.choose("x", made["user_id"])
    assert {**alone, "status": 200} == {**made, "request_id": alone["request_id"], "reason": "sticky"}


def test_a_new_user_who_comes_twice_in_a_batch_has_one_variant(service: Service) -> None:
    service.create()

    items = batch(service, "/choose", asked("u", "v", "u", "u", "v"))

    assert reasons(items) == ["new", "new", "sticky", "sticky", "sticky"]
    for user in ("u", "v"):
        assert len({(item["variant"], item["epoch"]) for item in items if item["user_id"] == user}) == 1
    assert rows(service.path, "SELECT count(*) FROM assignments") == [(2,)]


def test_batches_at_the_same_time_give_each_user_one_variant(service: Service) -> None:
    service.create(policy={"min_batch": 20, "warmup": 10})
    users = [f"u{i}" for i in range(200)]

    with ThreadPoolExecutor(6) as pool:
        turned = pool.map(lambda turn: batch(service, "/choose", asked(*users[turn:], *users[:turn])), range(6))
        items = list(chain.from_iterable(turned))

    variants: dict[str, set[str]] = {}
    for item in items:
        variants.setdefault(item["user_id"], set()).add(item["variant"])
    assert {len(found) for found in variants.values()} == {1}
    assert sum(item["reason"] == "new" for item in items) == 200
    assert rows(service.path, "SELECT count(*) FROM assignments") == [(200,)]


def test_the_largest_batch_of_new_users_and_of_rewards_shares_transactions(service: Service) -> None:
    service.create()
    users = [f"u{i}" for i in range(1000)]
    statements: list[str] = []
    service.writer.store.db.set_trace_callback(statements.append)

    chosen = batch(service, "/choose", asked(*users))
    counted = batch(service, "/reward", [told(user, f"r-{user}", resolved=1, latency_ms=9.5) for user in users])

    service.writer.store.db.set_trace_callback(None)
    assert set(reasons(chosen)) == {"new"}
    assert [item["user_id"] for item in chosen] == users
    assert {(item["status"], *item["accepted"]) for item in counted} == {(200, "resolved", "latency_ms")}
    # 2,000 calls; the writer takes up to 512 at once, and looks at the clock once a second.
    assert 4 <= statements.count("COMMIT") <= 8
    check_ledger(service.path, "x")


def test_a_batch_of_known_users_costs_no_statement(service: Service) -> None:
    service.create()
    users = [f"u{i}" for i in range(100)]
    batch(service, "/choose", asked(*users))
    statements: list[str] = []
    service.writer.store.db.set_trace_callback(statements.append)

    items = batch(service, "/choose", asked(*users))

    service.writer.store.db.set_trace_callback(None)
    assert set(reasons(items)) == {"sticky"}
    assert [s for s in statements if s != "PRAGMA data_version"] == []  # that one is asked once a second


def test_rewards_take_effect_in_their_order(service: Service) -> None:
    service.create()
    batch(service, "/choose", asked("u", "v"))

    items = batch(
        service,
        "/reward",
        [
            told("u", "r", resolved=1),
            told("u", "r", resolved=1),
            told("u", "r", resolved=0),
            {**told("u", "r", resolved=0), "replace": True},
            told("u", "r", resolved=0),
            told("v", "r", resolved=0),
            told("stranger", "s"),
            told("v", "s", nonsense=1),
            told("v", "s", resolved=True),
        ],
    )

    assert statuses(items) == [200, 200, 409, 200, 200, 409, 409, 422, 200]
    assert [item.get("accepted") for item in items[:2]] == [["resolved"], []]
    assert items[1]["duplicate"] == items[4]["duplicate"] == ["resolved"]
    assert items[3]["accepted"] == items[8]["accepted"] == ["resolved"]
    assert [items[place]["title"] for place in (2, 6)] == [
        "The request id was used with another value or user", "The user has no variant yet",
    ]  # fmt: skip
    stored = rows(
        service.path, "SELECT request_id, revision, user_id, value FROM rewards ORDER BY request_id, revision"
    )
    assert stored == [("r", 0, "u", 1.0), ("r", 1, "u", 0.0), ("s", 0, "v", 1.0)]
    check_ledger(service.path, "x")


def test_an_item_that_fails_unforeseen_fails_alone(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.create()
    good = Bandit.choose

    def choose(bandit: Bandit, user_id: str) -> Assignment:
        answer = good(bandit, user_id)
        if user_id == "poison":
            raise RuntimeError("after it changed something")
        return answer

    monkeypatch.setattr(Bandit, "choose", choose)
    items = batch(service, "/choose", asked("u", "poison", "v"))
    monkeypatch.setattr(View, "known", lambda _, user_id: 1 / 0 if user_id == "w" else None)
    more = batch(service, "/choose", asked("v", "w", "u"))

    assert statuses(items) == statuses(more) == [200, 500, 200]
    assert reasons([more[0], more[2]]) == ["sticky", "sticky"]
    assert rows(service.path, "SELECT user_id FROM assignments ORDER BY user_id") == [("u",), ("v",)]


def test_other_requests_have_their_turn_while_a_batch_is_checked(path: Path) -> None:
    writer = Writer(Store(path))  # never started: no item gets as far as that
    body = json.dumps({"items": [{"experiment": 1}] * 1000}).encode()

    async def turns() -> tuple[int, int]:
        batch_answered = asyncio.ensure_future(Hot(writer).answer("/choose/batch", body))
        count = 0
        while not batch_answered.done():
            await asyncio.sleep(0)
            count += 1
        return count, (await batch_answered)[0]

    count, status = asyncio.run(turns())
    assert status == 200
    assert count >= 10
    writer.store.close()


@contextmanager
def busy_writer(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """The writer has taken one reward and cannot go on before it is told to."""
    begin, entered, over = service.writer.store.begin, threading.Event(), threading.Event()

    def held() -> None:
        entered.set()
        assert over.wait(20)
        begin()

    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as patch:
        patch.setattr(service.writer.store, "begin", held)
        first = pool.submit(service.reward, "x", "known", "first")
        assert entered.wait(10)
        try:
            yield over.set
        finally:
            over.set()
        assert first.result().json()["accepted"] == ["resolved"]


def test_items_that_a_full_queue_has_no_room_for_are_told_at_once_and_the_others_are_done(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.create()
    service.choose("x", "known")
    monkeypatch.setattr(server.intake, "CAPACITY", 9)  # one of them keeps the writer busy

    with busy_writer(service, monkeypatch) as go_on, ThreadPoolExecutor(1) as pool:
        rewards = pool.submit(batch, service, "/reward", [told("known", f"r{i}", cost_usd=0.1) for i in range(12)])
        wait_for_queue(service, 9)
        full = batch(service, "/choose", asked("new", "known", "new"))
        alone = service.reward("x", "known", "r")
        item = service.http.post("/reward/batch", json={"items": [told("known", "r")]})
        go_on()
        items = rewards.result()

    assert statuses(items) == [200] * 8 + [503] * 4
    assert all(item["accepted"] == ["cost_usd"] for item in items[:8])
    assert all(item["retry_after"] == RETRY_AFTER and "too many" in item["detail"] for item in items[8:])
    assert reasons(full) == ["fallback", "sticky", "fallback"]
    assert (full[0]["variant"], full[0]["propensity"], full[0]["epoch"]) == ("A", None, None)
    assert item.json()["items"] == [is_problem(alone, 503)]
    assert alone.headers["retry-after"] == str(RETRY_AFTER)
    assert "retry-after" not in item.headers
    stored = rows(service.path, "SELECT request_id FROM rewards WHERE metric = 'cost_usd' ORDER BY request_id")
    assert stored == [(f"r{i}",) for i in range(8)]
    again = batch(service, "/reward", [told("known", f"r{i}", cost_usd=0.1) for i in range(8, 12)])
    assert statuses(again) == [200] * 4
    check_ledger(service.path, "x")


def wait_for_queue(service: Service, size: int) -> None:
    end = time.monotonic() + 10
    while service.writer.waiting < size:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_locked_store_gives_fallback_in_time_and_nothing_of_it_is_stored(path: Path) -> None:
    with in_process(path, choose_seconds=0.25) as service:
        service.create()
        service.choose("x", "known")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            start = time.monotonic()
            items = batch(service, "/choose", [*asked("known", "new"), {"experiment": "y"}])
            took = time.monotonic() - start
            other.execute("ROLLBACK")

        assert reasons(items[:2]) == ["sticky", "fallback"]
        assert items[2]["status"] == 503  # nobody knows a control for it
        assert items[2]["retry_after"] == RETRY_AFTER
        assert 0.2 < took < 1.5
        assert rows(path, "SELECT user_id FROM assignments") == [("known",)]
        assert reasons(batch(service, "/choose", asked("new"))) == ["new"]
