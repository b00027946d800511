"""Two runs of one fingerprint: the second waits for the first, and can be told not to."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mlops_local.domain.progress import Progress
from mlops_local.services.execution import Cancelled
from mlops_local.services.project import find
from mlops_local.services.train import train
from tests.e2e.conftest import CORE, make_shop

SLOW = "    import time, pathlib\n    pathlib.Path('began').touch()\n    time.sleep(2)\n    return lgb.train("


def begin(root: Path) -> subprocess.Popen[bytes]:
    """Another process's train, in the middle of its slow step."""
    command = [sys.executable, "-m", "mlops_local", "train", "-q"]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (root / "began").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (root / "began").exists()
    return process


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(CORE))
    shop = make_shop(tmp_path / "shop")
    shop.edit("pipeline.py", "    return lgb.train(", SLOW)
    return shop.root


def test_the_second_run_reuses_what_the_first_makes(slow: Path) -> None:
    """It waits, says for whom, and runs nothing again."""
    process = begin(slow)
    (slow / "began").unlink()
    said: list[Progress] = []
    project = find(slow)
    result = train(project, emit=said.append)
    assert process.wait(60) == 0
    assert "gbm" in result.reused and not (slow / "began").exists()
    project.store.close()


def test_a_wait_for_another_run_can_be_cancelled(slow: Path) -> None:
    """Told to end while it waits, a train ends as cancelled; the other run goes on."""
    (slow / "pipeline.py").write_text((slow / "pipeline.py").read_text().replace("time.sleep(2)", "time.sleep(60)"))
    process = begin(slow)
    cancel = threading.Event()
    project = find(slow)

    def hear(event: Progress) -> None:
        if "which makes the same" in event.text:
            cancel.set()

    with pytest.raises(Cancelled):
        train(project, emit=hear, cancel=cancel)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 143
    project.store.close()
    shutil.rmtree(slow)
