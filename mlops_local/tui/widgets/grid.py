"""A table of any length that holds only the rows near the ones on screen.

The owner says how many rows there are and answers `Wanted` with pages; the widget draws lines, keeps the cursor and the
marks by key, and never keeps more than `KEPT` rows. Textual's DataTable measures every row it is given (1.2 s for 10,000).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.style import Style
from textual.visual import Visual

PAGE = 100
KEPT = 500
GAP = 2


@dataclass(frozen=True)
class Column:
    """One column: how wide it wants to be and how long it stays when space is short."""

    key: str
    title: str
    width: int
    right: bool = False
    grow: int = 0
    """Share of the space left over."""
    rank: int = 0
    """Columns of high rank leave first."""


@dataclass(frozen=True)
class Row:
    """One row: what it stands for, and a text for each column's key."""

    key: str
    cells: Mapping[str, Content | str]


def fit(columns: Sequence[Column], width: int) -> list[tuple[Column, int]]:
    """Choose the columns that fit in `width` cells and how wide each is."""
    shown = list(columns)
    while len(shown) > 1 and sum(column.width + GAP for column in shown) - GAP > width:
        shown.remove(max(reversed(shown), key=lambda column: column.rank))
    spare = max(0, width - sum(column.width + GAP for column in shown) + GAP)
    shares = sum(column.grow for column in shown)
    return [(column, column.width + (spare * column.grow // shares if shares else 0)) for column in shown]


class Grid(ScrollView, can_focus=True):
    """The table. `cursor` is an index; `cursor_key` survives rows moving about."""

    DEFAULT_CSS = """
    Grid {
        background: $background;
        color: $foreground;
        scrollbar-size-vertical: 1;
        overflow-x: hidden;
        & > .grid--head { color: $text-muted; text-style: none; }
        & > .grid--cursor { background: $block-cursor-background; color: $block-cursor-foreground; }
        & > .grid--blurred { background: $block-cursor-blurred-background; }
        & > .grid--mark { color: $accent; text-style: bold; }
        &:nocolor > .grid--blurred { text-style: underline; }
        &:nocolor > .grid--head { text-style: bold; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"grid--head", "grid--cursor", "grid--blurred", "grid--mark"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "step(-1)", "Up", show=False),
        Binding("down,j", "step(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "leap(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f", "leap(1)", "Page down", show=False),
        Binding("home,g", "goto(0)", "First", show=False),
        Binding("end,G", "goto(-1)", "Last", show=False),
        Binding("enter", "choose", "Open"),
    ]

    cursor: reactive[int] = reactive(0)
    total: reactive[int] = reactive(0)

    class Wanted(Message):
        """Rows are on screen that the grid does not hold."""

        def __init__(self, grid: Grid, start: int, stop: int) -> None:
            super().__init__()
            self.grid = grid
            self.first = start
            self.after = stop

        @property
        def control(self) -> Grid:
            """The grid that asks."""
            return self.grid

    class Moved(Message):
        """The cursor stands on another row."""

        def __init__(self, grid: Grid, key: str) -> None:
            super().__init__()
            self.grid = grid
            self.key = key

        @property
        def control(self) -> Grid:
            """The grid it happened in."""
            return self.grid

    class Chosen(Moved):
        """The row under the cursor was opened."""

    def __init__(self, columns: Sequence[Column] = (), *, id: str | None = None, gutter: bool = False) -> None:
        super().__init__(id=id)
        self.columns = tuple(columns)
        self.marks: frozenset[str] = frozenset()
        self._rows: dict[int, Row] = {}
        self._asked: set[int] = set()
        self._announced = ""
        self._lead = 2 if gutter else 0

    # What the owner tells

    def set_columns(self, columns: Sequence[Column]) -> None:
        """Show other columns."""
        if tuple(columns) != self.columns:
            self.columns = tuple(columns)
            self.refresh()

    def mark(self, keys: Iterable[str]) -> None:
        """Show these rows as marked."""
        self.marks = frozenset(keys)
        self.refresh()

    def fill(self, total: int, start: int, rows: Sequence[Row], *, fresh: bool = False) -> None:
        """Take a page of rows.

        Args:
            total: rows there are in all.
            start: the index of the first row of the page.
            rows: the page.
            fresh: forget every other row: the answer to a changed question, or to changed data.
        """
        key = self.cursor_key
        if fresh:
            self._rows.clear()
            self._asked.clear()
        self._asked.discard(start // PAGE)
        self._rows.update(enumerate(rows, start))
        self.total = total
        self._follow(key if fresh else "", start, rows)
        self._shed()
        self._announce()
        self._want()
        self.refresh()

    def update_row(self, row: Row) -> None:
        """Replace the row with this key, if it is held."""
        for index, held in self._rows.items():
            if held.key == row.key:
                self._rows[index] = row
                self.refresh()
                return

    @property
    def cursor_key(self) -> str:
        """The key of the row under the cursor, or empty while it is not known."""
        row = self._rows.get(self.cursor)
        return row.key if row else ""

    @property
    def held(self) -> int:
        """How many rows are materialised."""
        return len(self._rows)

    @property
    def keys(self) -> list[str]:
        """Keys of the rows held, in order."""
        return [self._rows[index].key for index in sorted(self._rows)]

    @property
    def span(self) -> tuple[int, int]:
        """First and one past the last row on screen."""
        first = max(0, min(round(self.scroll_y), self.total))
        return first, min(self.total, first + max(self._body, 1))

    @property
    def _body(self) -> int:
        return self.scrollable_content_region.height - 1

    def _follow(self, key: str, start: int, rows: Sequence[Row]) -> None:
        """Keep the cursor on its row when rows came in above it; at the very top it stays at the top."""
        if key and self.cursor > 0:
            for index, row in enumerate(rows, start):
                if row.key == key:
                    if index != self.cursor:
                        self.scroll_to(y=self.scroll_y + index - self.cursor, animate=False, force=True)
                        self.cursor = index
                    return
        self.cursor = max(0, min(self.cursor, self.total - 1))

    def _shed(self) -> None:
        if len(self._rows) > KEPT:
            first, last = self.span
            middle = (first + last) // 2
            for index in sorted(self._rows, key=lambda place: abs(place - middle))[KEPT:]:
                del self._rows[index]

    def _want(self) -> None:
        if not self.is_attached or not self.size:
            return
        first, last = self.span
        for page in range(first // PAGE, max(first, last - 1) // PAGE + 1):
            if page * PAGE >= self.total or page in self._asked:
                continue
            wanted = range(max(first, page * PAGE), min(last, (page + 1) * PAGE))
            if any(index not in self._rows for index in wanted):
                self._asked.add(page)
                self.post_message(self.Wanted(self, page * PAGE, (page + 1) * PAGE))

    def _announce(self) -> None:
        key = self.cursor_key
        if key and key != self._announced:
            self._announced = key
            self.post_message(self.Moved(self, key))

    # Reactions

    def watch_total(self, total: int) -> None:
        """The scrollbar is exact from the start."""
        self.virtual_size = Size(0, total + 1)

    def watch_cursor(self, cursor: int) -> None:
        """Keep the cursor on screen and say where it is."""
        self.scroll_to_region(Region(0, cursor, 1, 2), animate=False, force=True, x_axis=False)
        self._announce()
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Ask for what came into sight."""
        super().watch_scroll_y(old_value, new_value)
        self._want()

    def watch_has_focus(self, _: bool) -> None:
        """The cursor looks different without focus."""
        self.refresh()

    def on_resize(self) -> None:
        """More rows may be in sight."""
        self._want()

    def action_step(self, by: int) -> None:
        """Move the cursor by rows."""
        self.cursor = max(0, min(self.total - 1, self.cursor + by))

    def action_leap(self, by: int) -> None:
        """Move the cursor by screens."""
        self.action_step(by * max(1, self._body - 1))

    def action_goto(self, index: int) -> None:
        """Move the cursor to the first or last row."""
        self.cursor = max(0, self.total - 1) if index < 0 else index

    def action_choose(self) -> None:
        """Open the row under the cursor."""
        if self.cursor_key:
            self.post_message(self.Chosen(self, self.cursor_key))

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor; a second one on the same row opens it."""
        index = round(self.scroll_y) + event.y - 1
        if event.y >= 1 and 0 <= index < self.total:
            again = index == self.cursor and event.chain == 2
            self.cursor = index
            if again:
                self.action_choose()

    # Drawing

    def render_line(self, y: int) -> Strip:
        """Draw the head or one row."""
        width = self.scrollable_content_region.width
        columns = fit(self.columns, width - self._lead)
        if y == 0:
            head = {column.key: column.title for column, _ in columns}
            return self._draw(" " * self._lead, head, columns, width, ("grid--head",))
        index = round(self.scroll_y) + y - 1
        if index >= self.total:
            return Strip([Segment(" " * width, self.rich_style)], width)
        row = self._rows.get(index)
        if row is None:
            cells: Mapping[str, Content | str] = {columns[0][0].key: Content.styled("·", "$faint")}
        else:
            cells = row.cells
        classes: tuple[str, ...] = ()
        if index == self.cursor:
            classes = ("grid--cursor",) if self.has_focus else ("grid--blurred",)
        lead: Content | str = " " * self._lead
        if self._lead and row and row.key in self.marks:
            lead = Content.styled("◆ ", self.get_visual_style("grid--mark", partial=True))
        return self._draw(lead, cells, columns, width, classes)

    def _draw(
        self,
        lead: Content | str,
        cells: Mapping[str, Content | str],
        columns: Sequence[tuple[Column, int]],
        width: int,
        classes: tuple[str, ...],
    ) -> Strip:
        parts: list[Content | str] = [lead]
        for place, (column, cells_wide) in enumerate(columns):
            value = cells.get(column.key, "")
            text = value if isinstance(value, Content) else Content(value)
            text = text.truncate(cells_wide, ellipsis=True)
            spare = cells_wide - text.cell_length
            text = text.pad_left(spare) if column.right else text.pad_right(spare)
            parts += [text] if place == len(columns) - 1 else [text, " " * GAP]
        style = self.get_visual_style(*classes)
        if self.app.no_color and "grid--cursor" in classes:
            style += Style(reverse=True)  # a visual style leaves out the reverse of its rule
        strips = Visual.to_strips(self, Content.assemble(*parts), width, 1, style, apply_selection=False)
        strip = strips[0] if strips else Strip.blank(width)
        return strip.adjust_cell_length(width, style.rich_style)
