"""The bodies of `POST /choose` and `POST /reward` and of changes: decoded and documented from one description."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from bandit import InvalidInput, Problem
from bandit.experiment_rules import MOST_GUARDRAILS
from bandit.ids import LONGEST_BYTES
from bandit.wording import path, received, unknown_name
from server.interactions import LONGEST_TEXT
from server.problems import Refused

MOST_METRICS = MOST_GUARDRAILS + 1
"""Metrics of one reward: no experiment has more, with its goal and a metric of its own for each guardrail."""

MOST_ITEMS = 1_000
"""Calls in one batch."""

Id = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        description=f"1 to {LONGEST_BYTES} bytes of UTF-8 without control characters, compared as bytes",
        extra_json_schema={"maxLength": LONGEST_BYTES},  # the check is of bytes, so it is not the decoder's
    ),
]
Metric = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_BYTES)]
Value = float | bool
"""true and false are values of binary metrics alone, which is for the engine to say."""


class ChooseRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which variant does a user get? Of a key that comes twice in one object the last value counts."""

    experiment: Annotated[str, msgspec.Meta(description="key of the experiment")]
    user_id: Id | None = None
    """Made by the server and returned if absent."""
    request_id: Id | None = None
    """Echoed; made by the server if absent."""
    attributes: Annotated[
        dict[str, Any] | None, msgspec.Meta(description="accepted, not used yet; nested at most 20 levels deep")
    ] = None


class ChooseAnswer(msgspec.Struct, kw_only=True):
    """The variant to serve."""

    request_id: str
    user_id: str
    experiment: str
    variant: str
    config: dict[str, Any]
    version: Annotated[int, msgspec.Meta(description="number of this config of the variant, from 1")]
    config_hash: Annotated[str, msgspec.Meta(description="of the config: another one whenever it is another")]
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
        Id, msgspec.Meta(description="makes the call idempotent per (experiment, request_id, metric)")
    ]
    metrics: Annotated[
        dict[Metric, Value],
        msgspec.Meta(max_length=MOST_METRICS, description="value by metric; true and false for binary ones alone"),
    ] = {}
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


def _one_of(name: str) -> msgspec.Meta:
    """Return the description of an item of an answer: of this schema, or a problem."""
    return msgspec.Meta(
        extra_json_schema={"anyOf": [{"$ref": f"#/components/schemas/{one}"} for one in (name, "Problem")]}
    )


_ITEMS = msgspec.Meta(min_length=1, max_length=MOST_ITEMS)


class Batch(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Several calls in one, as they are decoded: each is read by the decoder of the single call, for itself."""

    items: Annotated[list[msgspec.Raw], _ITEMS]


class ChooseBatchRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Calls of `/choose`."""

    items: Annotated[list[ChooseRequest], _ITEMS]


class ChooseItem(ChooseAnswer, kw_only=True):
    """The answer of `/choose`, and that it is one."""

    status: Literal[200]


class ChooseBatchAnswer(msgspec.Struct, kw_only=True):
    """An answer or a problem for each call, in their order."""

    items: list[Annotated[Any, _one_of("ChooseItem")]]


class RewardBatchRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Calls of `/reward`."""

    items: Annotated[list[RewardRequest], _ITEMS]


class RewardItem(RewardAnswer, kw_only=True):
    """The answer of `/reward`, and that it is one."""

    status: Literal[200]


class RewardBatchAnswer(msgspec.Struct, kw_only=True):
    """An answer or a problem for each call, in their order."""

    items: list[Annotated[Any, _one_of("RewardItem")]]


_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Text = Annotated[str, msgspec.Meta(max_length=LONGEST_TEXT)]
_Tokens = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]


class InteractionRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a user's model was asked and answered. What a field says of a metric counts as it does in `/reward`."""

    experiment: Annotated[str, msgspec.Meta(description="key of the experiment")]
    user_id: Id
    request_id: Annotated[Id, msgspec.Meta(description="makes the call idempotent per (experiment, request_id)")]
    variant_id: Annotated[str | None, msgspec.Meta(description="the variant that was really served")] = None
    model_name: Annotated[_Name | None, msgspec.Meta(description="the model that answered")] = None
    system_prompt_version: _Name | None = None
    latency_ms: Annotated[float, msgspec.Meta(ge=0, le=1e9)] | None = None
    prompt_tokens: _Tokens | None = None
    completion_tokens: _Tokens | None = None
    safety_flag: Annotated[bool | None, msgspec.Meta(description="whether something in it is unsafe")] = None
    user_feedback_score: Annotated[
        Value | None, msgspec.Meta(description="true and false for a binary metric alone")
    ] = None
    failed: Annotated[
        bool | None, msgspec.Meta(description="no answer (time-out, crash); true voids its other metrics")
    ] = None
    user_input: Annotated[_Text | None, msgspec.Meta(description="what was asked")] = None
    model_output: Annotated[_Text | None, msgspec.Meta(description="what was answered")] = None


class InteractionAnswer(RewardAnswer, kw_only=True):
    """What became of an interaction, and of each metric that it carries."""

    interaction: Annotated[
        Literal["stored", "duplicate"], msgspec.Meta(description="duplicate: it came before; nothing changed")
    ]
    variant: Annotated[str | None, msgspec.Meta(description="the variant that it counts for")]
    reason: Annotated[Ignored | None, msgspec.Meta(description="why it counts for none, though it is stored")]


class InteractionBatchRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Calls of `/interactions`."""

    items: Annotated[list[InteractionRequest], _ITEMS]


class InteractionItem(InteractionAnswer, kw_only=True):
    """The answer of `/interactions`, and that it is one."""

    status: Literal[200]


class InteractionBatchAnswer(msgspec.Struct, kw_only=True):
    """An answer or a problem for each call, in their order."""

    items: list[Annotated[Any, _one_of("InteractionItem")]]


class ErasedAnswer(msgspec.Struct, kw_only=True):
    """What was erased."""

    experiment: str
    user_id: str
    interactions: Annotated[int, msgspec.Meta(description="interactions of the user whose texts are gone now")]


class OneLabel(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What somebody says of an interaction."""

    number: Annotated[int, msgspec.Meta(ge=1, le=2**53, description="of the interaction")]
    metric: Annotated[str, msgspec.Meta(description="a metric that a judge feeds")]
    value: Annotated[float, msgspec.Meta(description="on the metric's scale")]


class LabelsRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Labels of interactions by people; all are stored or none. One of before is replaced."""

    labels: Annotated[list[OneLabel], _ITEMS]


class LabelsAnswer(msgspec.Struct, kw_only=True):
    """How many labels were stored."""

    experiment: str
    labels: int


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


class RollbackRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which version of a variant to go back to."""

    version: Annotated[
        int | None, msgspec.Meta(description="number of a version, from 1; null: the one before the present one")
    ] = None
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
    ChooseBatchRequest,
    ChooseItem,
    ChooseBatchAnswer,
    RewardRequest,
    RewardAnswer,
    RewardBatchRequest,
    RewardItem,
    RewardBatchAnswer,
    InteractionRequest,
    InteractionAnswer,
    InteractionBatchRequest,
    InteractionItem,
    InteractionBatchAnswer,
    ErasedAnswer,
    LabelsRequest,
    LabelsAnswer,
    ReasonRequest,
    StopRequest,
    MoveAnswer,
    ForceRequest,
    ForceAnswer,
    VersionRequest,
    RollbackRequest,
    PatchRequest,
)

