"""What a step costs: 100 that do nothing, with one job and with two; and how soon one is in user code. All in warm workers.

Run it as `python benchmarks/steps.py [REPEATS]`; prints minimum, median and maximum, and the CPU time of each step beside them:
on a busy machine that is what can be compared.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlops_local.domain.progress import Progress
from mlops_local.engines.pipeline.runner import Workers
from mlops_local.services import interpreter
from mlops_local.services.project import Project, find
from mlops_local.services.train import train

COUNT = 100
STEP = """
@mlops.step
def step_{n}():
    return {n}
"""
FIRST_LINE = """
import time

import lightgbm
import polars
import torch

import mlops_local as mlops


@mlops.step
def warm() -> float:
    began = time.time()
    open("began", "w").write(repr(began))
    return began
"""


def show(name: str, values: Sequence[float], cpu: str = "") -> None:
    low, middle, high = min(values), statistics.median(values), max(values)
    print(f"{name:44} {low * 1e3:8.1f} {middle * 1e3:8.1f} {high * 1e3:8.1f} ms (min, median, max of {len(values)}){cpu}")


@contextmanager
def project(code: str) -> Iterator[tuple[Project, Workers]]:
    """A project of this pipeline, trained once, and its warm workers."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "mlops.toml").write_text('[project]\nname = "steps"\n')
        (root / "pipeline.py").write_text(code)
        made = find(root)
        with interpreter.workers(made) as workers:
            train(made, jobs=1, workers=workers)
            yield made, workers
        made.store.close()


def nothing(repeats: int) -> None:
    """Steps that do nothing."""
    steps = "".join(STEP.format(n=n) for n in range(COUNT))
    with project("import time\nimport mlops_local as mlops\n" + steps) as (made, workers):
        for jobs in (1, 2):
            taken: list[float] = []
            own = time.process_time()
            for _ in range(repeats):
                started = time.perf_counter()
                result = train(made, force=("*",), jobs=jobs, workers=workers)
                taken.append((time.perf_counter() - started) / COUNT)
                assert len(result.ran) == COUNT
            own = (time.process_time() - own) / COUNT / repeats
            show(f"a step of {COUNT} that do nothing, -j {jobs}", taken, f"; {own * 1e3:.1f} ms of CPU in the program")


def first_line(repeats: int) -> None:
    """From the moment a step is begun to its own first line, the libraries loaded."""
    with project(FIRST_LINE) as (made, workers):
        taken = []
        for _ in range(repeats):
            begun = []

            def hear(event: Progress, begun: list[float] = begun) -> None:
                if event.kind == "step_started":
                    begun.append(time.time())

            train(made, force=("*",), workers=workers, emit=hear)
            taken.append(float((made.root / "began").read_text()) - begun[0])
    show("a warm step's first line, torch loaded", taken)


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    nothing(repeats)
    first_line(10 * repeats)
    print("load of the machine over 1, 5, 15 min: " + " ".join(f"{load:.1f}" for load in os.getloadavg()))


if __name__ == "__main__":
    main()
