"""Old rows go, what they were summed into stays, and nothing counts twice because its row is gone."""

from __future__ import annotations

import logging
import random
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import server.retention
import server.writer
from server import reports
from server.retention import Retention
from server.store import Store
from server.verify import verify
from tests.server.harness_ledger import check_ledger
from tests.server.running import Clock, Service, declaration, in_process, rows, wait_until
from tests.server.unpacked import spoil, unpack

DAY = 86_400.0
KEPT = 90 * DAY
POLICY = {"min_batch": 10, "warmup": 5}
ONLY_A_GOAL: dict[str, Any] = {"guardrails": [], "policy": POLICY, "rewards": {"window": "1h"}}
HARMFUL = {"metric": "harmful", "kind": "binary", "per_user": "any", "max": 0.9}
WATCHED: dict[str, Any] = {**ONLY_A_GOAL, "guardrails": [declaration()["guardrails"][1], HARMFUL]}


def visit(service: Service, users: range, name: str = "r", key: str = "x") -> None:
    """Let users come, each with one call."""
    rng = random.Random(name)  # noqa: S311 - a fixed sequence
    names = [rail["metric"] for rail in service.get(f"/experiments/{key}")["definition"]["guardrails"]]
    for i in users:
        service.choose(key, f"u{i}")
        metrics = {"resolved": rng.random() < 0.4} | {metric: float(rng.random() < 0.2) for metric in names}
        assert service.reward(key, f"u{i}", f"{name}{i}", metrics=metrics).status_code == 200
        service.clock.now += 1.0


def fold(path: Path, now: float, seconds: float = KEPT) -> None:
    """Do all that is to be done at a moment."""
    store = Store(path)
    retention = Retention(store, seconds)
    steps = 0
    while retention.step(now):
        steps += 1
        assert steps < 10_000, "it does not come to an end"
    store.close()


def numbers(path: Path) -> dict[str, Any]:
    """The ledger of a store. A visit that waited may count meanwhile: in both cases it is one."""
    later: dict[tuple[int, ...], list[float]] = {}
    for table in ("returning_sums", "waiting_sums"):
        for *place, n, z in rows(path, f"SELECT experiment, epoch, arm, measure, visit_window, n, z FROM {table}"):  # noqa: S608
            held = later.setdefault(tuple(place), [0.0, 0.0])
            later[tuple(place)] = [held[0] + n, held[1] + z]
    return {
        "cells": rows(path, "SELECT experiment, epoch, arm, assigned, moved FROM cells"),
        "sums": rows(path, "SELECT experiment, epoch, arm, measure, n, z, z2, z3, up_1, down_1 FROM sums"),
        "later": later,
    }


def report(path: Path) -> dict[str, Any]:
    return reports.report(path, "x").to_dict()


def closed(path: Path) -> bool:
    """Whether all epochs are."""
    return rows(path, "SELECT count(*) FROM epochs WHERE closed_at IS NULL") == [(0,)]


def test_rows_of_epochs_that_closed_long_ago_go_and_reports_stay(path: Path) -> None:
    clock = Clock()
    with in_process(path, clock) as service:
        service.create("x", **ONLY_A_GOAL)
        visit(service, range(50))
        clock.now += 2 * 3_600
        visit(service, range(50, 60))
        visit(service, range(5), "late")
    before = report(path)
    (early,) = rows(path, "SELECT count(*) FROM epochs WHERE closed_at IS NOT NULL")[0]
    assert early > 2
    ledger = numbers(path)

    fold(path, clock.now + KEPT - 7_000)
    assert rows(path, "SELECT count(*) FROM rewards") == [(65,)]  # nothing is old yet

    fold(path, clock.now + KEPT - 5)

    left = rows(path, "SELECT user_id, request_id, reason FROM rewards")
    users = {user for user, _, _ in left}
    assert {f"u{i}" for i in range(53, 60)} <= users
    assert not users & {f"u{i}" for i in range(5, 40)}
    assert rows(path, "SELECT count(*) FROM outcomes") == [(20,)]
    assert rows(path, "SELECT count(*) FROM assignments") == [(60,)]
    assert numbers(path) == ledger
    assert verify(path).differences == 0
    assert report(path) == before
    with in_process(path, clock) as service:
        assert service.choose("x", "u7")["reason"] == "sticky"


