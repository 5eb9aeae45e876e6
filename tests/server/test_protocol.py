"""How answers travel: what a client sees of the protocol that sends each in one piece."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from tests.server.running import Service, in_process


def text_of(user: str) -> bytes:
    body = json.dumps({"experiment": "x", "user_id": user}).encode()
    head = b"POST /choose HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def connected(service: Service) -> socket.socket:
    place = service.http.base_url
    return socket.create_connection((place.host, place.port or 80), timeout=5)


def everything_from(client: socket.socket) -> bytes:
    heard = b""
    while piece := client.recv(65_536):
        heard += piece
    return heard


def test_a_client_that_sends_no_more_is_still_answered(path: Path) -> None:
    with in_process(path) as service:
        service.create("x")
        service.choose("x", "u")
        for _ in range(50):
            with connected(service) as client:
                client.sendall(text_of("u"))
                client.shutdown(socket.SHUT_WR)

                assert b'"sticky"' in everything_from(client)


def test_requests_that_come_together_are_answered_in_their_order(path: Path) -> None:
    with in_process(path) as service:
        service.create("x")
        users = [f"u{i}" for i in range(40)]
        with connected(service) as client:
            client.sendall(b"".join(map(text_of, users)))
            heard = b""
            while heard.count(b"HTTP/1.1 200 OK") < len(users) or not heard.endswith(b"}"):
                heard += client.recv(65_536)

    told = [json.loads(answer.partition(b"\r\n\r\n")[2])["user_id"] for answer in heard.split(b"HTTP/1.1 200 OK")[1:]]
    assert told == users


def test_an_upgrade_is_no_reason_to_break_off(path: Path) -> None:
    with in_process(path) as service, connected(service) as client:
        client.sendall(
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )

        assert everything_from(client).startswith(b"HTTP/1.1 200 OK")
