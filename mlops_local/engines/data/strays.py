"""Find the few values that make text of a column whose others are numbers or dates, and rows without any value.

A step that adds such a column up fails, and what it says names neither the file nor the line. Looked for when something has
gone wrong or changed already; never changes a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_local.engines.data import profile, refusal, text

if TYPE_CHECKING:
    import polars as pl

_MOST = 3
"""Columns that are told of."""
_MOST_BYTES = 2_000_000_000
"""Larger sources are not read once more to find a value."""


@dataclass(frozen=True)
class Stray:
    """The first value of a column that is not as the others."""

    path: str
    line: int
    """As an editor counts it; 0 where that is not known."""
    column: str
    value: str
    others: int
    """How many of its values are as `kind` says."""
    values: int
    kind: str
    """Int64, Float64 or Date."""

    def told(self, *, hidden: bool = False) -> str:
        """In words; without the value where it is `hidden`."""
        where = f"{self.path}, line {self.line}" if self.line else self.path
        what = "a value" if hidden else repr(refusal.brief(self.value))
        kind = "dates" if self.kind == "Date" else "numbers"
        return f"{where}: {what} in column {self.column}, where {self.others:,} of {self.values:,} values are {kind}"

    @property
    def declared(self) -> str:
        """The declaration under which a file with such a value is refused."""
        return f'schema={{{json.dumps(self.column, ensure_ascii=False)}: "{self.kind}"}}'


def find(files: Mapping[str, Path], columns: Sequence[str]) -> list[Stray]:
    """Return the first stray value of those columns in which most values are numbers, or dates, and some are not.

    Args:
        files: path as it is called -> where to read it; tables of one form.
        columns: those that are read as text.
    """
    if not files or not columns or profile.form(next(iter(files))) not in ("csv", "lines"):
        return []  # other forms say what their columns are
    import polars as pl  # noqa: PLC0415  (as in `profile`)

    try:
        return [] if _large(files) else _find(files, columns)
    except (pl.exceptions.PolarsError, OSError):
        return []  # it cannot be read by now, which is said elsewhere


def blank(files: Mapping[str, Path]) -> tuple[str, int]:
    """Return the first CSV file with rows in which no column has a value, as an empty line is one, and how many; else nothing.

    Args:
        files: path as it is called -> where to read it.
    """
    import polars as pl  # noqa: PLC0415  (as in `profile`)

    try:
        if _large(files):
            return "", 0
        for path, file in files.items():
            rows = profile.opened(path, [file]).select(pl.all_horizontal(pl.all().is_null()).sum())
            if count := rows.collect(engine="streaming").item():
                return path, int(count)
    except (pl.exceptions.PolarsError, OSError):
        pass  # as in `find`
    return "", 0


def _large(files: Mapping[str, Path]) -> bool:
    return sum(file.stat().st_size for file in files.values()) > _MOST_BYTES


def _find(files: Mapping[str, Path], columns: Sequence[str]) -> list[Stray]:
    import polars as pl  # noqa: PLC0415  (as above)

    counted = [pl.col(name).count().alias(f"{place}") for place, name in enumerate(columns)]
    for place, name in enumerate(columns):
        counted += [wrong.sum().alias(f"{place} {kind}") for kind, wrong in _wrong(name).items()]
    seen = _open(list(files.items()), columns).select(counted).collect(engine="streaming").row(0, named=True)
    found: list[Stray] = []
    for place, name in enumerate(columns):
        values = seen[f"{place}"]
        wrong = {kind: seen[f"{place} {kind}"] for kind in _wrong(name)}
        kind = min(wrong, key=wrong.__getitem__)
        if 0 < wrong[kind] * 2 < values and len(found) < _MOST:
            path, line, value = _first(files, name, kind)
            found.append(Stray(path, line, name, value, values - wrong[kind], values, kind))
    return found


def _open(files: Sequence[tuple[str, Path]], columns: Sequence[str]) -> pl.LazyFrame:
    import polars as pl  # noqa: PLC0415  (as above)

    return profile.opened(files[0][0], [file for _, file in files], dict.fromkeys(columns, pl.String))


def _wrong(name: str) -> dict[str, pl.Expr]:
    """By what a value may be: whether it is there and something else."""
    import polars as pl  # noqa: PLC0415  (as above)

    held = pl.col(name)
    day = held.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    return {  # of two that hold as many values the first
        "Int64": held.is_not_null() & held.cast(pl.Int64, strict=False).is_null(),
        "Float64": held.is_not_null() & held.cast(pl.Float64, strict=False).is_null(),
        "Date": held.is_not_null() & day.is_null(),
    }


def _first(files: Mapping[str, Path], name: str, kind: str) -> tuple[str, int, str]:
    for path, file in files.items():
        held = _open([(path, file)], [name])
        found = held.filter(_wrong(name)[kind]).select(name).head(1).collect()
        if found.height:
            value = found.item()
            index = held.collect_schema().names().index(name)
            return path, _line(path, file, index, name, value), value
    raise OSError("its files are others by now")


def _line(path: str, file: Path, index: int, name: str, value: str) -> int:
    if profile.form(path) == "csv":
        return refusal.csv_line(file, text.separator(Path(path)), index, value)
    return next((number for number, row in refusal.rows(file) if _said(row, name) == value), 0)


def _said(row: Any, name: str) -> Any:
    return row.get(name) if isinstance(row, dict) else None
