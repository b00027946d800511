"""The commands that only look: status, show, compare, logs, audit, completion; and bare `mlops`. Lists are in `searching`.

Each parses its options, calls one service and hands the answer to `views`.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from mlops_local.cli import curves, diagnostics, output, views
from mlops_local.cli.context import Settings, json_option
from mlops_local.cli.diagnostics import ExitCode


def home(settings: Settings) -> None:
    """Bare `mlops`: the short status in a project, two commands to begin with elsewhere."""
    from mlops_local.store.layout import find_root

    if find_root(settings.directory) is None:
        if settings.json:
            settings.project()  # says that there is none
        views.welcome()
        return
    _status(settings)


@click.command(
    epilog="""\b
Examples:
  mlops status
  mlops status --json | jq -r '.champions[].version'"""
)
@json_option
@click.pass_obj
def status(settings: Settings) -> None:
    """Say what is served, what ran, what needs you and what to type next."""
    _status(settings)


def _status(settings: Settings) -> None:
    from mlops_local.services import status as service

    answer = service.status(settings.project())
    output.fields("status", answer) if settings.json else views.status(answer)


@click.command(
    epilog="""\b
A REF is an id's beginning, a name, @latest, @1 (newest), @best, HEAD~1,
delay@3, delay@champion, flights, flights@~1.
\b
Examples:
  mlops show @latest
  mlops show @1 --plot loss
  mlops show delay@champion
  mlops show flights@~1"""
)
@click.argument("ref", default="@latest")
@click.option("--plot", "plots", multiple=True, metavar="METRIC", help="Draw this metric's curve instead.")
@json_option
@click.pass_obj
def show(settings: Settings, ref: str, plots: tuple[str, ...]) -> None:
    """Show one run, model version or snapshot in full."""
    from mlops_local.domain.assets import Snapshot
    from mlops_local.domain.errors import ConfigError
    from mlops_local.services import data, history, planning

    if plots and not settings.json:
        for curve in history.drawn(settings.project(), ref, plots):
            curves.chart(curve)
        return
    kind, answer = history.show(settings.project(), ref)
    if isinstance(answer, Snapshot):
        try:
            sources = planning.read_code(settings.project()).graph.sources
        except ConfigError as error:
            sources = None
            diagnostics.warn(f"no values are shown, as which columns are private is not known: {error.message}")
        answer = data.shown(settings.project(), answer, sources)
    output.fields(kind, answer) if settings.json else views.show(kind, answer)


@click.command(
    epilog="""\b
Examples:
  mlops compare                     the newest run with the one before
  mlops compare @3 @2 @1
  mlops compare delay@champion delay@latest
  mlops diff HEAD~1 HEAD --exit-code"""
)
@click.argument("refs", nargs=-1, metavar="[REF REF...]")
@click.option("--all", "everything", is_flag=True, help="Also what is the same in all.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when anything differs.")
@json_option
@click.pass_context
def compare(context: click.Context, refs: tuple[str, ...], everything: bool, exit_code: bool) -> None:
    """Show what differs between runs or versions: metrics, parameters, code, data, packages, environment."""
    from mlops_local.services import compare as service

    settings: Settings = context.obj
    answer = service.compare(settings.project(), refs or ("@2", "@1"))
    output.fields("comparison", answer) if settings.json else views.comparison(answer, everything=everything)
    if exit_code and answer.differs:
        context.exit(ExitCode.FAILED)


@click.command(
    epilog="""\b
Examples:
  mlops logs                        the newest run, every step
  mlops logs @latest gbm
  mlops logs 3f2a --tail 20
  mlops logs -f @latest gbm         as it prints, until it ends"""
)
@click.argument("ref", default="@latest")
@click.argument("step", default="")
@click.option("--tail", type=click.IntRange(min=1), metavar="N", help="Only the last N lines of each.")
@click.option("-f", "--follow", is_flag=True, help="Print what comes, until the run (or STEP) ends.")
@click.pass_obj
def logs(settings: Settings, ref: str, step: str, tail: int | None, follow: bool) -> None:
    """Print what a run's steps, or a tracked script, printed."""
    from mlops_local.services import history, printed

    if follow:
        for name, text in printed.follow(settings.project(), ref, step=step):
            output.line(text if step else f"{name}: {text}")
            sys.stdout.flush()
        return

    found = history.logs(settings.project(), ref, step=step)
    if not found:
        diagnostics.say("nothing was printed")
    for log in found:
        if len(found) > 1:
            output.line(f"==> {log.name} <==")
        for text in history.read_log(log, tail=tail):
            output.line(text)


@click.command(
    epilog="""\b
Examples:
  mlops audit
  mlops audit delay@3
  mlops audit --json | jq '.items[] | select(.kind == "alias")'"""
)
@click.argument("subject", default="")
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="The newest so many; 0 for all.")
@json_option
@click.pass_context
def audit(context: click.Context, subject: str, limit: int) -> None:
    """List who decided what and verify that no decision was altered.

    SUBJECT is a model or a version; without one, everything is listed.
    """
    from mlops_local.services import audit as service

    settings: Settings = context.obj
    answer = service.audit(settings.project(), subject, limit=limit or None)
    if settings.json:
        output.items("audit", answer.lines, problems=answer.problems)
    else:
        views.audit(answer)
    for problem in answer.problems:
        diagnostics.error(problem)
    if answer.problems:
        context.exit(ExitCode.INTEGRITY)


_RC = {
    "bash": 'add `eval "$(mlops completion bash)"` to ~/.bashrc',
    "zsh": 'add `eval "$(mlops completion zsh)"` to ~/.zshrc',
    "fish": "write it to ~/.config/fish/completions/mlops.fish",
}


@click.command(
    epilog="""\b
Examples:
  eval "$(mlops completion bash)"
  mlops completion fish > ~/.config/fish/completions/mlops.fish"""
)
@click.argument("shell", type=click.Choice(sorted(_RC)), required=False)
def completion(shell: str | None) -> None:
    """Print the script that makes your shell complete mlops commands."""
    import os
    from pathlib import PurePath

    from click.shell_completion import get_completion_class

    name = shell or PurePath(os.environ.get("SHELL", "bash")).name
    kind = get_completion_class(name)
    if kind is None or name not in _RC:
        raise click.UsageError(f"no completion for the shell {name!r}; give one of: {', '.join(sorted(_RC))}")
    output.raw(kind(_root(), {}, "mlops", "_MLOPS_COMPLETE").source() + "\n")
    if sys.stdout.isatty():
        diagnostics.say(f"to use it: {_RC[name]}")


def _root() -> Any:
    from mlops_local.cli.main import cli

    return cli
