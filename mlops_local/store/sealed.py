"""Run a SELECT somebody typed: the store read only, no other file, no network, settings locked.

The statement runs on a DuckDB instance of its own, which ends with it: the locks on its settings cannot be taken back.
"""

from __future__ import annotations

from typing import Any

import duckdb

from mlops_local.domain.errors import UsageError
from mlops_local.store.database import Db, Store, quote

_SEE = "`mlops schema` lists the tables and their columns"


def select(store: Store, text: str, limit: int | None) -> tuple[list[str], list[str], list[tuple[Any, ...]], bool]:
    """Run one SELECT.

    Args:
        store: the project's store.
        text: the statement.
        limit: fetch at most so many rows; None for all.

    Returns:
        Names, types, rows, and whether there were more rows.

    Raises:
        UsageError: not exactly one SELECT, or DuckDB refuses it.
    """
    with store.apart() as db:
        try:
            _seal(db, store)
            statement = _one(db, text)
            result = db.execute(_zoneless(db, statement))
            names = [column[0] for column in result.description or ()]
            types = [str(column[1]) for column in result.description or ()]
            rows = result.fetchall() if limit is None else result.fetchmany(limit + 1)
        except duckdb.Error as error:
            raise _refused(error) from error
    more = limit is not None and len(rows) > limit
    return names, types, rows[:limit] if more else rows, more


def relations(db: Db) -> dict[str, list[tuple[str, str]]]:
    """Return each public view with its columns (name, type), in order."""
    found: dict[str, list[tuple[str, str]]] = {}
    for view, column, kind in db.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE database_name = current_database() AND schema_name = 'main' AND NOT internal ORDER BY table_name, column_index"
    ).fetchall():
        found.setdefault(view, []).append((column, kind))
    return found


def _seal(db: Db, store: Store) -> None:
    # Paths in the view are relative to the store; a sealed instance opens absolute ones only.
    row = db.execute("SELECT sql FROM duckdb_views() WHERE database_name = current_database() AND view_name = 'evaluation'")
    found = row.fetchone()
    if found is not None:
        _, _, body = str(found[0]).partition(" AS ")
        absolute = body.rstrip().rstrip(";").replace("'objects/", quote(f"{store.layout.objects}/")[:-1])
        db.execute(f"CREATE TEMP VIEW evaluation AS {absolute}")
    db.execute("SET TimeZone = 'UTC'")
    db.execute(f"SET allowed_directories = [{quote(str(store.layout.objects))}]")
    db.execute("SET enable_external_access = false")
    db.execute("SET lock_configuration = true")


def _one(db: Db, text: str) -> str:
    statements = db.extract_statements(text)
    if not statements:
        raise UsageError("there is no statement", hint='for example: mlops sql "select name, state from run"')
    if len(statements) > 1:
        raise UsageError(f"these are {len(statements)} statements; `mlops sql` runs exactly one SELECT", hint=_SEE)
    if statements[0].type != duckdb.StatementType.SELECT:
        kind = str(statements[0].type).rpartition(".")[2]
        raise UsageError(f"`mlops sql` only reads: one SELECT, not {kind}", hint=_SEE)
    return str(statements[0].query).rstrip().rstrip(";")


def _zoneless(db: Db, statement: str) -> str:
    """Times with a zone as UTC times: Python could not take them without another package."""
    described = db.execute(f"DESCRIBE {statement}").fetchall()
    zoned = [str(row[0]).replace('"', '""') for row in described if row[1] == "TIMESTAMP WITH TIME ZONE"]
    if not zoned:
        return statement
    replaced = ", ".join(f'"{name}" AT TIME ZONE \'UTC\' AS "{name}"' for name in zoned)
    return f"SELECT * REPLACE ({replaced}) FROM ({statement})"


def _refused(error: duckdb.Error) -> UsageError:
    text = str(error).strip()
    message, _, rest = text.partition("\n\n")
    place = "".join(f"\n       {line}" for line in rest.splitlines()) if rest.startswith("LINE") else ""
    if "disabled by configuration" in message or "disabled through configuration" in message:
        return UsageError("`mlops sql` reads the project's tables only, no other file and nothing over the network", hint=_SEE)
    return UsageError(message.replace("\n", " ") + place, hint=_SEE)
