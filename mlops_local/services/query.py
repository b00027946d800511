"""Ask the store by SQL: one SELECT over everything, on a sealed connection: no other file or network, settings locked."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from mlops_local.domain.errors import UsageError
from mlops_local.domain.filters import FIELDS
from mlops_local.domain.runs import Run
from mlops_local.services import history
from mlops_local.services.project import Project
from mlops_local.store import projection, sealed


def runs(project: Project, where: str = "", *, sort: str = "", limit: int | None = None) -> list[dict[str, Any]]:
    """Return runs as flat rows: what every run has, then `param.NAME`, `metric.NAME` (its last value) and `tag.NAME`.

    Args:
        project: the project.
        where: a filter, as for `history.runs`.
        sort: a field, `-` before it for largest first; default: newest first.
        limit: at most so many; None for all.

    Raises:
        UsageError: the filter or the field cannot be read, or no run has it.
    """
    return [row(run) for run in history.runs(project, where, sort=sort, limit=limit)[0]]


def row(run: Run) -> dict[str, Any]:
    """Return one run as a flat row."""
    own = {name: getattr(run, name) for name in FIELDS}
    parts = {"param": run.params, "metric": run.metrics, "tag": run.tags}
    return {
        **own,
        "state": run.state.value,
        **{f"{space}.{name}": value for space, values in parts.items() for name, value in values.items()},
    }


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


@dataclass(frozen=True)
class Relation:
    """One table `sql` can see."""

    name: str
    columns: tuple[ColumnInfo, ...]


def sql(project: Project, text: str, *, limit: int | None = None) -> Table:
    """Run exactly one SELECT over the project's views.

    Args:
        project: the project.
        text: the statement; WITH, FROM-first, DESCRIBE and SUMMARIZE are SELECTs too.
        limit: fetch at most so many rows; None for all.

    Raises:
        UsageError: it is not one SELECT, or DuckDB refuses it.
        StoreBusy: the store stayed in use.
    """
    projection.fold(project.store)
    columns, types, rows, more = sealed.select(project.store, text, limit)
    return Table(tuple(columns), tuple(types), tuple(rows), more)


def schema(project: Project, table: str = "") -> tuple[Any, ...]:
    """Return every table `sql` can see with its columns, or one table's columns. Raises UsageError for an unknown table."""
    projection.fold(project.store)
    with project.store.reader() as db:
        found = sealed.relations(db)
    if not table:
        return tuple(Relation(name, tuple(ColumnInfo(*column) for column in columns)) for name, columns in found.items())
    if table not in found:
        near = difflib.get_close_matches(table, found, n=1)
        raise UsageError(f"there is no table {table!r}", hint=f"did you mean {near[0]!r}?" if near else "see `mlops schema`")
    return tuple(ColumnInfo(*column) for column in found[table])
