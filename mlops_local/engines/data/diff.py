"""Compare the rows of two tables in Parquet files: which were added, removed or changed, and in which columns.

By key, rows are matched and their values compared by a 64-bit hash first: only rows that differ are looked at whole. Without a
key a row is its values, and counts as often as it is there. Works within a memory limit and spills to a folder it is given;
takes files and gives figures, and knows nothing of snapshots.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_local.domain.difference import RowChanges, RowSample
from mlops_local.domain.errors import DataError

if TYPE_CHECKING:
    import duckdb

MEMORY = "1200MB"
"""What DuckDB may take before it goes to disk; the process as a whole stays under 2 GB."""
SAMPLES = 5
"""Rows shown of each kind of change."""


@dataclass(frozen=True)
class Tables:
    """Two tables, each in files; a file that both sides have may be left out of both."""

    before: Sequence[Path]
    after: Sequence[Path]
    key: Sequence[str] = ()
    private: Collection[str] = ()
    """Columns whose values no message shows."""


def rows(db: duckdb.DuckDBPyConnection, tables: Tables, *, to: Path | None = None, samples: int = SAMPLES) -> RowChanges:
    """Compare the rows over the columns both sides have.

    Args:
        db: from `connect`.
        tables: what to compare.
        to: a Parquet file to write every differing row to, with a column `change`: removed, added, before or after.
        samples: rows to show of each kind.

    Raises:
        DataError: the key is not on both sides, or names several rows among those that differ.
    """
    old, new = (_columns(db, files) for files in (tables.before, tables.after))
    old, new = old or new, new or old
    common = [name for name in old if name in new]
    for name in tables.key:
        if old and name not in common:
            raise DataError(f"the key's column {name!r} is not on both sides", hint=f"both have: {', '.join(common)}")
    if not common:
        if not old:
            return RowChanges(0, 0)
        raise DataError("the two sides have no column in common", hint="compare versions of one table")
    casts = {name: _comparable(name, old[name], new[name]) for name in common}
    for side, files, kinds in (("a", tables.before, old), ("b", tables.after, new)):
        db.execute(f"CREATE TEMP VIEW {side} AS {_select(files, casts, kinds)}")
    counts = [int(db.execute(f"SELECT count(*) FROM {side}").fetchall()[0][0]) for side in "ab"]
    found = _by_key(db, common, tables) if tables.key else _as_wholes(db, common)
    if counts[0] - found.removed != counts[1] - found.added:
        raise _not_unique(db, tables)
    if to is not None:
        _write(db, to, common)
    return RowChanges(
        counts[0],
        counts[1],
        found.added,
        found.removed,
        found.changed,
        found.cells,
        _samples(db, casts, tables.key, samples),
    )


@contextmanager
def connect(scratch: Path, *, memory: str = MEMORY) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB in memory that spills to a folder.

    Args:
        scratch: an existing folder; what is spilled is gone when the connection closes.
        memory: how much before it spills.
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
        yield db


def name(column: str) -> str:
    """Return a column's name as SQL has it."""
    return '"' + column.replace('"', '""') + '"'


def table(files: Sequence[Path]) -> str:
    """Return the FROM item for the rows of some Parquet files."""
    listed = ", ".join("'" + str(file).replace("'", "''") + "'" for file in files)
    return f"read_parquet([{listed}], hive_partitioning = false, union_by_name = true)"