def test_what_was_sent_before_a_user_had_a_variant_goes_with_the_rest(path: Path) -> None:
    clock = Clock()
    with in_process(path, clock) as service:
        service.create("x", start=False, **WATCHED)
        visit_early = {"metrics": {"resolved": 1, "harmful": 0}}
        for user in ("u1", "stranger"):
            assert service.reward("x", user, f"early {user}", **visit_early).json()["ignored"]
        service.move("x", "start")
        visit(service, range(30))
        clock.now += 2 * 3_600
        visit(service, range(30, 31))
    early = "SELECT user_id, metric FROM rewards WHERE request_id LIKE 'early%' ORDER BY user_id, metric"

    fold(path, clock.now + KEPT)

    # A guardrail reads harm in later windows, where it must not come twice; strangers are in no cell that is looked at.
    assert rows(path, early) == [("stranger", "harmful"), ("stranger", "resolved"), ("u1", "harmful")]
    assert verify(path).differences == 0


def test_late_rows_that_come_after_go_at_a_later_sweep(path: Path) -> None:
    clock = Clock()
    with in_process(path, clock) as service:
        service.create("x", **ONLY_A_GOAL)
        visit(service, range(30))
        clock.now += 2 * 3_600
        visit(service, range(30, 31))
    clock.now += KEPT
    fold(path, clock.now)
    with in_process(path, clock) as service:
        assert service.reward("x", "u3", "much later").json()["late"] == ["resolved"]

    fold(path, clock.now + 0.2 * KEPT)
    fold(path, clock.now + 0.9 * KEPT)
    assert ("much later",) in rows(path, "SELECT request_id FROM rewards")

    fold(path, clock.now + 1.3 * KEPT)
    assert ("much later",) not in rows(path, "SELECT request_id FROM rewards")
    assert verify(path).differences == 0


def test_a_request_whose_row_is_gone_is_late_and_counts_no_more(path: Path) -> None:
    clock = Clock()
    with in_process(path, clock) as service:
        service.create("x", **ONLY_A_GOAL)
        visit(service, range(40))
        clock.now += 2 * 3_600
        visit(service, range(40, 41))
        again = service.reward("x", "u3", "r3", metrics={"resolved": 1})
        assert again.status_code in (200, 409)  # it is known
    fold(path, clock.now + KEPT)
    assert rows(path, "SELECT count(*) FROM rewards WHERE request_id = 'r3'") == [(0,)]
    ledger = numbers(path)

    with in_process(path, clock) as service:
        for i in range(30):
            for _ in range(2):
                answer = service.reward("x", f"u{i}", f"r{i}", metrics={"resolved": 1})
                assert (answer.status_code, answer.json()["late"]) == (200, ["resolved"])
        failed = service.reward("x", "u3", "r3 failed", metrics={}, failed=True)
        assert failed.json()["accepted"] == []

    assert numbers(path) == ledger
    assert verify(path).differences == 0


def test_what_guardrails_read_in_later_windows_stays_until_the_stop(path: Path) -> None:
    clock = Clock()
    with in_process(path, clock) as service:
        service.create("x", **WATCHED)
        visit(service, range(40))
        clock.now += 2 * 3_600
        visit(service, range(40, 41))
        visit(service, range(10), "back")  # in a later window: for the guardrails alone
        clock.now += 2 * 3_600
        visit(service, range(3), "again")
    before, ledger = report(path), numbers(path)
    assert any(n for n, _ in ledger["later"].values())

    clock.now += KEPT
    fold(path, clock.now)

    kept = dict(rows(path, "SELECT metric, count(*) FROM rewards GROUP BY metric"))
    assert kept["cost_usd"] == kept["harmful"] == 54
    assert kept["resolved"] < 15
    assert rows(path, "SELECT max(number) FROM visits WHERE user_id = 'u1'") == [(3,)]
    assert verify(path).differences == 0
    assert report(path) == before
    with in_process(path, clock) as service:
        body = {"metrics": {"resolved": 1, "cost_usd": 0, "harmful": 0}}
        for name, i in (("r", 1), ("back", 1), ("again", 1), ("r", 20)):
            answer = service.reward("x", f"u{i}", f"{name}{i}", **body)
            # Their rows are there, so they are known: the same values are duplicates, others a conflict.
            assert answer.status_code == 409 or {"cost_usd", "harmful"} == set(answer.json()["duplicate"])
        assert numbers(path) == ledger
        # Another request is another visit, also of a user whose goal's row is gone.
        assert set(service.reward("x", "u1", "new", **body).json()["accepted"]) == {"cost_usd", "harmful"}
        assert rows(path, "SELECT max(number) FROM visits WHERE user_id = 'u1'") == [(4,)]
    assert verify(path).differences == 0


