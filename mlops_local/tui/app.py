"""The application: its three modes, the keys that work everywhere and its look. What it knows comes through the bridge."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rich.segment import Segment
from textual import on
from textual.app import App
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.command import Provider
from textual.filter import LineFilter
from textual.screen import Screen

from mlops_local.services.project import Project
from mlops_local.tui import commands
from mlops_local.tui.bridge import Bridge
from mlops_local.tui.screens.help import HelpScreen
from mlops_local.tui.screens.home import HomeScreen
from mlops_local.tui.screens.models import ModelsScreen
from mlops_local.tui.screens.run import RunScreen
from mlops_local.tui.screens.runs import RunsScreen
from mlops_local.tui.theme import DARK, LIGHT
from mlops_local.tui.widgets.bar import Tab

_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters of terminals and of writing direction: none reaches the terminal from a name or an output."""


class _Harmless(LineFilter):
    """Drops control characters from what is drawn; they take no cell, so that nothing moves."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            Segment(_UNSEEN.sub("", segment.text), segment.style)
            if segment.control is None and _UNSEEN.search(segment.text)
            else segment
            for segment in segments
        ]


_HARMLESS = _Harmless()


class MlopsApp(Bridge):
    """`mlops ui`."""

    TITLE = "mlops"
    CSS_PATH = "app.tcss"
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "home": HomeScreen,
        "runs": RunsScreen,
        "models": ModelsScreen,
    }
    DEFAULT_MODE = "home"
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = App.COMMANDS | {
        commands.Places,
        commands.Runs,
        commands.Versions,
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("h", "go('home')", "Home", show=False),
        Binding("r", "go('runs')", "Runs", show=False),
        Binding("m", "go('models')", "Models", show=False),
        Binding("ctrl+p", "command_palette", "Palette", key_display="^p"),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, project: Project) -> None:
        super().__init__(project)
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = DARK.name
        self.title = f"mlops · {project.config.name}"

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """What themes that are not ours leave open."""
        return {"muted": "#8c8c8c", "faint": "#707070"}

    def get_line_filters(self) -> Sequence[LineFilter]:
        """What every drawn line goes through."""
        return [*super().get_line_filters(), _HARMLESS]

    @on(Tab.Picked)
    def _picked(self, event: Tab.Picked) -> None:
        self.action_go(event.mode)

    def action_go(self, mode: str) -> None:
        """Go to a mode; from within it, back to its first screen."""
        if isinstance(self.screen, HelpScreen):
            self.pop_screen()
        if self.current_mode == mode:
            while len(self.screen_stack) > 1:
                self.pop_screen()
        else:
            self.switch_mode(mode)

    def action_back(self) -> None:  # type: ignore[override]
        """One screen back."""
        if len(self.screen_stack) > 1:
            self.pop_screen()

    def action_help(self) -> None:
        """Show every key."""
        if not self.screen.is_modal:
            self.push_screen(HelpScreen())

    def open_run(self, run: str, name: str) -> None:
        """Open a run from the palette."""
        self.push_screen(RunScreen(run, name))

    def open_version(self, version: str) -> None:
        """Select a version in Models from the palette."""
        self.switch_mode("models")
        if isinstance(self.screen, ModelsScreen):
            self.screen.select(version)
