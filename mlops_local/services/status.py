"""One page on a project: what is served, what ran, what needs somebody, what to type next.

Answered from the ledger, the stored state and file stamps, so that it is instant: no pipeline is read, nothing heavy imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from mlops_local.domain.assets import ModelVersion, Verdict
from mlops_local.domain.errors import MlopsError
from mlops_local.domain.runs import Run, RunState
from mlops_local.services import interpreter
from mlops_local.services.project import CONFIG, Project
from mlops_local.store import cache, recent, registry
from mlops_local.store.registry import Registry

NEWEST_RUNS = 5
_NOT_CODE = {".mlops", ".git", "tests", "__pycache__", "node_modules", "site-packages"}
_DEEPEST = 4


@dataclass(frozen=True)
class Served:
    """What a server really serves."""

    version: str
    port: int
    pid: int
    alive: bool
    """The process that said so is still there."""
    since: str


@dataclass(frozen=True)
class Champion:
    """A model's champion, or that it has none."""

    model: str
    version: str
    metric: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    trained: str = ""
    served: Served | None = None


@dataclass(frozen=True)
class Suggestion:
    """A command that makes sense now, and why."""

    command: str
    why: str


@dataclass(frozen=True)
class Attention:
    """Something a person should look at."""

    text: str
    command: str
    """What shows more or mends it."""


@dataclass(frozen=True)
class Status:
    """One page on a project."""

    project: str
    champions: tuple[Champion, ...]
    runs: tuple[Run, ...]
    """Newest first."""
    total_runs: int
    attention: tuple[Attention, ...]
    next: tuple[Suggestion, ...]
    interpreter: str = ""
    """Which Python runs the project's code, and what led to it; empty when it cannot be told."""
    trains: bool = True
    """There is a pipeline to run, not scripts alone."""


def status(project: Project) -> Status:
    """Say how the project stands. Raises StoreBusy when the store stays in use."""
    runs, total = recent.newest(project.store, NEWEST_RUNS)
    known = registry.load(project.layout)
    champions = tuple(_champions(known))
    python, problem = _interpreter(project)
    attention = (*problem, *_attention(project, known, champions, runs))
    trains = bool(project.config.steps) or (project.root / project.config.pipeline).exists()
    return Status(
        project=project.config.name,
        champions=champions,
        runs=tuple(runs),
        total_runs=total,
        attention=attention,
        next=tuple(_next(champions, runs, attention, trains=trains)),
        interpreter=python,
        trains=trains,
    )


def _interpreter(project: Project) -> tuple[str, tuple[Attention, ...]]:
    try:
        return interpreter.of(project).sentence(project.root), ()
    except MlopsError as error:
        return "", (Attention(error.message, "mlops plan"),)


def _champions(known: Registry) -> Iterator[Champion]:
    for model in known.models():
        version = known.champion(model)
        served = _served(known, model)
        if version is None:
            yield Champion(model=model, version="", served=served)
            continue
        yield Champion(
            model=model,
            version=version.id,
            metric=version.metric,
            value=version.value,
            low=version.low,
            high=version.high,
            trained=version.created,
            served=served,
        )


def _served(known: Registry, model: str) -> Served | None:
    line = known.deployed(model)
    return (
        None if line is None else Served(line.version, line.port, line.pid, alive=alive(line.pid, since=line.at), since=line.at)
    )


