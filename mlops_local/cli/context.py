"""What every command shares: the global options, the project they point at, and the way to say something.

A command asks for it with `@click.pass_obj` and takes a `Settings`. Commands that can answer as JSON add `@json_option`.
Imports click and nothing else, so that `--help` stays instant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlops_local.cli import diagnostics

if TYPE_CHECKING:
    from mlops_local.domain.progress import Emit
    from mlops_local.services.project import Project

Command = TypeVar("Command", bound=Callable[..., Any])
WAIT_S = 30.0


class Settings:
    """The global options of one call, wherever on the command line they stood."""

    def __init__(self) -> None:
        self.directory = Path()
        """Where to look for the project (-C)."""
        self.json = False
        """Answer with JSON on stdout."""
        self.quiet = False
        self.verbose = 0
        self.no_input = False
        """Never ask; take the safe default or fail."""
        self.wait_s = WAIT_S
        self._project: Project | None = None

    def project(self) -> Project:
        """Return the project of this call, found once. Raises ProjectNotFound and ConfigError."""
        if self._project is None:
            from mlops_local.services.project import find

            self._project = find(self.directory, wait_s=self.wait_s, on_wait=diagnostics.waiting, on_behind=diagnostics.behind)
        return self._project

    @contextmanager
    def progress(self) -> Iterator[Emit]:
        """Show what a verb says while it works: a live line on a terminal, plain lines elsewhere."""
        with diagnostics.progress() as emit:
            yield emit

    def apply(self, name: str, value: Any) -> None:
        """Take one global option from the command line."""
        setattr(self, name, value)
        if name in {"quiet", "verbose"}:
            diagnostics.configure(quiet=self.quiet, verbose=self.verbose)
        elif name == "color":
            diagnostics.configure(color=bool(value))


def _take(
    name: str, change: Callable[[Any], Any] = lambda value: value
) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if value is not None and value is not False and value != 0:
            context.ensure_object(Settings).apply(name, change(value))
        return value

    return callback


def shared_options(*, hidden: bool) -> list[click.Option]:
    """The global options; `hidden` for their second life behind a subcommand's name."""
    # Behind the subcommand only the command line counts: a variable read there again would beat the flag before it.
    common: dict[str, Any] = {"expose_value": False, "hidden": hidden, "allow_from_autoenv": not hidden}
    variables = {name: None if hidden else f"MLOPS_{name}" for name in ("DIR", "WAIT")}
    return [
        click.Option(
            ["-C", "directory"],
            type=click.Path(exists=True, file_okay=False),
            metavar="DIR",
            envvar=variables["DIR"],
            callback=_take("directory", Path),
            help="Work as if started in DIR.",
            **common,
        ),
        click.Option(["-q", "--quiet"], is_flag=True, callback=_take("quiet"), help="Only warnings and errors.", **common),
        click.Option(
            ["-v", "--verbose"], count=True, callback=_take("verbose"), help="Say more; with -vv tracebacks.", **common
        ),
        click.Option(
            ["--no-color"],
            is_flag=True,
            callback=_take("color", lambda given: not given),
            help="No colour (also: NO_COLOR=1).",
            **common,
        ),
        click.Option(["--no-input"], is_flag=True, callback=_take("no_input"), help="Never ask a question.", **common),
        click.Option(
            ["--wait", "wait_s"],
            type=click.FloatRange(min=0),
            metavar="SECONDS",
            envvar=variables["WAIT"],
            callback=lambda context, parameter, value: _wait(context, value),
            help=f"How long to queue for a store in use ({WAIT_S:.0f}).",
            **common,
        ),
    ]


def _wait(context: click.Context, value: float | None) -> None:
    if value is not None:  # 0 is a value: do not wait at all
        context.ensure_object(Settings).apply("wait_s", value)


class JsonFlag(click.Option):
    """The --json option."""

    def __init__(self, declarations: list[str], **attributes: Any) -> None:
        super().__init__(
            declarations,
            is_flag=True,
            expose_value=False,
            allow_from_autoenv=False,
            callback=_take("json"),
            help="Print JSON on stdout.",
            **attributes,
        )


def json_option(command: Command) -> Command:
    """Give a command the --json option; the command reads `settings.json`."""
    return click.option("--json", "as_json", cls=JsonFlag)(command)


def prepare(command: click.Command) -> click.Command:
    """Let the global options also follow a subcommand's name, except where the command has its own of that spelling."""
    if isinstance(command, click.Group):
        for member in command.commands.values():
            prepare(member)
    taken = {spelling for parameter in command.params for spelling in (*parameter.opts, *parameter.secondary_opts)}
    command.params.extend(option for option in shared_options(hidden=True) if not taken & set(option.opts))
    return command


def takes_json(command: click.Command) -> bool:
    """Whether a command, or any member of a group, can answer as JSON."""
    if isinstance(command, click.Group):
        return any(takes_json(member) for member in command.commands.values())
    return any("--json" in parameter.opts for parameter in command.params)
