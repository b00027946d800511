"""Points to braille cells: a pure canvas of 2 x 4 dots a cell, and axes with round numbers.

Knows nothing of Textual; `chart.py` gives it colours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    label: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    slot: int = 0
    """Which of the chart's colours it has."""


@dataclass(frozen=True)
class Span:
    """The values an axis covers."""

    low: float
    high: float

    @property
    def length(self) -> float:
        """Never zero."""
        return (self.high - self.low) or 1.0


@dataclass(frozen=True)
class Plot:
    """What was drawn: a character and a colour slot (-1: none) for each cell, and where the axes' numbers stand."""

    cells: tuple[tuple[tuple[str, int], ...], ...]
    x: Span
    y: Span
    ticks: tuple[tuple[int, float], ...]
    """Row and value of each number at the left."""


class Canvas:
    """Dots with one colour slot a cell; who draws last owns the cell."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._bits = [[0] * width for _ in range(height)]
        self._slots = [[-1] * width for _ in range(height)]

    def dot(self, x: int, y: int, slot: int) -> None:
        """Set one dot; what lies outside is left out."""
        if 0 <= x < self.width * 2 and 0 <= y < self.height * 4:
            self._bits[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
            self._slots[y // 4][x // 2] = slot

    def line(self, x0: int, y0: int, x1: int, y1: int, slot: int) -> None:
        """Set the dots from one point to another."""
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for step in range(steps + 1):
            self.dot(round(x0 + (x1 - x0) * step / steps), round(y0 + (y1 - y0) * step / steps), slot)

    def rows(self) -> tuple[tuple[tuple[str, int], ...], ...]:
        """Characters and slots, top line first."""
        return tuple(
            tuple((chr(0x2800 + bits) if bits else " ", slot) for bits, slot in zip(line, slots, strict=True))
            for line, slots in zip(self._bits, self._slots, strict=True)
        )


def step_of(length: float, parts: int) -> float:
    """A round step (1, 2 or 5 times a power of ten) that divides `length` into about `parts`."""
    raw = length / max(parts, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    for factor in (1.0, 2.0, 5.0):
        if raw <= factor * power * 1.0000001:
            return factor * power
    return 10.0 * power


def ticks_in(span: Span, parts: int) -> list[float]:
    """Round values within the span."""
    step = step_of(span.length, parts)
    found: list[float] = []
    for finer in (1.0, 2.0, 5.0):  # one value alone says nothing of the scale
        first = math.ceil(span.low / step * finer - 1e-9)
        last = math.floor(span.high / step * finer + 1e-9)
        found = [index * step / finer for index in range(first, last + 1)]
        if len(found) >= 2 or parts < 2:
            break
    return found


def plot(series: Sequence[Series], width: int, height: int, *, log: bool = False) -> Plot:
    """Draw the series into `width` x `height` cells, in their order, so the last lies on top.

    Args:
        series: the lines; NaN and infinity leave gaps.
        width: cells across.
        height: cells down.
        log: a logarithmic vertical axis; values of zero or less are left out.
    """
    width, height = max(width, 1), max(height, 1)
    drawn = [(line, _points(line, log=log)) for line in series]
    everything = [point for _, points in drawn for point in points if point]
    xs = [point[0] for point in everything] or [0.0, 1.0]
    ys = [point[1] for point in everything] or [0.0, 1.0]
    x = Span(min(xs), max(xs))
    y = _padded(Span(min(ys), max(ys)))
    canvas = Canvas(width, height)

    def place(point: tuple[float, float]) -> tuple[int, int]:
        across = (point[0] - x.low) / x.length * (width * 2 - 1)
        down = (y.high - point[1]) / y.length * (height * 4 - 1)
        return round(across), round(down)

    for line, points in drawn:
        _trace(canvas, [place(point) if point else None for point in points], line.slot)
    ticks = tuple((min(height - 1, max(0, place((x.low, value))[1] // 4)), value) for value in ticks_in(y, max(1, height // 3)))
    if log:
        ticks = tuple((row, 10.0**value) for row, value in ticks)
    return Plot(canvas.rows(), x, y, ticks)


def sparkline(values: Sequence[float], width: int) -> str:
    """A curve one line high: the newest values in `width` cells."""
    finite = tuple(value for value in values if math.isfinite(value))
    if not finite:
        return ""
    drawn = plot([Series("", tuple(float(place) for place in range(len(finite))), finite)], width, 1)
    return "".join(character for character, _ in drawn.cells[0])


def _points(line: Series, *, log: bool) -> list[tuple[float, float] | None]:
    points: list[tuple[float, float] | None] = []
    for x, y in zip(line.xs, line.ys, strict=False):
        if not (math.isfinite(x) and math.isfinite(y)) or (log and y <= 0):
            points.append(None)
        else:
            points.append((x, math.log10(y) if log else y))
    return points


def _padded(span: Span) -> Span:
    if span.high > span.low:
        return span
    pad = abs(span.high) * 0.05 or 0.5
    return Span(span.low - pad, span.high + pad)


def _trace(canvas: Canvas, places: Sequence[tuple[int, int] | None], slot: int) -> None:
    before: tuple[int, int] | None = None
    real = sum(place is not None for place in places)
    for place in places:
        if place and before and place != before:
            canvas.line(*before, *place, slot)
        elif place:
            canvas.dot(*place, slot)
            if real == 1:  # one dot is hardly seen: a lone point is drawn as a small block
                for across, down in ((1, 0), (0, 1), (1, 1)):
                    canvas.dot(place[0] - across, place[1] - down, slot)
        before = place
