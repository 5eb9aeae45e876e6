"""The client of model servers, against a real HTTP server in both wire formats."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from server.chat import ATTEMPTS, PASSING, ChatClient, FaultKind, Message, ModelFault, Moderation, Reply
from server.model_servers import PLACEHOLDER, ModelServer, UnknownKey
from tests.server.fake_models import (
    COMPLETION_TOKENS,
    FORMS,
    PROMPT_TOKENS,
    Act,
    FakeModels,
    Form,
    hangs,
    moderates,
    needs_no_schema,
    raw,
    refuses,
    resets,
    says,
    status,
    trickles,
    truncated,
)

KEY = "sk-secret-0123456789"
TEXT = "what a user wrote"
ASK = [Message("system", "Be brief."), Message("user", TEXT)]

T = TypeVar("T")


class Answer(BaseModel):
    """A form of answers."""

    n: int


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    chosen: Form = request.param
    return chosen


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("MODEL_KEY", KEY)


class Pauses(list[float]):
    """A sleep that takes no time and remembers how long it should have been."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


@asynccontextmanager
async def client_of(url: str, pauses: Pauses, **settings: Any) -> AsyncIterator[ChatClient]:  # noqa: ANN401 - any setting
    server = ModelServer.model_validate({"base_url": url, "key_env": "MODEL_KEY", "timeout": 20} | settings)
    client = ChatClient(server, sleep=pauses, rng=random.Random(1))  # noqa: S311 - the pauses repeat
    try:
        yield client
    finally:
        await client.close()


def called(
    url: str,
    call: Callable[[ChatClient], Awaitable[T]],
    pauses: Pauses | None = None,
    **settings: Any,  # noqa: ANN401 - any setting
) -> T:
    async def run() -> T:
        async with client_of(url, Pauses() if pauses is None else pauses, **settings) as client:
            return await call(client)

    return asyncio.run(run())


async def ask(client: ChatClient) -> Reply:
    return await client.complete("m", ASK, schema=None, max_tokens=50)


async def ask_with_schema(client: ChatClient) -> Reply:
    return await client.complete("m", ASK, schema=Answer, max_tokens=50)


async def check(client: ChatClient) -> Moderation:
    return await client.moderate("guard", "what was asked", TEXT)


TURNS = [{"role": "user", "content": "what was asked"}, {"role": "assistant", "content": TEXT}]


def fault_of(
    fake: FakeModels,
    call: Callable[[ChatClient], Awaitable[object]] = ask,
    pauses: Pauses | None = None,
    **settings: Any,  # noqa: ANN401 - any setting
) -> ModelFault:
    """The fault that a call ends with, which says nothing that it must not say."""
    with pytest.raises(ModelFault) as caught:
        called(fake.url, call, pauses, **settings)
    fault = caught.value
    assert fault.__context__ is None
    told = "".join([str(fault), repr(fault), repr(vars(fault)), *traceback.format_exception(fault)])
    assert KEY not in told
    assert TEXT not in told
    assert fake.url in str(fault)
    return fault


# What is sent


def test_a_request_has_what_every_server_understands(form: Form) -> None:
    with FakeModels(form, says("hello")) as fake:
        called(fake.url, ask)

    (asked,) = fake.requests
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["content-type"] == "application/json"
    assert asked.body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": TEXT}],
        "temperature": 0.0,
        "max_tokens": 50,
    }


def test_the_settings_say_how_the_limit_is_called_and_whether_a_schema_is_sent(form: Form) -> None:
    with FakeModels(form, says("1"), says("1")) as fake:
        called(fake.url, ask_with_schema, max_tokens_field="max_completion_tokens")
        called(fake.url, ask_with_schema, json_schema=False)

    first, second = (asked.body for asked in fake.requests)
    assert first["max_completion_tokens"] == second["max_tokens"] == 50
    assert "max_tokens" not in first
    assert first["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "Answer", "schema": Answer.model_json_schema()},
    }
    assert "response_format" not in second


