"""Rules that a snapshot obeys, from its profile: what to begin with, to be read and corrected by who knows the data."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence

from mlops_local.domain.assets import ColumnProfile, Snapshot
from mlops_local.domain.graph import Source

FEW = 20
"""A text column with at most so many values is taken to be one of them."""


def rules(source: Source, held: Snapshot) -> str:
    """Return `[data.NAME.checks]` as text.

    Args:
        source: its key is proposed to be unique; private columns get no rule that names values.
        held: its rows obey every rule that comes out, but perhaps the key's: whether that is unique, no profile knows.

    Columns that no rule can name, without a name or with one that another has in other letters, are left out.
    """
    lines = [f"[data.{_key(source.name)}.checks]", f"row_count = {{ min = {held.rows // 2} }}"]
    called = Counter(column.name.lower() for column in held.columns)
    columns = [column for column in held.columns if column.name and called[column.name.lower()] == 1]
    full = [column.name for column in columns if held.rows and not column.nulls]
    if full:
        lines.append(f"not_null = {_list(full)}")
    if source.key:
        lines.append(f"unique = {_list(source.key)}")
    shown = [column for column in columns if column.name not in source.private]
    lines += _table("range", shown, _range) + _table("in", shown, _values)
    return "\n".join(lines) + "\n"


def _table(kind: str, columns: Sequence[ColumnProfile], rule: Callable[[ColumnProfile], str]) -> list[str]:
    return [f"{kind}.{_key(column.name)} = {found}" for column in columns if (found := rule(column))]


def _range(column: ColumnProfile) -> str:
    """From the least to the greatest number, rounded away from the values."""
    if column.mean is None or not column.min or column.nans:
        return ""
    low, high = float(column.min), float(column.max)
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    if column.type.startswith(("Int", "UInt")):
        return f"[{column.min}, {column.max}]"
    return f"[{_outward(low, -1)!r}, {_outward(high, 1)!r}]"


def _outward(value: float, sign: int) -> float:
    """The number with three digits next to a value, on the side of the sign."""
    if not value:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    if not step:  # of the smallest numbers there are
        return value
    made = float(f"{(math.ceil if sign > 0 else math.floor)(value / step) * step:.12g}")
    return made if (made - value) * sign >= 0 else value


def _values(column: ColumnProfile) -> str:
    whole = column.distinct is not None and 0 < column.distinct <= min(FEW, len(column.top))
    if not whole or column.type != "String" or any(value.endswith("…") for value, _ in column.top):
        return ""
    return _list(sorted(value for value, _ in column.top))


def _list(values: Sequence[str]) -> str:
    return "[" + ", ".join(json.dumps(value, ensure_ascii=False) for value in values) + "]"


def _key(name: str) -> str:
    """A name as TOML has it: bare where it can be."""
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else json.dumps(name, ensure_ascii=False)
