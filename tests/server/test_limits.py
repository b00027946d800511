"""Requests that arrive too slowly are ended; the clock is the only thing changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from mlops_local.server import limits


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, then answer its length."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    text = b"%d" % size
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A server with short limits."""
    monkeypatch.setattr(limits, "HEAD_S", 0.3)
    monkeypatch.setattr(limits, "REQUEST_S", 1.0)
    config = uvicorn.Config(hello, http=limits.LimitedProtocol, ws="none", lifespan="off", log_config=None)
    config.load()
    server = uvicorn.Server(config)
    connections: set[Any] = server.server_state.connections
    listener = await asyncio.get_running_loop().create_server(
        lambda: limits.LimitedProtocol(config=config, server_state=server.server_state, app_state={}), "127.0.0.1", 0
    )
    sweeper = asyncio.create_task(limits.sweep(connections))
    yield listener.sockets[0].getsockname()[1]
    sweeper.cancel()
    listener.close()
    for connection in list(connections):
        connection.transport.abort()
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b"HTTP/1.1 408"),
        (b"POST / HTTP/1.1\r\nhost: x\r\nx-slow", b"HTTP/1.1 408"),
        (b"POST / HTTP/1.1\r\ncontent-length: 10\r\n\r\nabc", b"HTTP/1.1 408"),
        (b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", b"HTTP/1.1 200"),
    ],
)
async def test_slow_requests_end(port: int, sent: bytes, answer: bytes) -> None:
    """A connection that sends nothing, half a head or half a body is answered 408 and closed; a whole request is not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    assert (await asyncio.wait_for(reader.readline(), 30)).startswith(answer)
    if answer.endswith(b"408"):
        assert (await asyncio.wait_for(reader.read(), 30)).endswith(b"Request Timeout")  # and then the end
    writer.close()
    await writer.wait_closed()


async def test_large_body_with_small_head(port: int) -> None:
    """The limit is on the head: a body of any size may come in the same packets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b"a" * 1_000_000
    writer.write(b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    assert (await asyncio.wait_for(reader.readline(), 30)).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()
