"""What uvicorn does not limit by itself: the size of a request's head, and how long a request may take to arrive.

Not covered: a client that reads its answer slowly keeps the answer in memory until it is done or leaves, and each of the
allowed connections may hold one body of the largest size.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 * 1024
HEAD_S = 10.0
"""From the connection, or the first byte of a further request, to the end of its head."""
REQUEST_S = 60.0
"""From the first byte of a request to the last of its body."""
CONNECTIONS = 1000
"""Beyond this many at once, requests are answered 503."""
KEEP_ALIVE_S = 65
DRAIN_S = 10
"""How long requests under way may take when the server is told to stop."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection whose request has to arrive in bounded size and time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin waiting for a first request."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._in_head = True
        self._head_bytes = 0

    def on_message_begin(self) -> None:
        """A request begins: its time and size count from here."""
        super().on_message_begin()
        self._since = self.loop.time()
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole: what follows is our time."""
        self._since = 0.0
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Take bytes, unless the head has become too large."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES and b"\r\n\r\n" not in data[:HEAD_BYTES]:
                self._refuse(b"431 Request Header Fields Too Large")
                return
        super().data_received(data)

    def expire(self, now: float) -> None:
        """Close the connection when its request has been arriving for too long."""
        if self._since and now - self._since > (HEAD_S if self._in_head else REQUEST_S):
            self._refuse(b"408 Request Timeout")

    def _refuse(self, status: bytes) -> None:
        self._since = 0.0
        if self.transport.is_closing():
            return
        if self._in_head or not self.cycle.response_started:
            text = status.partition(b" ")[2]
            self.transport.write(
                b"HTTP/1.1 %b\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (status, len(text), text)
            )
        self.transport.close()


async def sweep(connections: set[Any]) -> None:
    """Close what takes too long, once a second, until cancelled: cheaper than a timer a request."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(1.0)
        now = loop.time()
        for connection in list(connections):
            connection.expire(now)
