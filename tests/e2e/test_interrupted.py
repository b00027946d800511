"""A training is killed and goes on: the same weights, the same curve, and nothing half-trained passes for the whole."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.conftest import Shop, plain_environment, visits

PIPELINE = '''\
"""A network on made-up rows: dropout, shuffling, a scheduler and three random generators."""

import os
import pathlib
import random
import time

import numpy as np
import polars as pl
import torch

import mlops_local as mlops

visits = mlops.data("visits.parquet")


@mlops.step
def rows(visits: pl.DataFrame) -> pl.DataFrame:
    return visits.select(pl.col("pages", "minutes").cast(pl.Float32), y=(pl.col("spent").fill_null(0) > 0).cast(pl.Float32))


@mlops.step
def net(rows: pl.DataFrame, *, epochs: int = 6) -> dict[str, list[float]]:
    X, y = rows.select("pages", "minutes").to_torch(), rows["y"].to_torch()
    made = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.ReLU(), torch.nn.Dropout(0.3), torch.nn.Linear(16, 1))
    optimizer = torch.optim.Adam(made.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    noise = np.random.default_rng(mlops.seed())
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, y), batch_size=64, shuffle=True)
    for epoch in mlops.epochs(epochs, made, optimizer, scheduler, noise):
        total = 0.0
        for rows_, labels in loader:
            jitter = float(noise.normal()) + random.random() + float(np.random.rand())
            loss = torch.nn.functional.binary_cross_entropy_with_logits(made(rows_ + 0.01 * jitter).squeeze(1), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        scheduler.step()
        mlops.log(epoch, loss=total, lr=scheduler.get_last_lr()[0])
        hold(epoch)
    return {name: value.flatten().tolist() for name, value in made.state_dict().items()}
'''
HOLD = """

def hold(epoch: int) -> None:
    if pathlib.Path("wait").exists() and epoch == 3:
        pathlib.Path("reached").write_text(str(os.getpid()))
        while pathlib.Path("wait").exists():
            time.sleep(0.02)
"""
WALK = '''\
"""A random walk, as long as somebody says."""

import os
import pathlib
import time

import numpy as np

import mlops_local as mlops


@mlops.step
def net(*, epochs: int = 6) -> float:
    noise = np.random.default_rng(mlops.seed())
    place = 0.0
    for epoch in mlops.epochs(epochs, noise):
        place += float(noise.normal())
        mlops.log(epoch, loss=place)
        hold(epoch)
    return place
'''
CONFIG = '[project]\nname = "nets"\ntargets = ["net"]\n'


@pytest.fixture
def nets(tmp_path: Path) -> Shop:
    """A project that trains a network."""
    (tmp_path / "nets").mkdir()
    visits(600).write_parquet(tmp_path / "nets" / "visits.parquet")
    (tmp_path / "nets" / "pipeline.py").write_text(PIPELINE + HOLD)
    (tmp_path / "nets" / "mlops.toml").write_text(CONFIG)
    return Shop(tmp_path / "nets")


@pytest.fixture
def walk(tmp_path: Path) -> Shop:
    """A project that has epochs and needs no library for them."""
    (tmp_path / "pipeline.py").write_text(WALK + HOLD)
    (tmp_path / "mlops.toml").write_text(CONFIG)
    return Shop(tmp_path)


def until(true: Callable[[], bool], what: str) -> None:
    """Wait until something is so; a minute is too long."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def begin(shop: Shop, *arguments: str) -> subprocess.Popen[str]:
    """A training that has reached the fourth epoch and waits there."""
    (shop.root / "wait").touch()
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops_local", "train", *arguments],
        cwd=shop.root,
        env=plain_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until((shop.root / "reached").exists, "the training does not begin")
    return process


def release(shop: Shop) -> None:
    (shop.root / "wait").unlink()
    (shop.root / "reached").unlink()


def weights(shop: Shop) -> str:
    """A digest of the weights the newest result holds."""
    code = "import mlops_local as m, json; print(json.dumps(m.load('net'), sort_keys=True))"
    said = subprocess.run([sys.executable, "-c", code], cwd=shop.root, capture_output=True, text=True, check=True)
    return hashlib.sha256(said.stdout.encode()).hexdigest()


def curve(shop: Shop) -> list[tuple[str, float, float]]:
    """Every point of the newest run."""
    sql = "select key, step, value from metric where run = (select id from run order by started desc limit 1) order by all"
    items: list[dict[str, Any]] = shop.json("sql", sql)["items"]
    return [(item["key"], item["step"], item["value"]) for item in items]


def test_a_killed_training_goes_on_as_if_nothing_had_happened(nets: Shop) -> None:
    """After SIGKILL in the fourth epoch, `--resume` gives bit for bit the weights and curve of a training without a stop."""
    process = begin(nets)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    step = int((nets.root / "reached").read_text())
    until(lambda: not psutil.pid_exists(step), "the step outlives its killed parent")
    release(nets)
    said = nets.mlops("train", "--resume").stderr
    assert "net: goes on from its checkpoint of epoch 2" in said
    resumed, points = weights(nets), curve(nets)
    assert not list((nets.root / ".mlops" / "checkpoints").iterdir())  # a finished step needs none
    straight = nets.mlops("train", "--force").stderr
    assert "checkpoint" not in straight and "nondeterministic" not in straight
    assert weights(nets) == resumed
    assert curve(nets) == points and len(points) == 12


def test_without_resume_it_starts_afresh_and_says_so(walk: Shop) -> None:
    """The checkpoint is offered in one line; other parameters or data find none, and a run goes on by name with its own."""
    process = begin(walk, "-S", "net.epochs=5")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    process.communicate()
    release(walk)
    assert "checkpoint" not in walk.mlops("train", "-S", "epochs=2", "--resume").stderr
    assert "net: a checkpoint of epoch 2 is there: mlops train --resume" in walk.mlops("train", "-S", "epochs=5").stderr
    assert [step for key, step, _ in curve(walk) if key == "loss"] == [0, 1, 2, 3, 4]


def test_a_run_is_gone_on_with_by_name(walk: Shop) -> None:
    """`--resume RUN` takes the run's parameters too; a run that is no training is refused."""
    process = begin(walk, "-S", "net.epochs=5")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    release(walk)
    assert "goes on from its checkpoint of epoch 2" in walk.mlops("train", "--resume", "@latest").stderr
    assert [step for key, step, _ in curve(walk) if key == "loss"] == [0, 1, 2, 3, 4]
    walk.mlops("run", "true")
    assert "is not a training run" in walk.mlops("train", "--resume", "@latest", code=2).stderr
