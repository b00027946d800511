"""Runs: a list of any length with a filter, marks to compare, and the selected run beside it where there is room."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Input, Static

from mlops_local.domain.names import counted
from mlops_local.domain.runs import Run
from mlops_local.tui import words
from mlops_local.tui.live import join_all
from mlops_local.tui.messages import AskCurves, AskRuns, Live, Refused, Runs, RunShown
from mlops_local.tui.screens.compare import CompareScreen
from mlops_local.tui.screens.frame import Frame, now, put
from mlops_local.tui.screens.rows import columns, metric_keys, row
from mlops_local.tui.screens.run import RunScreen, summary
from mlops_local.tui.views import LiveRun, RunsPage, RunsQuery, RunView
from mlops_local.tui.widgets.curves import Curves, charts_of
from mlops_local.tui.widgets.grid import PAGE, Grid

TYPING_S = 0.2
"""How long after the last key a filter is asked for."""
BROWSING_S = 0.15
"""How long the cursor rests on a run before its curves are asked for."""


class RunsScreen(Frame):
    """The list."""

    mode = "runs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("space", "mark", "Mark"),
        Binding("c", "compare", "Compare"),
        Binding("o", "order", "Order"),
        Binding("escape", "clear", "Clear", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.wanted = RunsQuery()
        """What was asked for last."""
        self._total = 0
        self._runs: dict[str, Run] = {}
        self._live: dict[str, LiveRun] = {}
        self._keys: list[str] = []
        self._metrics: list[str] = []
        """The same in an order of their own, for going through them."""
        self._marks: dict[str, None] = {}
        self._shown: RunView | None = None
        self._typing: Timer | None = None
        self._browsing: Timer | None = None

    def body(self) -> ComposeResult:
        """Lay out filter, list and panel."""
        with Horizontal(id="filter"):
            yield Static(Content.styled("/", words.LIVE), id="slash")
            yield Input(placeholder="a name, or: state = failed and metric.auc > 0.7", compact=True, id="query")
            yield Static("", id="count")
        yield Static("", id="problem")
        with Horizontal(id="split"):
            yield Grid(columns([]), id="runs", gutter=True)
            with VerticalScroll(id="beside", can_focus=False):
                yield Static("", id="facts")
                yield Curves(id="curves", limit=4)
        with Vertical(id="empty"):
            yield Static("", id="nothing")

    def on_mount(self) -> None:
        """Start in the list."""
        self.query_one(Grid).focus()
        self.query_one("#problem").display = False
        self.query_one("#empty").display = False
        self.set_interval(1.0, self._refresh_running)

    # Asking

    def ask(self) -> None:
        """Ask for the pages on screen."""
        first, last = self.query_one(Grid).span
        start = first // PAGE * PAGE
        pages = max(1, (last - 1) // PAGE - first // PAGE + 1)
        self.post_message(AskRuns(self, self.wanted, start, pages * PAGE))

    @on(Grid.Wanted)
    def _page_wanted(self, event: Grid.Wanted) -> None:
        self.post_message(AskRuns(self, self.wanted, event.first, event.after - event.first))

    @on(Input.Changed, "#query")
    def _typed(self, event: Input.Changed) -> None:
        if self._typing:
            self._typing.stop()
        self.wanted = replace(self.wanted, text=event.value.strip())
        self._typing = self.set_timer(TYPING_S, self._asked_anew)

    def _asked_anew(self) -> None:
        self.query_one(Grid).action_goto(0)
        self.post_message(AskRuns(self, self.wanted, 0, PAGE))

    @on(Input.Submitted, "#query")
    def _filter_done(self) -> None:
        self.query_one(Grid).focus()

    @on(Grid.Moved, "#runs")
    def _moved(self, event: Grid.Moved) -> None:
        if isinstance(event, Grid.Chosen):
            self._open(event.key)
        elif self.wide:
            if self._browsing:
                self._browsing.stop()
            self._browsing = self.set_timer(BROWSING_S, self._ask_curves)

    def _ask_curves(self) -> None:
        key = self.query_one(Grid).cursor_key
        if key and self.wide:
            self.post_message(AskCurves(self, key))

    def on_resize(self) -> None:
        """With more room the panel has to be filled."""
        self.call_after_refresh(self._ask_curves)

    # Answers

    def on_runs(self, event: Runs) -> None:
        """Show a page, if it still answers the question."""
        page = event.page
        if page.query != self.wanted:
            return
        fresh = page.start <= self.query_one(Grid).span[0] < page.start + max(PAGE, len(page.rows))
        self._take(page, fresh=fresh)

    def _take(self, page: RunsPage, *, fresh: bool) -> None:
        grid = self.query_one(Grid)
        if fresh:
            self._runs = {}
            first = (self.wanted.sort.lstrip("-").removeprefix("metric."),) if self.wanted.sort else ()
            self._keys = metric_keys(page.rows, first)
            self._metrics = metric_keys(page.rows) or self._metrics
            grid.set_columns(columns(self._keys))
        self._runs.update((run.id, run) for run in page.rows)
        self._total = page.total
        moment = now()
        rows = [row(run, self._keys, moment, self._live.get(run.id)) for run in page.rows]
        grid.fill(page.total, page.start, rows, fresh=fresh)
        held = set(grid.keys)
        self._runs = {key: run for key, run in self._runs.items() if key in held}
        self.query_one("#problem").display = False
        self._show_empty(page.total == 0)
        self._show_count()
        if fresh:
            self._ask_curves()

    def on_refused(self, event: Refused) -> None:
        """Say under the filter why it cannot be read; the list stays as it was."""
        if isinstance(event.request, AskRuns) and event.request.query == self.wanted:
            put(self, "#problem", Content.styled(event.text, words.WARN))
            self.query_one("#problem").display = True

    def on_run_shown(self, event: RunShown) -> None:
        """Show the selected run beside the list."""
        if event.view.run.id == self.query_one(Grid).cursor_key:
            self._shown = event.view
            self._show_panel()

    def on_live(self, event: Live) -> None:
        """Running runs moved on."""
        for live in event.runs:
            self._live[live.id] = live
            run = self._runs.get(live.id)
            if run:
                self.query_one(Grid).update_row(row(run, self._keys, now(), live))
        if self._shown and any(live.id == self._shown.run.id for live in event.runs):
            self._show_panel()

    def _refresh_running(self) -> None:
        moment = now()
        for run in self._runs.values():
            if run.state.value == "running":
                self.query_one(Grid).update_row(row(run, self._keys, moment, self._live.get(run.id)))

    def _show_panel(self) -> None:
        if self._shown is None:
            return
        view = self._shown
        live = self._live.get(view.run.id)
        put(self, "#facts", summary(view, live, now(), width=self.query_one("#beside").size.width - 4))
        curves = join_all(view.curves, live.curves if live else ())
        self.query_one(Curves).show(charts_of(curves))

    def _show_empty(self, nothing: bool) -> None:
        self.query_one("#split").display = not nothing
        self.query_one("#empty").display = nothing
        if nothing and self.wanted.text:
            put(self, "#nothing", words.empty(f"No run matches “{self.wanted.text}”.", "esc", "clears the filter"))
        elif nothing:
            put(
                self,
                "#nothing",
                words.empty("Nothing has run yet.", "mlops train", "runs the pipeline and makes the first run"),
            )

    def _show_count(self) -> None:
        parts: list[tuple[str, str]] = []
        if self._marks:
            parts += [(f"{len(self._marks)} marked", words.STRONG), ("  ", "")]
        if self.wanted.sort:
            parts += [(f"by {self.wanted.sort.lstrip('-')}", words.LIVE), ("  ", "")]
        parts += [(counted(self._total, "run"), words.MUTED)]
        put(self, "#count", Content.assemble(*parts))

    # Keys

    def action_filter(self) -> None:
        """Type a filter."""
        self.query_one(Input).focus()

    def action_clear(self) -> None:
        """Leave the filter; once more clears filter, then marks."""
        query, grid = self.query_one(Input), self.query_one(Grid)
        if query.value:
            query.value = ""
        elif not query.has_focus and self._marks:
            self._marks = {}
            grid.mark(())
            self._show_count()
        grid.focus()

    def action_mark(self) -> None:
        """Mark or unmark the run under the cursor and go on to the next."""
        grid = self.query_one(Grid)
        key = grid.cursor_key
        if not key:
            return
        if key in self._marks:
            del self._marks[key]
        else:
            self._marks[key] = None
        grid.mark(self._marks)
        grid.action_step(1)
        self._show_count()

    def action_compare(self) -> None:
        """Compare the marked runs; with one mark, it and the run under the cursor."""
        runs = list(self._marks)
        here = self.query_one(Grid).cursor_key
        if len(runs) < 2 and here and here not in runs:
            runs.append(here)
        if len(runs) < 2:
            self.notify("Mark two or more runs with space, then press c.", title="Compare", markup=False)
            return
        self.app.push_screen(CompareScreen(tuple(runs)))

    def action_order(self) -> None:
        """Sort by the next metric, best first, then by time taken, then newest first again."""
        orders = ["", *(f"{'' if words.lower_is_better(key) else '-'}metric.{key}" for key in self._metrics), "-seconds"]
        place = orders.index(self.wanted.sort) if self.wanted.sort in orders else 0
        self.wanted = replace(self.wanted, sort=orders[(place + 1) % len(orders)])
        self._asked_anew()

    def _open(self, key: str) -> None:
        run = self._runs.get(key)
        self.app.push_screen(RunScreen(key, run.name if run else ""))
