"""The ledger of a store, rebuilt from its rows and compared with what is stored."""

from __future__ import annotations

import json
import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from bandit import Experiment, parse_json
from bandit.inference.windows import looked_at_again, window_of
from bandit.ledger import exact_row
from bandit.measures import FAILED, Measure, N, measures_of
from bandit.outcomes import Outcome, outcome_value, with_call
from bandit.rewards import RETURNED
from server.schema import TERMS
from tests.server.harness import Difference

Cell = tuple[int, int]
"""Epoch and arm."""


def check_ledger(db: sqlite3.Connection, key: str) -> None:
    """Compare assignments, outcomes, visits and sums of an experiment with its rows of users and rewards.

    Raises:
        Difference: The first one that is found.
    """
    number, definition, origins = db.execute(
        "SELECT id, definition, origins FROM experiments WHERE key = ?", (key,)
    ).fetchone()
    _check_users(db, key, number)
    rebuilt = _Rebuilt(db, number, parse_json(definition))
    rebuilt.check_outcomes(f"'{key}': outcome")
    rebuilt.check_visits(f"'{key}': visit")
    rebuilt.check_sums(f"'{key}': sums", [origin or 0.0 for origin in json.loads(origins)])


def _check_users(db: sqlite3.Connection, key: str, number: int) -> None:
    """Compare the users counted per cell with those assigned and moved."""
    assigned = db.execute(
        "SELECT epoch, arm, count(*), count(moved_at) FROM assignments WHERE experiment = ? GROUP BY epoch, arm",
        (number,),
    )
    counted = db.execute(
        "SELECT epoch, arm, assigned, moved FROM cells WHERE experiment = ? AND assigned > 0", (number,)
    )
    _same(f"'{key}': users", _by_place(counted, 2), _by_place(assigned, 2))


