"""Measure how long `mlops` takes to start, against what its heaviest import alone takes: whole processes, wall time.

    python scripts/cold_start.py [--runs 15]

Prints median, minimum and maximum of each, and the ratios the project promises: `mlops --help` at most 1.8 times
`python -c "import click"`, `mlops status` at most 1.8 times `python -c "import duckdb"`. Exits 1 when a median breaks its
promise.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROMISED = 1.8
START = [sys.executable, "-c", "from mlops_local.cli.main import main; main()"]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description="Measure how long mlops takes to start.")
    parser.add_argument("--runs", type=int, default=15, help="measurements of each")
    parser.add_argument("--project", type=Path, help="a project to ask for its status; default: an empty one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlops-start-") as scratch:
        project = options.project or Path(scratch)
        if options.project is None:
            (project / "mlops.toml").write_text("[project]\nname = 'empty'\n")
        commands = {
            "python": [sys.executable, "-c", "pass"],
            "import click": [sys.executable, "-c", "import click"],
            "mlops --help": [*START, "--help"],
            "mlops (bare)": START,
            "import duckdb": [sys.executable, "-c", "import duckdb"],
            "mlops status": [*START, "status"],
        }
        times = measure(commands, project, options.runs)
    print(f"{'whole process, ms':<16}{'median':>8}{'min':>8}{'max':>8}   ({options.runs} each, interleaved)")
    for name, found in times.items():
        print(f"{name:<16}{statistics.median(found):8.1f}{min(found):8.1f}{max(found):8.1f}")
    kept = [ratio(times, "mlops --help", "import click"), ratio(times, "mlops status", "import duckdb")]
    sys.exit(0 if all(kept) else 1)


def measure(commands: dict[str, list[str]], project: Path, runs: int) -> dict[str, list[float]]:
    """Milliseconds of each command; in turns, so that a busy machine burdens all alike. The first turn only warms."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, cwd=project, env=environment, stdout=subprocess.DEVNULL, check=True)
            if turn:
                times[name].append((time.perf_counter() - began) * 1000)
    return times


def ratio(times: dict[str, list[float]], ours: str, floor: str) -> bool:
    """Print one promise and whether it was kept: the ratio turn by turn."""
    each = [mine / base for mine, base in zip(times[ours], times[floor], strict=True)]
    median = statistics.median(each)
    print(f"{ours} / {floor}: {median:.2f} (min {min(each):.2f}, max {max(each):.2f}), promised {PROMISED}")
    return median <= PROMISED


if __name__ == "__main__":
    main()
