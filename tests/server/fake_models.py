"""A model server for tests: real HTTP on the loopback interface, in either wire format, with answers from a script.

    with FakeModels("llama", status(503), says("hello")) as fake:
        ...  # fake.url is the base URL; fake.requests is what was asked

A judge that scores by a function of the texts:

    with FakeModels("openai", otherwise=scoring(lambda asked, answered: {"helpfulness": 5, ...})) as fake:
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

Form = Literal["llama", "openai"]
FORMS: tuple[Form, ...] = ("llama", "openai")

PROMPT_TOKENS, COMPLETION_TOKENS = 120, 30
"""What a request and its answer cost if an answer does not say otherwise."""


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    path: str
    headers: Mapping[str, str]
    """By their names in small letters."""
    body: dict[str, Any]

    def contents(self, role: str) -> list[str]:
        """What the messages of a role say."""
        return [message["content"] for message in self.body["messages"] if message["role"] == role]


@dataclass
class Exchange:
    """A request that waits for its answer."""

    form: Form
    asked: Asked
    handler: BaseHTTPRequestHandler
    closing: threading.Event

    def send(self, status: int, content: bytes, **headers: str) -> None:
        """Answer."""
        self.begin(status, len(content), **headers)
        self.handler.wfile.write(content)

    def begin(self, status: int, length: int, **headers: str) -> None:
        """Send all that comes before the content."""
        self.handler.send_response(status)
        for name, value in ({"content_type": "application/json"} | headers).items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.send_header("Content-Length", str(length))
        self.handler.end_headers()


Act = Callable[[Exchange], None]
"""What the server does with one request."""


def says(
    text: str | None,
    *,
    stop: str = "stop",
    shape: Literal["usual", "other"] = "usual",
    tokens: tuple[float, float] | None = (PROMPT_TOKENS, COMPLETION_TOKENS),
) -> Act:
    """Answer with a text.

    Args:
        text: The text; None: a message without content.
        stop: Why the model stopped.
        shape: `other`: the content as a plain string in the format of the Llama API, as a list of parts in OpenAI's.
        tokens: Of the request and of the answer; None: they are not said.
    """

    def act(exchange: Exchange) -> None:
        document = _WRITERS[exchange.form](exchange.asked, text, stop, shape, tokens)
        exchange.send(200, json.dumps(document).encode())

    return act


def _llama(_: Asked, text: str | None, stop: str, shape: str, tokens: tuple[float, float] | None) -> dict[str, object]:
    content = text if shape == "other" or text is None else {"type": "text", "text": text}
    document: dict[str, object] = {
        "id": "1",
        "completion_message": {"role": "assistant", "stop_reason": stop, "content": content},
    }
    if tokens is not None:
        names = ("num_prompt_tokens", "num_completion_tokens", "num_total_tokens")
        values = zip(names, (*tokens, sum(tokens)), strict=True)
        document["metrics"] = [{"metric": name, "value": float(value), "unit": "tokens"} for name, value in values]
    return document


def _openai(
    asked: Asked, text: str | None, stop: str, shape: str, tokens: tuple[float, float] | None
) -> dict[str, object]:
    half = 0 if text is None else len(text) // 2
    parts = None if text is None else [{"type": "text", "text": text[:half]}, {"type": "text", "text": text[half:]}]
    message = {"role": "assistant", "content": parts if shape == "other" else text, "refusal": None}
    document: dict[str, object] = {
        "id": "1",
        "object": "chat.completion",
        "model": f"{asked.body['model']}-2026",
        "choices": [{"index": 0, "finish_reason": stop, "message": message, "logprobs": None}],
    }
    if tokens is not None:
        document["usage"] = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return document


_WRITERS = {"llama": _llama, "openai": _openai}


def refuses() -> Act:
    """Answer with a refusal."""

    def act(exchange: Exchange) -> None:
        message = {"role": "assistant", "content": None, "refusal": "I will not."}
        document = {
            "llama": {"completion_message": message},
            "openai": {"choices": [{"finish_reason": "stop", "message": message}], "usage": {"prompt_tokens": 7}},
        }[exchange.form]
        exchange.send(200, json.dumps(document).encode())

    return act


def truncated(text: str) -> Act:
    """Answer with the beginning of a text."""
    return says(text, stop="length")


def status(code: int, message: str = "no", **headers: str) -> Act:
    """Answer with this HTTP status, a message, and headers such as `retry_after="7"`."""
    content = json.dumps({"error": {"message": message}}).encode()
    return lambda exchange: exchange.send(code, content, **headers)


def raw(content: bytes, content_type: str = "application/json") -> Act:
    """Answer 200 with this content."""
    return lambda exchange: exchange.send(200, content, content_type=content_type)


def moderates(*categories: str, flagged: bool) -> Act:
    """Answer as `/moderations` does."""
    document = {"model": "guard", "results": [{"flagged": flagged, "flagged_categories": list(categories)}]}
    return raw(json.dumps(document).encode())


def hangs() -> Act:
    """Never answer."""

    def act(exchange: Exchange) -> None:
        exchange.closing.wait(30)

    return act


def trickles(every: float = 0.02) -> Act:
    """Answer a character at a time, and never come to the end."""

    def act(exchange: Exchange) -> None:
        exchange.begin(200, 100_000)
        while not exchange.closing.wait(every):
            exchange.handler.wfile.write(b" ")

    return act


def resets(*, midway: bool = False) -> Act:
    """Break the connection off, before an answer or midway in it."""

    def act(exchange: Exchange) -> None:
        if midway:
            exchange.begin(200, 100_000)
        connection = exchange.handler.connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        exchange.handler.rfile.close()
        connection.close()

    return act


def needs_no_schema(otherwise: Act) -> Act:
    """Answer 400 to a request with `response_format`, as some servers do."""
    no = status(HTTPStatus.BAD_REQUEST, "response_format json_schema is not supported")
    return lambda exchange: (no if "response_format" in exchange.asked.body else otherwise)(exchange)


def judged_texts(asked: Asked) -> dict[str, Any]:
    """The texts that a judge was given: `user_input` and `model_output`."""
    begin, document, end = asked.contents("user")[0].split("\n")
    nonce = begin.removeprefix("BEGIN ")
    assert (begin, end) == (f"BEGIN {nonce}", f"END {nonce}")
    texts: dict[str, Any] = json.loads(document)
    return texts


def scores(reasoning: str = "Because.", **values: object) -> str:
    """A judge's answer, by default with the names of the default rubric."""
    return json.dumps({"reasoning": reasoning, **(values or {"helpfulness": 4, "clarity": 5, "safety": 3})})


