"""One SELECT over everything, on a sealed connection: the store read only, no other file or network, settings locked."""

from __future__ import annotations

import difflib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlops_local.domain.errors import UsageError
from mlops_local.domain.records import dataclass
from mlops_local.services.project import Project
from mlops_local.store import history, meanings, projection, sealed

TIMEOUT_S = 60.0
"""A query that takes longer keeps what others log from being folded."""


@dataclass(frozen=True)
class Table:
    """What a SELECT answered."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    """As DuckDB names them."""
    rows: tuple[tuple[Any, ...], ...]
    more: bool = False
    """There were further rows beyond the limit."""


@dataclass(frozen=True)
class ColumnInfo:
    """One column of a table `sql` can see."""

    name: str
    type: str
    about: str = ""


@dataclass(frozen=True)
class Relation:
    """One table `sql` can see."""

    name: str
    columns: tuple[ColumnInfo, ...]
    about: str = ""


def sql(project: Project, text: str, *, limit: int | None = None, timeout_s: float | None = TIMEOUT_S) -> Table:
    """Run exactly one SELECT over the project's views.

    Args:
        project: the project.
        text: the statement; WITH, FROM-first, DESCRIBE and SUMMARIZE are SELECTs too. `data.SOURCE` and
            `data."SOURCE@~1"` are the rows of snapshots.
        limit: fetch at most so many rows; None for all.
        timeout_s: give up after so many seconds; None: never.

    Raises:
        UsageError: it is not one SELECT, DuckDB refuses it, or it took too long or too much memory.
        StoreBusy: the store stayed in use.
    """
    projection.fold(project.store)
    extra = _snapshots(project, text)
    with _nearest(project):
        columns, types, rows, more = sealed.select(project.store, text, limit, timeout_s=timeout_s, extra=extra)
    return Table(tuple(columns), tuple(types), tuple(rows), more)


def to_parquet(project: Project, text: str, target: str | Path, *, timeout_s: float | None = TIMEOUT_S) -> int:
    """Write every row of one SELECT to a Parquet file, whole or not at all; return how many.

    Raises:
        UsageError: as for `sql`, or the file cannot be written.
    """
    projection.fold(project.store)
    extra = _snapshots(project, text)
    with _nearest(project), sealed.parquet(project.store, text, timeout_s=timeout_s, extra=extra) as (made, rows):
        put(made, Path(target))
    return rows


def _snapshots(project: Project, text: str) -> sealed.Extra:
    """The rows of snapshots that a statement names: `data.flights`; their profiles without what is private."""
    if not any(word in text.lower() for word in ("data", "column_profile", "evaluation")):
        return sealed.NOTHING
    from mlops_local.services import rows  # noqa: PLC0415  (what reads snapshots: only for a statement that may name one)

    return rows.extra(project, text)


_NO_SNAPSHOT = re.compile(
    r'Catalog Error: Table with name (?:"data\.(?P<name>.+?)"|(?P<bare>\w+)) does not exist.*?(?P<place>\n.*)?', re.I | re.S
)


@contextmanager
def _nearest(project: Project) -> Iterator[None]:
    """Where a statement names `data.NAME` and there is none, or NAME alone, say what there is: DuckDB knows only some."""
    try:
        yield
    except UsageError as error:
        found = _NO_SNAPSHOT.fullmatch(error.message)
        if found is None:
            raise
        with project.store.reader() as db:
            sources = list(dict.fromkeys(snapshot.source for snapshot in history.snapshot_heads(db)))
        if found["bare"] is not None:
            if found["bare"] not in sources:
                raise
            hint = f"the rows of source {found['bare']} are data.{found['bare']}"
            raise UsageError(f"no table is called {found['bare']!r}{found['place'] or ''}", hint=hint) from error
        same = [source for source in sources if source.lower() == found["name"].lower()]
        near = same or difflib.get_close_matches(found["name"], sources, n=1)
        hint = f"did you mean data.{near[0]}?" if near else f"sources with snapshots: {', '.join(sources) or 'none'}"
        raise UsageError(f"no source with a snapshot is called {found['name']!r}{found['place'] or ''}", hint=hint) from error


def put(made: Path, target: Path) -> None:
    """Move a file of ours to where somebody wants it: complete under its name, or not there. Raises UsageError."""
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        shutil.copyfile(made, draft)
        draft.replace(target)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise UsageError(
            f"cannot write {target}: {error.strerror or error}", hint="name a file in a folder you may write to"
        ) from error


def schema(project: Project, table: str = "") -> tuple[Relation, ...]:
    """Return every table `sql` can see with its columns, or the one of that name. Raises UsageError for an unknown one."""
    projection.fold(project.store)
    with project.store.reader() as db:
        found = sealed.relations(db)
    if table and table not in found:
        near = difflib.get_close_matches(table, found, n=1)
        raise UsageError(f"there is no table {table!r}", hint=f"did you mean {near[0]!r}?" if near else "see `mlops schema`")
    return tuple(
        Relation(name, tuple(ColumnInfo(*column, meanings.of(name, column[0])) for column in columns), meanings.of(name))
        for name, columns in found.items()
        if table in {"", name}
    )
