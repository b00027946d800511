"""What module values came to that are not plainly written down: digests of data computed while the project was imported.

A fingerprint follows the code of such a value, and counts these beside it: what the code read from elsewhere shows here. Never
runs the user's code: only Python's own data, enums, dataclasses, paths and numpy's arrays are looked into.
"""

from __future__ import annotations

import ast
import dataclasses
import datetime
import decimal
import enum
import fractions
import hashlib
import pathlib
import re
import sys
import uuid
from collections.abc import Iterator
from typing import Any

from mlops_local.worker.finder import Finder

_SCALARS = (bool, int, float, complex, str, bytes, type(None))
_PRINTED = (
    datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, fractions.Fraction, uuid.UUID, range, re.Pattern,
)  # fmt: skip
"""Whose text says all of it."""
_LIMIT = 200_000
"""Values in one value beyond which it is not looked into: numbers, texts and what holds them."""
_BYTES = 1 << 26
"""Of texts and arrays in one value, beyond which it is not looked into either."""
_DIGITS = 4000
"""Of a whole number: Python refuses to print many more."""


class _TooMuch(Exception):
    """The value is too large to be looked into."""


def constants(finder: Finder) -> dict[str, str]:
    """`module.name` -> digest of each value a project module's top level computes."""
    found: dict[str, str] = {}
    for module in [*finder.sources, *finder.found]:
        names = vars(sys.modules[module]) if module in sys.modules else {}
        for name in dict.fromkeys(_computed(finder.data(module))):
            made = digest(names[name], str(finder.root)) if name in names else ""
            if made:
                found[f"{module}.{name}"] = made
    return found


def digest(value: Any, root: str) -> str:
    """A digest of a value that is data; empty where it is none.

    Args:
        value: anything.
        root: the project's folder: paths in it count relative to it.
    """
    writer = _Writer(root)
    try:
        known = writer.write(value)
    except (_TooMuch, RecursionError):
        return ""
    return writer.hasher.hexdigest() if known else ""


def _computed(data: bytes) -> Iterator[str]:
    """Names that assignments of the top level bind to more than a number or a text."""
    for statement in ast.parse(data).body:
        if isinstance(statement, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        value = getattr(statement, "value", None)
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and (value is None or isinstance(value, ast.Constant)):
            continue
        for item in ast.walk(statement):
            if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store):
                yield item.id


class _Writer:
    def __init__(self, root: str) -> None:
        self.root = root
        self.hasher = hashlib.blake2b(digest_size=16)
        self.left = _LIMIT
        self.bytes_left = _BYTES
        self.inside: set[int] = set()

    def write(self, value: Any) -> bool:
        """Add a value; False where it is no data (its kind is added all the same)."""
        self.left -= 1
        if self.left < 0:
            raise _TooMuch
        kind = type(value)
        if kind in _SCALARS:
            self._add(kind.__name__, self._plain(value))
        elif isinstance(value, enum.Enum):
            self._add(f"enum {kind.__qualname__}", str(value._name_))  # none for a flag that is off
            self.write(value._value_)
        elif isinstance(value, pathlib.PurePath):
            self._add("path", self._plain(str(value)))
        elif isinstance(value, _PRINTED):
            self._add(kind.__qualname__, repr(value))
        elif kind.__module__ == "numpy" and hasattr(value, "tobytes"):
            return self._array(value)
        elif id(value) in self.inside:
            self._add("again", "")
        else:
            self.inside.add(id(value))
            known = self._holder(value)
            self.inside.discard(id(value))
            return known
        return True

    def _holder(self, value: Any) -> bool:
        kind = type(value)
        if kind in (list, tuple) or (isinstance(value, tuple) and hasattr(kind, "_fields")):
            self._all(kind.__qualname__, list(tuple.__iter__(value) if isinstance(value, tuple) else value))
        elif kind in (set, frozenset):
            self.left -= len(value)
            if self.left < 0:
                raise _TooMuch
            made = sorted(digest(item, self.root) for item in value)
            self._all(kind.__name__, made)
        elif kind is dict:
            self._all("dict", [part for pair in value.items() for part in pair])
        elif dataclasses.is_dataclass(value) and not isinstance(value, type) and hasattr(value, "__dict__"):
            held = vars(value)
            self._all(f"dataclass {kind.__qualname__}", [part for name in sorted(held) for part in (name, held[name])])
        else:
            self._add("object", kind.__qualname__)
            return False
        return True

    def _all(self, kind: str, items: list[Any]) -> None:
        self._add(kind, str(len(items)))
        for item in items:
            self.write(item)

    def _array(self, value: Any) -> bool:
        if value.dtype.hasobject:
            self._add("object", "array of objects")
            return False
        self._take(value.nbytes)
        self._add(f"array {value.dtype.str} {value.shape}", "")
        self.hasher.update(value.tobytes())
        return True

    def _plain(self, value: Any) -> str:
        if isinstance(value, (str, bytes)):
            self._take(len(value))
        if isinstance(value, int) and value.bit_length() > _DIGITS:
            self._take(value.bit_length() // 8)
            return hex(value)
        return repr(value.replace(self.root, "<root>") if isinstance(value, str) else value)

    def _take(self, size: int) -> None:
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise _TooMuch

    def _add(self, kind: str, text: str) -> None:
        for part in (kind, text):
            data = part.encode("utf-8", "surrogatepass")
            self.hasher.update(len(data).to_bytes(8, "little") + data)
