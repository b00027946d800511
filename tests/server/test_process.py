"""`mlops serve` as a process: real HTTP, real signals, real damage."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import lightgbm
import numpy as np
import polars as pl
import pytest

from mlops_local.domain.assets import Column
from mlops_local.engines.models import bundle
from mlops_local.engines.models.export import export
from mlops_local.store import objects, registry

if TYPE_CHECKING:
    from tests.server.conftest import Process, Served

Start = Callable[..., "Process"]
RowsOf = Callable[[int], list[dict[str, Any]]]
Until = Callable[..., None]


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    path.chmod(0o400)


def damage(served: Served, version: str, name: str) -> None:
    """Flip a byte of one of the version's files in the store."""
    flip(objects.path(served.layout, registry.load(served.layout).versions[version].bundle[name]))


def test_banner_and_answer(
    served: Served, start: Start, rows: RowsOf, frame: Callable[[int], pl.DataFrame], eventually: Until
) -> None:
    """It says what it serves, how good that is and how to ask; the pasted command works; answers equal the predictor's."""
    served.promote(served.version())
    process = start().ready()
    assert "serving delay@1" in process.said
    assert "auc 0.7171 (95 %: 0.6520 to 0.7800)" in process.said
    command = next(line for line in process.lines if line.startswith("ask it: ")).removeprefix("ask it: ")
    pasted = subprocess.run(["sh", "-c", command], capture_output=True, check=True, timeout=30)
    answer = json.loads(pasted.stdout)
    assert (answer["model"], answer["version"], len(answer["predictions"])) == ("delay", 1, 1)
    with httpx.Client(base_url=process.url) as ask:
        for count in (1, 500):
            assert (
                ask.post("/predict", json=rows(count)).json()["predictions"]
                == served.predictor("delay@1").predict(frame(count)).tolist()
            )
    eventually(lambda: served.deployments() == [("deployed", "delay@1")])
    assert process.stop() == 0
    assert served.deployments() == [("deployed", "delay@1"), ("stopped", "delay@1")]
    assert process.lines[-1] == "stopped"


def test_imports_nothing_heavy(served: Served, start: Start, rows: RowsOf) -> None:
    """The serving process, having answered and swapped, imported no training library, no DuckDB and no TUI."""
    served.promote(served.version())
    process = start(python=["-X", "importtime"]).ready()
    with httpx.Client(base_url=process.url) as ask:
        assert ask.post("/predict", json=rows(1)).status_code == 200
        served.promote(served.version(bias=1.0))
        while ask.get("/health").json()["version"] != 2:
            time.sleep(0.05)
        assert ask.post("/predict", json=rows(100)).json()["version"] == 2
        assert ask.get("/metrics").status_code == 200
    assert process.stop() == 0
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in process.lines if line.startswith("import time:")}
    assert {"uvicorn", "polars", "onnxruntime"} <= loaded
    assert not loaded & {"lightgbm", "torch", "sklearn", "pandas", "duckdb", "textual", "starlette", "fastapi", "scipy"}


def test_trained_lightgbm(served: Served, start: Start, rows: RowsOf, frame: Callable[[int], pl.DataFrame]) -> None:
    """A trained LightGBM model is served as ONNX: HTTP answers equal the bundle's exactly and the booster's own to 1e-6."""
    rng = np.random.default_rng(3)
    given = frame(2000)
    matrix = served.features(given)
    label = (matrix[:, 3] + rng.normal(0, 1, len(matrix)) > 6.5).astype(float)
    data = lightgbm.Dataset(matrix, label, feature_name=["hour", "weekday", "carrier", "distance", "wind"])
    booster = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 15}, data, 20)
    exported = export(booster, ["hour", "weekday", "carrier", "distance", "wind"], matrix, binary=True)
    assert exported.form == "onnx"
    served.promote(served.version(exported=exported))
    process = start().ready()
    with httpx.Client(base_url=process.url, timeout=30) as ask:
        every = ask.post("/predict", json=rows(2000)).json()["predictions"]
        single = [ask.post("/predict", json=row).json()["predictions"][0] for row in rows(20)]
    assert every == served.predictor("delay@1").predict(given).tolist()
    assert single == every[:20]
    np.testing.assert_allclose(every, booster.predict(matrix, num_threads=1), rtol=1e-5, atol=1e-6)
    assert process.stop() == 0


