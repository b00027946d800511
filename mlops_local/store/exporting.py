"""Write what the views say of runs to files that any program reads, and the SQL that makes the same tables of them."""

from __future__ import annotations

from pathlib import Path

from mlops_local.domain.sql import quote
from mlops_local.store import files
from mlops_local.store.database import Db
from mlops_local.store.sealed import relations

RUNS = ("run", "param", "tag", "note", "metric", "metric_last", "artifact", "step")
"""The views about runs."""
FORMS = {
    "parquet": "FORMAT parquet, COMPRESSION zstd",
    "csv": "FORMAT csv, HEADER",
    "json": "FORMAT json",
}
"""Form, which is also the files' ending -> how DuckDB is told."""


def write(db: Db, form: str, folder: Path) -> dict[str, int]:
    """Write the views about runs, one file each, and `load.sql`; return each file's number of rows.

    Args:
        db: from `Store.reader`.
        form: one of FORMS.
        folder: exists.

    Raises:
        OSError: a file there cannot be written, as on a full disk.
    """
    import duckdb  # noqa: PLC0415  (loaded by whoever has a reader)

    rows: dict[str, int] = {}
    columns = relations(db)
    loads = ["-- in this folder: duckdb -init load.sql"]
    for view in RUNS:
        file = f"{view}.{form}"
        selected = ", ".join(_written(f'"{name}"', kind, form) for name, kind in columns[view])
        # A metric is as long as it is: in the order it lies in, it needs no memory.
        order = "" if view == "metric" else " ORDER BY ALL"
        target = quote(str(folder / file))
        copy = f"COPY (SELECT {selected} FROM {view}{order}) TO {target} ({FORMS[form]})"
        try:
            ((rows[file],),) = db.execute(copy).fetchall()
        except duckdb.IOException as error:
            if str(folder) not in str(error):
                raise
            raise files.told(error) from error  # about this file, not the database
        loads.append(f"CREATE VIEW {view} AS FROM {_read(file, form, columns[view])};")
    (folder / "load.sql").write_text("\n".join(loads) + "\n", encoding="utf-8")
    return rows


def _written(column: str, kind: str, form: str) -> str:
    """JSON has no NaN: it is text there, and so is infinity."""
    if form != "json" or kind != "DOUBLE":
        return column
    text = f"CASE WHEN isfinite({column}) THEN to_json({column}) ELSE to_json({column}::VARCHAR) END"
    return f"CASE WHEN {column} IS NOT NULL THEN {text} END AS {column}"


def _read(file: str, form: str, columns: list[tuple[str, str]]) -> str:
    """Types are said rather than guessed: an id of digits is text, and an empty text is not null."""
    types = ", ".join(f"{quote(name)}: {quote(kind)}" for name, kind in columns)
    match form:
        case "csv":
            return f"read_csv({quote(file)}, header = true, allow_quoted_nulls = false, columns = {{{types}}})"
        case "json":
            return f"read_json({quote(file)}, format = 'newline_delimited', columns = {{{types}}})"
        case _:
            return quote(file)
