"""The epochs of one experiment in order: when each ends, when it closes, what has been learned from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from bandit.allocation import Allocation, batch_size
from bandit.arrays import BoolArray, FloatArray
from bandit.engine import allocate, fading, learn
from bandit.epochs import Cell, Epoch, ReturningSums, ledger_of
from bandit.experiment import Experiment
from bandit.generations import End, Generation, at_start, current
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
        generations: All generations of the arms, in the order in which they began.
        closed: Epochs 1 to this one are closed: what learning and reporting read.
        left: Users until the current epoch's batch is full.
        alarm: Earliest time at which something can happen by itself; infinity: never.
        frozen: Nothing closes any more: outcomes of open epochs were cut short.
        returning: Sums of those who came back.
        unwritten: Epochs that began, ended or closed since this was last cleared.
    """

    def __init__(
        self, experiment: Experiment, outcomes_of: Callable[[Cell], Iterable[tuple[int, Outcome]]], *, timed: bool
    ) -> None:
        self.outcomes_of = outcomes_of
        self.measures = measures_of(experiment)
        self.origins = [first_origin(experiment, measure) for measure in range(len(self.measures))]
        self.epochs: list[Epoch] = []
        self.generations: list[Generation] = list(at_start(experiment))
        self.closed = 0
        self.left = 0
        self.alarm = NEVER
        self.frozen = False
        self.unwritten: dict[Epoch, None] = {}
        self._experiment = experiment
        self._timed = timed
        self._window = experiment.window_seconds
        self._totals = Totals.nothing((experiment.n_arms,))
        self._closed_users = 0
        self._closed_limit = 0
        self._sealed = ledger_of([], self.measures, experiment.n_arms, self.origins)
        self.returning = ReturningSums(self.measures, experiment.n_arms)

    @property
    def current(self) -> Epoch:
        """The latest epoch."""
        return self.epochs[-1]

    @property
    def latest(self) -> tuple[Generation, ...]:
        """The latest generation of each arm."""
        return current(self.generations, self._experiment.n_arms)

    @property
    def suspended(self) -> BoolArray:
        """Whether each arm is kept away from users, shape (n_arms,)."""
        return np.array([generation.ended == "suspended" for generation in self.latest])

    @property
    def ledger(self) -> Ledger:
        """Sums per (epoch, arm) and measure, over all epochs."""
        n_arms = self._experiment.n_arms
        still_open = ledger_of(self.epochs[self.closed :], self.measures, n_arms, self.origins)
        whole = _joined(self._sealed, still_open)
        return replace(whole, returning=self.returning.read(len(self.epochs)))

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

    def begin(self, now: float, feasible: FloatArray | None = None) -> None:
        """Start an epoch under an allocation made from what is closed now.

        Args:
            now: The time.
            feasible: Chance of each arm to keep its limits, shape (n_arms,); None: no guardrail says anything.
        """
        assigned = self._sealed.assigned.sum(axis=0).astype(np.float64)
        for epoch in self.epochs[self.closed :]:
            assigned += [cell.assigned for cell in epoch.cells]
        p = allocate(self._experiment, self._faded(now), assigned, feasible, self.suspended)
        allocation = Allocation(len(self.epochs) + 1, tuple(p.tolist()), self.closed)
        self.epochs.append(Epoch(self._experiment, allocation, now, self.measures))
        self.unwritten[self.current] = None
        self.left = int(batch_size(self._experiment.policy, int(assigned.sum())))
        self._closed_limit = self._next_limit()
        self._set_alarm()

    def end(self, now: float) -> None:
        """End the current epoch, if there is one going on: it gets no more users."""
        if self.epochs and self.current.ended_at is None:
            self.current.ended_at = now
            self.unwritten[self.current] = None
        self.close(now)
        self._set_alarm()

    def end_generation(self, arm: int, how: End, broken: tuple[int, ...], reason: str) -> None:
        """End an arm's generation: its users lose the arm, and outcomes not final yet are not read for the goal.

        To be called between two epochs.
        """
        place = max(place for place, generation in enumerate(self.generations) if generation.arm == arm)
        self.generations[place] = replace(
            self.generations[place],
            last_epoch=len(self.epochs),
            closed_epochs=self.closed,
            ended=how,
            broken=broken,
            reason=reason,
        )
        self._take_away(arm)

    def begin_generation(self, arm: int) -> None:
        """Let an arm begin anew with the next epoch. To be called between two epochs."""
        place = max(place for place, generation in enumerate(self.generations) if generation.arm == arm)
        before = self.generations[place]
        if before.last_epoch is not None and before.last_epoch < before.first_epoch:
            # Nobody ever had it, so nothing is known of it: it is still the same generation, with its share of alpha.
            self.generations[place] = Generation(arm, before.number, len(self.epochs) + 1)
            if before.ended == "suspended":
                self._suspend_earlier(arm, place)
        else:
            number = 1 + max(generation.number for generation in self.generations)
            self.generations.append(Generation(arm, number, len(self.epochs) + 1))
        self._learn_again()

    def _suspend_earlier(self, arm: int, place: int) -> None:
        """Let the generation before be the suspended one: its users have been told to take control, and keep to it."""
        for earlier in range(place - 1, -1, -1):
            if self.generations[earlier].arm == arm:
                self.generations[earlier] = replace(self.generations[earlier], ended="suspended")
                return

    def change_configs(self, experiment: Experiment) -> None:
        """Go on with an experiment that differs in configurations alone."""
        self._experiment = experiment

    def destination(self, cell: Cell) -> int:
        """Return the arm that users of a cell get whose generation has ended: control, once their arm was suspended."""
        mine = [g for g in self.generations if g.arm == cell.arm]
        number = cell.epoch.allocation.epoch
        since = [g for g in mine if g.last_epoch is None or g.last_epoch >= number]
        return self._experiment.control if any(g.ended == "suspended" for g in since) else cell.arm

    def move(self, cell: Cell) -> None:
        """Count one more user of a cell as moved away from its arm."""
        self.count(cell, cell.assigned, cell.moved + 1)

    def count(self, cell: Cell, assigned: int, moved: int) -> None:
        """Let a cell have so many users, and so many of them moved away from its arm.

        To be called for users whom somebody else assigned or moved; one's own assignments are counted as they come.
        """
        if cell.epoch is self.epochs[-1]:
            self.left -= assigned - cell.assigned
        cell.assigned, cell.moved = assigned, moved
        place = cell.epoch.allocation.epoch - 1
        if place < self.closed:
            self._sealed.moved[place, cell.arm] = moved

    def close(self, now: float) -> None:
        """Close the ended epochs whose windows are over, and learn from those that are next in order."""
        if self.frozen:
            return
        for epoch in self.epochs[self.closed :]:
            if epoch.ended_at is not None and epoch.closed_at is None and self._is_over(epoch, epoch.ended_at, now):
                epoch.closed_at = now
                self.unwritten[epoch] = None
                self._settle(epoch)
        if self.closed < len(self.epochs) and self.epochs[self.closed].closed_at is not None:
            self._fold()
            self._set_alarm()

    def restore(self, epochs: list[Epoch], origins: list[float | None], generations: list[Generation]) -> None:
        """Take over stored epochs and derive everything else from them."""
        self.epochs.extend(epochs)
        self.origins[:] = origins
        self.generations[:] = generations
        for generation in self.generations:
            if generation.ended is not None:
                self._take_away(generation.arm)
        if not epochs:
            return
        self.returning.changed.update(cell for epoch in epochs for cell in epoch.cells if cell.returning)
        self._fold(upto=self.current.allocation.learned_epochs)
        self._closed_limit = self._next_limit()
        self._fold()
        before = sum(epoch.assigned for epoch in epochs[:-1])
        self.left = int(batch_size(self._experiment.policy, before)) - self.current.assigned
        self._set_alarm()

    def _take_away(self, arm: int) -> None:
        """Let no user of an ended generation be answered with its arm any more."""
        ended = [generation for generation in self.generations if generation.arm == arm and generation.ended]
        for epoch in self.epochs:
            if any(generation.has(epoch.allocation.epoch) for generation in ended):
                epoch.cells[arm].sticky = None

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
        first = self.closed
        for epoch in self.epochs[first:upto]:
            if epoch.closed_at is None:
                break
            self._learn_from(epoch)
            self._closed_users += epoch.assigned
            self.closed += 1
        new = ledger_of(self.epochs[first : self.closed], self.measures, self._experiment.n_arms, self.origins)
        self._sealed = _joined(self._sealed, new)

    def _learn_from(self, epoch: Epoch) -> None:
        """Add an epoch to what was learned, as far as it belongs to generations that go on."""
        number = epoch.allocation.epoch
        read = np.array([generation.reads(number) for generation in self.latest])
        assigned = np.array([cell.assigned for cell in epoch.cells], dtype=np.int64) * read
        sums = np.array([cell.sums[GOAL] for cell in epoch.cells]) * read[:, np.newaxis]
        totals = totals_of(self._experiment, assigned, sums, self.origins[GOAL] or 0.0)
        before = self.epochs[number - 2].ended_at if number > 1 else epoch.started_at
        seconds = (epoch.ended_at or 0.0) - (before or 0.0)
        faded = self._totals.faded(fading(self._experiment, epoch.assigned, seconds))
        self._totals = learn(self._experiment, faded, totals)

    def _faded(self, now: float) -> Totals:
        """Return what was learned, as old as it is now: users and time since the last closed epoch count."""
        if not self.closed:
            return self._totals
        users = sum(epoch.assigned for epoch in self.epochs[self.closed :])
        seconds = now - (self.epochs[self.closed - 1].ended_at or now)
        return self._totals.faded(fading(self._experiment, users, seconds))

    def _learn_again(self) -> None:
        """Learn afresh from all closed epochs, for the generations that there are now."""
        self._totals = Totals.nothing((self._experiment.n_arms,))
        for epoch in self.epochs[: self.closed]:
            self._learn_from(epoch)

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


def _joined(first: Ledger, second: Ledger) -> Ledger:
    """Return the ledger of epochs that follow each other."""
    return Ledger(
        np.concatenate([first.assigned, second.assigned]),
        np.concatenate([first.moved, second.moved]),
        tuple(np.concatenate([a, b]) for a, b in zip(first.sums, second.sums, strict=True)),
        second.origins,
    )
