"""Make the database anew, or smaller. It is a projection: journals, ledger and objects hold everything it says."""

from __future__ import annotations

import shutil

from mlops_local.domain.errors import MlopsError
from mlops_local.services.project import Project
from mlops_local.store import compacting, projection
from mlops_local.store.compacting import Compacted


def rebuild(project: Project) -> int:
    """Fold everything again, beside project.duckdb, and put it in its place; returns how many lines were folded.

    Raises:
        StoreBusy: the store stayed in use.
        IntegrityError: a journal or the ledger is damaged; `mlops doctor` says which.
        MlopsError: there is no room for it beside the one there is.
    """
    needed, free = sum(path.stat().st_size for path in project.store.files()), shutil.disk_usage(project.layout.state).free
    if free < needed:
        raise MlopsError(
            f"no room to make project.duckdb anew: it takes about {needed / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are free",
            hint="free some disk space; the old one is as it was",
        )
    return projection.rebuild(project.store)


def compact(project: Project) -> Compacted:
    """Make database and put-away journals smaller; the same answers from fewer bytes.

    Raises:
        StoreBusy: the store stayed in use.
        IntegrityError: a journal or the ledger is damaged; `mlops doctor` says which.
        MlopsError: there is no room for a copy of the database.
    """
    return compacting.compact(project.store)
