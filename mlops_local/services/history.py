"""What ran: one run in full, what its steps printed.

Every reading folds the journals first, so that what a process logged a moment ago is there.
"""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from mlops_local.domain import checks
from mlops_local.domain.assets import ModelVersion, Snapshot, Verdict
from mlops_local.domain.checks import Finding
from mlops_local.domain.errors import UsageError
from mlops_local.domain.plan import StepResult
from mlops_local.domain.runs import Curve, Run, StepRun, short_id
from mlops_local.services import references
from mlops_local.services.project import Project
from mlops_local.store import history, projection, registry

SHOWN_POINTS = 200
"""Of a curve where one run is shown: its spikes stay."""


@dataclass(frozen=True)
class Artifact:
    """A file a run kept."""

    path: str
    object: str
    """Its hash in the object store."""
    bytes: int


@dataclass(frozen=True)
class RunDetail:
    """One run in full."""

    run: Run
    steps: tuple[StepRun, ...]
    """In the order they began."""
    results: Mapping[str, StepResult]
    """Step -> what it left, made or reused."""
    versions: tuple[ModelVersion, ...]
    """The model versions it made."""
    snapshots: Mapping[str, str]
    """Source -> id of the snapshot it read."""
    intervals: Mapping[str, tuple[float, float]]
    """Metric -> low and high, where known."""
    findings: tuple[Finding, ...]
    """What broke the rules of the data it read, as it was found last, and what looks like a leak in its models."""
    tags: Mapping[str, str]
    notes: tuple[str, ...]
    artifacts: tuple[Artifact, ...]
    environment: Mapping[str, Any]
    """argv, env, python, host, pid, diff, interpreter, packages."""
    curves: tuple[Curve, ...] = ()
    """Metrics of several points, thinned; where one run is shown."""


@dataclass(frozen=True)
class VersionDetail:
    """One model version in full."""

    version: ModelVersion
    verdict: Verdict | None
    """The newest on it."""
    aliases: tuple[str, ...]
    """Names it has now: champion."""


@dataclass(frozen=True)
class Log:
    """What one step, or a script, printed."""

    name: str
    path: Path


def show(project: Project, ref: str) -> tuple[str, RunDetail | VersionDetail | Snapshot]:
    """Return what a reference names, in full, and its kind: run, version or snapshot.

    Raises:
        UsageError: it names nothing; AmbiguousReference: several things.
    """
    found = references.find(project, ref)
    if found.kind == "run":
        drawn = tuple(curve for curve in curves(project, [found.id], points=SHOWN_POINTS) if len(curve.values) > 1)
        return "run", replace(detail(project, found.id), curves=drawn)
    if found.kind == "version":
        known = registry.load(project.layout)
        aliases = tuple(name.partition("@")[2] for name, version in known.aliases.items() if version == found.id)
        return "version", VersionDetail(known.versions[found.id], known.verdicts.get(found.id), aliases)
    with project.store.reader() as db:
        return "snapshot", next(item for item in history.snapshots(db) if item.id == found.id)


def known(project: Project, identifier: str) -> bool:
    """Whether the store knows a run of that full id; one that was removed it does not."""
    projection.fold(project.store)
    with project.store.reader() as db:
        return history.run(db, identifier) is not None


def detail(project: Project, identifier: str) -> RunDetail:
    """Return one run in full. Raises UsageError for an id the store does not know."""
    projection.fold(project.store)
    with project.store.reader() as db:
        run = history.run(db, identifier)
        if run is None:
            raise UsageError(f"the store knows no run {identifier[16:24] or identifier}", hint="see `mlops runs`")
        results = history.step_results(db, identifier)
        read = history.run_snapshots(db, identifier)
        return RunDetail(
            run=run,
            steps=tuple(history.step_runs(db, identifier)),
            results=results,
            versions=_versions(project, identifier),
            snapshots=read,
            intervals=history.intervals(db, identifier),
            findings=(
                *history.findings(db, read),
                *(item for result in results.values() for item in checks.of_report(result.report)),
            ),
            tags=history.tags(db, identifier),
            notes=tuple(text for _, text in history.notes(db, identifier)),
            artifacts=tuple(Artifact(*row) for row in history.artifacts(db, identifier)),
            environment=history.environment(db, identifier),
        )


def curves(project: Project, runs: Sequence[str], *, points: int = 400) -> list[Curve]:
    """Return every metric of some runs over its steps, thinned to about `points` each."""
    with project.store.reader() as db:
        return history.curves(db, runs, points=points)


def drawn(project: Project, ref: str, metrics: Sequence[str]) -> list[Curve]:
    """Return some metrics of a run, each over its steps.

    Raises:
        UsageError: the reference names no run, or the run has no points of a metric.
    """
    run = references.resolve(project, ref)
    found = {curve.key: curve for curve in curves(project, [run])}
    for metric in metrics:
        if metric not in found:
            near = difflib.get_close_matches(metric, found, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(found) or 'none'}"
            raise UsageError(f"run {short_id(run)} has no points of {metric!r}", hint=hint)
    return [found[metric] for metric in metrics]


def points(project: Project, run: str, keys: Sequence[str] = ()) -> list[tuple[str, float | None, float, datetime]]:
    """Return every point of a run as it was logged: metric, step, value, time (UTC).

    Args:
        project: the project.
        run: a full id.
        keys: which metrics; all unless given.

    Raises:
        UsageError: the run has no such metric.
    """
    projection.fold(project.store)
    with project.store.reader() as db:
        found = history.points(db, run, keys)
        known = [] if not keys else sorted({key for key, *_ in found} | set(history.metric_names(db, run)))
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"metrics: {', '.join(known) or 'none'}"
            raise UsageError(f"run {short_id(run)} has no metric {key!r}", hint=hint)
    return found


def _versions(project: Project, run: str) -> tuple[ModelVersion, ...]:
    return tuple(version for version in registry.load(project.layout).versions.values() if version.run == run)


def logs(project: Project, ref: str = "@latest", *, step: str = "") -> list[Log]:
    """Return what a run's steps, or a tracked script, printed: one file each, oldest first.

    Raises:
        UsageError: the reference names no run, or the run has no such step.
    """
    run = references.resolve(project, ref)
    folder = project.layout.logs / run
    files = sorted(folder.glob("*.log"), key=lambda path: (path.stat().st_mtime_ns, path.name)) if folder.is_dir() else []
    found = [Log(path.stem, path) for path in files]
    if not step:
        return found
    chosen = [log for log in found if log.name == step]
    if not chosen:
        near = difflib.get_close_matches(step, [log.name for log in found], n=1)
        known = ", ".join(log.name for log in found) or "none"
        hint = f"did you mean {near[0]!r}?" if near else f"steps that did: {known}"
        raise UsageError(f"no step {step!r} of run {short_id(run)} printed anything", hint=hint)
    return chosen


def read_log(log: Log, *, tail: int | None = None) -> Iterator[str]:
    """Yield a log's lines, or only the last `tail`; bytes that are not UTF-8 are shown as escapes."""
    with log.path.open(encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        lines: Iterable[str] = file if tail is None else deque(file, maxlen=tail)
        for line in lines:
            yield line.rstrip("\r\n")