def test_swaps_under_load(served: Served, start: Start, rows: RowsOf, frame: Callable[[int], pl.DataFrame]) -> None:
    """Promotions elsewhere are served without one failed request; each answer comes from the version it names, never back."""
    versions = [served.version(bias=bias) for bias in (-1.0, 0.0, 1.0)]
    expected = {at + 1: served.predictor(version).predict(frame(3)).tolist() for at, version in enumerate(versions)}
    served.promote(versions[0])
    process = start().ready()
    done = threading.Event()
    seen: list[list[tuple[int, int, Any]]] = [[] for _ in range(4)]

    def client(log: list[tuple[int, int, Any]]) -> None:
        with httpx.Client(base_url=process.url, timeout=30) as ask:
            while not done.is_set():
                answer = ask.post("/predict", json=rows(3))
                value = answer.json()
                log.append((answer.status_code, value.get("version", 0), value.get("predictions")))

    threads = [threading.Thread(target=client, args=(log,)) for log in seen]
    for thread in threads:
        thread.start()
    try:
        for at, version in enumerate(versions[1:], start=2):
            served.promote(version)
            deadline = time.monotonic() + 30
            while not all(log and log[-1][1] == at for log in seen):
                assert time.monotonic() < deadline, "the swap did not happen"
                time.sleep(0.02)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    for log in seen:
        assert {status for status, _, _ in log} == {200}
        numbers = [number for _, number, _ in log]
        assert numbers == sorted(numbers)
        assert all(predictions == expected[number] for _, number, predictions in log)
    assert process.stop() == 0
    assert served.deployments() == [
        ("deployed", "delay@1"), ("deployed", "delay@2"), ("deployed", "delay@3"), ("stopped", "delay@3")
    ]  # fmt: skip


def test_damaged_version_never_replaces(served: Served, start: Start, rows: RowsOf, eventually: Until) -> None:
    """A version with a flipped byte is refused once and recorded, the old one stays ready; mended and promoted, it serves."""
    versions = [served.version(bias=bias) for bias in (-1.0, 0.0)]
    served.promote(versions[0])
    process = start().ready()
    damage(served, versions[1], "model.onnx")
    served.promote(versions[1])
    eventually(lambda: ("rejected", "delay@2") in served.deployments())
    with httpx.Client(base_url=process.url) as ask:
        assert ask.post("/predict", json=rows(1)).json()["version"] == 1
        assert ask.get("/ready").status_code == 200
        assert 'mlops_swap_total{result="rejected_integrity"} 1.0' in ask.get("/metrics").text
        swap = ask.get("/v1/models/delay").json()["last_swap"]
        assert (swap["result"], swap["id"]) == ("rejected_integrity", "delay@2")
        damage(served, versions[1], "model.onnx")  # the same bit again: mended
        served.promote(versions[1])
        eventually(lambda: ask.get("/health").json()["version"] == 2)
    assert "warning: delay@2 is damaged: its model.onnx is not what was written" in process.said
    assert "delay@1 stays" in process.said
    assert process.stop() == 0
    assert [event for event, _ in served.deployments()] == ["deployed", "rejected", "deployed", "stopped"]


