"""JSON lines as a table: what its fields are is told from the first rows, and none that comes later is left out in silence.

Imported by the worker too, which reads with it what was checked here. Never looks into nested values.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_local.domain.errors import DataError

if TYPE_CHECKING:
    import polars as pl

ROWS = 10_000
"""Rows from which fields and their types are told."""


def scan(files: Sequence[Path], kinds: Mapping[str, Any] | None = None, *, every: bool = False) -> pl.LazyFrame:
    """Return the lines of some files as a lazy frame.

    Args:
        files: to read, one after the other.
        kinds: field -> type; fields that the first rows do not have too.
        every: these are all fields, in order: none has to be told from the rows.
    """
    import polars as pl  # noqa: PLC0415  (141 ms, and only where rows are read)

    if every and kinds:
        return pl.scan_ndjson(list(files), schema=dict(kinds))
    told = pl.scan_ndjson(list(files), infer_schema_length=ROWS)
    return pl.scan_ndjson(list(files), schema={**told.collect_schema(), **kinds}) if kinds else told


def require(file: Path, place: str, known: Collection[str]) -> None:
    """Refuse a file some of whose lines have a field that is not known: it would not be read.

    Args:
        file: to look into.
        place: how messages name it.
        known: the fields that are read.

    Raises:
        DataError: with the first such field, and the type that takes it.
    """
    late = [name for name in fields(file) if name not in known]
    if late:
        import polars as pl  # noqa: PLC0415  (as in `scan`)

        kind = pl.scan_ndjson([file], infer_schema_length=None).collect_schema().get(late[0], pl.String())
        declared = "String" if kind.is_nested() or kind == pl.Null else str(kind).partition("(")[0]
        more = f" (and {len(late) - 1} more)" if len(late) > 1 else ""
        raise DataError(
            f"{place}: none of its first {ROWS:,} rows has the field {late[0]!r}{more}, so it would be left out",
            hint=f'declare it: schema={{{json.dumps(late[0], ensure_ascii=False)}: "{declared}"}}',
        )


def fields(file: Path) -> list[str]:
    """Return the fields that any line has, in the order of their names; none where that cannot be told."""
    import duckdb  # noqa: PLC0415  (87 ms, and only for a long file that is new)

    safe: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    query = (
        "SELECT DISTINCT unnest(json_keys(json)) AS name FROM read_json_objects(?, format = 'newline_delimited') ORDER BY name"
    )
    with duckdb.connect(config=safe) as db:
        try:
            return [str(row[0]) for row in db.execute(query, [str(file)]).fetchall()]
        except duckdb.Error:  # packed, or with lines that only polars takes for JSON
            return []
