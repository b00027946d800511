"""Profile and compare 5 million rows of 12 columns, beside DuckDB doing by hand what is needed for the same answers.

Profile 1,000 rows of 2,000 columns, and 2,000 CSVs of 200 rows and 30 columns, beside `SUMMARIZE` of DuckDB, which says less.

    python benchmarks/tables.py [--rows 5000000] [--rounds 3]

Each subject runs in a process of its own, in turns; said are seconds and CPU seconds (least, median, most), the peak memory,
and ours over DuckDB's. Profile: counts, extremes, mean and spread, distinct values, quantiles, histograms, frequent values and
lengths of every column. Diff: rows by key with changed cells by column, of two files that differ in few rows and of two in
which every row differs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

NUMBERS = ("a", "b", "c", "d", "e", "f", "g", "h")
COLUMNS = ("id", *NUMBERS, "kind", "name", "seen")


def generate(folder: Path, rows: int) -> None:
    """Write three versions of one table: the second differs in a few rows, the third in one column of every row."""
    import numpy as np  # noqa: PLC0415  (imports of a subject's process are not measured)
    import polars as pl  # noqa: PLC0415

    draw = np.random.default_rng(1)
    numbers = {name: draw.normal(size=rows) * 10**place for place, name in enumerate(NUMBERS[:6])}
    whole = {"g": draw.integers(0, 1000, rows), "h": draw.integers(0, 10**9, rows)}
    frame = pl.DataFrame({"id": np.arange(rows), **numbers, **whole}).with_columns(
        kind=pl.Series(np.array(["AA", "BB", "CC", "DD"])[draw.integers(0, 4, rows)]),
        name=pl.col("id").cast(pl.String) + "-name",
        seen=pl.datetime(2026, 1, 1) + pl.duration(seconds=pl.col("id")),
    )
    frame.write_parquet(folder / "before.parquet")
    changed = pl.when(pl.col("id") % 5000 == 7).then(99.5).otherwise(pl.col("a"))
    few = frame.with_columns(a=changed).filter(pl.col("id") % 10_000 != 3)
    few.write_parquet(folder / "few.parquet")
    frame.with_columns(a=pl.col("a") + 1).write_parquet(folder / "all.parquet")


def generate_wide(folder: Path) -> None:
    """Write a table of very many columns, and very many small tables: measurements, counts, words."""
    import numpy as np  # noqa: PLC0415  (as in `generate`)
    import polars as pl  # noqa: PLC0415

    draw = np.random.default_rng(2)
    words = np.array([f"word-{number}" for number in range(50)])

    def table(columns: int, rows: int) -> pl.DataFrame:
        kinds = (
            lambda: np.round(draw.normal(size=rows), 4),
            lambda: draw.integers(0, 10**6, rows),
            lambda: draw.integers(0, 12, rows),
            lambda: words[draw.integers(0, len(words), rows)],
        )
        return pl.DataFrame({f"c{place}": kinds[place % len(kinds)]() for place in range(columns)})

    table(2000, 1000).write_parquet(folder / "wide.parquet")
    (folder / "many").mkdir()
    for number in range(2000):
        table(30, 200).write_csv(folder / "many" / f"{number:04d}.csv")


def many(folder: Path) -> list[str]:
    """The small tables."""
    return [f"many/{path.name}" for path in sorted((folder / "many").iterdir())]


def profiled(folder: Path, paths: list[str]) -> None:
    """What a snapshot's profile takes."""
    from mlops_local.engines.data import profile  # noqa: PLC0415

    profile.read(folder, paths, source="bench")


def summarize(folder: Path, paths: str) -> None:
    """What DuckDB says of every column of a table: extremes, distinct values, mean, spread, quartiles, nulls."""
    _duckdb(f"SUMMARIZE FROM '{folder}/{paths}'")


def profile_ours(folder: Path) -> None:
    """What a snapshot's profile takes."""
    profiled(folder, ["before.parquet"])


def profile_duckdb(folder: Path) -> None:
    """The same figures in one SELECT, with the functions DuckDB has for them."""
    wanted = ["count(*)"]
    for name in COLUMNS:
        wanted += [
            f"count({name})",
            f"min({name})",
            f"max({name})",
            f"approx_count_distinct({name})",
            f"approx_top_k({name}, 10)",
        ]
    for name in NUMBERS:
        wanted += [f"avg({name})", f"stddev_samp({name})", f"approx_quantile({name}, [0.05, 0.25, 0.5, 0.75, 0.95])"]
        wanted.append(f"histogram({name}, range(-10, 10)::DOUBLE[])")
    wanted += [f"{function}(length({name}))" for name in ("kind", "name") for function in ("min", "avg", "max")]
    _duckdb(f"SELECT {', '.join(wanted)} FROM read_parquet('{folder}/before.parquet')")


