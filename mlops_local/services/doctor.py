"""Check the store and, if asked, repair it. What cannot be made again is never removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from mlops_local.domain.errors import ConfigError
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.domain.project import ProjectConfig
from mlops_local.services import project as projects
from mlops_local.services.project import CONFIG, Project
from mlops_local.store import adoption, history, lockfile, registry, repair
from mlops_local.store import layout as layouts
from mlops_local.store.database import Store
from mlops_local.store.finding import Finding

_UNREADABLE = frozenset({"ledger", "database"})


def find(
    start: Path, *, wait_s: float = 30.0, on_wait: Callable[[str], None] = lambda holder: None
) -> tuple[Project, list[Finding]]:
    """Open the project though its mlops.toml may be broken, which is a finding then. Raises ProjectNotFound."""
    try:
        return projects.find(start, wait_s=wait_s, on_wait=on_wait), []
    except ConfigError as error:
        root = layouts.find_root(start)
        assert root is not None
        layout = layouts.Layout(root)
        layouts.create(layout)
        found = Finding("config", "; ".join((error.message, *error.problems[1:])), remedy=error.hint or f"mend {CONFIG}")
        return Project(root, ProjectConfig(root.name), Store(layout, wait_s=wait_s, on_wait=on_wait)), [found]


def doctor(project: Project, *, fix: bool = False, deep: bool = False, emit: Emit = ignore) -> list[Finding]:
    """Check modes, room, ledger, database, journals, runs, objects, clock and mlops.lock.

    Where the ledger or the database cannot be read, what depends on it is not checked until that is mended.

    Args:
        project: the project.
        fix: repair what can be repaired.
        deep: read every object, and say which is not what was written.
        emit: told each finding.

    Returns:
        What was found; `fixed` says whether it is mended now. Empty: the store is sound.

    Raises:
        StoreBusy: the store stayed in use.
        NewerStore: a newer version of this program wrote it.
    """
    findings = repair.everything(project.store, fix=fix, deep=deep)
    if not any(finding.kind in _UNREADABLE and not finding.fixed for finding in findings):
        findings += _lock_file(project)
    for finding in findings:
        emit(Progress("note" if finding.fixed else "warning", finding.text))
    return findings


def _lock_file(project: Project) -> Iterator[Finding]:
    """What mlops.lock names and this store does not have."""
    layout = project.layout
    try:
        named = lockfile.read(layout.lockfile)
    except ConfigError as error:
        yield Finding("lock", error.message, remedy=error.hint)
        return
    versions = registry.load(layout).versions
    with project.store.reader() as db:
        there = {(snapshot.source, snapshot.id) for snapshot in history.snapshots(db)} if named.sources else set()
    away = "mlops pull DIR, or mlops train to make it anew"
    for source, seen in sorted(named.sources.items()):
        if (source, seen.snapshot) not in there:
            yield Finding("lock", f"mlops.lock names snapshot {seen.snapshot[:8]} of {source}, not in this store", remedy=away)
    for model, entry in sorted(named.models.items()):
        if not any(adoption.matches(version, entry) for version in versions.values()):  # its number may be another here
            yield Finding("lock", f"mlops.lock names {entry.champion} as champion of {model}, not in this store", remedy=away)
