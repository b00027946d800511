"""Check the store and, if asked, repair it. What cannot be made again is never removed."""

from __future__ import annotations

from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.services.project import Project
from mlops_local.store import repair
from mlops_local.store.repair import Finding


def doctor(project: Project, *, fix: bool = False, emit: Emit = ignore) -> list[Finding]:
    """Check ledger, database, journals, runs and objects, in this order.

    Where the ledger or the database cannot be read, what depends on it is not checked until that is mended.

    Args:
        project: the project.
        fix: repair what can be repaired.
        emit: told each finding.

    Returns:
        What was found; `fixed` says whether it is mended now. Empty: the store is sound.

    Raises:
        StoreBusy: the store stayed in use.
        NewerStore: a newer version of this program wrote it.
    """
    findings = repair.everything(project.store, fix=fix)
    for finding in findings:
        emit(Progress("note" if finding.fixed else "warning", finding.text))
    return findings
