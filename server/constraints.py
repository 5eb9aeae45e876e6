"""What constrains the arms of an experiment, in the store: generations, states, forced users, events, the ramp."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from bandit import Bandit, Experiment
from bandit.events import Event
from bandit.generations import Generation, at_start
from bandit.guardrails import GuardrailVerdict
from bandit.ramp import Ramp

States = Mapping[tuple[int, int], tuple[GuardrailVerdict, float | None]]
"""By row of the guardrail and arm: the state, and since when."""


@dataclass(frozen=True, slots=True)
class Constraints:
    """All of it as it is at one moment, to see later what changed.

    Attributes:
        generations: All generations of the arms.
        states: States of the guardrails.
        forced: Arm of each user to whom it was given by hand.
        n_events: How many events there are.
    """

    generations: tuple[Generation, ...]
    states: States
    forced: Mapping[str, int]
    n_events: int

    @classmethod
    def of(cls, bandit: Bandit) -> Constraints:
        """Return those of an experiment."""
        return cls(
            tuple(bandit.timeline.generations), dict(bandit.oversight.states), dict(bandit.forced), len(bandit.events)
        )  # fmt: skip


class Held(NamedTuple):
    """What a store holds of it."""

    generations: list[Generation]
    forced: dict[str, int]
    states: list[tuple[int, int, GuardrailVerdict, float | None]]
    events: list[Event]


_GENERATION = (
    "REPLACE INTO generations (experiment, place, arm, number, first_epoch, last_epoch, closed_epochs, ended, broken,"
    " reason) VALUES (:experiment, :place, :arm, :number, :first_epoch, :last_epoch, :closed_epochs, :ended, :broken,"
    " :reason)"
)
_EVENT = (
    "INSERT INTO events (experiment, number, kind, at, epoch, actor, variant, reason, evidence)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def write(
    db: sqlite3.Connection, experiment: int, before: Constraints, now: Constraints, events: Sequence[Event]
) -> None:
    """Write what changed.

    Args:
        db: Inside a transaction.
        experiment: Its number in the store.
        before: As it is stored.
        now: As it is to be stored.
        events: Those that came since.
    """
    if now.generations != before.generations:  # a handful; before the first change there are none in the store
        rows = [
            {"experiment": experiment, "place": place, **asdict(generation), "broken": json.dumps(generation.broken)}
            for place, generation in enumerate(now.generations)
        ]
        db.executemany(_GENERATION, rows)
    if now.states != before.states:
        db.execute("DELETE FROM guardrail_states WHERE experiment = ?", (experiment,))
        db.executemany(
            "INSERT INTO guardrail_states (experiment, guardrail, arm, state, since) VALUES (?, ?, ?, ?, ?)",
            [(experiment, *place, *state) for place, state in now.states.items()],
        )
    if now.forced != before.forced:
        released = [(experiment, user) for user in before.forced.keys() - now.forced.keys()]
        db.executemany("DELETE FROM forced WHERE experiment = ? AND user_id = ?", released)
        given = [(experiment, user, arm) for user, arm in now.forced.items() if before.forced.get(user) != arm]
        db.executemany("REPLACE INTO forced (experiment, user_id, arm) VALUES (?, ?, ?)", given)
    db.executemany(
        _EVENT,
        [
            (
                experiment, number, event.kind, event.at, event.epoch, event.actor, event.variant, event.reason,
                json.dumps(event.evidence),
            )
            for number, event in enumerate(events, before.n_events + 1)
        ],
    )  # fmt: skip


def load(db: sqlite3.Connection, number: int, experiment: Experiment) -> Held:
    """Return what is stored of an experiment; before anything has changed all arms are as at the start."""
    generations = [
        Generation(arm, joined, first, last, closed, ended, tuple(json.loads(broken)), reason)
        for arm, joined, first, last, closed, ended, broken, reason in db.execute(
            "SELECT arm, number, first_epoch, last_epoch, closed_epochs, ended, broken, reason FROM generations"
            " WHERE experiment = ? ORDER BY place",
            (number,),
        )
    ]
    states = db.execute(
        "SELECT guardrail, arm, state, since FROM guardrail_states WHERE experiment = ? ORDER BY guardrail, arm",
        (number,),
    )
    events = db.execute(
        "SELECT kind, at, epoch, actor, variant, reason, evidence FROM events WHERE experiment = ? ORDER BY number",
        (number,),
    )
    return Held(
        generations or list(at_start(experiment)),
        dict(db.execute("SELECT user_id, arm FROM forced WHERE experiment = ?", (number,))),
        [(row, arm, state, _float(since)) for row, arm, state, since in states],
        [
            Event(kind, _float(at), epoch, actor, variant, reason, json.loads(evidence))
            for kind, at, epoch, actor, variant, reason, evidence in events
        ],
    )


RAMP = ("ramp_step", "ramp_first_epoch", "ramp_since", "exposure_by_hand")
"""Columns of `experiments` that hold a ramp, in the order of its fields."""


def ramp_row(ramp: Ramp) -> tuple[int, int, float, float | None]:
    """Return a ramp as the values of these columns."""
    return ramp.step, ramp.first_epoch, ramp.since, ramp.by_hand


def ramp_of(step: int, first_epoch: int, since: float, by_hand: float | None) -> Ramp:
    """Return a ramp from the values of these columns."""
    return Ramp(step, first_epoch, float(since), _float(by_hand))


def _float(value: float | None) -> float | None:
    # SQLite may give a REAL that holds a whole number back as an integer.
    return None if value is None else float(value)
