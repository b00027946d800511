"""Requests a second of `mlops serve` beside a floor: the same uvicorn, loop and protocol answering a constant.

Both run in this call, alternating, on this machine; read the ratio, not the absolute number. The model is a tiny ONNX graph
behind a polars transform of five columns, so what is measured is the way through the house.

    python benchmarks/serve.py [--seconds 3] [--rounds 5] [--connections 16]
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

import mlops_local as mlops

ROOT = Path(__file__).resolve().parent.parent
FLOOR = """
import sys
import uvicorn

async def app(scope, receive, send):
    message = await receive()
    body = b'{"predictions":[0.5],"model":"delay","version":1}'
    await send({"type": "http.response.start", "status": 200, "headers": [
        (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})

uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", ws="none", lifespan="off", log_level="critical",
            access_log=False)
"""


def make_project(folder: Path) -> dict[str, Any]:
    """A project with one promoted version, from the tests' own builder; returns a row to ask with."""
    spec = importlib.util.spec_from_file_location("bundles", ROOT / "tests/server/conftest.py")
    assert spec and spec.loader
    bundles = importlib.util.module_from_spec(spec)
    sys.modules["bundles"] = bundles
    spec.loader.exec_module(bundles)
    root, builds = folder / "project", folder / "builds"
    root.mkdir()
    builds.mkdir()
    (root / "mlops.toml").write_text('[project]\nname = "bench"\n')
    layout = bundles.Layout(root)
    bundles.create(layout)
    served = bundles.Served(layout, builds)
    served.promote(served.version())
    row = bundles.raw_rows(1).to_dicts()[0]
    return {**row, "time": row["time"].isoformat()}


class Load(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.count = 0
        self.buffer = b""
        self.running = True
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]
        self.transport.write(self.request)  # type: ignore[union-attr]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self.buffer.find(b"content-length: ") + 16
        length = int(self.buffer[at : self.buffer.find(b"\r\n", at)])
        if len(self.buffer) < head + 4 + length:
            return
        if not self.buffer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(self.buffer.decode())
        self.buffer = b""
        self.count += 1
        if self.running and self.transport is not None:
            self.transport.write(self.request)


async def measure(url: str, body: bytes, connections: int, seconds: float) -> float:
    parts = urlsplit(url)
    request = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    loop = asyncio.get_running_loop()
    clients = []
    started = time.perf_counter()
    for _ in range(connections):
        _, client = await loop.create_connection(lambda: Load(request + body), parts.hostname or "", parts.port or 80)
        clients.append(client)
    await asyncio.sleep(seconds)
    rate = sum(client.count for client in clients) / (time.perf_counter() - started)
    for client in clients:
        client.running = False
        if client.transport is not None:
            client.transport.close()
    return rate


def wait_for(url: str, body: bytes) -> None:
    for _ in range(200):
        try:
            with asyncio.Runner() as runner:
                runner.run(measure(url, body, 1, 0.05))
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"no answer from {url}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--port", type=int, default=18501)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        body = json.dumps(make_project(folder)).encode()
        ours = [sys.executable, "-m", "mlops_local", "-q", "-C", str(folder / "project"), "serve", "--port", str(options.port)]
        floor = [sys.executable, "-c", FLOOR, str(options.port + 1)]
        urls = {"floor": f"http://127.0.0.1:{options.port + 1}", "mlops": f"http://127.0.0.1:{options.port}"}
        processes = [subprocess.Popen(command, cwd=ROOT) for command in (ours, floor)]
        rates: dict[str, list[float]] = {name: [] for name in urls}
        try:
            for url in urls.values():
                wait_for(url, body)
            for _ in range(options.rounds):
                for name, url in urls.items():
                    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                        rates[name].append(runner.run(measure(url, body, options.connections, options.seconds)))
        finally:
            for process in processes:
                process.terminate()
                process.wait()
    print(f"{options.connections} connections, {options.rounds} x {options.seconds:.0f} s, one row a request")
    for name, found in rates.items():
        print(f"{name:6} req/s  min {min(found):8.0f}  median {statistics.median(found):8.0f}  max {max(found):8.0f}")
    ratio = statistics.median(rates["mlops"]) / statistics.median(rates["floor"])
    print(f"ratio of medians {ratio:.2f}")
    if "MLOPS_RUN" in os.environ:  # started by `mlops run`: keep the numbers
        mlops.log(requests_a_second=statistics.median(rates["mlops"]), ratio_to_floor=ratio)


if __name__ == "__main__":
    main()
