"""Logging beside what it stands against: a bare JSON-lines writer, and the peers that are installed (`make bench-peers`).

Every program logs in a process of its own, in turns within a round; another process counts the points that arrived. Printed are
minimum, median and maximum of the rounds and the ratio of the medians, for wall and for processor time: the claim is the ratio.
`python benchmarks/track.py [ROUNDS]`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import mlops_local as mlops

PEERS = Path(__file__).parent / ".peers" / "bin" / "python"
POINTS = 100_000
RUNS = 200
OPEN = {  # how each begins, what one call is, what makes every point readable by others
    "mlops": (
        "import mlops_local as mlops\nfrom mlops_local.api.run import flush\nmlops.run('bench').start()\nlog = mlops.log",
        "log(step, loss=step * 0.001 + 0.5)",
        "flush()",
    ),
    "json lines": (
        "import json, os\nfile = open(f'floor{os.getpid()}.jsonl', 'w')",
        "file.write(json.dumps({'n': 'loss', 'v': step * 0.001 + 0.5, 's': step, 't': time.time()}) + '\\n'); file.flush()",
        "file.close()",
    ),
    "mlflow": (
        "import logging, mlflow\nlogging.disable()\nmlflow.set_tracking_uri('sqlite:///mlflow.db')\nmlflow.start_run()",
        "mlflow.log_metric('loss', step * 0.001 + 0.5, step=step)",
        "mlflow.end_run()",
    ),
    "trackio": (
        "import os\nos.environ['TRACKIO_DIR'] = os.getcwd()\nimport trackio\n"
        "run = trackio.init(project='bench', name='r', embed=False, auto_log_cpu=False, auto_log_gpu=False)",
        "run.log({'loss': step * 0.001 + 0.5}, step=step)",
        "trackio.finish()",
    ),
    "tensorboard": (
        "from tensorboard.summary.writer.event_file_writer import EventFileWriter\n"
        "from tensorboard.compat.proto.summary_pb2 import Summary\nfrom tensorboard.compat.proto.event_pb2 import Event\n"
        "writer = EventFileWriter('tb')",
        "writer.add_event(Event(wall_time=time.time(), step=step, "
        "summary=Summary(value=[Summary.Value(tag='loss', simple_value=step * 0.001 + 0.5)])))",
        "writer.close()",
    ),
}
POINTS_OF = {"mlflow": 500}
LOOP = """
import json, os, sys, time
{begin}
points = {points}
open(f'ready{{os.getpid()}}', 'w').close()
while not os.path.exists('go'): time.sleep(0.001)
wall, cpu = time.perf_counter(), time.process_time()
for step in range(points):
    {call}
{end}
print(json.dumps([(time.perf_counter() - wall) / points * 1e6, (time.process_time() - cpu) / points * 1e6]))
"""
HOT = """
import json, time
import mlops_local as mlops
mlops.run('hot').start()
clock, kept = time.perf_counter_ns, []
def bare(step, **values):
    for name, value in values.items(): kept.append((time.time_ns(), name, step, value))
