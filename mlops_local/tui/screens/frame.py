"""What every screen shares: the bar above, the footer below, and asking again when there is news."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, Static

from mlops_local.tui import words
from mlops_local.tui.messages import Changed
from mlops_local.tui.widgets.bar import Bar

WIDE = 130
"""From this width on, lists have a panel beside them."""


class Frame(Screen[None]):
    """A screen between bar and footer. `mode` names the tab it belongs to."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (WIDE, "-wide")]  # noqa: RUF012  (an instance variable of Screen, by its type)
    VERTICAL_BREAKPOINTS = [(0, "-low"), (34, "-high")]  # noqa: RUF012  (the same)
    mode: ClassVar[str] = ""
    trail: str = ""

    def compose(self) -> ComposeResult:
        """Lay out bar, body and footer."""
        yield Bar(self.mode, self.trail)
        with Container(id="body"):
            yield from self.body()
        yield Footer(show_command_palette=False, compact=True)

    def body(self) -> ComposeResult:
        """Lay out what is between bar and footer."""
        yield from ()

    def ask(self) -> None:
        """Ask the bridge for what this screen shows."""

    def on_screen_resume(self) -> None:
        """Coming back to a screen shows what is true now."""
        self.ask()

    def on_changed(self, _: Changed) -> None:
        """There is news in the store."""
        self.ask()

    @property
    def wide(self) -> bool:
        """Whether there is room for a panel beside a list."""
        return self.size.width >= WIDE

    @property
    def bar(self) -> Bar:
        """The line at the top."""
        return self.query_one(Bar)


class Child(Frame):
    """A screen one level in: Escape goes back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "app.back", "Back", key_display="esc"),
    ]


def now() -> datetime:
    """The present, for words like `5 min`."""
    return datetime.now(timezone.utc)


def heading(text: str, note: Content | str = "", *, id: str | None = None) -> Static:
    """The line above a part of a screen."""
    parts: list[Content | tuple[str, str]] = [(text, words.STRONG)]
    if str(note):
        parts.append(Content.assemble("  ", (str(note), words.MUTED)))
    return Static(Content.assemble(*parts), classes="heading", id=id)


def put(screen: Widget, selector: str, content: Content | str) -> None:
    """Show a text in a Static; plain strings are never read as markup."""
    screen.query_one(selector, Static).update(content if isinstance(content, Content) else Content(content))
