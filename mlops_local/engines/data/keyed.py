"""Match the rows of two tables by key: how many differ, in which columns, and where to read those.

Where the smaller table fits into memory, one join of whole rows counts everything. Where it does not, keys and a 64-bit hash of
the values are joined first, and only rows that differ are looked at whole; if those are many, the join of whole rows comes
after all, and goes to disk. Takes the relations `a` and `b` of a connection, of the same columns and types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_local.domain.sql import name

if TYPE_CHECKING:
    import duckdb

ROOM = 720_000_000
"""Bytes a table may take in a join of whole rows: more than half of what DuckDB has would leave no room for the rest."""
MANY = 0.1
"""From this part of the rows on, joining whole rows is cheaper than picking out those that differ."""
PAIRED = '"~paired"'
"""Of a row that differs: its key is on both sides. No column of the user's begins so."""
_LISTED = 1000
"""Keys of rows of one side alone that are listed, so that those that are there twice are seen without another pass."""
_TRIED = 2048
"""Rows whose text is measured."""
_SMALL = frozenset(
    "BOOLEAN TINYINT SMALLINT INTEGER BIGINT UTINYINT USMALLINT UINTEGER UBIGINT FLOAT DOUBLE DATE TIME TIMESTAMP".split()
)


@dataclass(frozen=True)
class Differing:
    """What differs, and the relations that have it: whole rows with `PAIRED`."""

    removed: int
    added: int
    changed: int = 0
    cells: Mapping[str, int] | None = None
    gone: str = "gone"
    """Rows of the first side that the second does not have so."""
    come: str = "come"
    """Rows of the second side that the first does not have so."""
    few_gone: str = "gone"
    """Of each kind of change at least the first rows by key."""
    few_come: str = "come"
    unique: bool = True
    """False: a key names several rows, and nothing else is known."""


def match(
    db: duckdb.DuckDBPyConnection,
    kinds: Mapping[str, str],
    key: Sequence[str],
    counts: Sequence[int],
    *,
    samples: int,
    room: int = ROOM,
) -> Differing:
    """Find the rows that differ.

    Args:
        db: where `a` and `b` are.
        kinds: their columns with types, as DuckDB names them.
        key: the columns that name a row.
        counts: rows of either side.
        samples: at least so many rows of each kind are in `few_gone` and `few_come`.
        room: bytes that the smaller side may take to be joined whole at once.
    """
    smaller = "a" if counts[0] <= counts[1] else "b"
    if min(counts) * _width(db, smaller, kinds) > room:
        _hashes(db, kinds, key)
        (differing,) = db.execute("SELECT count(*) FROM differs").fetchall()[0]
        if differing <= MANY * max(counts):
            return _pick(db, kinds, key)
        db.execute("DROP TABLE differs")
    return _whole(db, kinds, key, counts, samples)


def same(left: str, right: str, key: Sequence[str]) -> str:
    """Return the condition that two relations' rows have one key; null is a value like others."""
    return " AND ".join(f"{left}.{name(column)} IS NOT DISTINCT FROM {right}.{name(column)}" for column in key)


def _width(db: duckdb.DuckDBPyConnection, side: str, kinds: Mapping[str, str]) -> float:
    """About how many bytes a row takes in memory."""
    long = [column for column, kind in kinds.items() if kind.partition(" ")[0] not in _SMALL]
    sizes = [f"coalesce(avg(strlen({name(column)}::VARCHAR)), 0)" for column in long]
    row = db.execute(f"SELECT {' + '.join(['0', *sizes])} FROM (FROM {side} LIMIT {_TRIED})").fetchall()[0]
    return 8 * (len(kinds) + len(long)) + float(row[0])


# -- whole rows


