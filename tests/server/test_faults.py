"""What the machine does to a store, for real: a full disk, lost rights, locks, damage, other files, slow disks, clocks.

In each case known users keep their variant, everybody else gets an answer in time, what cannot be stored is refused
with a problem and a line in the log, and what was acknowledged before and after is all there, whole.
"""

from __future__ import annotations

import logging
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from server.backup import backup
from server.errors import StoreProblem
from server.store import Store
from server.verify import verify
from tests.server.running import (
    Client,
    Clock,
    Command,
    Service,
    check_ledger,
    command,
    declaration,
    in_process,
    is_problem,
    rows,
    wait_until,
)

PAGE = 4096
"""Bytes of a page of the store."""


def one(service: Client, user: str) -> Mapping[str, Any]:
    """Ask once for a user; unlike a command's `choose`, which asks until the store was quick enough."""
    return Client.choose(service, "x", user)


def crowd(service: Client, n: int) -> dict[str, str]:
    """Let so many users come and be rewarded; return their variants."""
    users = [f"u{i}" for i in range(n)]
    drawn = {user: service.choose("x", user)["variant"] for user in users}
    told = [{"experiment": "x", "user_id": user, "request_id": user, "metrics": {"resolved": 1}} for user in users]
    items = service.http.post("/reward/batch", json={"items": told}).json()["items"]
    assert [item["status"] for item in items] == [200] * n
    return drawn


def until_refused(service: Client) -> dict[str, str]:
    """Let users with long ids come until one gets fallback; return the variants of those who were stored."""
    stored: dict[str, str] = {}
    for i in range(2_000):
        user = f"{i}-".ljust(200, "x")
        answer = one(service, user)
        if answer["reason"] == "fallback":
            return stored
        assert answer["reason"] == "new"
        stored[user] = answer["variant"]
    raise AssertionError("the store took everything")


def assigned(path: Path) -> dict[str, str]:
    """Variant of each user in the store."""
    return {user: "AB"[arm] for user, arm in rows(path, "SELECT user_id, arm FROM assignments")}


def check_store(path: Path, acknowledged: Mapping[str, str]) -> None:
    """Check that a store is whole, agrees with itself, and has exactly the users who were told so."""
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert assigned(path) == acknowledged
    check_ledger(path, "x")
    assert verify(path).differences == 0


def check_trouble(service: Client, drawn: Mapping[str, str]) -> None:
    """Check what a server answers whose store takes nothing: by turns to known and new users, and to rewards."""
    for i, (user, variant) in enumerate(drawn.items()):
        known = one(service, user)
        assert (known["variant"], known["reason"]) == (variant, "sticky")
        new = one(service, f"stranger-{i}")
        assert (new["variant"], new["reason"], new["propensity"], new["epoch"]) == ("A", "fallback", None, None)
        refused = service.reward("x", user, f"refused-{i}")
        is_problem(refused, 503)
        assert refused.headers["retry-after"] == "1"
    assert service.get("/healthz") == {"status": "ok"}


def readiness(service: Client) -> int:
    return service.http.get("/readyz").status_code


def lines(text: str) -> list[str]:
    """What the server itself said in its log."""
    return [line.partition("bandit.server: ")[2] for line in text.splitlines() if "bandit.server: " in line]


# A full disk


