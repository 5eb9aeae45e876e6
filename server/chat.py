"""Requests to one model server: answers in either wire format, faults in one class, and further attempts.

Nothing of a user's and no key is in a fault or in a log. Only what every chat server understands is sent.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from email.utils import mktime_tz, parsedate_tz
from http import HTTPStatus
from typing import Literal, NoReturn, TypeVar

import msgspec
from llama_api_client import APIConnectionError, APIStatusError, AsyncLlamaAPIClient, DefaultAsyncHttpxClient
from pydantic import BaseModel

from server.model_servers import ModelServer

ATTEMPTS = 4
"""Requests that are made at most for one answer."""

FIRST_PAUSE = 0.5
"""Seconds before the second attempt, on average; each further pause is twice as long."""

LONGEST_PAUSE = 60.0
"""Seconds that a server's Retry-After is followed at most."""

GUARD_TOKENS = 100
"""Tokens that a guard model may answer with: a word and some categories."""

FaultKind = Literal["unreachable", "timeout", "overloaded", "rejected", "failed", "malformed"]

PASSING: frozenset[FaultKind] = frozenset({"unreachable", "timeout", "overloaded", "failed"})
"""Kinds of faults that may be over a moment later."""

StopReason = Literal["stop", "length", "refused"]

for _name in ("llama_api_client", "httpx", "httpcore"):
    # At DEBUG they write what users wrote, and at INFO a line for every request.
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered.

    Attributes:
        text: The answer, empty if there is none.
        prompt_tokens: Tokens of the request, 0 or more; None if the server does not say.
        completion_tokens: Tokens of the answer, 0 or more; None if the server does not say.
        model: The model as the server calls it, else as it was asked for.
        latency_ms: Milliseconds from the request to the whole answer, without earlier attempts.
        stop_reason: `stop`: the model was done. `length`: it was cut off. `refused`: it, or a filter, would not answer.
    """

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None
    model: str
    latency_ms: float
    stop_reason: StopReason


@dataclass(frozen=True, slots=True)
class Moderation:
    """What a moderation found.

    Attributes:
        flagged: Whether the answer is harmful.
        categories: In which ways, as the server calls them.
        prompt_tokens: Tokens of the request; None if the server does not say, as moderation calls do not.
        completion_tokens: Tokens of the answer; None likewise.
        model: The model as the server calls it, else as it was asked for.
    """

    flagged: bool
    categories: tuple[str, ...]
    prompt_tokens: int | None
    completion_tokens: int | None
    model: str


class ModelFault(Exception):
    """A model server did not give an answer.

    Attributes:
        kind: `unreachable`: no connection, or it broke. `timeout`: no whole answer in time, or 408. `overloaded`: 429
            or 503. `failed`: another 5xx. `rejected`: any other status. `malformed`: an answer that is none.
        status: HTTP status, if there was one.
        retry_after: Seconds that the server asks to wait, from 0 to 60, if it does.
        timeouts: How many attempts gave no answer in time: they may have cost what an answer does.
        heard: Tokens in and out of what was answered before, as far as the server said.
    """

    def __init__(
        self, kind: FaultKind, message: str, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind: FaultKind = kind
        self.status = status
        self.retry_after = retry_after
        self.timeouts = 0
        self.heard = (0, 0)


class ChatClient:
    """A client of one model server, for any number of tasks of one event loop.

    Args:
        server: Where it is.
        sleep: Waits that many seconds.
        rng: Spreads the pauses between attempts, so that many clients do not come back at once.

    Raises:
        UnknownKey: The environment does not have the server's key.
    """

    def __init__(
        self,
        server: ModelServer,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self.server = server
        self._sleep = sleep
        self._rng = random.Random() if rng is None else rng  # noqa: S311 - spreads pauses, keeps no secret
        self._client = AsyncLlamaAPIClient(
            api_key=server.key(),
            base_url=server.base_url,
            timeout=None,  # an attempt as a whole has a limit instead
            max_retries=0,
            http_client=DefaultAsyncHttpxClient(follow_redirects=False),  # texts go nowhere but to this server
        )

    async def complete(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        schema: type[BaseModel] | None,
        temperature: float = 0.0,
        max_tokens: int,
    ) -> Reply:
        """Return a model's answer to a conversation.

        Makes up to 4 attempts, each with the server's time-out, and waits between them.

        Args:
            model: The model's name.
            messages: The conversation. Lone surrogates, which no server can receive, are sent as question marks.
            schema: What the answer should be as JSON. It is sent if the server knows JSON schemas; the answer is not
                checked here.
            temperature: 0 or more; 0 is the least random.
            max_tokens: Tokens of the answer, at least 1.

        Raises:
            ModelFault: There is no answer.
        """
        body: dict[str, object] = {
            "model": model,
            "messages": _as_sent(messages),
            "temperature": temperature,
            self.server.max_tokens_field: max_tokens,
        }
        if schema is not None and self.server.json_schema:
            named = {"name": schema.__name__, "schema": schema.model_json_schema()}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        content, latency_ms = await self._request("/chat/completions", body)
        return _reply(self._decoded(content, _ANSWER), model, latency_ms) or self._refuse("an answer without a message")

    async def moderate(self, model: str, asked: str, answered: str) -> Moderation:
        """Return whether an answer is harmful, in the way that the server's settings say.

        Makes as many attempts as `complete`. The whole texts are sent, as the two turns of a conversation: a guard
        model looks at the last of them and takes the other as what led to it. Lone surrogates, which no server can
        receive, are sent as question marks.

        Args:
            model: Name of the moderation or guard model.
            asked: What a person wrote; empty: the answer goes alone.
            answered: What was answered.

        Raises:
            ModelFault: There is no answer, or it is neither safe nor unsafe.
            ValueError: The server's settings say that it does not moderate.
        """
        turns = [Message("user", asked), Message("assistant", answered)] if asked else [Message("user", answered)]
        match self.server.moderation:
            case "endpoint":
                body = {"model": model, "messages": _as_sent(turns)}
                content, _ = await self._request("/moderations", body)
                verdict = self._decoded(content, _VERDICT)
                return _moderation(verdict, model, len(turns)) or self._refuse("a moderation without a result")
            case "chat":
                reply = await self.complete(model, turns, schema=None, max_tokens=GUARD_TOKENS)
                return _guarded(reply) or self._refuse("neither safe nor unsafe")
            case "none":
                msg = 'this model server has moderation = "none"; allowed: "endpoint", "chat"'
                raise ValueError(msg)

    async def close(self) -> None:
        """Close the connections. The client is of no use afterwards."""
        await self._client.close()

    async def _request(self, path: str, body: Mapping[str, object]) -> tuple[bytes, float]:
        """Return the body of an answer and the milliseconds it took, after as many attempts as it needs."""
        attempts = timeouts = 0
        while isinstance(outcome := await self._attempt(path, body), ModelFault):
            attempts += 1
            timeouts += outcome.kind == "timeout"
            if outcome.kind not in PASSING or attempts == ATTEMPTS:
                outcome.timeouts = timeouts
                raise outcome
            pause = FIRST_PAUSE * 2 ** (attempts - 1) * self._rng.uniform(0.5, 1.5)
            await self._sleep(max(pause, outcome.retry_after or 0.0))
        return outcome

    async def _attempt(self, path: str, body: Mapping[str, object]) -> tuple[bytes, float] | ModelFault:
        """Return what one request comes to.

        A fault is returned, not raised here: as the successor of the client library's exception it would keep that,
        and with it the request and the key.
        """
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(self.server.timeout):
                content = await self._client.post(path, cast_to=bytes, body=body)
        except TimeoutError:
            return self._fault("timeout", f"gave no whole answer in {self.server.timeout:g} s")
        except APIConnectionError:
            return self._fault("unreachable", "cannot be reached, or broke off")
        except APIStatusError as error:
            return self._fault_of_status(error.status_code, error.response.headers, schema="response_format" in body)
        return content, (time.perf_counter() - begun) * 1000

    def _fault_of_status(self, status: int, headers: Mapping[str, str], *, schema: bool) -> ModelFault:
        kind: FaultKind = "rejected"
        if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
            kind = "overloaded"
        elif status == HTTPStatus.REQUEST_TIMEOUT:
            kind = "timeout"
        elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            kind = "failed"
        words = f"answered {status}"
        # Of servers that know no schemas some say 400 or 422, and some fail.
        if schema and (kind == "failed" or status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}):
            words += "; if it does not know JSON schemas, json_schema = false in its settings helps"
        return self._fault(kind, words, status=status, retry_after=_seconds(headers.get("retry-after", "")))

    def _fault(
        self, kind: FaultKind, words: str, *, status: int | None = None, retry_after: float | None = None
    ) -> ModelFault:
        message = f"the model server at {self.server.base_url} {words}"
        return ModelFault(kind, message, status=status, retry_after=retry_after)

    def _decoded(self, content: bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
        """Return an answer's body as what it should be."""
        try:
            return decoder.decode(content)
        except msgspec.ValidationError:
            what = "JSON of another form"
        except (ValueError, RecursionError):
            what = "no JSON"
        return self._refuse(what)  # outside of the handlers, whose errors quote the body

    def _refuse(self, what: str) -> NoReturn:
        raise self._fault("malformed", f"answered with {what}")


