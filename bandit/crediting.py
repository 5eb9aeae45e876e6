"""Values that arrive move their user's outcomes, and with these the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bandit.call_values import CallValues
from bandit.epochs import Cell
from bandit.errors import ConflictingReward, InvalidReward, Problem
from bandit.ledger import move, put
from bandit.measures import FAILED, Measure
from bandit.outcomes import outcome_value, with_call, with_replacement
from bandit.rewards import RETURNED, Recorded
from bandit.users import Users
from bandit.visits import Visits
from bandit.watch import Watch


class Feed(NamedTuple):
    """A measure that a value goes to. What is asked of it for every value that comes in is worked out once.

    Attributes:
        slot: Which measure, an index.
        measure: The measure.
        fixed: What the call counts there whatever its value, or None: the value counts.
        above: `measure.above`.
        is_plain: `measure.is_plain`.
        is_watched: Whether guardrails look at it in open epochs.
        bit: 1 << slot.
    """

    slot: int
    measure: Measure
    fixed: float | None
    above: float | None
    is_plain: bool
    is_watched: bool
    bit: int

    def call(self, value: float) -> float:
        """Return what one call with this value counts."""
        return self.measure.call(value) if self.fixed is None else self.fixed


def feeds_of(measures: Sequence[Measure], watch: Watch) -> tuple[dict[str, list[Feed]], list[Feed]]:
    """Return the measures that the values of each metric go to, and those that a failed call goes to."""

    def feed(slot: int, fixed: float | None) -> Feed:
        what = measures[slot]
        return Feed(slot, what, fixed, what.above, what.is_plain, slot in watch.slots, 1 << slot)

    of_metric: dict[str, list[Feed]] = {}
    for slot, measure in enumerate(measures):
        of_metric.setdefault(measure.metric, []).append(feed(slot, None))
    return of_metric, [feed(slot, what.failed) for slot, what in enumerate(measures) if what.failed is not None]


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
        self._feeds, self._failed_feeds = feeds_of(measures, watch)
        self._watch = watch
        self._visits = visits
        self._values = values
        self._users = users
        self._origins = origins
        self._first_is_final = first_is_final

    def counts(self, metric: str) -> bool:
        """Whether values of this metric go anywhere."""
        return metric in self._feeds

    def refuse_conflicts(
        self, user_id: str, calls: Mapping[str, float], request_id: str | None, *, replace: bool
    ) -> bool:
        """Raise if a value's key was used with another value or user; a correction may have another value.

        Returns:
            Whether all keys are new.

        Raises:
            ConflictingReward: It was; nothing changed.
            InvalidReward: A correction has no key.
        """
        if request_id is None:
            if replace:
                raise InvalidReward([Problem("replace", "needs the request_id of the value that it corrects")])
            return True
        recorded, are_new = self._users.recorded, True
        for name, value in calls.items():
            seen = recorded.get((request_id, name))
            if seen is None:
                continue
            are_new = False
            if seen.user_id == user_id and seen.value == value:
                continue
            if replace and seen.user_id == user_id and name != FAILED:
                continue
            what = f"value {seen.value:g}" if seen.user_id == user_id else "another user"
            raise ConflictingReward(
                f"request_id '{request_id}' already reported '{name}' with {what}; use a new request_id, or "
                "`replace` to correct a metric's value for the same user"
            )
        return are_new

    def repeats(self, request_id: str, calls: Iterable[str]) -> bool:
        """Whether all metrics of a call came under this request id before."""
        return all((request_id, name) in self._users.recorded for name in calls)

    def take_new(self, user_id: str, cell: Cell, calls: Mapping[str, float], request_id: str | None) -> bool:
        """Store and credit values that nothing keeps from counting: most of those that come. `take` would do the same.

        Args:
            user_id: Whose values they are.
            cell: Where the user is counted.
            calls: The values by metric, checked; none is a failure.
            request_id: Nothing came under it before; or None.

        Returns:
            Whether it was done; else nothing was, and each value is to be taken by itself.
        """
        if self._first_is_final:
            return False
        recorded = self._users.recorded
        for name, value in calls.items():
            firsts = self._credit(user_id, cell, self._feeds.get(name, ()), value)
            if name in self._values and cell.sticky is not None:
                self._values.count(name, cell.arm, value)
            if request_id is not None:
                recorded[request_id, name] = Recorded(user_id, value, None, firsts)
        return True

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

    def _credit(self, user_id: str, cell: Cell, feeds: Sequence[Feed], value: float) -> int:
        """Add a call to the user's outcomes; return bit i if it was their first on measure i."""
        firsts = 0
        for slot, measure, fixed, above, is_plain, is_watched, bit in feeds:
            # `Feed.call`, in place
            call = (value if above is None else 1.0 if value > above else 0.0) if fixed is None else fixed
            outcomes = self._users.outcomes[slot]
            before = outcomes.get(user_id)
            old: float | None
            if before is None:
                firsts |= bit
                outcomes[user_id] = call
                old, new = None, call if is_plain else outcome_value(measure, call)
            elif self._first_is_final:  # the first value of each metric is final
                if is_watched:
                    self._visits.credit(user_id, cell, slot, call, 1)
                continue
            else:
                outcomes[user_id] = after = with_call(before, call)
                old, new = outcome_value(measure, before), outcome_value(measure, after)
            origin = self._origins[slot]
            if origin is None:
                self._origins[slot] = origin = new
            if old is None:
                put(cell.sums[slot], measure, origin, new)
            else:
                move(cell.sums[slot], measure, origin, old, new)
            if is_watched:
                self._watch.moved(slot, cell, 1, old, new)
        return firsts

    def _correct(self, seen: Recorded, cell: Cell, feed: Feed, value: float) -> None:
        """Move a user's outcome on a measure from a stored call's value to the corrected one."""
        slot, measure = feed.slot, feed.measure
        outcomes = self._users.outcomes[slot]
        before = outcomes[seen.user_id]
        first = bool(seen.firsts >> slot & 1)
        after = with_replacement(before, measure.call(seen.value), measure.call(value), is_first=first)
        outcomes[seen.user_id] = after
        old, new = outcome_value(measure, before), outcome_value(measure, after)
        move(cell.sums[slot], measure, self._origins[slot] or 0.0, old, new)
        if slot in self._watched:
            self._watch.moved(slot, cell, 1, old, new)
