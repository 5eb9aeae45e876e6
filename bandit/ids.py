"""Ids: user ids, request ids, keys and names of metrics."""

from __future__ import annotations

import re

from bandit.errors import InvalidId, Problem
from bandit.wording import received

LONGEST_BYTES = 200
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")  # Unicode category Cc


def check_id(value: object, field: str) -> str:
    """The value itself if it is an id: 1 to 200 bytes of UTF-8 without control characters.

    Args:
        value: What was received.
        field: Where it was received, for the message.

    Raises:
        InvalidId: It is not text, empty, too long, or has control characters or lone surrogates.
    """
    if isinstance(value, str):
        if value.isascii() and value.isprintable() and 0 < len(value) <= LONGEST_BYTES:
            return value  # called per request, and nearly every id is of this kind
        fault = _fault(value)
        if fault is None:
            return value
    else:
        fault = "not text"
    message = (
        f"received {received(value)} ({fault}), allowed: 1 to {LONGEST_BYTES} bytes of UTF-8 without control characters"
    )
    raise InvalidId([Problem(field, message)])


def check_key(value: object, field: str) -> str:
    """The value itself if it is an id that can be a segment of a URL's path.

    Raises:
        InvalidId: It is not an id, contains a slash, or is `.` or `..`.
    """
    key = check_id(value, field)
    if "/" in key or key in {".", ".."}:
        message = f"received {received(key)}, allowed: a name without '/' that is not '.' or '..' (it is part of URLs)"
        raise InvalidId([Problem(field, message)])
    return key


def _fault(text: str) -> str | None:
    """What keeps this text from being an id, None if nothing does."""
    if not text:
        return "empty"
    if _CONTROL.search(text):
        return "has control characters"
    try:
        n_bytes = len(text.encode())
    except UnicodeEncodeError:
        return "has lone surrogates"
    return f"{n_bytes} bytes" if n_bytes > LONGEST_BYTES else None
