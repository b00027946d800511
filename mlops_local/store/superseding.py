"""Tables that hold the newest word only: a later value takes an earlier one's place when it is folded.

The views over them then need no sorting: a list of runs reads a row a parameter, whatever was said before. What is newest
does not depend on the order in which journals are read, so a rebuild comes to the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops_local.store.database import Db

KEYS = {
    "param": ("run", "name"),
    "tag": ("run", "key"),
    "summary": ("run", "key"),
    "renamed": ("run",),
    "run_end": ("run",),
    "run_resume": ("run",),
}
"""Table -> the columns of which it holds one row a value. They come first in a row, `time` and `n` last."""


def supersede(db: Db, table: str, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Remove what newer rows replace; return those of the rows that are the newest of their key, to be appended.

    Args:
        db: attached for writing, in the transaction that appends the rows.
        table: one of KEYS.
        rows: new rows, as the table has its columns.
    """
    keys = KEYS[table]
    best: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for row in rows:
        kept = best.get(row[: len(keys)])
        if kept is None or _rank(table, row) >= _rank(table, kept):
            best[row[: len(keys)]] = row
    replaced = []
    there = f"SELECT *, rowid FROM store.{table} WHERE run IN (SELECT unnest(?::VARCHAR[]))"
    for *old, place in db.execute(there, [sorted({row[0] for row in rows})]).fetchall():
        new = best.get(tuple(old[: len(keys)]))
        if new is None:
            continue
        if _rank(table, new) >= _rank(table, tuple(old)):
            replaced.append(place)
        else:
            del best[new[: len(keys)]]
    if replaced:
        db.execute(f"DELETE FROM store.{table} WHERE rowid IN (SELECT unnest(?::BIGINT[]))", [replaced])
    return list(best.values())


def settle(db: Db, tables: Sequence[str]) -> None:
    """Bring tables that hold every word to that form."""
    for table in tables:
        keys = KEYS[table]
        order = ("state = 'crashed', " if table == "run_end" else "") + "time DESC, n DESC"
        db.execute(
            f"DELETE FROM store.{table} WHERE rowid IN (SELECT rowid FROM store.{table} "
            f"QUALIFY row_number() OVER (PARTITION BY {', '.join(keys)} ORDER BY {order}) > 1)"
        )


def _rank(table: str, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """`crashed` is what we conclude: a run's own word, also from another process's journal, goes before it."""
    return (table == "run_end" and row[1] != "crashed", row[-2], row[-1])
