"""Watching: from a save's close to the first line of the user's code, and to "nothing to do".

The real `mlops watch --jsonl` in a process of its own; real saves; the step imports torch and writes the time of its first
line into a file. Every save of the first kind changes the step's code, every one of the second kind a comment, a docstring
or a local variable's name. Prints min, median, 95th percentile and max, and how busy the machine was.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import mlops_local as mlops

SAVES = int(os.environ.get("SAVES", "40"))
PIPELINE = '''\
"""A step that needs torch."""
import time

import lightgbm
import polars as pl
import torch

import mlops_local as mlops
from helper import shifted

rows = mlops.data("data/rows.csv")


@mlops.step
def read(rows: pl.DataFrame) -> int:
    return rows.height


@mlops.step
def fit(read: int) -> float:
    began = time.time()
    open("began", "w").write(repr(began))
    total = float(torch.ones(3).sum()) + read + NUMBER
    return shifted(total)
'''
HELPER = '''\
def shifted(value):
    """Move it."""
    result = value + 1
    return result
'''


class Watcher:
    """The real command on a project of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "data").mkdir()
        (root / "data" / "rows.csv").write_text("a\n" + "1\n" * 1000)
        (root / "mlops.toml").write_text('[project]\nname = "bench"\n')
        self.save("helper.py", HELPER)
        self.save("pipeline.py", PIPELINE.replace("NUMBER", "0"))
        command = [sys.executable, "-m", "mlops_local", "watch", "--jsonl"]
        self.process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.stream: IO[str] = self.process.stdout
        self.until("done")

    def save(self, name: str, text: str) -> float:
        """Write a file as an editor does; returns when it was closed."""
        (self.root / name).write_text(text)
        return time.time()

    def until(self, event: str) -> dict[str, Any]:
        """The next event of that name."""
        while line := self.stream.readline():
            found: dict[str, Any] = json.loads(line)
            if found["event"] == event:
                return found
            assert found["event"] != "failed", found
        raise SystemExit("the watcher ended")

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()


def to_user_code(watcher: Watcher) -> list[float]:
    """Milliseconds from each save to the step's first line."""
    found = []
    for number in range(1, SAVES + 1):
        closed = watcher.save("pipeline.py", PIPELINE.replace("NUMBER", str(number)))
        watcher.until("done")
        found.append((float((watcher.root / "began").read_text()) - closed) * 1000)
        time.sleep(0.3)  # a person is slower than this
    return found


def to_nothing(watcher: Watcher, edits: list[str]) -> list[float]:
    """Milliseconds from each save of the helper to "nothing to do"."""
    found = []
    for text in edits:
        closed = watcher.save("helper.py", text)
        said = datetime.fromisoformat(watcher.until("nothing")["at"])
        found.append((said.timestamp() - closed) * 1000)
        time.sleep(0.3)
    return found


def shown(name: str, values: list[float]) -> float:
    """Print one row; returns the median."""
    ordered = sorted(values)
    median, high = statistics.median(ordered), ordered[round(0.95 * (len(ordered) - 1))]
    print(f"{name:28} {ordered[0]:7.0f} {median:7.0f} {high:7.0f} {ordered[-1]:7.0f}   {len(ordered)} saves")
    return median


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as place:
        watcher = Watcher(Path(place))
        try:
            code = to_user_code(watcher)
            comments = [HELPER + f"# {number}\n" for number in range(SAVES)]
            renamed = [HELPER.replace("result", f"result_{number}") for number in range(SAVES)]
            nothing = to_nothing(watcher, comments)
            local = to_nothing(watcher, renamed)
        finally:
            watcher.close()
    print(f"{'ms from a save to':28} {'min':>7} {'median':>7} {'p95':>7} {'max':>7}")
    values = {
        "user_code_ms": shown("the first line of user code", code),
        "nothing_ms": shown("nothing to do: a comment", nothing),
        "renamed_ms": shown("nothing to do: a local name", local),
    }
    print("load of the machine over 1, 5, 15 min: " + " ".join(f"{load:.1f}" for load in os.getloadavg()))
    mlops.log(**values)


if __name__ == "__main__":
    main()
