"""Options of `bandit-server`, checked before anything is opened."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Annotated, NoReturn
from urllib.parse import quote

import typer
import uvicorn

import bandit
from bandit import BanditError, Experiment, parse_json, parse_toml
from server.app import create_app
from server.demo import Demo
from server.guard import is_loopback

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bandit-server {bandit.__version__}")
        raise typer.Exit


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8000,
    db: Annotated[str | None, typer.Option(help="SQLite file.  [default: bandit.db]", show_default=False)] = None,
    experiment: Annotated[
        list[Path] | None, typer.Option(help="Experiment file (TOML or JSON), created and started if it is new.")
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="An example with made-up users, in a temporary store.")] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond loopback although nobody is asked for a key.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes; only 1 for now.")] = 1,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Serve experiments: POST /choose gives a user's variant, POST /reward takes what happened."""
    loopback = is_loopback(host)
    if not loopback and not insecure:
        _refuse(
            f"--host {host} is reachable for others, and this server asks nobody for a key yet; "
            "use a loopback address, or say --insecure"
        )
    if workers != 1:
        _refuse(f"--workers {workers} is not supported yet, allowed: 1")
    if demo and db is not None:
        _refuse("--demo works in a temporary store of its own; leave out --db")
    path = _path("bandit.db" if db is None else db)
    experiments = [_read(file) for file in experiment or ()]
    listener = _listen(host, port)
    if not demo:
        _run(listener, host, path, experiments, loopback=loopback)
        return
    with TemporaryDirectory(prefix="bandit-demo-") as folder:
        example = Demo(_url(listener, host))
        with example.feeding():
            _run(listener, host, Path(folder) / "demo.db", [example.experiment, *experiments], loopback=loopback)


def _run(listener: socket.socket, host: str, path: Path, experiments: Sequence[Experiment], *, loopback: bool) -> None:
    try:
        served = create_app(path, loopback=loopback, experiments=experiments, say=typer.echo)
    except BanditError as error:
        _refuse(str(error))
    url = _url(listener, host)
    typer.echo(f"bandit-server {bandit.__version__} on {url} with {path}")
    typer.echo(f"  {url}/      experiments and their reports\n  {url}/docs  HTTP interface")
    for experiment in experiments:
        typer.echo(f"  {url}/experiments/{quote(experiment.key, safe='')}/report?format=md")
    sys.stdout.flush()
    config = uvicorn.Config(
        served, log_level="warning", access_log=False, timeout_keep_alive=75, timeout_graceful_shutdown=10,
        lifespan="on", server_header=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    # uvicorn raises the signal that ended it once more; for us that is a normal end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    server.run(sockets=[listener])
    if not server.started:
        sys.exit(1)


def _end(_: int, __: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, or say why there is none."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        _refuse(f"cannot listen on {host} port {port}: {error.strerror or error}; choose another --port")
    return listener


def _url(listener: socket.socket, host: str) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"


def _path(db: str) -> Path:
    if "://" in db:
        what = db.partition("://")[0]
        if what in ("postgresql", "postgres"):
            _refuse("--db postgresql://… comes later; until then give a file, which becomes a SQLite store")
        _refuse(f"--db {what}://… is not supported, allowed: a file")
    if not db or db.startswith(":"):
        _refuse("--db needs the name of a file")
    return Path(db)


def _read(file: Path) -> Experiment:
    """Return the experiment of a file, or end with its faults."""
    try:
        text = file.read_text(encoding="utf-8")
        return parse_json(text) if file.suffix.lower() == ".json" else parse_toml(text)
    except (OSError, UnicodeDecodeError) as error:
        _refuse(f"cannot read {file}: {error}")
    except BanditError as error:
        _refuse(f"{file} is not an experiment:\n{error}")


def _refuse(message: str) -> NoReturn:
    typer.echo(f"bandit-server: {message}", err=True)
    raise typer.Exit(2)
