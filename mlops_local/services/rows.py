"""A snapshot's rows as tables for SQL: `data.flights` is its newest snapshot, `data."flights@~1"` the one before.

Only snapshots that a statement names are made readable, and only for that statement. In the place of a private column's values
stand marks of this store's own: equal for equal values, so that joins and counts come out the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Sequence

from mlops_local.domain import sql
from mlops_local.domain.assets import Snapshot
from mlops_local.domain.errors import UsageError
from mlops_local.domain.graph import Source
from mlops_local.engines.data import patterns
from mlops_local.services import contents, data, planning, references
from mlops_local.services.project import Project
from mlops_local.store import history, layout
from mlops_local.store.sealed import Extra

_PROFILE = "column_profile"
_COUNTS = ("snapshot", "source", "position", "name", "type", "nulls", "distinct", "nans")
"""What its profile says of a private column."""
_NAMED = re.compile(r"""(?:\bdata|"data")\s*\.\s*(?:"((?:[^"]|"")+)"|([A-Za-z_]\w*))""", re.IGNORECASE)


def extra(project: Project, text: str) -> Extra:
    """Return the views over snapshots and their profiles that a statement names, and the files they read.

    Args:
        project: the project.
        text: the statement; what is no snapshot is left for DuckDB to say.

    Raises:
        ConfigError: the code does not say which columns are private, as it cannot be read.
        DataError: a snapshot's file is gone and has no stored copy.
        AmbiguousReference: a name stands for several snapshots.
    """
    statements, files = [], []
    declared: Sequence[Source] | None = None
    for name in dict.fromkeys(_names(text)):
        try:
            snapshot = references.snapshot(project, name)
        except UsageError as error:
            if "@" in name:  # meant as a snapshot for sure
                raise
            del error
            continue
        declared = planning.sources(project) if declared is None else declared
        source = next((source for source in declared if source.name == snapshot.source), Source(snapshot.source, ""))
        private = data.private(project, declared, snapshot.source)
        view = f"data.main.{sql.name(name)}"
        if snapshot.listed.rows is not None:
            paths = [str(path) for path in contents.tables(project, contents.of(project, snapshot)).values()]
            listed = ", ".join(map(sql.quote, paths))
            chosen = _marked(project, snapshot, private)
            statements.append(f"CREATE VIEW {view} AS SELECT {chosen} FROM read_parquet([{listed}], hive_partitioning = false)")
            files += paths
        else:
            which = f"snapshot = {sql.quote(snapshot.id)} AND source = {sql.quote(snapshot.source)}"
            columns = ", ".join(_file_columns(source.labels))
            statements.append(f"CREATE VIEW {view} AS SELECT {columns} FROM project.main.snapshot_file WHERE {which}")
    views = ["ATTACH ':memory:' AS data", *statements] if statements else []
    keys = "keys"
    if any(view in text.lower() for view in (_PROFILE, "evaluation")):
        hidden = _hidden(project, planning.sources(project) if declared is None else declared)
        views.append(_profiles(hidden))
        keys = _keys(project, sorted({column for _, column in hidden}))
    return Extra(tuple(views), tuple(files), keys)


def _hidden(project: Project, declared: Sequence[Source]) -> list[tuple[str, str]]:
    """The private columns of every source there is or was, as (source, column)."""
    with project.store.reader() as db:
        names = {snapshot.source for snapshot in history.snapshot_heads(db)} | {source.name for source in declared}
    return [(name, column) for name in sorted(names) for column in data.private(project, declared, name)]


def _profiles(hidden: Sequence[tuple[str, str]]) -> str:
    """The view over profiles without the values of private columns."""
    pairs = ", ".join(f"({sql.quote(name)}, {sql.quote(column)})" for name, column in hidden) or "('', '')"
    counts = ", ".join(map(sql.name, _COUNTS))
    return (
        f"CREATE TEMP VIEW {_PROFILE} AS FROM project.main.{_PROFILE} WHERE (source, name) NOT IN ({pairs}) UNION ALL BY NAME "
        f"SELECT {counts}, '' AS min, '' AS max, '[]' AS top FROM project.main.{_PROFILE} WHERE (source, name) IN ({pairs}) "
        "ORDER BY source, snapshot, position"
    )


def _keys(project: Project, private: Collection[str]) -> str:
    """The keys of evaluated rows with marks in the place of private values."""
    keys = "keys"
    for name in private:
        path = sql.quote("$." + sql.name(name))
        mark = f"json_object({sql.quote(name)}, {_mark(project, f'(keys ->> {path})')})"
        keys = f"if((keys ->> {path}) IS NULL, {keys}, json_merge_patch({keys}, {mark}))"
    return keys


def _mark(project: Project, value: str) -> str:
    """What stands for a private value: equal for equal ones, null for null."""
    salt = hashlib.sha256(b"private\0" + layout.hmac_key(project.layout)).hexdigest()  # else values could be guessed from marks
    return f"'(private ' || left(md5('{salt}' || {value}::VARCHAR), 12) || ')'"


def _marked(project: Project, snapshot: Snapshot, private: Collection[str]) -> str:
    there = [column.name for column in snapshot.columns if column.name in private]
    if not there:
        return "*"
    marks = (f"{_mark(project, name)} AS {name}" for name in map(sql.name, there))
    return f"* REPLACE ({', '.join(marks)})"


def _file_columns(pattern: str) -> list[str]:
    """What is told of files that are no table: path, size and hash, and the labels that are in the path."""
    labels = patterns.names(pattern)
    expression = sql.quote(f"^(?:{patterns.expression(pattern)})$") if labels else ""
    found = [
        f"regexp_extract(path, {expression}, {place}, 's') AS {label}" for place, label in enumerate(map(sql.name, labels), 1)
    ]
    return [*(name for name in ("path", "bytes", "hash") if name not in labels), *found]


def _names(text: str) -> Iterator[str]:
    for found in _NAMED.finditer(text):
        yield found[1].replace('""', '"') if found[1] is not None else found[2]
