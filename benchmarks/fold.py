"""Folding 1,000,000 points beside DuckDB's bare read_json of the files; `mlops runs` with 100,000 and with 10 million points.

Bare is: the same files, their columns typed, read by two threads into a table of a new database that is closed, and so on disk.
Ours does that and the rest, in a new store and in one in use, where turns of the lock are short; it puts journals away too.
Prints min/median/max of the rounds, wall and CPU seconds; the claims are the ratios in one run, not the absolute figures.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

import mlops_local as mlops
from mlops_local.store import layout as layouts
from mlops_local.store import projection
from mlops_local.store.database import Store
from mlops_local.store.journal import Journal, new_id
from mlops_local.store.layout import Layout

POINTS, FEW, MANY = 1_000_000, 100_000, 10_000_000
ROUNDS = 3
COLUMNS = "{t: 'BIGINT', n: 'BIGINT', r: 'VARCHAR', key: 'VARCHAR', s: 'DOUBLE', x: 'DOUBLE'}"


def project(root: Path, points: int, *, used: bool = False) -> Layout:
    """A project with a finished run of so many points, not folded; in a store that has been folded before, or never."""
    root.mkdir()
    (root / "mlops.toml").write_text("")
    layout = Layout(root)
    layouts.create(layout)
    if used:
        Journal.open(layout.journal).close()
        folded(layout)
    writer, run = Journal.open(layout.journal), new_id()
    writer.state("run_started", run=run, name="bench", kind="script")
    for step in range(points):
        writer.metric(run, f"m{step % 5}", step * 0.5, step)
    writer.close()
    return layout


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds, those of children too."""
    cpu, wall = os.times(), time.perf_counter()
    work()
    after = os.times()
    return time.perf_counter() - wall, sum(after[:4]) - sum(cpu[:4])


def bare(layout: Layout, target: Path) -> None:
    """The floor: the same files into a table, by DuckDB alone."""
    with duckdb.connect(str(target), config={"threads": 2}) as db:
        files = str(layout.journal / "*.metric.*.jsonl")
        reading = f"read_json('{files}', format = 'newline_delimited', columns = {COLUMNS})"
        db.execute(f"CREATE TABLE metric AS SELECT r, key, s, x, make_timestamp(t), n FROM {reading}")


def folded(layout: Layout) -> None:
    """Ours, putting the journals away included."""
    store = Store(layout)
    projection.fold(store)
    store.close()


def counted(layout: Layout) -> None:
    """Every point is there, or the figures mean nothing."""
    with Store(layout).reader() as db:
        if (count := db.execute("SELECT count(*) FROM store.metric").fetchone()) != (POINTS,):
            raise SystemExit(f"{count} points of {POINTS}")
    Store(layout).close()


def fill(layout: Layout, points: int) -> None:
    """More points of the same curves, put into the table at once."""
    store = Store(layout)
    with store.writer() as db:
        db.execute(
            "INSERT INTO store.metric SELECT run, key, i, i * 0.5, time, i FROM store.latest, range(?) t(i)", [points // 5]
        )
    store.close()


def runs(layout: Layout) -> None:
    """The command, as its user starts it."""
    subprocess.run([sys.executable, "-m", "mlops_local", "runs"], cwd=layout.root, check=True, capture_output=True)


def report(name: str, ours: list[tuple[float, float]], floor: list[tuple[float, float]]) -> None:
    """One line a measure, and the ratios."""
    for title, times in ((name, ours), ("beside", floor)):
        for what, values in zip(("wall", "cpu"), zip(*times, strict=True), strict=True):
            print(
                f"{title:14} {what:4} {min(values):7.2f} {statistics.median(values):7.2f} {max(values):7.2f} s min, median, max"
            )
    ratios = [statistics.median(o[k] for o in ours) / statistics.median(f[k] for f in floor) for k in (0, 1)]
    print(f"{name:14} ratio: {ratios[0]:.2f} wall, {ratios[1]:.2f} CPU\n")
    mlops.log(
        **{
            f"{name.replace(', ', '_').replace(' ', '_')}_{what}": ratio
            for what, ratio in zip(("wall", "cpu"), ratios, strict=True)
        }
    )


def main() -> None:
    """Both comparisons, interleaved."""
    ours: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    floor: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as place:
        for number in range(ROUNDS):
            for used, times in ours.items():
                layout = project(Path(place) / f"fold{number}{used}", POINTS, used=used)
                if not used:
                    floor.append(timed(lambda layout=layout, number=number: bare(layout, Path(place) / f"bare{number}.duckdb")))
                times.append(timed(lambda layout=layout: folded(layout)))
                counted(layout)
                shutil.rmtree(layout.root)
        report("fold", ours[False], floor)
        report("fold, in use", ours[True], floor)
        few, many = (project(Path(place) / name, FEW) for name in ("few", "many"))
        for layout in (few, many):
            folded(layout)
        fill(many, MANY - FEW)
        for layout in (few, many):
            runs(layout)
        times = [(timed(lambda: runs(many)), timed(lambda: runs(few))) for _ in range(2 * ROUNDS)]
        report("runs", [pair[0] for pair in times], [pair[1] for pair in times])


if __name__ == "__main__":
    main()
