"""The bodies of `POST /choose` and `POST /reward` and of changes: decoded and documented from one description."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, TypeVar

import msgspec

from bandit import InvalidInput, Problem
from bandit.wording import received, unknown_name
from server.problems import Refused

Id = Annotated[
    str,
    msgspec.Meta(min_length=1, description="1 to 200 bytes of UTF-8 without control characters, compared as bytes"),
]
Value = Annotated[Any, msgspec.Meta(extra_json_schema={"type": ["number", "boolean"]})]


class ChooseRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which variant does a user get?"""

    experiment: Annotated[str, msgspec.Meta(description="key of the experiment")]
    user_id: Id | None = None
    """Made by the server and returned if absent."""
    request_id: Id | None = None
    """Echoed; made by the server if absent."""
    attributes: dict[str, Any] | None = None
    """Accepted, not used yet."""


class ChooseAnswer(msgspec.Struct, kw_only=True):
    """The variant to serve."""

    request_id: str
    user_id: str
    experiment: str
    variant: str
    config: dict[str, Any]
    propensity: Annotated[
        float | None, msgspec.Meta(description="probability with which the user's first draw gave this variant")
    ]
    epoch: int | None
    reason: Annotated[
        str,
        msgspec.Meta(
            extra_json_schema={"enum": ["new", "sticky", "moved", "forced", "not_enrolled", "stopped", "fallback"]}
        ),
    ]


class RewardRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What happened to a user. Of a key that comes twice in one object the last value counts."""

    experiment: Annotated[str, msgspec.Meta(description="key of the experiment")]
    user_id: Id
    request_id: Annotated[
        str, msgspec.Meta(min_length=1, description="makes the call idempotent per (experiment, request_id, metric)")
    ]
    metrics: dict[str, Value] = {}
    variant: Annotated[str | None, msgspec.Meta(description="the variant that was really served")] = None
    failed: Annotated[
        bool | None, msgspec.Meta(description="the call failed (time-out, crash); true voids its other metrics")
    ] = None
    replace: Annotated[bool, msgspec.Meta(description="correct an earlier value inside the window")] = False


Ignored = Annotated[
    str,
    msgspec.Meta(
        extra_json_schema={
            "enum": [
                "draft",
                "paused",
                "stopped",
                "not_enrolled",
                "moved",
                "forced",
                "other_variant",
                "failed",
                "unused",
            ]
        }
    ),
]


class RewardAnswer(msgspec.Struct, kw_only=True):
    """What became of each metric."""

    accepted: Annotated[list[str], msgspec.Meta(description="stored and counted")]
    duplicate: Annotated[list[str], msgspec.Meta(description="came before; nothing changed")]
    late: Annotated[
        list[str],
        msgspec.Meta(
            description="after the user's window; stored, not learned. What a guardrail still reads is accepted"
        ),
    ]
    ignored: Annotated[dict[str, Ignored], msgspec.Meta(description="stored, counted for nobody: reason by metric")]


Reason = Annotated[str, msgspec.Meta(description="why, for the events: one line of at most 2,000 characters")]


class ReasonRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Why something is changed."""

    reason: Reason = ""


class StopRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How to stop."""

    serve: Annotated[str | None, msgspec.Meta(description="variant for everybody afterwards; default control")] = None
    now: Annotated[bool, msgspec.Meta(description="at once, instead of when each known user's window closes")] = False
    reason: Reason = ""


class ForceRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which variant a user is given by hand."""

    variant: Annotated[str, msgspec.Meta(description="any variant, a suspended one too")]
    reason: Reason = ""


class ForceAnswer(msgspec.Struct, kw_only=True):
    """Which variant a user is given by hand."""

    experiment: str
    user_id: str
    variant: Annotated[str | None, msgspec.Meta(description="null: none, the ordinary rules hold")]


class VersionRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Another version of a variant. A key that comes twice in one object is refused."""

    key: Annotated[str, msgspec.Meta(description="which variant: any but control")]
    config: Annotated[
        dict[str, Any],
        msgspec.Meta(description="what the application gets from now on, in place of the whole config of before"),
    ]
    reason: Reason = ""


class PatchRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What may change while an experiment runs."""

    exposure: Annotated[
        float | None,
        msgspec.Meta(
            description="share of users that is let in, from 0 to 1; it holds until the next change. null: the ramp "
            "goes on from its step, or else the declared share holds again. Who is in stays in"
        ),
    ]
    reason: Reason = ""


class MoveAnswer(msgspec.Struct, kw_only=True):
    """The new state."""

    key: str
    state: Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["draft", "running", "paused", "stopped"]})]
    serve: Annotated[str | None, msgspec.Meta(description="what everybody gets after a stop; null before")]
    notes: list[str]


ALL: tuple[type[msgspec.Struct], ...] = (
    ChooseRequest,
    ChooseAnswer,
    RewardRequest,
    RewardAnswer,
    ReasonRequest,
    StopRequest,
    MoveAnswer,
    ForceRequest,
    ForceAnswer,
    VersionRequest,
    PatchRequest,
)

_T = TypeVar("_T", bound=msgspec.Struct)


def decode(body: bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
    """Return a body as the decoder's type.

    Raises:
        Refused: It is not JSON (400).
        InvalidInput: It is JSON of another form; every field at fault is named.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        fault = str(error)
    except (ValueError, RecursionError) as error:
        raise not_json(error) from error
    faults = _faults(body, decoder.type)
    raise InvalidInput(faults or [Problem("", fault)])


def not_json(error: Exception) -> Refused:
    """Return the refusal of a text that is no JSON."""
    what = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
    return Refused(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {what}")


def _faults(body: bytes, kind: type[msgspec.Struct]) -> list[Problem]:
    """Return what keeps a JSON text from being of this kind, field by field."""
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        if isinstance(error, msgspec.ValidationError):  # such as a number beyond every double
            return [Problem("", str(error))]
        raise not_json(error) from error
    if not isinstance(document, dict):
        return [Problem("", f"received {received(document)}, allowed: an object")]
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    faults = [
        Problem(name if name.isprintable() else received(name), f"unknown field; {unknown_name(name, fields)}")
        for name in document
        if name not in fields
    ]
    for name, field in fields.items():
        if name not in document:
            if field.required:
                faults.append(Problem(name, "missing"))
            continue
        try:
            msgspec.convert(document[name], field.type)
        except msgspec.ValidationError as error:
            faults.append(Problem(name, f"received {received(document[name])}; {error}"))
    return faults