def test_a_file_that_may_not_grow_takes_what_fits_and_the_rest_when_it_may(path: Path) -> None:
    """SQLITE_FULL, as on a full disk: here by a limit of SQLite's own, which needs no special rights."""
    with in_process(path) as service:
        service.create()
        db = service.writer.store.db
        (size,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {size}")

        stored = until_refused(service)
        first = next(iter(stored))
        told = (service.reward("x", first, f"{i}-".ljust(200, "x")) for i in range(2_000))
        is_problem(next(response for response in told if not response.is_success), 503)
        large = declaration(
            "large", variants=[{"key": "A", "control": True, "config": {"prompt": "long " * 5_000}}, {"key": "B"}]
        )
        is_problem(service.http.post("/experiments", json=large), 503)
        is_problem(service.http.get("/experiments/large"), 404)
        check_store(path, stored)

        db.execute("PRAGMA max_page_count = 1000000")
        assert service.http.post("/experiments", json=large).status_code == 201
        late = one(service, "late")
        assert late["reason"] == "new"
        wait_until(lambda: readiness(service) == 200)
    check_store(path, {**stored, "late": late["variant"]})


def may_grow_to(server: Command, size: int) -> None:
    """Let the kernel refuse every byte beyond this place of any file of a process, as a full disk would."""
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_disk_that_takes_no_more_bytes_is_waited_for(path: Path) -> None:
    with command("--db", path) as server:
        server.create()
        drawn = crowd(server, 5)
        may_grow_to(server, path.with_name(path.name + "-wal").stat().st_size)

        drawn |= until_refused(server)
        wait_until(lambda: readiness(server) == 503)
        check_trouble(server, dict(list(drawn.items())[:5]))

        may_grow_to(server, resource.RLIM_INFINITY)
        wait_until(lambda: readiness(server) == 200)
        for i in range(5):
            drawn[f"stranger-{i}"] = server.choose("x", f"stranger-{i}")["variant"]
            assert server.reward("x", f"stranger-{i}", f"refused-{i}").json()["accepted"] == ["resolved"]
        server.stop(signal.SIGKILL)
    assert lines(server.output) == ["the store does not work: disk I/O error", "the store works again"]
    check_store(path, drawn)


# Lost rights


@pytest.fixture
def without_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command run without root's right to write to everything, if this is root."""
    if os.geteuid() == 0:
        wrapper = tmp_path / "python"
        wrapper.write_text(
            f'#!/bin/sh\nexec setpriv --bounding-set=-dac_override,-dac_read_search {sys.executable} "$@"\n'
        )
        wrapper.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(wrapper))


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Take the right to write away from a store and its folder for a while."""
    places = [path.parent, *path.parent.iterdir()]
    before = {place: place.stat().st_mode for place in places}
    for place in places:
        place.chmod(before[place] & ~0o222)
    try:
        yield
    finally:
        for place in filter(Path.exists, places):
            place.chmod(before[place])


@pytest.mark.usefixtures("without_power")
def test_a_store_that_became_read_only_is_served_on_and_refused_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "store" / "bandit.db"
    path.parent.mkdir()
    with command("--db", path) as server:
        server.create()
        drawn = crowd(server, 20)
        with read_only(path):  # what is open stays open, as the system has it
            drawn["new"] = server.choose("x", "new")["variant"]
            assert server.reward("x", "new", "r").json()["accepted"] == ["resolved"]
            assert readiness(server) == 200
            assert server.get("/experiments/x")["users"] == 21
            assert server.stop() == 0
            before = path.read_bytes()

            asked = [sys.executable, "-m", "server", "--port", "0", "--db", str(path)]
            refused = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=30)
            assert f"cannot use '{path}' as a store: attempt to write a readonly database" in refused.stderr
            assert (refused.stdout, refused.returncode) == ("", 2)
            assert path.read_bytes() == before
    with command("--db", path) as server:
        assert {user: server.choose("x", user)["variant"] for user in drawn} == drawn
        assert server.stop() == 0
    check_store(path, drawn)


# A lock


HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let another process hold the write lock."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "locked\n"
        yield
    finally:
        holder.stdin.close()
        holder.stdout.close()
        assert holder.wait(20) == 0


def took(call: Callable[[], object]) -> float:
    start = time.monotonic()
    call()
    return time.monotonic() - start


def test_a_lock_of_seconds_is_sat_out_and_nothing_that_was_refused_happens_later(path: Path) -> None:
    with command("--db", path) as server:
        server.create()
        drawn = crowd(server, 10)
        with ThreadPoolExecutor(1) as pool, locked(path):
            reward = pool.submit(server.reward, "x", "u0", "refused")
            choosing = [took(partial(one, server, f"stranger-{i}")) for i in range(5)]
            while not reward.done():
                assert {user: one(server, user)["variant"] for user in drawn} == drawn
            assert is_problem(reward.result(), 503)["detail"] == "the store did not answer in time"
            assert reward.result().headers["retry-after"] == "1"
            assert 4.5 < reward.result().elapsed.total_seconds() < 9.0
            assert 0.2 < min(choosing) <= max(choosing) < 2.0
            assert readiness(server) == 200  # it can be read, and a lock passes

        assert assigned(path) == drawn
        late = server.choose("x", "stranger-0")
        assert server.reward("x", "u0", "refused").json()["accepted"] == ["resolved"]
        assert server.stop() == 0
    assert lines(server.output) == []
    check_store(path, {**drawn, "stranger-0": late["variant"]})


# Damage


def overwrite(path: Path, page: int) -> None:
    """Put random bytes in place of a page of a file."""
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(random.Random(page).randbytes(PAGE))  # noqa: S311 - a fixed sequence


def test_whichever_page_is_damaged_nobody_gets_a_wrong_answer(path: Path) -> None:
    with in_process(path) as service:
        service.create(policy={"min_batch": 50})
        drawn = crowd(service, 150)
    whole = path.read_bytes()

    seen: Counter[str] = Counter()
    for page in range(1, len(whole) // PAGE + 1):
        path.write_bytes(whole)
        overwrite(path, page)
        try:
            Store(path).close()
        except StoreProblem as error:
            assert str(path) in str(error)  # noqa: PT017 - which pages these are is the store's matter
            seen["refused"] += 1
            continue
        with in_process(path) as service:
            seen[look_at_damaged(service, drawn)] += 1
    assert min(seen[what] for what in ("refused", "unreadable", "damaged", "served")) > 2
    assert sum(seen.values()) == len(whole) // PAGE


def look_at_damaged(service: Service, drawn: Mapping[str, str]) -> str:
    """Ask for everybody, check that each answer is right or none, and return how the damage showed."""
    before = readable(service.path)
    reward = service.reward("x", next(iter(drawn)), "again")
    if reward.status_code == 503:
        now = readable(service.path)
        assert {table: now[table] for table in before} == before  # nothing of it is there
    calls = [{"experiment": "x", "user_id": user} for user in (*drawn, "new")]
    *known, new = service.http.post("/choose/batch", json={"items": calls}).json()["items"]
    for user, item in zip(drawn, known, strict=True):
        if item["status"] == 200 and item["reason"] != "fallback":
            assert (item["variant"], item["reason"]) == (drawn[user], "sticky")
    statuses = {item["status"] for item in (*known, new)} | {reward.status_code}
    ready = service.http.get("/readyz")
    if ready.status_code == 503:
        assert statuses <= {200, 503}
        assert "fallback" in {item.get("reason") for item in (*known, new)} or reward.status_code == 503
        return "damaged"
    if "unreadable" in ready.json():
        assert statuses == {503}
        return "unreadable"
    assert statuses == {200}  # nothing of that page was needed
    return "served"


def readable(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Rows of those tables of rewards that can be read."""
    found = {}
    for table in ("rewards", "outcomes", "sums"):
        with suppress(sqlite3.DatabaseError):
            found[table] = rows(path, f"SELECT * FROM {table}")  # noqa: S608 - our own names
    return found


