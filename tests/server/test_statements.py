"""How many statements of SQL a call takes: what a goal in time cannot promise on every machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.server.running import Service, in_process

ARMS = 2
ALWAYS = ("BEGIN", "SELECT version FROM experiments", "UPDATE experiments", "COMMIT")
"""What each transaction that changes something takes, once."""


@pytest.fixture
def service(path: Path) -> Iterator[Service]:
    with in_process(path) as service:
        service.create("x", policy={"kind": "thompson", "min_batch": 100_000}, rewards={"window": "1h"})
        service.choose("x", "first")  # the first epoch is there
        yield service


@contextmanager
def counted(service: Service) -> Iterator[Counter[str]]:
    """Count statements by how they begin; each row of an `executemany` is one. The clock's looks are left out."""
    found: Counter[str] = Counter()

    def note(sql: str) -> None:
        if not sql.startswith("PRAGMA data_version"):
            found[" ".join(sql.split(" (", maxsplit=1)[0].split()[:4])] += 1

    service.writer.store.db.set_trace_callback(note)
    yield found
    service.writer.store.db.set_trace_callback(None)


def of(found: Counter[str], beginning: str) -> int:
    return sum(n for sql, n in found.items() if beginning.startswith(sql) or sql.startswith(beginning))


def batch(service: Service, path: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    answer = service.http.post(f"/{path}/batch", json={"items": [{"experiment": "x", **item} for item in items]})
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def transactions(found: Counter[str]) -> int:
    """Return how many there were: the writer takes what waits, which need not be the whole of a batch."""
    n = found["BEGIN IMMEDIATE"]
    assert {of(found, sql) for sql in ALWAYS} == {n}
    return n


def test_a_known_user_takes_none(service: Service) -> None:
    users = [f"u{i}" for i in range(50)]
    for user in users:
        service.choose("x", user)

    with counted(service) as found:
        for user in users * 3:
            assert service.choose("x", user)["reason"] == "sticky"

    assert found == {}


def test_a_new_user_takes_one_and_a_transaction_a_few_for_all(service: Service) -> None:
    with counted(service) as found:
        items = batch(service, "choose", [{"user_id": f"n{i}"} for i in range(32)])

    assert {item["reason"] for item in items} == {"new"}
    n = transactions(found)
    assert (of(found, "SELECT user_id, epoch,"), of(found, "INSERT INTO assignments")) == (n, 32)
    assert of(found, "INSERT INTO cells") <= n * ARMS
    assert sum(found.values()) <= 32 + n * (len(ALWAYS) + 1 + ARMS)


def test_a_reward_takes_two_and_a_transaction_a_few_for_all(service: Service) -> None:
    users = [f"r{i}" for i in range(32)]
    batch(service, "choose", [{"user_id": user} for user in users])
    rewards = [{"user_id": user, "request_id": user, "metrics": {"resolved": 1, "latency_ms": 7}} for user in users]

    with counted(service) as found:
        items = batch(service, "reward", rewards)

    assert {tuple(item["accepted"]) for item in items} == {("resolved", "latency_ms")}
    n = transactions(found)
    assert (of(found, "INSERT INTO rewards"), of(found, "UPDATE assignments SET last_reward")) == (32, 32)
    assert of(found, "SELECT user_id, epoch,") == of(found, "SELECT request_id, part,") == n
    assert of(found, "INSERT INTO cells") <= n * ARMS
    # For all: users, requests, and the last number are read; cells, and counts of equal values for display, written.
    assert sum(found.values()) <= 64 + n * (len(ALWAYS) + 3 + ARMS + ARMS)
