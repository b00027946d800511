"""How a snapshot looks in the terminal: its files, and each column's figures with a picture of how the values are spread."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlops_local.cli import output
from mlops_local.cli.output import Column

if TYPE_CHECKING:
    from mlops_local.domain.assets import ColumnProfile, Snapshot
    from mlops_local.domain.checks import Finding

_BLOCKS = "▁▂▃▄▅▆▇█"
_PLAIN = "_.-=+*#@"
_FILES = 20
"""Files listed before the rest is only counted."""


def show(found: Snapshot) -> None:
    """Write one snapshot in full."""
    table = any(entry.rows is not None for entry in found.files)
    output.pairs(
        [
            ("source", found.source),
            ("snapshot", found.id),
            ("files", f"{len(found.files):,}"),
            ("rows", f"{found.rows:,}" if table else ""),
            ("size", output.size(found.bytes)),
        ]
    )
    output.line()
    columns: list[Column | str] = [Column("file", keep=True), Column("rows", right=True), Column("size", right=True), "blake3"]
    output.table(
        columns if table else [columns[0], *columns[2:]],
        [
            (entry.path, *((entry.rows,) if table else ()), output.size(entry.bytes), entry.hash[:12])
            for entry in found.files[:_FILES]
        ],
    )
    if len(found.files) > _FILES:
        output.line(f"and {len(found.files) - _FILES:,} more: --json lists them")
    if found.columns:
        output.line()
        columns_of(found.columns)


def columns_of(profile: Sequence[ColumnProfile]) -> None:
    """Write the profile of each column on a line."""
    # A column nothing is in takes no place.
    nans = any(item.nans for item in profile)
    heads: list[Column | str] = [Column("column", keep=True), "type", Column("nulls", right=True)]
    heads += [Column("NaN", right=True)] if nans else []
    heads += [Column("distinct", right=True), "min", "median", "max", Column("mean", right=True), Column("std", right=True)]
    rows = [
        (
            item.name,
            _type(item.type),
            item.nulls or None,
            *((item.nans or None,) if nans else ()),
            _distinct(item),
            _extreme(item, item.min),
            f"{item.quantiles[2]:.6g}" if item.quantiles else "",
            _extreme(item, item.max),
            item.mean,
            item.std,
            _values(item),
        )
        for item in profile
    ]
    output.table([*heads, "values"], rows)


def _type(text: str) -> str:
    """`Datetime(time_unit='us', time_zone='UTC')` as `Datetime(us, UTC)`."""
    return re.sub(r"time_\w+=|'|, None|, time_zone=None", "", text)


def _extreme(item: ColumnProfile, text: str) -> str:
    """A number's least or most without the digits that only its storage gives it; a time without needless zeros."""
    if item.mean is not None and text:
        return f"{float(text):.6g}" if "." in text else text
    return text.removesuffix("+00:00").removesuffix("T00:00:00")


def _distinct(item: ColumnProfile) -> str:
    if item.distinct is None:
        return ""
    about = "" if item.distinct < 1024 else "≈ " if output.unicode() else "~ "
    return f"{about}{item.distinct:,}"


def _values(item: ColumnProfile) -> str:
    """A histogram of numbers and times; of text its most frequent values."""
    if len(item.bins) > 1:
        return bars(item.bins)
    return ", ".join(f"{value or repr(value)} {count:,}" for value, count in item.top[:3])


def findings(found: Sequence[Finding], indent: str = "") -> None:
    """Write what breaks rules on a line each, and some of the rows below it."""
    for item in found:
        output.line(f"{indent}{item.severity:<7}  {item.line}")
        for row in item.samples:
            values = (f"{name} {'null' if value is None else output.escape(output.text(value))}" for name, value in row.items())
            output.line(f"{indent}{'':<7}  {', '.join(values)}")


def bars(counts: Sequence[int]) -> str:
    """Counts as a row of blocks, the highest full; an empty bin is a blank."""
    signs = _BLOCKS if output.unicode() else _PLAIN
    most = max(counts, default=0)
    return "".join(" " if not count else signs[min(len(signs) - 1, count * len(signs) // (most + 1))] for count in counts)
