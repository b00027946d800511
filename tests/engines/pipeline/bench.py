"""A small project with workers on it, and what a test asks of processes."""

from __future__ import annotations

import textwrap
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_local.domain.graph import Graph
from mlops_local.domain.jobs import Made
from mlops_local.engines.pipeline.runner import Given, StepJob, StepOutcome, Workers
from mlops_local.engines.pipeline.sources import SourceFile, discover
from mlops_local.engines.pipeline.values import load


class Bench:
    """A small project and a worker on it: writes the pipeline, describes it, runs its steps one after the other."""

    def __init__(self, root: Path, text: str, files: Mapping[str, str] | None = None) -> None:
        self.root = root
        for name, content in {"pipeline.py": text, **(files or {})}.items():
            (root / name).write_text(textwrap.dedent(content))
        (root / "data.csv").write_text("id,late,carrier\n" + "".join(f"{n},{n % 40},{'AB'[n % 2]}\n" for n in range(100)))
        self.sources: dict[str, SourceFile] = discover("pipeline.py", self._load)
        self.cancel = threading.Event()
        self.workers = Workers(root)
        try:
            self.graph: Graph = self.workers.describe("pipeline.py", self.sources)
        except BaseException:
            self.workers.close()
            raise
        self.made: dict[str, tuple[Made, ...]] = {}
        self.count = 0

    def _load(self, path: str) -> bytes | None:
        return (self.root / path).read_bytes() if (self.root / path).is_file() else None

    def run(
        self,
        name: str,
        *,
        seed: int = 1,
        threads: int = 0,
        gpus: tuple[str, ...] | None = None,
        strict: bool = False,
        **params: Any,
    ) -> StepOutcome:
        step = self.graph.step(name)
        inputs = []
        for item in step.inputs:
            if item.node in self.made:
                output = next(made for made in self.made[item.node] if not item.output or made.name == item.output)
                inputs.append(Given(item, output.kind, output.files))
            else:
                inputs.append(Given(item, "source", {"data.csv": str(self.root / "data.csv")}))
        self.count += 1
        job = StepJob(
            step=step,
            graph=self.graph,
            sources=self.sources,
            params={**{param.name: param.default for param in step.params}, **params},
            seed=seed,
            inputs=tuple(inputs),
            out=self.root / f"out{self.count}",
            log=self.log(name),
            key="key",
            threads=threads,
            gpus=gpus,
            strict=strict,
        )
        outcome = self.workers.run_step(job, cancel=self.cancel)
        self.made[name] = outcome.outputs
        return outcome

    def log(self, name: str) -> Path:
        return self.root / f"{name}.log"

    def value(self, name: str, output: str = "result", wants: str = "value") -> Any:
        made = next(made for made in self.made[name] if made.name == output)
        return load(made.kind, made.files, wants, key="key", scratch=self.root / f"back-{name}")


def bench(root: Path, text: str, **files: str) -> Bench:
    return Bench(root, text, {f"{name}.py": content for name, content in files.items()})


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def gone(pid: int, seconds: float = 15.0) -> bool:
    until = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(pid)


def pids_of(log: Path) -> list[int]:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        text = log.read_text() if log.exists() else ""
        if text.startswith("pids") and text.endswith("\n"):
            return [int(word) for word in text.split()[1:]]
        time.sleep(0.02)
    raise AssertionError(f"the step did not start: {text}")
