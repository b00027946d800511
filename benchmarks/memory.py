"""A pipeline over 3 GB of Parquet, and the most memory any of its processes had resident.

    python benchmarks/memory.py [GB]

Makes the data and the project in a temporary folder, trains it as a user would, and prints each step's time and peak.
The steps: a join and a filter over every row, a sort of all of it, an aggregate, a sample and a model.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

PIPELINE = """
from typing import NamedTuple
import lightgbm as lgb, polars as pl, mlops_local as mlops

rows = mlops.data("data/*.parquet")
stations = mlops.data("stations.parquet")

@mlops.step
def joined(rows: pl.LazyFrame, stations: pl.LazyFrame) -> pl.LazyFrame:
    return rows.join(stations, on="station", how="left").filter(pl.col("x0") < 0.95)

@mlops.step
def ordered(joined: pl.LazyFrame) -> pl.LazyFrame:
    return joined.sort("x0")

@mlops.step
def means(joined: pl.LazyFrame) -> pl.LazyFrame:
    return joined.group_by("station").agg(pl.col("x1").max(), n=pl.len())

class Split(NamedTuple):
    train: pl.LazyFrame
    valid: pl.LazyFrame
    test: pl.LazyFrame

@mlops.step
def split(ordered: pl.LazyFrame, means: pl.LazyFrame) -> Split:
    some = ordered.filter(pl.col("id") % 50 == 0).join(means.select("station", "n"), on="station")
    return Split(*(some.filter((pl.col("id") // 50) % 3 == part) for part in range(3)))

@mlops.transform
def features(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select("alt", "n", "x2", "x3")

high = mlops.model("high", label=pl.col("x1") > 0.5, split=split, features=features)

@high.candidate
def gbm(train: mlops.XY, valid: mlops.XY) -> lgb.Booster:
    data = lgb.Dataset(train.X.to_numpy(), train.y.to_numpy())
    return lgb.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 5)
"""
STATIONS, COLUMNS, GROUP = 5000, 22, 100_000


def make(root: Path, gigabytes: float) -> None:
    files = 12
    height = int(gigabytes * 1e9 / files / 8 / (COLUMNS + 2))
    (root / "data").mkdir()
    for number in range(files):
        random = np.random.default_rng(number)
        columns = {"id": np.arange(height) + number * height, "station": random.integers(0, STATIONS, height)}
        frame = pl.DataFrame(columns | {f"x{column}": random.random(height) for column in range(COLUMNS)})
        frame.write_parquet(root / "data" / f"{number:02d}.parquet", compression="uncompressed", row_group_size=GROUP)
    pl.DataFrame({"station": np.arange(STATIONS), "alt": np.arange(STATIONS) * 0.5}).write_parquet(root / "stations.parquet")
    (root / "pipeline.py").write_text(PIPELINE)
    (root / "mlops.toml").write_text('[project]\nname = "memory"\n')


def train(root: Path) -> tuple[float, int]:
    """Train, and sample the resident memory of every process of it; the seconds, and the most one process held."""
    started, most = time.monotonic(), 0
    process = subprocess.Popen([sys.executable, "-m", "mlops_local", "train", "-q"], cwd=root, start_new_session=True)
    while process.poll() is None:
        most = max([most, *(_resident(pid) for pid in _tree(process.pid))])
        time.sleep(0.02)
    if process.returncode:
        sys.exit(process.returncode)
    return time.monotonic() - started, most


def _tree(pid: int) -> list[int]:
    found = [pid]
    for item in found:
        try:
            for task in Path(f"/proc/{item}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def _resident(pid: int) -> int:
    """Anonymous memory and what is mapped of files: VmRSS."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0)


def main() -> None:
    """Make, train, show."""
    gigabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    root = Path(tempfile.mkdtemp(prefix="mlops-memory-"))
    try:
        make(root, gigabytes)
        size = sum(path.stat().st_size for path in root.rglob("*.parquet"))
        seconds, most = train(root)
        query = ["sql", "select name, seconds, peak_bytes from step where state = 'done' order by started", "--json"]
        told = subprocess.run(
            [sys.executable, "-m", "mlops_local", *query], cwd=root, capture_output=True, text=True, check=False
        )
        print(
            f"{size / 1e9:.2f} GB of Parquet, {os.cpu_count()} cores, {seconds:.0f} s: "
            f"at most {most / 1e9:.2f} GB resident in one process"
        )
        for item in json.loads(told.stdout)["items"] if told.returncode == 0 else []:
            print(f"  {item['name']:<14} {item['seconds']:8.1f} s  {(item['peak_bytes'] or 0) / 1e9:6.2f} GB")
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
