"""The runs a filter chooses, in an order: the language of `domain.filters` as SQL over the public views.

Nothing a user typed becomes SQL: operators come from a table here, names and values are bound parameters.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator, Sequence
from dataclasses import field
from datetime import datetime, timedelta, timezone
from typing import Any

from mlops_local.domain import filters
from mlops_local.domain.errors import UsageError
from mlops_local.domain.fields import kind, named, resolve, split
from mlops_local.domain.filters import All, Comparison, Either, Expression, Has, Moment, Not, OneOf, Value
from mlops_local.domain.records import dataclass
from mlops_local.domain.runs import Run
from mlops_local.store import history
from mlops_local.store.database import Db

_SPACES = {"metric": ("metric_last", "key", "value"), "param": ("param", "name", "value"), "tag": ("tag", "key", "value")}
"""Space -> view, the column with names, the column with values."""
_OPERATORS = {"=": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_COLUMNS = {name: f'run."{name}"' for name in filters.FIELDS}


class Names:
    """Every `metric.NAME`, `param.NAME` and `tag.NAME` some run has: one is looked up, all are read only to be listed."""

    def __init__(self, db: Db) -> None:
        self._db = db

    def __contains__(self, name: object) -> bool:
        space, rest = split(str(name))
        if not space:
            return False
        view, key, _ = _SPACES[space]
        return bool(self._db.execute(f"SELECT 1 FROM {view} WHERE {key} = ? LIMIT 1", [rest]).fetchall())

    def __iter__(self) -> Iterator[str]:
        for space, (view, key, _) in _SPACES.items():
            for (name,) in self._db.execute(f"SELECT DISTINCT {key} FROM {view} ORDER BY 1").fetchall():
                yield f"{space}.{name}"

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass
class Question:
    """SQL in the making: one join a field of another table, conditions with their parameters."""

    now: datetime
    """UTC, without a zone."""
    joins: dict[str, str] = field(default_factory=dict)
    """Full field name -> alias of its join."""
    where: str = ""
    """The filter's condition; empty: everything."""
    parameters: list[Any] = field(default_factory=list)
    """The condition's."""
    asked: tuple[str, ...] = ()
    """The filter's fields, by full name."""

    def value(self, name: str) -> str:
        """Return the SQL for a field's value as it is stored: parameters as text, null where there is none."""
        space, _ = split(name)
        if not space:
            return _COLUMNS[name]
        alias = self._joined(name)
        return f"json_extract_string({alias}.value, '$')" if space == "param" else f"{alias}.value"

    def stored(self, name: str) -> str:
        """Return the SQL for a field's value as its table holds it: parameters as JSON."""
        return f"{self._joined(name)}.value" if split(name)[0] == "param" else self.value(name)

    def has(self, name: str) -> str:
        """Return the SQL that asks whether a run has a field."""
        return f"{self._joined(name)}.run IS NOT NULL" if split(name)[0] else f"coalesce({_COLUMNS[name]}, false)"

    def source(self) -> tuple[str, list[str]]:
        """Return the FROM clause for everything asked so far, and its parameters."""
        parts, parameters = ["run"], []
        for name, alias in self.joins.items():
            space, rest = split(name)
            view, key, value = _SPACES[space]
            parts.append(
                f"LEFT JOIN (SELECT run, {value} AS value FROM {view} WHERE {key} = ?) {alias} ON {alias}.run = run.id"
            )
            parameters.append(rest)
        return " ".join(parts), parameters

    def condition(self, expression: Expression, *, within_not: bool = False) -> tuple[str, list[Any]]:
        """Return the SQL condition of a resolved filter and its parameters.

        A comparison with a missing value is null in SQL, which a filter takes for false; under `not` it is made false.
        """
        match expression:
            case All(parts) | Either(parts):
                made = [self.condition(part, within_not=within_not) for part in parts]
                word = " AND " if isinstance(expression, All) else " OR "
                return f"({word.join(sql for sql, _ in made)})", [value for _, values in made for value in values]
            case Not(part):
                sql, parameters = self.condition(part, within_not=True)
                return f"(NOT {sql})", parameters
            case Has(name):
                return self.has(name), []
            case Comparison(name, op, value):
                sql, parameters = self._comparison(name, op, value)
            case OneOf(name, values, out):
                sql, parameters = self._one_of(name, values, out)
        return (f"coalesce({sql}, false)" if within_not else sql), parameters

    def order(self, sort: str) -> str:
        """Return an ORDER BY: `-` before the field is largest first, runs without a value come last, then newest first."""
        newest = f"{_COLUMNS['started']} DESC, {_COLUMNS['id']} DESC"
        if not sort:
            return newest
        direction, name = ("DESC" if sort.startswith("-") else "ASC"), sort.removeprefix("-")
        column = self.value(name)
        numbers = f"TRY_CAST({column} AS DOUBLE)"
        keys = {"number": [_finite(column)], "any": [_finite(numbers), column], "text": [_finite(numbers), column]}
        chosen = keys.get(kind(name), [column]) if split(name)[0] or kind(name) == "number" else [column]
        return ", ".join([*(f"{key} {direction} NULLS LAST" for key in chosen), newest])

    # -- within

    def _joined(self, name: str) -> str:
        return self.joins.setdefault(name, f"f{len(self.joins)}")

    def _comparison(self, name: str, op: str, value: Value) -> tuple[str, list[Any]]:
        column = self.value(name)
        if value is None:
            return f"{column} IS {'NOT ' if op == '!=' else ''}NULL", []
        if op == "~":
            return f"contains(lower(CAST({column} AS VARCHAR)), lower(?))", [_text(value)]
        if op == "!=":
            return self._one_of(name, (value,), out=True)
        if op == "=":
            return self._one_of(name, (value,), out=False)
        match kind(name):
            case "time":
                return f"{column} {_OPERATORS[op]} CAST(? AS TIMESTAMP)", [self._moment(name, value)]
            case "number" | "any" | "text" if isinstance(value, float):
                number = column if kind(name) == "number" else f"TRY_CAST({column} AS DOUBLE)"
                # DuckDB sorts NaN above everything; to a person it is above nothing.
                return f"({number} {_OPERATORS[op]} ? AND NOT isnan({number}))", [value]
            case _:
                return f"{column} {_OPERATORS[op]} ?", [_text(value)]

    def _one_of(self, name: str, values: Sequence[Value], out: bool) -> tuple[str, list[Any]]:
        """Whether there is a value that is, or is not, one of these."""
        tests, parameters = self._equal(name, values)
        if not out:
            return f"({' OR '.join(tests)})", parameters
        return f"({self.value(name)} IS NOT NULL AND NOT coalesce({' OR '.join(tests)}, false))", parameters

    def _equal(self, name: str, values: Sequence[Value]) -> tuple[list[str], list[Any]]:
        column = self.value(name)
        if name == "id":  # the shown id is the random part's beginning
            return (
                [f"starts_with({column}, ?) OR starts_with(substr({column}, 17), ?)" for _ in values],
                [_text(value) for value in values for _ in range(2)],
            )
        if name == "commit":
            return [f"starts_with({column}, ?)" for _ in values], [_text(value) for value in values]
        if kind(name) == "time":
            return [f"{column} = CAST(? AS TIMESTAMP)" for _ in values], [self._moment(name, value) for value in values]
        if kind(name) == "flag":
            return [f"{column} = ?" for _ in values], list(values)
        numbers = [value for value in values if isinstance(value, float)]
        texts = [_text(value) for value in values if not isinstance(value, float)]
        as_number = column if kind(name) == "number" else f"TRY_CAST({column} AS DOUBLE)"
        tests = [f"{as_number} IN ({_marks(numbers)})"] if numbers else []
        tests += [f"{column} IN ({_marks(texts)})"] if texts else []
        return tests, [*numbers, *texts]

    def _moment(self, name: str, value: Value) -> str:
        """A time as UTC text: as a person writes it, in the local zone unless it names one, or from now."""
        if isinstance(value, Moment):
            try:
                return from_now(self.now, value).isoformat(sep=" ")
            except (OverflowError, ValueError):
                raise UsageError(f"{name}: {abs(value.amount)} {value.unit}s from now is out of reach") from None
        try:
            return datetime.fromisoformat(str(value)).astimezone(timezone.utc).replace(tzinfo=None).isoformat(sep=" ")
        except (ValueError, OverflowError):
            hint = "write it as '2026-01-31', '2026-01-31 14:00' or now() - interval 2 day"
            raise UsageError(f"{name}: {value!r} is not a date or time", hint=hint) from None


