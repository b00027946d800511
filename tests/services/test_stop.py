"""A run is ended from another terminal, or keeps what it has; half a training never passes for the whole."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops_local.domain.errors import UsageError
from mlops_local.domain.runs import RunState
from mlops_local.services import stop as service
from mlops_local.services.project import Project, find
from mlops_local.services.sql import sql
from tests.e2e.conftest import CORE, Shop, make_shop

CANDIDATE = """

@purchase.candidate
def rounds(train: mlops.XY, valid: mlops.XY, *, epochs: int = 9) -> lgb.Booster:
    options = {"objective": "binary", "num_leaves": 7, "verbose": -1, "deterministic": True, "num_threads": 1, "seed": 1}
    made = lgb.Booster(options, lgb.Dataset(train.X.to_numpy(), train.y.to_numpy()))
    for epoch in mlops.epochs(epochs):
        made.update()
        mlops.log(epoch, loss=float("nan") if epoch == 1 else 1.0)
        pathlib.Path("began").touch()
        while pathlib.Path("wait").exists() and epoch == 2:
            time.sleep(0.02)
    return made
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("PYTHONPATH", str(CORE))
    made = make_shop(tmp_path / "shop")
    made.edit("pipeline.py", "import polars as pl\n", "import polars as pl\nimport pathlib\nimport time\n")
    (made.root / "pipeline.py").write_text((made.root / "pipeline.py").read_text() + CANDIDATE)
    (made.root / "mlops.toml").write_text(
        (made.root / "mlops.toml").read_text().replace('name = "shop"\n', 'name = "shop"\nstalled_after = 1\n')
    )
    return made


@pytest.fixture
def project(shop: Shop) -> Iterator[Project]:
    made = find(shop.root)
    yield made
    made.store.close()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def begin(shop: Shop, *arguments: str) -> subprocess.Popen[str]:
    """A training in the middle of its third epoch."""
    (shop.root / "wait").touch()
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("MLOPS_", "GIT_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops_local", *arguments],
        cwd=shop.root,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until((shop.root / "began").exists)
    return process


def rows(project: Project, text: str) -> list[tuple[Any, ...]]:
    return list(sql(project, text).rows)


def test_half_a_training_is_kept_and_is_not_the_whole(shop: Shop, project: Project) -> None:
    """`stop --keep`: the epoch ends, the model is evaluated and registered as stopped; the next train makes the whole one."""
    process = begin(shop, "train", "rounds")
    done = service.stop(project, keep=True)
    assert done.state is RunState.RUNNING
    (shop.root / "wait").unlink()
    out, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "rounds: done" in said and "stopped after 3 of 9 epochs" in said
    assert "purchase@1 rounds, stopped after 3 of 9 epochs" in out and "champion" not in out
    assert "purchase@1 passed, its training stopped after 3 of 9 epochs; promote it with `mlops model promote" in said
    assert "rounds: loss became NaN at step 1" in said
    (plan,) = [item for item in shop.json("plan", "rounds")["items"] if item["name"] == "rounds"]
    assert plan["state"] == "stale"
    assert [reason["text"] for reason in plan["reasons"]] == ["its last run was stopped after 3 of 9 epochs"]
    again = shop.mlops("train", "rounds", "--resume")
    assert "goes on from its checkpoint of epoch 2" in again.stderr and "stopped" not in again.stdout
    assert shop.stale("rounds") == [] and "purchase@2 rounds" in again.stdout and "champion" in again.stdout
    ((one,), (other,)) = rows(project, "select fingerprint from version order by number")
    assert one != other
    assert not list((shop.root / ".mlops" / "stops").iterdir())


def test_a_run_is_cancelled_from_elsewhere(shop: Shop, project: Project) -> None:
    """The run is cancelled and its process ends with 143; a stalled run was said to be one before, and its NaN is in status."""
    process = begin(shop, "train", "rounds")
    until(lambda: len(rows(project, "select text from note")) == 2)
    assert rows(project, "select text from note order by time")[1][0].startswith(
        "rounds: nothing printed, logged or computed for"
    )
    page = shop.mlops("status").stdout
    assert "nothing printed, logged or computed" in page
    done = service.stop(project)
    assert done.state is RunState.CANCELLED
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert "stopped by `mlops stop`" in said
    with pytest.raises(UsageError, match="not running: it is cancelled"):
        service.stop(project, done.run)
    with pytest.raises(UsageError, match="no run is running"):
        service.stop(project)


def test_a_tracked_script_is_ended(shop: Shop, project: Project) -> None:
    """A script that began its own run or resumed one ends cancelled, with 143; one under `mlops run` may keep what it has."""
    script = shop.root / "script.py"
    script.write_text(
        "import pathlib, time\nimport mlops_local as mlops\n"
        "with mlops.run('long'):\n    pathlib.Path('began').touch()\n"
        "    while not mlops.should_stop(): time.sleep(0.02)\n"
    )
    process = subprocess.Popen([sys.executable, "script.py"], cwd=shop.root, stderr=subprocess.PIPE, text=True)
    until((shop.root / "began").exists)
    assert service.stop(project, "long").state is RunState.CANCELLED
    _, said = process.communicate(timeout=30)
    assert process.returncode == 143 and said == ""
    (shop.root / "began").unlink()
    time.sleep(1.1)  # a process younger than its run is another one, but for a second that clocks may differ by
    text = script.read_text()
    script.write_text(text.replace("run('long')", "run(resume='long')"))
    process = subprocess.Popen([sys.executable, "script.py"], cwd=shop.root, text=True)
    until((shop.root / "began").exists)
    assert service.stop(project, "long").state is RunState.CANCELLED and process.wait(30) == 143
    (shop.root / "began").unlink()
    script.write_text(text)
    tracked = begin(shop, "run", sys.executable, "script.py")
    service.stop(project, keep=True)
    _, said = tracked.communicate(timeout=60)
    assert tracked.returncode == 0, said
