"""The event loop's side of the writer: operations gather here until the writer is free, and go to it together.

A transaction of twice the size costs little more, and while the writer works the event loop makes way for it at every
statement. So they take turns: who has just been answered is about to come again, and the next transaction waits for
them as long as they keep coming, some milliseconds at most.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bandit import BanditError
from server.errors import StoreUnavailable
from server.operations import Operation
from server.tickets import Ticket

CAPACITY = 4_096
"""Most operations that wait; who comes then is turned away at once."""

LINGER = 0.002
"""Seconds that the idle writer waits for those whom it has just answered, and on while many of them come."""

_FULL = "too many requests wait for the store"


class Batch(NamedTuple):
    """Operations for the writer.

    Attributes:
        tickets: The operations, in their order.
        loop: The event loop where they are waited for.
        served: To be called there when all of them are answered.
    """

    tickets: list[Ticket]
    loop: asyncio.AbstractEventLoop
    served: Callable[[], object]


class Intake:
    """Where operations wait for the writer. Used by one event loop at a time.

    Args:
        hand_over: Takes a batch to the writer; the next one comes when it was served.

    Attributes:
        waiting: How many operations are not answered yet.
        closing: Whether no more are taken.
    """

    def __init__(self, hand_over: Callable[[Batch], object]) -> None:
        self.waiting = 0
        self.closing = False
        self._hand_over = hand_over
        self._gathering: _Gathering | None = None

    async def ask(self, operation: Operation, patience: float) -> object:
        """Return the answer to an operation, after its commit.

        Args:
            operation: What to do.
            patience: Seconds to wait at most.

        Raises:
            StoreUnavailable: Too many wait, the store does not work, or it took too long.
            BanditError: The operation was refused.
        """
        if self.closing or self.waiting >= CAPACITY:
            raise StoreUnavailable(_FULL)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        ticket = Ticket(operation, future)
        gathering = self._in(loop)
        gathering.put(ticket)
        gathering.limit(ticket, patience)
        self.waiting += 1
        try:
            outcome = await future
        finally:
            ticket.cancelled = True
            self.waiting -= 1
        if isinstance(outcome, BanditError):
            raise outcome
        return outcome

    async def ask_all(self, operations: Sequence[Operation], patience: float) -> list[object]:
        """Return the answers to operations that wait together, in their order, which is that of execution.

        An error is an answer here, so that each fails alone: also for those that there is no room for.

        Args:
            operations: What to do.
            patience: Seconds to wait at most, for all of them.
        """
        room = 0 if self.closing else max(CAPACITY - self.waiting, 0)
        loop = asyncio.get_running_loop()
        waiting = [(Ticket(operation, future := loop.create_future()), future) for operation in operations[:room]]

        def give_up() -> None:
            for ticket, _ in waiting:
                ticket.give_up()

        timer = loop.call_later(patience, give_up)
        gathering = self._in(loop)
        for ticket, _ in waiting:
            gathering.put(ticket)
        self.waiting += len(waiting)
        try:
            outcomes = [await future for _, future in waiting]
        finally:
            for ticket, _ in waiting:
                ticket.cancelled = True
            self.waiting -= len(waiting)
            timer.cancel()
        return [*outcomes, *[StoreUnavailable(_FULL)] * (len(operations) - len(waiting))]

    def close(self) -> None:
        """Take no more; hand over who waits. May be called in another thread, as the last thing."""
        self.closing = True
        if self._gathering is not None:
            self._gathering.hand_over()

    def _in(self, loop: asyncio.AbstractEventLoop) -> _Gathering:
        gathering = self._gathering
        if gathering is None or gathering.loop is not loop:  # nobody waits any more in one that has ended
            gathering = self._gathering = _Gathering(loop, self._hand_over)
        return gathering


class _Gathering:
    """The operations of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, hand_over: Callable[[Batch], object]) -> None:
        self.loop = loop
        self._hand_over = hand_over
        self._tickets: list[Ticket] = []
        self._expected = 1
        self._writer_is_free = True
        self._leaving: asyncio.Handle | None = None
        self._patience: dict[float, _Patience] = {}

    def put(self, ticket: Ticket) -> None:
        """Let an operation wait for the writer."""
        self._tickets.append(ticket)
        if len(self._tickets) == self._expected and self._writer_is_free:
            if self._leaving is not None:
                self._leaving.cancel()
            self._leaving = self.loop.call_soon(self.hand_over)  # with whoever else comes in this turn of the loop

    def limit(self, ticket: Ticket, patience: float) -> None:
        """Let a ticket give up after so many seconds."""
        limit = self._patience.get(patience)
        if limit is None:
            limit = self._patience[patience] = _Patience(patience, self.loop)
        limit.limit(ticket)

    def hand_over(self) -> None:
        """Send to the writer who is here."""
        tickets, self._tickets = self._tickets, []
        self._leaving = None
        self._expected = max(len(tickets), 1)
        if tickets:
            self._writer_is_free = False
            self._hand_over(Batch(tickets, self.loop, self._served))

    def _served(self) -> None:
        self._writer_is_free = True
        here = len(self._tickets)
        self._expected += here
        if self._expected > 1:
            self._leaving = self.loop.call_later(LINGER, self._linger, here)

    def _linger(self, before: int) -> None:
        """Wait on while many come; `before` had come when the wait began."""
        here = len(self._tickets)
        if (here - before) * 4 > self._expected - here:
            self._leaving = self.loop.call_later(LINGER, self._linger, here)
        else:
            self.hand_over()


class _Patience:
    """Lets tickets give up after a time. It is the same for all, so they end in turn: one timer is enough.

    Args:
        seconds: How long a ticket waits.
        loop: The event loop.
    """

    def __init__(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self._seconds = seconds
        self._loop = loop
        self._ends: deque[tuple[float, Ticket]] = deque()
        self._ticking = False

    def limit(self, ticket: Ticket) -> None:
        """Let a ticket give up then."""
        ends = self._ends
        while ends and ends[0][1].cancelled:
            ends.popleft()
        ends.append((self._loop.time() + self._seconds, ticket))
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(self._seconds, self._tick)

    def _tick(self) -> None:
        ends, now = self._ends, self._loop.time()
        while ends and (ends[0][1].cancelled or ends[0][0] <= now):
            ends.popleft()[1].give_up()
        self._ticking = bool(ends)
        if ends:
            self._loop.call_at(ends[0][0], self._tick)
