"""What a client is told when something is refused: RFC 9457 documents, one table from error to status."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus

from bandit import BanditError, ConflictingReward, InvalidInput, NoAssignment, Problem, WrongState
from server.errors import ExperimentExists, NoSuchVariant, StoreUnavailable, UnknownExperiment

Answer = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers, body."""

MEDIA_TYPE = "application/problem+json"

RETRY_AFTER = 1
"""Seconds after which a request that the store could not take may come again."""

_MOST_ERRORS = 100


class Refused(BanditError):
    """A request that HTTP itself refuses, with its status."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status


_TABLE: tuple[tuple[type[BanditError], int, str, str], ...] = (
    (UnknownExperiment, 404, "unknown-experiment", "No such experiment"),
    (NoSuchVariant, 404, "unknown-variant", "No such variant"),
    (ExperimentExists, 409, "experiment-exists", "The experiment exists"),
    (ConflictingReward, 409, "conflicting-reward", "The request id was used with another value or user"),
    (NoAssignment, 409, "no-assignment", "The user has no variant yet"),
    (WrongState, 409, "wrong-state", "The experiment's state does not allow this"),
    (InvalidInput, 422, "invalid-input", "The request is malformed"),
    (StoreUnavailable, 503, "store-unavailable", "The store is not available"),
)
"""Error, status, last part of the type, title."""


def answer_to(error: BanditError) -> Answer:
    """Return the problem document that answers an error."""
    if isinstance(error, Refused):
        return problem(error.status, str(error))
    for kind, status, name, title in _TABLE:
        if isinstance(error, kind):
            faults = error.problems if isinstance(error, InvalidInput) else ()
            return problem(status, _detail(error, faults), name=name, title=title, errors=faults)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))


def _detail(error: BanditError, faults: Sequence[Problem]) -> str:
    if not faults:
        return str(error)
    more = f" (and {len(faults) - 1} more, see errors)" if len(faults) > 1 else ""
    return f"{faults[0]}{more}"


def problem(
    status: int, detail: str, *, name: str | None = None, title: str | None = None, errors: Sequence[Problem] = ()
) -> Answer:
    """Return a problem document.

    Args:
        status: HTTP status.
        detail: What was received, what is allowed, what to do.
        name: Last part of the type; None: the status says it all.
        title: The kind of problem in words; default: the status's phrase.
        errors: Faults by field.
    """
    document: dict[str, object] = {
        "type": "about:blank" if name is None else f"urn:adaptive-bandit:problem:{name}",
        "title": HTTPStatus(status).phrase if title is None else title,
        "status": int(status),
        "detail": detail,
    }
    if errors:
        document["errors"] = [{"field": e.field, "message": e.message} for e in errors[:_MOST_ERRORS]]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        document["retry_after"] = RETRY_AFTER  # an item of a batch has no header of its own
    # The standard library's JSON is pure ASCII, so no text from outside can make this fail.
    body = json.dumps(document).encode()
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append((b"retry-after", b"%d" % RETRY_AFTER))
    return int(status), headers, body


SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "retry_after": {"type": "integer", "description": "seconds after which it may come again (503)"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
"""JSON Schema of a problem document."""