def test_wrong_golden_and_breaking_never_replace(served: Served, start: Start, eventually: Until) -> None:
    """A version that answers its golden rows otherwise, or that asks for a new column, does not replace the one that serves."""
    served.promote(served.version())
    golden = bundle.GOLDEN
    rows = pl.read_parquet(objects.path(served.layout, registry.load(served.layout).versions["delay@1"].bundle[golden]))
    altered = served.folder / "golden.parquet"
    rows.with_columns(pl.col(bundle.EXPECTED) + 0.01).write_parquet(altered)
    wrong = served.version(bias=0.3, change={golden: altered.read_bytes()})
    signature = (
        Column("time", "datetime", "Datetime(time_unit='us', time_zone=None)", nullable=False),
        Column("carrier", "string", "String", nullable=False),
        Column("distance", "integer", "Int64", nullable=False),
        Column("wind", "number", "Float64", nullable=True),
        Column("humidity", "number", "Float64", nullable=False),
    )
    breaking = served.version(bias=0.4, signature=signature)
    process = start().ready()
    for version in (wrong, breaking):
        served.promote(version)
        eventually(lambda version=version: ("rejected", version) in served.deployments())
    with httpx.Client(base_url=process.url) as ask:
        assert ask.get("/health").json()["version"] == 1
        page = ask.get("/metrics").text
    assert 'mlops_swap_total{result="rejected_golden"} 1.0' in page
    assert 'mlops_swap_total{result="rejected_signature"} 1.0' in page
    assert "asks for a new column 'humidity'" in process.said
    assert process.stop() == 0
    served.promote("delay@1")
    again = start("--allow-breaking", "delay@champion").ready()
    served.promote(breaking)
    eventually(lambda: httpx.get(f"{again.url}/health").json()["version"] == 3)
    assert again.stop() == 0


def test_damaged_at_start(served: Served, start: Start) -> None:
    """With nothing else to serve, a flipped byte ends the start: exit 6, naming version and file, and the way out."""
    served.promote(served.version())
    damage(served, "delay@1", "golden.parquet")
    process = start()
    assert process.wait() == 6
    assert "error: delay@1 is damaged: its golden.parquet is not what was written" in process.said
    assert "hint: " in process.said
    assert "Traceback" not in process.said
    assert served.deployments() == []


def test_nothing_to_serve(served: Served, start: Start) -> None:
    """Without any version the user is told to train first: exit 2."""
    process = start()
    assert process.wait() == 2
    assert process.lines == ["error: there is no model to serve yet", "hint: run `mlops train` first"]


def test_port_taken(served: Served, start: Start) -> None:
    """A taken port: exit 2, saying who has it and what to pass; the port that is offered works."""
    served.promote(served.version())
    first = start().ready()
    port = int(first.url.rpartition(":")[2])
    second = start(port=port)
    assert second.wait() == 2
    assert f"error: port {port} is taken by `mlops serve` of delay@1, PID {first.child.pid}" in second.said
    offered = int(second.said.partition("--port ")[2].partition(",")[0])
    third = start(port=offered).ready()
    assert third.url.endswith(f":{offered}")
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        fourth = start(port=stranger.getsockname()[1])
        assert fourth.wait() == 2
        assert "is taken by " in fourth.said
        assert "mlops serve" not in fourth.said.partition("hint:")[0]
    assert third.stop() == 0
    assert first.stop() == 0


def test_pinned_and_other_alias(served: Served, start: Start, eventually: Until) -> None:
    """MODEL@NUMBER never moves; MODEL@ALIAS follows that alias and no other."""
    versions = [served.version(bias=bias) for bias in (-1.0, 0.0)]
    served.promote(versions[0])
    served.promote(versions[0], alias="shadow")
    pinned, shadow = start("delay@1").ready(), start("delay@shadow").ready()
    served.promote(versions[1])
    served.promote(versions[1], alias="shadow")
    eventually(lambda: httpx.get(f"{shadow.url}/health").json()["version"] == 2)
    assert httpx.get(f"{pinned.url}/health").json()["version"] == 1
    assert pinned.stop() == 0
    assert shadow.stop() == 0


