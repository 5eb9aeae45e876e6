"""Who may talk to this server at all: a web page of somebody else must not steer it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus

from server.problems import Refused

Headers = Iterable[tuple[bytes, bytes]]

_MUTATIONS = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Guard:
    """Checks the headers of every request.

    Args:
        loopback: Whether the server listens on loopback only; then `Host` has to be a loopback name, which keeps
            out pages whose name was made to resolve to this machine.
    """

    def __init__(self, *, loopback: bool) -> None:
        self.loopback = loopback

    def check(self, method: str, headers: Headers) -> None:
        """Raise if a request with these headers is not let in.

        Raises:
            Refused: 403 for a foreign Host or Origin, 415 for a body that is not JSON.
        """
        given: dict[bytes, bytes] = {}
        for name, value in headers:
            if name == b"host" and name in given:
                raise Refused(HTTPStatus.BAD_REQUEST, "received two Host headers, allowed: one")
            given[name] = value
        host, origin = given.get(b"host", b""), given.get(b"origin")
        if self.loopback and not _names_this_machine(host):
            raise Refused(HTTPStatus.FORBIDDEN, "the Host header has to name this machine (localhost, 127.0.0.1)")
        if origin is not None and _place(origin) != _without_default(host.lower()):
            raise Refused(HTTPStatus.FORBIDDEN, "requests from web pages of another origin are refused")
        if method in _MUTATIONS:
            media = given.get(b"content-type")
            has_body = given.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in given
            if (has_body or media is not None) and media != b"application/json" and not _is_json(media):
                raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a body has to come as Content-Type: application/json")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's loopback."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=256)  # parsing an address takes longer than all of the rest
def _names_this_machine(host: bytes) -> bool:
    return is_loopback(_name(host))


def _name(host: bytes) -> str:
    """Return the host of a Host header, without its port."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        name, bracket, port = text[1:].partition("]")
        return name if bracket and (not port or (port[0] == ":" and port[1:].isdecimal())) else ""
    name, _, _ = text.partition(":")
    return name


def _place(origin: bytes) -> bytes | None:
    """Return host and port of an origin, None if it has none (`null`)."""
    scheme, found, place = origin.lower().partition(b"://")
    return _without_default(place) if found and scheme in (b"http", b"https") else None


def _without_default(place: bytes) -> bytes:
    return place.removesuffix(b":80").removesuffix(b":443")


def _is_json(media: bytes | None) -> bool:
    return media is not None and media.split(b";", 1)[0].strip().lower() == b"application/json"