def measure(log):
    taken, empty = [0] * {points}, [0] * {points}
    for step in range({points}):
        began = clock(); log(step, loss=step * 0.001 + 0.5); taken[step] = clock() - began
        began = clock(); empty[step] = clock() - began
    taken.sort(); empty.sort()
    clocked = empty[{points} // 2]
    return [(taken[{points} * part // 1000] - clocked) / 1e3 for part in (500, 999)]
print(json.dumps(measure(mlops.log) + measure(bare)))
"""
STEPS = """
import json, time
import mlops_local as mlops
from mlops_local.api.run import flush
def work(): return sum(number * number for number in range(work.size))
work.size = 1000
while True:
    began = time.process_time(); work(); taken = time.process_time() - began
    if taken > 0.002: break
    work.size = int(work.size * 1.1)
def loop(log):
    began = time.process_time()
    for step in range(200):
        work(); log(step)
    flush()
    return time.process_time() - began
mlops.run('steps').start()
plain, logged = lambda step: None, lambda step: mlops.log(step, loss=step * 0.5, accuracy=step * 0.25)
loop(logged)
pairs = [(loop(plain), loop(logged)) for _ in range(9)]
print(json.dumps([sorted(second / first for first, second in pairs)[4]]))
"""
LOAD = {
    "mlops": (
        "import mlops_local as mlops\n"
        "def one(r):\n"
        "    with mlops.run(params=params, durable={durable}):\n"
        "        mlops.log(**{{f'final{{i}}': r + i * 0.5 for i in range(20)}})\n"
        "        for s in range(100): mlops.log(s, **{{f'curve{{i}}': s * 0.5 + i for i in range(5)}})\n",
        "from mlops_local.api.run import flush; flush()",
    ),
    "mlflow": (
        "import logging, mlflow, time\nlogging.disable()\nmlflow.set_tracking_uri('sqlite:///load.db')\n"
        "from mlflow.entities import Metric, Param\nclient = mlflow.MlflowClient()\n"
        "def one(r):\n"
        "    run = client.create_run('0').info.run_id\n"
        "    metrics = [Metric(f'final{{i}}', r + i * 0.5, 0, 0) for i in range(20)]\n"
        "    metrics += [Metric(f'curve{{i}}', s * 0.5 + i, 0, s) for s in range(100) for i in range(5)]\n"
        "    client.log_batch(run, metrics, [Param(k, str(v)) for k, v in params.items()])\n"
        "    client.set_terminated(run)\n",
        "",
    ),
}
LOADING = """
import json, time
params = {{f'p{{i}}': i * 0.25 for i in range(20)}}
{begin}
one(0)
wall, cpu = time.perf_counter(), time.process_time()
for r in range({runs}): one(r)
{end}
print(json.dumps([(time.perf_counter() - wall) / {runs} * 1e3, (time.process_time() - cpu) / {runs} * 1e3]))
"""
SIZE = (
    "{code}\nimport json\nprint(json.dumps([int(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0]) / 1024]))"
)
LOGGING = "import mlops_local as mlops\nmlops.run('size').start()\nfor step in range(100_000): mlops.log(step, loss=step * 0.5)"
IMPORT = "import json, time\nbegan, cpu = time.perf_counter(), time.process_time()\n{code}\n"
IMPORT += "print(json.dumps([(time.perf_counter() - began) * 1e3, (time.process_time() - cpu) * 1e3]))"


def python(name: str) -> str:
    return sys.executable if name in ("mlops", "json lines") else str(PEERS)


def run(name: str, code: str, folder: Path, processes: int = 1) -> list[float]:
    """Run the code in as many processes at once; returns what they printed, each figure's mean."""
    for stale in folder.glob("ready*"):
        stale.unlink()
    (folder / "go").unlink(missing_ok=True)
    # Under `mlops run` this program belongs to a run of the repository; what it measures belongs to projects of its own.
    own = {key: value for key, value in os.environ.items() if not key.startswith("MLOPS_")}
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    started = [
        subprocess.Popen([python(name), "-c", code], cwd=folder, env=own, stdout=pipe, stderr=nothing, text=True)
        for _ in range(processes)
    ]
    while len(list(folder.glob("ready*"))) < processes and any(one.poll() is None for one in started) and "ready" in code:
        pass
    (folder / "go").touch()
    said = [json.loads(one.communicate()[0].splitlines()[-1]) for one in started]
    return [statistics.mean(figures) for figures in zip(*said, strict=True)]


def arrived(folder: Path) -> int:
    """Points in the journals, counted by nothing of ours."""
    paths = (folder / ".mlops" / "journal").glob("*.metric.*.jsonl")
    return sum(json.loads(line)["k"] == "m" for path in paths for line in path.read_bytes().splitlines())


def show(title: str, unit: str, figures: dict[str, list[list[float]]], against: str) -> None:
    """A line a program: its figures, and how much longer the others take than `against`."""
    print(f"\n{title}  ({unit}: min, median, max; processor median)")
    median = {name: [statistics.median(column) for column in zip(*rounds, strict=True)] for name, rounds in figures.items()}
    for name, rounds in figures.items():
        wall = [one[0] for one in rounds]
        more = [f"{ours / theirs:8.2f}x" for ours, theirs in zip(median[name], median[against], strict=True)]
        cpu = f"{median[name][1]:9.2f}" if len(median[name]) > 1 else ""
        print(f"  {name:18}{min(wall):9.2f}{median[name][0]:9.2f}{max(wall):9.2f}{cpu}   to {against}: {' '.join(more)}")


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    there = [name for name in OPEN if Path(python(name)).exists() and _has(name)]
    absent = [name for name in OPEN if name not in there]
    print(f"{rounds} rounds, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; absent: {', '.join(absent) or 'nobody'}")
    one: dict[str, list[list[float]]] = {name: [] for name in there}
    four: dict[str, list[list[float]]] = {name: [] for name in ("mlops", "json lines")}
    load: dict[str, list[list[float]]] = {"mlops": [], "durable=False": [], **({"mlflow": []} if "mlflow" in there else {})}
    hot: list[list[float]] = []
    steps: list[list[float]] = []
    for _ in range(rounds):
        for name in there:
            one[name].append(_logged(name, 1))
        for name in four:
            four[name].append(_logged(name, 4))
        with tempfile.TemporaryDirectory() as place:
            folder = _project(place)
            hot.append(run("mlops", HOT.format(points=POINTS), folder))
            steps.append(run("mlops", STEPS.format(), folder))
        for name, found in load.items():
            begin, end = LOAD["mlflow" if name == "mlflow" else "mlops"]
            with tempfile.TemporaryDirectory() as place:
                code = begin.format(durable=name != "durable=False")
                count = RUNS // 10 if name == "mlflow" else RUNS
                found.append(
                    run(
                        "mlflow" if name == "mlflow" else "mlops",
                        LOADING.format(begin=code, end=end, runs=count),
                        _project(place),
                    )
                )
    show(f"one process, {POINTS:,} points, a call a point, until all are readable", "µs a point", one, "mlops")
    show(f"four processes at once, {POINTS // 4:,} points each, none lost", "µs a point", four, "json lines")
    show("a run with 20 parameters, 20 metrics and 5 curves of 100 points", "ms a run", load, "mlops")
    mlops.log(us_a_point=statistics.median(wall for wall, _ in one["mlops"]), ratio_to_floor=_ratio(one, "json lines"))
    middle, tail, *bare = (statistics.median(column) for column in zip(*hot, strict=True))
    print(f"\na call: median {middle:.2f} µs, p99.9 {tail:.1f} µs; one that appends to a list: {bare[0]:.2f}, {bare[1]:.1f} µs")
    print(f"two metrics in a step of 2 ms: {(statistics.median(one[0] for one in steps) - 1) * 100:.2f} % more processor time")
    with tempfile.TemporaryDirectory() as place:
        sizes = [run("mlops", SIZE.format(code=code), _project(place))[0] for code in ("import pathlib, threading", LOGGING)]
        print(f"memory: {sizes[1] - sizes[0]:.1f} MB more than the same Python without it")
        imports = [run("mlops", IMPORT.format(code="import mlops_local as m; m.run; m.log"), _project(place)) for _ in range(9)]
        wall, cpu = (statistics.median(column) for column in zip(*imports, strict=True))
        print(f"importing the API: {wall:.1f} ms, {cpu:.1f} ms of processor time")


def _ratio(figures: dict[str, list[list[float]]], other: str) -> float:
    ours, theirs = (statistics.median(cpu for _, cpu in figures[name]) for name in ("mlops", other))
    return ours / theirs


def _logged(name: str, processes: int) -> list[float]:
    begin, call, end = OPEN[name]
    points = POINTS_OF.get(name, POINTS) // processes
    with tempfile.TemporaryDirectory() as place:
        folder = _project(place)
        found = run(name, LOOP.format(begin=begin, call=call, end=end, points=points), folder, processes)
        if name == "mlops" and (count := arrived(folder)) != points * processes:
            raise SystemExit(f"{count} points arrived of {points * processes}")
    return found


def _has(name: str) -> bool:
    module = {"mlops": "mlops_local", "json lines": "json"}.get(name, name)
    return subprocess.run([python(name), "-c", f"import {module}"], stderr=subprocess.DEVNULL, check=False).returncode == 0


def _project(place: str) -> Path:
    Path(place, "mlops.toml").write_text('[project]\nname = "bench"\n')
    return Path(place)


if __name__ == "__main__":
    main()
