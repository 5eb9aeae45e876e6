"""HTTP/1.1 as uvicorn speaks it, with each answer sent in one piece."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class OneWrite(HttpToolsProtocol):
    """Sends what is written in one turn of the event loop at its end.

    uvicorn writes the headers of an answer and its body one after the other. Each would be a call to the system of its
    own, which takes as long as everything that is done here for a user who is known.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Speak to a client."""
        self._joining = Joining(transport, self.loop)
        super().connection_made(self._joining)

    def eof_received(self) -> None:
        """Send what was written: the connection is closed after a client has said that it sends no more."""
        self._joining.send()


class Joining(asyncio.Transport):
    """A transport that joins what is written in one turn of the event loop.

    Args:
        transport: Where it goes.
        loop: The event loop.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes | bytearray | memoryview] = []
        # Asked at every request:
        self.is_closing = transport.is_closing  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send data at the end of this turn, after what was written before."""
        if not self._held:
            self._loop.call_soon(self.send)
        self._held.append(data)

    def send(self) -> None:
        """Send what was written so far."""
        held, self._held = self._held, []
        if held:
            self._transport.write(b"".join(held))

    def close(self) -> None:
        """Send what was written, then close."""
        self.send()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return what is known of the connection."""
        return self._transport.get_extra_info(name, default)