SLOW = b"""
import time

import polars as pl


def features(rows, codes):
    made = rows.collect()
    if (made["distance"] == 4000).any():
        time.sleep(1.5)
    one = pl.lit(1.0)
    return made.select(hour=one, weekday=one, carrier=one, distance=pl.col("distance"), wind=one)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains(served: Served, start: Start, rows: RowsOf, number: int) -> None:
    """Told to stop, it answers what is under way, takes nothing new, records `stopped` and exits 0."""
    served.promote(served.version(transform=SLOW))
    process = start().ready()
    sent = rows(200)
    sent[7]["distance"] = 4000
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(httpx.post(f"{process.url}/predict", json=sent, timeout=30)))
    asking.start()
    deadline = time.monotonic() + 30
    with httpx.Client(base_url=process.url) as ask:
        while "mlops_inflight 2.0" not in ask.get("/metrics").text:  # that one and this one; it answers all the while
            assert time.monotonic() < deadline
    assert process.stop(number) == 0
    asking.join()
    assert answers[0].status_code == 200
    assert len(answers[0].json()["predictions"]) == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{process.url}/health")
    assert served.deployments()[-1] == ("stopped", "delay@1")


ALWAYS_SLOW = SLOW.replace(b'    if (made["distance"] == 4000).any():\n        time.sleep(1.5)\n', b"    time.sleep(0.2)\n")


def test_slow_model_does_not_stop_health(served: Served, start: Start, rows: RowsOf) -> None:
    """While a model that takes long answers one row, other requests are answered: it is not run on the event loop."""
    served.promote(served.version(transform=ALWAYS_SLOW))
    process = start().ready()
    done = threading.Event()

    def slow() -> None:
        httpx.post(f"{process.url}/predict", json=rows(1), timeout=30)
        done.set()

    asking = threading.Thread(target=slow)
    asking.start()
    meanwhile = 0
    with httpx.Client(base_url=process.url) as ask:
        while not done.is_set():
            assert ask.get("/health").status_code == 200
            meanwhile += not done.is_set()
    asking.join()
    assert meanwhile > 1
    assert process.stop() == 0


def test_concurrent_clients(served: Served, start: Start, rows: RowsOf, frame: Callable[[int], pl.DataFrame]) -> None:
    """Many clients at once, small and large requests mixed: everyone gets the answers to their own rows."""
    served.promote(served.version())
    process = start().ready()
    every, expected = rows(1000), served.predictor("delay@1").predict(frame(1000)).tolist()
    wrong: list[Any] = []

    def client(number: int) -> None:
        with httpx.Client(base_url=process.url, timeout=30) as ask:
            for turn in range(10):
                first, count = (number * 61 + turn * 7) % 500, (1, 5, 500)[(number + turn) % 3]
                answer = ask.post("/predict", json=every[first : first + count])
                if answer.status_code != 200 or answer.json()["predictions"] != expected[first : first + count]:
                    wrong.append((number, turn, answer.status_code))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert process.stop() == 0


def test_huge_body(served: Served, start: Start, rows: RowsOf) -> None:
    """A body over 16 MiB is answered 413 to a client that sends it all, and the connection goes on."""
    served.promote(served.version())
    process = start().ready()
    with httpx.Client(base_url=process.url, timeout=60) as ask:
        answer = ask.post("/predict", content=b" " * (17 * 2**20))
        assert answer.status_code == 413
        assert answer.json()["version"] == 1
        assert ask.post("/predict", json=rows(1)).status_code == 200
    assert process.stop() == 0


def test_huge_and_broken_heads(served: Served, start: Start) -> None:
    """A head over the limit is 431, one that is no HTTP 400; neither is kept, and the server goes on."""
    served.promote(served.version())
    process = start().ready()
    port = int(process.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n")
        said = b""
        for at in range(400):
            try:
                sock.sendall(b"x-%d: " % at + b"a" * 4096 + b"\r\n")
            except OSError:
                break
        try:
            said = sock.recv(65536)
        except ConnectionResetError:
            said = b"HTTP/1.1 431"  # closed while we still sent: the answer is lost with the connection
        assert said.startswith(b"HTTP/1.1 431")
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall(b"nonsense\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 400")
    assert httpx.get(f"{process.url}/health").status_code == 200
    assert process.stop() == 0
    assert "Invalid HTTP" not in process.said
