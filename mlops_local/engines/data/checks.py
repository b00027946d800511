"""Find the rows that break rules: every rule about single rows in one pass, samples only where something fails.

Takes Parquet files and rules, gives findings; what a rule means in SQL is here. Never looks at a clock: freshness is told from
the newest time by who asks.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_local.domain.checks import LONG, Check
from mlops_local.domain.errors import ConfigError
from mlops_local.domain.sql import name, quote
from mlops_local.engines.data.relations import table, told

if TYPE_CHECKING:
    import duckdb

SAMPLES = 5
_TIMES = ("TIMESTAMP", "DATE")
_MEANT = {
    "sql": "it is a condition in DuckDB's SQL that holds for every row",
    "regex": "it is a regular expression in RE2's syntax that the whole value matches",
}
"""What the rules are that a person writes in a language."""


@dataclass(frozen=True)
class Broken:
    """A rule that rows break."""

    check: Check
    failed: int
    rows: int
    note: str = ""
    samples: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Checked:
    """What was found."""

    broken: tuple[Broken, ...]
    newest: datetime | None = None
    """The latest time of a row, UTC; None where no time is declared or there is none."""


def run(
    db: duckdb.DuckDBPyConnection,
    files: Sequence[Path],
    checks: Sequence[Check],
    *,
    key: Sequence[str] = (),
    time: str = "",
    private: Collection[str] = (),
    others: Mapping[str, Sequence[Path]] | None = None,
) -> Checked:
    """Check the rows of a table.

    Args:
        db: an in-memory DuckDB.
        files: the table, as Parquet.
        checks: the rules; freshness is left to the caller.
        key: columns that name a row in samples.
        time: the column that says when a row was observed.
        private: columns whose values are not shown.
        others: source -> files, of the sources that `no_overlap` names.

    Raises:
        ConfigError: a rule names a column that is not there, or its SQL cannot be run.
    """
    db.execute(f"CREATE TEMP VIEW checked AS FROM {table(files)}")
    kinds = {str(row[0]): str(row[1]) for row in db.execute("DESCRIBE checked").fetchall()}
    for check in checks:
        for column in check.columns:
            _known(column, kinds, check)
        if check.kind == "sql":
            _whole(db, check)
        if check.kind == "freshness" and time in kinds and not kinds[time].startswith(_TIMES):
            raise ConfigError(
                f"the check `{check.text}`: the time column {time!r} is {kinds[time]}, not a time",
                hint=f'schema={{"{time}": "Datetime"}} reads values as 2026-03-01 or 2026-03-01 12:30',
            )
    rules = {check: bad for check in checks if (bad := _bad(check)) is not None}
    rows, counts = _counts(db, rules, kinds, private)
    found = [
        Broken(
            check,
            counts[check],
            rows,
            samples=_rows(db, f"FROM checked WHERE {bad} LIMIT {SAMPLES}", _shown(check, kinds, key), private),
        )
        for check, bad in rules.items()
        if counts[check]
    ]
    for check in checks:
        if check.kind == "unique":
            found += _repeated(db, check, rows, private)
        elif check.kind == "no_overlap":
            found += _overlapping(db, check, (others or {})[check.value], rows, kinds, key, private)
        elif check.kind == "row_count" and not _within(rows, check.value):
            found.append(Broken(check, 0, rows, f"{rows:,} rows"))
    order = {check: place for place, check in enumerate(checks)}
    return Checked(tuple(sorted(found, key=lambda item: order[item.check])), _newest(db, time, kinds))


def _known(column: str, kinds: Mapping[str, str], check: Check) -> None:
    if column not in kinds:
        near = difflib.get_close_matches(column, kinds, n=1)
        raise ConfigError(
            f"the check `{check.text}` names a column {column!r} that is not there",
            hint=f"did you mean {near[0]!r}?" if near else "columns: " + ", ".join(kinds),
        )


def _whole(db: duckdb.DuckDBPyConnection, check: Check) -> None:
    """Refuse text that is no expression by itself, as `a) OR (b`: in brackets it would say something else."""
    ((found,),) = db.execute("SELECT json_serialize_sql(?)", [f"SELECT [\n{check.value}\n]"]).fetchall()
    if (said := json.loads(found)).get("error"):
        raise ConfigError(f"the check `{check.text}` cannot be run: {said.get('error_message')}", hint=_MEANT["sql"])


def _bad(check: Check) -> str | None:
    """The condition under which a row breaks a rule; None for rules about more than one row."""
    column = name(check.columns[0]) if check.columns else ""
    match check.kind:
        case "not_null":
            return f"{column} IS NULL"
        case "range":
            low, high = check.value
            sides = [f"{column} < {_literal(low)}"] if low is not None else []
            sides += [f"{column} > {_literal(high)}"] if high is not None else []
            return f"({' OR '.join(sides)})"
        case "in":
            return f"{column} NOT IN ({', '.join(_literal(value) for value in check.value)})"
        case "regex":
            return f"NOT regexp_full_match({column}::VARCHAR, {_literal(check.value)})"
        case "sql":
            return f"NOT (\n{check.value}\n)"  # a comment at its end is no part of what follows
    return None


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    return quote(value.isoformat() if hasattr(value, "isoformat") else str(value))


def _counts(
    db: duckdb.DuckDBPyConnection, rules: Mapping[Check, str], kinds: Mapping[str, str], private: Collection[str]
) -> tuple[int, dict[Check, int]]:
    """How many rows there are, and how many break each rule."""
    import duckdb  # noqa: PLC0415  (loaded: there is a connection)

    counted = [f"count(*) FILTER ({bad})" for bad in rules.values()]
    try:
        rows, *counts = db.execute(f"SELECT {', '.join(['count(*)', *counted])} FROM checked").fetchall()[0]
    except duckdb.Error as error:
        for check, bad in rules.items():  # which of them it is
            try:
                db.execute(f"SELECT count(*) FILTER ({bad}) FROM checked").fetchall()
            except duckdb.Error as own:
                raise ConfigError(
                    f"the check `{check.text}` cannot be run: {told(own, private if _looks(check, private) else ())}",
                    hint=_MEANT.get(check.kind, "") or f"{check.columns[0]} is {kinds[check.columns[0]]}",
                ) from own
        raise ConfigError(f"the checks cannot be run: {told(error, private)}") from error
    return int(rows), dict(zip(rules, map(int, counts), strict=True))


def _looks(check: Check, private: Collection[str]) -> bool:
    """Whether what is said against a rule may be a private value, and not the rule's own."""
    return check.kind == "sql" or (check.kind != "regex" and bool(set(check.columns) & set(private)))


