"""A question before a decision: says what will change and asks why. Returns the reason, or None."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from mlops_local.tui import words


class Confirm(ModalScreen[str | None]):
    """Enter decides once there is a reason; Escape leaves everything as it is."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel")]

    def __init__(self, title: str, text: Content, verb: str) -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._verb = verb

    def compose(self) -> ComposeResult:
        """Lay out question, reason and buttons."""
        with Vertical(id="dialog"):
            yield Static(Content.styled(self._title, words.STRONG), id="title")
            yield Static(self._text, id="text")
            yield Static(Content.styled("why? it goes into the ledger", words.MUTED), id="why")
            yield Input(placeholder="a few words", id="reason", compact=True)
            with Horizontal(id="buttons"):
                yield Button(Content(f"{self._verb}  ⏎"), id="yes", compact=True, disabled=True, variant="primary")
                yield Button(Content("Cancel  esc"), id="no", compact=True)

    def on_mount(self) -> None:
        """Start in the reason."""
        self.query_one(Input).focus()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self.query_one("#yes", Button).disabled = not event.value.strip()

    @on(Input.Submitted)
    @on(Button.Pressed, "#yes")
    def _decide(self) -> None:
        reason = self.query_one(Input).value.strip()
        if reason:
            self.dismiss(reason)
        else:
            self.query_one("#why", Static).update(Content.styled("say why in a few words: it goes into the ledger", words.WARN))
            self.query_one(Input).focus()

    @on(Button.Pressed, "#no")
    def action_cancel(self) -> None:
        """Leave everything as it is."""
        self.dismiss(None)
