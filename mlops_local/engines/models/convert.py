"""Bring one JSON value to the type a column has, or say what was expected.

Whole numbers widen to decimals; decimals become whole numbers only when they are whole and within 2^53; text is never turned
into a number or back; times are ISO 8601, UTC when they name no offset; booleans and 0/1 stand for each other.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from typing import Any

EXACT = 2**53
"""Beyond this not every whole number is a float64."""


class Misfit(ValueError):
    """A value that breaks the column's rule; its text says what was expected."""


def _boolean(value: Any) -> bool:
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    raise Misfit("a boolean, 0 or 1")


def _integer(value: Any) -> int:
    if isinstance(value, (bool, int)):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
        return int(value)
    raise Misfit("an integer")


def _number(value: Any) -> float:
    if not isinstance(value, (bool, int, float)):
        raise Misfit("a number")
    try:
        made = float(value)
    except OverflowError:
        made = math.inf
    if not math.isfinite(made):
        raise Misfit("a finite number")
    return made


def _string(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise Misfit("a string")


def _datetime(value: Any) -> dt.datetime:
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value[:-1] + "+00:00" if value[-1:] in {"Z", "z"} else value)
        except ValueError:
            raise Misfit("a datetime in ISO 8601") from None
    if not isinstance(value, dt.datetime):
        if not isinstance(value, dt.date):
            raise Misfit("a datetime in ISO 8601")
        value = dt.datetime(value.year, value.month, value.day)
    try:
        found: dt.datetime = value if value.tzinfo is None else value.astimezone(dt.timezone.utc)
    except OverflowError:
        raise Misfit("a datetime within years 1 to 9999") from None
    return found.replace(tzinfo=None)


def _date(value: Any) -> dt.date:
    if isinstance(value, str):
        try:
            return dt.date.fromisoformat(value)
        except ValueError:
            raise Misfit("a date as YYYY-MM-DD") from None
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    raise Misfit("a date as YYYY-MM-DD")


CONVERT: dict[str, Callable[[Any], Any]] = {
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "string": _string,
    "datetime": _datetime,
    "date": _date,
}
PLAIN: dict[str, set[type]] = {
    "boolean": {bool},
    "integer": {int},
    "number": {float},
    "string": {str},
    "datetime": set(),
    "date": {dt.date},
}
