"""Operations on their way to the writer, and their answers on the way back to the event loop."""

from __future__ import annotations

import asyncio
import logging

from server.errors import StoreUnavailable
from server.operations import Operation

log = logging.getLogger("bandit.server")


class Ticket:
    """An operation on its way to the writer, and the future that its answer goes to, if anybody waits."""

    __slots__ = ("cancelled", "future", "operation")

    def __init__(self, operation: Operation, future: asyncio.Future[object] | None) -> None:
        self.operation = operation
        self.future = future
        self.cancelled = False

    def give_up(self) -> None:
        """Answer that it took too long; if its transaction has not begun it will not be part of it."""
        self.cancelled = True
        if self.future is not None and not self.future.done():
            self.future.set_result(StoreUnavailable("the store did not answer in time"))


Outcomes = list[tuple[Ticket, object]]
"""Tickets with their answers; a `BanditError` is one that was refused."""


def answer(outcomes: Outcomes) -> None:
    """Resolve futures, all of one event loop with one call, because waking it is what costs."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[object], object]]] = {}
    for ticket, outcome in outcomes:
        if ticket.future is not None:
            loops.setdefault(ticket.future.get_loop(), []).append((ticket.future, outcome))
    for loop, those in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve, those)
        except RuntimeError:
            log.warning("%d answers came after the event loop had ended", len(those))


def _resolve(outcomes: list[tuple[asyncio.Future[object], object]]) -> None:
    for future, outcome in outcomes:
        if not future.done():
            future.set_result(outcome)
