"""What became of a source over time: its snapshots with what each changed, names for them, and their first rows."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlops_local.domain import events, sql
from mlops_local.domain.errors import UsageError
from mlops_local.domain.graph import Source
from mlops_local.services import data, references
from mlops_local.services import sql as queries
from mlops_local.services.datadiff import HIDDEN, files
from mlops_local.services.project import Project
from mlops_local.services.sql import Table
from mlops_local.store import history, projection
from mlops_local.store.journal import Journal

_NAME = re.compile(r"[A-Za-z][\w.-]{0,63}")


@dataclass(frozen=True)
class Entry:
    """One snapshot of a source."""

    snapshot: str
    """Its id."""
    created: str
    rows: int | None
    bytes: int
    files: int
    added: int
    """Files that the snapshot before did not have; of the first one all."""
    removed: int
    changed: int
    moved: int
    tags: tuple[str, ...] = ()
    kept: str = "full"


def log(project: Project, source: str, *, limit: int | None = 20) -> list[Entry]:
    """List the snapshots of a source, newest first.

    Args:
        project: the project.
        source: its name.
        limit: at most so many; None for all.

    Raises:
        UsageError: nothing of that name was ever snapshotted.
    """
    projection.fold(project.store)
    with project.store.reader() as db:
        found = history.snapshots(db, source)
        created = dict(db.execute("SELECT id, created FROM snapshot WHERE source = ?", [source]).fetchall())
        tags = history.snapshot_tags(db, source)
    if not found:
        raise UsageError(f"{source!r} has no snapshot", hint="`mlops data ls` lists the sources")
    entries = []
    for place, item in enumerate(found[:limit]):
        before = found[place + 1] if place + 1 < len(found) else None
        change = files({} if before is None else before.listed.contents, item.listed.contents)
        entries.append(
            Entry(
                item.id,
                history.utc(created[item.id]),
                None if item.listed.rows is None else item.rows,
                item.bytes,
                len(item.files),
                len(change.added),
                len(change.removed),
                len(change.changed),
                len(change.moved),
                tuple(sorted(name for name, snapshot in tags.items() if snapshot == item.id)),
                item.kept,
            )
        )
    return entries


def tag(project: Project, reference: str, name: str) -> str:
    """Give a snapshot a name, `flights@NAME` from now on; another snapshot of the source that has it loses it.

    Returns:
        The snapshot's id.

    Raises:
        UsageError: the reference names no snapshot, or the name could be taken for something else.
    """
    if not _NAME.fullmatch(name) or name == "latest" or re.fullmatch(r"[0-9a-f]{4,}", name):
        raise UsageError(
            f"{name!r} cannot be a snapshot's name",
            hint="a letter, then letters, digits, - _ and . and not what an id could begin with; `latest` is taken",
        )
    held = references.snapshot(project, reference)
    _say(project, held.source, name, held.id)
    return held.id


def untag(project: Project, source: str, name: str) -> None:
    """Take a name from a source's snapshots. Raises UsageError where there is none of that name."""
    projection.fold(project.store)
    with project.store.reader() as db:
        known = history.snapshot_tags(db, source)
    if name not in known:
        raise UsageError(f"no snapshot of {source} is called {name!r}", hint=f"names: {', '.join(known) or 'none'}")
    _say(project, source, name, "")


def head(project: Project, sources: tuple[Source, ...], reference: str, *, rows: int = 10) -> Table:
    """Return the first rows of a snapshot; values of private columns are hidden.

    Args:
        project: the project.
        sources: the pipeline's.
        reference: the snapshot.
        rows: how many.
    """
    held = references.snapshot(project, reference)
    private = [name for name in data.private(project, sources, held.source) if name in {item.name for item in held.columns}]
    hidden = ", ".join(f"'{HIDDEN}' AS {sql.name(name)}" for name in private)
    star = f"* REPLACE ({hidden})" if hidden else "*"
    return queries.sql(project, f"SELECT {star} FROM data.{sql.name(f'{held.source}@{held.id}')} LIMIT {rows}")


def _say(project: Project, source: str, name: str, snapshot: str) -> None:
    journal = Journal.open(project.layout.journal)
    try:
        journal.state(events.SNAPSHOT_TAG, source=source, name=name, snapshot=snapshot)
    finally:
        journal.close()
