"""What a client wrote down: users, rewards and changes, with what it was told of them, and what it may be told next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.server.running import declaration

CONTROL, TREATMENT = "A", "B"
CONFIGS = {variant["key"]: variant["config"] for variant in declaration()["variants"]}

REASONS = ("new", "sticky", "moved", "forced", "not_enrolled", "fallback")
"""Reasons of answers to `choose` while nothing is paused or stopped."""

STORED = "stored"
"""What became of a value whose first answer is not known: it counts, or counted."""

COUNTS = ("accepted", STORED)

IN_FLIGHT_STORED, IN_FLIGHT_NOT_STORED = "in flight, stored", "in flight, not stored"
"""What had become of a reward without an answer."""


@dataclass(slots=True, eq=False)
class Known:
    """A user, as far as a client was told.

    Attributes:
        key: The experiment.
        user: The user id.
        place: Variant, propensity and epoch; None: never told.
        is_new: Whether this client was the one that was told `new`.
        kept_at: When the latest request was sent that was answered with this place, seconds since 1970.
        moved: Whether the user was moved to control.
        forced: The variant that this client gave the user by hand.
        unsure: Whether a change of that has had no answer.
    """

    key: str
    user: str
    place: tuple[str, float, int] | None = None
    is_new: bool = False
    kept_at: float = 0.0
    moved: bool = False
    forced: str | None = None
    unsure: bool = False

    def fault(self, answer: Mapping[str, Any]) -> str | None:
        """Return what is wrong with an answer to `choose`, or None."""
        reason, variant = answer["reason"], answer["variant"]
        place = variant, answer["propensity"], answer["epoch"]
        given = ("forced", self.forced) if self.forced is not None and not self.unsure else None
        found = {
            "has an unknown reason": reason not in REASONS,
            "has another config than their variant": answer["config"] != CONFIGS[variant],
            "is forced, and gets something else": given is not None
            and (reason, variant) != given
            and reason != "fallback",
            "is not forced": reason == "forced" and self.forced is None and not self.unsure,
            "is outside the experiment after having been in it": reason == "not_enrolled" and self.place is not None,
            "is assigned twice": reason == "new" and self.place is not None,
            "has another place than before": reason == "sticky" and self.place not in (None, place),
            "comes back from control": reason in ("new", "sticky", "not_enrolled") and self.moved,
            "gets a treatment without having it": reason in ("moved", "not_enrolled", "fallback")
            and variant != CONTROL,
        }
        return next((fault for fault, is_so in found.items() if is_so), None)


@dataclass(slots=True, eq=False)
class Sent:
    """A reward.

    Attributes:
        known: Its user.
        request_id: Its id, used for it alone.
        metrics: Values by metric as first sent.
        variant: What was said to have been served.
        became: What became of each value: "accepted", "late", the reason why it counts for nobody, or `STORED`;
            empty: never told.
        lost: Attempts that have had no answer.
        corrections: Values that replaced the first one, by metric.
        pending: A metric and the value that was to replace it, where no answer came.
    """

    known: Known
    request_id: str
    metrics: Mapping[str, float]
    failed: bool
    variant: str | None
    became: dict[str, str] = field(default_factory=dict)
    lost: int = 0
    corrections: dict[str, list[float]] = field(default_factory=dict)
    pending: tuple[str, float] | None = None

    @property
    def names(self) -> set[str]:
        """What is stored of it: a failed call is a value as well."""
        return {*self.metrics, "failed"} if self.failed else set(self.metrics)

    def values(self, metric: str) -> list[float]:
        """All values of a metric, the valid one last."""
        first = 1.0 if metric == "failed" else self.metrics[metric]
        return [first, *self.corrections.get(metric, [])]

    def body(self) -> dict[str, object]:
        """The reward as it is sent again: with its valid values."""
        body: dict[str, object] = {
            "experiment": self.known.key,
            "user_id": self.known.user,
            "request_id": self.request_id,
            "metrics": {metric: self.values(metric)[-1] for metric in self.metrics},
        }
        if self.variant is not None:
            body["variant"] = self.variant
        return {**body, "failed": True} if self.failed else body

    def fault(self, became: Mapping[str, str]) -> str | None:
        """Return what is wrong with an answer, given what became of each value, or None."""
        if self.became:
            expected = {name: "duplicate" if what in COUNTS else what for name, what in self.became.items()}
            return None if became == expected else f"should be answered with {expected}"
        if became.keys() != self.names:
            return f"should be answered for {sorted(self.names)}"
        if self.lost:  # what was stored by an earlier attempt was right then
            return None
        allowed = self._may_become()
        wrong = {
            name: what
            for name, what in became.items()
            if what not in allowed and not (what == "failed" and self.failed and name != "failed")
        }
        return f"may be answered with {sorted(allowed)}" if wrong else None

    def _may_become(self) -> set[str]:
        known = self.known
        if known.unsure:
            return {"accepted", "late", "moved", "not_enrolled", "other_variant", "forced"}
        if known.forced is not None:
            return {"forced"}
        if known.place is None:  # another client may know more
            return {"accepted", "late", "moved", "not_enrolled", "other_variant"}
        if self.variant not in (None, known.place[0]):
            return {"other_variant"}
        return {"moved"} if known.moved else {"accepted", "late", "moved"}


@dataclass(slots=True, eq=False)
class Act:
    """A change of an experiment, under a reason of its own.

    Attributes:
        key: The experiment.
        reason: Its reason.
        certain: Whether it was acknowledged and changed something, so that there is an event of it.
    """

    key: str
    reason: str
    certain: bool = False
