"""Where the results of a run's steps are: in the store, or for a moment in a folder of their own (`--scratch`).

A result in the store counts when it is journalled; what a child leaves behind after a crash is never used.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from mlops_local.domain.graph import Step
from mlops_local.domain.jobs import StepJob, StepOutcome
from mlops_local.domain.plan import Output, Part, StepResult
from mlops_local.domain.progress import Emit, Progress
from mlops_local.domain.records import dataclass
from mlops_local.domain.runs import short_id
from mlops_local.engines.pipeline import fingerprint as fingerprints
from mlops_local.services import interruption, smoke
from mlops_local.services.planning import Code
from mlops_local.services.project import Project
from mlops_local.store import cache, objects


class Record(Protocol):
    """Where the events of a run go: its journal, or nowhere."""

    def state(self, kind: str, /, **fields: Any) -> None:
        """Record a state change for good."""

    def passing(self, kind: str, /, **fields: Any) -> None:
        """Record one that a later line makes durable."""


class Unrecorded:
    """A run without a trace."""

    def state(self, kind: str, /, **fields: Any) -> None:
        """Nothing."""

    def passing(self, kind: str, /, **fields: Any) -> None:
        """Nothing."""


class Keeping(Protocol):
    """Keeps what steps make, for those after them."""

    @property
    def shared(self) -> bool:
        """Whether another run may wait for these results and use them."""

    @property
    def state(self) -> Path:
        """The .mlops folder that a step logs to."""

    def known(self, fingerprint: str) -> StepResult | None:
        """The result that was kept under a fingerprint."""

    def files(self, step: str, output: Output) -> dict[str, str]:
        """An output's files: name -> path to read."""

    def folder(self, run: str, step: str) -> Path:
        """Make an empty folder for a step to write its outputs to."""

    def log(self, run: str, step: str) -> Path:
        """Where a step's output goes; its folder exists."""

    def keep(self, job: StepJob, fingerprint: str, parts: Sequence[Part], outcome: StepOutcome) -> StepResult:
        """Keep what a step left in its folder."""

    def record(self, result: StepResult) -> None:
        """Let the next run find a result, now that it is journalled."""

    def begin(self, step: str, fingerprint: str, *, resume: bool, emit: Emit) -> Path:
        """Where the step keeps its checkpoints."""

    def end(self, fingerprint: str, report: Mapping[str, Any]) -> None:
        """Forget the checkpoints of a step that is done."""

    def look_at(self, job: StepJob) -> str:
        """Where a person finds what a failed step printed."""


@dataclass
class Stored:
    """Results in the project's store."""

    project: Project
    code: Code
    emit: Emit

    @property
    def shared(self) -> bool:
        """Yes."""
        return True

    @property
    def state(self) -> Path:
        """The project's .mlops."""
        return self.project.layout.state

    def known(self, fingerprint: str) -> StepResult | None:
        """The result under a fingerprint, its objects whole."""
        return cache.step_result(self.project.layout, fingerprint)

    def files(self, step: str, output: Output) -> dict[str, str]:
        """The objects' paths."""
        return {name: str(objects.path(self.project.layout, part)) for name, part in output.parts.items()}

    def folder(self, run: str, step: str) -> Path:
        """A draft folder on the objects' file system."""
        # Quoted: polars takes the brackets of `gbm[1]` in a path for a pattern.
        folder = self.project.layout.tmp / f"{run}-{quote(step, safe='')}"
        folder.mkdir(parents=True)
        return folder

    def log(self, run: str, step: str) -> Path:
        """A file of the run's own folder."""
        home = self.project.layout.logs / run
        home.mkdir(parents=True, exist_ok=True)
        return home / f"{step}.log"

    def keep(self, job: StepJob, fingerprint: str, parts: Sequence[Part], outcome: StepOutcome) -> StepResult:
        """Move the files into the object store."""
        outputs = []
        for made in outcome.outputs:
            hashes = {name: objects.adopt(self.project.layout, Path(path)) for name, path in sorted(made.files.items())}
            size = sum(objects.path(self.project.layout, part).stat().st_size for part in hashes.values())
            outputs.append(Output(made.name, made.kind, made.logical, hashes, size, made.rows))
        fingerprint = interruption.kept_under(fingerprint, outcome.report)
        sample = {smoke.NAME: job.step.extras[smoke.NAME]} if smoke.NAME in job.step.extras else {}
        more = {**sample, **own_metrics(self.code, job.step), **self._nondeterministic(job.step, fingerprint, outputs)}
        return result_of(job, fingerprint, parts, outcome, outputs, more)

    def record(self, result: StepResult) -> None:
        """Keep it under its fingerprint and as its step's latest."""
        cache.record(self.project.layout, result, written=True)

    def begin(self, step: str, fingerprint: str, *, resume: bool, emit: Emit) -> Path:
        """The place an earlier attempt used; says what that left."""
        return interruption.begin(self.project, step, fingerprint, resume=resume, emit=emit)

    def end(self, fingerprint: str, report: Mapping[str, Any]) -> None:
        """Unless it was asked to end early."""
        interruption.end(self.project, fingerprint, report)

    def look_at(self, job: StepJob) -> str:
        """The command that shows it."""
        return f"its output: mlops logs {short_id(job.run)} {job.step.name}"

    def _nondeterministic(self, step: Step, fingerprint: str, outputs: Sequence[Output]) -> dict[str, Any]:
        """A step that gave something else before, from the very same inputs, cannot be reproduced: that is said and kept."""
        before = cache.step_result(self.project.layout, fingerprint)
        if before is None:
            return {}
        old = {output.name: output.logical for output in before.outputs}
        other = [output.name for output in outputs if output.logical != old.get(output.name)]
        if other:
            text = f"{step.name} is nondeterministic: from the same code and inputs it made another {', '.join(other)} before"
            self.emit(Progress("warning", text, step=step.name))
        return {"nondeterministic": True} if other or before.report.get("nondeterministic") else {}


