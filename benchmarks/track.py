"""Logging: one process, 100,000 points, one call a point, until every point is in the file, beside a bare JSON-lines writer.

Prints and logs min/median/max of seven rounds; the claim is the ratio in one run, not the absolute figure.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import mlops_local as mlops
from mlops_local.store.journal import Journal

POINTS = 100_000
ROUNDS = 7


def ours(folder: Path) -> float:
    """Microseconds a point through our journal."""
    journal = Journal.open(folder)
    started = time.perf_counter()
    for step in range(POINTS):
        journal.metric("r", "loss", 0.5, step)
    journal.close()
    return (time.perf_counter() - started) / POINTS * 1e6


def floor(folder: Path) -> float:
    """Microseconds a point through json.dumps and a buffered file."""
    started = time.perf_counter()
    with (folder / "floor.jsonl").open("w") as file:
        for step in range(POINTS):
            file.write(json.dumps({"run": "r", "key": "loss", "step": step, "value": 0.5, "t": time.time()}) + "\n")
    return (time.perf_counter() - started) / POINTS * 1e6


def main() -> None:
    """Run both in turns and print the ratio."""
    times: dict[str, list[float]] = {"journal": [], "jsonl floor": []}
    with tempfile.TemporaryDirectory() as place:
        for _ in range(ROUNDS):
            times["journal"].append(ours(Path(place)))
            times["jsonl floor"].append(floor(Path(place)))
    for name, values in times.items():
        print(f"{name:12} {min(values):6.2f} {statistics.median(values):6.2f} {max(values):6.2f} us a point (min, median, max)")
    ratio = statistics.median(times["journal"]) / statistics.median(times["jsonl floor"])
    print(f"ratio to the floor: {ratio:.2f}")
    mlops.log(us_a_point=statistics.median(times["journal"]), ratio_to_floor=ratio)


if __name__ == "__main__":
    main()