def test_a_server_without_a_key_gets_a_placeholder(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_API_KEY", KEY)  # the client library would take it for any server
    monkeypatch.setenv("LLAMA_API_CLIENT_BASE_URL", "http://127.0.0.1:1")
    with FakeModels(form, says("hello")) as fake:
        called(fake.url, ask, key_env=None)

    assert fake.requests[0].headers["authorization"] == f"Bearer {PLACEHOLDER}"
    assert KEY not in str(fake.requests[0].headers)


def test_a_missing_key_is_named_when_the_client_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODEL_KEY")

    with pytest.raises(UnknownKey, match="MODEL_KEY is not set"):
        ChatClient(ModelServer(base_url="http://127.0.0.1:1", key_env="MODEL_KEY"))


def test_odd_characters_arrive_or_become_question_marks(form: Form) -> None:
    odd = "a\0b\u2028c\ud800d😀\x7f"
    with FakeModels(form, says("hello")) as fake:
        called(fake.url, lambda client: client.complete("m", [Message("user", odd)], schema=None, max_tokens=1))

    assert fake.requests[0].contents("user") == ["a\0b\u2028c?d😀\x7f"]


def test_a_redirect_is_not_followed(form: Form) -> None:
    with FakeModels(form) as elsewhere, FakeModels(form, status(307, location=f"{elsewhere.url}/chat")) as fake:
        fault = fault_of(fake)

    assert (fault.kind, fault.status) == ("rejected", 307)
    assert elsewhere.requests == []


# What is read


@pytest.mark.parametrize("shape", ["usual", "other"])
def test_an_answer_is_read_in_each_shape(form: Form, shape: Any) -> None:  # noqa: ANN401 - a literal
    with FakeModels(form, says("hello wörld", shape=shape)) as fake:
        reply = called(fake.url, ask)

    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("hello wörld", 120, 30)
    assert reply.stop_reason == "stop"
    assert reply.model == {"llama": "m", "openai": "m-2026"}[form]
    assert 0 < reply.latency_ms < 20_000
    assert isinstance(reply.prompt_tokens, int)


@pytest.mark.parametrize(
    ("tokens", "expected"), [(None, (None, None)), ((1.5, -3), (None, None)), ((7.0, 1e300), (7, None))]
)
def test_tokens_that_are_not_said_are_unknown(
    form: Form, tokens: tuple[float, float] | None, expected: tuple[int | None, int | None]
) -> None:
    with FakeModels(form, says("hello", tokens=tokens)) as fake:
        reply = called(fake.url, ask)

    assert (reply.prompt_tokens, reply.completion_tokens) == expected


def test_a_refusal_is_seen(form: Form) -> None:
    with FakeModels(form, refuses(), says("half", stop="content_filter")) as fake:
        first, second = called(fake.url, ask), called(fake.url, ask)

    assert (first.stop_reason, first.text) == ("refused", "")
    assert second.stop_reason == "refused"


def test_an_answer_that_was_cut_off_is_seen(form: Form) -> None:
    with FakeModels(form, truncated("hel")) as fake:
        reply = called(fake.url, ask)

    assert (reply.stop_reason, reply.text) == ("length", "hel")


def test_an_answer_without_content_is_empty(form: Form) -> None:
    with FakeModels(form, says(None, stop="tool_calls")) as fake:
        reply = called(fake.url, ask)

    assert (reply.stop_reason, reply.text) == ("stop", "")


def test_parts_that_are_not_the_answer_are_left_out() -> None:
    parts = [{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "yes"}, "!"]
    refusal = [{"type": "refusal", "refusal": "no"}]
    answers = [
        raw(json.dumps({"choices": [{"message": {"content": content}}]}).encode()) for content in (parts, refusal)
    ]
    with FakeModels("openai", *answers) as fake:
        first, second = called(fake.url, ask), called(fake.url, ask)

    assert (first.text, first.stop_reason) == ("yes!", "stop")
    assert (second.text, second.stop_reason) == ("", "refused")


@pytest.mark.parametrize(
    "content",
    [
        b"", b"no", b"<html>no</html>", b'{"choices": [', b"null", b"[]", b"{}", b'{"choices": []}',
        b'{"choices": [{}]}',
        b'{"completion_message": 3}', b'{"completion_message": null}', b'{"error": {"message": "x"}}', b"\xff\xfe",
        b'{"choices": [{"message": {"content": 3}}]}', b'{"choices": [{"message": {"content": "\\ud800"}}]}',
        b"[" * 100_000, b'{"completion_message": {"content": "a"}, "x": ' + b"[" * 100_000,
        b'{"completion_message": {"content": "a"}, "metrics": [{"metric": "n", "value": NaN}]}',
        b'{"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": 1e999}}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_an_answer_of_neither_shape_is_malformed_and_not_asked_for_again(form: Form, content: bytes, kind: str) -> None:
    pauses = Pauses()
    with FakeModels(form, raw(content, kind)) as fake:
        fault = fault_of(fake, pauses=pauses)

    assert (fault.kind, fault.status, pauses) == ("malformed", None, [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["stop", "length", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([
                "choices", "completion_message", "metrics", "usage", "message", "content", "text", "type", "refusal",
                "finish_reason", "stop_reason", "prompt_tokens", "metric", "value", "model",
            ]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip


@pytest.fixture(scope="module")
def any_answer() -> Iterator[Callable[[object], Reply | ModelFault]]:
    """One client and one server for many answers."""
    waiting: list[object] = []
    with (
        pytest.MonkeyPatch.context() as patch,
        FakeModels("llama", otherwise=lambda _: raw(json.dumps(waiting.pop()).encode())) as fake,
        asyncio.Runner() as runner,
    ):
        patch.setenv("no_proxy", "127.0.0.1")
        client = ChatClient(ModelServer(base_url=fake.url))

        def answered(document: object) -> Reply | ModelFault:
            waiting.append(document)
            try:
                return runner.run(ask(client))
            except ModelFault as fault:
                return fault

        yield answered
        runner.run(client.close())


@given(document=JSON)
def test_any_json_is_an_answer_or_malformed(
    any_answer: Callable[[object], Reply | ModelFault], document: object
) -> None:
    outcome = any_answer(document)

    assert isinstance(outcome, Reply) or outcome.kind == "malformed"


@given(content=st.none() | st.text() | st.lists(st.text()), stop=st.none() | st.text())
def test_any_text_comes_back_as_it_was(
    any_answer: Callable[[object], Reply | ModelFault], content: str | list[str] | None, stop: str | None
) -> None:
    outcome = any_answer({"choices": [{"finish_reason": stop, "message": {"content": content}}]})

    assert isinstance(outcome, Reply)
    assert outcome.text == "".join(content or ())


# Faults and further attempts


@pytest.mark.parametrize(
    ("act", "kind", "code"),
    [
        (status(429), "overloaded", 429),
        (status(503), "overloaded", 503),
        (status(500), "failed", 500),
        (status(502), "failed", 502),
        (resets(), "unreachable", None),
        (resets(midway=True), "unreachable", None),
    ],
    ids=["429", "503", "500", "502", "reset", "reset midway"],
)
def test_a_passing_fault_is_tried_four_times(form: Form, act: Act, kind: FaultKind, code: int | None) -> None:
    pauses = Pauses()
    with FakeModels(form, *[act] * ATTEMPTS) as fake:
        fault = fault_of(fake, pauses=pauses)

    assert (fault.kind, fault.status, fault.retry_after) == (kind, code, None)
    assert kind in PASSING
    assert len(fake.requests) == 4
    assert len({json.dumps(asked.body) for asked in fake.requests}) == 1
    assert all(0.5 * 2**k * 0.5 <= pause <= 0.5 * 2**k * 1.5 for k, pause in enumerate(pauses))
    assert len(pauses) == 3


@pytest.mark.parametrize("act", [status(429), status(503), status(500), resets()], ids=["429", "503", "500", "reset"])
def test_an_answer_after_passing_faults_is_an_answer(form: Form, act: Act) -> None:
    pauses = Pauses()
    with FakeModels(form, act, act, act, says("at last")) as fake:
        reply = called(fake.url, ask, pauses)

    assert reply.text == "at last"
    assert len(pauses) == 3


@pytest.mark.parametrize("code", [300, 400, 401, 403, 404, 409, 413, 422, 499])
def test_a_rejection_is_not_tried_again(form: Form, code: int) -> None:
    pauses = Pauses()
    with FakeModels(form, status(code, f"Incorrect API key provided: {KEY}; you said: {TEXT}")) as fake:
        fault = fault_of(fake, pauses=pauses)

    assert (fault.kind, fault.status, pauses) == ("rejected", code, [])
    assert f"answered {code}" in str(fault)
    assert "json_schema" not in str(fault)


def test_a_rejection_of_a_schema_says_what_helps(form: Form) -> None:
    with FakeModels(form, needs_no_schema(says("1")), needs_no_schema(says("1"))) as fake:
        fault = fault_of(fake, ask_with_schema)
        reply = called(fake.url, ask_with_schema, json_schema=False)

    assert (fault.kind, fault.status) == ("rejected", 400)
    assert "json_schema = false in its settings helps" in str(fault)
    assert reply.text == "1"


def test_a_failure_over_a_schema_says_so_too(form: Form) -> None:
    """As llama-cpp-python's server fails, with 500."""
    with FakeModels(form, *[status(500)] * ATTEMPTS) as fake:
        assert "json_schema = false" in str(fault_of(fake, ask_with_schema))
    with FakeModels(form, *[status(500)] * ATTEMPTS) as fake:
        assert "json_schema" not in str(fault_of(fake, ask))


def test_a_closed_port_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    pauses = Pauses()

    with pytest.raises(ModelFault, match="cannot be reached") as caught:
        called(url, ask, pauses)

    assert (caught.value.kind, len(pauses)) == ("unreachable", 3)


def test_pauses_are_spread_by_the_generator_that_was_given(form: Form) -> None:
    seen = []
    for _ in range(2):
        pauses = Pauses()
        with FakeModels(form, *[status(500)] * ATTEMPTS) as fake:
            fault_of(fake, pauses=pauses)
        seen.append(list(pauses))

    rng = random.Random(1)  # noqa: S311 - the same pauses
    assert seen[0] == seen[1] == [0.5 * 2**k * rng.uniform(0.5, 1.5) for k in range(3)]


@pytest.mark.parametrize("code", [429, 503, 500])
def test_retry_after_in_seconds_is_followed(form: Form, code: int) -> None:
    pauses = Pauses()
    acts = status(code, retry_after="7"), status(code, retry_after="9.5"), status(code, retry_after="3600")
    with FakeModels(form, *acts, status(code, retry_after="11")) as fake:
        fault = fault_of(fake, pauses=pauses)

    assert pauses == [7.0, 9.5, 60.0]
    assert fault.retry_after == 11.0


def test_retry_after_as_a_date_is_followed(form: Form) -> None:
    pauses = Pauses()
    dates = [formatdate(time.time() + ahead, usegmt=True) for ahead in (30, 7200, -100)]
    with FakeModels(form, *(status(503, retry_after=date) for date in dates), says("hello")) as fake:
        called(fake.url, ask, pauses)

    soon, capped, past = pauses
    assert 25 < soon <= 30
    assert capped == 60.0
    assert 1.0 <= past <= 3.0  # the pause of the third attempt


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "-1",
        "nan",
        "inf",
        "1e9",
        "0",
        "9" * 400,
        "Tue, 99 Nov 2026 00:00:00 GMT",
        "Tue, 1 Nov 99999 0:0:0 GMT",
    ],
)
def test_a_retry_after_that_says_nothing_leaves_the_usual_pause(form: Form, value: str) -> None:
    pauses = Pauses()
    with FakeModels(form, status(429, retry_after=value), says("hello")) as fake:
        called(fake.url, ask, pauses)

    (pause,) = pauses
    assert 0.25 <= pause <= 0.75 or (value.startswith("Tue") and 0.25 <= pause <= 60)


@pytest.mark.parametrize("act", [hangs(), trickles()], ids=["hangs", "trickles"])
def test_a_whole_answer_has_a_time_limit(form: Form, act: Act) -> None:
    pauses = Pauses()
    begun = time.monotonic()
    with FakeModels(form, act, act, act, act) as fake:
        fault = fault_of(fake, pauses=pauses, timeout=0.25)

    assert (fault.kind, fault.status) == ("timeout", None)
    assert "no whole answer in 0.25 s" in str(fault)
    assert len(pauses) == 3
    assert 1.0 <= time.monotonic() - begun < 10.0


def test_a_task_that_is_cancelled_ends_at_once(form: Form) -> None:
    async def cancel(client: ChatClient) -> None:
        task = asyncio.create_task(ask(client))
        while not fake.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    begun = time.monotonic()
    with FakeModels(form, hangs()) as fake:
        called(fake.url, cancel)

    assert time.monotonic() - begun < 5.0
    assert len(fake.requests) == 1


def test_one_client_serves_many_tasks(form: Form) -> None:
    async def many(client: ChatClient) -> list[Reply]:
        asked = [
            client.complete("m", [Message("user", str(number))], schema=None, max_tokens=1) for number in range(20)
        ]
        return await asyncio.gather(*asked)

    with FakeModels(form, otherwise=lambda asked: says(asked.contents("user")[0])) as fake:
        replies = called(fake.url, many)

    assert [reply.text for reply in replies] == [str(number) for number in range(20)]


def test_neither_key_nor_text_is_in_a_log_or_a_repr(form: Form, caplog: pytest.LogCaptureFixture) -> None:
    async def asked(client: ChatClient) -> str:
        with pytest.raises(ModelFault):
            await ask(client)
        await ask(client)
        return repr(client) + repr(client.server) + str(vars(client.server))

    caplog.set_level(logging.DEBUG)
    with FakeModels(form, *[status(500, KEY)] * ATTEMPTS, says(TEXT)) as fake:
        shown = called(fake.url, asked)

    assert KEY not in caplog.text + shown
    assert TEXT not in caplog.text + shown


def test_the_service_starts_without_the_client_library() -> None:
    program = "import sys, server.app; sys.exit('llama_api_client' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# Moderation


def test_a_moderation_endpoint_is_asked_as_the_llama_api_has_it(form: Form) -> None:
    with FakeModels(form, moderates("violence", "hate", flagged=True), moderates(flagged=False)) as fake:
        first, second = (called(fake.url, check, moderation="endpoint") for _ in range(2))

    assert first == Moderation(True, ("violence", "hate"), None, None, "guard")
    assert second == Moderation(False, (), None, None, "guard")
    assert fake.requests[0].path == "/v1/moderations"
    assert fake.requests[0].body == {"model": "guard", "messages": TURNS}
    assert fake.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_of_a_result_for_each_turn_that_of_the_answer_counts(form: Form) -> None:
    asked, answered, third = {"flagged": True, "flagged_categories": ["asked"]}, {"flagged": False}, {"flagged": False}

    def said(*results: object) -> Act:
        return raw(json.dumps({"results": results}).encode())

    with FakeModels(form, said(asked, answered), said(answered, asked), said(asked, answered, third)) as fake:
        found = [called(fake.url, check, moderation="endpoint") for _ in range(3)]

    assert [(one.flagged, one.categories) for one in found] == [(False, ()), (True, ("asked",)), (True, ("asked",))]


def test_an_answer_to_nothing_is_moderated_alone(form: Form) -> None:
    async def alone(client: ChatClient) -> Moderation:
        return await client.moderate("guard", "", "\ud800 answer")

    with FakeModels(form, says("safe"), moderates(flagged=True)) as fake:
        assert [called(fake.url, alone, moderation=how).flagged for how in ("chat", "endpoint")] == [False, True]

    assert [one.body["messages"] for one in fake.requests] == [[{"role": "user", "content": "? answer"}]] * 2


@pytest.mark.parametrize(
    "content", [b"{}", b'{"results": []}', b'{"results": [{}]}', b'{"results": [{"flagged": 1}]}', b"x"]
)
def test_a_moderation_of_another_form_is_malformed(form: Form, content: bytes) -> None:
    with FakeModels(form, raw(content)) as fake:
        assert fault_of(fake, check, moderation="endpoint").kind == "malformed"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("safe", (False, ())),
        ("\n\nsafe\n", (False, ())),
        ("unsafe\nS1,S2", (True, ("S1", "S2"))),
        ("\n\nunsafe \n S10 , S2\n", (True, ("S10", "S2"))),
        ("unsafe", (True, ())),
        ("Unsafe\nS1\nS2", (True, ("S1", "S2"))),
        ("unsafe\nit kills", (True, ())),
        ("unsafe\nS1,,S2", (True, ("S1", "S2"))),
    ],
)
def test_a_guard_model_says_safe_or_unsafe(form: Form, said: str, expected: tuple[bool, tuple[str, ...]]) -> None:
    with FakeModels(form, says(said)) as fake:
        found = called(fake.url, check, moderation="chat")

    assert (found.flagged, found.categories) == expected
    assert (found.prompt_tokens, found.completion_tokens) == (PROMPT_TOKENS, COMPLETION_TOKENS)

    (asked,) = fake.requests
    assert asked.path == "/v1/chat/completions"
    assert asked.body["messages"] == TURNS
    assert (asked.body["model"], asked.body["temperature"]) == ("guard", 0.0)


@pytest.mark.parametrize(
    "act",
    [
        *(says(said) for said in ("", "Safe!", "not safe", "unsafe S1", "safe\nS1")),
        says("safe\nunsafe"),
        truncated("safe"),
        refuses(),
    ],
)
def test_a_guard_model_that_says_anything_else_is_malformed(form: Form, act: Act) -> None:
    with FakeModels(form, act) as fake:
        assert fault_of(fake, check, moderation="chat").kind == "malformed"


@pytest.mark.parametrize("moderation", ["endpoint", "chat"])
def test_a_moderation_is_tried_four_times(form: Form, moderation: str) -> None:
    pauses = Pauses()
    with FakeModels(form, *[status(503, retry_after="2")] * ATTEMPTS) as fake:
        fault = fault_of(fake, check, pauses, moderation=moderation)

    assert (fault.kind, len(fake.requests), len(pauses)) == ("overloaded", 4, 3)


def test_a_server_that_does_not_moderate_is_not_asked(form: Form) -> None:
    with FakeModels(form) as fake, pytest.raises(ValueError, match="endpoint"):
        called(fake.url, check)

    assert fake.requests == []
