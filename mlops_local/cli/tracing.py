"""Commands that follow data through time and into models: `data log`, `head`, `tag`, `card`; `lineage`, `impact`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlops_local.cli.context import Settings, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops_local.services.lineage import Step


@click.command(name="log", epilog="\b\nExamples:\n  mlops data log flights\n  mlops data log flights --limit 0 --json")
@click.argument("source", metavar="SOURCE")
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="At most so many; 0 for all.")
@json_option
@click.pass_obj
def log_(settings: Settings, source: str, limit: int) -> None:
    """List a source's snapshots, newest first, with what each changed."""
    from mlops_local.cli import output
    from mlops_local.cli.output import Column
    from mlops_local.services import datalog

    found = datalog.log(settings.project(), source, limit=limit or None)
    if settings.json:
        output.items("snapshot-log", found)
        return
    heads: list[Column | str] = [
        Column("snapshot", keep=True), "created", Column("rows", right=True), Column("size", right=True),
        Column("files", right=True), "change", "names",
    ]  # fmt: skip
    rows = []
    for item in found:
        counts = {"added": item.added, "removed": item.removed, "changed": item.changed, "moved": item.moved}
        change = ", ".join(f"{count:,} {verb}" for verb, count in counts.items() if count)
        size = output.size(item.bytes) + (" by reference" if item.kept == "reference" else "")
        created = output.local_time(item.created)
        rows.append((item.snapshot[:8], created, item.rows, size, item.files, change or "profile", ", ".join(item.tags)))
    output.table(heads, rows)


@click.command(
    epilog="\b\nExamples:\n  mlops data head flights\n  mlops data head flights@~1 -n 3\n  mlops data head 3f2a91b0 --json"
)
@click.argument("ref", metavar="SNAPSHOT")
@click.option("-n", "rows", type=click.IntRange(min=1), default=10, show_default=True, help="How many rows.")
@json_option
@click.pass_obj
def head(settings: Settings, ref: str, rows: int) -> None:
    """Show the first rows of a snapshot, also of one whose files are gone; private columns are hidden."""
    from mlops_local.cli import output
    from mlops_local.services import datalog
    from mlops_local.services.planning import read_code

    project = settings.project()
    found = datalog.head(project, read_code(project).graph.sources, ref, rows=rows)
    if settings.json:
        output.items("row", [dict(zip(found.columns, row, strict=True)) for row in found.rows])
    else:
        output.table(
            list(found.columns), [["" if value is None else output.given(value) for value in row] for row in found.rows]
        )


@click.command(
    epilog="\b\nExamples:\n  mlops data tag flights baseline\n  mlops data tag flights@~1 before-the-move\n"
    "  mlops data tag flights baseline --remove"
)
@click.argument("ref", metavar="SNAPSHOT")
@click.argument("name", metavar="NAME")
@click.option("--remove", is_flag=True, help="Take the name from the source's snapshots.")
@click.pass_obj
def tag(settings: Settings, ref: str, name: str, remove: bool) -> None:
    """Give a snapshot a name: `flights@NAME` means it from now on."""
    from mlops_local.cli import diagnostics
    from mlops_local.services import datalog

    source = ref.partition("@")[0]
    if remove:
        datalog.untag(settings.project(), source, name)
        diagnostics.say(f"{source}@{name} is no name any more")
    else:
        diagnostics.say(f"{source}@{name} is snapshot {datalog.tag(settings.project(), ref, name)[:8]}")


@click.command(epilog="\b\nExamples:\n  mlops data card flights\n  mlops data card flights@~1 > docs/flights.md")
@click.argument("ref", metavar="SNAPSHOT")
@click.pass_obj
def card(settings: Settings, ref: str) -> None:
    """Describe a snapshot in Markdown: what it is, its columns, rules, history and the models made from it."""
    from mlops_local.cli import output
    from mlops_local.services import card as service
    from mlops_local.services.planning import read_code

    project = settings.project()
    output.line(service.card(project, read_code(project).graph.sources, ref).rstrip("\n"))


@click.command(
    epilog="\b\nExamples:\n  mlops lineage flights@~1\n  mlops lineage delay@champion\n  mlops lineage @latest --json"
)
@click.argument("ref", metavar="REF")
@json_option
@click.pass_obj
def lineage(settings: Settings, ref: str) -> None:
    """Follow a snapshot, run or version: what it was made from, and what came of it."""
    from mlops_local.cli import output
    from mlops_local.services import lineage as service

    found = service.lineage(settings.project(), ref)
    if settings.json:
        output.fields("lineage", found)
        return
    output.line(_line(found.subject, 0))
    for title, steps in (("made from", found.sources), ("led to", found.results)):
        output.line(f"\n{title}" if steps else f"\n{title} nothing")
        _tree(steps)


@click.command(
    epilog="\b\nExamples:\n  mlops impact data/flights-2013-03.parquet\n"
    "  mlops impact data/flights-2013-03.parquet --where \"carrier = 'UA' and day = 3\""
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--where", metavar="SQL", default="", help="A condition on the file's columns; default: all rows.")
@json_option
@click.pass_obj
def impact(settings: Settings, path: Path, where: str) -> None:
    """Say which models saw the rows of a file, and what cannot be told."""
    from mlops_local.cli import output
    from mlops_local.cli.output import Column
    from mlops_local.services import impact as service

    found = service.impact(settings.project(), settings.directory / path, where=where)
    if settings.json:
        output.fields("impact", found)
        return
    output.line(f"{found.rows:,} rows of {found.path}, which is in {', '.join(found.snapshots)}")
    output.line()
    heads: list[Column | str] = [
        Column("version", keep=True), "state", Column("learned from", right=True), Column("judged on", right=True), "note",
    ]  # fmt: skip
    rows = [
        (item.version, ", ".join([item.state, *item.aliases]), _count(item.learned), _count(item.judged), item.note)
        for item in found.versions
    ]
    output.table(heads, rows, empty="no version was made from a snapshot that holds it")


def _count(value: int | None) -> str:
    return "not known" if value is None else f"{value:,}"


def _tree(steps: Sequence[Step]) -> None:
    from mlops_local.cli import output

    for step in steps:
        output.line(_line(step, step.depth))


def _line(step: Step, depth: int) -> str:
    from mlops_local.cli import output

    about = f"  {step.about}" if step.about else ""
    return f"{'  ' * depth}{step.kind} {output.escape(step.name)}{about}"
