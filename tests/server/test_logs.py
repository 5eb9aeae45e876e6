"""What the log says, and that nothing of a user's is in it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bandit import Assignment, Bandit, InvalidExperiment, Problem
from server import reading
from server.logs import JsonLines, TextLines
from server.views import View
from tests.server.running import JSON, Client, Service, command, in_process, wait_until

MARK = "mk7f3"
VALUE = 31337.125
"""In every id, text and value that a user could be known by."""

SLOW: dict[str, Any] = {
    "salt": "slow",
    "guardrails": [{"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max": 1500}],
    "policy": {"min_batch": 10, "warmup": 10},
}
LIMIT = "latency_ms breaks its limit (at most 5 % of calls above 1500)"


def breach(service: Client, key: str = "x") -> None:
    """Let users come to B and be served slowly until the system takes it away from them."""
    users = [{"experiment": key, "user_id": f"{MARK}-{key}-{i}"} for i in range(200)]
    for _ in range(20):  # until the store was quick enough
        chosen = service.http.post("/choose/batch", json={"items": users}).json()["items"]
        if all(item["reason"] != "fallback" for item in chosen):
            break
    told = [
        {
            "experiment": key, "user_id": item["user_id"], "request_id": f"{MARK}-{i}",
            "metrics": {"latency_ms": VALUE if item["variant"] == "B" else 9.0},
        }
        for i, item in enumerate(chosen)
    ]  # fmt: skip
    assert service.http.post("/reward/batch", json={"items": told}).status_code == 200
    suspended = [event for event in service.events(key) if event["kind"] == "suspended"]
    assert [(event["actor"], event["variant"], event["reason"]) for event in suspended] == [("system", "B", LIMIT)]


def drive(service: Client) -> None:
    """Ask everything that names a user, rightly and wrongly."""
    service.create("x", **SLOW)
    breach(service)
    user, call = f"{MARK}-u", {"experiment": "x", "user_id": f"{MARK}-u"}
    service.choose("x", user)
    for route in ("/choose", "/reward"):
        for body in (
            {**call, "request_id": MARK, "metrics": {"resolved": 1}, "attributes": {MARK: MARK}},
            {**call, "request_id": MARK, "metrics": {"resolved": 0}},
            {**call, "request_id": MARK, "metrics": {MARK: VALUE, "resolved": MARK}},
            {**call, "request_id": f"{MARK}\n", "variant": MARK},
            {"experiment": MARK, "user_id": user, MARK: MARK, "request_id": MARK},
            {**call, "user_id": f"{MARK}-stranger", "request_id": MARK, "metrics": {"resolved": 1}},
        ):
            service.http.post(route, json=body)
            service.http.post(f"{route}/batch", json={"items": [body]})
        for broken in (f'{{"{MARK}'.encode(), f'{{"experiment": "{MARK}\xff'.encode("latin-1"), MARK.encode()):
            service.http.post(route, content=broken, headers=JSON)
    for path in (f"/experiments/x/users/{user}", f"/experiments/{MARK}", f"/{MARK}", f"/experiments?{MARK}=1"):
        service.http.get(path, headers={MARK: MARK, "User-Agent": MARK})
        service.http.get(path, headers={"Host": MARK})
        service.http.post(path, json={MARK: MARK}, headers={"Origin": f"http://{MARK}"})
    service.force("x", user, "B", reason=MARK)
    service.force("x", user, MARK)
    service.choose("x", user)
    service.http.delete(f"/experiments/x/forced/{user}")
    service.move("x", "pause", reason=MARK)
    service.move("x", "start", reason=MARK)
    service.switch("x", "B", "resume", reason=MARK)
    service.switch("x", "B", "suspend", reason=MARK)
    service.move("x", "stop", serve=MARK)
    address = service.http.base_url
    with socket.create_connection((address.host, address.port or 80), timeout=5) as raw:
        raw.sendall(f"{MARK} no request of HTTP\r\n\r\n".encode())
        raw.recv(4096)


@contextmanager
def listening() -> Iterator[io.StringIO]:
    """All lines of this process at every level, in both formats; but the test's own client is not the service."""
    lines = io.StringIO()
    loggers = [logging.getLogger(name) for name in ("", "bandit.server", "asyncio", "uvicorn", "uvicorn.error")]
    levels = [logger.level for logger in loggers]
    handlers = [logging.StreamHandler(lines), logging.StreamHandler(lines)]
    for handler, formatter in zip(handlers, (TextLines(), JsonLines()), strict=True):
        handler.setFormatter(formatter)
        handler.addFilter(lambda record: not record.name.startswith(("httpx", "httpcore")))
        for logger in loggers[:1] + loggers[3:4]:
            logger.addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
            for handler in handlers:
                logger.removeHandler(handler)