@pytest.mark.parametrize("now", [False, True])
def test_after_a_stop_everything_goes_and_nothing_counts_again(path: Path, now: bool) -> None:
    clock = Clock()
    with in_process(path, clock) as service:
        service.create("x", **WATCHED)
        visit(service, range(40))
        clock.now += 2 * 3_600
        visit(service, range(40, 45))
        visit(service, range(10), "back")
        service.move("x", "stop", now=now)
        clock.now += 4 * 3_600
        wait_until(lambda: now or closed(path))
    assert (rows(path, "SELECT count(*) FROM epochs WHERE closed_at IS NULL")[0][0] > 0) == now
    before, ledger = report(path), numbers(path)
    clock.now += KEPT

    fold(path, clock.now)

    for table in ("rewards", "outcomes", "visits"):
        assert rows(path, f"SELECT count(*) FROM {table}") == [(0,)]  # noqa: S608 - our own names
    assert rows(path, "SELECT count(*) FROM assignments") == [(45,)]
    assert verify(path).differences == 0
    assert report(path) == before
    with in_process(path, clock) as service:
        for name, i in (("r", 1), ("back", 1), ("r", 20), ("r", 42)):
            body = {"metrics": {"resolved": 1, "cost_usd": 0, "harmful": 1}}
            answer = service.reward("x", f"u{i}", f"{name}{i}", **body).json()
            assert answer["accepted"] == []
            assert answer["ignored" if now else "late"]
    assert numbers(path) == ledger
    assert verify(path).differences == 0


def test_an_experiment_that_is_stopped_after_its_rows_were_dropped_loses_the_rest(path: Path) -> None:
    clock = Clock()
    with in_process(path, clock) as service:
        service.create("x", **WATCHED)
        visit(service, range(40))
        clock.now += 2 * 3_600
        visit(service, range(10), "back")
    clock.now += KEPT + DAY
    fold(path, clock.now)
    assert rows(path, "SELECT count(*) FROM visits")[0][0] > 0
    with in_process(path, clock) as service:
        service.move("x", "stop")
        clock.now += 4 * 3_600
        wait_until(lambda: closed(path))
    ledger = numbers(path)

    fold(path, clock.now + KEPT)

    assert rows(path, "SELECT count(*) FROM visits") == [(0,)]
    assert rows(path, "SELECT count(*) FROM rewards") == [(0,)]
    assert set(rows(path, "SELECT whole FROM sealed_cells")) == {(1,)}
    assert numbers(path) == ledger
    assert verify(path).differences == 0
    # A longer time, set later: the cells are still old enough for it, but the stop is not. What is gone stays gone.
    fold(path, clock.now + 1.52 * KEPT, 2 * KEPT)
    assert set(rows(path, "SELECT whole FROM sealed_cells")) == {(1,)}
    assert verify(path).differences == 0


def test_a_damaged_cell_is_left_as_it_is(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with in_process(path, clock) as service:
        service.create("x", **ONLY_A_GOAL)
        visit(service, range(40))
        clock.now += 2 * 3_600
        visit(service, range(40, 41))
    spoil(path, "UPDATE sums SET z = z + 1 WHERE epoch = 1 AND arm = 0")
    of_cell = "SELECT count(*) FROM rewards WHERE epoch = 1 AND arm = 0"
    (n,) = rows(path, of_cell)[0]

    with caplog.at_level(logging.ERROR, "bandit.server"):
        fold(path, clock.now + KEPT)

    assert rows(path, of_cell) == [(n,)]
    assert rows(path, "SELECT epoch, arm FROM sealed_cells WHERE epoch = 1 AND arm = 0") == []
    assert rows(path, "SELECT count(*) FROM rewards WHERE epoch = 2") == [(0,)]
    (record,) = caplog.records
    assert "epoch 1 of experiment 'x' are kept" in record.getMessage()


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("UPDATE base_sums SET z = z + 1e-12 WHERE epoch = 1 AND arm = 0", "window 1, sealed"),
        ("UPDATE sums SET z2 = z2 + 1e-12 WHERE epoch = 1 AND arm = 0", "window 1, sealed"),
        ("DELETE FROM base_sums WHERE epoch = 1 AND arm = 0", "window 1, sealed"),
        ("DELETE FROM sealed_cells WHERE epoch = 1 AND arm = 0", "sum n"),
        ("UPDATE cells SET assigned = assigned + 1 WHERE epoch = 1 AND arm = 0", "users assigned"),
        ("DELETE FROM assignments WHERE user_id = 'u1'", "users assigned"),
    ],
)
def test_damage_to_what_was_sealed_is_found(path: Path, damage: str, what: str) -> None:
    clock = Clock()
    with in_process(path, clock) as service:
        service.create("x", **ONLY_A_GOAL)
        visit(service, range(40))
        clock.now += 2 * 3_600
        visit(service, range(40, 41))
    fold(path, clock.now + KEPT)
    assert verify(path).differences == 0

    spoil(path, damage)

    found = verify(path).verdicts[0].found
    assert what in {difference.what for difference in found.first}


