"""End a run that works in another terminal, or have it keep what it has.

A training is asked by a file its parent looks at: it may live in a watcher or the interface, which go on. A tracked script is
ended by a signal; whose process it is, the run's journal says: its lock is held, and the process began before the run, or
before it went on with it.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

from mlops_local.domain.errors import MlopsError, UsageError
from mlops_local.domain.runs import Run, RunState
from mlops_local.services import references
from mlops_local.services.project import Project
from mlops_local.services.status import alive
from mlops_local.services.vigil import CANCEL, KEEP
from mlops_local.store import files, history, projection

LONGEST_S = 20.0
"""How long a run that was told to end is waited for; its steps get three seconds."""
_LOOK_S = 0.1


@dataclass(frozen=True)
class StopResult:
    """What became of a run that was told to stop."""

    run: str
    name: str
    state: RunState
    """Still running when it was asked to keep what it has."""


def stop(project: Project, ref: str = "", *, keep: bool = False) -> StopResult:
    """End a run; one that was told to keep what it has ends by itself, with its models evaluated and registered.

    Args:
        project: the project.
        ref: which run; the only one that is running when empty.
        keep: ask its training to end after the epoch in progress.

    Raises:
        UsageError: no such run, it is not running, or several are.
        MlopsError: it did not end.
    """
    run = _running(project, ref)
    if run.kind == "train" or keep:
        request = project.layout.stop_request(run.id)
        request.parent.mkdir(mode=0o700, exist_ok=True)
        files.replace(request, (KEEP if keep else CANCEL).encode())
    else:
        _signal(project, run)
    if not keep:
        run = _ended(project, run)
    return StopResult(run.id, run.name, run.state)


def _running(project: Project, ref: str) -> Run:
    projection.fold(project.store)  # asks for each writer's lock: a run whose process is gone is not running
    if ref:
        run = _again(project, references.resolve(project, ref))
        if run.state is not RunState.RUNNING:
            raise UsageError(f"run {run.short} {run.name} is not running: it is {run.state.value}", hint="see `mlops runs`")
        return run
    with project.store.reader() as db:
        found = history.runs(db, where="state = 'running'", limit=10)
    if not found:
        raise UsageError("no run is running", hint="see `mlops runs`")
    if len(found) > 1:
        names = ", ".join(f"{run.short} {run.name}" for run in found)
        raise UsageError(f"{len(found)} runs are running: {names}", hint=f"say which: mlops stop {found[0].short}")
    return found[0]


def _again(project: Project, identifier: str) -> Run:
    projection.fold(project.store)
    with project.store.reader() as db:
        run = history.run(db, identifier)
    if run is None:
        raise UsageError(f"run {identifier} was deleted")
    return run


def _signal(project: Project, run: Run) -> None:
    with project.store.reader() as db:
        pid, since = int(history.environment(db, run.id).get("pid") or 0), history.begun(db, run.id)
    if not alive(pid, since=since):
        raise MlopsError(
            f"run {run.short} {run.name} is running, and process {pid} is not it: it was started elsewhere",
            hint="end it where it was started",
        )
    try:
        os.kill(pid, signal.SIGTERM)
    except PermissionError as error:
        raise MlopsError(f"process {pid} of run {run.short} is another user's", hint=f"sudo kill {pid}") from error


def _ended(project: Project, run: Run) -> Run:
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        time.sleep(_LOOK_S)
        now = _again(project, run.id)
        if now.state is not RunState.RUNNING:
            return now
    with project.store.reader() as db:
        pid = history.environment(db, run.id).get("pid")
    raise MlopsError(
        f"run {run.short} {run.name} was told to end and did not in {LONGEST_S:.0f} s", hint=f"kill -9 {pid} ends its process"
    )
