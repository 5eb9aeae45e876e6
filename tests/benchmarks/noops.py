"""Two servers that answer `POST /choose` with nothing behind it: what the service is measured against.

`python tests/benchmarks/noops.py raw` or `fastapi` listens on a free port and prints the address.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

ANSWER: dict[str, Any] = {
    "request_id": "0199d1f2-6a3c-7c55-9a40-3f1be2c9d7aa",
    "user_id": "00000000",
    "experiment": "benchmark",
    "variant": "A",
    "config": {"model": "small-instruct", "prompt": "v1", "temperature": 0.7},
    "propensity": 0.25,
    "epoch": 1,
    "reason": "sticky",
}
"""An answer of the service's size."""


class Asked(msgspec.Struct):
    """What the raw server decodes."""

    experiment: str
    user_id: str


class Request(BaseModel):
    """What FastAPI validates."""

    experiment: str
    user_id: str


class Answer(BaseModel):
    """What FastAPI answers with."""

    request_id: str
    user_id: str
    experiment: str
    variant: str
    config: dict[str, Any]
    propensity: float
    epoch: int
    reason: str


def raw() -> ASGIApp:
    """Return an ASGI function that reads the body, decodes it, and sends bytes made beforehand."""
    decode = msgspec.json.Decoder(Asked).decode
    body = msgspec.json.encode(ANSWER)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        asked: bytes = message.get("body", b"")
        while message.get("more_body", False):
            message = await receive()
            asked += message.get("body", b"")
        decode(asked)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def fastapi() -> ASGIApp:
    """Return a FastAPI application with a pydantic model for the body and one for the answer."""

    app = FastAPI()

    @app.post("/choose")
    async def choose(asked: Request) -> Answer:
        return Answer(**{**ANSWER, "user_id": asked.user_id})

    return app


def main() -> None:
    """Serve one of the two until a signal ends it."""
    app = {"raw": raw, "fastapi": fastapi}[sys.argv[1]]()
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"{sys.argv[1]} on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)  # noqa: T201
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", log_level="warning", access_log=False, lifespan="off",
        server_header=False, timeout_keep_alive=75,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
