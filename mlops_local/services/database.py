"""Make the database anew. It is a projection: journals, ledger and objects hold everything it says."""

from __future__ import annotations

from mlops_local.services.project import Project
from mlops_local.store import projection


def rebuild(project: Project) -> int:
    """Drop project.duckdb and fold everything again; returns how many lines were folded.

    Raises:
        StoreBusy: the store stayed in use.
        IntegrityError: a journal or the ledger is damaged; `mlops doctor` says which.
    """
    return projection.rebuild(project.store)
