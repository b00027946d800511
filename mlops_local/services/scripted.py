"""Register and judge the versions that scripts left: from then on they are versions like any other."""

from __future__ import annotations

from typing import Any

from mlops_local.domain.assets import ModelVersion
from mlops_local.domain.graph import Model, Symbol
from mlops_local.domain.plan import Output, StepResult
from mlops_local.domain.progress import Emit, ignore
from mlops_local.services import judging
from mlops_local.services.project import Project
from mlops_local.store import pending


def adopt(project: Project, *, emit: Emit = ignore) -> list[ModelVersion]:
    """Register every version left by `log_model` and `log_eval`, judge it, and forget the note it left.

    A note is forgotten only after its version is in the ledger, so a crash here registers it the next time.
    """
    made = []
    for path, left in pending.waiting(project.layout):
        declared = Model(name=left["model"], split="", features=Symbol("", ""), metric=left["metric"], cluster=left["cluster"])
        result = _result(left)
        version = judging.register(project, declared, candidate="script", result=result, run=left["run"], snapshots={})
        raw = Output("rows", "parquet", left["rows"], {"rows.parquet": left["rows"]})
        judging.decide(project, declared, version, result, raw_rows=raw, emit=emit)
        pending.taken(path)
        made.append(version)
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
