"""Interactions: what an application's model was asked and answered, stored as rows, whose metrics are rewards too."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from bandit import Experiment, Receipt
from bandit.measures import metric_fields

LONGEST_TEXT = 100_000
"""Characters of a text, at most."""

COLUMNS = (
    "request_id", "user_id", "at", "epoch", "arm", "version", "reason", "variant_id", "model_name",
    "system_prompt_version",
    "latency_ms", "prompt_tokens", "completion_tokens", "safety_flag", "user_feedback_score", "cost_usd", "prices",
    "failed", "user_input", "model_output", "digest",
)  # fmt: skip
"""Of the table, in the order of `Row`."""

INSERT = (
    f"INSERT INTO interactions (experiment, {', '.join(COLUMNS)})"  # noqa: S608 - our own names
    f" VALUES (?, {', '.join('?' * len(COLUMNS))})"
)

ERASE = (
    "UPDATE interactions SET user_input = NULL, model_output = NULL, digest = NULL, erased_at = ?"
    " WHERE experiment = ? AND user_id = ? AND erased_at IS NULL"
)


_ERASE_REASONING = (
    "UPDATE judgements SET reasoning = NULL"
    " WHERE experiment = ?1 AND n IN (SELECT n FROM interactions WHERE experiment = ?1 AND user_id = ?2)"
)


class Interaction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What `POST /interactions` says; None where it says nothing.

    Attributes:
        request_id: Makes it idempotent.
        user_id: Whose it is.
        variant_id: The variant that was really served.
        model_name: The model that answered.
        system_prompt_version: The prompt's version.
        latency_ms: Milliseconds until the answer was there.
        prompt_tokens: Tokens that went in.
        completion_tokens: Tokens that came out.
        safety_flag: Whether something in it is unsafe.
        user_feedback_score: What the user thinks of it.
        cost_usd: US dollars, by the price table: nobody tells it.
        prices: Version of that table.
        failed: Whether there was no answer (time-out, crash): all else of it is void as a metric.
        user_input: What was asked.
        model_output: What was answered.
    """

    request_id: str
    user_id: str
    variant_id: str | None = None
    model_name: str | None = None
    system_prompt_version: str | None = None
    latency_ms: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    safety_flag: bool | None = None
    user_feedback_score: float | bool | None = None
    cost_usd: float | None = None
    prices: str | None = None
    failed: bool | None = None
    user_input: str | None = None
    model_output: str | None = None

    def metrics(self, experiment: Experiment) -> dict[str, object]:
        """Return the values that it has of an experiment's metrics, as a reward has them."""
        values = {metric: getattr(self, field) for metric, field in metric_fields(experiment).items()}
        return {metric: value for metric, value in values.items() if value is not None}

    def digest(self) -> str:
        """Return a number that another interaction does not have; prices are no part of what was told."""
        told = msgspec.structs.replace(self, cost_usd=None, prices=None)
        return hashlib.sha256(msgspec.json.encode(told)).hexdigest()


class Logged(NamedTuple):
    """What became of an interaction.

    Attributes:
        status: Whether it was stored, or came before and nothing changed.
        variant: The arm that it counts for, or None.
        reason: Why it counts for none, or None.
        receipt: What became of its metrics.
    """

    status: Literal["stored", "duplicate"]
    variant: str | None
    reason: str | None
    receipt: Receipt


class Known(NamedTuple):
    """A stored interaction, as far as it matters for one that comes under the same request id.

    Attributes:
        user_id: Whose it is.
        arm: The arm that it counts for, or None.
        reason: Why it counts for none.
        digest: Of what it said, None if that was erased.
    """

    user_id: str
    arm: int | None
    reason: str | None
    digest: str | None


Row = tuple[object, ...]
"""Values of `COLUMNS`."""


def row_of(told: Interaction, at: float, place: tuple[int, int, int] | None, reason: str | None) -> Row:
    """Return the row of an interaction.

    Args:
        told: What was said.
        at: When it came, seconds since 1970.
        place: Epoch, arm and version of the arm's config that it counts for, or None.
        reason: Why it counts for none.
    """
    epoch, arm, version = place or (None, None, None)
    return (
        told.request_id, told.user_id, at, epoch, arm, version, reason, told.variant_id, told.model_name,
        told.system_prompt_version, told.latency_ms, told.prompt_tokens, told.completion_tokens, told.safety_flag,
        told.user_feedback_score, told.cost_usd, told.prices, told.failed, told.user_input, told.model_output,
        told.digest(),
    )  # fmt: skip


def without_texts(row: Row) -> Row:
    """Return a row without what was asked and answered, and without what would tell of it."""
    gone = {"user_input", "model_output", "digest"}
    return tuple(None if name in gone else value for name, value in zip(COLUMNS, row, strict=True))


def known(rows: Iterable[tuple[Any, ...]]) -> Mapping[str, Known]:
    """Return stored interactions by request id: rows of it and of what `Known` has."""
    return {request: Known(*rest) for request, *rest in rows}


def erase(db: sqlite3.Connection, experiment: int, user_id: str, now: float) -> int:
    """Forget the texts of a user's interactions, in the transaction that is open; return how many had any.

    Metrics, and with them all counts, stay. In the file zeros take the place of the texts; the write-ahead log may hold
    them until it is written anew, and so may backups.
    """
    db.execute("PRAGMA secure_delete = ON")
    try:
        db.execute(_ERASE_REASONING, (experiment, user_id))  # a judge may have repeated them
        return db.execute(ERASE, (now, experiment, user_id)).rowcount
    finally:
        db.execute("PRAGMA secure_delete = OFF")