class _Part(msgspec.Struct):
    type: str = "text"
    text: str | None = None
    refusal: str | None = None


class _Message(msgspec.Struct):
    """Of either wire format: in that of the Llama API the message says why it ends."""

    content: str | _Part | list[str | _Part] | None = None
    refusal: str | None = None
    stop_reason: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: float | None = None
    completion_tokens: float | None = None


class _Metric(msgspec.Struct):
    metric: str
    value: float | None = None


class _Answer(msgspec.Struct):
    completion_message: _Message | None = None
    metrics: list[_Metric] | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    model: str | None = None


class _Result(msgspec.Struct):
    flagged: bool
    flagged_categories: list[str] | None = None


class _Verdict(msgspec.Struct):
    results: list[_Result]
    model: str | None = None


_T = TypeVar("_T")
_ANSWER = msgspec.json.Decoder(_Answer)
_VERDICT = msgspec.json.Decoder(_Verdict)


def _reply(answer: _Answer, model: str, latency_ms: float) -> Reply | None:
    """Return an answer of either wire format in one form; None if it is of neither."""
    if answer.completion_message is not None:
        message, stopped = answer.completion_message, answer.completion_message.stop_reason
        metrics = {metric.metric: metric.value for metric in answer.metrics or ()}
        counts = metrics.get("num_prompt_tokens"), metrics.get("num_completion_tokens")
    elif answer.choices:
        message, stopped = answer.choices[0].message, answer.choices[0].finish_reason
        usage = answer.usage or _Usage()
        counts = usage.prompt_tokens, usage.completion_tokens
    else:
        return None
    parts = _parts(message.content)
    refused = message.refusal or stopped == "content_filter" or any(part.refusal for part in parts)
    return Reply(
        text="".join(part.text or "" for part in parts if part.type in {"text", "output_text"}),
        prompt_tokens=_count(counts[0]),
        completion_tokens=_count(counts[1]),
        model=(answer.model or model)[:200],
        latency_ms=latency_ms,
        stop_reason="refused" if refused else "length" if stopped == "length" else "stop",
    )