def diff_ours(folder: Path, after: str) -> None:
    """What `mlops data diff` does with two files; the spreads come from profiles that are there."""
    from mlops_local.engines.data import diff, relations  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as scratch, relations.connect(Path(scratch)) as db:
        diff.rows(db, diff.Tables([folder / "before.parquet"], [folder / after], ["id"]))


def diff_duckdb(folder: Path, after: str) -> None:
    """The join that counts added, removed and changed rows and changed cells by column."""
    others = [name for name in COLUMNS if name != "id"]
    cells = [
        f"count(*) FILTER (a.{name} IS DISTINCT FROM b.{name} AND a.id IS NOT NULL AND b.id IS NOT NULL)" for name in others
    ]
    wanted = ["count(*) FILTER (a.id IS NULL)", "count(*) FILTER (b.id IS NULL)", *cells]
    tables = [f"read_parquet('{folder}/{name}')" for name in ("before.parquet", after)]
    _duckdb(f"SELECT {', '.join(wanted)} FROM {tables[0]} a FULL JOIN {tables[1]} b ON a.id = b.id")


def _duckdb(query: str) -> None:
    import duckdb  # noqa: PLC0415

    with duckdb.connect() as db:
        db.execute(query).fetchall()


SUBJECTS: dict[str, dict[str, Callable[[Path], None]]] = {
    "profile": {"ours": profile_ours, "duckdb": profile_duckdb},
    "diff, few rows": {"ours": lambda at: diff_ours(at, "few.parquet"), "duckdb": lambda at: diff_duckdb(at, "few.parquet")},
    "diff, every row": {"ours": lambda at: diff_ours(at, "all.parquet"), "duckdb": lambda at: diff_duckdb(at, "all.parquet")},
    "2,000 columns": {
        "ours": lambda at: profiled(at, ["wide.parquet"]),
        "duckdb": lambda at: summarize(at, "wide.parquet"),
    },
    "2,000 CSVs": {"ours": lambda at: profiled(at, many(at)), "duckdb": lambda at: summarize(at, "many/*.csv")},
}


def measure(what: str, who: str, folder: Path) -> tuple[float, float, float]:
    """Run one subject in a fresh process: seconds, CPU seconds and peak MB of the work without the imports."""
    command = [sys.executable, __file__, "--subject", what, who, str(folder)]
    seconds, cpu, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return seconds, cpu, peak


def subject(what: str, who: str, folder: Path) -> None:
    """In the fresh process: do it once and say what it took."""
    import duckdb  # noqa: F401, PLC0415
    import polars  # noqa: F401, PLC0415

    started, cpu = time.perf_counter(), time.process_time()
    SUBJECTS[what][who](folder)
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    peak = int(line.split()[1]) / 1000  # getrusage would count what the process was before it became this program
    print(json.dumps([time.perf_counter() - started, time.process_time() - cpu, peak]))


def main() -> None:
    """Measure every subject in turns and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--subject", nargs=3)
    given = parser.parse_args()
    if given.subject:
        subject(given.subject[0], given.subject[1], Path(given.subject[2]))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        generate(folder, given.rows)
        generate_wide(folder)
        print(
            f"{given.rows:,} rows x {len(COLUMNS)} columns, {(folder / 'before.parquet').stat().st_size / 1e6:.0f} MB Parquet"
        )
        for what, subjects in SUBJECTS.items():
            taken: dict[str, list[tuple[float, float, float]]] = {who: [] for who in subjects}
            for _ in range(given.rounds):
                for who in subjects:
                    taken[who].append(measure(what, who, folder))
            for who, rounds in taken.items():
                wall, cpu, peak = (sorted(column) for column in zip(*rounds, strict=True))
                spread = [f"{values[0]:.2f} {statistics.median(values):.2f} {values[-1]:.2f}" for values in (wall, cpu)]
                print(f"{what:16} {who:7} {spread[0]:>18} s  {spread[1]:>18} s CPU  {peak[-1]:6.0f} MB")
            ratios = [
                statistics.median(one[place] / other[place] for one, other in zip(taken["ours"], taken["duckdb"], strict=True))
                for place in (0, 1)
            ]
            print(f"{what:16} ours / duckdb: {ratios[0]:.2f} by time, {ratios[1]:.2f} by CPU")


if __name__ == "__main__":
    main()
