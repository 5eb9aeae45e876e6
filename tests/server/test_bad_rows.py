"""When the rows of one experiment are bad, or a rollback fails: everything else goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from tests.server.running import Service, declaration, in_process, is_problem, wait_until
from tests.server.test_trouble import broken

RUIN = [
    "UPDATE experiments SET definition = '{' WHERE key = 'bad'",
    """UPDATE experiments SET definition = '{"key": "bad"}' WHERE key = 'bad'""",
    "UPDATE experiments SET origins = 'null' WHERE key = 'bad'",
    "UPDATE epochs SET probabilities = '[1]' WHERE experiment = 1",
]


@contextmanager
def ruined(path: Path, statement: str) -> Iterator[None]:
    """Let the rows of the experiment "bad" be so for a while."""
    tables = ("experiments", "epochs")
    with closing(sqlite3.connect(path)) as db:
        for table in tables:
            db.execute(f"CREATE TEMP TABLE old_{table} AS SELECT * FROM {table}")  # noqa: S608 - our own names
        with db:
            db.execute(statement)
        yield
        with db:
            for table in tables:
                db.execute(f"REPLACE INTO {table} SELECT * FROM old_{table}")  # noqa: S608 - our own names


@pytest.mark.parametrize("statement", RUIN)
def test_bad_rows_of_one_experiment_keep_no_other_from_being_served(
    path: Path, statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    with in_process(path) as service:
        service.create("bad")
        service.create("good")

    with ruined(path, statement), in_process(path) as service:
        assert service.choose("good", "u")["reason"] == "new"
        assert service.reward("good", "u", "r").json()["accepted"] == ["resolved"]
        assert service.get("/readyz") == {"status": "ready", "unreadable": ["bad"]}
        assert [e["key"] for e in service.get("/experiments")["experiments"]] == ["bad", "good"]
        assert "good" in service.http.get("/").text
        for response in (
            service.http.post("/choose", json={"experiment": "bad", "user_id": "u"}),
            service.reward("bad", "u", "r"),
            service.move("bad", "pause"),
            service.http.get("/experiments/bad"),
            service.http.get("/experiments/bad/report"),
            service.http.get("/experiments/bad/users/u"),
        ):
            assert "'bad' cannot be loaded" in is_problem(response, 503)["detail"]
        is_problem(service.http.post("/experiments", json=declaration("bad")), 409)
    assert any("'bad'" in record.getMessage() for record in caplog.records if record.levelname == "ERROR")


def test_rows_that_were_mended_are_served_without_a_restart(path: Path) -> None:
    with in_process(path) as service:
        service.create("bad")
    with ExitStack() as running:
        with ruined(path, RUIN[0]):
            service = running.enter_context(in_process(path))
            assert service.writer.unreadable == ["bad"]

        wait_until(lambda: service.writer.unreadable == [])
        assert service.choose("bad", "u")["reason"] == "new"


def test_a_rollback_that_fails_once_does_not_wedge_the_writer(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.create()
    with monkeypatch.context() as patch:
        patch.setattr(service.writer.store, "write", broken)
        patch.setattr(service.writer.store, "rollback", broken)
        assert service.choose("x", "u")["reason"] == "fallback"

    assert service.choose("x", "u")["reason"] == "new"
    wait_until(lambda: service.http.get("/readyz").status_code == 200)


def test_a_server_whose_store_is_in_trouble_is_not_ready_until_it_works_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.create()
    with monkeypatch.context() as patch:
        patch.setattr(service.writer.store, "begin", broken)
        assert service.choose("x", "u")["reason"] == "fallback"
        is_problem(service.http.get("/readyz"), 503)
        assert service.http.head("/readyz").status_code == 503
        assert service.get("/healthz") == {"status": "ok"}

    wait_until(lambda: service.http.get("/readyz").status_code == 200)  # though nobody asked anything else


@pytest.mark.parametrize("path_", ["/healthz", "/readyz"])
def test_health_answers_head_like_get_without_a_body(service: Service, path_: str) -> None:
    got, head = service.http.get(path_), service.http.head(path_)

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
