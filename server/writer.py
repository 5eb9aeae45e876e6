"""The writer: one thread that takes what waits, runs it against the engine in one transaction, and answers.

Requests that wait together share a commit, so the durability of each costs little. No rule of the experiment is
here: the thread loads the users at hand into a `Bandit`, asks it, and stores what it changed.
"""

from __future__ import annotations

import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable

from bandit import Assignment, BanditError
from server.errors import StoreUnavailable, Unexpected, Unreadable
from server.intake import Batch, Intake
from server.interactions import Interaction
from server.judgements import Settle
from server.live import Live, Reward
from server.lives import Lives
from server.operations import Choose, Count, Log, Move, Operation, Tick
from server.store import Store
from server.tickets import Outcomes, Ticket, answer, call_back
from server.views import View

LARGEST = 512
"""Most operations in one transaction."""

WAKE = 1.0
"""Seconds between looks at the clock and at what other processes changed."""

AHEAD = 60.0
"""Seconds that a stored time may be ahead of the clock before the log says so."""

_DAMAGES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

log = logging.getLogger("bandit.server")


class Writer:
    """The thread and its queue.

    Args:
        store: Used by the thread alone from `start` on.
        clock: Seconds since 1970.
        monotonic: Seconds of a clock that nobody sets; time goes on by it while `clock` lies behind.
        on_death: Called if the thread dies of a fault; by default the process ends, because requests that
            nobody answers are worse. Nothing that was acknowledged is lost.

    Attributes:
        views: What the event loop may read of each experiment.
        in_trouble: Whether the store failed and has not worked since.
        damaged: Whether the file was found to be damaged, which does not mend: nothing is written any more.
        ask: Returns the answer to an operation, after its commit (`Intake.ask`).
        ask_all: Returns the answers to several that wait together (`Intake.ask_all`).
        each_look: Called by the thread once a second with the time, for what is done a little at a time.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        on_death: Callable[[], object] = lambda: os._exit(70),
    ) -> None:
        self.store = store
        self.time = clock
        self.views: dict[str, View] = {}
        self.in_trouble = False
        self.damaged = False
        self.each_look: Callable[[float], object] = lambda _: None
        self._on_death = on_death
        self._lives = Lives(store, clock, monotonic)
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._intake = Intake(self._queue.put)
        self.ask, self.ask_all = self._intake.ask, self._intake.ask_all
        self._seen = -1
        self._next_look = 0.0
        self._thread = threading.Thread(target=self._main, name="bandit-writer", daemon=True)

    # For the event loop

    def start(self) -> None:
        """Load every experiment, then start the thread."""
        self._look_for_changes()
        for key, live in self._lives:
            ahead = live.clock.latest - self.time()
            if ahead > AHEAD:
                log.warning("the stored time of experiment '%s' is %.0f s ahead of this clock; it goes on", key, ahead)
        self._next_look = time.monotonic() + WAKE  # it has just looked
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it takes operations."""
        return self._thread.is_alive() and not self._intake.closing

    @property
    def waiting(self) -> int:
        """How many operations are not answered yet."""
        return self._intake.waiting

    @property
    def unreadable(self) -> list[str]:
        """Keys of experiments whose rows cannot be loaded."""
        return list(self._lives.unreadable)

    def close(self) -> None:
        """Finish what waits, put the log into the file, end the thread."""
        if not self._intake.closing:
            self._intake.close()
            self._queue.put(None)
        self._thread.join()

    # The thread

    def _main(self) -> None:
        try:
            going_on = True
            while going_on:
                going_on = self._serve_next()
                if time.monotonic() >= self._next_look:
                    self._look_around()
            self.store.close()
        except BaseException:
            log.critical("the writer died", exc_info=True)
            self._on_death()
            raise

    def _serve_next(self) -> bool:
        """Serve a batch if one comes before the next look around; return whether to go on."""
        try:
            batch = self._queue.get(timeout=max(self._next_look - time.monotonic(), 0.001))
        except queue.Empty:
            return True
        if batch is None:
            return False
        for first in range(0, len(batch.tickets), LARGEST):
            self._serve(batch.tickets[first : first + LARGEST])
        call_back(batch.loop, batch.served)
        return True

    def _serve(self, tickets: list[Ticket]) -> None:
        """Answer a batch; if one of its operations fails unforeseen, each alone, so that it fails alone."""
        if self.damaged:
            answer([(ticket, StoreUnavailable("the store is damaged")) for ticket in tickets])
            return
        try:
            answer(self._transact(tickets))
        except Exception as error:  # whatever it is, every future has to be resolved
            if _store_is_at_fault(error):
                self._trouble(error)
                answer([(ticket, StoreUnavailable("the store does not work now")) for ticket in tickets])
            elif len(tickets) > 1:
                for ticket in tickets:
                    self._serve([ticket])
            else:
                log.exception("an operation failed unforeseen")
                answer([(tickets[0], Unexpected("the server failed; nothing of this request was stored"))])

    def _transact(self, tickets: list[Ticket], *, patient: bool = True) -> Outcomes:
        """Run operations in one transaction and return their answers once it is durable."""
        tickets = self._begin(tickets, patient=patient)
        if not tickets:
            return []
        try:
            self._lives.used.clear()
            self._recall([ticket.operation for ticket in tickets])
            outcomes = [(ticket, self._run(ticket.operation)) for ticket in tickets]
            changed = [(live, changes) for live in self._lives.used.values() if (changes := live.changes()) is not None]
            for live, changes in changed:
                self.store.write(live.id, live.version + 1, changes)
            self.store.commit()
        except BaseException:
            # The engine is ahead of the store now: forget it, and load it again.
            self._lives.drop()
            self._seen = -1
            self.store.rollback()
            raise
        self._works()
        for live, _ in changed:
            live.written()
        self._publish(outcomes)
        return outcomes

    def _begin(self, tickets: list[Ticket], *, patient: bool) -> list[Ticket]:
        """Begin a transaction and return who still waits; try on while another process holds the lock."""
        while tickets:
            try:
                self.store.begin()
            except sqlite3.OperationalError as error:
                if not patient or not _busy(error):
                    raise
                tickets = [ticket for ticket in tickets if not ticket.cancelled]
                tickets = self._answer_known(tickets)
                continue
            waiting = [ticket for ticket in tickets if not ticket.cancelled]
            if not waiting:
                self.store.rollback()
            return waiting
        return []

    def _answer_known(self, tickets: list[Ticket]) -> list[Ticket]:
        """Answer users who have a variant although another process holds the lock; return all other tickets.

        This process may have forgotten them, or have started after they came. Reading needs no lock.
        """
        answered: Outcomes = []
        with self.store.snapshot():
            for ticket in tickets:
                operation = ticket.operation
                if isinstance(operation, Choose):
                    live = self._lives.unchanged(operation.key)
                    answer_of_cell = None if live is None else live.kept(operation.user_id)
                    if answer_of_cell is not None:
                        answered.append((ticket, answer_of_cell))
        answer(answered)
        done = {id(ticket) for ticket, _ in answered}
        return [ticket for ticket in tickets if id(ticket) not in done]

    def _recall(self, operations: list[Operation]) -> None:
        """Load the users and requests at hand."""
        by_key: dict[str, list[Operation]] = {}
        for operation in operations:
            by_key.setdefault(operation.key, []).append(operation)
        for key, those in by_key.items():
            try:
                live = self.live(key)
            except Unreadable:  # each operation will be told
                continue
            if live is None:
                continue
            users = {operation.user_id: None for operation in those if operation.user_id is not None}
            logs = [operation.interaction for operation in those if isinstance(operation, Log)]
            told: list[Reward | Interaction] = [
                each.reward for each in those if isinstance(each, Count | Settle) and each.reward is not None
            ]
            told += logs
            rewarded = dict.fromkeys(each.user_id for each in told)
            requests = dict.fromkeys(each.request_id for each in told)
            if live.bandit.state == "stopped" or any(isinstance(operation, Move) for operation in those):
                rewarded = users  # after a stop `choose` asks whether a user's outcome may still change
            live.recall(users, rewarded, requests, dict.fromkeys(log.request_id for log in logs))

    def _run(self, operation: Operation) -> object:
        try:
            return operation.run(self)
        except BanditError as error:
            return error

    def live(self, key: str) -> Live | None:
        """Return an experiment as it is in this transaction, None if there is none."""
        return self._lives.get(key)

    def _publish(self, outcomes: Outcomes) -> None:
        """Let the event loop see what is durable now."""
        for live in self._lives.used.values():
            self._show(live)
        for ticket, outcome in outcomes:
            operation = ticket.operation
            if isinstance(operation, Choose) and isinstance(outcome, Assignment):
                bandit = self._lives.used[operation.key].bandit
                self.views[operation.key].remember(operation.user_id, outcome, bandit)

    def _show(self, live: Live) -> None:
        live.forget()
        key = live.bandit.experiment.key
        if key in self.views:
            self.views[key].publish(live)
        else:
            self.views[key] = View(live)

    # Once a second

    def _look_around(self) -> None:
        """See what other processes changed, and let time pass where it may matter."""
        self._next_look = time.monotonic() + WAKE
        try:
            self._look_for_changes()
            if (
                self.in_trouble and not self.damaged
            ):  # nobody may ask a server that is not ready, so it has to find out itself
                self.store.probe()
                self._works()
            for key in [key for key, live in self._lives if live.due()]:
                self._transact([Ticket(Tick(key), None)], patient=False)
            if not self.damaged:
                self.each_look(self.time())
        except sqlite3.Error as error:
            if not (isinstance(error, sqlite3.OperationalError) and _busy(error)):
                self._trouble(error)
        except Exception:
            log.exception("a look at the clock failed unforeseen")

    def _look_for_changes(self) -> None:
        """Load what another process changed, and what a failed transaction left behind."""
        seen = self.store.foreign_changes()
        if seen == self._seen:
            return
        with self.store.snapshot():
            for live in self._lives.changed():
                self._show(live)
        self._seen = seen

    def _works(self) -> None:
        """Say once that the store works again; a damaged one does not mend."""
        if self.in_trouble and not self.damaged:
            log.warning("the store works again")
            self.in_trouble = False

    def _trouble(self, error: Exception) -> None:
        """Say once that the store does not work, not once for each request."""
        if not self.in_trouble:
            log.error("the store does not work: %s", error)
        if not self.damaged and getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGES:
            self.damaged = True
            log.critical(
                "the store is damaged and takes nothing any more: stop, delete its -wal and -shm, put a copy in its"
                " place, start"
            )
        self.in_trouble = True


def _busy(error: sqlite3.OperationalError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _store_is_at_fault(error: Exception) -> bool:
    """Whether the store failed, not one operation's rows."""
    return isinstance(error, sqlite3.Error) and not isinstance(
        error, (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
    )
