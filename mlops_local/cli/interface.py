"""`mlops ui`: the terminal interface."""

from __future__ import annotations

import sys

import click

from mlops_local.cli.context import Settings
from mlops_local.domain.errors import UsageError


@click.command(epilog="\b\nExamples:\n  mlops ui\n  mlops -C project ui\n\n? inside shows every key.")
@click.pass_obj
def ui(settings: Settings) -> None:
    """Browse runs, compare them and decide about models in the terminal; running trainings are shown live."""
    from mlops_local.tui.app import MlopsApp  # textual: 160 ms

    project = settings.project()
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("mlops ui needs a terminal", hint="`mlops status` and `mlops runs` print the same facts")
    MlopsApp(project).run()
