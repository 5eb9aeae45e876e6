"""Clients that call at the same time, and the gate where they stand while there is no server."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from tests.server.harness import PATIENCE, Difference, Lost
from tests.server.harness_clients import Client


class Gate:
    """Where clients stand while there is no server to call.

    Args:
        clients: How many there are.

    Attributes:
        doomed: Whether somebody is killing the server, so that connections may break.
    """

    def __init__(self, clients: int) -> None:
        self.doomed = False
        self._clients, self._standing, self._turn = clients, 0, 0
        self._is_open, self._over = False, False
        self._changed = threading.Condition()

    def open(self) -> None:
        """Let the clients call."""
        with self._changed:
            self._turn, self._is_open, self.doomed = self._turn + 1, True, False
            self._changed.notify_all()

    def still(self) -> None:
        """Let nobody begin anything, and return when everybody stands."""
        with self._changed:
            self._is_open = False
            if not self._changed.wait_for(lambda: self._standing == self._clients, 2 * PATIENCE):
                raise Difference(f"{self._clients - self._standing} clients wait for an answer that does not come")

    def end(self) -> None:
        """Send everybody home."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def enter(self, after: int) -> int:
        """Wait until the clients may call, and return the number of this turn; 0: it is over.

        Args:
            after: Number of a turn that is not to be waited for, because its server is gone.
        """
        with self._changed:
            if not (self._over or (self._is_open and self._turn > after)):
                self._standing += 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._over or (self._is_open and self._turn > after))
                self._standing -= 1
            return 0 if self._over else self._turn

    def leave(self) -> None:
        """Be waited for no more."""
        with self._changed:
            self._clients -= 1
            self._changed.notify_all()


class Crowd:
    """Clients that call at the same time, while the gate is open.

    Args:
        clients: The clients.
        pause: Seconds between two steps of a client at least.
    """

    def __init__(self, clients: Sequence[Client], pause: float = 0.0) -> None:
        self.clients = clients
        self.gate = Gate(len(clients))
        self._pause = pause
        self._pool = ThreadPoolExecutor(len(clients))
        self._calls: list[Future[None]] = []

    def __enter__(self) -> Self:
        self._calls = [self._pool.submit(self._work, client) for client in self.clients]
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.end()
        self._pool.shutdown()

    def check(self) -> None:
        """Raise what a client found."""
        for call in self._calls:
            if call.done():
                call.result()

    def counts(self) -> Counter[str]:
        """Return how often what was done and answered, by all of them."""
        return sum((client.counts for client in self.clients), Counter())

    def _work(self, client: Client) -> None:
        gone, last = 0, 0
        try:
            while turn := self.gate.enter(gone):
                if turn != last:
                    client.wire.close()  # it led to a server of before
                    last = turn
                due = time.monotonic() + self._pause
                try:
                    client.step()
                except Lost as error:
                    if not self.gate.doomed:
                        raise Difference("the server broke a connection though nobody killed it") from error
                    client.counts["lost"] += 1
                    gone = turn
                time.sleep(max(due - time.monotonic(), 0.0))
        finally:
            self.gate.leave()
            client.wire.close()
