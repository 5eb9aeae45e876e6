"""The users of one (epoch, arm) counted again from what is stored of them, a page at a time.

    rewards ─► outcomes, visits        compared with the stored ones, user by user, along the user's chain of calls
    outcomes ─► sums                   compared with the ledger, by the function that closes an epoch
    rewards ─► sums of later windows   compared with the ledger

Sums of a closed epoch do not depend on the order of anything, so they are equal to the last bit. What was moved by
difference (totals of several calls, sums of open epochs and of later windows) is equal up to rounding, which is small
against the terms that were ever put in, not against what is left of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

from bandit.assignment import arm_at
from bandit.epochs import Epoch
from bandit.ledger import exact_row
from bandit.measures import Measure, N
from bandit.outcomes import Outcome, outcome_value, parts
from bandit.saved import SavedCell
from bandit.users import Visit
from server.columns import outcomes_from, values_from, visits_from
from server.differences import Difference, Differences
from server.schema import TERMS
from server.user_rows import TOLERANCE, Calls, Row, Rules, Visited, calls_of, visits_of

PAGE = 250
"""Users that are read at a time: in some 10 ms, for which the writer may let others wait."""

# The plans are written out: the planner would look for users by range where it can find them one by one.
_PAGE = (
    "FROM assignments INDEXED BY assignments_by_cell"
    " WHERE experiment = ?1 AND epoch = ?2 AND arm = ?3 AND user_id > ?4 ORDER BY user_id LIMIT ?5"
)
USERS = f"SELECT user_id, at, moved_at, last_reward, outcomes, visits {_PAGE}"
"""Users of a cell, after one, by id: experiment, epoch, arm, the one before, how many."""

# The first part of the chain is a user's last call. UNION, so that a chain in a circle has an end.
CALLS = (
    f"WITH RECURSIVE page AS MATERIALIZED (SELECT user_id, last_reward {_PAGE}), chain (user_id, n) AS ("  # noqa: S608
    "SELECT user_id, last_reward FROM page WHERE last_reward UNION"
    " SELECT chain.user_id, r.previous FROM chain CROSS JOIN rewards r ON r.n = chain.n WHERE r.previous)"
    " SELECT chain.user_id, chain.n, r.experiment, r.user_id, r.previous, r.request_id, r.part, r.at, r.metrics"
    " FROM chain LEFT JOIN rewards r ON r.n = chain.n ORDER BY chain.n DESC"
)
"""Calls of these users, the last ones first; what follows the first number is NULL if there is none."""


_IN_ORDER = itemgetter(0, 1, 2)  # by request, metric and revision


class Tally:
    """Outcomes of the users in one row of the ledger.

    Args:
        measure: The row's measure.
        origin: Its origin.

    Attributes:
        outcomes: One per user.
        sizes: How large the terms of a row can have been that was moved by difference, summed over users; 0 for one
            that was summed afresh. Length `measure.width`.
        sure: Whether all outcomes are known; else only how many they are.
    """

    __slots__ = ("_measure", "_origin", "outcomes", "sizes", "sure")

    def __init__(self, measure: Measure, origin: float) -> None:
        self._measure = measure
        self._origin = origin
        self.outcomes: list[float] = []
        self.sizes = [0.0] * measure.width
        self.sure = True

    def reached(self, low: float, high: float) -> None:
        """Take note of how far a user's outcome can have moved."""
        at_ends = (self._measure.transforms(y, self._origin) for y in (low, high))
        self.sizes = [size + max(abs(a), abs(b)) for size, a, b in zip(self.sizes, *at_ends, strict=True)]

    def add(self, other: Tally) -> None:
        """Add the users of another one."""
        self.outcomes += other.outcomes
        self.sizes = [a + b for a, b in zip(self.sizes, other.sizes, strict=True)]
        self.sure = self.sure and other.sure

    def first_difference(self, stored: Sequence[float]) -> tuple[str, float, float] | None:
        """Return the first term that differs from a stored row, as (name, stored, rebuilt); None: none does."""
        rebuilt = exact_row(self._measure, self._origin, self.outcomes)
        terms = list(zip(TERMS, stored, rebuilt, self.sizes, strict=False))
        for place, (name, old, new, size) in enumerate(terms if self.sure else terms[: N + 1]):
            if not abs(old - new) <= (0.0 if place == N else TOLERANCE * size):
                return name, old, new
        return None


