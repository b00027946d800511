"""The small client against a real server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pytest

from mlops_local.client import Client, Refused, Unreachable
from mlops_local.domain.errors import UsageError

if TYPE_CHECKING:
    from tests.server.conftest import Process, Served


def test_client(
    served: Served,
    start: Callable[..., Process],
    rows: Callable[[int], list[dict[str, Any]]],
    frame: Callable[[int], pl.DataFrame],
) -> None:
    """Mappings and frames give floats with model and version; refusals say what does not fit; a restart is survived."""
    served.promote(served.version())
    expected = served.predictor("delay@1").predict(frame(5)).tolist()
    process = start().ready()
    with Client(process.url) as client:
        answer = client.predict(rows(5))
        assert answer == expected
        assert (answer.model, answer.version) == ("delay", 1)
        assert answer.request_id
        assert client.predict(rows(1)[0]) == expected[:1]
        assert client.predict(frame(5)) == expected
        assert client.predict(pd.DataFrame(rows(5))) == expected  # NaN for what is missing
        with pytest.raises(Refused, match="column 'distance'") as refused:
            client.predict({**rows(1)[0], "distance": "far"})
        assert refused.value.status == 422
        assert refused.value.errors[0]["got"] == "string 'far'"
        assert client.model()["id"] == "delay@1"
        assert process.stop() == 0
        with pytest.raises(Unreachable, match="no answer from") as unreachable:
            client.predict(rows(1))
        assert "mlops serve" in unreachable.value.hint
        again = start(port=int(process.url.rpartition(":")[2])).ready()
        assert client.predict(rows(5)) == expected
        assert again.stop() == 0


def test_idle_connection_closed_by_the_server() -> None:
    """A connection the server closed while it was idle is opened again without the caller noticing."""
    body = b'{"predictions":[0.5],"model":"m","version":2}'
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_twice() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

        thread = threading.Thread(target=answer_twice)
        thread.start()
        with Client(f"127.0.0.1:{listener.getsockname()[1]}") as client:
            assert client.predict({"a": 1}) == [0.5]
            assert client.predict({"a": 1}).version == 2
        thread.join()


@pytest.mark.parametrize("url", ["https://127.0.0.1", "ftp://x", "http://"])
def test_addresses_it_cannot_use(url: str) -> None:
    """An address it cannot speak to is refused when the client is made."""
    with pytest.raises(UsageError):
        Client(url)