@dataclass
class Scratch:
    """Results of this run alone, in a folder that is gone afterwards; what the store has is read, nothing is added."""

    stored: Stored
    home: Path
    """An empty folder."""
    made: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    """Step and output -> file name -> path."""

    @property
    def shared(self) -> bool:
        """No."""
        return False

    @property
    def state(self) -> Path:
        """A folder that takes what steps log."""
        (self.home / "state" / "journal").mkdir(parents=True, exist_ok=True)
        return self.home / "state"

    def known(self, fingerprint: str) -> StepResult | None:
        """What the store has."""
        return self.stored.known(fingerprint)

    def files(self, step: str, output: Output) -> dict[str, str]:
        """The files the step left, or the store's."""
        return self.made.get((step, output.name)) or self.stored.files(step, output)

    def folder(self, run: str, step: str) -> Path:
        """A folder that stays until the end."""
        folder = self.home / "outputs" / quote(step, safe="")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def log(self, run: str, step: str) -> Path:
        """A file that is gone afterwards."""
        (self.home / "logs").mkdir(exist_ok=True)
        return self.home / "logs" / f"{step}.log"

    def keep(self, job: StepJob, fingerprint: str, parts: Sequence[Part], outcome: StepOutcome) -> StepResult:
        """Leave the files where they are."""
        kept = job.out.with_name(job.out.name + "@kept")
        shutil.rmtree(kept, ignore_errors=True)
        job.out.rename(kept)
        outputs = []
        for made in outcome.outputs:
            here = {name: Path(path) for name, path in made.files.items()}  # or in the store: a file's result that is kept
            moved = {
                name: kept / path.relative_to(job.out) if path.is_relative_to(job.out) else path for name, path in here.items()
            }
            files = {name: str(path) for name, path in moved.items()}
            self.made[job.step.name, made.name] = files
            outputs.append(Output(made.name, made.kind, made.logical, {}, 0, made.rows))
        return result_of(job, fingerprint, parts, outcome, outputs, {})

    def record(self, result: StepResult) -> None:
        """Nothing: it is of no later run."""

    def begin(self, step: str, fingerprint: str, *, resume: bool, emit: Emit) -> Path:
        """A place that is gone afterwards."""
        return self.home / "checkpoints" / step

    def end(self, fingerprint: str, report: Mapping[str, Any]) -> None:
        """Nothing: they go with the folder."""

    def look_at(self, job: StepJob) -> str:
        """The last lines themselves: the log goes with the folder."""
        try:
            lines = job.log.read_text(encoding="utf-8", errors="backslashreplace").splitlines()[-10:]
        except OSError:
            lines = []
        return "\n      ".join(["it printed last:", *lines]) if lines else ""


def result_of(
    job: StepJob,
    fingerprint: str,
    parts: Sequence[Part],
    outcome: StepOutcome,
    outputs: Sequence[Output],
    more: Mapping[str, Any],
) -> StepResult:
    """What one execution left, with what it took."""
    return StepResult(
        name=job.step.name,
        fingerprint=fingerprint,
        outputs=tuple(outputs),
        run=job.run,
        seconds=outcome.seconds,
        cpu_seconds=outcome.cpu_seconds,
        peak_bytes=outcome.peak_bytes,
        threads=job.threads,
        attempts=outcome.attempts,
        parts=tuple(parts),
        report={**outcome.report, **more},
    )


def own_metrics(code: Code, step: Step) -> dict[str, Any]:
    """What each of the user's metrics meant: values of one name are compared only while that stays the same."""
    if step.kind != "evaluate":
        return {}
    meant = {}
    for symbol in code.graph.model(step.model).metrics:
        alone = Step(f"metric {symbol.module}.{symbol.name}", "step", (symbol,))
        parts = fingerprints.parts(alone, code.graph, code.sources)
        values = [part.value for part in parts if part.kind == "code"]
        meant[symbol.name] = fingerprints.digest("metric", *values)
    return {"own_metrics": meant}