class Recount:
    """The users of one (epoch, arm), as their rows say.

    Args:
        rules: Of the experiment.
        epoch: The epoch, with its allocation.
        arm: Index of the arm.
        found: Told of every difference.
        first: Whether to count users' first windows: all rows of these have to be there.
        later: Whether to count later windows: the same of these.

    Attributes:
        calls: Calls of `/reward` that the users' chains hold, as far as they were read.
    """

    def __init__(
        self, rules: Rules, epoch: Epoch, arm: int, found: Differences, *, first: bool = True, later: bool = True
    ) -> None:
        self._rules = rules
        self._epoch = epoch
        self._arm = arm
        self._found = found
        self._with_first, self._with_later = first, later
        self._closed = epoch.closed_at is not None
        self._after = ""  # the last user who was read
        self.calls = 0
        self._assigned = self._moved = 0
        self._sums = [self._tally(slot) for slot in range(len(rules.measures))]
        self._visits: dict[tuple[int, int, int], Tally] = {}  # by measure, window, moment

    def read_page(self, db: sqlite3.Connection) -> bool:
        """Count the next page of users; return whether there was one."""
        page = (self._rules.number, *self._place, self._after, PAGE)
        users = db.execute(USERS, page).fetchall()
        if not users:
            return False
        self._after = users[-1][0]
        rewards = self._values_of_page(db.execute(CALLS, page))
        for user, since, moved_at, _, outcomes, visits in users:
            self._assigned += 1
            self._moved += moved_at is not None
            self._check_draw(user, since)
            calls, timed = calls_of(self._rules, sorted(rewards.get(user, ()), key=_IN_ORDER), self._differ)
            if self._with_first:
                self._count_outcomes(user, calls, outcomes_from(outcomes))
            if self._with_later:
                stored = visits_from(visits)
                for slot in timed.keys() | stored.keys():
                    self._count_visits(user, since, slot, timed.get(slot, ()), stored.get(slot))
        return True

    def _values_of_page(self, calls: Iterable[tuple[Any, ...]]) -> dict[str, list[Row]]:
        """Return the values in calls by user."""
        found: dict[str, list[Row]] = {}
        for user, n, experiment, whose, _, request, _, at, metrics in calls:
            if (experiment, whose) != (self._rules.number, user):
                self._differ(f"call of {user!r}", "none" if whose is None else f"one of {whose!r}", f"number {n}")
                continue
            self.calls += 1
            found.setdefault(user, []).extend(
                (request, metric, held.revision, held.value, at, held.reason, held.firsts)
                for metric, held in values_from(user, metrics).items()
            )
        return found

    def check_counts(self, cell: SavedCell) -> None:
        """Compare how many users the ledger has."""
        if cell.assigned != self._assigned:
            self._differ("users assigned", cell.assigned, self._assigned)
        if cell.moved != self._moved:
            self._differ("users moved", cell.moved, self._moved)

    def check_sums(self, cell: SavedCell) -> None:
        """Compare the ledger's sums, of the windows that were counted."""
        if self._with_first:
            for slot, row in enumerate(cell.sums):
                self._check_row("sum", slot, row, self._sums[slot])
        if self._with_later:
            self._check_later(cell)

    def _check_later(self, cell: SavedCell) -> None:
        """Compare sums of later windows. A visit that does not wait in the ledger is counted there."""
        waiting = {(slot, window, moment): row for slot, window, moment, row in cell.waiting}
        counted: dict[tuple[int, int], Tally] = {}
        for (slot, window, moment), tally in self._visits.items():
            if (slot, window, moment) in waiting:
                self._check_row(f"window {window}, waiting,", slot, waiting.pop((slot, window, moment)), tally)
            else:
                counted.setdefault((slot, window), self._tally(slot)).add(tally)
        for (slot, window, _), row in waiting.items():
            self._check_row(f"window {window}, waiting,", slot, row, self._tally(slot))
        returning = {(slot, window): row for slot, window, row in cell.returning}
        for slot, window in sorted(returning.keys() | counted.keys()):
            row = returning.get((slot, window), [0.0] * self._rules.measures[slot].width)
            self._check_row(f"window {window},", slot, row, counted.get((slot, window), self._tally(slot)))

    @property
    def _place(self) -> tuple[int, int]:
        return self._epoch.allocation.epoch, self._arm

    def _tally(self, slot: int) -> Tally:
        return Tally(self._rules.measures[slot], self._rules.origins[slot])

    def _differ(self, what: str, stored: object, rebuilt: object, slot: int | None = None) -> None:
        self._found.add(Difference(what, stored, rebuilt, *self._place, slot))

    def _check_row(self, what: str, slot: int, row: list[float], tally: Tally) -> None:
        difference = tally.first_difference(row)
        if difference is not None:
            name, stored, rebuilt = difference
            self._differ(f"{what} {name}", stored, rebuilt, slot)

    def _check_draw(self, user: str, since: float) -> None:
        bandit, epoch = self._rules.bandit, self._epoch
        names = bandit.experiment.arms
        drawn = arm_at(bandit.point(user), epoch.ends)
        if drawn != self._arm:
            never = epoch.allocation.probabilities[self._arm] <= 0.0
            what = f"variant of {user!r}, which had probability 0" if never else f"variant of {user!r}"
            self._differ(what, names[self._arm], names[drawn])
        if epoch.ended_at is not None and since > epoch.ended_at:
            self._differ(f"time of {user!r}", since, f"at most {epoch.ended_at!r}: the epoch ended then")

    def _count_outcomes(self, user: str, calls: dict[int, Calls], stored: dict[int, Outcome]) -> None:
        for slot, outcome in stored.items():
            n, total, first = parts(outcome)
            measure, tally, mine = self._rules.measures[slot], self._sums[slot], calls.get(slot)
            y = outcome_value(measure, outcome)
            tally.outcomes.append(y)
            if not self._closed:
                tally.reached(*((y, y) if mine is None else mine.reach(measure)))
            if mine is None or not mine.make(n, total, first):
                self._differ(f"outcome of {user!r}", Calls.shown(n, total, first), str(mine or "none"), slot)
        for slot in calls.keys() - stored.keys():
            self._differ(f"outcome of {user!r}", "none", str(calls[slot]), slot)

    def _count_visits(
        self, user: str, since: float, slot: int, timed: Sequence[tuple[float, float]], stored: Visit | None
    ) -> None:
        measure = self._rules.measures[slot]
        last: Visited | None = None
        for last in visits_of(self._rules, since, timed):
            if last.window is None:
                continue
            key = slot, last.window, self._rules.moment(slot, since, last.place)
            tally = self._visits.setdefault(key, self._tally(slot))
            tally.outcomes.append(outcome_value(measure, last.calls.state))
            tally.reached(*last.calls.reach(measure))
            tally.sure = tally.sure and last.sure
        state = None if stored is None else parts(stored.outcome)
        if last is None or stored is None or state is None or not last.makes(stored.number, stored.place, *state):
            shown = "none" if stored is None or state is None else f"visit {stored.number}: {Calls.shown(*state)}"
            self._differ(f"last visit of {user!r}", shown, str(last or "none"), slot)