def _shown(check: Check, kinds: Mapping[str, str], key: Sequence[str]) -> list[str]:
    """The columns of a sample: the key and what the rule is about; of an expression all."""
    if check.kind == "sql":
        return [column for column in kinds if column in key or name(column) in check.value or column in check.value]
    return list(dict.fromkeys([*(column for column in key if column in kinds), *check.columns]))


def _rows(
    db: duckdb.DuckDBPyConnection, query: str, shown: Sequence[str], private: Collection[str], more: str = ""
) -> tuple[Mapping[str, Any], ...]:
    """Some rows, their values as text, the beginning of long ones: they are only shown, and kept as JSON."""
    texts = {column: f"{name(column)}::VARCHAR" for column in shown}
    cut = {column: f"if(length({text}) > {LONG}, left({text}, {LONG - 1}) || '…', {text})" for column, text in texts.items()}
    columns = ", ".join(cut[column] if column not in private else "'(private)'" for column in shown)
    found = db.execute(f"SELECT {columns or 'NULL'}{more} {query}").fetchall()
    names = [*shown, *(["rows"] if more else [])]
    return tuple(dict(zip(names, row, strict=False)) for row in found)


def _repeated(db: duckdb.DuckDBPyConnection, check: Check, rows: int, private: Collection[str]) -> list[Broken]:
    """Rows whose values of some columns another row has too."""
    columns = ", ".join(name(column) for column in check.columns)
    groups = f"(SELECT {columns}, count(*) AS n FROM checked GROUP BY ALL HAVING count(*) > 1)"
    ((several, failed),) = db.execute(f"SELECT count(*), coalesce(sum(n), 0)::BIGINT FROM {groups}").fetchall()
    if not several:
        return []
    samples = _rows(db, f"FROM {groups} ORDER BY n DESC LIMIT {SAMPLES}", check.columns, private, ", n")
    value = "value stands" if several == 1 else "values stand"
    return [Broken(check, int(failed), rows, f"{several:,} {value} in several rows ({failed:,} of {rows:,} rows)", samples)]


def _overlapping(
    db: duckdb.DuckDBPyConnection,
    check: Check,
    files: Sequence[Path],
    rows: int,
    kinds: Mapping[str, str],
    key: Sequence[str],
    private: Collection[str],
) -> list[Broken]:
    """Rows that another source has too: by the key where it has one, else by all columns both have."""
    import duckdb  # noqa: PLC0415  (loaded: there is a connection)

    db.execute(f"CREATE OR REPLACE TEMP VIEW other AS FROM {table(files)}")
    there = {str(row[0]): str(row[1]) for row in db.execute("DESCRIBE other").fetchall()}
    columns = list(key) if key and set(key) <= set(there) else [column for column in kinds if column in there]
    if not columns:
        raise ConfigError(f"the check `{check.text}`: the two sources have no column in common", hint="name another source")
    same = " AND ".join(f"checked.{name(column)} IS NOT DISTINCT FROM other.{name(column)}" for column in columns)
    query = f"FROM checked SEMI JOIN other ON {same}"
    try:
        failed = int(db.execute(f"SELECT count(*) {query}").fetchall()[0][0])
    except (duckdb.BinderException, duckdb.ConversionException) as error:
        types = ", ".join(f"{column} ({kinds[column]} and {there[column]})" for column in columns)
        raise ConfigError(
            f"the check `{check.text}`: values of these columns cannot be compared: {types}",
            hint="schema={…} says what they are",
        ) from error
    if not failed:
        return []
    note = f"{failed:,} of {rows:,} rows are in {check.value} too, by {', '.join(columns)}"
    return [Broken(check, failed, rows, note, _rows(db, f"{query} LIMIT {SAMPLES}", columns, private))]


def _within(value: int, bounds: tuple[int | None, int | None]) -> bool:
    low, high = bounds
    return (low is None or value >= low) and (high is None or value <= high)


def _newest(db: duckdb.DuckDBPyConnection, time: str, kinds: Mapping[str, str]) -> datetime | None:
    if not time or not kinds.get(time, "").startswith(_TIMES):
        return None
    newest = f"least(greatest(max({name(time)})::TIMESTAMP, '0001-01-02'), '9999-12-30')"  # UTC: `connect`; as Python has times
    ((found,),) = db.execute(f"SELECT if(max({name(time)}) IS NULL, NULL, {newest}) FROM checked").fetchall()
    assert found is None or isinstance(found, datetime)
    return found
