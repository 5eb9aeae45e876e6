"""Reading the body of a request, up to a limit."""

from __future__ import annotations

from http import HTTPStatus

from starlette.types import Receive, Scope

from server.problems import Refused


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Return the whole body.

    Args:
        scope: ASGI's description of the request.
        receive: ASGI's channel.
        limit: Most bytes that are read.

    Raises:
        Refused: The body is larger (413), or the client went away (400; nobody will see that answer).
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > limit:
            raise too_large(limit)
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body", False) and len(body) <= limit:
        return body  # nearly always
    pieces, size = [body], len(body)
    while message.get("more_body", False) and size <= limit:
        message = await receive()
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
    if message["type"] == "http.disconnect":
        raise Refused(HTTPStatus.BAD_REQUEST, "the request ended before its body did")
    if size > limit:
        raise too_large(limit)
    return b"".join(pieces)


def too_large(limit: int) -> Refused:
    """Return the refusal of a body, or of a part of one that is read for itself, of more than `limit` bytes."""
    return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is too large, allowed: {limit} bytes")
