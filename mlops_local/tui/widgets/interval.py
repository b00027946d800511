"""An interval drawn on a line, with the values it is judged against. Numbers in, text out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from textual.content import Content

from mlops_local.tui import words


@dataclass(frozen=True)
class Scale:
    """The values a drawing covers."""

    low: float
    high: float
    width: int

    def place(self, value: float) -> int:
        """The cell a value falls in; what lies outside is put on the edge."""
        length = (self.high - self.low) or 1.0
        return max(0, min(self.width - 1, round((value - self.low) / length * (self.width - 1))))


def scale_for(values: list[float | None], width: int) -> Scale:
    """A scale that shows all the values with a little air."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    air = (high - low) * 0.08 or abs(high) * 0.05 or 0.5
    return Scale(low - air, high + air, width)


def draw(
    low: float | None,
    value: float | None,
    high: float | None,
    *,
    scale: Scale,
    style: str = words.LIVE,
    marks: tuple[tuple[float, str, str], ...] = (),
) -> Content:
    """One line: `├───●───┤` on the scale.

    Args:
        low: the interval's lower end, or None where no interval is known.
        value: the estimate.
        high: the upper end.
        scale: shared by the lines that are to be compared.
        style: of the interval.
        marks: value, character and style of what it is judged against (zero, a limit); drawn under the interval.
    """
    cells: list[tuple[str, str]] = [(" ", "")] * scale.width
    for where, character, look in marks:
        cells[scale.place(where)] = (character, look)
    if low is not None and high is not None:
        first, last = scale.place(low), scale.place(high)
        for place in range(first, last + 1):
            crossed = cells[place][0] != " "
            cells[place] = ("┼" if crossed else "─", style)
        cells[first] = ("├", style)
        cells[last] = ("┤", style)
    if value is not None and math.isfinite(value):
        cells[scale.place(value)] = ("●", style)
    return Content.assemble(*((character, look) for character, look in cells))
