"""`POST /choose` and `POST /reward`: the two calls that an application makes for every request of its own.

No framework here: bytes come in, status, headers and bytes go out. A user whom this process knows is answered
from memory, with no statement to the store and no other thread.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

import msgspec

from bandit import Assignment, BanditError, Receipt
from bandit.ids import check_id
from server.errors import StoreUnavailable
from server.ids import new_id
from server.live import Reward
from server.messages import ChooseRequest, RewardAnswer, RewardRequest, decode
from server.operations import Choose, Count
from server.problems import Answer, answer_to, problem
from server.views import Tail, View
from server.writer import Writer

LARGEST_BODY = 64 * 1024
"""Bytes; both calls are small."""

CHOOSE_SECONDS = 0.25
"""How long a user waits for the store before the request goes on with control."""

REWARD_SECONDS = 5.0
"""How long a reward waits for the store before its sender is told to come again."""

log = logging.getLogger("bandit.server")

_encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")


class Hot:
    """Answers the two calls.

    Args:
        writer: Answers for users who are not known, and takes rewards.
        choose_seconds: How long a user waits for the store at most.
        reward_seconds: How long a reward waits.
    """

    def __init__(
        self, writer: Writer, choose_seconds: float = CHOOSE_SECONDS, reward_seconds: float = REWARD_SECONDS
    ) -> None:
        self._writer = writer
        self._views: Mapping[str, View] = writer.views
        self._choose_seconds = choose_seconds
        self._reward_seconds = reward_seconds
        self._choose_decoder = msgspec.json.Decoder(ChooseRequest)
        self._reward_decoder = msgspec.json.Decoder(RewardRequest)
        self.paths: dict[str, Callable[[bytes], Awaitable[bytes]]] = {
            "/choose": self._choose,
            "/reward": self._reward,
        }

    async def answer(self, path: str, body: bytes) -> Answer:
        """Return status, headers and body that answer a call of one of `paths`."""
        try:
            answer = await self.paths[path](body)
        except BanditError as error:
            return answer_to(error)
        except Exception:
            log.exception("a request failed unforeseen")
            return problem(500, "the server failed; nothing of this request was stored")
        return 200, [_JSON, (b"content-length", b"%d" % len(answer))], answer

    async def _choose(self, body: bytes) -> bytes:
        asked = decode(body, self._choose_decoder)
        user_id, request_id = asked.user_id, asked.request_id
        if user_id is None:
            user_id = new_id()
        if request_id is None:
            request_id = new_id()
        else:
            check_id(request_id, "request_id")
        view = self._views.get(asked.experiment)
        tail = None if view is None else view.known(check_id(user_id, "user_id"))
        if tail is None:
            tail = await self._ask(asked.experiment, user_id)
        return b'{"request_id":%b,"user_id":%b,%b%b' % (_encode(request_id), _encode(user_id), *tail)

    async def _ask(self, key: str, user_id: str) -> Tail:
        """Return the answer of the writer, or control if it has none in time."""
        check_id(user_id, "user_id")
        try:
            answer = await self._writer.ask(Choose(key, user_id), self._choose_seconds)
        except StoreUnavailable:
            view = self._views.get(key)
            if view is None:
                raise
            return view.fallback
        return self._views[key].tail(cast("Assignment", answer))

    async def _reward(self, body: bytes) -> bytes:
        told = decode(body, self._reward_decoder)
        check_id(told.user_id, "user_id")
        check_id(told.request_id, "request_id")
        reward = Reward(told.user_id, told.request_id, told.metrics, told.variant, told.failed, told.replace)
        answer = await self._writer.ask(Count(told.experiment, reward), self._reward_seconds)
        receipt = cast("Receipt", answer)
        return _encode(
            RewardAnswer(
                accepted=list(receipt.accepted),
                duplicate=list(receipt.duplicate),
                late=list(receipt.late),
                ignored=dict(receipt.ignored),
            )
        )
