"""What was acknowledged stays, whatever happens to the process, and however many processes there are."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.server.harness import REQUESTS, declared, options
from tests.server.harness_checks import check
from tests.server.harness_clients import Client
from tests.server.harness_crowd import Crowd
from tests.server.harness_ledger import check_ledger
from tests.server.running import Command, command, declaration, rows
from tests.server.unpacked import unpack


@contextmanager
def snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """A store that is being served, as of one moment."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("BEGIN")
        unpack(db)
        yield db


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(declaration()))
    return path


def test_two_processes_on_one_file_agree_about_every_user(tmp_path: Path) -> None:
    arguments = options(tmp_path, declared())
    with command(*arguments) as one, command(*arguments) as two:
        urls = [one.url, two.url] * 3
        # Nobody suspends anything: a process sees what the other one changed within a second only.
        crowd = Crowd([Client(f"c{number}", url, 1, operates=False) for number, url in enumerate(urls)])
        with crowd:
            crowd.gate.open()
            time.sleep(2.5)
            crowd.gate.still()
        crowd.check()
        assert crowd.counts()["choose: new"] > 50
        with snapshot(tmp_path / "bandit.db") as db:
            check(db, crowd.clients)

        # The same request at both at once counts once.
        one.choose(REQUESTS, "twice")
        with ThreadPoolExecutor(2) as both:
            for i in range(20):
                calls = [
                    both.submit(s.reward, REQUESTS, "twice", f"twice-{i}", metrics={"cost_usd": 0.1})
                    for s in (one, two)
                ]
                answers = sorted(len(call.result().json().get("accepted", "-")) for call in calls)
                # With this window a user's first value is final; later ones are accepted for the guardrail alone.
                assert answers == [0, 1]
        with snapshot(tmp_path / "bandit.db") as db:
            assert db.execute("SELECT number FROM visits WHERE user_id = 'twice'").fetchall() == [(20,)]
            check_ledger(db, REQUESTS)


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
