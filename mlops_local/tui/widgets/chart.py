"""Curves as braille, with axes and a legend. Lines of numbers in, nothing out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual.geometry import Size
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from mlops_local.tui import words
from mlops_local.tui.widgets.braille import Plot, Series, plot

SLOTS = 6


class Chart(Widget):
    """One chart: a title line with the legend, the curves, and the range of steps below."""

    DEFAULT_CSS = """
    Chart {
        height: 10;
        min-height: 4;
        background: $background;
        color: $foreground;
        & > .chart--title { text-style: bold; }
        & > .chart--axis { color: $text-disabled; }
        & > .chart--number { color: $text-muted; }
        & > .chart--line-0 { color: $primary; }
        & > .chart--line-1 { color: $accent; }
        & > .chart--line-2 { color: $success; }
        & > .chart--line-3 { color: $error; }
        & > .chart--line-4 { color: $secondary; }
        & > .chart--line-5 { color: $warning; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "chart--title",
        "chart--axis",
        "chart--number",
        *(f"chart--line-{slot}" for slot in range(SLOTS)),
    }

    series: reactive[tuple[Series, ...]] = reactive((), layout=False)
    logarithmic: reactive[bool] = reactive(False)

    def __init__(
        self, title: str = "", series: Sequence[Series] = (), *, id: str | None = None, classes: str | None = None
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.title = title
        self.set_reactive(Chart.series, tuple(series))
        self._drawn: tuple[object, list[Strip]] | None = None

    def show(self, title: str, series: Sequence[Series]) -> None:
        """Draw other lines."""
        self.title = title
        self.series = tuple(series)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line of the chart; all are drawn at once and kept until something changes."""
        key = (self.size, self.series, self.logarithmic, self.title, self.app.theme)
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = (key, self._draw(self.size))
        strips = self._drawn[1]
        strip = strips[y] if y < len(strips) else Strip([])
        return strip.adjust_cell_length(self.size.width, self.rich_style)

    def notify_style_update(self) -> None:
        """Other colours: draw anew."""
        super().notify_style_update()
        self._drawn = None

    def _draw(self, size: Size) -> list[Strip]:
        strips = [self._title(size.width)]
        footer = size.height >= 6
        height = size.height - 1 - (2 if footer else 0)
        if height < 1:
            return strips
        if not any(any(math.isfinite(value) for value in line.ys) for line in self.series):
            strips.append(Strip([Segment("  no points yet", self.get_component_rich_style("chart--number"))]))
            return strips
        gutter = 9 if size.width >= 30 else 7
        drawn = plot(self.series, size.width - gutter, height, log=self.logarithmic)
        labels = {row: words.number(value) for row, value in drawn.ticks}
        number = self.get_component_rich_style("chart--number")
        axis = self.get_component_rich_style("chart--axis")
        for row, cells in enumerate(drawn.cells):
            label = labels.get(row, "")
            strips.append(
                Strip(
                    [
                        Segment(label[: gutter - 2].rjust(gutter - 2) + " ", number),
                        Segment("┤" if label else "│", axis),
                        *self._cells(cells),
                    ]
                )
            )
        if footer:
            strips += self._footer(drawn, gutter, size.width)
        return strips

    def _cells(self, cells: Sequence[tuple[str, int]]) -> list[Segment]:
        segments: list[Segment] = []
        text, slot = "", -2
        for character, own in cells:
            if own != slot and text:
                segments.append(Segment(text, self._line_style(slot)))
                text = ""
            slot = own
            text += character
        segments.append(Segment(text, self._line_style(slot)))
        return segments

    def _line_style(self, slot: int):  # type: ignore[no-untyped-def]
        return self.rich_style if slot < 0 else self.get_component_rich_style(f"chart--line-{slot % SLOTS}")

    def _title(self, width: int) -> Strip:
        segments = [Segment(self.title, self.get_component_rich_style("chart--title"))]
        if self.logarithmic:
            segments.append(Segment(" log", self.get_component_rich_style("chart--number")))
        for line in self.series:
            last = next((value for value in reversed(line.ys) if math.isfinite(value)), None)
            label = f" {line.label}" if line.label else ""
            segments.append(Segment("  ━" + label, self._line_style(line.slot)))
            segments.append(Segment(f" {words.number(last)}", self.get_component_rich_style("chart--number")))
        strip = Strip(segments)
        return strip.crop(0, width) if strip.cell_length > width else strip

    def _footer(self, drawn: Plot, gutter: int, width: int) -> list[Strip]:
        low, high = (words.number(value) if value % 1 else f"{value:,.0f}" for value in (drawn.x.low, drawn.x.high))
        room = width - gutter
        text = low + " " * max(1, room - len(low) - len(high)) + high if drawn.x.high > drawn.x.low else low
        return [
            Strip(
                [
                    Segment(" " * (gutter - 1), self.rich_style),
                    Segment("└" + "─" * room, self.get_component_rich_style("chart--axis")),
                ]
            ),
            Strip(
                [
                    Segment(" " * gutter, self.rich_style),
                    Segment(text[:room], self.get_component_rich_style("chart--number")),
                ]
            ),
        ]