def _columns(db: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> dict[str, str]:
    if not files:
        return {}
    return {str(row[0]): str(row[1]) for row in db.execute(f"DESCRIBE FROM {table(files)}").fetchall()}


_PAIRED = '"~paired"'
"""Of a row that differs: its key is on both sides. No column of the user's begins so."""
_WHOLE = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT"})
_REAL = frozenset({"FLOAT", "DOUBLE"})


def _comparable(column: str, before: str, after: str) -> str:
    """The type in which both sides' values can be compared."""
    if before == after:
        return before
    if {before, after} <= _WHOLE:
        return "HUGEINT"
    return "DOUBLE" if {before, after} <= _WHOLE | _REAL else "VARCHAR"


def _select(files: Sequence[Path], casts: Mapping[str, str], kinds: Mapping[str, str]) -> str:
    shown = [
        name(column) if kinds[column] == kind else f"{name(column)}::{kind} AS {name(column)}" for column, kind in casts.items()
    ]
    if files:
        return f"SELECT {', '.join(shown)} FROM {table(files)}"
    return f"SELECT {', '.join(f'NULL::{kind} AS {name(column)}' for column, kind in casts.items())} WHERE false"


def _by_key(db: duckdb.DuckDBPyConnection, common: Sequence[str], tables: Tables) -> RowChanges:
    """Leave the tables `differs` (keys), `gone` and `come` (whole rows that differ) and count."""
    key = tables.key
    keys = ", ".join(name(column) for column in key)
    values = ", ".join(name(column) for column in common if column not in key) or "0"
    side = f'SELECT {keys}, hash({values}) AS "~h" FROM'
    on = _same("a", "b", key)
    picked = ", ".join(
        f'CASE WHEN b."~h" IS NULL THEN a.{name(column)} ELSE b.{name(column)} END AS {name(column)}' for column in key
    )
    db.execute(
        f'CREATE TEMP TABLE differs AS SELECT {picked}, a."~h" IS NOT NULL AS "~was", b."~h" IS NOT NULL AS "~is" '
        f'FROM ({side} a) a FULL JOIN ({side} b) b ON {on} WHERE a."~h" IS DISTINCT FROM b."~h"'
    )
    for made, source, there in (("gone", "a", "~was"), ("come", "b", "~is")):
        db.execute(
            f'CREATE TEMP TABLE {made} AS SELECT {source}.*, d."~was" AND d."~is" AS {_PAIRED} FROM {source} '
            f"JOIN (SELECT DISTINCT * FROM differs WHERE {name(there)}) d ON {_same(source, 'd', key)}"
        )
        if db.execute(f"SELECT 1 FROM {made} GROUP BY {keys} HAVING count(*) > 1 LIMIT 1").fetchall():
            raise _not_unique(db, tables)
    others = [column for column in common if column not in key]
    counted = [f"count(*) FILTER (gone.{name(column)} IS DISTINCT FROM come.{name(column)})" for column in others]
    row = db.execute(
        f"SELECT {', '.join(['count(*)', *counted])} FROM gone JOIN come ON {_same('gone', 'come', key)} WHERE gone.{_PAIRED}"
    ).fetchall()[0]
    removed, added = (
        int(db.execute(f"SELECT count(*) FROM {made} WHERE NOT {_PAIRED}").fetchall()[0][0]) for made in ("gone", "come")
    )
    return RowChanges(0, 0, added, removed, int(row[0]), dict(zip(others, map(int, row[1:]), strict=True)))


def _as_wholes(db: duckdb.DuckDBPyConnection, common: Sequence[str]) -> RowChanges:
    """Leave `gone` and `come`: each row as many times as one side has more of it."""
    whole = f"hash({', '.join(name(column) for column in common)})"
    db.execute(
        f"CREATE TEMP TABLE differs AS SELECT h, sum(n)::BIGINT AS n FROM (SELECT {whole} AS h, -1 AS n FROM a UNION ALL "
        f"SELECT {whole}, 1 FROM b) GROUP BY h HAVING sum(n) <> 0"
    )
    for made, source, sign in (("gone", "a", "-"), ("come", "b", "")):
        db.execute(
            f'CREATE TEMP TABLE {made} AS SELECT rows.* EXCLUDE ("~h"), false AS {_PAIRED} '
            f'FROM (SELECT *, {whole} AS "~h" FROM {source}) rows '
            f'JOIN differs ON differs.h = rows."~h" AND {sign}differs.n > 0 '
            f'QUALIFY row_number() OVER (PARTITION BY rows."~h") <= {sign}differs.n'
        )
    removed, added = (int(db.execute(f"SELECT count(*) FROM {made}").fetchall()[0][0]) for made in ("gone", "come"))
    return RowChanges(0, 0, added, removed)


def _same(left: str, right: str, key: Sequence[str]) -> str:
    return " AND ".join(f"{left}.{name(column)} IS NOT DISTINCT FROM {right}.{name(column)}" for column in key)


def _not_unique(db: duckdb.DuckDBPyConnection, tables: Tables) -> DataError:
    """Name a key that several rows of a side have."""
    key = tables.key
    keys = ", ".join(f"{name(column)}::VARCHAR" for column in key)
    said = "is not unique"
    for side, which in (("b", "second"), ("a", "first")):
        repeated = f"SELECT {keys}, count(*) FROM {side} GROUP BY ALL HAVING count(*) > 1"
        for several, *values, times in db.execute(
            f"SELECT count(*) OVER (), * FROM ({repeated}) ORDER BY ALL LIMIT 1"
        ).fetchall():
            told = ("(private)" if column in tables.private else value for column, value in zip(key, values, strict=True))
            shown = ", ".join(f"{column} {value}" for column, value in zip(key, told, strict=True))
            counted = f"{several:,} value{'' if several == 1 else 's'} of several rows"
            said = f"is not unique on the {which} side: {counted}, as {shown} ({times} rows)"
    return DataError(
        f"the key ({', '.join(key)}) {said}",
        hint="give the columns that identify a row with --key, or --no-key to compare rows as wholes",
    )


def _samples(db: duckdb.DuckDBPyConnection, casts: Mapping[str, str], key: Sequence[str], most: int) -> tuple[RowSample, ...]:
    found: list[RowSample] = []
    for change, made in (("removed", "gone"), ("added", "come")):
        order = ", ".join(f"{made}.{name(column)}" for column in key) or "ALL"
        result = db.execute(
            f"SELECT {_shown(casts, made)} FROM {made} WHERE NOT {_PAIRED} ORDER BY {order} LIMIT {most}"
        ).fetchall()
        held = [dict(zip(casts, row, strict=True)) for row in result]
        found += [RowSample(change, row if change == "removed" else {}, row if change == "added" else {}) for row in held]
    if key:
        order = ", ".join(f"gone.{name(column)}" for column in key)
        pairs = db.execute(
            f"SELECT {_shown(casts, 'gone')}, {_shown(casts, 'come')} FROM gone JOIN come ON {_same('gone', 'come', key)} "
            f"WHERE gone.{_PAIRED} ORDER BY {order} LIMIT {most}"
        ).fetchall()
        for row in pairs:
            old, new = (dict(zip(casts, part, strict=True)) for part in (row[: len(casts)], row[len(casts) :]))
            shown = [column for column in casts if column in key or not _equal(old[column], new[column])]
            found.append(RowSample("changed", {c: old[c] for c in shown}, {c: new[c] for c in shown}))
    return tuple(found)


def _shown(casts: Mapping[str, str], made: str) -> str:
    """The columns as Python takes them: times with a zone in UTC, which it could not without another package."""
    zoned = "TIMESTAMP WITH TIME ZONE"
    return ", ".join(
        f"{made}.{name(column)}" + (" AT TIME ZONE 'UTC'" if kind == zoned else "") for column, kind in casts.items()
    )


def _equal(left: Any, right: Any) -> bool:
    return bool(left == right or (left != left and right != right))


def _write(db: duckdb.DuckDBPyConnection, to: Path, common: Sequence[str]) -> None:
    """Every differing row in one file: the first side without `removed` and `before`, with the rest, is the second."""
    word = "change" if "change" not in common else "~change"
    target = "'" + str(to).replace("'", "''") + "'"
    parts = [
        f"SELECT CASE WHEN {_PAIRED} THEN '{paired}' ELSE '{alone}' END AS {name(word)}, * EXCLUDE ({_PAIRED}) FROM {made}"
        for made, paired, alone in (("gone", "before", "removed"), ("come", "after", "added"))
    ]
    db.execute(f"COPY ({' UNION ALL '.join(parts)}) TO {target} (FORMAT parquet)")
