"""Compare the rows of two tables in Parquet files: which were added, removed or changed, and in which columns.

By key, rows are matched; without one a row is its values, and counts as often as it is there. Takes files and gives figures,
and knows nothing of snapshots.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_local.domain.difference import RowChanges, RowSample
from mlops_local.domain.errors import DataError
from mlops_local.domain.sql import name, quote, twin
from mlops_local.engines.data import keyed
from mlops_local.engines.data.keyed import PAIRED, Differing, same
from mlops_local.engines.data.relations import columns, table

if TYPE_CHECKING:
    import duckdb

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


def rows(
    db: duckdb.DuckDBPyConnection,
    tables: Tables,
    *,
    to: Path | None = None,
    samples: int = SAMPLES,
    room: int = keyed.ROOM,
) -> RowChanges:
    """Compare the rows over the columns both sides have.

    Args:
        db: from `relations.connect`.
        tables: what to compare.
        to: a Parquet file to write every differing row to, with a column `change`: removed, added, before or after.
        samples: rows to show of each kind.
        room: bytes a side may take to be matched whole at once.

    Raises:
        DataError: the key is not on both sides, or names several rows among those that differ.
    """
    old, new = (columns(db, files) for files in (tables.before, tables.after))
    old, new = old or new, new or old
    common = [column for column in old if column in new]
    if not old:
        return RowChanges(0, 0)
    require(tables.key, common)
    if not common:
        raise DataError("the two sides have no column in common", hint="compare versions of one table")
    casts = {column: _comparable(old[column], new[column]) for column in common}
    for side, files, kinds in (("a", tables.before, old), ("b", tables.after, new)):
        db.execute(f"CREATE TEMP VIEW {side} AS {_select(files, casts, kinds)}")
    counts = [int(db.execute(f"SELECT count(*) FROM {side}").fetchall()[0][0]) for side in "ab"]
    key = tables.key
    found = keyed.match(db, casts, key, counts, samples=samples, room=room) if key else _as_wholes(db, common)
    if not found.unique or counts[0] - found.removed != counts[1] - found.added:
        raise _not_unique(db, tables)
    if to is not None:
        _write(db, found, to, common)
    shown = _readable(db, found, casts, tables.key, samples)
    return RowChanges(counts[0], counts[1], found.added, found.removed, found.changed, found.cells, shown)


def require(key: Sequence[str], common: Sequence[str]) -> None:
    """Refuse a key that is not among the columns of both sides. Raises DataError."""
    for column in key:
        if column not in common:
            raise DataError(f"the key's column {column!r} is not on both sides", hint=f"both have: {', '.join(common)}")
        if other := twin(column, common):
            raise DataError(
                f"the key's column {column!r} is one of two, with {other!r}: SQL takes one for the other",
                hint="name another key, or --no-key",
            )


_INTEGERS = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT"})
_REAL = frozenset({"FLOAT", "DOUBLE"})


def _comparable(before: str, after: str) -> str:
    """The type in which both sides' values can be compared."""
    if before == after:
        return before
    if {before, after} <= _INTEGERS:
        return "HUGEINT"
    return "DOUBLE" if {before, after} <= _INTEGERS | _REAL else "VARCHAR"


def _select(files: Sequence[Path], casts: Mapping[str, str], kinds: Mapping[str, str]) -> str:
    shown = [
        name(column) if kinds[column] == kind else f"{name(column)}::{kind} AS {name(column)}" for column, kind in casts.items()
    ]
    if files:
        return f"SELECT {', '.join(shown)} FROM {table(files)}"
    return f"SELECT {', '.join(f'NULL::{kind} AS {name(column)}' for column, kind in casts.items())} WHERE false"


def _as_wholes(db: duckdb.DuckDBPyConnection, common: Sequence[str]) -> Differing:
    """Leave `gone` and `come`: each row as many times as one side has more of it."""
    whole = f"hash({', '.join(name(column) for column in common)})"
    db.execute(
        f"CREATE TEMP TABLE differs AS SELECT h, sum(n)::BIGINT AS n FROM (SELECT {whole} AS h, -1 AS n FROM a UNION ALL "
        f"SELECT {whole}, 1 FROM b) GROUP BY h HAVING sum(n) <> 0"
    )
    for made, source, sign in (("gone", "a", "-"), ("come", "b", "")):
        db.execute(
            f'CREATE TEMP TABLE {made} AS SELECT rows.* EXCLUDE ("~h"), false AS {PAIRED} '
            f'FROM (SELECT *, {whole} AS "~h" FROM {source}) rows '
            f'JOIN differs ON differs.h = rows."~h" AND {sign}differs.n > 0 '
            f'QUALIFY row_number() OVER (PARTITION BY rows."~h") <= {sign}differs.n'
        )
    removed, added = (int(db.execute(f"SELECT count(*) FROM {made}").fetchall()[0][0]) for made in ("gone", "come"))
    return Differing(removed, added)


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


def _readable(
    db: duckdb.DuckDBPyConnection, differing: Differing, casts: Mapping[str, str], key: Sequence[str], most: int
) -> tuple[RowSample, ...]:
    """Samples as Python's values. Raises DataError where one cannot be told, as a time 290,000 years ago."""
    import duckdb  # noqa: PLC0415  (loaded: there is a connection)

    try:
        return _samples(db, differing, casts, key, most)
    except duckdb.ConversionException as error:
        raise DataError(
            f"the rows that differ cannot be shown: {str(error).splitlines()[0]}", hint="--stat counts them and shows none"
        ) from error


def _samples(
    db: duckdb.DuckDBPyConnection, differing: Differing, casts: Mapping[str, str], key: Sequence[str], most: int
) -> tuple[RowSample, ...]:
    found: list[RowSample] = []
    gone, come = differing.few_gone, differing.few_come
    for change, made in (("removed", gone), ("added", come)):
        order = ", ".join(f"{made}.{name(column)}" for column in key) or "ALL"
        result = db.execute(
            f"SELECT {_shown(casts, made)} FROM {made} WHERE NOT {PAIRED} ORDER BY {order} LIMIT {most}"
        ).fetchall()
        held = [dict(zip(casts, row, strict=True)) for row in result]
        found += [RowSample(change, row if change == "removed" else {}, row if change == "added" else {}) for row in held]
    if key:
        order = ", ".join(f"{gone}.{name(column)}" for column in key)
        pairs = db.execute(
            f"SELECT {_shown(casts, gone)}, {_shown(casts, come)} FROM {gone} JOIN {come} ON {same(gone, come, key)} "
            f"WHERE {gone}.{PAIRED} AND {come}.{PAIRED} ORDER BY {order} LIMIT {most}"
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


def _write(db: duckdb.DuckDBPyConnection, differing: Differing, to: Path, common: Sequence[str]) -> None:
    """Every differing row in one file: the first side without `removed` and `before`, with the rest, is the second."""
    word = "change" if "change" not in common else "~change"
    target = quote(str(to))
    parts = [
        f"SELECT CASE WHEN {PAIRED} THEN '{paired}' ELSE '{alone}' END AS {name(word)}, * EXCLUDE ({PAIRED}) FROM {made}"
        for made, paired, alone in ((differing.gone, "before", "removed"), (differing.come, "after", "added"))
    ]
    db.execute(f"COPY ({' UNION ALL '.join(parts)}) TO {target} (FORMAT parquet)")
