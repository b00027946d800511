"""Compare: what differs between runs, one column each, and their curves laid over each other."""

from __future__ import annotations

from itertools import groupby
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from mlops_local.tui import words
from mlops_local.tui.messages import AskComparison, Compared, Refused
from mlops_local.tui.screens.frame import Child, put
from mlops_local.tui.views import ComparisonView, Difference
from mlops_local.tui.widgets.curves import Curves, charts_of
from mlops_local.tui.widgets.grid import Column, Grid, Row


class CompareScreen(Child):
    """Several runs side by side."""

    mode = "runs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "all", "All / differing"),
        Binding("l", "log", "Log scale"),
    ]

    def __init__(self, runs: tuple[str, ...]) -> None:
        super().__init__()
        self.runs = runs
        self.trail = f"{len(runs)} runs compared"
        self._view: ComparisonView | None = None
        self._everything = False

    def body(self) -> ComposeResult:
        """Lay out table and charts."""
        yield Static("", id="lead")
        with Container(id="columns"):
            yield Grid(id="differences")
            with VerticalScroll(id="overlaid", can_focus=False):
                yield Curves(id="curves", limit=6)

    def on_mount(self) -> None:
        """Start in the table."""
        self.query_one(Grid).focus()

    def ask(self) -> None:
        """Ask for the comparison."""
        self.post_message(AskComparison(self, self.runs))

    def on_compared(self, event: Compared) -> None:
        """Show it."""
        self._view = event.view
        self._show()

    def on_refused(self, event: Refused) -> None:
        """One of the runs is gone, or they cannot be compared."""
        put(self, "#lead", Content.styled(event.text, words.WARN))

    @on(Grid.Wanted)
    def _wanted(self, event: Grid.Wanted) -> None:
        if self._view:
            rows = table(self._view, everything=self._everything)
            event.grid.fill(len(rows), event.first, rows[event.first : event.after])

    def action_all(self) -> None:
        """Switch between everything and only what differs."""
        self._everything = not self._everything
        self._show()

    def action_log(self) -> None:
        """Switch the charts between linear and logarithmic."""
        self.query_one(Curves).toggle_log()

    def _show(self) -> None:
        view = self._view
        if view is None:
            return
        grid = self.query_one(Grid)
        name = max([12, *(len(row.name) for row in view.rows)])
        grid.set_columns(
            [
                Column("name", "", min(34, name + 2)),
                *(Column(str(place), f"{_letter(place)} {run.name}", 14, grow=1) for place, run in enumerate(view.runs)),
            ]
        )
        rows = table(view, everything=self._everything)
        grid.fill(len(rows), 0, rows[:400], fresh=True)
        same = sum(not row.differs for row in view.rows)
        what = "everything" if self._everything else "what differs"
        rest = f"   {same} the same, a shows them" if not self._everything and same else ""
        put(self, "#lead", Content.assemble(what, (rest, words.MUTED)))
        names = [f"{_letter(place)} {run.name}" for place, run in enumerate(view.runs)]
        charts = charts_of(view.curves, names, [run.id for run in view.runs])
        self.query_one("#overlaid").display = bool(charts)
        self.query_one(Curves).show(charts)


def _letter(place: int) -> str:
    return chr(ord("A") + place % 26)


def table(view: ComparisonView, *, everything: bool) -> list[Row]:
    """The comparison as rows, one heading for each kind of difference."""
    shown = [row for row in view.rows if everything or row.differs]
    rows: list[Row] = []
    for kind, members in groupby(shown, key=lambda row: row.kind):
        if rows:
            rows.append(Row(f"{kind} before", {}))
        rows.append(Row(f"{kind} heading", {"name": Content.styled(kind, words.STRONG)}))
        rows += [_row(kind, member) for member in members]
    if not rows:
        rows.append(Row("same", {"name": Content.styled("no difference", words.MUTED)}))
    return rows


def _row(kind: str, member: Difference) -> Row:
    cells: dict[str, Content | str] = {"name": Content.styled("  " + member.name, words.MUTED)}
    for place, value in enumerate(member.values):
        if not value:
            cells[str(place)] = Content.styled("–", words.FAINT)
        elif place == member.best:
            cells[str(place)] = Content.assemble((value, words.GOOD), (" best", words.FAINT))
        else:
            cells[str(place)] = value
    return Row(f"{kind} {member.name}", cells)
