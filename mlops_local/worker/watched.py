"""Run a step's body and say what it read beside its inputs; under `--strict`, let it read nothing else."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from mlops_local.domain import reads as words
from mlops_local.domain.jobs import SERVING_PYTHON, StepJob, StepOutcome
from mlops_local.engines.data import patterns
from mlops_local.worker import landlock
from mlops_local.worker.reads import OURS, SYSTEM, Reads, Variables


def watched(job: StepJob, root: Path, body: Callable[[], StepOutcome]) -> StepOutcome:
    """Run `body` and add to its report what it read and did not declare; under `--strict` that is a failure."""
    if job.strict:
        _restrict(job, root)
    with Reads(root) as reads, Variables(root, direct=True) as variables:
        outcome = body()
    declared = set(_declared(job, root))
    read = reads.beside(declared)
    if job.strict and (read or (not outcome.ok and "permission denied" in (outcome.error + outcome.traceback).lower())):
        read = read or _named(outcome.error, root, declared) or _named(outcome.traceback, root, declared)
        return _refused(job, outcome, read)
    asked = sorted(name for name in variables.names if not name.startswith("MLOPS_"))
    lines = [words.sentence(path, _source(job, path)) for path in read]
    extra = {**({"undeclared": lines} if lines else {}), **({"variables": asked} if asked else {})}
    wrote = _wrote(job, reads.wrote(), outcome)
    warned = {"warnings": [*outcome.report.get("warnings", ()), *wrote]} if wrote else {}
    return replace(outcome, report={**outcome.report, **extra, **warned})


def _wrote(job: StepJob, paths: list[str], outcome: StepOutcome) -> list[str]:
    """Files beside the outputs: a result that is used again brings them back neither here nor in another clone."""
    kept = {Path(name).name for made in outcome.outputs for name in made.files}
    if job.step.kind == "command":
        return []
    return [
        f"writes {path}, which is no output: when the step's result is used again, the file is not written; return its path"
        for path in paths
        if Path(path).name not in kept
    ]


def _declared(job: StepJob, root: Path) -> Iterator[str]:
    """Files a step may read: its inputs, project code, and what was read when the code was described."""
    for given in job.inputs:
        yield from given.files.values()
    for source in job.sources.values():
        yield str(root / source.path)
    for path in job.graph.reads:
        yield str(root / path)
    for pattern in json.loads(job.step.extras.get("code", "[]")):  # the files that are a command's program
        yield from map(str, root.glob(pattern))


def _source(job: StepJob, path: str) -> str:
    return next((source.name for source in job.graph.sources if patterns.matches(source.pattern, path)), "")


def _named(error: str, root: Path, declared: set[str]) -> list[str]:
    """The files an error of a library names, as far as they are there and no inputs."""
    quoted = [root / text for text in re.findall(r"""["'`]([^"'`\n]+)["'`]""", error)]
    read = [path for path in quoted if path.suffix != ".py" and path.is_file() and str(path) not in declared]
    return [os.path.relpath(path, root) for path in dict.fromkeys(read)]


def _refused(job: StepJob, outcome: StepOutcome, read: list[str]) -> StepOutcome:
    if not read:
        return replace(outcome, hint=outcome.hint or "--strict lets a step read its declared inputs and nothing else")
    more = f" (and {len(read) - 1} more)" if len(read) > 1 else ""
    return replace(
        outcome,
        ok=False,
        outputs=(),
        error=f"PermissionError: it reads {read[0]}{more}, which is no input of the step, and --strict allows nothing else",
        hint=words.remedy(read[0], _source(job, read[0])),
    )


def _restrict(job: StepJob, root: Path) -> None:
    scratch = job.out / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
    landlock.restrict([*_declared(job, root), *_interpreters(), *SYSTEM, *_state(job), str(job.out)])


def _interpreters() -> Iterator[str]:
    """The folders of the Python that runs this, and of the one that will serve: a bundle is proved in it."""
    yield from (sys.prefix, sys.base_prefix, sys.exec_prefix, OURS)
    yield from (place for place in sys.path if place.endswith("-packages"))
    serving = Path(os.environ.get(SERVING_PYTHON, sys.executable))
    yield from (str(serving.parent.parent), str(Path(os.path.realpath(serving)).parent.parent))


def _state(job: StepJob) -> Iterator[str]:
    """The store without its objects: an input's are named one by one."""
    if job.state.is_dir() and job.state.is_absolute():
        yield from (str(entry) for entry in job.state.iterdir() if entry.name != "objects")
