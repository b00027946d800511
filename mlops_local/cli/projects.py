"""`mlops init` and the group `mlops data`: make a project, version its data."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlops_local.cli import storing, tables, tracing
from mlops_local.cli.context import Settings, json_option

if TYPE_CHECKING:
    from mlops_local.domain.assets import Snapshot
    from mlops_local.domain.graph import Source

_names = click.argument("names", nargs=-1, metavar="[SOURCE]...")


@click.command(
    epilog="\b\nExamples:\n  mlops init\n  mlops init flights --template flights\n"
    "  mlops init churn --template blank --data customers.csv --target churned\n"
    "  mlops init --script train.py -- --data data/rows.csv --rounds 30"
)
@click.argument("words", metavar="[DIR] [-- ARGUMENTS]", nargs=-1)
@click.option(
    "--template", default="", metavar="flights|blank", help="Begin with a pipeline: the flights sample, or an empty one."
)
@click.option("--data", type=click.Path(path_type=Path), help="With blank: a CSV or Parquet file to write a pipeline for.")
@click.option("--target", default="", metavar="COLUMN", help="What to predict; COLUMN=VALUE for one class against the rest.")
@click.option(
    "--script",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Run a Python script of yours once and propose it as a step; what follows -- are its arguments.",
)
@click.option("--yes", is_flag=True, help="With --script: write the step to mlops.toml without asking.")
@click.option("--unsafe-fs", is_flag=True, help="Allow a network file system, where locks cannot be trusted.")
@json_option
@click.pass_obj
def init(
    settings: Settings,
    words: tuple[str, ...],
    template: str,
    data: Path | None,
    target: str,
    script: Path | None,
    yes: bool,
    unsafe_fs: bool,
) -> None:
    """Make a project in DIR (here by default): mlops.toml and .mlops/, and no code unless a template asks for it.

    Nothing of yours is ever overwritten.
    """
    from mlops_local.cli import diagnostics, output
    from mlops_local.services import init as service

    if script is not None:
        if template or data or target:
            raise click.UsageError("--script goes with none of --template, --data and --target")
        _script(settings, script, words, yes=yes, unsafe_fs=unsafe_fs)
        return
    if yes:
        raise click.UsageError("--yes goes with --script")
    if len(words) > 1:
        raise click.UsageError(f"Got unexpected extra argument ({words[1]})")
    folder = Path(words[0] if words else ".")
    here = settings.directory
    made = service.create(here / folder, template=template, data=data, target=target, unsafe_fs=unsafe_fs)
    commands = service.next_commands(made, template, Path.cwd())
    if settings.json:
        output.fields("init", {"root": made.root, "written": made.written, "said": made.said, "next": commands})
        return
    diagnostics.say(service.summary(made))
    for said in made.said:
        diagnostics.say(f"  {said}")
    diagnostics.say("next:")
    for command in commands:
        output.line(f"  {command}")


def _script(settings: Settings, script: Path, arguments: tuple[str, ...], *, yes: bool, unsafe_fs: bool) -> None:
    from mlops_local.cli import diagnostics, output
    from mlops_local.services import init as service
    from mlops_local.services import script as scripts
    from mlops_local.store.layout import find_root

    here = settings.directory
    if not (here / script).is_file():
        raise click.BadParameter(f"there is no file {script}", param_hint="--script")
    if find_root(here) is None:
        diagnostics.say(service.summary(service.create(here, unsafe_fs=unsafe_fs)))
    project = settings.project()
    name = scripts.check(project, here / script, arguments)
    ask = not yes and not settings.json and sys.stdin.isatty() and sys.stderr.isatty()
    called = shlex.join(["python", name, *arguments])
    if ask and not click.confirm(f"run `{called}` once, to see what it reads and writes?", default=True, err=True):
        return
    diagnostics.say(f"running {called}")
    made = scripts.propose(project, name, arguments)
    if not settings.json:
        output.line(made.text.rstrip("\n"))
    for note in made.notes:
        diagnostics.say(f"note: {note}")
    written = yes or (ask and click.confirm("write this to mlops.toml?", default=True, err=True))
    if written:
        scripts.write(project, made)
    if settings.json:
        output.fields("init-script", {"name": made.name, "entry": made.text, "notes": made.notes, "written": written})
        return
    diagnostics.say("written to mlops.toml" if written else "nothing was written; --yes appends it to mlops.toml")
    if written:
        diagnostics.say("next:")
        output.line(f"  mlops train {made.name}")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def data() -> None:
    """Sources and their snapshots: versions of the data by content."""


@data.command(
    epilog="\b\nExamples:\n  mlops data snapshot\n  mlops data snapshot flights --json\n  mlops data snapshot --rehash"
)
@_names
@click.option("--rehash", is_flag=True, help="Read every file, also those whose size and times are as they were.")
@json_option
@click.pass_obj
def snapshot(settings: Settings, names: tuple[str, ...], rehash: bool) -> None:
    """Take a snapshot of the sources whose files changed. `mlops train` does this by itself."""
    from mlops_local.cli import output
    from mlops_local.services import data as service

    with settings.progress() as emit:
        taken = [service.snapshot(settings.project(), item, emit=emit, rehash=rehash) for item in _sources(settings, names)]
    if settings.json:
        output.items("snapshot", [_brief(item) for item in taken])


@data.command(name="ls", epilog="\b\nExamples:\n  mlops data ls\n  mlops data ls --json")
@json_option
@click.pass_obj
def list_(settings: Settings) -> None:
    """List the sources and the newest snapshot of each."""
    from mlops_local.cli import output
    from mlops_local.services import data as service

    rows = service.overview(settings.project(), _sources(settings, ()))
    if settings.json:
        output.items("source", rows)
        return
    columns: list[output.Column | str] = [
        output.Column("source", keep=True), "files", output.Column("snapshot", keep=True), output.Column("count", right=True),
        output.Column("rows", right=True), output.Column("size", right=True), "outcome",
    ]  # fmt: skip
    cells = [
        (
            row.source,
            row.pattern,
            row.snapshot[:8] or "none yet",
            row.files,
            row.rows,
            output.size(row.bytes),
            ", ".join(row.outcome),
        )
        for row in rows
    ]
    output.table(columns, cells, empty='the pipeline declares no source: `flights = mlops.data("data/*.parquet")`')


@data.command(epilog="\b\nExamples:\n  mlops data show flights\n  mlops data show flights --json")
@click.argument("name", metavar="SOURCE|SNAPSHOT")
@json_option
@click.pass_obj
def show(settings: Settings, name: str) -> None:
    """Show the newest snapshot of a source: its files and the profile of each column."""
    from mlops_local.cli import output, snapshots
    from mlops_local.services import data as service

    found = service.show(settings.project(), _sources(settings, ()), name)
    if settings.json:
        output.fields("snapshot", found)
        return
    snapshots.show(found)


@data.command(epilog="\b\nExamples:\n  mlops data verify\n  mlops data verify flights --json")
@_names
@json_option
@click.pass_obj
def verify(settings: Settings, names: tuple[str, ...]) -> None:
    """Re-hash the files and their stored copies against the newest snapshots; exit 1 on a difference, 6 on a damaged copy."""
    from mlops_local.cli import output
    from mlops_local.services import verifying as service

    checks = service.verify(settings.project(), _sources(settings, names), asked=bool(names))
    if settings.json:
        output.items("file-check", checks)
    else:
        for check in checks:
            if check.state != "ok":
                output.line(f"{check.state:<10}  {check.source}  {check.path}")
        output.line(service.verdict(checks))
    raise SystemExit(service.exit_code(checks))


def _sources(settings: Settings, names: tuple[str, ...]) -> list[Source]:
    from mlops_local.services import data as service
    from mlops_local.services.planning import read_code

    return service.select(read_code(settings.project()).graph.sources, names)


def _brief(item: Snapshot) -> dict[str, object]:
    return {"source": item.source, "id": item.id, "files": len(item.files), "rows": item.rows, "bytes": item.bytes}


_STORING = (storing.restore, storing.du)
_ROWS = (tables.add, tables.diff, tables.check, tables.pull)
_TIME = (tracing.log_, tracing.head, tracing.tag, tracing.card)
for _member in (*_STORING, *_ROWS, *_TIME):
    data.add_command(_member)
