"""Planning and running: the figures the project promises, beside dvc and make in the same run on the same machine.

    python benchmarks/pipeline.py [--rounds 9] [--files 10000] [--steps 300]

Commands take turns, so that a busy machine burdens all alike; what counts is the ratio of medians. Peers are found in
benchmarks/.peers (`make bench-peers`); without them our own figures are printed all the same. Slowness never fails the run.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlops_local as mlops

HERE = Path(__file__).resolve().parent
DVC = HERE / ".peers" / "bin" / "dvc"
MLOPS = [sys.executable, "-m", "mlops_local", "-q"]
HEAVY = "import lightgbm\nimport polars as pl\nimport torch\n\n"
LIGHT = "import polars as pl\n\n"
THREE = """\
import mlops_local as mlops

raw = mlops.data("raw.csv")


@mlops.step
def prep(raw: pl.DataFrame) -> pl.DataFrame:
    return raw.with_columns(prep=pl.lit(1))


@mlops.step
def feat(prep: pl.DataFrame) -> pl.DataFrame:
    return prep.with_columns(feat=pl.lit(2))


@mlops.step
def fit(feat: pl.DataFrame) -> dict[str, int]:
    return {"rows": feat.height, "sum": feat["b"].sum()}
"""
TRIVIAL = """\
import mlops_local as mlops

raw = mlops.data("raw.csv", kind="files")


@mlops.step
def prep(raw: list[str]) -> list[str]:
    return [line + ",prep" for line in open(raw[0]).read().splitlines()]


@mlops.step
def feat(prep: list[str]) -> list[str]:
    return [line + ",feat" for line in prep]


@mlops.step
def fit(feat: list[str]) -> list[str]:
    return [line + ",fit" for line in feat]
