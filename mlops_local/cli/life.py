"""What a person says of runs afterwards: tag, note, rename, rm."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from mlops_local.cli import diagnostics, output
from mlops_local.cli.context import Settings, json_option
from mlops_local.cli.parameters import assignments

if TYPE_CHECKING:
    from mlops_local.services.life import Removal


@click.command(
    epilog="""\b
Examples:
  mlops tag @1 team=a baseline=yes
  mlops tag brisk-otter --remove baseline
  mlops tag @1                      what it has
  mlops runs -w "tag.team = a\""""
)
@click.argument("ref", metavar="RUN")
@click.argument("values", nargs=-1, metavar="[KEY=VALUE...]", callback=assignments)
@click.option("--remove", "gone", multiple=True, metavar="KEY", help="Take this tag off.")
@json_option
@click.pass_obj
def tag(settings: Settings, ref: str, values: dict[str, str], gone: tuple[str, ...]) -> None:
    """Set, take off or show a run's tags."""
    from mlops_local.services import life

    has = life.tag(settings.project(), ref, values, remove=gone)
    if settings.json:
        output.fields("tags", {"tags": has})
    elif has:
        output.pairs(has.items())
    else:
        diagnostics.say("no tags")


@click.command(epilog="\b\nExamples:\n  mlops note @1 'too few epochs'\n  mlops note @1 - < remarks.txt")
@click.argument("ref", metavar="RUN")
@click.argument("text")
@click.pass_obj
def note(settings: Settings, ref: str, text: str) -> None:
    """Add a note to a run; `mlops show` shows it."""
    from mlops_local.services import life

    run = life.note(settings.project(), ref, sys.stdin.read().strip() if text == "-" else text)
    diagnostics.say(f"noted on run {run[16:24]}")


@click.command(epilog="\b\nExamples:\n  mlops rename @1 baseline\n  mlops rename 3f2a 'wide and shallow'")
@click.argument("ref", metavar="RUN")
@click.argument("name")
@click.pass_obj
def rename(settings: Settings, ref: str, name: str) -> None:
    """Give a run another name."""
    from mlops_local.services import life

    run = life.rename(settings.project(), ref, name)
    diagnostics.say(f"run {run[16:24]} is called {name}")


@click.command(
    epilog="""\b
Examples:
  mlops rm @3
  mlops rm 3f2a brisk-otter --yes
  mlops rm --undo 3f2a"""
)
@click.argument("refs", nargs=-1, required=True, metavar="RUN...")
@click.option("--undo", is_flag=True, help="Take the removal back; possible until `mlops gc --yes` has freed its files.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--reason", default="", help="Why; kept in the ledger.")
@json_option
@click.pass_obj
def rm(settings: Settings, refs: tuple[str, ...], undo: bool, yes: bool, reason: str) -> None:
    """Remove runs from every list; `mlops gc` then frees what only they need.

    A run that made a champion or an approved version stays. Without --yes it asks, and where nobody can answer it only says
    what would go.
    """
    from mlops_local.services import life

    project = settings.project()
    if undo:
        found, word = life.take_back(project, refs, reason=reason), "back"
    else:
        found = life.removals(project, refs)
        word = "removed" if yes or _agreed(settings, found) else "would be removed"
        if word == "removed":
            found = life.remove(project, refs, reason=reason)
    if settings.json:
        output.items("removals", found, done=word != "would be removed")
        return
    for one in found:
        kept = f"; {', '.join(one.versions)} stays" if one.versions else ""
        output.line(f"{word}: {one.id[16:24]} {one.name}{kept}")
    if word == "would be removed":
        diagnostics.say("nothing was removed; --yes does it")
    elif word == "removed":
        again = " ".join(one.id[16:24] for one in found)
        diagnostics.say(
            f"`mlops rm --undo {again}` takes {'it' if len(found) == 1 else 'them'} back; `mlops gc` shows what that frees"
        )


def _agreed(settings: Settings, found: Sequence[Removal]) -> bool:
    if settings.no_input or settings.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    names = ", ".join(diagnostics.escape(f"{one.id[16:24]} {one.name}") for one in found)
    return click.confirm(f"remove {names}?", default=False, err=True)
