"""Models: every version with its verdict, where it came from, and the two decisions a person makes: promote and roll back."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from mlops_local.domain.names import counted
from mlops_local.domain.runs import short_id
from mlops_local.tui import words
from mlops_local.tui.messages import AskVersions, Decided, Promote, Rollback, Versions
from mlops_local.tui.screens.confirm import Confirm
from mlops_local.tui.screens.frame import Frame, now, put
from mlops_local.tui.screens.run import RunScreen
from mlops_local.tui.views import VersionRow
from mlops_local.tui.widgets.grid import Column, Grid, Row
from mlops_local.tui.widgets.verdict import verdict_text

COLUMNS = (
    Column("mark", "", 1),
    Column("version", "version", 12, grow=1),
    Column("metric", "metric", 10, right=True, rank=3),
    Column("interval", "95 % interval", 18, rank=20),
    Column("verdict", "verdict", 14, rank=4),
    Column("state", "state", 8, rank=10),
    Column("served", "served", 6, rank=12),
    Column("candidate", "candidate", 10, rank=15),
    Column("made", "made", 7, right=True, rank=5),
)


class ModelsScreen(Frame):
    """The registry."""

    mode = "models"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "promote", "Promote"),
        Binding("b", "rollback", "Roll back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[str, VersionRow] = {}
        self._wanted_version = ""

    def body(self) -> ComposeResult:
        """Lay out list and detail."""
        with Container(id="columns"):
            yield Grid(COLUMNS, id="versions")
            with VerticalScroll(id="detail", can_focus=False):
                yield Static("", id="verdict")
                yield Static("", id="lineage")
        with Vertical(id="empty"):
            yield Static("", id="nothing")

    def on_mount(self) -> None:
        """Start in the list."""
        self.query_one("#empty").display = False
        self.query_one(Grid).focus()

    def ask(self) -> None:
        """Ask for every version."""
        self.post_message(AskVersions(self))

    def on_versions(self, event: Versions) -> None:
        """Show them."""
        self._rows = {item.version.id: item for item in event.rows}
        self.query_one("#columns").display = bool(event.rows)
        self.query_one("#empty").display = not event.rows
        if not event.rows:
            put(self, "#nothing", words.empty("No model version yet.", "mlops train", "makes and judges the first one"))
        self._fill(0, 400, fresh=True)
        if self._wanted_version in self._rows:
            self.select(self._wanted_version)
        self._wanted_version = ""
        self._show_detail()

    def _fill(self, start: int, stop: int, *, fresh: bool = False) -> None:
        rows = list(self._rows.values())
        self.query_one(Grid).fill(len(rows), start, [_row(item) for item in rows[start:stop]], fresh=fresh)

    @on(Grid.Wanted)
    def _wanted(self, event: Grid.Wanted) -> None:
        self._fill(event.first, event.after)

    @on(Grid.Moved)
    def _moved(self, event: Grid.Moved) -> None:
        self._show_detail()
        if isinstance(event, Grid.Chosen):
            version = self._rows[event.key].version
            self.app.push_screen(RunScreen(version.run))

    def on_resize(self) -> None:
        """Drawings fit the width."""
        self.call_after_refresh(self._show_detail)

    def on_decided(self, event: Decided) -> None:
        """It is in the ledger."""
        self.notify(event.text, markup=False)
        self.ask()

    @property
    def selected(self) -> VersionRow | None:
        """The version under the cursor."""
        return self._rows.get(self.query_one(Grid).cursor_key)

    def select(self, version: str) -> None:
        """Put the cursor on a version."""
        if version in self._rows:
            self.query_one(Grid).cursor = list(self._rows).index(version)
        self._wanted_version = version

    def _champion(self, model: str) -> VersionRow | None:
        return next((item for item in self._rows.values() if item.version.model == model and item.champion), None)

    def _show_detail(self) -> None:
        item = self.selected
        if item is None:
            return
        width = max(30, self.query_one("#detail").size.width - 4)
        warning = [Content.styled(f"! {item.warning}", words.WARN)] if item.warning else []
        put(self, "#verdict", words.lines([title(item), *warning, "", verdict_text(item.verdict, width)]))
        put(self, "#lineage", lineage(item))

    def action_promote(self) -> None:
        """Make the version under the cursor the champion, after a question."""
        item = self.selected
        if item is None:
            return
        version = item.version
        if item.champion:
            self.notify(f"{version.id} is the champion already.", markup=False)
            return
        champion = self._champion(version.model)
        expect = champion.version.id if champion else ""

        def decided(reason: str | None) -> None:
            if reason:
                self.post_message(Promote(self, version.id, reason, expect))

        self.app.push_screen(Confirm(f"Promote {version.id}?", promotion_text(item, champion), "Promote"), decided)

    def action_rollback(self) -> None:
        """Give the model of the version under the cursor its champion before this one."""
        item = self.selected
        if item is None:
            return
        model = item.version.model
        champion = self._champion(model)
        if champion is None:
            self.notify(f"{model} has no champion to roll back from.", markup=False)
            return

        def decided(reason: str | None) -> None:
            if reason:
                self.post_message(Rollback(self, model, reason))

        text = words.lines(
            [
                f"The champion before {champion.version.id} becomes champion again.",
                f"{champion.version.id} is rejected. Running servers swap within two seconds.",
            ]
        )
        self.app.push_screen(Confirm(f"Roll back {model}?", text, "Roll back"), decided)


def _row(item: VersionRow) -> Row:
    version = item.version
    return Row(
        version.id,
        {
            "mark": Content.styled("★", words.GOOD) if item.champion else "",
            "version": Content.styled(version.id, words.STRONG if item.champion else ""),
            "metric": words.number(version.value),
            "interval": Content.styled(words.interval(version.low, version.high), words.MUTED),
            "verdict": words.verdict_text(item.verdict.verdict if item.verdict else ""),
            "state": words.version_state(version.state),
            "served": Content.styled("●", words.GOOD) if item.deployed else "",
            "candidate": Content.styled(version.candidate, words.MUTED),
            "made": Content.styled(words.ago(version.created, now()), words.MUTED),
        },
    )


def title(item: VersionRow) -> Content:
    """Version, aliases and state."""
    version = item.version
    return Content.assemble(
        (version.id, words.STRONG),
        "  ",
        words.version_state(version.state),
        *((f"  ★ {alias}" if alias == "champion" else f"  {alias}", words.GOOD) for alias in item.aliases),
        ("  ● served" if item.deployed else "", words.GOOD),
    )


def lineage(item: VersionRow) -> Content:
    """Where a version came from: run, data, evaluation rows and bundle, and its other metrics."""
    version = item.version
    rows: list[tuple[str, Content | str]] = [
        (
            "run",
            Content.assemble((short_id(version.run), words.LIVE), ("  enter opens it", words.FAINT)) if version.run else "",
        ),
        ("candidate", version.candidate),
        *((f"data {source}", snapshot[:8]) for source, snapshot in sorted(version.snapshots.items())),
        ("judged on", Content.assemble("rows ", version.evaluation[:8])),
        ("bundle", f"{version.bundle_hash[:8]}  {counted(len(version.bundle), 'file')}"),
        ("made", words.local_time(version.created)),
    ]
    metrics = [(name, words.number(value)) for name, value in sorted(version.metrics.items())]
    parts: list[Content | str] = ["", Content.styled("lineage", words.STRONG), words.facts(rows)]
    if metrics:
        parts += ["", Content.styled("metrics", words.STRONG), words.facts(metrics)]
    return words.lines(parts)


def promotion_text(item: VersionRow, champion: VersionRow | None) -> Content:
    """What a promotion would change, with the numbers and a warning where the gates did not pass."""
    version = item.version
    lines: list[Content | str] = []
    if champion:
        lines.append(
            f"{version.metric}: {words.number(version.value)} {words.interval(version.low, version.high)}"
            f" in place of {champion.version.id} with {words.number(champion.version.value)}"
        )
    else:
        lines.append(f"{version.metric}: {words.number(version.value)} {words.interval(version.low, version.high)}")
    verdict = item.verdict.verdict if item.verdict else "none"
    if verdict != "pass":
        lines.append(Content.styled(f"! Its verdict is {verdict}: this promotes it past its gates.", words.WARN))
    lines.append(Content.styled("Running servers swap within two seconds.", words.MUTED))
    return words.lines(lines)
