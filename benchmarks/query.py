"""The best 20 of 10,000 runs, by a parameter and a metric, in a fresh process: beside bare DuckDB and, where installed, MLflow.

Each run has 20 parameters, 20 metrics and 5 curves of 100 points (MLflow's, only RUNS_OF_PEER of them, have no curves). The
claims are ratios of medians in one run, of wall time and of CPU time: on a busy machine the second says more.

    python benchmarks/query.py [FOLDER]     FOLDER is made once and used again
"""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mlops_local as mlops
from mlops_local.services.project import find
from mlops_local.store import projection
from mlops_local.store.journal import new_id

RUNS = 10_000
RUNS_OF_PEER = 1_900
TOGETHER = 100
"""Runs one journal holds: as many scripts logged them."""
ROUNDS = 9
PEER = Path(__file__).parent / ".peers" / "bin" / "python"

BARE = """
import duckdb, sys
db = duckdb.connect(sys.argv[1], read_only=True)
print(db.execute("SELECT p.run, l.value FROM store.param p JOIN store.latest l ON l.run = p.run AND l.key = 'm0' "
                 "WHERE p.name = 'p0' AND p.value = '3' ORDER BY l.value DESC LIMIT 20").fetchall())
"""
MLFLOW = """
import sys, mlflow
mlflow.set_tracking_uri("sqlite:///" + sys.argv[1])
client = mlflow.MlflowClient()
found = client.search_runs(["0"], "params.p0 = '3'", max_results=20, order_by=["metrics.m0 DESC"])
print([run.data.metrics["m0"] for run in found])
"""
LOAD_MLFLOW = """
import random, sys, time, mlflow
from mlflow.entities import Metric, Param
mlflow.set_tracking_uri("sqlite:///" + sys.argv[1])
client, now = mlflow.MlflowClient(), int(time.time() * 1000)
for number in range(int(sys.argv[2])):
    pick = random.Random(number)
    run = client.create_run("0").info.run_id
    client.log_batch(run, params=[Param(f"p{k}", str(pick.randrange(10))) for k in range(20)],
                     metrics=[Metric(f"m{k}", pick.random(), now, 0) for k in range(20)])
    client.set_terminated(run)
"""


def fill(folder: Path) -> None:
    """Write the runs' journals as their processes would have, and fold them."""
    (folder / "mlops.toml").write_text('[project]\nname = "query"\n')
    project = find(folder)
    start = time.time_ns() // 1000 - RUNS * 1_000_000
    for first in range(0, RUNS, TOGETHER):
        state, points = [], []
        for number in range(first, first + TOGETHER):
            pick, at = random.Random(number), start + number * 1_000_000
            head = {"v": 1, "t": at, "n": number, "run": (run := new_id(at, number))}
            params = {f"p{k}": pick.randrange(10) for k in range(20)}
            values = [(f"m{k}", "null", pick.random()) for k in range(20)]
            values += [(f"h{k}", step, pick.random()) for k in range(5) for step in range(100)]
            for kind, fields in (
                ("run_started", {"name": f"run-{number}", "kind": "script"}),
                ("params", {"values": params}),
                ("run_ended", {"state": "done", "seconds": 1.0}),
            ):
                state.append(json.dumps({"k": kind, **head, **fields}))
            points += [
                f'{{"k":"m","v":1,"t":{at},"n":{number * 1000 + place},"r":"{run}","key":"{key}","s":{step},"x":{value}}}'
                for place, (key, step, value) in enumerate(values)
            ]
        journal = new_id(start, first)
        (project.layout.journal / f"{journal}.metric.000.jsonl").write_text("\n".join(points) + "\n")
        (project.layout.journal / f"{journal}.state.jsonl").write_text("\n".join(state) + "\n")
    projection.fold(project.store)
    project.store.close()


def measure(command: list[str], folder: Path) -> tuple[float, float]:
    """Milliseconds and CPU milliseconds of one process."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall * 1e3, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3


def commands(folder: Path) -> dict[str, list[str]]:
    """What is measured, by name."""
    asked = ["runs", "-w", "param.p0 = 3", "--sort", "-metric.m0", "--limit", "20"]
    found = {
        "bare DuckDB": [sys.executable, "-c", BARE, str(folder / ".mlops" / "project.duckdb")],
        "mlops runs": [sys.executable, "-m", "mlops_local", *asked],
        "mlops runs, newest": [sys.executable, "-m", "mlops_local", "runs"],
    }
    if PEER.exists() and subprocess.run([PEER, "-c", "import mlflow"], capture_output=True).returncode == 0:
        store = folder / "mlflow.db"
        if not store.exists():
            subprocess.run([PEER, "-c", LOAD_MLFLOW, str(store), str(RUNS_OF_PEER)], check=True, capture_output=True)
        found[f"MLflow, {RUNS_OF_PEER} runs"] = [str(PEER), "-c", MLFLOW, str(store)]
    else:
        print("MLflow is not installed here (make bench-peers)")
    return found


def main() -> None:
    """Make the store unless it is there, run all in turns, print the ratios."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else place)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "mlops.toml").exists():
            fill(folder)
        all_of = commands(folder)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in all_of}
        for _ in range(ROUNDS):
            for name, command in all_of.items():
                times[name].append(measure(command, folder))
    print(f"load {os.getloadavg()[0]:.1f}; milliseconds a process: min, median, max; CPU median; of bare DuckDB: wall, CPU")
    base = [statistics.median(one[part] for one in times["bare DuckDB"]) for part in (0, 1)]
    for name, measured in times.items():
        wall, cpu = [one[0] for one in measured], statistics.median(one[1] for one in measured)
        ratios = statistics.median(wall) / base[0], cpu / base[1]
        spread = f"{min(wall):7.0f} {statistics.median(wall):7.0f} {max(wall):7.0f}"
        print(f"{name:20} {spread} {cpu:7.0f} {ratios[0]:6.2f}x {ratios[1]:6.2f}x")
        if name == "mlops runs":
            mlops.log(ratio_to_duckdb=ratios[0], cpu_ratio_to_duckdb=ratios[1])


if __name__ == "__main__":
    main()
