"""The processes that serve a store: one, or several on the same file and socket, and what starts and ends them.

Several share nothing but the file (`lives.py` says how each hears of the others) and the socket, on which the kernel
gives a connection to whichever is free. The parent serves nobody: it starts one again that dies, and ends all when it
is ended.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import NoReturn

import uvicorn
from starlette.types import ASGIApp

from bandit import parse_json
from server.app import create_app
from server.logs import LogFormat, configure
from server.model_servers import ModelServers
from server.protocol import OneWrite
from server.retention import Retention
from server.schema import Synchronous
from server.store import Store
from server.writer import Writer

BRIEF = 2.0
"""Seconds; a process that lived no longer is not started again: the next one would end like it."""

GRACE = 20.0
"""Seconds that processes have to finish what they were asked."""

log = logging.getLogger("bandit.server")


@dataclass(frozen=True, slots=True)
class Service:
    """What every process serves.

    Attributes:
        path: The store.
        experiments: As JSON texts; created and started if the store does not have them.
        loopback: Whether the socket is on loopback.
        retain: Seconds after which raw rows of closed epochs are dropped; None: never.
        log_format: How each process writes its log.
        synchronous: When a commit is safe.
        models: Model servers of judges, and prices; None: no judge works, and tokens have no cost.
    """

    path: Path
    experiments: tuple[str, ...]
    loopback: bool
    retain: float | None
    log_format: LogFormat
    synchronous: Synchronous
    models: ModelServers | None = None


def serve(service: Service, listener: socket.socket, say: Callable[[str], object]) -> None:
    """Serve in this process until a signal ends it; exit code 1 if it could not begin.

    Args:
        service: What.
        listener: Socket that listens.
        say: Told what became of the experiments.

    Raises:
        StoreProblem: The file cannot be a store.
    """
    configure(service.log_format)
    writer = Writer(Store(service.path, service.synchronous))
    if service.retain is not None:
        writer.each_look = Retention(writer.store, service.retain).step
    experiments = [parse_json(text) for text in service.experiments]
    served = create_app(
        service.path,
        loopback=service.loopback,
        experiments=experiments,
        say=say,
        writer=writer,
        prices=None if service.models is None else service.models.prices,
    )
    server = uvicorn.Server(http_config(served))
    # uvicorn raises the signal that ended it once more; for us that is a normal end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    server.run(sockets=[listener])
    if not server.started:
        sys.exit(1)


def http_config(app: ASGIApp) -> uvicorn.Config:
    """Return how HTTP is spoken."""
    return uvicorn.Config(
        app, http=OneWrite, ws="none", log_config=None, log_level="warning", access_log=False, timeout_keep_alive=75,
        timeout_graceful_shutdown=10, lifespan="on", server_header=False, proxy_headers=False,
    )  # fmt: skip


def serve_many(workers: int, service: Service, listener: socket.socket) -> None:
    """Serve in so many processes until a signal ends this one; exit code 1 if one of them cannot begin.

    What became of the experiments is written to standard output by the first.
    """
    context = multiprocessing.get_context("spawn")  # no thread of this process is half-copied

    def started(*, first: bool) -> tuple[SpawnProcess, float]:
        process = context.Process(target=_work, args=(service, listener, first))
        process.start()
        return process, time.monotonic()

    code = 0
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end)
        running = [started(first=place == 0) for place in range(workers)]
        judges = None if service.models is None else _Judges(context, service)
        while not code:
            watched = [] if judges is None else judges.watched()
            wait([*(process.sentinel for process, _ in running), *watched], None if judges is None else BRIEF)
            for place, (process, since) in enumerate(running):
                if process.is_alive():
                    continue
                if time.monotonic() - since < BRIEF or process.exitcode == 1:
                    code = 1
                    break
                log.error("a serving process ended with exit code %s; another takes its place", process.exitcode)
                running[place] = started(first=False)
    finally:
        # All there are, also when a signal came before all were started: this process and a child that is not ended
        # would wait for each other's end.
        _end_all(multiprocessing.active_children())
    sys.exit(code)


class _Judges:
    """The process of the judges. If it ends, another takes its place after a while; users are served all the same."""

    def __init__(self, context: SpawnContext, service: Service) -> None:
        self._context = context
        self._service = service
        self._start()

    def _start(self) -> None:
        self.process = self._context.Process(target=_judge, args=(self._service,))
        self.process.start()
        self._since = time.monotonic()

    def watched(self) -> list[int]:
        """Start it again if it has ended and it is time; return what tells of its end."""
        if not self.process.is_alive() and time.monotonic() - self._since > GRACE:
            log.error(
                "the process of the judges ended with exit code %s; another takes its place", self.process.exitcode
            )
            self._start()
        return [self.process.sentinel] if self.process.is_alive() else []


def _judge(service: Service) -> None:
    from server.judge_process import judge_beside  # noqa: PLC0415 - the client of model servers takes a third of a second

    _end_with_parent()
    configure(service.log_format)
    assert service.models is not None  # noqa: S101 - else there is no such process
    judge_beside(service.path, service.models, service.synchronous)


def _work(service: Service, listener: socket.socket, first: bool) -> None:
    def say(text: str) -> None:
        if first:
            print(text, flush=True)  # noqa: T201 - what the command says

    _end_with_parent()
    serve(service, listener, say)


def _end_with_parent() -> None:
    """End this process as SIGTERM does once the one that started it is gone, however it ended: nobody else would."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="bandit-parent", daemon=True).start()


def _end_all(processes: Sequence[BaseProcess]) -> None:
    """Ask all to finish; kill those that do not."""
    for process in processes:
        if process.is_alive():
            process.terminate()
    give_up = time.monotonic() + GRACE
    for process in processes:
        process.join(max(give_up - time.monotonic(), 0.0))
        if process.is_alive():
            log.error("a serving process did not end in time and is killed; nothing acknowledged is lost")
            process.kill()
            process.join()


def _end(_: int, __: FrameType | None) -> NoReturn:
    raise SystemExit(0)
