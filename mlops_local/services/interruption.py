"""What becomes of a step that is interrupted: the states it kept, and the result of one that was asked to end early."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_local.domain import secrets
from mlops_local.domain.errors import UsageError
from mlops_local.domain.progress import Emit, Progress
from mlops_local.engines.pipeline import fingerprint as fingerprints
from mlops_local.services import references
from mlops_local.services.project import Project
from mlops_local.store import checkpoints, history, layout


def begin(project: Project, step: str, fingerprint: str, *, resume: bool, emit: Emit) -> Path:
    """Make the place for the states of a step that is about to run, and say what an earlier attempt left there."""
    place = checkpoints.home(project.layout, fingerprint)
    if not place.is_dir():
        return place
    kept = checkpoints.begin(place, layout.hmac_key(project.layout))
    if kept is not None and resume:
        emit(Progress("note", f"{step}: goes on from its checkpoint of epoch {kept.epoch}", step=step))
    elif kept is not None:
        emit(Progress("note", f"{step}: a checkpoint of epoch {kept.epoch} is there: mlops train --resume", step=step))
    return place


def kept_under(fingerprint: str, report: Mapping[str, Any]) -> str:
    """Return the fingerprint the result of a step that ended well is kept under.

    What a step left that was asked to end early is not what its fingerprint stands for: it gets one of its own, so that it is
    used in this run and never taken for the whole.
    """
    return fingerprints.digest("stopped", fingerprint, str(report["stopped"])) if report.get("stopped") else fingerprint


def end(project: Project, fingerprint: str, report: Mapping[str, Any]) -> None:
    """Forget the states of a step whose result is kept; one that ended early may still go on from its."""
    if not report.get("stopped"):
        checkpoints.drop(checkpoints.home(project.layout, fingerprint))
    checkpoints.prune(project.layout)


def order_of(project: Project, ref: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return what an earlier run was asked for, to go on with the same: its targets, and its parameters by dotted name.

    Raises:
        UsageError: there is no such run, or it was no training.
    """
    identifier = references.resolve(project, ref)
    with project.store.reader() as db:
        found, params = history.run(db, identifier), history.params(db, identifier)
    if found is None or found.kind != "train":
        raise UsageError(f"{ref} is not a training run", hint="targets go before it: `mlops train gbm --resume`")
    return found.targets, {name: value for name, value in params.items() if value != secrets.STRUCK}
