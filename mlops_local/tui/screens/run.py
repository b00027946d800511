"""Run: one run whole, live while it runs: metrics, curves, steps with their reasons, parameters, output and error."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from mlops_local.domain.runs import Run, RunState, StepRun, short_id
from mlops_local.tui import words
from mlops_local.tui.live import join_all
from mlops_local.tui.messages import AskRun, Live, Refused, RunShown
from mlops_local.tui.screens.frame import Child, heading, now, put
from mlops_local.tui.views import LiveRun, RunView
from mlops_local.tui.widgets.curves import Curves, charts_of

LOG_LINES = 200


class RunScreen(Child):
    """One run."""

    mode = "runs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "log", "Log scale"),
        Binding("s", "jump('steps')", "Steps"),
        Binding("p", "jump('params')", "Params"),
        Binding("o", "jump('output')", "Output"),
        Binding("j,down", "scroll(2)", "Down", show=False),
        Binding("k,up", "scroll(-2)", "Up", show=False),
    ]

    def __init__(self, run: str, name: str = "") -> None:
        super().__init__()
        self.run = run
        self.trail = f"{name or 'run'} {short_id(run)}"
        self._view: RunView | None = None
        self._live: LiveRun | None = None

    def body(self) -> ComposeResult:
        """Lay out the parts; those without anything to say are not shown."""
        with VerticalScroll(id="page"):
            yield Static("", id="facts", classes="block")
            with Vertical(id="part-error", classes="part"):
                yield heading("error")
                yield Static("", id="error")
            with Container(id="columns"):
                with Vertical(id="left"):
                    with Vertical(id="part-metrics", classes="part"):
                        yield heading("metrics")
                        yield Static("", id="metrics")
                    with Vertical(id="part-steps", classes="part"):
                        yield heading("steps")
                        yield Static("", id="steps")
                    with Vertical(id="part-params", classes="part"):
                        yield heading("parameters")
                        yield Static("", id="params")
                with Vertical(id="part-curves", classes="part"):
                    yield Curves(id="curves")
            with Vertical(id="part-output", classes="part"):
                yield heading("output", "the end of what its steps printed")
                yield Static("", id="output")

    def on_mount(self) -> None:
        """Nothing is known yet."""
        for part in self.query(".part"):
            part.display = False
        put(self, "#facts", Content.styled("…", words.FAINT))
        self.query_one("#page").focus()
        self.set_interval(1.0, self._tick)

    def ask(self) -> None:
        """Ask for the run."""
        self.post_message(AskRun(self, self.run))

    def on_run_shown(self, event: RunShown) -> None:
        """Show it."""
        if event.view.run.id == self.run:
            self._view = event.view
            self._show()

    def on_refused(self, event: Refused) -> None:
        """There is no such run any more."""
        put(self, "#facts", words.empty(event.text, "esc", "goes back"))

    def on_live(self, event: Live) -> None:
        """It moved on."""
        for live in event.runs:
            if live.id == self.run:
                self._live = live
                self._show()

    def on_resize(self) -> None:
        """Texts are cut to the width there is."""
        self.call_after_refresh(self._show)

    def _tick(self) -> None:
        if self._view and self._view.run.state is RunState.RUNNING:
            put(self, "#facts", facts(self._view.run, now(), self._width))

    def _show(self) -> None:
        view, live = self._view, self._live
        if view is None:
            return
        width = self._width
        run = view.run
        self.bar.say(f"{run.name} {run.short}")
        put(self, "#facts", facts(run, now(), width))
        self._part("error", error_text(view))
        self._part("metrics", metrics_text({**run.metrics, **(live.metrics if live else {})}, self._column()))
        self._part("steps", steps_text(steps_now(view.steps, live), self._column()))
        self._part("params", words.facts([(key, words.short(value)) for key, value in sorted(view.params.items())]))
        self._part("output", output_text(view.log, width))
        curves = join_all(view.curves, live.curves if live else ())
        self.query_one(Curves).show(charts_of(curves))
        self.query_one("#part-curves").display = bool(curves)

    def _column(self) -> int:
        return self._width // 2 - 2 if self.wide else self._width

    @property
    def _width(self) -> int:
        return self.query_one("#page").size.width - 2

    def _part(self, name: str, content: Content) -> None:
        self.query_one(f"#part-{name}").display = bool(content)
        put(self, f"#{name}", content)

    def action_log(self) -> None:
        """Switch the charts between linear and logarithmic."""
        self.query_one(Curves).toggle_log()

    def action_jump(self, part: str) -> None:
        """Scroll to a part."""
        target = self.query_one(f"#part-{part}")
        if target.display:
            self.query_one("#page", VerticalScroll).scroll_to_widget(target, top=True, animate=False)

    def action_scroll(self, by: int) -> None:
        """Scroll by lines."""
        self.query_one("#page", VerticalScroll).scroll_relative(y=by, animate=False)


def facts(run: Run, moment: datetime, width: int) -> Content:
    """What a run is, in a few lines."""
    seconds = run.seconds
    started = words.moment(run.started)
    if seconds is None and run.state is RunState.RUNNING and started:
        seconds = (moment - started).total_seconds()
    first = Content.assemble(
        words.state_text(run.state.value),
        "  ",
        (run.name, words.STRONG),
        "  ",
        (run.short, words.MUTED),
        (f"  {run.message}" if run.message else "", ""),
    )
    details = [
        f"{run.kind} {' '.join(run.targets)}".strip(),
        f"{words.local_time(run.started)} ({words.ago(run.started, moment)})",
        words.duration(seconds),
        f"commit {run.commit[:8]}{' with changes' if run.dirty else ''}" if run.commit else "",
        "some points were lost" if run.incomplete else "",
    ]
    return words.lines([first, *(Content.styled(row, words.MUTED) for row in words.flow(filter(None, details), width))])


def metrics_text(metrics: Mapping[str, float], width: int) -> Content:
    """Metrics in as many columns as fit."""
    if not metrics:
        return Content("")
    name = max(len(key) for key in metrics)
    cell = name + 12
    across = max(1, min(3, width // (cell + 3)))
    items = [
        Content.assemble((key.ljust(name + 2), words.MUTED), words.number(value).rjust(10))
        for key, value in sorted(metrics.items())
    ]
    lines = [Content("   ").join(items[place : place + across]) for place in range(0, len(items), across)]
    return words.lines(lines)


def steps_now(stored: tuple[StepRun, ...], live: LiveRun | None) -> list[StepRun]:
    """The steps in their order, the tail's newer states over the stored ones."""
    steps = {step.name: step for step in stored}
    for step in live.steps if live else ():
        known = steps.get(step.name)
        if known is None or known.state == "running":
            steps[step.name] = step
    return list(steps.values())


