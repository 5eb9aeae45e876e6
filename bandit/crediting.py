"""Values that arrive move their user's outcomes, and with these the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bandit.call_values import CallValues
from bandit.epochs import Cell
from bandit.errors import ConflictingReward
from bandit.ledger import move
from bandit.measures import FAILED, Measure
from bandit.outcomes import outcome_value, with_call, with_replacement
from bandit.rewards import RETURNED, Recorded
from bandit.users import Users
from bandit.visits import Visits
from bandit.watch import Watch


class Feed(NamedTuple):
    """A measure that a value goes to.

    Attributes:
        slot: Which measure, an index.
        measure: The measure.
        fixed: What the call counts there whatever its value, or None: the value counts.
    """

    slot: int
    measure: Measure
    fixed: float | None

    def call(self, value: float) -> float:
        """Return what one call with this value counts."""
        return self.measure.call(value) if self.fixed is None else self.fixed


class Crediting:
    """Stores values under their keys and credits them to the cells that assigned their users.

    Args:
        users: What is remembered of the users; changed here.
        measures: What is summed about users.
        origins: For each measure the origin of its sums; an open one is fixed by the first outcome.
        watch: Told of every outcome that moves of the measures that look at open epochs and at users who come back.
        visits: Credits what they do in a later window.
        values: Counts calls by their value.
        first_is_final: Whether a user's first value of each metric stands (window = "request").
    """

    def __init__(
        self,
        users: Users,
        measures: Sequence[Measure],
        origins: list[float | None],
        watch: Watch,
        visits: Visits,
        values: CallValues,
        *,
        first_is_final: bool,
    ) -> None:
        self._watched = watch.slots
        self._watch = watch
        self._visits = visits
        self._values = values
        self._users = users
        self._origins = origins
        self._first_is_final = first_is_final
        self._feeds: dict[str, list[Feed]] = {}
        for slot, measure in enumerate(measures):
            self._feeds.setdefault(measure.metric, []).append(Feed(slot, measure, None))
        self._failed_feeds = [Feed(m, what, what.failed) for m, what in enumerate(measures) if what.failed is not None]

    def counts(self, metric: str) -> bool:
        """Whether values of this metric go anywhere."""
        return metric in self._feeds

    def refuse_conflicts(self, user_id: str, calls: Mapping[str, float], request_id: str, *, replace: bool) -> None:
        """Raise if a value's key was used with another value or user; a correction may have another value.

        Raises:
            ConflictingReward: It was; nothing changed.
        """
        for name, value in calls.items():
            seen = self._users.recorded.get((request_id, name))
            if seen is None or (seen.user_id == user_id and seen.value == value):
                continue
            if replace and seen.user_id == user_id and name != FAILED:
                continue
            what = f"value {seen.value:g}" if seen.user_id == user_id else "another user"
            raise ConflictingReward(
                f"request_id '{request_id}' already reported '{name}' with {what}; use a new request_id, or "
                "`replace` to correct a metric's value for the same user"
            )

    def repeats(self, request_id: str, calls: Iterable[str]) -> bool:
        """Whether all metrics of a call came under this request id before."""
        return all((request_id, name) in self._users.recorded for name in calls)

    def take(
        self,
        user_id: str,
        cell: Cell | None,
        name: str,
        value: float,
        request_id: str | None,
        reason: str | None,
        later: int | None = None,
    ) -> str:
        """Store one value and credit it unless there is a reason not to.

        Args:
            user_id: Whose value it is.
            cell: Where the user is counted; None: nowhere.
            name: Its metric, known to the experiment.
            value: The value, checked.
            request_id: Makes it idempotent, or None.
            reason: What keeps it from counting, or None.
            later: Which window after the user's first one it is in, from 1, if guardrails look at it there.

        Returns:
            "" if it counted, else what became of it: "duplicate", "late" or the reason.
        """
        feeds = self._failed_feeds if name == FAILED and value else self._feeds.get(name, [])
        firsts = 0
        if request_id is not None:
            seen = self._users.recorded.get((request_id, name))
            if seen is not None:
                return self._again(seen, value, (request_id, name), reason)
        if reason is None and cell is not None:
            if not feeds:
                reason = "unused"  # a failure that no measure of this experiment feels
            elif self._first_is_final and all(user_id in self._users.outcomes[feed.slot] for feed in feeds):
                reason, later = "late", 1  # the first value of each metric is final
            else:
                firsts = self._credit(user_id, cell, feeds, value)
                if name in self._values and cell.sticky is not None:
                    self._values.count(name, cell.arm, value)
        if reason == "late" and later is not None and cell is not None:
            seen_again = [feed for feed in feeds if feed.slot in self._watched]
            for feed in seen_again:
                self._visits.credit(user_id, cell, feed.slot, feed.call(value), later)
            reason = RETURNED if seen_again else reason
        if request_id is not None:
            self._users.recorded[request_id, name] = Recorded(user_id, value, reason, firsts)
        return "" if reason is None or reason == RETURNED else reason

    def _again(self, seen: Recorded, value: float, key: tuple[str, str], reason: str | None) -> str:
        """Answer a value whose key came before: a duplicate, or a correction inside the window."""
        if seen.reason == RETURNED:
            return "duplicate" if seen.value == value else "late"
        if seen.value == value or seen.reason is not None:
            return seen.reason or "duplicate"
        if reason is not None or self._first_is_final:
            return reason or "late"  # with window = "request" the first value is final
        cell = self._users.cells[seen.user_id]
        for feed in self._feeds[key[1]]:
            self._correct(seen, cell, feed, value)
        if key[1] in self._values and cell.sticky is not None:
            self._values.count(key[1], cell.arm, seen.value, -1)
            self._values.count(key[1], cell.arm, value)
        self._users.recorded[key] = seen._replace(value=value, revision=seen.revision + 1)
        return ""

    def _credit(self, user_id: str, cell: Cell, feeds: list[Feed], value: float) -> int:
        """Add a call to the user's outcomes; return bit i if it was their first on measure i."""
        firsts = 0
        for slot, measure, fixed in feeds:
            call = measure.call(value) if fixed is None else fixed
            outcomes = self._users.outcomes[slot]
            before = outcomes.get(user_id)
            if before is None:
                firsts |= 1 << slot
                outcomes[user_id] = call
                old, new = None, call if measure.is_plain else outcome_value(measure, call)
            elif self._first_is_final:  # the first value of each metric is final
                if slot in self._watched:
                    self._visits.credit(user_id, cell, slot, call, 1)
                continue
            else:
                outcomes[user_id] = after = with_call(before, call)
                old, new = outcome_value(measure, before), outcome_value(measure, after)
            origin = self._origins[slot]
            if origin is None:
                self._origins[slot] = origin = new
            move(cell.sums[slot], measure, origin, old, new)
            if slot in self._watched:
                self._watch.moved(slot, cell, 1, old, new)
        return firsts

    def _correct(self, seen: Recorded, cell: Cell, feed: Feed, value: float) -> None:
        """Move a user's outcome on a measure from a stored call's value to the corrected one."""
        slot, measure, _ = feed
        outcomes = self._users.outcomes[slot]
        before = outcomes[seen.user_id]
        first = bool(seen.firsts >> slot & 1)
        after = with_replacement(before, measure.call(seen.value), measure.call(value), is_first=first)
        outcomes[seen.user_id] = after
        old, new = outcome_value(measure, before), outcome_value(measure, after)
        move(cell.sums[slot], measure, self._origins[slot] or 0.0, old, new)
        if slot in self._watched:
            self._watch.moved(slot, cell, 1, old, new)