"""
PLAIN = "import polars as pl, pipeline as p; print(p.fit(p.feat(p.prep(pl.read_csv('raw.csv')))))"
STAGES = [("prep", "raw.csv", "clean.csv"), ("feat", "clean.csv", "feat.csv"), ("fit", "feat.csv", "model.txt")]
SCRIPT = "rows = open({src!r}).read().splitlines()\nopen({dst!r}, 'w').write('\\n'.join(row + ',{name}' for row in rows))\n"


@dataclass(frozen=True)
class Case:
    """One command of one workload."""

    command: Sequence[str]
    folder: Path
    before: Callable[[int], None] = lambda turn: None
    """Done before each turn, outside the stopwatch."""


def main() -> None:
    """Measure every workload and print it."""
    parser = argparse.ArgumentParser(description="Measure planning and running.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    peers = DVC.exists()
    if not peers:
        print("dvc is not installed beside us: `make bench-peers` does that; only our own figures follow\n")
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as scratch:
        place = Path(scratch)
        nothing_to_do(place, options.rounds, options.steps, peers=peers)
        all_stale(place, options.rounds, peers=peers)
        heavy_imports(place, options.rounds)
        many_files(place, options.rounds, options.files, peers=peers)


def nothing_to_do(place: Path, rounds: int, steps: int, *, peers: bool) -> None:
    """Three fresh steps, and many; the pipeline module imports polars, lightgbm and torch at its top."""
    three, many = project(place / "three", HEAVY + THREE), project(place / "many", HEAVY + pipeline_of(steps))
    cases = {
        "python -c pass": Case([sys.executable, "-c", "pass"], three),
        "mlops train": Case([*MLOPS, "train"], three),
        "mlops plan": Case([*MLOPS, "plan"], three),
        f"mlops train, {steps} steps": Case([*MLOPS, "train"], many),
        f"mlops plan, {steps} steps": Case([*MLOPS, "plan"], many),
    }
    run([*MLOPS, "train"], three)
    run([*MLOPS, "train"], many)
    if shutil.which("make"):
        cases["make"] = Case(["make", "-s"], make_project(place / "make"))
    if peers:
        folder = dvc_project(place / "dvc")
        cases["dvc repro"] = Case([str(DVC), "repro"], folder)
        cases["dvc status"] = Case([str(DVC), "status"], folder)
    times = measure("Nothing to do: 3 steps, heavy imports at the top", cases, rounds)
    ratio(times, "mlops train", "dvc repro", 0.4)
    ratio(times, "mlops plan", "dvc status", 0.5)
    ratio(times, f"mlops train, {steps} steps", "mlops train", 2.0)
    ratio(times, f"mlops plan, {steps} steps", "mlops plan", 2.0)


def all_stale(place: Path, rounds: int, *, peers: bool) -> None:
    """The input changes before each turn, so that all three steps run."""
    light = project(place / "light", TRIVIAL)
    cases = {"mlops train": Case([*MLOPS, "train"], light, changing(light))}
    if shutil.which("make"):
        folder = make_project(place / "make-stale")
        cases["make"] = Case(["make", "-s"], folder, changing(folder))
    if peers:
        folder = dvc_project(place / "dvc-stale")
        cases["dvc repro"] = Case([str(DVC), "repro"], folder, changing(folder))
    times = measure("All 3 steps stale, trivial work", cases, rounds)
    ratio(times, "mlops train", "dvc repro", 0.6)


def heavy_imports(place: Path, rounds: int) -> None:
    """The same with libraries that take a second to import, beside one process that runs the same code.

    What is promised is a difference of the order of the machine's noise: it is taken turn by turn, over more turns.
    """
    folder = project(place / "heavy", "import lightgbm\nimport polars as pl\n\n" + THREE)
    train, plain = "mlops train, heavy imports", "plain Python, heavy imports"
    cases = {
        train: Case([*MLOPS, "train"], folder, changing(folder)),
        plain: Case([sys.executable, "-c", PLAIN], folder),
    }
    times = measure("All 3 steps stale, lightgbm and polars imported at the top", cases, 2 * rounds)
    more = [ours - theirs for ours, theirs in zip(times[train], times[plain], strict=True)]
    print(f"  {train} - plain Python: {statistics.median(more):+.3f} s, of {len(more)} turns (promised at most +0.3 s)")
    mlops.log(heavy_over_plain_s=statistics.median(more))


def many_files(place: Path, rounds: int, count: int, *, peers: bool) -> None:
    """A source of many files, one of which changes before each turn."""
    code = HEAVY + 'import mlops_local as mlops\n\nraw = mlops.data("data/*.csv", kind="files")\n\n\n'
    code += "@mlops.step\ndef count(raw: list[str]) -> int:\n    return len(raw)\n"
    ours = project(place / "files", code, {f"data/{n:06}.csv": f"a,b\n{n},{n * 3}\n" for n in range(count)})
    run([*MLOPS, "train"], ours)
    changed = f"data/{count // 2:06}.csv"
    cases = {"mlops plan": Case([*MLOPS, "plan"], ours, changing(ours, changed))}
    if peers:
        folder = place / "dvc-files"
        shutil.copytree(ours / "data", folder / "data")
        stage = f"stages:\n  count:\n    cmd: {sys.executable} -c \"open('count.txt', 'w').write('1')\"\n"
        (folder / "dvc.yaml").write_text(stage + "    deps: [data]\n    outs: [count.txt]\n")
        start_dvc(folder)
        cases["dvc status"] = Case([str(DVC), "status"], folder, changing(folder, changed))
    times = measure(f"{count:,} input files, one changed", cases, rounds)
    ratio(times, "mlops plan", "dvc status", 0.5)


def project(folder: Path, code: str, files: Mapping[str, str] | None = None) -> Path:
    """A project of ours."""
    write(folder, {"mlops.toml": '[project]\nname = "bench"\n', "pipeline.py": code, **(files or {"raw.csv": table(0)})})
    return folder


def pipeline_of(count: int) -> str:
    """That many steps, each reading one before it."""
    steps = ['import mlops_local as mlops\n\nraw = mlops.data("raw.csv")\n']
    steps += ["@mlops.step\ndef s0(raw: pl.DataFrame) -> int:\n    return raw.height\n"]
    for number in range(1, count):
        before = f"s{(number - 1) // 3}"
        steps.append(f"@mlops.step\ndef s{number}({before}: int) -> int:\n    return {before} + {number}\n")
    return "\n\n".join(steps)


def make_project(folder: Path) -> Path:
    """The same three stages for make."""
    rules = [f"{dst}: {name}.py {src}\n\t{sys.executable} {name}.py\n" for name, src, dst in STAGES]
    write(folder, {**scripts(), "Makefile": "all: model.txt\n" + "".join(rules)})
    run(["make", "-s"], folder)
    return folder


def dvc_project(folder: Path) -> Path:
    """The same three stages for dvc."""
    stages = [
        f"  {name}:\n    cmd: {sys.executable} {name}.py\n    deps: [{name}.py, {src}]\n    outs: [{dst}]\n"
        for name, src, dst in STAGES
    ]
    write(folder, {**scripts(), "dvc.yaml": "stages:\n" + "".join(stages)})
    start_dvc(folder)
    return folder


def start_dvc(folder: Path) -> None:
    """A repository in which dvc has run everything once."""
    run(["git", "init", "-q"], folder)
    run([str(DVC), "init", "-q"], folder)
    run([str(DVC), "repro", "-q"], folder)


def scripts() -> dict[str, str]:
    """The stages as scripts, and their input."""
    return {"raw.csv": table(0), **{f"{name}.py": SCRIPT.format(name=name, src=src, dst=dst) for name, src, dst in STAGES}}


def table(seed: int) -> str:
    """Five thousand rows."""
    return "a,b\n" + "\n".join(f"{row},{row * (3 + seed) % 19}" for row in range(5000))


def changing(folder: Path, name: str = "raw.csv") -> Callable[[int], None]:
    """Write other content into a file at each turn."""
    return lambda turn: write(folder, {name: table(turn + 1)})


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write files, with the folders they need."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def run(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Seconds a command takes, and of CPU with all it waited for. It must succeed."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment = {key: value for key, value in environment.items() if not key.startswith(("MLOPS", "GIT_"))}
    environment["PYTHONPATH"] = str(HERE.parent)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(title: str, cases: Mapping[str, Case], rounds: int) -> dict[str, list[float]]:
    """Seconds of each case, in turns; the first only warms. Prints min, median and max, and the median of CPU time, in ms."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    cpu: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds + 1):
        for name, case in cases.items():
            case.before(turn)
            seconds, used = run(case.command, case.folder)
            if turn:
                times[name].append(seconds)
                cpu[name].append(used)
    print(f"{title}\n  {'ms, whole process':<30}{'min':>8}{'median':>8}{'max':>8}{'CPU':>8}")
    for name, found in times.items():
        figures = (min(found), statistics.median(found), max(found), statistics.median(cpu[name]))
        print(f"  {name:<30}" + "".join(f"{value * 1000:8.0f}" for value in figures))
    return times


def ratio(times: Mapping[str, list[float]], ours: str, other: str, promised: float) -> None:
    """Print one promise and what came of it."""
    if other in times:
        found = statistics.median(times[ours]) / statistics.median(times[other])
        print(f"  {ours} / {other}: {found:.2f} (promised at most {promised})")
        mlops.log(**{f"{ours} over {other}".replace(",", "").replace(" ", "_"): found})


if __name__ == "__main__":
    main()