def test_each_step_is_small_and_a_store_between_two_steps_agrees(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.retention, "ROWS", 4)
    clock = Clock()
    with in_process(path, clock) as service:
        service.create("x", **WATCHED)
        visit(service, range(40))
        for j in range(9):
            service.reward("x", "u3", f"more{j}", metrics={"resolved": j % 2})
        service.reward("x", "u3", "more0", metrics={"resolved": 1}, replace=True)
        clock.now += 2 * 3_600
        visit(service, range(10), "back")
        service.move("x", "stop")
    store = Store(path)
    retention = Retention(store, KEPT)
    gone, steps = 0, 0
    (total,) = rows(path, "SELECT count(*) FROM main.rewards")[0]

    while retention.step(clock.now + 2 * KEPT):
        (left,) = rows(path, "SELECT count(*) FROM main.rewards")[0]
        assert total - gone - left <= 5  # one of the four calls has a correction
        gone, steps = total - left, steps + 1
        assert verify(path).differences == 0
    store.close()

    assert steps > 20
    assert (gone, total) == (50, 60)  # the last epoch has not closed


def test_two_processes_may_do_it_at_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with in_process(path, clock) as service:
        service.create("x", **WATCHED)
        visit(service, range(40))
        clock.now += 2 * 3_600
        visit(service, range(40, 41))
    stores = [Store(path), Store(path)]
    both = [Retention(store, KEPT) for store in stores]
    at_work = [True, True]

    rng = random.Random(3)  # noqa: S311 - a fixed sequence
    with caplog.at_level(logging.ERROR, "bandit.server"):
        while any(at_work):
            which = rng.randrange(2)
            at_work[which] = both[which].step(clock.now + KEPT)
            assert verify(path).differences == 0
    for store in stores:
        store.close()

    assert caplog.records == []
    assert rows(path, "SELECT count(*) FROM outcomes WHERE user_id = 'u1'") == [(0,)]


def test_the_server_does_it_by_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.writer, "WAKE", 0.01)
    clock = Clock()
    with in_process(path, clock) as service:
        service.writer.each_look = Retention(service.writer.store, KEPT).step
        service.create("x", **ONLY_A_GOAL)
        visit(service, range(40))
        clock.now += 2 * 3_600
        visit(service, range(40, 41))
        clock.now += KEPT

        wait_until(lambda: rows(path, "SELECT count(*) FROM rewards")[0][0] < 12)
        assert service.reward("x", "u3", "r3").json()["late"] == ["resolved"]
        assert not service.writer.in_trouble
        assert verify(path).differences == 0


def test_nothing_is_dropped_from_a_file_that_is_damaged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.writer, "WAKE", 0.01)
    looks: list[float] = []
    with in_process(path) as service:
        service.writer.each_look = looks.append
        wait_until(lambda: len(looks) > 2)

        service.writer.damaged = True

        time.sleep(0.1)  # the look that may be going on
        n = len(looks)
        time.sleep(0.3)
        assert len(looks) == n


