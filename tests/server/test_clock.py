"""Time: never backwards, and never standing, whatever the wall clock was set to."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from server.live import Clock
from server.operations import Choose, Create, Move
from server.store import Store
from server.writer import Writer
from tests.server.running import Clock as Told
from tests.server.running import declaration, rows, wait_until
from tests.server.test_batches import experiment_of


class Times:
    """A wall clock and a clock that nobody sets."""

    def __init__(self) -> None:
        self.wall, self.ticks = 1_000.0, 7.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.ticks += seconds


def test_the_clock_goes_on_after_the_wall_clock_was_ahead_and_set_back() -> None:
    times = Times()
    clock = Clock(lambda: times.wall, lambda: times.ticks)
    assert clock() == 1_000.0

    times.wall += 5_000.0
    assert clock() == 6_000.0
    times.wall -= 5_000.0
    times.pass_by(10.0)
    assert clock() == clock.latest == 6_010.0
    times.pass_by(10.0)
    assert clock() == 6_020.0
    times.wall += 9_000.0
    assert clock() == 10_020.0


def test_the_clock_goes_on_from_what_was_stored() -> None:
    times = Times()
    clock = Clock(lambda: times.wall, lambda: times.ticks, latest=2_000.0)
    times.pass_by(1.5)

    assert clock() == 2_001.5


def test_learning_goes_on_while_the_stored_time_is_ahead(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asyncio.run(_go_on_ahead(path))

    assert rows(path, "SELECT count(*) FROM epochs") == [(2,)]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "'x'" in warnings[0]
    assert "86400 s ahead" in warnings[0]


async def _go_on_ahead(path: Path) -> None:
    wall, times = Told(), Times()
    wall.now += 86_400.0  # such as a virtual machine that was resumed
    writer = Writer(Store(path), wall, lambda: times.ticks)
    writer.start()
    experiment = experiment_of(declaration(salt="s", policy={"max_epoch": "1h"}))
    await writer.ask(Create(experiment), 10)
    await writer.ask(Move("x", "start"), 10)
    await asyncio.to_thread(writer.close)

    wall.now -= 86_400.0
    writer = Writer(Store(path), wall, lambda: times.ticks)
    writer.start()
    await writer.ask(Choose("x", "u"), 10)
    times.ticks += 3_601.0
    wall.now += 3_601.0
    await asyncio.to_thread(
        wait_until, lambda: rows(path, "SELECT count(*) FROM epochs") == [(2,)]
    )  # by the writer itself
    await asyncio.to_thread(writer.close)


def test_time_passes_by_the_real_clocks(path: Path) -> None:
    writer = Writer(Store(path))

    assert writer.time is time.time
    writer.store.close()
