"""What a served model asks for, and whether given rows are that.

The rules, on every path (see docs/serving.md): a missing column is an error unless it may be null; extra columns are ignored;
whole numbers widen to decimals; decimals become whole numbers only when they are whole and within 2^53; text is never turned
into a number or back; times are ISO 8601, UTC when they name no offset; null and NaN only where training had gaps; booleans
and 0/1 stand for each other.
"""

from __future__ import annotations

import ast
import datetime as dt
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from mlops_local.domain.assets import Column
from mlops_local.domain.errors import DataError
from mlops_local.engines.models.convert import CONVERT, PLAIN, Misfit

_SHOWN = 100
"""Errors kept of one request; the count is exact."""


@dataclass(frozen=True)
class RowError:
    """One value that does not fit."""

    row: int
    """Position in the request, from 0."""
    column: str
    """Empty when the row itself is wrong."""
    expected: str
    got: str


class RowErrors(DataError):
    """Rows that do not fit the signature; `errors` holds the first hundred, `count` counts all."""

    def __init__(self, errors: Sequence[RowError]) -> None:
        first = errors[0]
        place = f"row {first.row}" + (f", column '{first.column}'" if first.column else "")
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(f"{place}: expected {first.expected}, got {first.got}{more}")
        self.errors = tuple(errors[:_SHOWN])
        self.count = len(errors)


def validate(signature: Sequence[Column], rows: Sequence[Any]) -> pl.DataFrame:
    """Rows of JSON values as a frame of exactly the signature's columns and types.

    Raises:
        RowErrors: naming every value that does not fit, by row, then column.
    """
    expected = "an object with the columns as keys"
    errors = [RowError(at, "", expected, shown(row)) for at, row in enumerate(rows) if not isinstance(row, Mapping)]
    if errors:
        raise RowErrors(errors)
    made = []
    for column in signature:
        name = column.name
        values = [row.get(name, _ABSENT) for row in rows]
        made.append(_series(column, values, errors))
    if errors:
        raise RowErrors(sorted(errors, key=lambda error: error.row))
    return pl.DataFrame(made)


def conform(signature: Sequence[Column], frame: pl.DataFrame) -> pl.DataFrame:
    """A frame's columns in the signature's order and types; the same rules, except that gaps are let through as they are.

    Raises:
        RowErrors: a column is missing, or values have no place in its type.
    """
    errors: list[RowError] = []
    made = []
    for column in signature:
        dtype = polars_type(column.polars)
        if column.name not in frame.columns:
            made.append(_series(column, [_ABSENT] * frame.height, errors))
            continue
        series = frame.get_column(column.name)
        if series.dtype == dtype:
            made.append(series)
        elif _widens(series.dtype, dtype):
            made.append(series.cast(dtype))
        else:
            open_column = Column(column.name, column.type, column.polars, True, missing=column.missing)
            made.append(_series(open_column, series.to_list(), errors))
    if errors:
        raise RowErrors(sorted(errors, key=lambda error: error.row))
    return pl.DataFrame(made)


def describe(frame: pl.DataFrame, names: Iterable[str], gaps: Mapping[str, str] | None = None) -> tuple[Column, ...]:
    """The signature of those columns of a training frame.

    Args:
        gaps: what `gaps_in` found in every part of the data; by default in this frame alone.

    Raises:
        DataError: a column's type has no JSON form.
    """
    found = gaps_in(frame, names) if gaps is None else gaps
    columns = []
    for name in names:
        series = frame.get_column(name)
        kind = type_name(series.dtype)
        if not kind:
            raise DataError(
                f"the transform reads column '{name}' of type {series.dtype}, which a request cannot carry",
                hint="turn it into numbers, text, booleans, dates or times in a step before the split",
            )
        columns.append(Column(name, kind, str(series.dtype), name in found, _example(series), found.get(name, "null")))
    return tuple(columns)


def gaps_in(frame: pl.DataFrame, names: Iterable[str]) -> dict[str, str]:
    """Which columns have gaps: name -> null, or nan where only NaN occurs."""
    found = {}
    for name in names:
        series = frame.get_column(name)
        if series.null_count():
            found[name] = "null"
        elif series.dtype.is_float() and series.is_nan().any():
            found[name] = "nan"
    return found


def type_name(dtype: pl.DataType) -> str:
    """The signature's word for a polars type; empty when there is none."""
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_integer():
        return "integer"
    if dtype.is_float() or dtype.is_decimal():
        return "number"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "string"
    return {pl.Datetime: "datetime", pl.Date: "date"}.get(dtype.base_type(), "")


