"""Read runs back in a script or notebook, as polars frames: what `mlops runs` lists, and the curves behind it.

A face like the others: it calls services and shapes what they answer. Loads polars and DuckDB, when a name of it is used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from mlops_local.domain.filters import FIELDS
from mlops_local.services import history, query, references
from mlops_local.services.project import find

if TYPE_CHECKING:
    from mlops_local.services.project import Project


def runs(where: str = "", *, sort: str = "", limit: int | None = None) -> pl.DataFrame:
    """Return runs as a frame: a row a run, newest first; columns of their own, then `param.…`, `metric.…` and `tag.…`.

    Args:
        where: as for `mlops runs -w`: `"metric.auc > 0.7 and tag.group = 'lr'"`.
        sort: a field, `-` before it for largest first.
        limit: at most so many; None for all.

    Raises:
        UsageError: the filter or the field cannot be read, or no run has it.
    """
    rows = query.runs(_project(), where, sort=sort, limit=limit)
    return pl.DataFrame([_column(name, [row.get(name) for row in rows]) for name in query.present(rows)])


def metrics(ref: str = "@latest", *keys: str) -> pl.DataFrame:
    """Return a run's curves as a frame: `step`, `time` (UTC), and a column a metric; any column serves as an axis.

    Values of one `log` call share a row.

    Args:
        ref: the run: an id's beginning, a name, `@1`.
        keys: which metrics; all unless given.

    Raises:
        UsageError: the reference names no run, or the run has no such metric.
    """
    project = _project()
    found = history.points(project, references.resolve(project, ref), keys)
    names = {key: f"metric.{key}" if key in ("step", "time") else key for key in keys or [key for key, *_ in found]}
    rows: list[dict[str, Any]] = []
    newest: dict[tuple[Any, Any], dict[str, Any]] = {}
    for key, step, value, time in found:
        row = newest.get((step, time))
        if row is None or names[key] in row:  # two values of one metric never share a row
            row = newest[step, time] = {"step": step, "time": time}
            rows.append(row)
        row[names[key]] = value
    columns: dict[str, Any] = {"step": pl.Float64, "time": pl.Datetime("us"), **dict.fromkeys(names.values(), pl.Float64)}
    return pl.DataFrame(rows, schema=columns).with_columns(pl.col("time").dt.replace_time_zone("UTC"))


_OWN = {"text": pl.String, "number": pl.Float64, "flag": pl.Boolean}
"""Kind of a field that every run has -> its type, whether or not a run has a value."""


def _column(name: str, values: Sequence[Any]) -> pl.Series:
    """One column of one type: what differs from run to run in kind is text, as JSON where it is no text."""
    kind = FIELDS.get(name, "")
    if kind in _OWN:
        return pl.Series(name, values, dtype=_OWN[kind])
    if kind == "time":
        stamps = pl.Series(name, [value or None for value in values], dtype=pl.String)
        return stamps.str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us", time_zone="UTC")
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    if kinds <= {int} and all(value is None or abs(value) < 2**63 for value in values):
        return pl.Series(name, values, dtype=pl.Int64)
    if kinds <= {int, float}:
        with suppress(OverflowError):  # a whole number that no float holds is text
            return pl.Series(name, [None if value is None else float(value) for value in values], dtype=pl.Float64)
    return pl.Series(
        name, [value if value is None or isinstance(value, str) else json.dumps(value) for value in values], dtype=pl.String
    )


def _project() -> Project:
    return find(Path.cwd())
