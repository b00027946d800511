"""The application: its three modes, the keys that work everywhere and its look. What it knows comes through the bridge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from textual import on
from textual.app import App
from textual.binding import Binding, BindingType
from textual.command import Provider
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
