"""`mlops shell`, and `mlops train --debug`: one step in the user's own terminal."""

from __future__ import annotations

import click

from mlops_local.cli.context import Settings
from mlops_local.cli.parameters import set_option


@click.command(epilog="\b\nExamples:\n  mlops shell gbm\n  mlops shell split -S split.months=2")
@click.argument("step")
@set_option
@click.pass_obj
def shell(settings: Settings, step: str, params: dict[str, str]) -> None:
    """Open Python with a step's inputs, parameters and function under their names.

    In the project's interpreter, with IPython where it has it. Nothing is recorded.
    """
    from mlops_local.services import foreground

    raise SystemExit(foreground.run(settings.project(), step, mode="shell", params=params))


def debug(settings: Settings, targets: tuple[str, ...], params: dict[str, str]) -> int:
    """Run one step in this terminal; the exit code."""
    from mlops_local.services import foreground

    if len(targets) != 1:
        raise click.UsageError("--debug takes one step.")
    return foreground.run(settings.project(), targets[0], mode="debug", params=params)
