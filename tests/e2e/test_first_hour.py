"""The first hour of a stranger: their own repository, their own environment, and every command they would type."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import CORE

TRAIN = """\
import argparse

import lightgbm as lgb
import numpy as np
import polars as pl

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.2)
lr = parser.parse_args().lr
rows = pl.read_csv("customers.csv")
columns, labels = rows.select("age", "visits"), rows["left"].to_numpy()
options = {"objective": "binary", "learning_rate": lr, "verbose": -1, "num_threads": 1, "seed": 1}
booster = lgb.train(options, lgb.Dataset(columns[:600].to_numpy(), labels[:600]), 10)
booster.save_model("model.txt")
answers = booster.predict(columns[600:].to_numpy())
print(f"error: {np.mean((answers > 0.5) != labels[600:]):.4f}")
"""
THREE_LINES = """\
with mlops.run() as run:
    run.log_model(booster, example=columns[:600], name="churn")
    run.log_eval(columns[600:], labels[600:])
"""


class Stranger:
    """A person in a shell, in their repository, with their environment active."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *words: str) -> str:
        """Type a command; it must succeed. Returns what it says."""
        said = subprocess.STDOUT
        done = subprocess.run(
            words,
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}"
        return done.stdout

    def mlops(self, *words: str) -> str:
        """Type `mlops WORDS`."""
        return self.run(sys.executable, "-m", "mlops_local", *words)

    def environment(self) -> dict[str, str]:
        """What activating their environment sets, and who they are to git."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLOPS_", "GIT_", "PYTHON"))}
        who = {f"GIT_{role}_{what}": "a@example.invalid" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        path = os.pathsep.join([str(self.root / ".venv" / "bin"), os.environ["PATH"]])
        return {**kept, **who, "PATH": path, "VIRTUAL_ENV": str(self.root / ".venv"), "PYTHONUNBUFFERED": "1"}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Type `mlops WORDS` in another terminal."""
        ours, said = [sys.executable, "-m", "mlops_local", *words], subprocess.STDOUT
        return subprocess.Popen(ours, cwd=self.root, env=self.environment(), stdout=subprocess.PIPE, stderr=said, text=True)


def said(process: subprocess.Popen[str], wanted: str) -> str:
    """Read what a process prints up to the line with `wanted`; returns that line."""
    assert process.stdout is not None
    heard = []
    for line in process.stdout:
        heard.append(line)
        if wanted in line:
            return line
        assert "✗" not in line and "error:" not in line, "".join(heard)
    raise AssertionError(f"{wanted!r} was not said:\n{''.join(heard)}")


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """^C at the end."""
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


@pytest.fixture
def stranger(tmp_path: Path) -> Stranger:
    """A git repository with a script, its data and an environment that has the libraries it uses."""
    person = Stranger(tmp_path)
    (tmp_path / "train.py").write_text(TRAIN)
    lines = [f"{20 + n % 50},{n * 7 % 11},{int((n * 7 % 11) + n % 5 > 7)}" for n in range(900)]
    (tmp_path / "customers.csv").write_text("age,visits,left\n" + "\n".join(lines) + "\n")
    (tmp_path / ".gitignore").write_text(".venv/\n")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True)
    (packages,) = (tmp_path / ".venv" / "lib").glob("python*/site-packages")
    places = [place for place in sys.path if place.endswith("site-packages")]
    (packages / "theirs.pth").write_text("\n".join([str(CORE), *places]))
    person.run("git", "init", "-q")
    person.run("git", "add", ".")
    person.run("git", "commit", "-qm", "a script")
    return person


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_first_hour(stranger: Stranger) -> None:
    """Track it, try values, compare, make a model of it with three lines, serve, guard commits, and train at each save."""
    root = stranger.root
    assert "made a project" in stranger.mlops("init")
    assert "error: 0." in stranger.mlops("run", "python", "train.py")
    grid = stranger.mlops("run", "--read-output", "-S", "lr=.1,.03", "python", "train.py")
    assert "1 of 2: lr=.1" in grid and "2 of 2: lr=.03" in grid
    title, *rows = stranger.mlops("runs").splitlines()
    assert len(rows) == 3 and "error" in title
    assert re.search(r"lr +0\.03 +0\.1", stranger.mlops("compare", "@1", "@2"))

    text = TRAIN.replace("import polars as pl\n", "import polars as pl\n\nimport mlops_local as mlops\n")
    (root / "train.py").write_text(text + THREE_LINES)
    stranger.mlops("run", "python", "train.py")
    assert "churn@1" in stranger.mlops("model", "ls")

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with ended(stranger.start("serve", "--port", port)) as server:
        curl = said(server, "ask it: curl").partition("ask it: ")[2]
        assert '"predictions"' in stranger.run(*shlex.split(curl))

    stranger.mlops("hook", "install")
    stranger.run("git", "add", ".")
    stranger.run("git", "commit", "-qm", "three lines")

    assert "written to mlops.toml" in stranger.mlops("init", "--script", "train.py", "--yes")
    with ended(stranger.start("watch")) as watcher:
        said(watcher, "ran train")
        (root / "train.py").write_text((text + THREE_LINES).replace("[:600]", "[:500]"))
        assert "train.py" in said(watcher, "ran train")
