"""Help: every key and every mark on one page."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from mlops_local.tui import words

KEYS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "everywhere",
        (
            ("h  r  m", "Home, Runs, Models"),
            ("ctrl+p", "command palette: places, runs, versions, themes"),
            ("esc", "back"),
            ("↑ ↓  j k", "move"),
            ("pgup pgdn  g G", "by screens, first, last"),
            ("enter", "open what is under the cursor"),
            ("q", "quit"),
        ),
    ),
    (
        "runs",
        (
            ("/", "filter: part of a name, or `state = failed and metric.auc > 0.7`"),
            ("o", "order by each metric, by time taken, newest first"),
            ("space", "mark"),
            ("c", "compare the marked runs"),
        ),
    ),
    ("run", (("l", "charts linear or logarithmic"), ("s  p  o", "steps, parameters, output"))),
    ("compare", (("a", "everything, or only what differs"), ("l", "charts linear or logarithmic"))),
    ("models", (("p", "promote the version to champion"), ("b", "roll back to the champion before"))),
)
MARKS = (
    ("running", "runs now"),
    ("done", "ended well"),
    ("failed", "a step failed"),
    ("cancelled", "stopped by somebody"),
    ("crashed", "its process is gone without a last word"),
    ("reused", "the step did not run: its result was there"),
)


class HelpScreen(ModalScreen[None]):
    """Keys and marks."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q,enter", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        """Lay out the page."""
        with VerticalScroll(id="help"):
            yield Static(text())

    def on_mount(self) -> None:
        """Arrow keys scroll."""
        self.query_one(VerticalScroll).focus()


def text() -> Content:
    """The page."""
    width = max(len(key) for _, keys in KEYS for key, _ in keys) + 3
    lines: list[Content | str] = []
    for title, keys in KEYS:
        lines.append(Content.styled(title, words.STRONG))
        lines += [Content.assemble("  ", (key.ljust(width), words.LIVE), what) for key, what in keys]
        lines.append("")
    lines.append(Content.styled("marks", words.STRONG))
    for state, what in MARKS:
        lines.append(Content.assemble("  ", words.state_mark(state), " ", state.ljust(width - 2), (what, words.MUTED)))
    lines.append(
        Content.assemble("  ", ("★", words.GOOD), " ", "champion".ljust(width - 2), ("the version to be served", words.MUTED))
    )
    lines.append(Content.assemble("  ", ("◆", words.WARN), " ", "marked".ljust(width - 2), ("to be compared", words.MUTED)))
    return words.lines(lines)
