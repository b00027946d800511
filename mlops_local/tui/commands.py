"""The command palette: every place, the newest runs and every model version, found by a few letters of their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider

from mlops_local.tui import words
from mlops_local.tui.views import HomeView, VersionRow

Command = tuple[str, str, Callable[[], object]]


class _Commands(Provider):
    """A list of commands, searched by name."""

    def commands(self) -> Iterator[Command]:
        """Name, explanation and what to call."""
        yield from ()

    async def discover(self) -> Hits:
        """What is shown before anything is typed."""
        for name, help, call in self.commands():
            yield DiscoveryHit(name, call, help=help)

    async def search(self, query: str) -> Hits:
        """What fits the letters typed."""
        matcher = self.matcher(query)
        for name, help, call in self.commands():
            score = matcher.match(name)
            if score > 0:
                yield Hit(score, matcher.highlight(name), call, help=help)


class Places(_Commands):
    """Where one can go."""

    def commands(self) -> Iterator[Command]:
        """The three screens."""
        for mode, help in (
            ("home", "what is live and what needs attention"),
            ("runs", "every run, filtered and compared"),
            ("models", "versions, verdicts, promote and roll back"),
        ):
            yield f"Go to {mode.capitalize()}", help, lambda mode=mode: self.app.switch_mode(mode)  # type: ignore[misc]


class Runs(_Commands):
    """The newest runs, opened."""

    def commands(self) -> Iterator[Command]:
        """Those that Home knows."""
        view: HomeView | None = getattr(self.app, "home", None)
        for run in view.newest if view else ():
            metrics = "  ".join(f"{key} {words.number(value)}" for key, value in list(run.metrics.items())[:3])
            open_run = getattr(self.app, "open_run", None)
            if open_run:
                yield f"Run {run.name} {run.short}", f"{run.state.value}  {metrics}", partial(open_run, run.id, run.name)


class Versions(_Commands):
    """Every model version, selected in Models."""

    def commands(self) -> Iterator[Command]:
        """Those in the registry."""
        rows: tuple[VersionRow, ...] = getattr(self.app, "versions", ())
        for item in rows[:200]:
            version = item.version
            help = f"{version.metric} {words.number(version.value)}  {', '.join(item.aliases) or version.state}"
            select = getattr(self.app, "open_version", None)
            if select:
                yield f"Model {version.id}", help, partial(select, version.id)
