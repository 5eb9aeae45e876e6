"""What constrains the arms of an experiment, for people: states of variants, the ramp, events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from bandit import Bandit, Experiment
from bandit.epochs import Epoch
from bandit.events import SYSTEM, Event
from bandit.json_values import content_hash
from bandit.limits import limit_in_words


def moment(at: float | None) -> str | None:
    """Return a time as RFC 3339 text."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def by_arm(experiment: Experiment, values: tuple[float, ...]) -> dict[str, float]:
    """Return values by variant."""
    return dict(zip(experiment.arms, values, strict=True))


def variant_state(bandit: Bandit, arm: int) -> dict[str, Any]:
    """Return whether a variant may get users, and what the guardrails say of it."""
    experiment, generation = bandit.experiment, bandit.timeline.latest[arm]
    suspended = generation.ended == "suspended"
    states = [bandit.oversight.states.get((row, arm), ("unknown", None)) for row in range(len(experiment.guardrails))]
    return {
        "variant": experiment.arms[arm],
        # The last epoch that could give it users is the one before.
        "suspended": {"reason": generation.reason, "since_epoch": (generation.last_epoch or 0) + 1}
        if suspended
        else None,
        "generation": generation.number,
        "version": len(bandit.versions(experiment.arms[arm])),
        "config_hash": content_hash(experiment.variants[arm].config),
        "guardrails": [
            {"metric": rail.metric, "limit": limit_in_words(rail), "state": state, "since": moment(since)}
            for rail, (state, since) in zip(experiment.guardrails, states, strict=True)
        ],
    }


def ramp_state(bandit: Bandit) -> dict[str, Any] | None:
    """Return where an experiment is on its ramp; None without one."""
    ramp, rollout = bandit.ramp, bandit.experiment.rollout
    if rollout.ramp is None:
        return None
    started = bool(bandit.epochs)
    return {
        "steps": list(rollout.ramp),
        "step": ramp.step,
        "since": moment(ramp.since) if started else None,
        "by_hand": ramp.by_hand,
        "held": _held(bandit),
    }


def _held(bandit: Bandit) -> str | None:
    """Return why the next step is not taken, None if there is no next one."""
    if bandit.ramp.next_step(bandit.experiment) is None:
        return None
    if bandit.state != "running":
        return f"the experiment is {bandit.state}"
    return bandit.what_holds_the_ramp()


def events(bandit: Bandit, after: int, limit: int) -> list[dict[str, Any]]:
    """Return what changed, allocations included, in the order in which it happened.

    An event knows the epoch that was current, and an epoch begins between the events of the one before and its own.
    So both together have one order, new ones only ever come at its end, and places in it can be numbers.

    Args:
        bandit: The experiment.
        after: Number of the last one that is known already; 0: none.
        limit: Most that are returned.
    """
    both: list[Epoch | Event] = [*bandit.epochs, *bandit.events]
    both.sort(key=_place)  # keeps the order of events in one epoch
    return [
        {"number": number, **(_event(what) if isinstance(what, Event) else _allocation(bandit.experiment, what))}
        for number, what in enumerate(both[after : after + limit], after + 1)
    ]


def _place(what: Epoch | Event) -> tuple[int, bool]:
    """Return what events and epochs are ordered by: an epoch begins before what happens in it."""
    return (what.epoch, True) if isinstance(what, Event) else (what.allocation.epoch, False)


def _event(event: Event) -> dict[str, Any]:
    return {
        "at": moment(event.at),
        "kind": event.kind,
        "actor": event.actor,
        "variant": event.variant,
        "epoch": event.epoch,
        "reason": event.reason,
        "evidence": dict(event.evidence),
    }


def _allocation(experiment: Experiment, epoch: Epoch) -> dict[str, Any]:
    allocation = epoch.allocation
    return {
        "at": moment(epoch.started_at),
        "kind": "allocation",
        "actor": SYSTEM,
        "variant": None,
        "epoch": allocation.epoch,
        "reason": "",
        "evidence": {
            "probabilities": by_arm(experiment, allocation.probabilities),
            "learned_epochs": allocation.learned_epochs,
        },
    }
