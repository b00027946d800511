"""What may be wrong with the data of a step that failed with an error about text: one word makes a column of numbers text."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mlops_local.domain.assets import Snapshot
from mlops_local.domain.jobs import StepJob, StepOutcome
from mlops_local.engines.pipeline import plan
from mlops_local.services.project import Project

_OF_TEXT = re.compile(r"\b(str|string|utf8|object_?|dtypes?)\b|could not convert", re.IGNORECASE)


def below(project: Project, snapshots: Mapping[str, Snapshot], job: StepJob, outcome: StepOutcome) -> str:
    """Say which values of the sources below a failed step make text of a column of numbers or dates; empty where none do.

    Args:
        project: the project.
        snapshots: source -> what the step was to read.
        job: the step.
        outcome: how it failed.
    """
    if not _OF_TEXT.search(outcome.error.partition("\n")[0]):
        return ""
    from mlops_local.engines.data import strays  # noqa: PLC0415  (what reads tables: only where a step has failed)

    read = {item.node for step in plan.needed(job.graph, [job.step.name]) for item in step.inputs}
    found = []
    for source in job.graph.sources:
        held = snapshots.get(source.name)
        if source.name not in read or source.kind != "table" or held is None:
            continue
        text = [column.name for column in held.columns if column.type == "String" and column.name not in source.schema]
        files = {entry.path: project.root / entry.path for entry in held.files}
        for item in strays.find(files, text):
            said = item.told(hidden=item.column in source.private)
            found.append(f"{said}: mend it; {item.declared} of source {source.name} refuses such a file")
    return "\n      ".join(found)