def _parts(content: str | _Part | list[str | _Part] | None) -> list[_Part]:
    listed = content if isinstance(content, list) else [] if content is None else [content]
    return [_Part(text=part) if isinstance(part, str) else part for part in listed]


def _count(value: float | None) -> int | None:
    """Return a number of tokens; some servers write it as a float. What cannot be one is unknown."""
    return int(value) if value is not None and value.is_integer() and 0 <= value <= 1e12 else None


def _moderation(verdict: _Verdict, model: str, n_turns: int) -> Moderation | None:
    """Return what a moderation says of the last turn: its own result if there is one for each, else all together."""
    if not verdict.results:
        return None
    results = verdict.results[-1:] if len(verdict.results) == n_turns else verdict.results
    flagged = [result for result in results if result.flagged]
    categories = dict.fromkeys(name for result in flagged for name in result.flagged_categories or ())
    return Moderation(bool(flagged), tuple(categories), None, None, (verdict.model or model)[:200])


def _guarded(reply: Reply) -> Moderation | None:
    """Return what a guard model found; None if it said anything else than it should.

    What it says after "unsafe" are categories, or not: the answer is flagged whatever it is, since the answers about
    which a guard says much are not the harmless ones.
    """
    first, _, rest = reply.text.strip().partition("\n")
    verdict = first.strip().lower()
    if reply.stop_reason != "stop" or verdict not in {"safe", "unsafe"} or (verdict == "safe" and rest.strip()):
        return None
    names = (name.strip() for name in re.split(r"[,\n]", rest))
    categories = tuple(name for name in names if re.fullmatch(r"[\w-]{1,40}", name))
    return Moderation(verdict == "unsafe", categories, reply.prompt_tokens, reply.completion_tokens, reply.model)


def _as_sent(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [asdict(message) | {"content": message.content.encode(errors="replace").decode()} for message in messages]


def _seconds(retry_after: str) -> float | None:
    """Return the seconds of a Retry-After, a number or a date, from 0 to 60; None if it is neither."""
    text = retry_after.strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        seconds = float(text)
    else:
        date = parsedate_tz(text)
        if date is None:
            return None
        try:
            seconds = mktime_tz(date) - time.time()
        except (ValueError, OverflowError):  # the 99th of a month, the year 99999
            return None
    return min(max(seconds, 0.0), LONGEST_PAUSE)
