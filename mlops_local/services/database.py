"""Make the database anew, or smaller. It is a projection: journals, ledger and objects hold everything it says."""

from __future__ import annotations

from mlops_local.services.project import Project
from mlops_local.store import compacting, projection
from mlops_local.store.compacting import Compacted


def rebuild(project: Project) -> int:
    """Drop project.duckdb and fold everything again; returns how many lines were folded.

    Raises:
        StoreBusy: the store stayed in use.
        IntegrityError: a journal or the ledger is damaged; `mlops doctor` says which.
    """
    return projection.rebuild(project.store)


def compact(project: Project) -> Compacted:
    """Make database and put-away journals smaller; the same answers from fewer bytes.

    Raises:
        StoreBusy: the store stayed in use.
        IntegrityError: a journal or the ledger is damaged; `mlops doctor` says which.
        MlopsError: there is no room for a copy of the database.
    """
    return compacting.compact(project.store)
