"""The rows of Parquet files in a DuckDB that keeps to a memory limit and spills to a folder it is given.

What compares, checks and queries rows of sources shares this; it knows nothing of what they look for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_local.domain.errors import DataError
from mlops_local.domain.sql import quote

if TYPE_CHECKING:
    import duckdb

MEMORY = "1200MB"
"""What DuckDB may take before it goes to disk; the process as a whole stays under 2 GB."""


@contextmanager
def connect(scratch: Path, *, memory: str = MEMORY) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB in memory that spills to a folder.

    Args:
        scratch: an existing folder; what is spilled is gone when the connection closes.
        memory: how much before it spills.

    Raises:
        DataError: what is asked for needs more than that and cannot be spilled.
    """
    import duckdb  # noqa: PLC0415  (87 ms, and only for who compares or checks rows)

    db = duckdb.connect(
        config={
            "memory_limit": memory,
            "temp_directory": str(scratch),
            "preserve_insertion_order": "false",  # keeping it would hold back what could be spilled
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
        }
    )
    with closing(db):
        db.execute("SET TimeZone = 'UTC'")
        try:
            yield db
        except duckdb.OutOfMemoryException as error:  # what cannot be spilled, as a row of thousands of columns
            raise DataError(
                f"the rows need more than {memory} of memory",
                hint="compare or check fewer columns, as a source of its own: mlops.data(sql='SELECT id, a, b FROM …')",
            ) from error


def told(error: duckdb.Error, private: Collection[str]) -> str:
    """Return what DuckDB says against an expression, without a value where there are columns whose values are not shown."""
    import duckdb  # noqa: PLC0415  (loaded: there is an error)

    said = str(error).splitlines()[0]
    if not private or (isinstance(error, duckdb.ProgrammingError) and not isinstance(error, duckdb.InvalidInputException)):
        return said  # of the expression: no row was looked at
    return f"{said.partition(':')[0]}: a value cannot be taken as it asks (not shown: {', '.join(private)} is private)"


def table(files: Sequence[Path]) -> str:
    """Return the FROM item for the rows of some Parquet files."""
    listed = ", ".join(quote(str(file)) for file in files)
    return f"read_parquet([{listed}], hive_partitioning = false, union_by_name = true)"


def columns(db: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> dict[str, str]:
    """Return the columns of some Parquet files with their types, as DuckDB names them; none of no file."""
    if not files:
        return {}
    return {str(row[0]): str(row[1]) for row in db.execute(f"DESCRIBE FROM {table(files)}").fetchall()}