def _whole(
    db: duckdb.DuckDBPyConnection, kinds: Mapping[str, str], key: Sequence[str], counts: Sequence[int], samples: int
) -> Differing:
    """Count in one join of whole rows; leave the views `gone` and `come`, and the first rows of each kind as tables."""
    others = [column for column in kinds if column not in key]
    _count(db, key, others, samples)
    cells = "".join(f", c{place}" for place in range(len(others)))
    said = f"SELECT pairs, removed, added, changed{cells} FROM counted"
    pairs, removed, added, changed, *each = map(int, db.execute(said).fetchall()[0])
    # A key that is there twice and on the other side too makes more pairs than it has rows.
    unique = (counts[0] - removed, counts[1] - added) == (pairs, pairs)
    alone = {"removed": ("a", removed), "added": ("b", added)}
    if not unique or any(_twice(db, kind, side, key, rows) for kind, (side, rows) in alone.items() if rows):
        return Differing(removed, added, unique=False)
    for made, side, other in (("gone", "a", "b"), ("come", "b", "a")):
        db.execute(f"CREATE TEMP VIEW {made} AS {_unlike(side, other, key, others)}")
    _firsts(db, key, samples)
    return Differing(removed, added, changed, dict(zip(others, each, strict=True)), few_gone="few_gone", few_come="few_come")


def _count(db: duckdb.DuckDBPyConnection, key: Sequence[str], others: Sequence[str], samples: int) -> None:
    """Leave `counted`: a row with what the join of whole rows counted, and the first keys of each kind of change."""
    columns = [f"CASE WHEN a.here THEN a.k{place} ELSE b.k{place} END AS k{place}" for place in range(len(key))]
    columns += [f"a.v{place} IS DISTINCT FROM b.v{place} AS d{place}" for place in range(len(others))]
    columns += ["a.here AND b.here AS paired", "a.here IS NULL AS added", "b.here IS NULL AS removed"]
    on = " AND ".join(f"a.k{place} IS NOT DISTINCT FROM b.k{place}" for place in range(len(key)))
    differ = " OR ".join(f"d{place}" for place in range(len(others))) or "false"
    kinds = {"removed": "removed", "added": "added", "changed": f"paired AND ({differ})"}
    wanted = ["count(*) FILTER (paired) AS pairs", *(f"count(*) FILTER ({when}) AS {kind}" for kind, when in kinds.items())]
    wanted += [f"count(*) FILTER (paired AND d{place}) AS c{place}" for place in range(len(others))]
    row = "{" + ", ".join(f"k{place}: k{place}" for place in range(len(key))) + "}"
    most = {"removed": max(samples, _LISTED), "added": max(samples, _LISTED), "changed": max(samples, 1)}
    wanted += [f"min({row}, {most[kind]}) FILTER ({when}) AS first_{kind}" for kind, when in kinds.items()]
    db.execute(
        f"CREATE TEMP TABLE counted AS SELECT {', '.join(wanted)} FROM (SELECT {', '.join(columns)} "
        f"FROM ({_numbered('a', key, others)}) a FULL JOIN ({_numbered('b', key, others)}) b ON {on})"
    )


def _numbered(side: str, key: Sequence[str], others: Sequence[str]) -> str:
    """A side's rows with columns of our names, which no name of the user's can be mistaken for, and that they are there."""
    columns = [f"{name(column)} AS k{place}" for place, column in enumerate(key)]
    columns += [f"{name(column)} AS v{place}" for place, column in enumerate(others)]
    return f"SELECT {', '.join(columns)}, true AS here FROM {side}"


def _twice(db: duckdb.DuckDBPyConnection, kind: str, side: str, key: Sequence[str], rows: int) -> bool:
    """Whether a key is there twice among the rows of one side alone."""
    if rows > _LISTED:
        return _repeated(db, side, key)
    (listed,) = db.execute(f"SELECT len(list_distinct(first_{kind})) FROM counted").fetchall()[0]
    return bool(listed < rows)


def _repeated(db: duckdb.DuckDBPyConnection, side: str, key: Sequence[str]) -> bool:
    keys = ", ".join(name(column) for column in key)
    return bool(db.execute(f"SELECT 1 FROM {side} GROUP BY {keys} HAVING count(*) > 1 LIMIT 1").fetchall())


def _unlike(side: str, other: str, key: Sequence[str], others: Sequence[str]) -> str:
    """Rows of a side that the other does not have so."""
    on = " AND ".join(f"{side}.{name(column)} IS NOT DISTINCT FROM o.k{place}" for place, column in enumerate(key))
    unlike = [f"{side}.{name(column)} IS DISTINCT FROM o.v{place}" for place, column in enumerate(others)]
    return (
        f"SELECT {side}.*, o.here IS NOT NULL AS {PAIRED} FROM {side} "
        f"LEFT JOIN ({_numbered(other, key, others)}) o ON {on} WHERE {' OR '.join(['o.here IS NULL', *unlike])}"
    )


