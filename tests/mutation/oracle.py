"""Runs versions of small projects, and says how the analysis knows their steps."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlops_local.domain.graph import Graph, Input, Step, Symbol
from mlops_local.engines.pipeline import fingerprint as fingerprints
from mlops_local.engines.pipeline.outline import outline
from mlops_local.engines.pipeline.sources import SourceFile, discover
from tests.mutation.shapes import Job, Shape

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Version:
    """What one version of a shape gives and how its steps are known."""

    outputs: dict[str, str]
    prints: dict[str, str]
    values: dict[str, str]
    """What computed values of its modules came to."""
    outline: str
    """What importing it can depend on; empty where that cannot be told."""


class Oracle:
    """Runs versions in another process; the libraries are imported there once."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutation.runner"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def run(self, shape: Shape, files: dict[str, str], entry: str) -> Version | None:
        """Every step's output and fingerprint; None where the project cannot be imported, and so nothing would run at all."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        jobs = [(job.module, job.name, job.takes) for job in shape.jobs]
        request = {"files": files, "entry": entry, "jobs": jobs}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if answer["refused"]:
            return None
        sources = sources_of(files, entry)
        outputs, values = answer["outputs"], answer["values"]
        return Version(outputs, prints(shape, sources, outputs, values), values, outlined(sources))

    def close(self) -> None:
        """End the other process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def sources_of(files: Mapping[str, str], entry: str) -> dict[str, SourceFile]:
    return discover(entry, lambda path: files[path].encode() if path in files else None)


def outlined(sources: Mapping[str, SourceFile]) -> str:
    """The outline's digest; empty where importing cannot be seen through."""
    found = outline(sources)
    return found.digest if found is not None else ""


def prints(
    shape: Shape, sources: Mapping[str, SourceFile], outputs: Mapping[str, str], values: Mapping[str, str]
) -> dict[str, str]:
    steps = {job.name: _step(job) for job in shape.jobs}
    graph = Graph(steps=tuple(steps.values()), distributions={"polars": "polars 2", "numpy": "numpy 2"}, values=dict(values))
    found = {}
    for job in shape.jobs:
        inputs = {job.takes: outputs[job.takes]} if job.takes else {}
        found[job.name] = fingerprints.fingerprint(
            steps[job.name], fingerprints.parts(steps[job.name], graph, sources), {}, inputs
        )[0]
    return found


def _step(job: Job) -> Step:
    inputs = (Input(job.takes, job.takes),) if job.takes else ()
    return Step(job.name, "step", (Symbol(job.module, job.name),), inputs=inputs)
