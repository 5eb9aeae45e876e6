"""A copy of a store that is being written to is a store, and has everything that was acknowledged before."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest

import server.backup
from server.backup import BackupFailed, backup
from server.verify import verify
from tests.server.running import Client, in_process, rows, wait_until
from tests.server.test_command import run


def test_a_copy_under_load_has_every_reward_that_was_acknowledged_before(path: Path, tmp_path: Path) -> None:
    acknowledged: list[str] = []
    over = threading.Event()

    def work(url: str, name: str) -> None:
        client, i = Client(url), 0
        while not over.is_set():
            i += 1
            client.choose("x", f"{name}{i % 40}")
            answer = client.reward("x", f"{name}{i % 40}", f"{name}-{i}", metrics={"resolved": i % 2, "cost_usd": 0.1})
            assert answer.status_code == 200
            acknowledged.append(f"{name}-{i}")
        client.http.close()

    with in_process(path) as service:
        service.create("x", rewards={"window": "request"}, policy={"min_batch": 10, "warmup": 5})
        threads = [threading.Thread(target=work, args=(str(service.http.base_url), f"w{n}-")) for n in range(4)]
        for thread in threads:
            thread.start()
        try:
            for turn in range(3):
                least = len(acknowledged) + 60
                wait_until(lambda least=least: len(acknowledged) >= least, 60)  # type: ignore[misc]
                before = set(acknowledged)

                copied = backup(path, tmp_path / f"copy{turn}.db")

                copy = tmp_path / f"copy{turn}.db"
                stored = {request for (request,) in rows(copy, "SELECT DISTINCT request_id FROM rewards")}
                assert before <= stored
                assert copied.rewards == rows(copy, "SELECT count(*) FROM main.rewards")[0][0]
                assert (copied.experiments, copied.size) == (1, copy.stat().st_size)
                assert verify(copy).differences == 0
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert len(acknowledged) > len(before)  # the server went on
        assert verify(path).differences == 0

    assert {file.name for file in tmp_path.iterdir() if "copy" in file.name} == {f"copy{turn}.db" for turn in range(3)}
    with in_process(tmp_path / "copy0.db") as service:
        assert service.choose("x", "w0-1")["reason"] == "sticky"
        assert service.reward("x", "w0-1", "after").status_code == 200


def tear(path: Path, what: str) -> None:
    """Fill the first page of a table or index with zeros."""
    sql = "SELECT rootpage, page_size FROM sqlite_master, pragma_page_size WHERE name = ?"
    ((root, size),) = rows(path, sql, what)
    whole = bytearray(path.read_bytes())
    whole[(root - 1) * size : root * size] = bytes(size)
    path.write_bytes(whole)


@pytest.fixture
def store(path: Path) -> Path:
    with in_process(path) as service:
        service.create("x")
        for i in range(5):
            service.choose("x", f"u{i}")
            service.reward("x", f"u{i}", f"r{i}")
    return path


def test_the_command_says_what_it_copied(store: Path, tmp_path: Path) -> None:
    code, output = run("backup", tmp_path / "copy.db", "--db", store)

    assert code == 0, output
    size = (tmp_path / "copy.db").stat().st_size / 1e6
    counts = f"experiments 1, users 5, rewards 5, {size:.1f} MB, integrity ok"
    assert output == f"copied {store} to {tmp_path / 'copy.db'}: {counts}\n"
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == stat.S_IMODE(store.stat().st_mode)


def test_a_name_that_is_taken_is_refused_and_kept(store: Path, tmp_path: Path) -> None:
    taken = tmp_path / "copy.db"
    taken.write_text("mine")

    with pytest.raises(BackupFailed, match="exists; give the copy a name that is free"):
        backup(store, taken)

    assert taken.read_text() == "mine"


def test_a_name_that_is_taken_meanwhile_is_kept(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, checked = tmp_path / "copy.db", server.backup._checked  # noqa: SLF001 - the moment before the copy gets its name

    def slow(part: Path) -> object:
        target.write_text("somebody else's")
        return checked(part)

    monkeypatch.setattr(server.backup, "_checked", slow)

    with pytest.raises(BackupFailed, match="came to exist meanwhile"):
        backup(store, target)
    assert target.read_text() == "somebody else's"


def test_what_fails_leaves_nothing_behind(store: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.db"
    shutil.copy(store, torn)
    tear(torn, "rewards")
    (tmp_path / "folder").mkdir()

    with pytest.raises(BackupFailed, match="cannot copy"):
        backup(torn, tmp_path / "folder" / "copy.db")
    with pytest.raises(BackupFailed, match="No such file"):
        backup(store, tmp_path / "nowhere" / "copy.db")

    assert list((tmp_path / "folder").iterdir()) == []


def test_a_copy_that_is_damaged_is_not_kept(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = server.backup._checked  # noqa: SLF001 - the moment after the copy was written

    def spoilt(part: Path) -> object:
        with closing(sqlite3.connect(part)) as db, db:  # an index of other columns than those that it was made of
            db.execute("PRAGMA writable_schema = ON")
            db.execute("UPDATE sqlite_master SET sql = replace(sql, 'part)', 'at)') WHERE name = 'rewards_by_request'")
        return checked(part)

    monkeypatch.setattr(server.backup, "_checked", spoilt)

    with pytest.raises(BackupFailed, match="the copy is damaged, so it was not kept"):
        backup(store, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_store_of_an_older_version_can_be_copied(tmp_path: Path) -> None:
    old = tmp_path / "old.db"
    with closing(sqlite3.connect(old)) as db:
        db.executescript((Path(__file__).parent / "first_tables.sql").read_text(encoding="utf-8"))

    backup(old, tmp_path / "copy.db")

    assert rows(tmp_path / "copy.db", "SELECT * FROM main.rewards") == rows(old, "SELECT * FROM main.rewards")