def documents(text: str) -> list[dict[str, Any]]:
    """The JSON lines of an output."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def unmarked(text: str) -> bool:
    return MARK not in text and str(int(VALUE)) not in text


@pytest.fixture
def logged(path: Path) -> Iterator[Service]:
    """A service with the writer of `bandit-server`."""
    with in_process(path) as service:
        yield service


def test_the_command_writes_json_lines_without_anything_of_a_users(tmp_path: Path) -> None:
    with command("--db", tmp_path / "b.db", "--log-format", "json") as server:
        drive(server)
        assert server.stop() == 0

    lines = documents(server.output)
    assert [line["message"] for line in lines] == [
        f"the server has started, with 0 experiments in {tmp_path / 'b.db'}, synchronous full",
        f"experiment 'x': variant 'B' was suspended: {LIMIT}",
        "Invalid HTTP request received.",
        "the server has stopped",
    ]
    assert [line["level"] for line in lines] == ["INFO", "WARNING", "WARNING", "INFO"]
    assert {key: lines[1][key] for key in ("logger", "experiment", "variant", "limit")} == {
        "logger": "bandit.server", "experiment": "x", "variant": "B", "limit": LIMIT,
    }  # fmt: skip
    assert {line["process"] for line in lines} == {server.process.pid}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in lines)
    assert unmarked(server.output)


def test_the_command_writes_text_from_warnings_on_unless_told_otherwise(tmp_path: Path) -> None:
    with command("--db", tmp_path / "b.db") as server:
        drive(server)
        assert server.stop() == 0

    lines = [line for line in server.output.splitlines() if re.match(r"\d{4}-", line)]
    assert [line.partition(" ")[2] for line in lines] == [
        f"WARNING bandit.server: experiment 'x': variant 'B' was suspended: {LIMIT}",
        "WARNING uvicorn.error: Invalid HTTP request received.",
    ]
    assert unmarked(server.output)


def test_no_line_of_any_level_has_anything_of_a_users_even_if_everything_fails(
    logged: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> Assignment:
        raise KeyError(f"no such user: {arguments}, {MARK}")

    def away() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with listening() as lines:
        drive(logged)
        with monkeypatch.context() as patch:
            patch.setattr(Bandit, "choose", broken)
            assert logged.http.post("/choose", json={"experiment": "x", "user_id": MARK}).status_code == 500
        with monkeypatch.context() as patch:
            patch.setattr(View, "known", broken)
            patch.setattr(reading, "story", broken)
            call = {"experiment": "x", "user_id": MARK}
            assert logged.http.post("/choose", json=call).status_code == 500
            assert logged.http.post("/choose/batch", json={"items": [call]}).json()["items"][0]["status"] == 500
            assert logged.http.get(f"/experiments/x/users/{MARK}").status_code == 500
        with monkeypatch.context() as patch:
            patch.setattr(logged.writer.store, "begin", away)
            assert logged.choose("x", f"{MARK}-late")["reason"] in ("fallback", "stopped")

    said = lines.getvalue()
    for what in (
        "an operation failed unforeseen", "a request failed unforeseen", "a request of a batch failed unforeseen",
        "was suspended", "KeyError", "the store does not work: disk I/O error",
    ):  # fmt: skip
        assert what in said
    assert unmarked(said)


def test_each_suspension_by_the_system_is_said_once_and_never_again(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with in_process(path) as service:
        for key in ("x", "y"):
            service.create(key, **SLOW)
            breach(service, key)
        service.switch("x", "B", "resume")
        service.switch("x", "B", "suspend", reason="by hand")
        service.choose("x", "u")
    with in_process(path) as service:
        service.choose("x", "v")
        service.choose("y", "v")

    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        f"experiment '{key}': variant 'B' was suspended: {LIMIT}" for key in ("x", "y")
    ]


def test_control_is_not_taken_away_when_it_breaks_a_limit_but_that_is_said_once(
    logged: Service, caplog: pytest.LogCaptureFixture
) -> None:
    logged.create("x", **SLOW)
    users = [{"experiment": "x", "user_id": f"u{i}"} for i in range(400)]
    for start in (0, 200):  # what the first half did is seen when the second half comes
        chosen = logged.http.post("/choose/batch", json={"items": users[start : start + 200]}).json()["items"]
        told = [
            {
                "experiment": "x", "user_id": item["user_id"], "request_id": item["user_id"],
                "metrics": {"latency_ms": 9000.0 if item["variant"] == "A" else 9.0},
            }
            for item in chosen
        ]  # fmt: skip
        assert logged.http.post("/reward/batch", json={"items": told}).status_code == 200

    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    words = "experiment 'x': control ('A') breaks a limit, and nothing takes its place: "
    assert [record.getMessage().startswith(words) for record in warnings] == [True]
    assert [event["variant"] for event in logged.events("x") if event["kind"] == "suspended"] == []


def test_trouble_with_the_store_is_said_when_it_begins_and_when_it_ends(
    logged: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    logged.create()
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(logged.writer.store, "begin", away)
            for user in ("u", "v", "w"):
                assert logged.choose("x", user)["reason"] == "fallback"
        wait_until(lambda: not logged.writer.in_trouble)  # it finds out itself

    lines = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "bandit.server"]
    once = [("ERROR", "the store does not work: disk I/O error"), ("WARNING", "the store works again")]
    assert lines == once * 2


def record_of(error: Exception) -> logging.LogRecord:
    """A record of an error that was raised and caught."""
    with pytest.raises(type(error)) as caught:
        raise error
    told = (type(error), caught.value, caught.tb)
    return logging.LogRecord("bandit.server", logging.ERROR, __file__, 1, "it %s", ("failed",), told)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError(MARK), "KeyError"),
        (UnicodeEncodeError("utf-8", MARK, 0, 1, MARK), "UnicodeEncodeError"),
        (sqlite3.OperationalError("disk I/O error"), "OperationalError: disk I/O error"),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (InvalidExperiment([Problem("goal", "missing")]), "InvalidExperiment: goal: missing"),
    ],
)
def test_an_error_is_shown_with_its_place_and_with_words_only_of_the_machine(error: Exception, words: str) -> None:
    record = record_of(error)

    text, line = TextLines().format(record), JsonLines().format(record)

    first, *places, last = text.splitlines()
    assert first.endswith("ERROR bandit.server: it failed")
    assert "test_logs.py" in places[0]
    assert last == words
    document = json.loads(line)
    assert document["message"] == "it failed"
    assert document["exception"].splitlines() == [*places, last]
    assert "\n" not in line
    assert unmarked(text + line)
    assert record.exc_text is None  # so that it does not depend on who formats first


def test_the_causes_of_an_error_are_shown_without_their_words() -> None:
    first = KeyError(MARK)
    second = RuntimeError(MARK)
    second.__cause__ = first

    text = TextLines().format(record_of(second))

    assert [line for line in text.splitlines() if not line.startswith(" ")][1:] == [
        "KeyError",
        "which led to",
        "RuntimeError",
    ]
    assert unmarked(text)


def test_what_the_event_loop_says_is_cut_before_what_a_callback_was_given(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda user: 1 / len(user[:0]), MARK)
        await asyncio.sleep(0.01)

    asyncio.run(fail())

    (record,) = [record for record in caplog.records if record.name == "asyncio" and record.levelno == logging.ERROR]
    assert MARK in record.getMessage()
    assert "Exception in callback" in TextLines().format(record)
    assert unmarked(TextLines().format(record) + JsonLines().format(record))
