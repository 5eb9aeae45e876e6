"""The command `bandit-server` as people start it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bandit
from tests.server.running import command, declaration, in_process, wait_until


def run(*arguments: str | Path) -> tuple[int, str]:
    """Run the command to its end; return code and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "server", *map(str, arguments)],
        check=False, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "0.0.0.0"], "--insecure"),  # noqa: S104 - it is refused
        (["--host", "example.org"], "--insecure"),
        (["--db", "postgresql://u@h/d"], "later"),
        (["--db", "mysql://u@h/d"], "not supported"),
        (["--db", ":memory:"], "file"),
        (["--db", "/nowhere/at/all/b.db"], "cannot use"),
        (["--workers", "0"], "workers"),
        (["--synchronous", "off"], "'full'"),
        (["--demo", "--db", "b.db"], "leave out --db"),
        (["--experiment", "nowhere.toml"], "cannot read nowhere.toml"),
        (["--port", "70000"], "port"),
        (["--nonsense"], "nonsense"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(arguments: list[str], says: str) -> None:
    code, output = run("--port", "0", *arguments)

    assert code == 2, output
    assert says in output
    assert "Traceback" not in output


def test_a_wrong_experiment_file_is_refused_with_its_faults(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('key = "x"\nvariants = [{key = "A"}]\n[goal]\nmetric = "m"\nkind = "bin"\n')

    code, output = run("--port", "0", "--db", tmp_path / "b.db", "--experiment", file)

    assert code == 2
    assert "goal.kind" in output
    assert not (tmp_path / "b.db").exists()


def test_it_says_its_version() -> None:
    assert run("--version") == (0, f"bandit-server {bandit.__version__}\n")


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, output = run("--port", str(taken.getsockname()[1]), "--db", tmp_path / "b.db")

    assert code == 2
    assert "Address already in use; choose another --port" in output


def test_a_foreign_package_of_the_same_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bandit").mkdir()
    (tmp_path / "bandit" / "__init__.py").write_text("")
    root = Path(bandit.__file__).parents[1]
    (tmp_path / "server").symlink_to(root / "server")
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; import runpy; runpy.run_module('server', run_name='__main__')"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=30
    )

    assert done.returncode == 1
    assert "linter" in done.stderr


def test_an_experiment_that_changed_in_its_file_goes_on_as_stored(tmp_path: Path) -> None:
    file, db = tmp_path / "x.json", tmp_path / "b.db"
    outputs = []
    for floor in (0.1, 0.1, 0.2):
        file.write_text(json.dumps(declaration(policy={"floor": floor})))
        with command("--db", db, "--experiment", file) as server:
            assert server.get("/experiments/x")["definition"]["policy"]["floor"] == 0.1
            assert server.stop() == 0
            outputs.append(server.output)
    assert "created and started" in outputs[0]
    assert "goes on (running)" in outputs[1]
    assert "another definition" in outputs[2]


def test_a_draft_that_is_stored_is_started(tmp_path: Path) -> None:
    file, db = tmp_path / "x.json", tmp_path / "b.db"
    with in_process(db) as service:
        service.create("x", start=False)
        service.create("other", start=False)
    file.write_text(json.dumps(declaration()))
    other = tmp_path / "other.json"
    other.write_text(json.dumps(declaration("other", policy={"floor": 0.2})))

    with command("--db", db, "--experiment", file, "--experiment", other) as server:
        assert server.get("/experiments/x")["state"] == "running"
        assert server.get("/experiments/other")["state"] == "draft"
        assert server.stop() == 0

    assert "experiment 'x' was stored as a draft and is started now" in server.output
    assert "another definition" in server.output


def test_localhost_is_loopback_in_any_case(tmp_path: Path) -> None:
    with command("--db", tmp_path / "b.db", "--host", "LOCALHOST") as server:
        assert server.get("/healthz") == {"status": "ok"}
        assert server.stop() == 0


def test_it_serves_beyond_loopback_only_when_told(tmp_path: Path) -> None:
    with command("--db", tmp_path / "b.db", "--host", "0.0.0.0", "--insecure") as server:  # noqa: S104
        assert server.http.get("/healthz", headers={"Host": "bandit.example"}).status_code == 200
        assert server.http.get("/", headers={"Origin": "http://evil.example"}).status_code == 403
        assert server.stop() == 0


def test_the_demo_shows_life_within_seconds() -> None:
    start = time.monotonic()
    with command("--demo") as server:
        key = "demo-support-prompt"
        wait_until(lambda: server.http.get(f"/experiments/{key}/report").status_code == 200)
        wait_until(lambda: server.get(f"/experiments/{key}/report")["closed_epochs"] > 0)
        assert time.monotonic() - start < 8

        report = server.get(f"/experiments/{key}/report")
        assert all(variant["mean"] is not None for variant in report["variants"])
        assert all(mean is not None for mean in report["guardrails"][0]["mean"].values())
        folder = Path(server.banner.split(" with ")[1].strip()).parent
        assert folder.exists()
        assert server.stop() == 0
        assert "/docs" in server.output
        assert not folder.exists()


def test_a_commit_may_be_safe_later(tmp_path: Path) -> None:
    with command("--db", tmp_path / "b.db", "--synchronous", "normal", "--log-format", "json") as server:
        server.create("x")
        assert server.choose("x", "u")["reason"] == "new"
        server.stop(signal.SIGKILL)
    with command("--db", tmp_path / "b.db") as server:
        assert server.choose("x", "u")["reason"] == "sticky"  # only the system as a whole can lose it
