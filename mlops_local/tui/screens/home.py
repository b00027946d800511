"""Home: what is live, what needs attention, what ran last."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.content import Content
from textual.widgets import Static

from mlops_local.domain.runs import Run
from mlops_local.tui import words
from mlops_local.tui.messages import AskHome, Home, Live
from mlops_local.tui.screens.frame import Frame, heading, now, put
from mlops_local.tui.screens.rows import columns, metric_keys, row
from mlops_local.tui.screens.run import RunScreen
from mlops_local.tui.views import Advice, HomeView, LiveModel, LiveRun
from mlops_local.tui.widgets import interval
from mlops_local.tui.widgets.curves import Curves, charts_of
from mlops_local.tui.widgets.grid import Grid


class HomeScreen(Frame):
    """The first screen."""

    mode = "home"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f5", "again", "Refresh", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._view: HomeView | None = None
        self._live: dict[str, LiveRun] = {}

    def body(self) -> ComposeResult:
        """Lay out the parts."""
        with Container(id="columns"):
            with Vertical(id="left"):
                yield Static(Content.styled("…", words.FAINT), id="models", classes="block")
                with Vertical(id="part-attention", classes="part"):
                    yield heading("needs attention")
                    yield Static("", id="attention")
                with Vertical(id="part-next", classes="part"):
                    yield heading("next")
                    yield Static("", id="next")
            with Vertical(id="right"):
                yield heading("newest runs", id="newest-heading")
                yield Static("", id="no-runs")
                yield Grid(columns([]), id="newest")
                with Vertical(id="part-curves"):
                    yield heading("", id="curves-heading")
                    yield Curves(id="curves", limit=1)

    def on_mount(self) -> None:
        """Start in the list of runs."""
        self.query_one(Grid).focus()
        for part in ("#part-attention", "#part-next", "#part-curves", "#no-runs"):
            self.query_one(part).display = False
        self.set_interval(1.0, self._tick)

    def ask(self) -> None:
        """Ask how the project stands."""
        self.post_message(AskHome(self))

    def on_home(self, event: Home) -> None:
        """Show it."""
        self._view = event.view
        self._show()

    def on_live(self, event: Live) -> None:
        """Running runs moved on."""
        self._live.update((live.id, live) for live in event.runs)
        if self._view:
            self._show_runs(self._view)

    def on_resize(self) -> None:
        """Drawings fit the width."""
        self.call_after_refresh(self._show)

    @on(Grid.Chosen)
    def _chosen(self, event: Grid.Chosen) -> None:
        self.app.push_screen(RunScreen(event.key))

    def action_again(self) -> None:
        """Ask again."""
        self.ask()

    def _tick(self) -> None:
        if self._view and any(run.state.value == "running" for run in self._view.newest):
            self._show_runs(self._view)

    def _show(self) -> None:
        view = self._view
        if view is None:
            return
        width = self.query_one("#models").size.width
        low = self.has_class("-low")
        if view.models:
            blocks = [model_text(model, width, short=low and len(view.models) > 1) for model in view.models]
            put(self, "#models", Content("\n\n").join(blocks))
        else:
            how = ("mlops train", "makes the first version") if view.trains else ("run.log_model()", "in a script makes one")
            put(self, "#models", words.empty("No model yet.", *how))
        attention = advice_lines(view.attention, width, limit=2 if low else 6)
        self.query_one("#part-attention").display = bool(attention)
        put(self, "#attention", words.lines(attention))
        self.query_one("#part-next").display = bool(view.next)
        commands = [(item.command, Content.styled(item.text, words.MUTED)) for item in view.next[: 3 if low else 5]]
        put(self, "#next", words.facts(commands, style=words.LIVE))
        self._show_runs(view)

    def _show_runs(self, view: HomeView) -> None:
        grid = self.query_one(Grid)
        self.query_one("#no-runs").display = not view.newest
        grid.display = bool(view.newest)
        if not view.newest:
            put(self, "#no-runs", words.empty("Nothing has run yet.", "mlops train", "or: mlops run python train.py"))
        keys = metric_keys(view.newest, [model.champion.metric for model in view.models if model.champion])
        grid.set_columns(columns(keys))
        moment = now()
        grid.fill(len(view.newest), 0, [row(run, keys, moment, self._live.get(run.id)) for run in view.newest], fresh=True)
        more = f"{len(view.newest)} of {view.runs:,}" if view.runs > len(view.newest) else ""
        put(self, "#newest-heading", Content.assemble(("newest runs", words.STRONG), (f"  {more}", words.MUTED)))
        self._show_curve(view)

    def _show_curve(self, view: HomeView) -> None:
        running = next((run for run in view.newest if run.state.value == "running" and self._curves(run)), None)
        self.query_one("#part-curves").display = running is not None
        if running is not None:
            put(self, "#curves-heading", Content.assemble(words.state_mark("running"), " ", (running.name, words.STRONG)))
            self.query_one(Curves).show(charts_of(self._live[running.id].curves))

    def _curves(self, run: Run) -> bool:
        live = self._live.get(run.id)
        return bool(live and charts_of(live.curves))


def advice_lines(items: Sequence[Advice], width: int, *, limit: int) -> list[Content]:
    """What needs attention, each with its command: on the same line where there is room, else below it."""
    lines: list[Content] = []
    for item in items[:limit]:
        text = Content.assemble(("! ", words.WARN), item.text)
        command = Content.assemble(("  →  ", words.FAINT), (item.command, words.LIVE))
        if text.cell_length + command.cell_length <= width:
            lines.append(text + command)
        else:
            rows = textwrap.wrap(item.text, max(20, width - 2), max_lines=3, placeholder=" …")
            lines += [Content.assemble(("! " if row is rows[0] else "  ", words.WARN), row) for row in rows]
            lines.append(command)
    if len(items) > limit:
        lines.append(Content.assemble((f"  and {len(items) - limit} more  →  ", words.FAINT), ("mlops status", words.LIVE)))
    return lines


def model_text(live: LiveModel, width: int, *, short: bool = False) -> Content:
    """A model: its champion and how good it is, and what is really served; `short` leaves out the drawing."""
    version = live.champion
    title = Content.styled(live.model, f"{words.STRONG} {words.LIVE}")
    if version is None:
        none = words.empty("no champion yet", f"mlops model promote {live.model}@N")
        return words.lines([title, words.facts([("champion", none), ("serving", served_text(live))])])
    verdict = live.verdict.verdict if live.verdict else ""
    champion = Content.assemble(
        (version.id, words.STRONG),
        (f"  {version.candidate}  ", words.MUTED),
        words.verdict_text(verdict),
        (f"  {words.ago(version.created, now())}", words.MUTED),
    )
    metric = Content.assemble(
        (words.number(version.value), words.STRONG), ("  " + words.interval(version.low, version.high), words.MUTED)
    )
    pairs: list[tuple[str, Content | str]] = [("champion", champion), (version.metric, metric)]
    gap = max(len("champion"), len(version.metric)) + 2
    lines = [title, words.facts(pairs)]
    if version.low is not None and version.high is not None and not short:
        scale = interval.scale_for([version.low, version.high, version.value], max(16, min(48, width - gap - 2)))
        lines.append(Content.assemble(" " * gap, interval.draw(version.low, version.value, version.high, scale=scale)))
    lines.append(Content.assemble(("serving".ljust(gap), words.MUTED), served_text(live)))
    return words.lines(lines)


def served_text(live: LiveModel) -> Content:
    """The fact beside the wish: which version a server really serves, and whether it is there."""
    served = live.served
    if served is None:
        return words.empty("nobody serves it", f"mlops serve {live.model}")
    if not served.alive:
        gone = Content.assemble(("✗ ", words.BAD), f"its server is gone (pid {served.pid}, port {served.port})")
        return Content.assemble(gone, ("  →  ", words.FAINT), ("mlops serve", f"{words.STRONG} {words.LIVE}"))
    same = live.champion is not None and live.champion.id == served.version
    mark = ("● ", words.GOOD) if same else ("! ", words.WARN)
    note = "" if same else "  not the champion"
    return Content.assemble(
        mark,
        served.version,
        (f"  port {served.port}  pid {served.pid}  since {words.ago(served.since, now())}", words.MUTED),
        (note, words.WARN),
    )