SHAPES: dict[str, dict[str, Any]] = {
    "windows": {"rewards": {"window": "1h"}, "guardrails": [*declaration()["guardrails"], HARMFUL]},
    "first values": {"rewards": {"window": "request"}, "guardrails": [*declaration()["guardrails"], HARMFUL]},
    "numbers": {
        "rewards": {"window": "1h"},
        "goal": {"metric": "resolved", "kind": "numeric", "per_user": "sum"},
        "guardrails": [
            {"metric": "cost_usd", "kind": "numeric", "per_user": "first", "max": 0.5},
            {"metric": "latency_ms", "kind": "numeric", "max_increase": 0.2},
            {"metric": "failed", "kind": "binary", "max": 0.9},
        ],
    },
}
USERS = st.sampled_from([f"u{i}" for i in range(10)])
CALLS = st.fixed_dictionaries(
    {
        "user_id": USERS,
        "request_id": st.sampled_from([f"r{i}" for i in range(12)]),
        "metrics": st.fixed_dictionaries(
            {},
            optional={
                "resolved": st.sampled_from([0, 1]),
                "cost_usd": st.sampled_from([0, 0.1, 0.3, 1.7, 1e5]),
                "latency_ms": st.sampled_from([0.1, 700, 1600]),
                "harmful": st.sampled_from([0, 1]),
            },
        ),
    },
    optional={
        "failed": st.booleans(),
        "replace": st.booleans(),
        "variant": st.sampled_from(["A", "B"]),
    },
)
STEPS = st.lists(
    st.tuples(
        st.one_of(
            *[st.tuples(st.just("choose"), USERS)] * 3,
            *[st.tuples(st.just("reward"), CALLS)] * 5,
            st.tuples(st.sampled_from(["suspend", "resume"]), st.sampled_from(["B", "C"])),
            st.tuples(st.just("force"), USERS),
            st.tuples(st.sampled_from(["pause", "start"]), st.none()),
        ),
        st.sampled_from([0.0, 0.0, 0.5, 60.0, 1_800.0, 4_000.0]),
    ),
    min_size=30,
    max_size=60,
)


def do(service: Service, step: tuple[str, Any], sent: list[dict[str, Any]]) -> None:
    """Make one call, noting rewards that were not refused."""
    match step:
        case ("choose", user):
            service.choose("x", user)
        case ("reward", call):
            answer = service.http.post("/reward", json={"experiment": "x", **call})
            assert answer.status_code in (200, 409, 422), answer.text
            if answer.status_code == 200:
                sent.append(call)
        case ("suspend" | "resume" as action, variant):
            service.switch("x", variant, action)
        case ("force", user):
            service.force("x", user, "B")
            service.http.delete(f"/experiments/x/forced/{user}")
        case (action, _):
            service.move("x", action)


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=8)
@given(steps=STEPS, how=st.sampled_from([None, {"now": False}, {"now": True}]), after=STEPS)
def test_whatever_happens_the_store_agrees_with_itself_and_nothing_counts_twice(
    shape: str, steps: list[Any], how: dict[str, Any] | None, after: list[Any]
) -> None:
    clock, sent = Clock(), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bandit.db"
        with in_process(path, clock) as service:
            policy = {"min_batch": 3, "warmup": 2, "max_epoch": "30m"}
            variants = [{"key": "A", "control": True}, {"key": "B"}, {"key": "C"}]
            service.create("x", variants=variants, policy=policy, **SHAPES[shape])
            for step, passes in steps:
                do(service, step, sent)
                clock.now += passes
            agrees(path)

            clock.now += 3 * DAY
            service.choose("x", "somebody else")
            clock.now += DAY
            service.choose("x", "a third one")
            if how is not None:
                service.move("x", "stop", **how)
        fold(path, clock.now, 2 * DAY)
        found = verify(path)
        assert found.differences == 0, found.verdicts[0].found.first
        clock.now += DAY
        fold(path, clock.now + DAY, DAY)
        ledger = numbers(path)

        with in_process(path, clock) as service:
            for call in sent:
                service.http.post("/reward", json={"experiment": "x", **call})
            assert numbers(path) == ledger
            for step, passes in after:
                do(service, step, sent)
                clock.now += passes
            found = verify(path)
            assert found.differences == 0, found.verdicts[0].found.first


def agrees(path: Path) -> None:
    """Check that `verify` finds nothing, and a rebuild that shares nothing with it neither."""
    found = verify(path)
    assert found.differences == 0, found.verdicts[0].found.first
    with closing(sqlite3.connect(path)) as db:
        unpack(db)
        check_ledger(db, "x")