def scoring(judge: Callable[[str, str], Mapping[str, int]]) -> Callable[[Asked], Act]:
    """A judge that scores by a function of what was asked and what was answered."""

    def answer(asked: Asked) -> Act:
        texts = judged_texts(asked)
        found = judge(texts["user_input"], texts["model_output"])
        return says(json.dumps({"reasoning": "By a function."} | dict(found)))

    return answer


class FakeModels:
    """The server, while its block runs.

    Args:
        form: The wire format.
        acts: What it does with the first requests, in their order.
        otherwise: What it does with each request after these; by default one more is a failure of the test.

    Attributes:
        requests: What came.
        url: Its base URL.
    """

    def __init__(self, form: Form, *acts: Act, otherwise: Callable[[Asked], Act] | None = None) -> None:
        self.form: Form = form
        self.acts, self.otherwise = deque(acts), otherwise
        self.requests: list[Asked] = []

    def __enter__(self) -> Self:
        self._closing = threading.Event()
        self._server = _Server(self._closing, self._answer)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="fake-models")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.break_off()
        self._server.server_close()
        assert error is not None or not self._server.errors, self._server.errors

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers["Content-Length"])
        content = handler.rfile.read(length)
        if len(content) < length:
            return  # who asked has gone
        body = json.loads(content)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        asked = Asked(handler.path, headers, body)
        self.requests.append(asked)
        try:
            act = self.acts.popleft()
        except IndexError:
            assert self.otherwise is not None, "a request came that the script does not have"
            act = self.otherwise(asked)
        act(Exchange(self.form, asked, handler, self._closing))


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them
    request_queue_size = 100

    def __init__(self, closing: threading.Event, answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self.closing, self.errors = closing, list[BaseException]()
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _handler(answer))

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as the base class has it
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - as the base class has it
        self._open.discard(request)
        super().shutdown_request(request)

    def break_off(self) -> None:
        """End the connections that clients keep open."""
        for connection in tuple(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # it has ended
                continue

    def handle_error(self, *_: object) -> None:
        """Keep what went wrong, unless it was the client who left."""
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            self.errors.append(error)


def _handler(answer: Callable[[BaseHTTPRequestHandler], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            answer(self)
            self.close_connection = self.close_connection or self.connection.fileno() < 0

        def log_message(self, *_: object) -> None:
            pass

    return Handler
