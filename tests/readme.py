"""Runs what the README shows. `python -m tests.readme` writes the real output into it."""

from __future__ import annotations

import code
import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
WIDTH = "110"


class Tour:
    """A reader in an empty directory who types what the README shows.

    Args:
        directory: Where the files go.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server: subprocess.Popen[str] | None = None
        self.url = ""

    def play(self, text: str) -> str:
        """Return the text with the output of its console and Python sessions as it is now."""
        for found in re.finditer(r"Save this as `([^`]+)`:\n\n```\w+\n(.*?)```", text, re.DOTALL):
            (self.directory / found[1]).write_text(found[2])

        def rerun(block: re.Match[str]) -> str:
            language, body = block[1], block[2]
            if language == "console":
                body = "".join(f"$ {line}\n{self.shell(line)}" for line in commands(body))
            elif language == "pycon":
                body = self.python(body)
            return f"```{language}\n{body}```"

        return BLOCK.sub(rerun, text)

    def shell(self, line: str) -> str:
        """Return what a command prints."""
        words = shlex.split(line)
        if words[0] == "bandit-server":
            return self.serve(words[1:])
        if words[0] == "curl":
            return self.curl(words[1:])
        module = {"bandit-sim": "simulations"}[words[0]]
        target = self.directory / words.pop() if ">" in words else None
        words = [word for word in words if word != ">"]
        result = subprocess.run(
            [sys.executable, "-m", module, *words[1:]],
            cwd=self.directory, env=os.environ | {"COLUMNS": WIDTH, "TERM": "dumb"}, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        if target is None:
            return "\n".join(part.rstrip() for part in result.stdout.splitlines()) + "\n"
        target.write_text(result.stdout)
        return ""

    def serve(self, options: list[str]) -> str:
        """Start the service on a free port and return its first lines as if it were port 8000."""
        self.server = subprocess.Popen(
            [sys.executable, "-m", "server", "--port", "0", *options],
            cwd=self.directory, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.server.stdout is not None
        lines = [self.server.stdout.readline()]
        self.url = re.findall(r"http://[^\s/]+", lines[0])[0]
        while not lines[-1].startswith("experiment "):
            lines.append(self.server.stdout.readline())
        return "".join(lines).replace(self.url, "http://127.0.0.1:8000")

    def curl(self, words: list[str]) -> str:
        """Do what curl would do, where there may be no curl."""
        url = next(word for word in words if word.startswith("localhost")).replace("localhost:8000", self.url)
        headers = dict([words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H"])
        body = next((words[i + 1] for i, word in enumerate(words) if word == "-d"), None)
        method = "GET" if body is None else "POST"
        return httpx.request(method, url, headers=headers, content=body, trust_env=False).text.rstrip() + "\n"

    def python(self, session: str) -> str:
        """Return a Python session with its output."""
        console, shown = code.InteractiveInterpreter(), ""
        with contextlib.chdir(self.directory):
            for source in statements(session):
                output = io.StringIO()
                with contextlib.redirect_stdout(output):
                    incomplete = console.runsource(source + "\n" if "\n" in source else source)
                assert not incomplete, source
                first, *rest = source.splitlines()
                shown += "".join(
                    [f">>> {first}\n", *(f"... {line}\n" for line in rest), output.getvalue().rstrip("\n")]
                )
                shown += "\n" if output.getvalue() else ""
        return shown

    def close(self) -> None:
        """Stop the service."""
        if self.server is not None:
            self.server.terminate()
            self.server.communicate(timeout=20)


def commands(session: str) -> Iterator[str]:
    """Return the lines that a reader types."""
    return (line[2:] for line in session.splitlines() if line.startswith("$ "))


def statements(session: str) -> Iterator[str]:
    """Return the statements of a Python session, without their output."""
    lines: list[str] = []
    for line in session.splitlines():
        if line.startswith(">>> ") and lines:
            yield "\n".join(lines)
            lines = []
        if line.startswith((">>> ", "... ")):
            lines.append(line[4:])
    yield "\n".join(lines)


def played() -> str:
    """Return the README with its present output."""
    with tempfile.TemporaryDirectory() as directory:
        tour = Tour(Path(directory))
        try:
            return tour.play(README.read_text())
        finally:
            tour.close()


if __name__ == "__main__":
    README.write_text(played())
