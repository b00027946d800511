"""The members of `mlops data` that bring data in or look into rows: add, pull, diff, check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlops_local.cli.context import Settings, json_option

if TYPE_CHECKING:
    from mlops_local.domain.checks import Finding
    from mlops_local.domain.difference import ColumnChange, Difference, RowSample
    from mlops_local.domain.graph import Source
    from mlops_local.services.leaks import Leaks

_names = click.argument("names", nargs=-1, metavar="[SOURCE]...")
_NOTED_PSI = 0.1
_NOTED_P = 0.01
_SHOWN = 60
"""Longest value shown, in characters."""
_NOTED_NULLS = 0.005
"""A column is shown from these on; --json has every column."""


@click.command(
    epilog="""\b
A and B are snapshots (flights, flights@~1, flights@git:HEAD~1, an id), files or folders.
\b
Examples:
  mlops data diff flights                    the newest snapshot against the files as they are now
  mlops data diff flights@~1 flights --stat
  mlops data diff old.csv new.csv --key id --exit-code
  mlops data diff flights@~1 flights --to changes.parquet"""
)
@click.argument("before", metavar="A")
@click.argument("after", metavar="[B]", required=False, default="")
@click.option(
    "--key", metavar="COLUMNS", default="", help="Columns that identify a row, with commas between; else the source's."
)
@click.option("--no-key", is_flag=True, help="Compare rows as wholes, with how often each is there.")
@click.option("--stat", is_flag=True, help="Counts and columns only, no rows.")
@click.option("--limit", type=click.IntRange(min=0), default=5, show_default=True, help="Rows shown of each kind of change.")
@click.option("--to", type=click.Path(dir_okay=False, path_type=Path), help="Write every row that differs to a Parquet file.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when the data differ.")
@json_option
@click.pass_obj
def diff(
    settings: Settings,
    before: str,
    after: str,
    key: str,
    no_key: bool,
    stat: bool,
    limit: int,
    to: Path | None,
    exit_code: bool,
) -> None:
    """Show what differs between two versions of data: schema, rows, cells, how values are spread; files for folders."""
    from mlops_local.cli import output
    from mlops_local.services import datadiff as service
    from mlops_local.services import planning

    if key and no_key:
        raise click.UsageError("--key and --no-key exclude each other")
    project = settings.project()
    sources = planning.sources(project)
    old, new = service.sides(project, sources, before, after, here=settings.directory)
    declared = [source for name in dict.fromkeys((old.source, new.source)) for source in sources if source.name == name]
    chosen = [name.strip() for name in key.split(",") if name.strip()] or next((list(source.key) for source in declared), [])
    found = service.compare(
        project,
        old,
        new,
        key=[] if no_key else chosen,
        private=service.private(project, sources, old, new),
        to=settings.directory / to if to else None,
        samples=0 if stat else limit,
    )
    if settings.json:
        output.fields("data-diff", found)
    else:
        show(found)
    raise SystemExit(int(exit_code and found.any))


@click.command(
    epilog="\b\nExamples:\n  mlops data check\n  mlops data check flights --json\n"
    "  mlops data check flights --suggest >> mlops.toml"
)
@_names
@click.option("--suggest", is_flag=True, help="Print rules that hold today, as they go into mlops.toml; checks nothing.")
@json_option
@click.pass_obj
def check(settings: Settings, names: tuple[str, ...], suggest: bool) -> None:
    """Hold the sources against the rules of mlops.toml; exit 1 when one that is an error is broken. `train` does this first.

    Says too what looked like a leak when the features of models were made of these sources as they are now.
    """
    from mlops_local.cli import output
    from mlops_local.domain.checks import ERROR
    from mlops_local.services import checks as service
    from mlops_local.services import data, leaks

    project = settings.project()
    every = _sources(settings)
    chosen = data.select(every, names)
    with settings.progress() as emit:
        if suggest:
            output.line(service.suggest(project, chosen, emit=emit))
            return
        found = service.check(project, every, [source.name for source in chosen], emit=emit)
        models = leaks.known(project, [source.name for source in chosen], emit=emit)
    found += [item for model in models for item in model.findings]
    if settings.json:
        output.items("finding", found)
    else:
        findings(found, [source.name for source in chosen if service.rules(project, source.name)], models)
    raise SystemExit(int(any(item.severity == ERROR for item in found)))


@click.command(epilog="\b\nExamples:\n  mlops data add photos\n  mlops data add raw/2013.csv --name flights")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", default="", metavar="NAME", help="What to call it; else as the file or folder is called.")
@json_option
@click.pass_obj
def add(settings: Settings, path: Path, name: str) -> None:
    """Keep versions of a file or folder that no pipeline declares: an entry in mlops.toml, a snapshot, a line in mlops.lock."""
    from mlops_local.cli import output
    from mlops_local.services import adding

    with settings.progress() as emit:
        made = adding.add(settings.project(), settings.directory / path, name, emit=emit)
    if settings.json:
        facts = {"source": made.source, "id": made.id, "files": len(made.files), "rows": made.rows, "bytes": made.bytes}
        output.fields("snapshot-added", facts)


@click.command(epilog="\b\nExamples:\n  mlops data pull\n  mlops data pull orders --json")
@_names
@json_option
@click.pass_obj
def pull(settings: Settings, names: tuple[str, ...]) -> None:
    """Call the functions that are sources (@mlops.source) and take a snapshot of what they return."""
    from mlops_local.cli import output
    from mlops_local.domain.errors import UsageError
    from mlops_local.domain.progress import Progress
    from mlops_local.services import data, pulled
    from mlops_local.services.planning import read_code

    project = settings.project()
    code = read_code(project)
    chosen = data.select(code.graph.sources, names)
    wrong = next((source.name for source in chosen if names and source.pull is None), "")
    if wrong:
        raise UsageError(f"source {wrong} is no function: its files are what it is", hint="see @mlops.source in docs/data.md")
    with settings.progress() as emit:
        wanted = [source for source in chosen if source.pull is not None]
        found = pulled.pull(project, code, wanted, emit=emit)
        for source in wanted:
            data.snapshot(project, source, emit=emit)
        if not wanted:
            emit(Progress("note", "no source of this project is a function (@mlops.source)"))
    if settings.json:
        output.items("pull", found)


def findings(found: Sequence[Finding], checked: Sequence[str], models: Sequence[Leaks]) -> None:
    """Write what breaks rules, with some rows of each, and what holds."""
    from mlops_local.cli import output, snapshots

    snapshots.findings(found)
    for name in checked:
        if not any(item.source == name for item in found):
            output.line(f"ok       {name}: every rule holds")
    for item in models:
        if item.unknown:
            output.line(f"unknown  {item.model}: `mlops train` looks for leaks when it makes the features ({item.unknown})")
        elif not item.findings:
            output.line(f"ok       {item.model}: no feature tells the label by itself, no row of test is in train")
    if not checked:
        output.line("mlops.toml has no rules for these sources; `mlops data check --suggest` prints some")


def show(found: Difference) -> None:
    """Write a difference for a person."""
    from mlops_local.cli import output

    output.line(f"{found.before} -> {found.after}")
    if not found.any and not found.files.any:
        output.line("no difference")
        return
    output.pairs([("files", _files(found)), ("rows", _rows(found)), ("matched by", ", ".join(found.key) if found.rows else "")])
    for change in found.types:
        told = f"{change.before} -> {change.after}" if change.before and change.after else (change.after or change.before)
        verb = "changed" if change.before and change.after else "added" if change.after else "removed"
        output.line(f"column {verb}: {change.column} {told}")
    _columns(found.columns)
    for sample in found.rows.samples if found.rows else ():
        output.line(f"{sample.change:<8} {_sample(sample, found.key)}")


def _files(found: Difference) -> str:
    files = found.files
    counts = {"added": files.added, "removed": files.removed, "changed": files.changed, "moved": files.moved}
    said = []
    for verb, paths in counts.items():
        if paths:
            names = [path if isinstance(path, str) else f"{path[0]} -> {path[1]}" for path in paths]
            more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
            said.append(f"{len(names):,} {verb}: {', '.join(names[:3])}{more}")
    return "; ".join(said)


def _rows(found: Difference) -> str:
    rows = found.rows
    if rows is None:
        return ""
    changed = f", {rows.changed:,} changed" if found.key else ""
    return f"{rows.before:,} -> {rows.after:,}: {rows.added:,} added, {rows.removed:,} removed{changed}"


def _columns(columns: tuple[ColumnChange, ...]) -> None:
    """The columns with something to say."""
    from mlops_local.cli import output
    from mlops_local.cli.output import Column
    from mlops_local.domain.names import counted

    noted = [item for item in columns if _noted(item)]
    if not noted:
        return
    matched = any(item.cells is not None for item in noted)
    heads: list[Column | str] = [Column("column", keep=True), *([Column("cells", right=True)] if matched else [])]
    heads += [Column(title, right=True) for title in ("nulls", "PSI", "KS", "p")]
    output.line()
    output.table(
        heads,
        [
            (
                item.name,
                *([f"{item.cells:,}" if item.cells is not None else ""] if matched else []),
                _nulls(item),
                f"{item.psi:.4f}" if item.psi is not None else "",
                f"{item.ks:.4f}" if item.ks is not None else "",
                f"{item.ks_p:.2g}" if item.ks_p is not None else "",
            )
            for item in noted
        ],
    )
    if len(noted) < len(columns):
        output.line(f"{counted(len(columns) - len(noted), 'column')} as before")
    output.line()


def _noted(item: ColumnChange) -> bool:
    if item.cells or abs((item.nulls_after or 0) - (item.nulls_before or 0)) >= _NOTED_NULLS:
        return True
    return (item.psi or 0) >= _NOTED_PSI or (item.ks_p is not None and item.ks_p < _NOTED_P)


def _nulls(item: ColumnChange) -> str:
    before, after = (f"{100 * (share or 0):.2f} %" for share in (item.nulls_before, item.nulls_after))
    return before if before == after else f"{before} -> {after}"


def _sample(sample: RowSample, key: tuple[str, ...]) -> str:
    row = sample.after or sample.before
    names = [name for name in row if name in key] if key else list(row)
    who = ", ".join(f"{name} {_value(row[name])}" for name in names)
    if sample.change != "changed":
        return who
    changes = ", ".join(
        f"{name} {' -> '.join(_both(sample.before[name], sample.after[name]))}" for name in row if name not in key
    )
    return f"{who}: {changes}"


def _both(before: Any, after: Any) -> tuple[str, str]:
    """Two values, so that what differs can be seen: also far inside a long text, or between signs that look the same."""
    from unicodedata import normalize

    shown = _value(before), _value(after)
    if not (isinstance(before, str) and isinstance(after, str)) or normalize("NFC", shown[0]) != normalize("NFC", shown[1]):
        return shown
    place = next(
        (place for place, (old, new) in enumerate(zip(before, after, strict=False)) if old != new),
        len(min(before, after, key=len)),
    )
    start = max(0, place - _SHOWN // 4)
    old, new = (ascii(value[start : start + _SHOWN])[1:-1] for value in (before, after))
    return ("…" + old, "…" + new) if start else (old, new)


def _value(value: Any) -> str:
    from mlops_local.cli import output

    if value is None:
        return "null"
    said = output.given(value) or "''"
    return output.escape(said if len(said) <= _SHOWN else said[: _SHOWN - 1] + "…")


def _sources(settings: Settings) -> tuple[Source, ...]:
    from mlops_local.services.planning import read_code

    return read_code(settings.project()).graph.sources
