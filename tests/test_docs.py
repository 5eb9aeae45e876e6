"""The README runs, and shows what is printed."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.readme import BLOCK, README, played
from tests.server.running import command

SIMULATED = re.compile(r"[-+]?\d[\d,.]*")


def masked(text: str) -> list[str]:
    """Return lines with the figures of simulations masked: other processors and versions of NumPy draw other numbers.

    A share of all runs, or of none, has no standard error, and may have one elsewhere.
    """
    lines = []
    for language, body in BLOCK.findall(text):
        for line in body.splitlines():
            simulated = language == "console" and ("±" in line or re.search(r"  1?0?0 %", line))
            shown = re.sub(r"\s+", " ", SIMULATED.sub("#", line).replace("# ± #", "#"))
            lines.append(shown if simulated else line.rstrip())
    return lines


def test_the_readme_shows_what_is_printed() -> None:
    """If it does not any more: `python -m tests.readme` writes the new output into it."""
    assert masked(README.read_text()) == masked(played())


class Model(BaseHTTPRequestHandler):
    """A model server in the wire format of OpenAI's chat completions."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/chat/completions"
        content = f"{asked['model']}: {asked['messages'][1]['content']} answered"
        answer = json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 (the base class's names)
        del format, args


@pytest.fixture
def model() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_readmes_application_works(model: str, tmp_path: Path) -> None:
    blocks = BLOCK.findall(README.read_text())
    (tmp_path / "greeting.toml").write_text(next(body for language, body in blocks if language == "toml"))
    source = next(body for language, body in blocks if language == "python")
    with command("--db", tmp_path / "bandit.db", "--experiment", tmp_path / "greeting.toml") as service:
        application = source.replace("http://127.0.0.1:8000", service.url).replace("http://127.0.0.1:11434/v1", model)
        names: dict[str, Any] = {}
        exec(compile(application, "README.md", "exec"), names)  # noqa: S102 (our own README)

        reply = names["answer"]("ann", "request-1", "a question")

        assert reply == "llama-4-scout: a question answered"
        stored = service.get("/experiments/greeting/users/ann")["rewards"]
        assert [(row["metric"], row["value"], row["reason"]) for row in stored] == [("resolved", 1.0, None)]
    assert len([line for line in source.splitlines() if line.strip()]) <= 21