def test_a_file_that_is_damaged_while_served_takes_nothing_until_a_copy_is_in_its_place(path: Path) -> None:
    copy = path.with_name("copy.db")
    with command("--db", path) as server:
        server.create()
        drawn = crowd(server, 8)
        backup(path, copy)
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for page in range(2, path.stat().st_size // PAGE + 1):
            overwrite(path, page)

        assert one(server, "finder")["reason"] == "fallback"
        check_trouble(server, drawn)
        time.sleep(1.5)  # it does not mend, so it is not tried again and again
        assert readiness(server) == 503
        server.stop(signal.SIGKILL)
    trouble, damage = lines(server.output)
    assert trouble == "the store does not work: database disk image is malformed"
    assert damage.startswith("the store is damaged and takes nothing any more")
    for file in path.parent.glob("bandit.db*"):
        file.unlink()
    shutil.copy(copy, path)
    with command("--db", path) as server:
        assert {user: server.choose("x", user)["variant"] for user in drawn} == drawn
        assert server.stop() == 0
    check_store(path, drawn)


# Another file


def test_a_file_that_was_moved_away_is_not_written_to_and_is_served_again_once_it_is_back(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with in_process(path) as service:
        service.create()
        drawn = crowd(service, 5)
        away = path.with_name("away.db")
        path.rename(away)

        check_trouble(service, drawn)
        assert readiness(service) == 503
        assert not path.exists()
        away.rename(path)

        assert service.reward("x", "u0", "refused-0").json()["accepted"] == ["resolved"]
        wait_until(lambda: readiness(service) == 200)
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert f"'{path}' or its write-ahead log was moved, replaced or deleted" in errors[0]
    check_store(path, drawn)


def replace_by_a_copy(path: Path) -> None:
    backup(path, path.with_name("copy.db"))
    path.with_name("copy.db").replace(path)


def delete_the_log(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()


def replace_the_log(path: Path) -> None:
    log = path.with_name(path.name + "-wal")
    shutil.copy(log, path.with_name("copy"))
    path.with_name("copy").replace(log)


@pytest.mark.parametrize("harm", [replace_by_a_copy, delete_the_log, replace_the_log])
def test_what_would_be_lost_with_another_file_or_log_is_not_acknowledged(
    path: Path, harm: Callable[[Path], None]
) -> None:
    with in_process(path) as service:
        service.create()
        drawn = crowd(service, 5)
        harm(path)

        check_trouble(service, drawn)
        assert readiness(service) == 503

    with in_process(path) as service:
        assert {user: one(service, user)["variant"] for user in drawn} == drawn
        assert one(service, "stranger-0")["reason"] == "new"
        drawn = assigned(path)
    check_store(path, drawn)


# Slow disks


def test_a_slow_disk_delays_nobody_and_who_got_control_meanwhile_is_not_learned_from(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with in_process(path, choose_seconds=0.25) as service:
        service.create(salt="slow")
        drawn = {f"u{i}": service.choose("x", f"u{i}")["variant"] for i in range(5)}
        commit = service.writer.store.commit

        def slow() -> None:
            time.sleep(1.0)
            commit()

        with monkeypatch.context() as patch, ThreadPoolExecutor(16) as pool:
            patch.setattr(service.writer.store, "commit", slow)
            for user in ("v0", "v1", "v2", "v3"):
                crowded = pool.map(partial(one, service), [user, *(f"{user}-{i}" for i in range(15))])
                while len(rows(path, "SELECT 1 FROM assignments WHERE user_id >= ?", user)) == 0:
                    assert max(took(partial(one, service, known)) for known in drawn) < 0.5
                assert {answer["reason"] for answer in crowded} == {"fallback"}
            told = service.reward("x", "u0", "patient")
        assert told.json()["accepted"] == ["resolved"]

        # Whose transaction had begun is stored all the same, and the reward of what was really served is told apart.
        stored = assigned(path)
        assert drawn.items() < stored.items()
        assert {one(service, user)["reason"] for user in stored} == {"sticky"}
        assert {user: one(service, user)["variant"] for user in stored} == stored
        met = stored.keys() - drawn.keys()
        assert {stored[user] for user in met} == {"A", "B"}
        for user in met:
            answer = service.reward("x", user, user, variant="A").json()
            assert answer["ignored"] == ({} if stored[user] == "A" else {"resolved": "other_variant"})
    check_store(path, stored)


# Clocks


def test_a_clock_that_is_set_forth_and_back_moves_nobody_and_reopens_nothing(path: Path) -> None:
    clock, day = Clock(), 86_400.0
    policy = {"min_batch": 5, "warmup": 5, "max_epoch": "1h"}
    with in_process(path, clock) as service:
        service.create(rewards={"window": "2h"}, policy=policy)
        drawn = crowd(service, 20)
        clock.now -= day
        drawn |= {f"back-{i}": one(service, f"back-{i}")["variant"] for i in range(20)}
        assert service.reward("x", "u0", "in time").json()["accepted"] == ["resolved"]
        clock.now += 11 * day
        assert service.reward("x", "u0", "too late").json()["late"] == ["resolved"]
        wait_until(lambda: service.get("/experiments/x")["closed_epochs"] >= 7)
        closed = service.get("/experiments/x")["closed_epochs"]
    clock.now -= 10 * day  # back to the truth, and started again there
    with in_process(path, clock) as service:
        assert {user: one(service, user)["variant"] for user in drawn} == drawn
        assert service.reward("x", "u0", "still late").json()["late"] == ["resolved"]
        assert service.reward("x", "u0", "in time").json()["duplicate"] == ["resolved"]
        drawn |= {f"then-{i}": one(service, f"then-{i}")["variant"] for i in range(20)}
        assert service.reward("x", "then-0", "in its own time").json()["accepted"] == ["resolved"]
        assert service.get("/experiments/x")["closed_epochs"] == closed
    at = dict(rows(path, "SELECT user_id, at FROM assignments"))
    assert [at[user] for user in drawn] == sorted(at.values())
    check_store(path, drawn)
