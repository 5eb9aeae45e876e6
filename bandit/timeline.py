"""The epochs of one experiment in order: when each ends, when it closes, what has been learned from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from bandit.allocation import Allocation, batch_size
from bandit.engine import allocate, learn
from bandit.epochs import Cell, Epoch, ledger_of
from bandit.experiment import Experiment
from bandit.learning import Totals, totals_of
from bandit.ledger import GOAL, Ledger, exact_row
from bandit.measures import first_origin, measures_of
from bandit.outcomes import Outcome, outcome_value

NEVER = float("inf")


class Timeline:
    """Epochs, and everything that follows from them.

    Args:
        experiment: Declares windows, batches and the policy.
        outcomes_of: Says, for a cell that closes, every (measure, outcome state) of its users.
        timed: Whether there is a clock. Without one an epoch closes when it ends.

    Attributes:
        measures: What is summed about users.
        origins: For each measure the origin of its sums; None until the first outcome fixes it.
        epochs: All epochs so far, the current one last.
        closed: Epochs 1 to this one are closed: what learning and reporting read.
        left: Users until the current epoch's batch is full.
        alarm: Earliest time at which something can happen by itself; infinity: never.
        frozen: Nothing closes any more: outcomes of open epochs were cut short.
    """

    def __init__(
        self, experiment: Experiment, outcomes_of: Callable[[Cell], Iterable[tuple[int, Outcome]]], *, timed: bool
    ) -> None:
        self.outcomes_of = outcomes_of
        self.measures = measures_of(experiment)
        self.origins = [first_origin(experiment, measure) for measure in range(len(self.measures))]
        self.epochs: list[Epoch] = []
        self.closed = 0
        self.left = 0
        self.alarm = NEVER
        self.frozen = False
        self._experiment = experiment
        self._timed = timed
        self._window = experiment.window_seconds
        self._totals = Totals.nothing((experiment.n_arms,))
        self._closed_users = 0
        self._closed_limit = 0

    @property
    def current(self) -> Epoch:
        """The latest epoch."""
        return self.epochs[-1]

    @property
    def ledger(self) -> Ledger:
        """Sums per (epoch, arm) and measure, over all epochs."""
        return ledger_of(self.epochs, self.measures, self._experiment.n_arms, self.origins)

    @property
    def is_full(self) -> bool:
        """Whether the next user needs a new allocation: a batch was assigned, or a batch of users has closed."""
        return self.left <= 0 or self._closed_users >= self._closed_limit

    def is_aged(self, now: float) -> bool:
        """Whether the current epoch is older than `max_epoch` and something has happened since it began."""
        current = self.current
        if not self._timed or now - current.started_at < self._experiment.max_epoch_seconds:
            return False
        since = current.started_at
        return current.assigned > 0 or any(e.closed_at is not None and e.closed_at > since for e in self.epochs)

    def begin(self, now: float) -> None:
        """Start an epoch under an allocation made from what is closed now."""
        assigned = np.zeros(self._experiment.n_arms)
        for epoch in self.epochs:
            assigned += [cell.assigned for cell in epoch.cells]
        p = allocate(self._experiment, self._totals, assigned)
        allocation = Allocation(len(self.epochs) + 1, tuple(p.tolist()), self.closed)
        self.epochs.append(Epoch(self._experiment, allocation, now, self.measures))
        self.left = int(batch_size(self._experiment.policy, int(assigned.sum())))
        self._closed_limit = self._next_limit()
        self._set_alarm()

    def end(self, now: float) -> None:
        """End the current epoch: it gets no more users."""
        self.current.ended_at = now
        self.close(now)
        self._set_alarm()

    def close(self, now: float) -> None:
        """Close the ended epochs whose windows are over, and learn from those that are next in order."""
        if self.frozen:
            return
        for epoch in self.epochs[self.closed :]:
            if epoch.ended_at is not None and epoch.closed_at is None and self._is_over(epoch, epoch.ended_at, now):
                epoch.closed_at = now
                self._settle(epoch)
        if self.closed < len(self.epochs) and self.epochs[self.closed].closed_at is not None:
            self._fold()
            self._set_alarm()

    def restore(self, epochs: list[Epoch], origins: list[float | None]) -> None:
        """Take over stored epochs and derive everything else from them."""
        self.epochs.extend(epochs)
        self.origins[:] = origins
        if not epochs:
            return
        self._fold(upto=self.current.allocation.learned_epochs)
        self._closed_limit = self._next_limit()
        self._fold()
        before = sum(epoch.assigned for epoch in epochs[:-1])
        self.left = int(batch_size(self._experiment.policy, before)) - self.current.assigned
        self._set_alarm()

    def _is_over(self, epoch: Epoch, ended_at: float, now: float) -> bool:
        if not self._timed:
            return True
        if self._window is not None:
            return now > ended_at + self._window
        return epoch.answered or now > ended_at + self._experiment.request_timeout_seconds

    def _settle(self, epoch: Epoch) -> None:
        """Sum the now final outcomes of an epoch afresh, so that what was moved by difference leaves no rounding."""
        for cell in epoch.cells:
            outcomes: list[list[float]] = [[] for _ in self.measures]
            for slot, outcome in self.outcomes_of(cell):
                outcomes[slot].append(outcome_value(self.measures[slot], outcome))
            for slot, measure in enumerate(self.measures):
                cell.sums[slot] = exact_row(measure, self.origins[slot] or 0.0, outcomes[slot])

    def _fold(self, upto: int | None = None) -> None:
        """Learn from closed epochs strictly in order, up to the first one that is not closed."""
        for epoch in self.epochs[self.closed : upto]:
            if epoch.closed_at is None:
                return
            assigned = np.array([cell.assigned for cell in epoch.cells], dtype=np.int64)
            sums = np.array([cell.sums[GOAL] for cell in epoch.cells])
            totals = totals_of(self._experiment, assigned, sums, self.origins[GOAL] or 0.0)
            self._totals = learn(self._experiment, self._totals, totals)
            self._closed_users += epoch.assigned
            self.closed += 1

    def _next_limit(self) -> int:
        """Return how many users of closed epochs make the next allocation due."""
        return self._closed_users + int(batch_size(self._experiment.policy, self._closed_users))

    def _set_alarm(self) -> None:
        if not self._timed or self.frozen:
            self.alarm = NEVER
            return
        wait = self._window if self._window is not None else self._experiment.request_timeout_seconds
        still_open = [epoch for epoch in self.epochs[self.closed :] if epoch.closed_at is None]
        alarms = [
            epoch.started_at + self._experiment.max_epoch_seconds if epoch.ended_at is None else epoch.ended_at + wait
            for epoch in still_open
        ]
        self.alarm = min(alarms, default=NEVER)
