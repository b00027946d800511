"""Ask the store: filters for lists of runs, and one SELECT over everything.

A filter is simple comparisons joined by `and`, compiled to SQL with bound parameters: no text of the user's becomes SQL.
A SELECT runs on a sealed connection: the store read only, no other file or network, settings locked.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple, NoReturn

from mlops_local.domain.errors import UsageError
from mlops_local.domain.runs import RunState
from mlops_local.services.project import Project
from mlops_local.store import projection, sealed

FIELDS = {
    "id": "id",
    "name": "name",
    "kind": "kind",
    "state": "state",
    "started": "started",
    "ended": "ended",
    "seconds": "seconds",
    "message": "message",
    "error": "error",
    "commit": '"commit"',
    "dirty": "dirty",
    "incomplete": "incomplete",
}
"""Field -> column. `metric.NAME`, `param.NAME` and `tag.NAME` go to their own tables."""
SPACES = ("metric", "param", "tag")
EXAMPLE = "for example: state = failed and metric.auc > 0.7 and param.gbm.num_leaves = 31"

_OPERATORS = {"=": "=", "==": "=", "!=": "<>", "<>": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">=", "~": "~"}
_TOKEN = re.compile(
    r"""\s*(?: (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
            |  (?P<op>==|!=|<>|<=|>=|=|<|>|~)
            |  (?P<word>[^\s'"=<>!~]+) )""",
    re.VERBOSE,
)


class Condition(NamedTuple):
    """One comparison: `op` is empty when the field alone asks whether there is one."""

    field: str
    op: str
    value: Any


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def where(text: str, *, known: Collection[str] = ()) -> tuple[str, tuple[Any, ...]]:
    """Compile a filter to a SQL condition over the view `run` and its parameters.

    Args:
        text: comparisons joined by `and`; empty for everything.
        known: `metric.NAME`, `param.NAME` and `tag.NAME` that exist; a name outside them is a typo. Empty: not checked.

    Raises:
        UsageError: it does not read as a filter, or names a field that does not exist.
    """
    conditions, parameters = [], []
    for condition in parse(text):
        _check(condition.field, known)
        sql, values = _compile(condition)
        conditions.append(sql)
        parameters += values
    return " AND ".join(conditions), tuple(parameters)


def parse(text: str) -> tuple[Condition, ...]:
    """Read a filter into its comparisons. Raises UsageError."""
    tokens = list(_tokens(text))
    found: list[Condition] = []
    index = 0
    while index < len(tokens):
        condition, index = _comparison(text, tokens, index)
        found.append(condition)
        if index < len(tokens):
            if tokens[index].kind != "word" or tokens[index].text.lower() != "and":
                _fail(text, tokens[index].at, f"expected `and` before {tokens[index].text!r}")
            index += 1
            if index == len(tokens):
                _fail(text, len(text), "a comparison is missing after `and`")
    return tuple(found)


def _comparison(text: str, tokens: Sequence[_Token], index: int) -> tuple[Condition, int]:
    field = tokens[index]
    if field.kind != "word" or field.text.lower() in {"and", "or", "not"}:
        _fail(text, field.at, f"expected a field, got {field.text!r}")
    if index + 1 == len(tokens) or tokens[index + 1].kind != "op":
        if field.text.partition(".")[0] in SPACES:
            return Condition(field.text, "", None), index + 1
        _fail(text, field.at + len(field.text), f"expected a comparison after {field.text!r}")
    if index + 2 == len(tokens) or tokens[index + 2].kind == "op":
        _fail(text, tokens[index + 1].at, f"a value is missing after {tokens[index + 1].text!r}")
    return Condition(field.text, _OPERATORS[tokens[index + 1].text], _value(tokens[index + 2])), index + 3


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            _fail(text, at, "a quote is not closed" if text[at:].lstrip()[:1] in "'\"" else "cannot read this")
        kind = str(match.lastgroup)
        yield _Token(kind, match.group(kind), match.start(kind))
        at = match.end()


def _value(token: _Token) -> Any:
    if token.kind == "text":
        quote = token.text[0]
        return token.text[1:-1].replace(quote * 2, quote)
    constants = {"true": True, "false": False, "null": None, "none": None}
    if token.text.lower() in constants:
        return constants[token.text.lower()]
    for read in (int, float):
        try:
            return read(token.text)
        except ValueError:
            continue
    return token.text


def _fail(text: str, at: int, problem: str) -> NoReturn:
    place = f"{text[:at]}⟨here⟩{text[at:]}" if text else ""
    raise UsageError(f"cannot read the filter: {problem}" + (f": {place}" if place else ""), hint=EXAMPLE)


def _check(field: str, known: Collection[str]) -> None:
    space, dot, name = field.partition(".")
    if space in SPACES and dot and name:
        if not known or field in known:
            return
        names = {item.partition(".")[2]: item for item in sorted(known) if item.startswith(space + ".")}
        near = [names[item] for item in difflib.get_close_matches(name, names, n=1)] or _inside(name, known)
        listed = ", ".join(list(names.values())[:20]) or f"no {space} yet"
        raise UsageError(f"no run has {field!r}", hint=f"did you mean {near[0]!r}?" if near else f"known: {listed}")
    if field in FIELDS:
        return
    nearest = difflib.get_close_matches(field, [*FIELDS, *known], n=1) or _inside(field, known)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"fields: {', '.join(FIELDS)}, metric.NAME, param.NAME, tag.NAME"
    raise UsageError(f"unknown field {field!r}", hint=hint)


def _inside(name: str, known: Collection[str]) -> list[str]:
    """`auc` means `metric.auc`, `num_leaves` means `param.gbm.num_leaves`."""
    return sorted(item for item in known if item.endswith("." + name))


def _compile(condition: Condition) -> tuple[str, list[Any]]:
    space, dot, name = condition.field.partition(".")
    if not (space in SPACES and dot):
        return _on_run(condition)
    table, key, value = {
        "metric": ("metric_last", "key", "value"),
        "param": ("param", "name", "json_extract_string(value, '$')"),
        "tag": ("tag", "key", "value"),
    }[space]
    if not condition.op:
        return f"id IN (SELECT run FROM {table} WHERE {key} = ?)", [name]
    if space == "metric" and (isinstance(condition.value, bool) or not isinstance(condition.value, int | float | None)):
        raise UsageError(f"{condition.field} is a number, {condition.value!r} is not", hint=EXAMPLE)
    test, parameters = _test(value, condition)
    return f"id IN (SELECT run FROM {table} WHERE {key} = ? AND {test})", [name, *parameters]


def _on_run(condition: Condition) -> tuple[str, list[Any]]:
    field, op, value = condition
    if field == "id" and op in {"=", "<>"} and isinstance(value, int | str):
        test = "(starts_with(id, ?) OR starts_with(substr(id, 17), ?))"
        return (test if op == "=" else f"NOT {test}"), [str(value)] * 2
    if field == "commit" and op in {"=", "<>"} and value is not None:
        return f"{'NOT ' if op == '<>' else ''}starts_with({FIELDS[field]}, ?)", [str(value)]
    if field == "state":
        _known_state(value, op)
    if field in {"started", "ended"} and value is not None and op != "~":
        return f"{FIELDS[field]} {op} CAST(? AS TIMESTAMP)", [_moment(field, value)]
    if field in {"dirty", "incomplete"} and not isinstance(value, bool | None):
        raise UsageError(f"{field} is true or false, not {value!r}", hint=EXAMPLE)
    if field == "seconds" and (isinstance(value, bool) or not isinstance(value, int | float | None)):
        raise UsageError(f"seconds is a number, {value!r} is not", hint=EXAMPLE)
    if field in {"name", "message", "error", "commit", "kind", "state"} and value is not None:
        condition = condition._replace(value=str(value))
    return _test(FIELDS[field], condition)


def _test(column: str, condition: Condition) -> tuple[str, list[Any]]:
    """One comparison; a number is compared as a number, text as text, null by IS."""
    _, op, value = condition
    if op == "~":
        return f"contains(lower(CAST({column} AS VARCHAR)), lower(?))", [str(value)]
    if value is None:
        if op not in {"=", "<>"}:
            raise UsageError(f"null can only be compared with = and !=, not {op}", hint=EXAMPLE)
        return f"{column} IS {'NOT ' if op == '<>' else ''}NULL", []
    if isinstance(value, bool):
        return f"TRY_CAST({column} AS BOOLEAN) {op} ?", [value]
    if isinstance(value, int | float):
        return f"TRY_CAST({column} AS DOUBLE) {op} ?", [float(value)]
    return f"CAST({column} AS VARCHAR) {op} ?", [value]


def _known_state(value: Any, op: str) -> None:
    states = [state.value for state in RunState]
    if op in {"=", "<>"} and value not in states:
        near = difflib.get_close_matches(str(value), states, n=1)
        raise UsageError(
            f"no run is ever {value!r}", hint=f"did you mean {near[0]!r}?" if near else "states: " + ", ".join(states)
        )


def _moment(field: str, value: Any) -> str:
    """A time as a person writes it, in the local zone unless it names one, as UTC text."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise UsageError(
            f"{field}: {value!r} is not a date or time", hint="write it as '2026-01-31' or '2026-01-31 14:00'"
        ) from None
    return moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat(sep=" ")


def order(text: str, *, known: Collection[str] = ()) -> tuple[str, tuple[Any, ...]]:
    """Compile a sort field (`-` before it: largest first) to an ORDER BY and its parameters; runs without a value come last.

    Raises:
        UsageError: the field does not exist.
    """
    if not text:
        return "started DESC", ()
    down, field = text.startswith("-"), text.removeprefix("-")
    _check(field, known)
    space, _, name = field.partition(".")
    columns = [FIELDS[field]] if field in FIELDS else _columns(space)
    direction = "DESC" if down else "ASC"
    sql = ", ".join(f"{column} {direction} NULLS LAST" for column in columns)
    return f"{sql}, started DESC", () if field in FIELDS else (name,) * len(columns)


def _columns(space: str) -> list[str]:
    """What to sort by for a field of another table: as numbers, then as text."""
    if space == "metric":
        return ["(SELECT any_value(value) FROM metric_last WHERE run = id AND key = ?)"]
    table, key, value = ("param", "name", "json_extract_string(value, '$')") if space == "param" else ("tag", "key", "value")
    chosen = f"(SELECT any_value({{}}) FROM {table} WHERE run = id AND {key} = ?)"
    return [chosen.format(f"TRY_CAST({value} AS DOUBLE)"), chosen.format(value)]


@dataclass(frozen=True)
class Table:
    """What a SELECT answered."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    """As DuckDB names them."""
    rows: tuple[tuple[Any, ...], ...]
    more: bool = False
    """There were further rows beyond the limit."""


@dataclass(frozen=True)
class ColumnInfo:
    """One column of a table `sql` can see."""

    name: str
    type: str


@dataclass(frozen=True)
class Relation:
    """One table `sql` can see."""

    name: str
    columns: tuple[ColumnInfo, ...]


def sql(project: Project, text: str, *, limit: int | None = None) -> Table:
    """Run exactly one SELECT over the project's views.

    Args:
        project: the project.
        text: the statement; WITH, FROM-first, DESCRIBE and SUMMARIZE are SELECTs too.
        limit: fetch at most so many rows; None for all.

    Raises:
        UsageError: it is not one SELECT, or DuckDB refuses it.
        StoreBusy: the store stayed in use.
    """
    projection.fold(project.store)
    columns, types, rows, more = sealed.select(project.store, text, limit)
    return Table(tuple(columns), tuple(types), tuple(rows), more)


def schema(project: Project, table: str = "") -> tuple[Any, ...]:
    """Return every table `sql` can see with its columns, or one table's columns. Raises UsageError for an unknown table."""
    projection.fold(project.store)
    with project.store.reader() as db:
        found = sealed.relations(db)
    if not table:
        return tuple(Relation(name, tuple(ColumnInfo(*column) for column in columns)) for name, columns in found.items())
    if table not in found:
        near = difflib.get_close_matches(table, found, n=1)
        raise UsageError(f"there is no table {table!r}", hint=f"did you mean {near[0]!r}?" if near else "see `mlops schema`")
    return tuple(ColumnInfo(*column) for column in found[table])
