"""Operations on their way to the writer, and their answers on the way back to the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

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
    """Resolve futures, which are all of one event loop, with one call, because waking it is what costs."""
    those = [(ticket.future, outcome) for ticket, outcome in outcomes if ticket.future is not None]
    if those and not call_back(those[0][0].get_loop(), _resolve, those):
        log.warning("%d answers came after the event loop had ended", len(those))


def call_back(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: object) -> bool:
    """Call a function in an event loop, from another thread; return whether it still goes."""
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        return False
    return True


def _resolve(outcomes: list[tuple[asyncio.Future[object], object]]) -> None:
    for future, outcome in outcomes:
        if not future.done():
            future.set_result(outcome)
