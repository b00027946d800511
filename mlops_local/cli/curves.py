"""A run's curves in the terminal: one line high in a list, or a chart with its axes. Text in, text out; no colour needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mlops_local.cli import output
from mlops_local.cli.output import Column

if TYPE_CHECKING:
    from mlops_local.domain.runs import Curve

WIDTH = 24
"""Cells of a curve in a list."""
_CHART = (64, 12)
"""Cells of a chart: with its axis it fits 80 columns."""
_BLOCKS = ("▁▂▃▄▅▆▇█", "_.-=+*#@")


def spark(values: Sequence[float], width: int, *, low: float | None = None, high: float | None = None) -> str:
    """A curve one line high, as many cells as there are values and no more than `width`; NaN and infinity leave a gap.

    Args:
        values: in order.
        width: cells; each shows the mean of a stretch.
        low, high: what the lowest and highest block stand for; default: the curve's own extremes.
    """
    blocks = _BLOCKS[0] if output.unicode() else _BLOCKS[1]
    cells = [_mean(values[start:end]) for start, end in _stretches(len(values), width)]
    finite = [value for value in cells if value is not None]
    if not finite:
        return " " * len(cells)
    bottom, top = min(finite) if low is None else low, max(finite) if high is None else high
    span = (top / 2 - bottom / 2) or 1.0  # halves: between the largest numbers of both signs lies infinity
    shares = (None if value is None else min(1.0, max(0.0, (value / 2 - bottom / 2) / span)) for value in cells)
    places = (None if share is None else round(share * (len(blocks) - 1)) for share in shares)
    return "".join(" " if place is None else blocks[place] for place in places)


def table(curves: Sequence[Curve]) -> None:
    """Curves, one a line: its shape, where it began and ended, its extremes and the steps they were at."""
    columns = [
        Column("metric"),
        Column("curve", keep=True),
        Column("first", right=True, keep=True),
        Column("last", right=True, keep=True),
        Column("lowest", right=True),
        Column("highest", right=True),
    ]
    rows = []
    for curve in curves:
        finite = [(value, step) for value, step in zip(curve.values, curve.steps, strict=True) if math.isfinite(value)]
        ends = (
            [f"{output.decimal(value)} @ {output.decimal(step)}" for value, step in (min(finite), max(finite))]
            if finite
            else ["", ""]
        )
        rows.append((curve.key, spark(curve.values, WIDTH), curve.values[0], curve.values[-1], *ends))
    output.table(columns, rows)


def chart(curve: Curve) -> None:
    """One curve with its axes."""
    from mlops_local.tui.widgets.braille import Series, plot

    width, height = _CHART
    output.line(f"\n{curve.key}")
    if not output.unicode() or not any(map(math.isfinite, curve.values)):
        output.line(f"  {spark(curve.values, width)}")
        return
    drawn = plot([Series(curve.key, curve.steps, curve.values)], width, height)
    numbers = {row: output.decimal(value) for row, value in drawn.ticks}
    margin = max(map(len, numbers.values()), default=0)
    for row, cells in enumerate(drawn.cells):
        text = "".join(character for character, _ in cells).rstrip()
        output.line(f"  {numbers.get(row, ''):>{margin}} ┤{text}")
    low, high = output.decimal(drawn.x.low), output.decimal(drawn.x.high)
    output.line(f"  {'':>{margin}} └{low}{high:>{width - len(low)}}")


def _stretches(count: int, width: int) -> Iterator[tuple[int, int]]:
    cells = min(count, width)
    for place in range(cells):
        yield place * count // cells, (place + 1) * count // cells


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return sum(value / len(finite) for value in finite) if finite else None  # the sum of the largest is infinite