def steps_text(steps: list[StepRun], width: int) -> Content:
    """One line a step: state, name, time, memory, and why it ran."""
    if not steps:
        return Content("")
    name = min(32, max(len(step.name) for step in steps))
    lines = []
    memory = 9 if width - name >= 50 else 0  # where space is short the reason says more
    for step in steps:
        reason = step.error.splitlines()[0] if step.error else step.reason
        room = max(8, width - name - 25 - memory)
        lines.append(
            Content.assemble(
                words.state_mark(step.state),
                " ",
                step.name[:name].ljust(name),
                (f"  {step.state:<9}", words.MUTED),
                (f"{words.duration(step.seconds):>8}", ""),
                (f"{words.size(step.peak_bytes) if step.peak_bytes else '':>9}" if memory else "", words.MUTED),
                (f"  {words.short(reason, room)}" if reason else "", words.BAD if step.error else words.MUTED),
            )
        )
    return words.lines(lines)


def error_text(view: RunView) -> Content:
    """What went wrong, as the user's own code said it."""
    return Content.styled(view.error.rstrip(), words.BAD) if view.error else Content("")


def output_text(log: str, width: int) -> Content:
    """The last lines of the output."""
    lines = [line.rpartition("\r")[2] for line in log.rstrip().split("\n")[-LOG_LINES:]]
    return Content.styled("\n".join(line[: max(20, width)] for line in lines), words.MUTED) if any(lines) else Content("")


def summary(view: RunView, live: LiveRun | None, moment: datetime, *, width: int) -> Content:
    """A run in short, for the panel beside the list."""
    metrics = metrics_text({**view.run.metrics, **(live.metrics if live else {})}, width)
    steps = steps_text(steps_now(view.steps, live)[-8:], width)
    params = words.facts([(key, words.short(value, max(8, width - 30))) for key, value in sorted(view.params.items())[:8]])
    parts: list[Content | str] = [facts(view.run, moment, width)]
    if view.error:
        parts += ["", Content.styled(view.error.strip().splitlines()[-1], words.BAD)]
    for part in (metrics, steps, params):
        if part:
            parts += ["", part]
    return words.lines(parts)
