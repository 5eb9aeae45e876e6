"""Judges at work on a store: until nothing waits, for the command; for ever, in a process beside the server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from bandit import Experiment
from bandit.experiment import Judge
from server.errors import UnknownExperiment
from server.judge_runs import Judging, Summary, judge_for_ever
from server.judgements import waiting
from server.model_servers import ModelServers
from server.schema import Synchronous, connect_read_only
from server.store import Store
from server.writer import Writer


class Work(NamedTuple):
    """What a judge has to do.

    Attributes:
        experiment: Whose interactions.
        judge: The judge.
        waiting: Interactions that it has not seen, sampled or not.
    """

    experiment: Experiment
    judge: Judge
    waiting: int


def judge_all(
    path: Path,
    servers: ModelServers,
    *,
    key: str | None,
    limit: int | None,
    begin: Callable[[Work], Callable[[Summary], object]],
) -> list[tuple[Work, Summary]]:
    """Judge what waits in a store and return what was done, judge by judge.

    Args:
        path: The store.
        servers: The model servers.
        key: The experiment; None: all.
        limit: Interactions of each judge, at most; None: all.
        begin: Told of the work of a judge when it begins; returns what is told after each interaction.

    Raises:
        BanditError: The store, the settings or the key are not right.
    """
    with _writer(path) as writer:
        experiments = _experiments(writer)
        if key is not None and key not in experiments:
            raise UnknownExperiment(key)

        async def run() -> list[tuple[Work, Summary]]:
            done = []
            async with Judging(writer.ask, servers) as judging:
                chosen = [each for name, each in experiments.items() if key in (None, name)]
                todo = [(each, judge) for each in chosen for judge in each.judges]
                for _, judge in todo:
                    judging.check(judge)  # before any of them has cost anything
                for experiment, judge in todo:
                    work = Work(experiment, judge, _waiting(path, experiment, judge))
                    summary = await judging.run(experiment, judge, limit=limit, progress=begin(work))
                    done.append((work, summary))
            return done

        return asyncio.run(run())


def judge_beside(path: Path, servers: ModelServers, synchronous: Synchronous) -> None:
    """Judge what comes into a store until a signal ends it.

    Raises:
        BanditError: The store or the settings are not right.
    """
    with _writer(path, synchronous) as writer:

        async def run() -> None:
            loop, main = asyncio.get_running_loop(), asyncio.current_task()
            assert main is not None  # noqa: S101 - it is the one that runs
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, main.cancel)
            async with Judging(writer.ask, servers) as judging:
                try:
                    await judge_for_ever(judging, lambda: _experiments(writer))
                except asyncio.CancelledError:
                    return

        asyncio.run(run())


@contextmanager
def _writer(path: Path, synchronous: Synchronous = "full") -> Iterator[Writer]:
    writer = Writer(Store(path, synchronous))
    writer.start()
    try:
        yield writer
    finally:
        writer.close()


def _experiments(writer: Writer) -> Mapping[str, Experiment]:
    """Return the experiments with judges, but those that have not begun."""
    views = dict(writer.views)
    return {key: view.experiment for key, view in views.items() if view.experiment.judges and view.state != "draft"}


def _waiting(path: Path, experiment: Experiment, judge: Judge) -> int:
    with closing(connect_read_only(path)) as db:
        (number,) = db.execute("SELECT id FROM experiments WHERE key = ?", (experiment.key,)).fetchone()
        return waiting(db, number, judge.key)
