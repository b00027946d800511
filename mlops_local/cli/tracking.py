"""`mlops run`: any command as a run."""

from __future__ import annotations

import click

from mlops_local.cli.context import Settings
from mlops_local.cli.diagnostics import ExitCode


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="\b\nExamples:\n  mlops run python train.py --lr 0.1\n  mlops run --name baseline -m 'first try' python train.py",
)
@click.option("--name", default="", help="The run's name; made up unless given.")
@click.option("-m", "--message", default="", help="A note kept with the run.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
@click.pass_obj
def run(settings: Settings, name: str, message: str, command: tuple[str, ...]) -> None:
    """Run COMMAND in this terminal and keep it: command line, commit, output, exit status, metrics and models.

    The command needs no edit. Inside it `mlops_local.log(...)` joins the run.
    """
    from mlops_local.cli import diagnostics, output
    from mlops_local.services.track import run_command

    with settings.progress() as emit:
        done = run_command(settings.project(), command, name=name, message=message, emit=emit)
    diagnostics.say(f"run {done.run[16:24]} {done.name}: exit {done.code} after {output.seconds(done.seconds)}")
    if done.code != 0:
        raise SystemExit(ExitCode.FAILED)
