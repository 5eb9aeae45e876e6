"""`POST /choose` and `POST /reward`, alone and in batches: what an application calls for every request of its own.

No framework here: bytes come in, status, headers and bytes go out. A user whom this process knows is answered
from memory, with no statement to the store and no other thread.

A call goes through three steps: it is checked, the writer is asked if it has to be, and its answer is put together. A
batch takes the same steps with all of its calls at once, so there is one copy of the rules.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import msgspec

from bandit import Assignment, BanditError, InvalidInput, Problem, Receipt
from bandit.ids import check_id
from bandit.json_values import json_object
from server.body import too_large
from server.errors import StoreUnavailable, Unexpected
from server.ids import new_id
from server.interactions import Interaction, Logged
from server.live import Reward
from server.messages import (
    Batch,
    ChooseRequest,
    InteractionAnswer,
    InteractionRequest,
    RewardAnswer,
    RewardRequest,
    decode,
    not_json,
)
from server.model_servers import Prices
from server.operations import Choose, Count, Log, Operation
from server.problems import Answer, answer_to
from server.views import Tail, View
from server.writer import Writer

LARGEST_CALL = 64 * 1024
"""Bytes of one call, alone or in a batch; both are small."""

LARGEST_BATCH = 1_000_000
"""Bytes of a batch."""

LARGEST_INTERACTION = 1_000_000
"""Bytes of one interaction, alone or in a batch: its texts may be long."""

LARGEST_LOG = 8_000_000
"""Bytes of a batch of interactions."""

CHOOSE_SECONDS = 0.25
"""How long a user waits for the store before the request goes on with control."""

REWARD_SECONDS = 5.0
"""How long a reward waits for the store before its sender is told to come again."""

ITEM_SECONDS = 0.001
"""How much longer a batch waits for the store, for each of its calls that has to."""

_MOST_RECEIPTS = 256
"""Answers that are kept: each order of metrics is one of its own."""

_SLICE = 50
"""Calls of a batch that are checked before other requests have their turn."""

log = logging.getLogger("bandit.server")

_FAILED = "the server failed on this request"
_encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")
_T = TypeVar("_T")


class Call(NamedTuple):
    """A path that is answered here.

    Attributes:
        kind: What it is about.
        many: Whether it takes a batch.
        largest_body: Most bytes of a body.
    """

    kind: Kind
    many: bool
    largest_body: int


class Hot:
    """Answers the calls.

    Args:
        writer: Answers for users who are not known, and takes rewards.
        choose_seconds: How long a user waits for the store at most.
        reward_seconds: How long a reward waits.
        prices: What tokens of interactions cost.

    Attributes:
        paths: What is answered here.
    """

    def __init__(
        self,
        writer: Writer,
        choose_seconds: float = CHOOSE_SECONDS,
        reward_seconds: float = REWARD_SECONDS,
        prices: Prices | None = None,
    ) -> None:
        self._writer = writer
        self._batch_decoder = msgspec.json.Decoder(Batch)
        choices, rewards = _Choices(writer.views, choose_seconds), _Rewards(reward_seconds)
        interactions = _Interactions(reward_seconds, prices)
        self.paths = {
            "/choose": Call(choices, many=False, largest_body=LARGEST_CALL),
            "/reward": Call(rewards, many=False, largest_body=LARGEST_CALL),
            "/choose/batch": Call(choices, many=True, largest_body=LARGEST_BATCH),
            "/reward/batch": Call(rewards, many=True, largest_body=LARGEST_BATCH),
            "/interactions": Call(interactions, many=False, largest_body=LARGEST_INTERACTION),
            "/interactions/batch": Call(interactions, many=True, largest_body=LARGEST_LOG),
        }

    async def answer(self, path: str, body: bytes) -> Answer:
        """Return status, headers and body that answer a call of one of `paths`."""
        try:
            kind, many, _ = self.paths[path]
            if many:
                answer = await self._many(kind, body)
            else:
                checked = kind.check(body)
                answer = checked if isinstance(checked, bytes) else await self._ask(kind, checked)
        except BanditError as error:
            return answer_to(error)
        except Exception:
            log.exception("a request failed unforeseen")
            return answer_to(Unexpected(_FAILED))
        return 200, [_JSON, (b"content-length", b"%d" % len(answer))], answer

    async def _ask(self, kind: Kind, call: Waiting) -> bytes:
        try:
            outcome = await self._writer.ask(call.operation, kind.seconds)
        except BanditError as error:
            outcome = error
        return kind.finish(call, outcome)

    async def _many(self, kind: Kind, body: bytes) -> bytes:
        checked: list[bytes | Waiting | BanditError] = []
        for text in self._items(body):
            checked.append(_attempt(_check_item, kind, text))
            if len(checked) % _SLICE == 0:
                await asyncio.sleep(0)
        waiting = [one for one in checked if isinstance(one, Waiting)]
        patience = kind.seconds + ITEM_SECONDS * len(waiting)
        outcomes = iter(await self._writer.ask_all([one.operation for one in waiting], patience))
        answers = [
            _attempt(kind.finish, one, next(outcomes)) if isinstance(one, Waiting) else one  # in their order
            for one in checked
        ]
        return b'{"items":[%b]}' % b",".join(map(_item, answers))

    def _items(self, body: bytes) -> list[msgspec.Raw]:
        """Return the JSON texts of a batch's calls.

        Raises:
            Refused: The body is not JSON.
            InvalidInput: It is not a batch.
        """
        try:
            body.decode()  # the decoder passes over the inside of items
        except UnicodeDecodeError as error:
            raise not_json(error) from error
        return decode(body, self._batch_decoder).items


class Waiting(NamedTuple):
    """A call that the writer has to be asked about.

    Attributes:
        operation: What it is asked.
        beginning: Of the answer, as far as it is known.
    """

    operation: Operation
    beginning: bytes = b""


class Kind(Protocol):
    """One kind of call."""

    @property
    def seconds(self) -> float:
        """How long a call of it waits for the store at most."""

    @property
    def largest(self) -> int:
        """Most bytes of a call in a batch."""

    def check(self, body: bytes | msgspec.Raw) -> bytes | Waiting:
        """Return the answer to a call as JSON, or what the writer has to be asked.

        Raises:
            BanditError: The call is refused.
        """

    def finish(self, call: Waiting, outcome: object) -> bytes:
        """Return the answer to a call as JSON, given what the writer said.

        Raises:
            BanditError: The writer refused.
        """


class _Choices:
    largest = LARGEST_CALL

    def __init__(self, views: Mapping[str, View], seconds: float) -> None:
        self.seconds = seconds
        self._views = views
        self._decoder = msgspec.json.Decoder(ChooseRequest)

    def check(self, body: bytes | msgspec.Raw) -> bytes | Waiting:
        asked = decode(body, self._decoder)
        user_id, request_id = asked.user_id, asked.request_id
        if user_id is None:
            user_id = new_id()
        else:
            check_id(user_id, "user_id")
        if request_id is None:
            request_id = new_id()
        else:
            check_id(request_id, "request_id")
        if asked.attributes is not None:
            _check_attributes(asked.attributes)
        view = self._views.get(asked.experiment)
        tail = None if view is None else view.known(user_id)
        if tail is not None:
            return b'{"request_id":%b,"user_id":%b,%b%b' % (_encode(request_id), _encode(user_id), *tail)
        beginning = b'{"request_id":%b,"user_id":%b,' % (_encode(request_id), _encode(user_id))
        return Waiting(Choose(asked.experiment, user_id), beginning)

    def finish(self, call: Waiting, outcome: object) -> bytes:
        return call.beginning + b"".join(self._tail(call.operation.key, outcome))

    def _tail(self, key: str, outcome: object) -> Tail:
        """Return what the writer says, or control if it could not answer in time."""
        view = self._views.get(key)
        if isinstance(outcome, StoreUnavailable) and view is not None:
            return view.fallback
        if isinstance(outcome, BanditError):
            raise outcome
        return self._views[key].tail(cast("Assignment", outcome))


class _Rewards:
    largest = LARGEST_CALL

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._decoder = msgspec.json.Decoder(RewardRequest)
        self._all_accepted: dict[tuple[str, ...], bytes] = {}

    def check(self, body: bytes | msgspec.Raw) -> Waiting:
        told = decode(body, self._decoder)
        check_id(told.user_id, "user_id")
        check_id(told.request_id, "request_id")
        reward = Reward(told.user_id, told.request_id, told.metrics, told.variant, told.failed, told.replace)
        return Waiting(Count(told.experiment, reward))

    def finish(self, call: Waiting, outcome: object) -> bytes:  # noqa: ARG002 - a receipt says all
        if isinstance(outcome, BanditError):
            raise outcome
        receipt = cast("Receipt", outcome)
        if not (receipt.duplicate or receipt.late or receipt.ignored):
            answer = self._all_accepted.get(receipt.accepted)
            if answer is None:
                answer = _encode(_answer(receipt))
                if len(self._all_accepted) < _MOST_RECEIPTS:
                    self._all_accepted[receipt.accepted] = answer
            return answer
        return _encode(_answer(receipt))


class _Interactions:
    largest = LARGEST_INTERACTION

    def __init__(self, seconds: float, prices: Prices | None) -> None:
        self.seconds = seconds
        self._prices = prices
        self._decoder = msgspec.json.Decoder(InteractionRequest)

    def check(self, body: bytes | msgspec.Raw) -> Waiting:
        told = decode(body, self._decoder)
        check_id(told.user_id, "user_id")
        check_id(told.request_id, "request_id")
        fields = {name: getattr(told, name) for name in told.__struct_fields__ if name != "experiment"}
        return Waiting(Log(told.experiment, Interaction(**fields, **self._cost(told))))

    def _cost(self, told: InteractionRequest) -> dict[str, Any]:
        """Return what its tokens cost; nothing if nobody knows."""
        tokens = told.prompt_tokens, told.completion_tokens
        if self._prices is None or told.model_name is None or tokens[0] is None or tokens[1] is None:
            return {}
        cost = self._prices.cost(told.model_name, tokens[0], tokens[1])
        return {} if cost is None else {"cost_usd": cost, "prices": self._prices.version}

    def finish(self, call: Waiting, outcome: object) -> bytes:  # noqa: ARG002 - what became of it says all
        if isinstance(outcome, BanditError):
            raise outcome
        logged = cast("Logged", outcome)
        answer = _answer(logged.receipt)
        return _encode(
            InteractionAnswer(
                interaction=logged.status,
                variant=logged.variant,
                reason=logged.reason,
                accepted=answer.accepted,
                duplicate=answer.duplicate,
                late=answer.late,
                ignored=answer.ignored,
            )
        )


def _answer(receipt: Receipt) -> RewardAnswer:
    return RewardAnswer(
        accepted=list(receipt.accepted),
        duplicate=list(receipt.duplicate),
        late=list(receipt.late),
        ignored=dict(receipt.ignored),
    )


def _check_attributes(attributes: Mapping[str, object]) -> None:
    """Refuse what is nested without end, or has numbers that JSON's readers do not agree on."""
    try:
        json_object(attributes)
    except InvalidInput as error:
        faults = [Problem(f"attributes.{fault.field}".rstrip("."), fault.message) for fault in error.problems]
        raise InvalidInput(faults) from error


def _check_item(kind: Kind, text: msgspec.Raw) -> bytes | Waiting:
    if len(bytes(text)) > kind.largest:
        raise too_large(kind.largest)
    return kind.check(text)


def _attempt(step: Callable[..., _T], *arguments: object) -> _T | BanditError:
    """Return what a step returns, or its refusal: a call of a batch fails alone."""
    try:
        return step(*arguments)
    except BanditError as error:
        return error
    except Exception:
        log.exception("a request of a batch failed unforeseen")
        return Unexpected(_FAILED)


def _item(answer: bytes | BanditError) -> bytes:
    """Return the answer to a call as an item: what the call alone is answered, with its status in it."""
    if isinstance(answer, BanditError):
        _, _, body = answer_to(answer)
        return body
    return b'{"status":200,%b' % answer[1:]