@dataclass(frozen=True)
class Found:
    """Runs a filter chose."""

    runs: list[Run]
    total: int
    """How many match in all."""
    asked: tuple[str, ...]
    """The fields of the filter and the order, by full name."""


def runs(
    db: Db, where: str = "", *, sort: str = "", limit: int | None = None, offset: int = 0, now: datetime | None = None
) -> Found:
    """Return the runs a filter chooses, newest first unless sorted otherwise.

    Args:
        db: from `Store.reader`.
        where: a filter, as in `state = failed or metric.auc > 0.7`; empty for every run.
        sort: a field, `-` before it for largest first; runs without a value come last.
        limit: at most so many; None for all.
        offset: leave out so many.
        now: what `now()` means, UTC; default: now.

    Raises:
        UsageError: the filter or the field cannot be read, or no run has it.
    """
    question = ask(db, where, now=now)
    sort = sorting(sort, Names(db))
    order = question.order(sort)
    source, joined = question.source()
    found, total = history.page(
        db, where=question.where, params=[*joined, *question.parameters], source=source, order=order, limit=limit, offset=offset
    )
    asked = dict.fromkeys([*question.asked, *([sort.removeprefix("-")] if sort else [])])
    return Found(found, total, tuple(asked))


def ask(db: Db, where: str, *, now: datetime | None = None) -> Question:
    """Read a filter. Raises UsageError."""
    question = Question((now or datetime.now(timezone.utc)).replace(tzinfo=None))
    expression = filters.parse(where)
    if expression is not None:
        expression = resolve(expression, Names(db))
        question.where, question.parameters = question.condition(expression)
        question.asked = tuple(dict.fromkeys(condition.field for condition in filters.conditions(expression)))
    return question