_T = TypeVar("_T", bound=msgspec.Struct)


def decode(body: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[_T]) -> _T:
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


_MOST_UNKNOWN = 5
"""Unknown fields that are named: the search for the nearest name takes its time, and one shows what is wrong."""


def _faults(body: bytes | msgspec.Raw, kind: type[msgspec.Struct]) -> list[Problem]:
    """Return what keeps a JSON text from being of this kind, field by field."""
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        if isinstance(error, msgspec.ValidationError):  # such as a number beyond every double
            return [Problem("", str(error))]
        raise not_json(error) from error
    if not isinstance(document, dict):
        return [Problem("", f"received {received(document)}, allowed: an object")]
    fields = _fields(kind)
    unknown = islice((name for name in document if name not in fields), _MOST_UNKNOWN)
    faults = [Problem(path((name,)), f"unknown field; {unknown_name(name, fields)}") for name in unknown]
    texts = _TEXTS.decode(body)
    for name, (required, decoder) in fields.items():
        if name in document:
            faults += _faults_at(name, document[name], texts[name], decoder)
        elif required:
            faults.append(Problem(name, "missing"))
    return faults


_TEXTS = msgspec.json.Decoder(dict[str, msgspec.Raw])


@cache  # reading annotations takes a hundred times longer than using them
def _fields(kind: type[msgspec.Struct]) -> dict[str, tuple[bool, msgspec.json.Decoder[Any]]]:
    """Return by the name of a field whether it is required, and a decoder for it."""
    return {field.name: (field.required, msgspec.json.Decoder(field.type)) for field in msgspec.structs.fields(kind)}


def _faults_at(name: str, value: object, text: msgspec.Raw, decoder: msgspec.json.Decoder[Any]) -> list[Problem]:
    """Return what keeps the value of a field from being of its kind: of an object's entries, those at fault."""
    fault = _fault(text, decoder)
    if fault is None:
        return []
    entries: list[Problem] = []
    if isinstance(value, dict) and len(value) <= MOST_METRICS and _fault(b"{}", decoder) is None:
        for key, entry in _TEXTS.decode(text).items():
            inside = _fault(b"{%b:%b}" % (msgspec.json.encode(key), bytes(entry)), decoder)
            if inside is not None:
                says = inside.partition(" - at ")[0]  # the field says where
                entries.append(Problem(path((name, key)), f"received {received(value[key])}; {says}"))
    return entries or [Problem(name, f"received {received(value)}; {fault}")]


def _fault(text: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[Any]) -> str | None:
    try:
        decoder.decode(text)
    except msgspec.ValidationError as error:
        return str(error)
    return None
