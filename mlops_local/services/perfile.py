"""A step that runs once for each file of a source (`each=`): only new and changed files run, the rest is taken from the store.

Each file has a fingerprint of its own: the step's, with the file's content in the place of the whole snapshot. What the
step leaves is the files' results side by side, in the files' order; nothing is copied together.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlops_local.domain.graph import Source, Step
from mlops_local.domain.jobs import Made, StepJob, StepOutcome
from mlops_local.domain.plan import Output, Part, Reason, StepResult
from mlops_local.engines.pipeline import fingerprint as fingerprints
from mlops_local.store import cache, checkpoints, objects
from mlops_local.store.layout import Layout

Run = Callable[[StepJob], StepOutcome]
Begin = Callable[[str], Path]
"""Fingerprint -> where what has it keeps its states."""


@dataclass(frozen=True)
class PerFile:
    """One execution of such a step: what its files' fingerprints are made of."""

    step: Step
    source: Source
    hashes: Mapping[str, str]
    """Its files: path -> hash."""
    parts: Sequence[Part]
    params: Mapping[str, Any]
    inputs: Mapping[str, str]
    """Argument -> hash of its content."""

    def files(self) -> Iterator[tuple[str, str]]:
        """Every file's path in order, with its own fingerprint."""
        code = [part for part in self.parts if part.kind in ("code", "env")]
        for path, hash in sorted(self.hashes.items()):
            # A table is the same under any name of its kind; a path is part of what the step sees.
            name = path + self.source.labels if self.source.kind == "files" else Path(path).suffix.lower()
            own = {
                item.argument: f"{hash} {name}" if item.node == self.step.each else self.inputs[item.argument]
                for item in self.step.inputs
            }
            yield path, fingerprints.fingerprint(self.step, code, self.params, own)[0]


