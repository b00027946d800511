"""Take private values out of what a step's error says: libraries quote the values that they fail on.

Only texts that stand between quotation marks in the error or its traceback are looked up in the private columns below the
step; what the step prints itself is its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from mlops_local.domain.assets import Snapshot
from mlops_local.domain.errors import MlopsError
from mlops_local.domain.graph import Source
from mlops_local.domain.jobs import StepJob, StepOutcome
from mlops_local.engines.pipeline import plan
from mlops_local.services import contents
from mlops_local.services.datadiff import HIDDEN
from mlops_local.services.project import Project

_QUOTED = re.compile(r"""'((?:[^'\\\n]|\\.)*)'|"((?:[^"\\\n]|\\.)*)\"""")


def private(project: Project, snapshots: Mapping[str, Snapshot], job: StepJob, outcome: StepOutcome) -> StepOutcome:
    """Return how a step failed, without the private values of the sources it is made of.

    Args:
        project: the project.
        snapshots: source -> what the step was to read.
        job: the step.
        outcome: how it failed, or that it did not.
    """
    read = {item.node for step in plan.needed(job.graph, [job.step.name]) for item in step.inputs}
    below = [source for source in job.graph.sources if source.private and source.name in read and source.name in snapshots]
    quoted = {one or two for one, two in _QUOTED.findall(f"{outcome.error}\n{outcome.traceback}")} - {""}
    if outcome.ok or not below or not quoted:
        return outcome
    found = set().union(*(_held(project, source, snapshots[source.name], quoted) for source in below))
    return replace(outcome, error=_without(outcome.error, found), traceback=_without(outcome.traceback, found))


def _held(project: Project, source: Source, snapshot: Snapshot, texts: Collection[str]) -> set[str]:
    """Those of the texts that are values of a private column; all of them where that cannot be found out."""
    import polars as pl  # noqa: PLC0415  (141 ms, and only where a step has failed)

    found: set[str] = set()
    try:
        held = contents.of(project, snapshot)
        for file in contents.tables(project, held).values() if held.kind == "table" else ():
            rows = pl.scan_parquet(file)
            there = rows.collect_schema()
            for column in source.private:
                if there.get(column, pl.Null) in (pl.String, pl.Categorical, pl.Enum):
                    value = pl.col(column).cast(pl.String)
                    found |= set(rows.select(value.filter(value.is_in(list(texts))).unique()).collect()[column])
    except (MlopsError, OSError, pl.exceptions.PolarsError):
        return set(texts)
    return found


def _without(text: str, values: Collection[str]) -> str:
    return _QUOTED.sub(lambda match: HIDDEN if (match[1] or match[2]) in values else match[0], text)
