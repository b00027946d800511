"""From training to answers: what is served equals what was trained, and a promotion elsewhere is served without a gap."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.conftest import Shop, visits


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(shop: Shop, *arguments: str) -> Iterator[str]:
    """A real server, ended by pid."""
    port = free_port()
    with (shop.root / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlops_local", "serve", *arguments, "--port", str(port)],
            cwd=shop.root,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_ready(url, process, shop.root / "serve.log")
        yield url
    finally:
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(20) == 0


def wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url + "/ready").status_code == 200:
                return
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def rows(count: int) -> list[dict[str, Any]]:
    return visits(count, seed=7).select("pages", "minutes", "device").to_dicts()


def test_answers_equal_load_model(trained: Shop) -> None:
    """The server's answers are load_model's, number by number, and name model, version and lineage."""
    asked = rows(50)
    with serving(trained) as url:
        answer = httpx.post(url + "/predict", json=asked).json()
        about = httpx.get(url + "/v1/models/purchase").json()
    assert (answer["model"], answer["version"]) == ("purchase", 1)
    code = (
        "import json, sys, mlops_local as m; print(json.dumps(list(m.load_model('purchase@1').predict(json.load(sys.stdin)))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=trained.root, input=json.dumps(asked), capture_output=True, text=True, check=True
    )
    assert answer["predictions"] == json.loads(done.stdout)
    version = trained.json("model", "show", "purchase@1")["version"]
    assert version["run"] in json.dumps(about)
    assert version["snapshots"]["visits"] in json.dumps(about)


def test_a_promotion_elsewhere_is_served_without_a_failed_request(trained: Shop) -> None:
    """While a client asks without a pause another version is promoted: served within two seconds, no request fails."""
    trained.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 29")
    trained.mlops("train")
    trained.mlops("model", "promote", "purchase@1", "--force", "--reason", "back for the test")
    seen: list[tuple[float, int]] = []
    failed: list[str] = []
    stop = threading.Event()
    body = rows(1)[0]

    def ask(url: str) -> None:
        with httpx.Client() as client:
            while not stop.is_set():
                answer = client.post(url + "/predict", json=body)
                if answer.status_code != 200:
                    failed.append(answer.text)
                seen.append((time.monotonic(), answer.json()["version"]))

    with serving(trained) as url:
        client = threading.Thread(target=ask, args=(url,))
        client.start()
        trained.mlops("model", "promote", "purchase@2", "--force", "--reason", "a test")
        promoted = time.monotonic()
        deadline = promoted + 15
        while time.monotonic() < deadline and (not seen or seen[-1][1] != 2):
            time.sleep(0.02)
        stop.set()
        client.join()
    assert failed == []
    first = next(at for at, version in seen if version == 2)
    assert seen[0][1] == 1
    assert first - promoted < 10, "the swap did not come"
    deployments = [line["value"] for line in trained.json("audit")["items"] if line["kind"] == "deployment"]
    assert deployments[:2] == ["purchase@1", "purchase@2"]


def test_the_server_loads_no_training_library(trained: Shop) -> None:
    """lightgbm, torch, sklearn, pandas and duckdb are in no map of the serving process."""
    with serving(trained) as url:
        httpx.post(url + "/predict", json=rows(1))
        pid = trained.json("status")["champions"][0]["served"]["pid"]
        maps = Path(f"/proc/{pid}/maps").read_text()
    for library in ("lightgbm", "/torch/", "sklearn", "pandas", "_duckdb"):
        assert library not in maps, library