def _firsts(db: duckdb.DuckDBPyConnection, key: Sequence[str], samples: int) -> None:
    """Leave `few_gone` and `few_come`: the rows of the keys that were found first."""
    sides = {"gone": ("a", "removed"), "come": ("b", "added")}
    if not samples:
        for made in sides:
            db.execute(f"CREATE TEMP VIEW few_{made} AS SELECT * FROM {made} LIMIT 0")
        return
    keys = ", ".join(f"first.k{place} AS {name(column)}" for place, column in enumerate(key))
    for made, (side, alone) in sides.items():
        firsts = " UNION ALL ".join(
            f"SELECT {paired} AS {PAIRED}, unnest(first_{kind}[:{samples}]) AS first FROM counted"
            for kind, paired in ((alone, "false"), ("changed", "true"))
        )
        db.execute(f"CREATE TEMP TABLE first_{made} AS SELECT {PAIRED}, {keys} FROM ({firsts})")
        equal = " AND ".join(f"{side}.{name(column)} = f.{name(column)}" for column in key)  # skips what cannot match in a file
        null = " OR ".join(f"{side}.{name(column)} IS NULL" for column in key)
        db.execute(
            f"CREATE TEMP TABLE few_{made} AS SELECT {side}.*, f.{PAIRED} FROM {side} JOIN first_{made} f ON {equal} UNION ALL "
            f"SELECT {side}.*, f.{PAIRED} FROM {side} JOIN first_{made} f ON {same(side, 'f', key)} WHERE {null}"
        )


# -- hashes first


def _hashes(db: duckdb.DuckDBPyConnection, kinds: Mapping[str, str], key: Sequence[str]) -> None:
    """Leave `differs`: the keys of rows that are not on both sides with values of one hash."""
    keys = ", ".join(name(column) for column in key)
    values = ", ".join(name(column) for column in kinds if column not in key) or "0"
    side = f'SELECT {keys}, hash({values}) AS "~h" FROM'
    picked = ", ".join(
        f'CASE WHEN b."~h" IS NULL THEN a.{name(column)} ELSE b.{name(column)} END AS {name(column)}' for column in key
    )
    db.execute(
        f'CREATE TEMP TABLE differs AS SELECT {picked}, a."~h" IS NOT NULL AS "~was", b."~h" IS NOT NULL AS "~is" '
        f'FROM ({side} a) a FULL JOIN ({side} b) b ON {same("a", "b", key)} WHERE a."~h" IS DISTINCT FROM b."~h"'
    )


def _pick(db: duckdb.DuckDBPyConnection, kinds: Mapping[str, str], key: Sequence[str]) -> Differing:
    """Leave the tables `gone` and `come`: whole rows of `differs`."""
    for made, source, there in (("gone", "a", "~was"), ("come", "b", "~is")):
        db.execute(
            f'CREATE TEMP TABLE {made} AS SELECT {source}.*, d."~was" AND d."~is" AS {PAIRED} FROM {source} '
            f"JOIN (SELECT DISTINCT * FROM differs WHERE {name(there)}) d ON {same(source, 'd', key)}"
        )
        if _repeated(db, made, key):
            return Differing(0, 0, unique=False)
    others = [column for column in kinds if column not in key]
    counted = [f"count(*) FILTER (gone.{name(column)} IS DISTINCT FROM come.{name(column)})" for column in others]
    changed, *cells = db.execute(
        f"SELECT {', '.join(['count(*)', *counted])} FROM gone JOIN come ON {same('gone', 'come', key)} WHERE gone.{PAIRED}"
    ).fetchall()[0]
    removed, added = (
        int(db.execute(f"SELECT count(*) FROM {made} WHERE NOT {PAIRED}").fetchall()[0][0]) for made in ("gone", "come")
    )
    return Differing(removed, added, int(changed), dict(zip(others, map(int, cells), strict=True)))
