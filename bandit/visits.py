"""Users who come back: what they did in a later window, and when that counts.

Where an outcome is "any", a visit counts once its window is over: harm is often known before its absence is, and the
users with a value so far would then be mostly harmed ones. The sums of visits that are still going on wait, by the
moment at which all windows among them are over; moments lie one window apart, so few of them wait at a time. All other
outcomes count as they move.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bandit.epochs import Cell, Epoch
from bandit.inference.windows import window_of
from bandit.ledger import move
from bandit.measures import Measure, Z
from bandit.outcomes import outcome_value, with_call
from bandit.users import Users, Visit
from bandit.watch import Watch

_NEVER = float("inf")


class Visits:
    """Credits what users do in later windows to the cells that assigned them.

    Args:
        users: What is remembered of the users; changed here.
        measures: What is summed about users.
        origins: For each measure the origin of its sums; an open one is fixed by the first outcome.
        watch: Told of every outcome that moves, and of every harm that counts late.
        changed: Told of every cell whose counted sums change.
        window: Seconds of a window; None: each value is a visit of its own, or there is no clock, and all counts at
            once.
        each_value: Whether each value is a visit of its own.

    Attributes:
        unwritten: Sums that changed, as (cell, measure, window, moment), moment 0 for those that count; for a store to
            empty when it has written them.
        alarm: Earliest time at which a visit that waits counts; infinity: none waits.
        counted_upto: Visits that waited for a moment up to this one, in windows of the clock, are counted.
    """

    def __init__(
        self,
        users: Users,
        measures: Sequence[Measure],
        origins: list[float | None],
        watch: Watch,
        changed: Callable[[Cell], object],
        window: float | None,
        *,
        each_value: bool,
    ) -> None:
        self.unwritten: set[tuple[Cell, int, int, int]] = set()
        self.alarm = _NEVER
        self.counted_upto = 0
        self._users = users
        self._measures = measures
        self._origins = origins
        self._watch = watch
        self._changed = changed
        self._window = window
        self._each_value = each_value
        self._waiting: dict[int, set[Cell]] = {}

    def credit(self, user_id: str, cell: Cell, slot: int, call: float, place: int) -> None:
        """Add a call to the outcome of a user who came back.

        Args:
            user_id: Who.
            cell: Where the user is counted.
            slot: The measure, one that is looked at again.
            call: What the call counts there.
            place: Which window after assignment it is in, from 1 for the second one.
        """
        measure, visits = self._measures[slot], self._users.visits[slot]
        held = visits.get(user_id)
        if held is None:
            visit = Visit(2, place, call)
        elif held.place == place and not self._each_value:
            visit = held._replace(outcome=with_call(held.outcome, call))
        else:
            visit = Visit(held.number + 1, place, call)
        visits[user_id] = visit
        window = window_of(visit.number)
        if window is None:
            return
        same = held is not None and held.number == visit.number
        old = outcome_value(measure, held.outcome) if same and held is not None else None
        new = outcome_value(measure, visit.outcome)
        if self._origins[slot] is None:
            self._origins[slot] = new
        origin = self._origins[slot] or 0.0
        nothing = [0.0] * measure.width
        if self._window is not None and measure.per_user == "any":
            moment = math.ceil(self._users.since[user_id] / self._window) + place + 1
            self.unwritten.add((cell, slot, window, moment))
            row = cell.waiting.get((slot, window, moment), nothing)
            self.wait(cell, (slot, window, moment), row)
            move(row, measure, origin, old, new)
            return
        move(cell.returning.setdefault((slot, window), nothing), measure, origin, old, new)
        self._changed(cell)
        self.unwritten.add((cell, slot, window, 0))
        self._watch.moved(slot, cell, window, old, new)

    def count(self, now: float) -> None:
        """Count the visits whose windows are over."""
        while self.alarm <= now:
            self.counted_upto = min(self._waiting)
            for cell in self._waiting.pop(self.counted_upto):
                for slot, window, moment in [key for key in cell.waiting if key[2] == self.counted_upto]:
                    over = cell.waiting.pop((slot, window, moment))
                    row = cell.returning.setdefault((slot, window), [0.0] * len(over))
                    row[:] = [counted + term for counted, term in zip(row, over, strict=True)]
                    if over[Z] > 0.0:
                        self._watch.came_back(slot, cell, window)
                    self.unwritten.add((cell, slot, window, 0))
                self._changed(cell)
            self._set_alarm()

    def wait(self, cell: Cell, key: tuple[int, int, int], row: list[float]) -> None:
        """Let these sums of a cell wait, under measure, window and moment."""
        cell.waiting[key] = row
        self._waiting.setdefault(key[2], set()).add(cell)
        self._set_alarm()

    def restore(self, epochs: Sequence[Epoch]) -> None:
        """Take note of what waits in stored epochs."""
        for epoch in epochs:
            for cell in epoch.cells:
                for key, row in cell.waiting.items():
                    self.wait(cell, key, row)

    def _set_alarm(self) -> None:
        waits = self._waiting and self._window is not None
        self.alarm = min(self._waiting) * (self._window or 0.0) if waits else _NEVER