class _Rebuilt:
    """Outcomes and visits as the rows of rewards say.

    Args:
        db: The store.
        number: Of the experiment.
        experiment: Its declaration.
    """

    def __init__(self, db: sqlite3.Connection, number: int, experiment: Experiment) -> None:
        self._db, self._number = db, number
        self._measures = measures_of(experiment)
        self._watched = set(looked_at_again(experiment).values())
        self._window = experiment.window_seconds
        self._cells: dict[str, Cell] = {}
        self.outcomes: dict[tuple[str, int], Outcome] = {}
        self.visits: dict[tuple[str, int], list[tuple[int, Outcome]]] = defaultdict(list)
        """Place and outcome of each later window of a (user, measure), in order."""
        since: dict[str, float] = {}
        for user, epoch, arm, at in db.execute(
            "SELECT user_id, epoch, arm, at FROM assignments WHERE experiment = ?", (number,)
        ):
            self._cells[user], since[user] = (epoch, arm), at
        firsts: dict[tuple[str, int], float] = {}
        # Of each value the valid revision, in the order in which calls were taken. The first call of a measure is told
        # by its bit.
        for user, metric, value, at, reason, bits, _ in db.execute(
            "SELECT user_id, metric, value, at, reason, firsts, max(revision) FROM rewards WHERE experiment = ?"
            " AND (reason IS NULL OR reason = ?) GROUP BY request_id, metric ORDER BY at, rowid",
            (number, RETURNED),
        ):
            for slot, call in self._calls(metric, value):
                is_first = bool(bits >> slot & 1)
                if reason is None and (is_first or self._window is not None):
                    self.outcomes[user, slot] = with_call(self.outcomes.get((user, slot)), call)
                    if is_first:
                        firsts[user, slot] = call
                elif slot in self._watched:
                    place = 1 if self._window is None else max(int((at - since[user]) // self._window), 1)
                    self._visit(user, slot, place, call)
        for who, outcome in self.outcomes.items():
            if who not in firsts:
                raise Difference(f"none of the calls of {who} is marked as the first one")
            if not isinstance(outcome, float):
                self.outcomes[who] = outcome[0], outcome[1], firsts[who]

    def _calls(self, metric: str, value: float) -> list[tuple[int, float]]:
        """Return what a value counts, by measure."""
        if metric == FAILED and value:
            return [(slot, m.failed) for slot, m in enumerate(self._measures) if m.failed is not None]
        return [(slot, m.call(value)) for slot, m in enumerate(self._measures) if m.metric == metric]

    def _visit(self, user: str, slot: int, place: int, call: float) -> None:
        visits = self.visits[user, slot]
        if self._window is not None and visits and visits[-1][0] == place:
            visits[-1] = place, with_call(visits[-1][1], call)
        else:
            visits.append((place, call))

    def check_outcomes(self, what: str) -> None:
        """Compare with the stored outcomes: calls exactly, totals but for rounding."""
        stored = self._stored("SELECT user_id, measure, calls, total, first FROM outcomes WHERE experiment = ?")
        _same(what, stored, {who: _parts(outcome) for who, outcome in self.outcomes.items()})

    def check_visits(self, what: str) -> None:
        """Compare with the stored latest visit of each user."""
        stored = self._stored("SELECT user_id, measure, number, place, calls, total FROM visits WHERE experiment = ?")
        rebuilt = {
            who: (len(visits) + 1.0, float(visits[-1][0]), *_parts(visits[-1][1])[:2])
            for who, visits in self.visits.items()
        }
        _same(what, stored, rebuilt)

    def check_sums(self, what: str, origins: list[float]) -> None:
        """Compare with the stored sums: users exactly, sums but for rounding, those of closed epochs exactly."""
        terms = ", ".join(TERMS)
        ys: dict[tuple[int, ...], list[float]] = defaultdict(list)
        again: dict[tuple[int, ...], list[float]] = defaultdict(list)
        exact: dict[tuple[int, ...], list[float]] = defaultdict(list)
        for (user, slot), outcome in self.outcomes.items():
            ys[*self._cells[user], slot].append(outcome_value(self._measures[slot], outcome))
        for (user, slot), visits in self.visits.items():
            for visit, (_, outcome) in enumerate(visits, 2):
                window = window_of(visit)
                if window is not None:
                    again[*self._cells[user], slot, window].append(outcome_value(self._measures[slot], outcome))
        for user, slot, calls, total, first in self._db.execute(
            "SELECT user_id, measure, calls, total, first FROM outcomes"
            " JOIN assignments USING (experiment, user_id) JOIN epochs USING (experiment, epoch)"
            " WHERE experiment = ? AND closed_at IS NOT NULL",
            (self._number,),
        ):
            outcome = float(total) if calls == 1 else (calls, total, first)
            exact[*self._cells[user], slot].append(outcome_value(self._measures[slot], outcome))

        stored = self._stored(f"SELECT epoch, arm, measure, {terms} FROM sums WHERE experiment = ?", 3)  # noqa: S608 - our own names
        _same(what, stored, self._sums(ys, origins))
        closed = self._sums(exact, origins)
        _same(f"{what} of closed epochs", {place: stored[place] for place in closed}, closed, rounding=0.0)
        both = " UNION ALL ".join(
            f"SELECT epoch, arm, measure, visit_window, {terms} FROM {table} WHERE experiment = ?1"  # noqa: S608 - our own names
            for table in ("returning_sums", "waiting_sums")
        )
        summed = ", ".join(f"sum({term})" for term in TERMS)
        came_back = self._stored(
            f"SELECT epoch, arm, measure, visit_window, {summed} FROM ({both}) GROUP BY 1, 2, 3, 4",  # noqa: S608 - our own names
            4,
        )
        _same(f"{what} of those who came back", came_back, self._sums(again, origins))

    def _sums(
        self, ys: Mapping[tuple[int, ...], list[float]], origins: list[float]
    ) -> dict[tuple[Any, ...], tuple[float, ...]]:
        def row(measure: Measure, origin: float, those: list[float]) -> tuple[float, ...]:
            return tuple(exact_row(measure, origin, those))

        return {place: row(self._measures[place[2]], origins[place[2]], those) for place, those in ys.items()}

    def _stored(self, sql: str, n_places: int = 2) -> dict[tuple[Any, ...], tuple[float, ...]]:
        return _by_place(self._db.execute(sql, (self._number,)), n_places)


def _parts(outcome: Outcome) -> tuple[float, float, float]:
    return (1.0, outcome, outcome) if isinstance(outcome, float) else (float(outcome[0]), outcome[1], outcome[2])


def _by_place(rows: Iterable[tuple[Any, ...]], n_places: int) -> dict[tuple[Any, ...], tuple[float, ...]]:
    """Return numbers by the first columns; terms that a measure does not have are left out."""
    return {row[:n_places]: tuple(float(term) for term in row[n_places:] if term is not None) for row in rows}


def _same(
    what: str,
    stored: Mapping[tuple[Any, ...], tuple[float, ...]],
    rebuilt: Mapping[tuple[Any, ...], tuple[float, ...]],
    rounding: float = 1e-9,
) -> None:
    """Compare two tables whose rows begin with a count, which has to be exact."""
    if stored.keys() != rebuilt.keys():
        place = sorted(stored.keys() ^ rebuilt.keys())[0]
        where = "stored, and not in the rows" if place in stored else "in the rows, and not stored"
        raise Difference(f"{what} of {place} is {where}")
    for place, numbers in rebuilt.items():
        held = stored[place]
        near = all(math.isclose(a, b, rel_tol=rounding, abs_tol=rounding) for a, b in zip(held, numbers, strict=True))
        if held[N] != numbers[N] or not near:
            raise Difference(f"{what} of {place} is stored as {held}, and the rows say {numbers}")
