"""`mlops data restore` and `mlops data du`: what the snapshots hold, back as files, and what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlops_local.cli.context import Settings, json_option

if TYPE_CHECKING:
    from mlops_local.domain.graph import Source
    from mlops_local.services.project import Project


@click.command(
    epilog="\b\nExamples:\n  mlops data restore flights@~1\n  mlops data restore flights@~1 --to /tmp/before\n"
    "  mlops data restore --lock\n  mlops data restore flights --force"
)
@click.argument("names", nargs=-1, metavar="[SOURCE[@SNAPSHOT]]...")
@click.option("--to", type=click.Path(path_type=Path, file_okay=False), help="Write under this folder instead.")
@click.option("--lock", "locked", is_flag=True, help="The snapshots that mlops.lock names, of these sources or of all.")
@click.option("-f", "--force", is_flag=True, help="Write over files changed since the newest snapshot; one is taken first.")
@json_option
@click.pass_obj
def restore(settings: Settings, names: tuple[str, ...], to: Path | None, locked: bool, force: bool) -> None:
    """Write a snapshot's files back as they were: into their places, or under another folder.

    Files that are right already are left alone, and so are files that the snapshot does not have. A file whose stored content
    is damaged is named at the end, with the snapshots that need it (exit 6); all others are written.
    """
    from mlops_local.cli import diagnostics, output
    from mlops_local.services import restoring as service

    if not names and not locked:
        raise click.UsageError("name a snapshot, as in flights@~1, or pass --lock")
    project = settings.project()
    declared = {source.name: source for source in _declared(project)}
    snapshots = service.named(project, names, locked=locked)
    target = None if to is None else to.absolute()
    with settings.progress() as emit:
        done = service.restore_all(project, snapshots, declared, to=target, force=force, emit=emit)
    if settings.json:
        output.items("restored", done)
    for item in done:
        if settings.json or item.refused:
            continue
        output.line(service.said(item, "" if to is None else f" under {to}"))
        if item.beside:
            diagnostics.say(
                f"not in that snapshot, left alone: {', '.join(item.beside[:5])}{' …' if len(item.beside) > 5 else ''}"
            )
    if (error := service.failure(done)) is not None:
        raise error


@click.command(epilog="\b\nExamples:\n  mlops data du\n  mlops data du --json")
@json_option
@click.pass_obj
def du(settings: Settings) -> None:
    """Say what the snapshots take on the disk, by source and version; what versions share is counted once in the sums."""
    from mlops_local.cli import output
    from mlops_local.services.usage import usage

    found = usage(settings.project())
    if settings.json:
        output.fields("data-usage", found)
        return
    columns: list[output.Column | str] = [
        output.Column("source", keep=True), output.Column("snapshot", keep=True), output.Column("files", right=True),
        output.Column("data", right=True), output.Column("stored", right=True), output.Column("its own", right=True), "kept",
    ]  # fmt: skip
    rows = [
        (
            use.source,
            use.snapshot[:8],
            use.files,
            output.size(use.bytes),
            output.size(use.stored),
            output.size(use.unique),
            use.kept,
        )
        for use in sorted(found.versions, key=lambda use: use.source)
    ]
    output.table(columns, rows, empty="no snapshot yet: `mlops data snapshot`")
    if rows:
        output.line()
        shared = found.stored - sum(found.sources.values())
        output.pairs(
            [
                *((source, output.size(size)) for source, size in sorted(found.sources.items())),
                ("shared by sources", output.size(shared) if shared else ""),
                ("together", output.size(found.stored)),
                ("needed by none", output.size(found.unneeded) if found.unneeded else ""),
            ]
        )


def _declared(project: Project) -> list[Source]:
    """The sources the pipeline declares; none when it cannot be read: old data must come back all the same."""
    from mlops_local.domain.errors import MlopsError
    from mlops_local.services.planning import read_code

    try:
        return list(read_code(project).graph.sources)
    except MlopsError:
        return []
