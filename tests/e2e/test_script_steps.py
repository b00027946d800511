"""From a script that was there before to a step, the user's way."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Shop

SCRIPT = """\
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("rows")
parser.add_argument("--out", required=True)
parser.add_argument("--factor", type=int, default=2)
options = parser.parse_args()
print("adding up")
total = sum(int(line) for line in open(options.rows)) * options.factor
open(options.out, "w").write(f'{{"total": {total}}}')
"""


@pytest.fixture
def folder(tmp_path: Path) -> Shop:
    (tmp_path / "rows.txt").write_text("1\n2\n")
    (tmp_path / "add.py").write_text(SCRIPT)
    return Shop(tmp_path)


def test_a_script_becomes_a_step_that_runs_once(folder: Shop) -> None:
    """It is proposed without being written; with --yes it is written, trains, is fresh, and counts what it should."""
    call = ("init", "--script", "add.py")
    words = ("--", "rows.txt", "--out", "total.json")
    shown = folder.mlops(*call, *words)
    assert 'command = "python add.py --factor {factor} {rows} --out {out}"' in shown.stdout
    assert "nothing was written" in shown.stderr and "adding up" in shown.stderr
    assert "steps" not in (folder.root / "mlops.toml").read_text()
    said = folder.mlops(*call, "--yes", *words).stdout
    assert said.endswith("  mlops train add\n")
    assert folder.json("train", "add")["ran"] == ["add"]
    assert folder.json("train", "add")["ran"] == []
    assert folder.stale("-S", "add.factor=3") == ["add"]
    (folder.root / "rows.txt").write_text("5\n")
    assert folder.stale() == ["add"]
    assert folder.json("train", "add")["ran"] == ["add"]
    script = "import mlops_local as mlops; print(mlops.load('add'))"
    assert folder.mlops("run", sys.executable, "-c", script).stdout.splitlines()[0] == "{'total': 10}"
    assert "has something named 'add' already" in folder.mlops(*call, *words, code=2).stderr


def test_a_failing_script_is_one_error(folder: Shop) -> None:
    """Exit 1; nothing is proposed and nothing written."""
    (folder.root / "bad.py").write_text("open('x', 'w')\nraise ValueError('no rows')")
    done = folder.mlops("init", "--script", "bad.py", "--yes", code=1)
    assert "ValueError: no rows" in done.stderr and "bad.py ended with exit code 1; nothing is proposed" in done.stderr
    assert "steps" not in done.stdout + (folder.root / "mlops.toml").read_text()


def test_on_a_terminal_it_asks_before_it_runs_and_before_it_writes(folder: Shop) -> None:
    """No means no, each time."""
    command = [sys.executable, "-m", "mlops_local", "init", "--script", "add.py", "--", "rows.txt", "--out", "t.json"]
    for answers, ran, wrote in (("n\n", False, False), ("y\nn\n", True, False), ("y\ny\n", True, True)):
        master, slave = pty.openpty()
        try:
            os.write(master, answers.encode())
            done = subprocess.run(
                command, cwd=folder.root, stdin=slave, stdout=subprocess.DEVNULL, stderr=slave, timeout=60, check=False
            )
        finally:
            os.close(slave)
            os.close(master)
        assert done.returncode == 0
        assert (folder.root / "t.json").exists() is ran
        assert ("[steps.add]" in (folder.root / "mlops.toml").read_text()) is wrote
