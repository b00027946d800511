"""The line at the top: where you are, where you can go, and what is going on. Clicks go up as messages."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from mlops_local.tui import words

TABS = (("home", "h", "Home"), ("runs", "r", "Runs"), ("models", "m", "Models"))


class Tab(Static):
    """One place to go."""

    class Picked(Message):
        """A tab was clicked."""

        def __init__(self, mode: str) -> None:
            super().__init__()
            self.mode = mode

    def __init__(self, mode: str, key: str, title: str, *, active: bool) -> None:
        super().__init__(
            Content.assemble((key, words.LIVE), " ", title) if not active else Content.styled(f"{key} {title}", words.STRONG),
            classes="tab -active" if active else "tab",
        )
        self.mode = mode

    def on_click(self) -> None:
        """Say which tab was clicked."""
        self.post_message(self.Picked(self.mode))


class Bar(Horizontal):
    """Project, tabs, and at the right what runs or what we wait for."""

    def __init__(self, mode: str, trail: str = "") -> None:
        super().__init__(id="bar")
        self._mode = mode
        self._trail = trail

    def compose(self) -> ComposeResult:
        """Lay out the line."""
        yield Static(Content.styled("mlops", f"{words.STRONG} {words.LIVE}"), id="brand")
        for mode, key, title in TABS:
            yield Tab(mode, key, title, active=mode == self._mode)
        yield Static(self._trail_text(), id="trail")
        yield Static("", id="activity")

    def on_mount(self) -> None:
        """Follow what the application says of itself."""
        self.watch(self.app, "activity", self._show_activity)

    def say(self, trail: str) -> None:
        """Show where in the tab we are."""
        self._trail = trail
        self.query_one("#trail", Static).update(self._trail_text())

    def _trail_text(self) -> Content:
        return Content.assemble(("› ", words.FAINT), self._trail) if self._trail else Content("")

    def _show_activity(self, text: Content) -> None:
        self.query_one("#activity", Static).update(text)
