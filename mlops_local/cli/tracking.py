"""`mlops run`: any command as a run; `mlops stop`: end one."""

from __future__ import annotations

import click

from mlops_local.cli.context import Settings, json_option
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


@click.command(epilog="\b\nExamples:\n  mlops stop\n  mlops stop 3f2a\n  mlops stop --keep")
@click.argument("ref", default="", metavar="[RUN]")
@click.option("--keep", is_flag=True, help="Let it end after its epoch, evaluate and register what it has.")
@json_option
@click.pass_obj
def stop(settings: Settings, ref: str, keep: bool) -> None:
    """End a run that works in another terminal. Finished steps and checkpoints are kept.

    RUN is the only one that is running, unless given. A watcher or the interface whose run is ended goes on.
    """
    from mlops_local.cli import diagnostics, output
    from mlops_local.services.stop import stop as end

    done = end(settings.project(), ref, keep=keep)
    if settings.json:
        output.fields("stop", {"run": done.run, "name": done.name, "state": done.state, "keep": keep})
    elif keep:
        diagnostics.say(f"run {done.run[16:24]} {done.name} was asked to end after its epoch and to keep what it has")
    else:
        output.line(f"run {done.run[16:24]} {done.name}: {done.state.value}")
