"""Run a SELECT somebody typed: the store read only, no other file, no network, settings locked, time and memory bounded.

The statement runs on a DuckDB instance of its own, which ends with it: the locks on its settings cannot be taken back. The
only files it can open are those that the views read, each by name; `allowed_directories` would let COPY write beside them.
DuckDB also lets it read the database file itself, by any function that takes a path, and closing that would drop our lock on
it: so a statement may call no function that opens files or takes pointers.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select as select_ready
from typing import Any

import duckdb

from mlops_local.domain.errors import UsageError
from mlops_local.domain.records import dataclass
from mlops_local.domain.sql import name, quote
from mlops_local.store.database import Db, Store

MEMORY_MIB = min(4096, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 >> 20)
"""A query that needs more spills to the store's tmp/, up to SPILL: half the machine's, and no more than 4 GiB."""
SPILL = "16GiB"

_FUNCTIONS = frozenset(
    "generate_series range unnest repeat repeat_row json_each json_tree summary histogram histogram_values show_tables".split()
)
"""What may stand where a table stands; DuckDB's own lists (`duckdb_…`, `pragma_…`) too."""
_SHADOWED = ("column_profile", "evaluation")
"""Views that a statement sees in another form than the file has them: by their bare names."""
_OPENING = ("read_", "parquet_", "sniff_", "glob", "query", "getenv")
_SEE = "`mlops schema` lists the tables and their columns"
_TABLES_ONLY = "`mlops sql` reads the project's tables only, no other file and nothing over the network"
_NEVER = 1e6
_AGAIN_S = 0.02
_ENDING = frozenset((signal.SIGINT, signal.SIGTERM))


@dataclass(frozen=True)
class Extra:
    """What a SELECT may see beside the store's views."""

    statements: tuple[str, ...] = ()
    """Run before the instance is sealed; trusted: CREATE TEMP VIEW …"""
    files: tuple[str, ...] = ()
    """Absolute paths those views read."""
    keys: str = "keys"
    """What stands for the column `keys` of `evaluation`."""


NOTHING = Extra()


def select(
    store: Store, text: str, limit: int | None, *, timeout_s: float | None = None, extra: Extra = NOTHING
) -> tuple[list[str], list[str], list[tuple[Any, ...]], bool]:
    """Run one SELECT.

    Args:
        store: the project's store.
        text: the statement.
        limit: fetch at most so many rows; None for all.
        timeout_s: give up after so many seconds; None: never.
        extra: further views.

    Returns:
        Names, types, rows, and whether there were more rows.

    Raises:
        UsageError: not exactly one SELECT, DuckDB refuses it, or it took too long or too much memory.
    """
    with _opened(store, extra, timeout_s) as db:
        statement = _one(db, text)
        result = db.execute(_zoneless(db, statement))
        names = [column[0] for column in result.description or ()]
        types = [str(column[1]) for column in result.description or ()]
        rows = result.fetchall() if limit is None else result.fetchmany(limit + 1)
    more = limit is not None and len(rows) > limit
    return names, types, rows[:limit] if more else rows, more


@contextmanager
def parquet(store: Store, text: str, *, timeout_s: float | None = None, extra: Extra = NOTHING) -> Iterator[tuple[Path, int]]:
    """Run one SELECT into a Parquet file of ours, which is gone after the block; yield it and the number of rows.

    Raises:
        UsageError: as `select`.
    """
    made = store.layout.tmp / f"sql.{secrets.token_hex(8)}.parquet"
    try:
        readable = Extra(extra.statements, (*extra.files, str(made)), extra.keys)
        with _opened(store, readable, timeout_s) as db:
            # Only text that is by itself one whole SELECT comes here, so it cannot close the bracket it stands in.
            statement = _one(db, text)
            ((rows,),) = db.execute(f"COPY (\n{statement}\n) TO {quote(str(made))} (FORMAT parquet)").fetchall()
        yield made, int(rows)
    finally:
        made.unlink(missing_ok=True)


def relations(db: Db) -> dict[str, list[tuple[str, str]]]:
    """Return each public view with its columns (name, type), in order."""
    found: dict[str, list[tuple[str, str]]] = {}
    for view, column, kind in db.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE database_name = current_database() AND schema_name = 'main' AND NOT internal ORDER BY table_name, column_index"
    ).fetchall():
        found.setdefault(view, []).append((column, kind))
    return found


@contextmanager
def _opened(store: Store, extra: Extra, timeout_s: float | None) -> Iterator[Db]:
    """A sealed instance; what DuckDB says against the statement becomes ours, and time is up when it is."""
    with store.apart() as db:
        late = threading.Event()
        try:
            _seal(db, store, extra)
            with _stopping(db, timeout_s, late):
                yield db
        except duckdb.Error as error:
            if late.is_set():
                raise UsageError(
                    f"the query was not done after {timeout_s:g} s", hint="ask for less, or give it longer: --timeout SECONDS"
                ) from error
            raise _refused(error) from error


