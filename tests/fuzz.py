"""Fuzz every call of a live server by its own OpenAPI document: no 5xx, and no answer that the document does not have.

python -m tests.fuzz

The same requests come at every run, and so does what they find: examples are derandomised, clock and salts are fixed.
Options go to schemathesis, which does it: `--max-examples 1000`. What is asked and checked is in `fuzz.toml`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from server.examples import DEMO
from server.verify import verify
from server.verify_text import conclusion, tables
from tests.server.running import Service, in_process

CONFIG = Path(__file__).with_suffix(".toml")

USERS = tuple(f"user-{i}" for i in range(1, 6))


def seed(service: Service) -> None:
    """Let there be experiments in every state, with and without constraints, users and rewards."""
    for key in (DEMO, "running", "again", "paused", "stopped", "stopping"):
        service.create(key, salt=key, policy={"min_batch": 2, "warmup": 2})
        for user in USERS:
            service.choose(key, user)
            service.reward(key, user, f"request of {user}", metrics={"resolved": user > "user-2", "latency_ms": 800})
    service.create("draft", start=False, salt="draft")
    service.force("running", "user-5", "B")
    service.switch("again", "B", "suspend")
    for key, action, how in (("paused", "pause", {}), ("stopped", "stop", {"now": True}), ("stopping", "stop", {})):
        assert service.move(key, action, **how).status_code == 200


def fuzz(path: Path, options: Sequence[str]) -> int:
    """Fuzz a server on a new store and return the exit code of schemathesis.

    Args:
        path: The store.
        options: Of schemathesis.
    """
    with in_process(path, choose_seconds=30.0) as service:
        seed(service)
        document = f"{service.http.base_url}/openapi.json"
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", document, *options]
        return subprocess.run(command, check=False).returncode


def main() -> None:
    """Fuzz, and verify the store that is left; exit code 1 if anything is not as it should be."""
    with TemporaryDirectory(prefix="bandit-fuzz-") as folder:
        path = Path(folder) / "bandit.db"
        code = fuzz(path, sys.argv[1:])
        found = verify(path)
        Console().print(*tables(found), conclusion(path, found), sep="\n")
    sys.exit(1 if code or found.differences else 0)


if __name__ == "__main__":
    main()
