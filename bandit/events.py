"""What changed in an experiment, when, by whom and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bandit.errors import InvalidInput, Problem

EventKind = Literal[
    "started", "paused", "stopped", "suspended", "resumed", "changed", "guardrail", "ramp", "forced", "unforced"
]
"""started, paused, stopped: the experiment's life. suspended, resumed, changed: a variant was taken away from users,
was let in again, got another configuration. guardrail: the state of a variant on a guardrail changed. ramp: another
share of users is let in. forced, unforced: a user was given a variant by hand, or no longer."""

LONGEST_REASON = 2000
"""Characters of a reason."""

SYSTEM = "system"
"""The actor of what the engine does by itself."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change.

    Attributes:
        kind: What changed.
        at: When, seconds of the experiment's clock; None: there is none.
        epoch: Number of the epoch that was current; 0: none yet.
        actor: Who did it: "system", or a name.
        variant: Key of the variant that it is about, or None.
        reason: Why, in words; empty if nobody said.
        evidence: What it rests on, plain values by name.
    """

    kind: EventKind
    at: float | None
    epoch: int
    actor: str = SYSTEM
    variant: str | None = None
    reason: str = ""
    evidence: Mapping[str, object] = field(default_factory=dict)


def check_reason(reason: str) -> None:
    """Refuse what cannot be a reason.

    Raises:
        InvalidInput: It is not one line of text, or too long.
    """
    if not isinstance(reason, str) or len(reason) > LONGEST_REASON or not reason.isprintable():
        shown = f"text of {len(reason)} characters" if isinstance(reason, str) else repr(reason)
        message = f"received {shown}, allowed: one line of text of at most {LONGEST_REASON} characters"
        raise InvalidInput([Problem("reason", message)])