@contextmanager
def _stopping(db: Db, timeout_s: float | None, late: threading.Event) -> Iterator[None]:
    """Interrupt a query when its time is up, which `late` then says, or a signal asks the process to end.

    While the main thread waits for DuckDB's own threads, Python hears of no signal: the system tells a pipe of it at once.
    """
    done = threading.Event()
    heard, told = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    ours = threading.current_thread() is threading.main_thread()
    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False) if ours else -1

    def watch() -> None:
        until = time.monotonic() + min(timeout_s or _NEVER, threading.TIMEOUT_MAX)
        while select_ready([heard], [], [], max(0.0, until - time.monotonic()))[0]:
            if done.is_set():
                return
            if _ENDING.intersection(os.read(heard, 64)):
                break
        else:
            late.set()
        while not done.wait(_AGAIN_S):  # it may not have begun
            db.interrupt()

    watcher = threading.Thread(target=watch, name="mlops-stop", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        if ours:
            signal.set_wakeup_fd(before)
        os.write(told, b"\0")
        watcher.join()
        os.close(heard)
        os.close(told)


def _seal(db: Db, store: Store, extra: Extra) -> None:
    readable = [*_absolute(db, store, extra.keys), *extra.files]
    for statement in extra.statements:
        db.execute(statement)
    for setting, value in (("TimeZone", "UTC"), ("memory_limit", f"{MEMORY_MIB}MiB"), ("max_temp_directory_size", SPILL)):
        db.execute(f"SET {setting} = {quote(value)}")
    db.execute(f"SET temp_directory = {quote(str(store.layout.tmp / 'spill'))}")
    db.execute(f"SET allowed_paths = [{', '.join(map(quote, readable))}]")
    db.execute("SET enable_external_access = false")
    db.execute("SET lock_configuration = true")


def _absolute(db: Db, store: Store, keys: str) -> list[str]:
    """Paths in the view are relative to the store; a sealed instance opens absolute ones only. Returns those."""
    row = db.execute("SELECT sql FROM duckdb_views() WHERE database_name = current_database() AND view_name = 'evaluation'")
    found = row.fetchone()
    if found is None:
        return []
    _, _, body = str(found[0]).partition(" AS ")
    first, *pieces = body.rstrip().rstrip(";").split("'objects/")
    start = f"{store.layout.objects}/"
    rows = first + "".join(quote(start)[:-1] + piece for piece in pieces)
    db.execute(f"CREATE TEMP VIEW evaluation AS SELECT * REPLACE ({keys} AS keys) FROM ({rows})")
    return [start + piece.partition("'")[0] for piece in pieces]


def _one(db: Db, text: str) -> str:
    statements = db.extract_statements(text)
    if not statements:
        raise UsageError("there is no statement", hint='for example: mlops sql "select name, state from run"')
    if len(statements) > 1 or statements[0].type == duckdb.StatementType.MULTI:
        raise UsageError(
            "this is more than one statement; `mlops sql` runs exactly one SELECT", hint=f"{_SEE}; PIVOT needs ON … IN (…)"
        )
    if statements[0].type != duckdb.StatementType.SELECT:
        kind = str(statements[0].type).rpartition(".")[2]
        raise UsageError(f"`mlops sql` only reads: one SELECT, not {kind}", hint=_SEE)
    statement = str(statements[0].query).rstrip().rstrip(";")
    if opening := _opens(db, statement):
        raise UsageError(f"{_TABLES_ONLY}: {opening}", hint=_SEE)
    return statement


def _opens(db: Db, statement: str) -> str:
    """Return the first thing a SELECT names that is no table of ours and no harmless function; empty if there is none."""
    ((text,),) = db.execute("SELECT json_serialize_sql(?)", [statement]).fetchall()
    tree = json.loads(text)
    if tree.get("error"):
        return str(tree.get("error_message", "cannot be read"))
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        nodes += [child for child in (node.values() if isinstance(node, dict) else node) if isinstance(child, dict | list)]
        if isinstance(node, dict) and (found := _opening(node)):
            return found
    return ""


def _opening(node: dict[str, Any]) -> str:
    name = str(node.get("function_name", ""))
    if name.lower().startswith(_OPENING):
        return name
    if node.get("type") == "TABLE_FUNCTION":
        called = str(node.get("function", {}).get("function_name", ""))
        return "" if called in _FUNCTIONS or called.startswith(("duckdb_", "pragma_")) else called
    if node.get("type") == "BASE_TABLE":
        table = str(node.get("table_name", ""))
        schema = str(node.get("schema_name", "")).lower()
        if schema == "store" or (table.lower() in _SHADOWED and (schema or node.get("catalog_name"))):
            return f"{schema or node.get('catalog_name')}.{table} is for the program itself"
        return table if "/" in table or table.lower().endswith((".duckdb", ".db", ".wal")) else ""
    return ""


def _zoneless(db: Db, statement: str) -> str:
    """Times with a zone as UTC times: Python could not take them without another package."""
    described = db.execute(f"DESCRIBE {statement}").fetchall()
    zoned = [name(str(row[0])) for row in described if row[1] == "TIMESTAMP WITH TIME ZONE"]
    if not zoned:
        return statement
    replaced = ", ".join(f"{column} AT TIME ZONE 'UTC' AS {column}" for column in zoned)
    return f"SELECT * REPLACE ({replaced}) FROM (\n{statement}\n)"


def _refused(error: duckdb.Error) -> UsageError:
    text = str(error).strip()
    message, _, rest = text.partition("\n\n")
    if rest.startswith(asked := "LINE 1: DESCRIBE "):  # our word, not the one who asked
        rest = "LINE 1: " + rest.removeprefix(asked).replace("\n" + " " * len("DESCRIBE "), "\n", 1)
    place = "".join(f"\n       {line}" for line in rest.splitlines()) if rest.startswith("LINE") else ""
    if "disabled by configuration" in message or "disabled through configuration" in message:
        return UsageError(_TABLES_ONLY, hint=_SEE)
    if "out of range in timestamp conversion" in message:
        return UsageError("a time is too far away to be told", hint="leave the column out, or give its epoch_us()")
    if isinstance(error, duckdb.OutOfMemoryException):
        return UsageError(
            f"the query needs more than {MEMORY_MIB} MiB of memory and {SPILL} of disk", hint="ask for less at once"
        )
    return UsageError(message.replace("\n", " ") + place, hint=_SEE)
