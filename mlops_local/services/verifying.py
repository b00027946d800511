"""Compare the newest snapshots with the working files and with what is stored of them; nothing is believed.

Every byte is read: the working files', and the stored ones as `restore` would give them back. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlops_local.domain.assets import FileEntry, Snapshot
from mlops_local.domain.errors import DataError, IntegrityError
from mlops_local.domain.graph import Source
from mlops_local.engines.data import files
from mlops_local.services.project import Project
from mlops_local.store import cache, packs


@dataclass(frozen=True)
class FileCheck:
    """What `verify` found out about one file of a snapshot."""

    source: str
    path: str
    state: str
    """ok; changed, missing, unreadable (the working file); not stored, altered (the stored copy); new (not in the snapshot)."""


def verify(project: Project, sources: Sequence[Source], *, asked: bool = True) -> list[FileCheck]:
    """Re-hash every working file and every stored copy of the newest snapshots; the stat cache is not believed.

    Args:
        project: the project.
        sources: whose snapshots.
        asked: each was asked for by name; else those without a snapshot are left out.

    Raises:
        DataError: a source that was asked for has no snapshot yet.
    """
    checks: list[FileCheck] = []
    for source in sources:
        held = cache.snapshot(project.layout, source.name)
        if held is None and not asked:
            continue
        if held is None:
            raise DataError(f"source {source.name} has no snapshot yet", hint=f"run `mlops data snapshot {source.name}`")
        stored = _stored(project, held) if held.kept == "full" else {}
        checks += [FileCheck(source.name, entry.path, stored.get(entry.hash) or _state(project, entry)) for entry in held.files]
        known = set(held.listed.paths)
        try:
            there = files.find(project.root, source.pattern, source=source.name)
        except DataError:
            there = []  # every file is missing, and each has been said above
        checks += [FileCheck(source.name, path, "new") for path in there if path not in known]
    return checks


def verdict(checks: Sequence[FileCheck]) -> str:
    """Say in one line what `verify` found."""
    if not checks:
        return "no source has a snapshot yet"
    wrong = [check for check in checks if check.state != "ok"]
    if not wrong:
        files = "1 file is what its snapshot says" if len(checks) == 1 else f"{len(checks)} files are what their snapshots say"
        return f"{files}, and so are the stored copies"
    states = {state: sum(check.state == state for check in wrong) for state in dict.fromkeys(check.state for check in wrong)}
    told = ", ".join(f"{n} {state}" for state, n in states.items())
    mend = (
        "; `mlops doctor --deep --fix` takes what is altered anew from files that are as they were"
        if "altered" in states
        else ""
    )
    return f"{len(checks) - len(wrong)} of {len(checks)} files as recorded; {told}{mend}"


def exit_code(checks: Sequence[FileCheck]) -> int:
    """0: all as recorded. 6: a stored copy is damaged or gone. 1: only working files differ."""
    states = {check.state for check in checks}
    return IntegrityError.exit_code if states & {"altered", "not stored"} else int(bool(states - {"ok"}))


def _stored(project: Project, held: Snapshot) -> dict[str, str]:
    """What is wrong with stored copies, by hash: a damaged one goes before a changed working file."""
    hashes = set(held.listed.hashes)
    missing = set(packs.missing(project.layout, hashes))
    altered = packs.altered(project.layout, hashes - missing)
    return dict.fromkeys(missing, "not stored") | dict.fromkeys(altered, "altered")


def _state(project: Project, entry: FileEntry) -> str:
    """What is wrong with a working file."""
    file = project.root / entry.path
    try:
        if not file.is_file():
            return "missing"
        return "ok" if files.digest(file) == entry.hash else "changed"
    except OSError:
        return "unreadable"
