"""What a journal's lines look like: points and states as JSON text. Pure; runs in the user's interpreter.

Python 3.10, standard library only. Numbers that JSON has no word for are text; nothing that can be logged raises here.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from itertools import accumulate
from typing import Any

SLOTS = 5
"""A point lies in the buffer as five values side by side: nanoseconds, run, key, step, value. A tuple a point would be one more
object for the garbage collector to visit, and every 700th call paid for all of them."""
EXACT = 1 << 53
"""Whole numbers up to this are kept as such; a table holds float64."""
_LONGEST_NAME = 1 << 16
"""Characters of a metric's name that are kept: a line must fit into what is folded at once."""


def of_points(batch: Sequence[Any], numbers: Iterator[int], last: int) -> tuple[list[str], int]:
    """Points as journal lines, none before `last`, and the last one's time. What a curve's points share is made once."""
    times, runs, keys, steps, values = (batch[slot::SLOTS] for slot in range(SLOTS))
    shared: dict[Any, str] = {
        (run, key): f',"r":"{run}","key":{json.dumps(str(key)[:_LONGEST_NAME])},"s":'
        for run, key in set(zip(runs, keys, strict=True))
    }
    curves: Iterable[Any] = zip(runs, keys, strict=True)
    if len({run for run, _ in shared}) == 1:  # as nearly always: one look-up by a text is half of one by a pair
        shared, curves = {key: text for (_, key), text in shared.items()}, keys
    if set(map(type, steps)) - {int} or (steps and not -EXACT < min(steps) <= max(steps) < EXACT):
        steps = [
            "null" if step is None else step if type(step) is int and -EXACT < step < EXACT else _number(real(step))
            for step in steps
        ]
    if not all(map(math.isfinite, values)):
        values = list(map(_Text, map(_number, values)))
    if batch and (times[0] < last * 1000 or any(map(operator.lt, times[1:], times))):  # the clock was put back
        times = list(accumulate(times, max, initial=last * 1000))[1:]
    lines = [
        f'{{"k":"m","v":1,"t":{at // 1000},"n":{number}{shared[curve]}{step},"x":{value!r}}}\n'
        for at, curve, step, value, number in zip(times, curves, steps, values, numbers, strict=False)
    ]
    return lines, times[-1] // 1000 if batch else last


class _Text(str):
    """A number that is written already."""

    __slots__ = ()
    __repr__ = str.__str__


def gap(run: str, dropped: int, number: int, at_us: int) -> str:
    """Return the line that says how many points of a run are missing."""
    return f'{{"k":"gap","v":1,"t":{at_us},"n":{number},"r":"{run}","dropped":{dropped}}}\n'


def real(value: float) -> float:
    """A float; infinity where a whole number is larger than any."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _number(value: float) -> str:
    """A JSON number; NaN and infinity as text."""
    if math.isfinite(value):
        return repr(value)
    return '"NaN"' if value != value else '"Infinity"' if value > 0 else '"-Infinity"'


def dumps(value: Any) -> str:
    """JSON on one line, keys in the given order; NaN and infinity as text, unknown values as text."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False, default=_plain)
    except ValueError:
        return json.dumps(_finite(value), separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", 1) == 0:
        return item()
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else json.loads(_number(value))
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, (str, int)) or value is None:
        return value
    return _finite(_plain(value))