def polars_type(text: str) -> pl.DataType:
    """The polars type a manifest names. Raises DataError when this polars does not know it."""
    known = _TYPES.get(text)
    if known is not None:
        return known
    found = re.fullmatch(r"(\w+)\((.*)\)", text, re.DOTALL)
    try:
        if found and found[1] in {"Datetime", "Enum", "Decimal"}:
            call = ast.parse(text, mode="eval").body
            if not isinstance(call, ast.Call) or call.args:
                raise ValueError(text)
            arguments = {str(item.arg): ast.literal_eval(item.value) for item in call.keywords}
            made: pl.DataType = getattr(pl, found[1])(**arguments)
            _TYPES[text] = made
            return made
    except (ValueError, SyntaxError, TypeError) as error:
        raise DataError(f"the bundle names a column type this polars cannot read: {text}") from error
    if text == "Categorical":
        return pl.Categorical()
    raise DataError(f"the bundle names a column type this polars does not know: {text}")


def shown(value: Any) -> str:
    """A short form of a value for an error: its type and how it looks."""
    if value is None:
        return "null"
    text = repr(value)
    if len(text) > 40:
        text = text[:37] + "..."
    return f"{_WORDS.get(type(value), type(value).__name__)} {text}"


_WORDS: dict[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object", list: "list"}
_TYPES: dict[str, pl.DataType] = {
    str(kind()): kind()
    for kind in (
        pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64,
        pl.Float32, pl.Float64, pl.Boolean, pl.String, pl.Date,
    )
}  # fmt: skip


class _Absent:
    """Stands for a key that is not there."""


_ABSENT = _Absent()


def _widens(given: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether every value has its place, so that a plain cast is right."""
    if wanted.is_float():
        return given.is_numeric() or given == pl.Boolean
    if given == pl.Null:
        return True
    if isinstance(given, pl.Datetime) and isinstance(wanted, pl.Datetime):
        return (given.time_zone is None) == (wanted.time_zone is None)
    return given in (pl.String, pl.Categorical, pl.Enum) and wanted in (pl.String, pl.Categorical)


def _series(column: Column, values: list[Any], errors: list[RowError]) -> pl.Series:
    dtype = polars_type(column.polars)
    convert = CONVERT[column.type]
    plain = PLAIN[column.type]
    kinds = set(map(type, values))
    clean = kinds <= plain and (column.type != "number" or not any(map(_odd, values)))
    if not clean:
        values = [_value(column, convert, at, value, errors) for at, value in enumerate(values)]
    try:
        if isinstance(dtype, pl.Datetime):
            return _times(column.name, values, dtype)
        return pl.Series(column.name, values, dtype=dtype, strict=True)
    except (pl.exceptions.PolarsError, TypeError, OverflowError):
        return _one_by_one(column, values, dtype, errors)


def _times(name: str, values: list[Any], dtype: pl.Datetime) -> pl.Series:
    """Naive UTC times in the column's own unit and zone."""
    made = pl.Series(name, values, dtype=pl.Datetime("us"))
    if dtype.time_zone is not None:
        made = made.dt.replace_time_zone("UTC").dt.convert_time_zone(dtype.time_zone)
    return made.cast(dtype)


def _one_by_one(column: Column, values: list[Any], dtype: pl.DataType, errors: list[RowError]) -> pl.Series:
    """Find which values polars itself refuses (out of the type's range, not a category)."""
    for at, value in enumerate(values):
        try:
            pl.Series(column.name, [value], dtype=dtype, strict=True)
        except (pl.exceptions.PolarsError, TypeError, OverflowError):
            errors.append(RowError(at, column.name, f"{_expected(column)} that fits {column.polars}", shown(value)))
    if not errors:
        errors.append(RowError(0, column.name, _expected(column), "values that polars refuses together"))
    return pl.Series(column.name, [None] * len(values), dtype=dtype)


def _value(column: Column, convert: Callable[[Any], Any], at: int, value: Any, errors: list[RowError]) -> Any:
    if value is None or value is _ABSENT or (isinstance(value, float) and math.isnan(value)):
        if column.nullable:
            return math.nan if column.missing == "nan" and column.type == "number" else None
        got = "no such column" if value is _ABSENT else shown(value)
        errors.append(RowError(at, column.name, _expected(column), got))
        return None
    try:
        return convert(value)
    except Misfit as misfit:
        errors.append(RowError(at, column.name, str(misfit) or _expected(column), shown(value)))
        return None


def _expected(column: Column) -> str:
    words = {"datetime": "a datetime in ISO 8601", "date": "a date as YYYY-MM-DD", "integer": "an integer"}
    return words.get(column.type, f"a {column.type}") + (" or null" if column.nullable else "")


def _odd(value: float) -> bool:
    return not math.isfinite(value)


def _example(series: pl.Series) -> Any:
    """A value a request could carry: the middle one of those that are there, as JSON."""
    there = series.drop_nans() if series.dtype.is_float() else series
    there = there.drop_nulls()
    if not len(there):
        return None
    value = there[len(there) // 2]
    if isinstance(value, dt.datetime):
        aware = value.replace(tzinfo=dt.timezone.utc) if value.tzinfo is None else value.astimezone(dt.timezone.utc)
        return aware.isoformat().replace("+00:00", "Z")
    if isinstance(value, dt.date):
        return value.isoformat()
    return value if isinstance(value, (bool, int, float, str)) else float(value)
