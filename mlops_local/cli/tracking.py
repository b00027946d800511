"""`mlops run`: any command as a run; `mlops stop`: end one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from mlops_local.cli.context import Settings, json_option
from mlops_local.cli.diagnostics import ExitCode

if TYPE_CHECKING:
    from mlops_local.services.track import Tracked


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="""\b
Examples:
  mlops run python train.py --lr 0.1
  mlops run --name baseline -m 'first try' python train.py
  mlops run -S lr=.1,.03 -S depth=3,5 python train.py
  mlops run -S lr=.1,.03 ./train.sh --rate={lr}
  mlops run --read-output --artifacts make model""",
)
@click.option("--name", default="", help="The run's name; made up unless given.")
@click.option("-m", "--message", default="", help="A note kept with the run.")
@click.option(
    "-S",
    "params",
    multiple=True,
    metavar="NAME=VALUE[,VALUE...]",
    help="Set a parameter: in the places {NAME} of COMMAND, else as its option --NAME=VALUE. Several values: a run for each.",
)
@click.option("-k", "--keep-going", is_flag=True, help="After a run that failed, go on with the next.")
@click.option(
    "--read-output/--no-read-output", default=None, help="Take printed lines `name: value` as metrics; asked once otherwise."
)
@click.option("--artifacts", is_flag=True, help="Keep the files it writes in the project.")
@click.option("--system", is_flag=True, help="Measure processors, memory, disk and GPUs every five seconds.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
@click.pass_obj
def run(settings: Settings, /, params: tuple[str, ...], command: tuple[str, ...], **how: Any) -> None:
    """Run COMMAND in this terminal and keep it: command line, commit, output, exit status, metrics and models.

    The command needs no edit. Inside it `mlops_local.log(...)` joins the run.
    """
    from contextlib import chdir

    from mlops_local.cli import diagnostics, output
    from mlops_local.domain import grid
    from mlops_local.services.track import Wishes, run_grid

    wishes = Wishes(how.pop("read_output"), how.pop("artifacts"), how.pop("system"))
    ended = []
    project = settings.project()
    with chdir(settings.directory), settings.progress() as emit:
        for done in run_grid(
            project,
            command,
            grid.assignments(params),
            name=how["name"],
            message=how["message"],
            keep_going=how["keep_going"],
            wishes=wishes,
            emit=emit,
        ):
            ended.append(done)
            files = len(done.artifacts)
            kept = f", {files} file{'s' if files != 1 else ''} kept" if files else ""
            diagnostics.say(f"run {done.run[16:24]} {done.name}: exit {done.code} after {output.seconds(done.seconds)}{kept}")
    _offer(settings, ended)
    if any(done.code for done in ended):
        raise SystemExit(ExitCode.FAILED)


def _offer(settings: Settings, ended: Sequence[Tracked]) -> None:
    """Ask once, where somebody can answer, whether printed `name: value` lines are metrics."""
    import sys

    from mlops_local.cli import diagnostics
    from mlops_local.services.track import answer_read_output

    names = dict.fromkeys(point.key for done in ended for point in done.seen)
    if not names or settings.no_input or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    shown = ", ".join(list(names)[:5]) + (", …" if len(names) > 5 else "")
    question = (
        f"it printed values ({diagnostics.escape(shown)}); keep such `name: value` lines as metrics, now and from here on?"
    )
    answer_read_output(settings.project(), click.confirm(question, default=True, err=True), ended)


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