def told(layout: Layout, each: PerFile, reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """The reasons with the source's new hash said in files: `data flights 1 of 12 files`."""
    counted = Reason("data", each.step.each, new=f"{missing(layout, each)} of {len(each.hashes)} files")
    rest = [reason for reason in reasons if not (reason.kind == "data" and reason.what == each.step.each)]
    return (*rest, counted)


def missing(layout: Layout, each: PerFile) -> int:
    """How many of the files have no result that is kept."""
    return sum(cache.step_result(layout, own) is None for _, own in each.files())


def run(
    layout: Layout, each: PerFile, job: StepJob, run_one: Run, *, begin: Begin, at_once: int, keep: bool, forced: bool
) -> StepOutcome:
    """Run the step for every file whose result is not kept, and put all results together.

    After a failure no other file begins; those that run are waited for, and kept.

    Args:
        layout: the store.
        each: the step and what it reads.
        job: the job over all files; a file's is made of it.
        run_one: runs a job in a worker; called from several threads.
        begin: makes the place for a file's states: no file goes on from those of another.
        at_once: how many files may run at the same time.
        keep: keep each file's result as soon as it is there, so that a failure of the next one does not cost it.
        forced: run every file.
    """
    started, failed, writing = time.monotonic(), threading.Event(), threading.Lock()
    files = list(each.files())
    found = {number: None if forced else cache.step_result(layout, own) for number, (_, own) in enumerate(files)}

    def one(number: int) -> tuple[StepOutcome, StepResult | None] | None:
        path, own = files[number]
        if failed.is_set():
            return None
        outcome = run_one(replace(_alone(job, each, path, number), checkpoints=begin(own)))
        with writing:
            _append(job, path, number)
        if not outcome.ok:
            failed.set()
        whole = outcome.ok and not outcome.report.get("stopped")  # what was asked to end early is not what its fingerprint says
        return outcome, _keep(layout, each, own, outcome, job.run) if keep and whole else None

    waiting = [number for number, kept in found.items() if kept is None]
    with ThreadPoolExecutor(at_once, thread_name_prefix=f"mlops-files-{each.step.name}") as pool:
        ran = {number: done for number, done in zip(waiting, pool.map(one, waiting), strict=True) if done is not None}
    total = replace(_total([outcome for outcome, _ in ran.values()]), seconds=time.monotonic() - started)
    for number, (outcome, _) in ran.items():
        if not outcome.ok:
            error = f"{files[number][0]}: {outcome.error}"
            return replace(total, ok=False, error=error, hint=outcome.hint, traceback=outcome.traceback)
    made = {number: kept or outcome for number, (outcome, kept) in ran.items()}
    results = [(path, found[number] or made[number]) for number, (path, _) in enumerate(files)]
    outputs, problem = _together(layout, each.step, results)
    if problem:
        return StepOutcome(False, error=problem, hint="let the step return the same kind of value for every file")
    return replace(total, outputs=outputs, report={**total.report, "files": [len(waiting), len(files)]})


def _alone(job: StepJob, each: PerFile, path: str, number: int) -> StepJob:
    """The job for one file."""
    out = job.out / f"{number:05d}"
    out.mkdir()
    inputs = tuple(
        replace(given, files={path: given.files[path]}) if given.input.node == each.step.each else given for given in job.inputs
    )
    return replace(job, inputs=inputs, out=out, log=job.out / f"{number:05d}.log")


def _append(job: StepJob, path: str, number: int) -> None:
    """Add what one file's run printed to the step's log, with that of its failed attempts."""
    for own in sorted(job.out.glob(f"{number:05d}*.log")):  # "00001 (attempt 1).log" is before "00001.log"
        if own.stat().st_size:
            attempt = own.stem.removeprefix(f"{number:05d}")
            with job.log.open("ab") as log, own.open("rb") as said:
                log.write(f"-- {path}{attempt}\n".encode("utf-8", "surrogateescape"))
                shutil.copyfileobj(said, log)
        own.unlink()


def _keep(layout: Layout, each: PerFile, own: str, outcome: StepOutcome, run: str) -> StepResult:
    outputs = []
    for made in outcome.outputs:
        hashes = {name: objects.adopt(layout, Path(path)) for name, path in sorted(made.files.items())}
        size = sum(objects.path(layout, part).stat().st_size for part in hashes.values())
        outputs.append(Output(made.name, made.kind, made.logical, hashes, size, made.rows))
    kept = StepResult(each.step.name, own, tuple(outputs), run, outcome.seconds, outcome.cpu_seconds, outcome.peak_bytes)
    cache.record_part(layout, kept)
    checkpoints.drop(checkpoints.home(layout, own))
    return kept


def _total(ran: Sequence[StepOutcome]) -> StepOutcome:
    """What all the runs took (memory: the most one of them), and what they said, once each."""
    notes = {
        key: list(dict.fromkeys(note for outcome in ran for note in outcome.report.get(key, ())))
        for key in ("notes", "warnings")
    }
    report: dict[str, Any] = {key: said for key, said in notes.items() if said}
    if stopped := next((said for outcome in ran if (said := outcome.report.get("stopped"))), ""):
        report["stopped"] = stopped
    return StepOutcome(
        True,
        report=report,
        cpu_seconds=sum(outcome.cpu_seconds for outcome in ran),
        peak_bytes=max((outcome.peak_bytes for outcome in ran), default=0),
        attempts=max((outcome.attempts for outcome in ran), default=1),
    )


def _together(
    layout: Layout, step: Step, results: Sequence[tuple[str, StepResult | StepOutcome]]
) -> tuple[tuple[Made, ...], str]:
    """Each output over all files, or why the files do not go together."""
    made = []
    for place, name in enumerate(step.outputs):
        items = [(path, result.outputs[place]) for path, result in results]
        kinds = {item.kind: path for path, item in items}
        if len(kinds) > 1:
            (one, here), (other, there) = list(kinds.items())[:2]
            return (), f"output '{name}' is kept as {one} for {here} and as {other} for {there}"
        logical = fingerprints.digest("each", *(item.logical for _, item in items))
        files = {
            f"{number:05d}/{part}": where for number, (_, item) in enumerate(items) for part, where in _files(layout, item)
        }
        rows = [item.rows for _, item in items]
        known = [count for count in rows if count is not None]
        made.append(Made(name, f"each:{next(iter(kinds))}", logical, files, sum(known) if len(known) == len(rows) else None))
    return tuple(made), ""


def _files(layout: Layout, item: Output | Made) -> list[tuple[str, str]]:
    if isinstance(item, Made):
        return list(item.files.items())
    return [(name, str(objects.path(layout, part))) for name, part in item.parts.items()]