def full(db: Db, fields: Sequence[str]) -> tuple[str, ...]:
    """Return fields by full name. Raises UsageError."""
    names = Names(db)
    return tuple(named(field, names) for field in fields)


def sorting(sort: str, names: Names) -> str:
    """Return a sort field in full, its `-` kept. Raises UsageError."""
    return ("-" if sort.startswith("-") else "") + named(sort.removeprefix("-"), names) if sort else ""


def from_now(now: datetime, moment: Moment) -> datetime:
    """Return the time a moment means; a month before 31 March is the last of February."""
    if moment.unit not in {"month", "year"}:
        return now + timedelta(**{f"{moment.unit}s": moment.amount})
    months = now.year * 12 + now.month - 1 + moment.amount * (12 if moment.unit == "year" else 1)
    year, month = divmod(months, 12)
    return now.replace(year=year, month=month + 1, day=min(now.day, calendar.monthrange(year, month + 1)[1]))


def _finite(number: str) -> str:
    """NaN as no value: it is neither the largest nor the smallest."""
    return f"CASE WHEN isnan({number}) THEN NULL ELSE {number} END"


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _text(value: Value) -> str:
    """A value as text: what a word, a number or true is in JSON."""
    return filters.literal(value) if isinstance(value, bool | float) else str(value)