def alive(pid: int, *, since: str = "") -> bool:
    """Say whether a process is still there, and is the one that was there at `since` (UTC, ISO 8601) where that can be told."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    born = _born(pid)
    if born is None or not since:
        return True
    try:
        return born <= datetime.fromisoformat(since).timestamp() + 1
    except ValueError:
        return True


def _born(pid: int) -> float | None:
    """When a process started, in seconds of UTC; None where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
        return int(boot.split()[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, StopIteration, IndexError, ValueError):
        return None


def _attention(project: Project, known: Registry, champions: Sequence[Champion], runs: Sequence[Run]) -> Iterator[Attention]:
    for champion in champions:
        yield from _about_serving(champion)
    yield from _about_versions(known, champions)
    yield from _about_runs(runs)
    yield from _about_files(project, runs)


def _about_serving(champion: Champion) -> Iterator[Attention]:
    served = champion.served
    if served is None:
        return
    if not served.alive:
        yield Attention(f"{served.version} was served on port {served.port}, but that process is gone", "mlops serve")
    elif champion.version and served.version != champion.version:
        yield Attention(f"{served.version} is served, but the champion is {champion.version}", "mlops audit")


def _about_versions(known: Registry, champions: Sequence[Champion]) -> Iterator[Attention]:
    named = {champion.model: champion.version for champion in champions}
    for model, champion in named.items():
        newest = known.of(model)[0]
        if newest.id == champion:
            continue
        verdict = known.verdicts.get(newest.id)
        if verdict is None:
            yield Attention(f"{newest.id} has no verdict", f"mlops model show {newest.id}")
        elif verdict.verdict != "pass":
            yield Attention(f"{newest.id}: {_reason(newest, verdict)}", f"mlops compare {champion or model} {newest.id}")
        elif newest.state == "new" and _decided_later(known, newest):
            yield Attention(f"{newest.id} passed its gates and is not the champion", f"mlops model promote {newest.id}")


def _decided_later(known: Registry, version: ModelVersion) -> bool:
    champion = known.champion(version.model)
    return champion is None or champion.number < version.number


def _reason(version: ModelVersion, verdict: Verdict) -> str:
    word = {"fail": "failed its gates", "inconclusive": "could not be judged"}.get(verdict.verdict, verdict.verdict)
    gate = next((gate for gate in verdict.gates if gate.verdict == verdict.verdict), None)
    if gate is None:
        return word
    if gate.difference is not None:
        return f"{word}: {gate.metric} {gate.difference:+.4f} against {verdict.baseline or 'the champion'} ({gate.rule})"
    return f"{word}: {gate.metric} {gate.rule}" + (f", {gate.note}" if gate.note else "")


def _about_runs(runs: Sequence[Run]) -> Iterator[Attention]:
    for place, run in enumerate(runs):
        if run.state is RunState.CRASHED:
            yield Attention(
                f"run {run.short} {run.name} crashed: its process ended without a last word", f"mlops show {run.short}"
            )
        if run.notes and (place == 0 or run.state is RunState.RUNNING):
            yield Attention(f"run {run.short} {run.name}: {run.notes[-1]}", f"mlops show {run.short}")
        if run.incomplete:
            yield Attention(f"run {run.short} {run.name} lost some of its points", f"mlops show {run.short}")
    ended = next((run for run in runs if run.state is not RunState.RUNNING), None)
    if ended is not None and ended.state is RunState.FAILED:
        first = ended.error.splitlines()[0] if ended.error else "failed"
        yield Attention(f"run {ended.short} {ended.name} failed: {first}", f"mlops logs {ended.short}")


def _about_files(project: Project, runs: Sequence[Run]) -> Iterator[Attention]:
    """Code saved after the last training. The stamps are cheap; only when they speak is the code itself looked at."""
    trained = next((run for run in runs if run.kind == "train"), None)
    if trained is None:
        return
    looked = max(_moment(trained.started), _stamp(project.layout.lockfile))
    edited = [path for path in _code(project.root) if _stamp(path) > looked]
    if not edited:
        return
    stale = _stale(project)
    if stale is None:
        names = ", ".join(path.relative_to(project.root).as_posix() for path in edited[:3])
        more = f" and {len(edited) - 3} more" if len(edited) > 3 else ""
        yield Attention(f"{names}{more} edited since the last training", "mlops plan")
    elif stale:
        yield Attention(f"steps to run after an edit: {', '.join(stale)}", "mlops train")


def _stale(project: Project) -> tuple[str, ...] | None:
    """The steps today's code would run on the newest snapshots; None when only starting the code could tell."""
    from mlops_local.engines.pipeline.plan import needed  # noqa: PLC0415  (20 ms, and only after an edit)
    from mlops_local.services import planning  # noqa: PLC0415  (the same)

    try:
        code = planning.known_code(project)
        if code is None:
            return None
        targets = planning.resolve_targets(code.graph, project.config, ())
        read = planning.sources_of(code.graph, needed(code.graph, targets))
        snapshots = {name: cache.snapshot(project.layout, name) for name in read}
        ids = {name: snapshot.id for name, snapshot in snapshots.items() if snapshot is not None}
        if len(ids) < len(read):
            return None
        plan = planning.make_plan(project, code, targets, params=planning.parameters(code.graph, project.config), snapshots=ids)
    except MlopsError:  # a status is no place to complain about the code: `mlops plan` does
        return None
    return tuple(decision.name for decision in plan.stale)


def _code(root: Path) -> Iterator[Path]:
    """Python files and mlops.toml of a project; hidden folders, tests and environments left out."""
    yield root / CONFIG
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        deep = len(here.relative_to(root).parts)
        folders[:] = [
            name
            for name in sorted(folders)
            if deep < _DEEPEST
            and not name.startswith(".")
            and name not in _NOT_CODE
            and not (here / name / "pyvenv.cfg").exists()
        ]
        yield from (here / name for name in sorted(files) if name.endswith(".py"))


def _stamp(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _moment(stamp: str) -> float:
    try:
        return datetime.fromisoformat(stamp).astimezone(timezone.utc).timestamp()
    except ValueError:
        return 0.0


def _next(
    champions: Sequence[Champion], runs: Sequence[Run], attention: Sequence[Attention], *, trains: bool
) -> Iterator[Suggestion]:
    if not runs:
        if trains:
            yield Suggestion("mlops plan", "see what would run")
            yield Suggestion("mlops train", "run it")
        else:
            yield Suggestion("mlops run python train.py", "track a script as it is")
            yield Suggestion("mlops init DIR --template blank", "see what a pipeline looks like")
        return
    if any(item.command in {"mlops plan", "mlops train"} for item in attention):
        yield Suggestion("mlops train", "run what the edit affects")
    if any(champion.version and (champion.served is None or not champion.served.alive) for champion in champions):
        yield Suggestion("mlops serve", "answer predictions over HTTP")
    if len(runs) > 1:
        yield Suggestion("mlops compare @2 @1", "what the newest run changed")
    if trains:
        yield Suggestion("mlops watch", "train again at each save")
    else:
        yield Suggestion("mlops init --script train.py", "make a step of a script: run again when it changes")
    yield Suggestion("mlops ui", "see it all in the terminal")
