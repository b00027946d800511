"""Register and judge the versions that scripts left: from then on they are versions like any other."""

from __future__ import annotations

from typing import Any

from mlops_local.domain.assets import ModelVersion
from mlops_local.domain.errors import MlopsError
from mlops_local.domain.graph import Model, Symbol
from mlops_local.domain.plan import Output, StepResult
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.services import judging
from mlops_local.services.project import Project
from mlops_local.store import pending
from mlops_local.store.versions import SCRIPT


def adopt(project: Project, *, emit: Emit = ignore) -> list[ModelVersion]:
    """Register every version left by `log_model` and `log_eval`, judge it, and forget the note it left.

    A note is forgotten only after its version is judged, so a crash here mends itself the next time. One that cannot be judged
    (the champion does not answer its rows, an object is gone) is said and stays: it keeps no other version from its verdict,
    and no command that lists or promotes from working.
    """
    made = []
    for path, left in pending.waiting(project.layout):
        try:
            name, run = left["model"], left["run"]
            declared = Model(name=name, split="", features=Symbol("", ""), metric=left["metric"], cluster=left["cluster"])
            result, raw = _result(left), Output("rows", "parquet", left["rows"], {"rows.parquet": left["rows"]})
        except (KeyError, TypeError, AttributeError):
            emit(Progress("warning", f"pending/{path.name} is no version that a script left; it is not looked at"))
            continue
        try:
            version = judging.register(project, declared, candidate=SCRIPT, result=result, run=run, snapshots={})
            made.append(version)
            judging.decide(project, declared, version, result, raw_rows=raw, emit=emit)
        except MlopsError as error:
            emit(Progress("warning", f"{name}: no verdict: {error.message}" + (f" ({error.hint})" if error.hint else "")))
            continue
        pending.taken(path)
    return made


def _result(left: dict[str, Any]) -> StepResult:
    return StepResult(
        name=f"{left['model']}.evaluate",
        fingerprint=left["fingerprint"],
        outputs=(
            Output("bundle", "folder", left["bundle_hash"], left["bundle"]),
            Output("predictions", "parquet", left["predictions"], {"predictions.parquet": left["predictions"]}),
        ),
        run=left["run"],
        report={"metrics": left["metrics"]},
    )
