"""What the stored values of one user say: calls on each measure, in the first window and in later ones.

The same rules as `bandit/crediting.py` and `bandit/visits.py`, read backwards: a stored value says whether and where it
was counted, so nothing has to be judged again.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from bandit import Bandit, Experiment
from bandit.crediting import Feed, feeds_of
from bandit.inference.windows import window_of
from bandit.measures import FAILED, Measure
from bandit.rewards import RETURNED

TOLERANCE = 1e-9
"""Rounding that is no difference, relative to the terms."""

Row = tuple[Any, ...]
"""A stored value of a user: request, metric, revision, value, time, reason, firsts."""

_BY_KEY = itemgetter(0, 1)
_BY_TIME = itemgetter(0)


class Rules:
    """What an experiment makes of stored values.

    Args:
        number: Its number in the store.
        experiment: What was asked.
        origins: For each measure the origin of its sums, or None.

    Attributes:
        bandit: The experiment without users, for its measures and its draws.
        window: Seconds of a window; None: a user's first value of each metric is final.
        watched: Measures that guardrails read in later windows.
        read_later: Metrics whose values may count there.
    """

    def __init__(self, number: int, experiment: Experiment, origins: Sequence[float | None]) -> None:
        self.number = number
        self.bandit = Bandit(experiment, running=False)
        self.measures = self.bandit.measures
        self.origins = [origin or 0.0 for origin in origins]
        self.window = experiment.window_seconds
        self.watched = frozenset(self.bandit.oversight.watch.slots)
        self._feeds, self._failed = feeds_of(self.measures, self.bandit.oversight.watch)
        fed = [*self._feeds.items(), (FAILED, self._failed)]
        self.read_later = frozenset(name for name, feeds in fed if any(feed.slot in self.watched for feed in feeds))

    def feeds(self, metric: str, value: float) -> list[Feed]:
        """Return the measures that a value goes to."""
        return self._failed if metric == FAILED and value else self._feeds.get(metric, [])

    def moment(self, slot: int, since: float, place: int) -> int:
        """Return the moment until which a visit of a user waits, in windows of the clock; 0: it counts at once.

        Args:
            slot: The measure.
            since: When the user was assigned.
            place: Which window after the first one.
        """
        if self.window is None or self.measures[slot].per_user != "any":
            return 0
        return math.ceil(since / self.window) + place + 1


class Calls:
    """A user's calls on a measure in one window.

    Attributes:
        values: What each call counts.
        replaced: What calls counted before they were corrected.
        first: What the first one counts; None: no call is marked as the first.
    """

    __slots__ = ("first", "replaced", "values")

    def __init__(self) -> None:
        self.values: list[float] = []
        self.replaced: list[float] = []
        self.first: float | None = None

    @property
    def state(self) -> tuple[int, float, float]:
        """Calls, total and first value; NaN: no call is marked as the first."""
        return len(self.values), math.fsum(self.values), math.nan if self.first is None else self.first

    @staticmethod
    def shown(calls: int, total: float, first: float) -> str:
        """Return a state as people read it."""
        return f"{total!r}" if calls == 1 else f"{calls} calls, total {total!r}, first {first!r}"

    def __str__(self) -> str:
        return self.shown(*self.state)

    def make(self, calls: int, total: float, first: float) -> bool:
        """Whether they make a stored state: exactly that of one call, but totals of several within rounding."""
        size = sum(map(abs, self.values)) + sum(map(abs, self.replaced))
        rounding = 0.0 if calls == 1 else TOLERANCE * size
        return (calls, first) == (len(self.values), self.first) and abs(math.fsum(self.values) - total) <= rounding

    def reach(self, measure: Measure) -> tuple[float, float]:
        """Return the least and the largest outcome that they can have made so far."""
        every = self.values + self.replaced
        low, high = min(every), max(every)
        if measure.per_user == "sum":
            low, high = sum(value for value in every if value < 0.0), sum(value for value in every if value > 0.0)
        return (low, high) if measure.cap is None else (min(low, measure.cap), min(high, measure.cap))


@dataclass(frozen=True, slots=True)
class Visited:
    """A later window in which a user has a value.

    Attributes:
        number: 2 for the first such window, then one more each.
        place: Which window after the first one it is.
        calls: What happened in it.
        sure: Whether these are its calls in any case: which of several values of one instant came first is not stored.
    """

    number: int
    place: int
    calls: Calls
    sure: bool

    @property
    def window(self) -> int | None:
        """The window that guardrails count it in; None: they do not look at it."""
        return window_of(self.number)

    def makes(self, number: int, place: int, calls: int, total: float, first: float) -> bool:
        """Whether it is the stored one."""
        same = (number, place, calls) == (self.number, self.place, len(self.calls.values))
        return same and (not self.sure or self.calls.make(calls, total, first))

    def __str__(self) -> str:
        return f"visit {self.number}: {self.calls}"


def calls_of(
    rules: Rules, rows: Sequence[Row], differ: Callable[[str, object, object], object]
) -> tuple[dict[int, Calls], dict[int, list[tuple[float, float]]]]:
    """Return a user's calls by measure, and (time, call) of those in later windows.

    Args:
        rules: Of the experiment.
        rows: All of the user, by request, metric and revision.
        differ: Told of what is wrong with a row: what, as stored, as it should be.
    """
    calls: dict[int, Calls] = defaultdict(Calls)
    later: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for (request, metric), revisions in groupby(rows, key=_BY_KEY):
        *before, row = revisions
        _, _, revision, value, at, reason, firsts = row
        if revision != len(before):
            differ(f"revisions of {metric} in request {request!r}", revision + 1, len(before) + 1)
        if reason is not None and reason != RETURNED:
            continue
        feeds = rules.feeds(metric, value)
        if not feeds:
            differ(f"credit of {metric} in request {request!r}", "counted", "read by no measure")
        for feed in feeds:
            call, is_first = feed.call(value), firsts >> feed.slot & 1
            if reason is None and (is_first or rules.window is not None):
                mine = calls[feed.slot]
                mine.values.append(call)
                mine.replaced += [feed.call(old[3]) for old in before]
                if is_first:
                    mine.first = call
            elif feed.slot in rules.watched:
                later[feed.slot].append((at, call))
    return calls, later


def visits_of(rules: Rules, since: float, timed_calls: Sequence[tuple[float, float]]) -> Iterator[Visited]:
    """Yield the later windows of a user on a measure, in their order.

    Args:
        rules: Of the experiment.
        since: When the user was assigned.
        timed_calls: Time and call.
    """
    in_order = sorted(timed_calls, key=_BY_TIME)
    if rules.window is None:  # each value is a visit
        for number, (at, call) in enumerate(in_order, 2):
            yield _visited(number, 1, [call], [other for time, other in in_order if time == at])
        return
    window = rules.window
    by_place = groupby(in_order, key=lambda timed: max(int((timed[0] - since) // window), 1))
    for number, (place, group) in enumerate(by_place, 2):
        timed = list(group)
        yield _visited(number, place, [call for _, call in timed], [c for time, c in timed if time == timed[0][0]])


def _visited(number: int, place: int, values: list[float], at_once: list[float]) -> Visited:
    calls = Calls()
    calls.values, calls.first = values, values[0]
    return Visited(number, place, calls, sure=len(set(at_once)) == 1)
