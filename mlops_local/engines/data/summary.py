"""A column's sketch in words and figures that people and tables can take: a `ColumnProfile`."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from mlops_local.domain.assets import ColumnProfile
from mlops_local.engines.data.sketch import Sketch, most

TOP = 10
"""Frequent values kept."""
_SHOWN = 60
"""Longest value kept, in characters."""
_A_SECOND = {"ms": 1e3, "us": 1e6, "ns": 1e9}
_YEAR_1, _YEAR_9999 = -719_162 + 1, 2_932_896 - 1
"""Days since 1970 between which Python has dates, one less at either end for the sake of time zones."""
_DAYS = 999_999_998
"""Of the longest duration that Python has."""


class Plain(NamedTuple):
    """What is asked of a polars type, where polars is not loaded: whole numbers or text."""

    name: str

    def __str__(self) -> str:
        return self.name

    def is_numeric(self) -> bool:
        """Whether it is no text."""
        return self.name != "String"

    def is_integer(self) -> bool:
        """The same: there are no fractions."""
        return self.is_numeric()

    def is_temporal(self) -> bool:
        """No."""
        return False


def column(name: str, kind: Any, sketch: Sketch) -> ColumnProfile:
    """Return the profile of a column.

    Args:
        name: its name.
        kind: its polars type, or a `Plain` one.
        sketch: what it holds, all files together.
    """
    number = kind.is_numeric()
    low, high, bins, quantiles = _spread(sketch, kind)
    known = sketch.rows - sketch.nulls
    return ColumnProfile(
        name=name,
        type=str(kind),
        nulls=sketch.nulls,
        distinct=sketch.distinct,
        min=shown(sketch.low, kind),
        max=shown(sketch.high, kind),
        mean=sketch.mean if number and sketch.finite else None,
        nans=sketch.nans,
        std=_deviation(sketch) if number and sketch.finite > 1 else None,
        quantiles=quantiles if number else (),
        bins=bins,
        bins_from=low,
        bins_to=high,
        top=_top(sketch, kind),
        lengths=_lengths(sketch, known) if known else (),
    )


def _deviation(sketch: Sketch) -> float:
    """Of the sample; infinite where a square is too large for a number."""
    return (sketch.squares / (sketch.finite - 1)) ** 0.5 if math.isfinite(sketch.squares) else math.inf


def shown(value: Any, kind: Any) -> str:
    """Return a physical value of a column as text; times as ISO 8601, long text cut."""
    if value is None:
        return ""
    if kind.is_temporal():
        value = _moment(value, kind)
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _moment(value: int, kind: Any) -> Any:
    """What a physical value stands for, as Python has it; text where Python has no such date: polars panics there."""
    import polars as pl  # noqa: PLC0415  (loaded where rows are read)

    days = value if kind == pl.Date else value / _A_SECOND[getattr(kind, "time_unit", "ns")] / 86400
    if kind.base_type() == pl.Duration and abs(days) > _DAYS:
        return f"{value} {kind.time_unit}"
    if kind.base_type() in (pl.Date, pl.Datetime) and not _YEAR_1 <= days <= _YEAR_9999:
        import numpy as np  # noqa: PLC0415  (60 ms, and only for such a value)

        return str(np.datetime64(value, "D" if kind == pl.Date else kind.time_unit))
    return pl.Series([value]).cast(pl.Int32 if kind == pl.Date else pl.Int64).cast(kind).item()


def _spread(sketch: Sketch, kind: Any) -> tuple[float | None, float | None, tuple[int, ...], tuple[float, ...]]:
    if not (kind.is_numeric() or kind.is_temporal()):
        return None, None, (), ()
    if kind.is_integer() and sketch.counts is not None and len(sketch.counts) == 1:  # there is nothing to work out, so no numpy
        (value,) = sketch.counts
        return value - 0.5, value + 0.5, (sketch.rows - sketch.nulls,), (float(value),) * len(ColumnProfile.LEVELS)
    from mlops_local.engines.data import spread  # noqa: PLC0415  (numpy, 60 ms: `scan` and `form` need none)

    found = spread.of(sketch)
    if found is None:
        return None, None, (), ()
    low, high, bins = spread.histogram(
        found, sketch.finite or sketch.rows - sketch.nulls - sketch.nans, whole=kind.is_integer() or str(kind) == "Date"
    )
    unit = 1.0
    if kind.is_temporal():
        unit = 1 / 86400 if str(kind) == "Date" else _A_SECOND.get(getattr(kind, "time_unit", "ns"), 1e9)
    return low / unit, high / unit, bins, tuple(found.quantiles(ColumnProfile.LEVELS))


def _top(sketch: Sketch, kind: Any) -> tuple[tuple[str, int], ...]:
    counts = most(sketch.counts if sketch.counts is not None else sketch.often, TOP)
    held = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple((shown(value, kind), round(count)) for value, count in held)


def _lengths(sketch: Sketch, known: int) -> tuple[float, ...]:
    if not sketch.lengths:
        return ()
    shortest, longest, together = sketch.lengths
    return shortest, together / known, longest
