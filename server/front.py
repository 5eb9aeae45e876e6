"""The way in: every request is checked here, the hot calls are answered here, the rest goes to FastAPI."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Receive, Scope, Send

from bandit import BanditError, InvalidInput, Problem
from bandit.wording import received
from server.body import read_body
from server.guard import Guard
from server.hot import Hot
from server.problems import answer_to

log = logging.getLogger("bandit.server")


class Front:
    """An ASGI application in front of another one.

    Args:
        app: Answers everything but the hot calls.
        hot: Answers those.
        guard: Says who is let in; it stands before both, so no path goes around it.
    """

    def __init__(self, app: ASGIApp, hot: Hot, guard: Guard) -> None:
        self.app = app
        self.hot = hot
        self.guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            method, path = scope["method"], scope["path"]
            self.guard.check(method, scope["headers"])
            call = self.hot.paths.get(path) if method == "POST" else None
            if call is None:
                await self._pass_on(scope, receive, send)
                return
            if scope["query_string"]:
                _refuse_parameters(scope["query_string"])
            body = await read_body(scope, receive, call.largest_body)
        except BanditError as error:
            status, headers, body = answer_to(error)
        else:
            status, headers, body = await self.hot.answer(path, body)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception:
            # FastAPI has answered 500 and raises for the log; raised further it would cost the client its connection.
            log.exception("a request failed unforeseen")


def _refuse_parameters(query: bytes) -> None:
    """Refuse query parameters: the hot calls have none, and one that is not understood would be passed over."""
    shown = received(query[:80].decode("latin-1"))
    raise InvalidInput([Problem("", f"received the query parameters {shown}, allowed: none")])
