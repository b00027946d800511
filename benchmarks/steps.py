"""What a step costs: 100 that do nothing, with one job and with two, in workers that are warm.

Run it as `python benchmarks/steps.py [REPEATS]`; prints minimum, median and maximum.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mlops_local.services import interpreter
from mlops_local.services.project import find
from mlops_local.services.train import train

COUNT = 100
STEP = """
@mlops.step
def step_{n}():
    return {n}
"""


def show(name: str, values: Sequence[float]) -> None:
    low, middle, high = min(values), statistics.median(values), max(values)
    print(f"{name:44} {low * 1e3:8.1f} {middle * 1e3:8.1f} {high * 1e3:8.1f} ms (min, median, max of {len(values)})")


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "mlops.toml").write_text('[project]\nname = "steps"\n')
        steps = "".join(STEP.format(n=n) for n in range(COUNT))
        (root / "pipeline.py").write_text("import time\nimport mlops_local as mlops\n" + steps)
        project = find(root)
        with interpreter.workers(project) as workers:
            train(project, jobs=1, workers=workers)
            for jobs in (1, 2):
                taken: list[float] = []
                for _ in range(repeats):
                    started = time.perf_counter()
                    train(project, force=("*",), jobs=jobs, workers=workers)
                    taken.append((time.perf_counter() - started) / COUNT)
                show(f"a step of {COUNT} that do nothing, -j {jobs}", taken)
        project.store.close()


if __name__ == "__main__":
    main()
