"""Parameters as they are recorded: flat dotted names and plain JSON values, whatever a script's settings are made of.

Nothing a script passes makes it fail: what is no value is recorded as its text. Pure: no file is touched.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from mlops_local.domain.errors import UsageError

DEEPEST = 20
"""Levels of nesting that are kept apart; what lies deeper, as in a list that holds itself, is text."""
SHOWN = 1000
"""Characters of a value that is no JSON."""
_LONGEST_BITS = 4096
"""Of a whole number that is kept as such; Python itself writes none of more than 4300 digits."""
_PLACE = re.compile(r" at 0x[0-9a-f]+")
"""Where an object happens to lie in memory: another place in each run, and no difference."""


def given(values: Any, more: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `log_params` was given, as one mapping.

    Args:
        values: a mapping, a dataclass or what an argument parser returned; None for nothing.
        more: keyword arguments, which stand over it.

    Raises:
        UsageError: it has no names.
    """
    if values is None:
        return more
    named = _named(values)
    if named is None and hasattr(values, "__dict__") and not isinstance(values, type):
        named = vars(values)
    if named is None:
        raise UsageError(
            f"log_params: a value of type {type(values).__name__} has no names",
            hint="pass a dict, a dataclass or what argparse returned",
        )
    return {**named, **more}


def flat(values: Mapping[str, Any], prefix: str = "", above: tuple[int, ...] = ()) -> dict[str, Any]:
    """Nested mappings and dataclasses as dotted names, every value as JSON can hold it. An empty mapping is a value."""
    found: dict[str, Any] = {}
    above = (*above, id(values))
    for key, value in values.items():
        inner = _named(value) if _new(value, above) else None
        if inner:
            found.update(flat(inner, f"{prefix}{key}.", (*above, id(value))))
        else:
            found[f"{prefix}{key}"] = plain(value, above)
    return found


def is_plain(value: Any) -> bool:
    """Whether a value is a setting and not data: what is recorded of a decorated function's arguments."""
    if value is None or isinstance(value, (bool, int, float, str, Enum)):
        return True
    if isinstance(value, Mapping):
        return all(is_plain(item) for item in value.values())
    return isinstance(value, (list, tuple)) and len(value) <= SHOWN and all(is_plain(item) for item in value)


def plain(value: Any, above: tuple[int, ...] = ()) -> Any:
    """One value as JSON can hold it; its text when it is nothing of that kind.

    Args:
        value: anything.
        above: the ids of what holds it: a list that holds itself ends as a text.
    """
    if isinstance(value, Enum):
        return plain(value.value, above)
    if value is None:
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (int, float)):
        return _number(value)
    if _new(value, above):
        inside = (*above, id(value))
        named = _named(value)
        if named is not None:
            return {str(key): plain(item, inside) for key, item in named.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item, inside) for item in value]
        if isinstance(value, (set, frozenset)):
            return sorted((plain(item, inside) for item in value), key=str)
    return _text(value)


def _new(value: Any, above: tuple[int, ...]) -> bool:
    return len(above) < DEEPEST and id(value) not in above


def _number(value: float) -> Any:
    if isinstance(value, int):
        if isinstance(value, bool):
            return value
        return int(value) if value.bit_length() <= _LONGEST_BITS else hex(value)
    real = float(value)
    return real if math.isfinite(real) else "NaN" if real != real else "Infinity" if real > 0 else "-Infinity"


def _named(value: Any) -> Mapping[Any, Any] | None:
    """A value's parts by name, if it has such: a mapping, a dataclass."""
    if isinstance(value, Mapping):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value) if hasattr(value, field.name)}
    return None


def _text(value: Any) -> Any:
    """A scalar of numpy or torch as its number, a function or class by its name, anything else as a short text."""
    try:
        item = getattr(value, "item", None)
        if callable(item) and getattr(value, "ndim", 1) == 0:
            number = item()
            return _number(number) if isinstance(number, (int, float)) else str(number)
        if callable(value) and hasattr(value, "__qualname__"):
            return f"{value.__module__}.{value.__qualname__}"
        shown = _PLACE.sub("", str(value))
    except Exception:  # noqa: BLE001 - the value's own code may raise anything; its type still says something
        return f"<{type(value).__name__}>"
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
