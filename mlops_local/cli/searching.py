"""The commands that ask the store: runs, sql, schema, export. Each parses its options, calls one service, shows the answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from mlops_local.cli import diagnostics, listings, output
from mlops_local.cli.context import Settings, json_option
from mlops_local.cli.output import Column


def _several(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Fields, separated by commas or given one by one."""
    return tuple(name for value in values for part in value.split(",") if (name := part.strip()))


_FORMAT = [
    click.option("--csv", "form", flag_value="csv", help="Print CSV."),
    click.option("--md", "form", flag_value="md", help="Print a Markdown table."),
]


def format_options(command: Any) -> Any:
    """`--csv` and `--md`; the last one stands."""
    for option in reversed(_FORMAT):
        command = option(command)
    return command


@click.command(
    epilog="""\b
Examples:
  mlops runs
  mlops runs -w "state = failed"
  mlops runs -w "auc > 0.7 and param.gbm.num_leaves in (31, 63)" --sort -auc
  mlops runs -w "started > now() - interval 2 day or tag.team = 'a'"
  mlops runs --group-by param.lr --sort -auc
  mlops runs --only-changed --md
  mlops runs --columns name,param.lr,metric.auc --limit 0 --csv"""
)
@click.option(
    "-w",
    "--where",
    metavar="FILTER",
    default="",
    help="Conditions with and, or, not, in (…) and brackets: state, name, started, metric.X, param.X, tag.X; ~ means contains.",
)
@click.option(
    "--sort", metavar="FIELD", default="", help="Sort by a field; -FIELD for the largest first. Default: newest first."
)
@click.option(
    "--group-by",
    "by",
    metavar="FIELDS",
    multiple=True,
    callback=_several,
    help="One line for all runs with the same values: how many, each metric's mean ± standard deviation.",
)
@click.option(
    "--columns", metavar="FIELDS", multiple=True, callback=_several, help="Show just these: name,param.lr,metric.auc."
)
@click.option("--only-changed", is_flag=True, help="Show the parameters that differ between the runs listed.")
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="At most so many; 0 for all.")
@format_options
@json_option
@click.pass_obj
def runs(settings: Settings, /, where: str, limit: int, **options: Any) -> None:
    """List runs, newest first, or group them."""
    from mlops_local.services import query

    if options["form"] and settings.json:
        raise click.UsageError("--json and another format at once.")
    if options["by"]:
        if options["only_changed"]:
            raise click.UsageError("--only-changed is for single runs, --group-by for several together.")
        grouped = query.groups(
            settings.project(), options["by"], where, metrics=options["columns"], sort=options["sort"], limit=limit or None
        )
        _groups(settings, grouped, options["form"])
        return
    found = query.listing(settings.project(), where, sort=options["sort"], limit=limit or None, columns=options["columns"])
    _listing(settings, found, options, filtered=bool(where))


def _listing(settings: Settings, found: Any, options: dict[str, Any], *, filtered: bool) -> None:
    from mlops_local.services import query

    changed = query.changed(found.runs) if options["only_changed"] else ()
    columns = (*found.columns, *(field for field in changed if field not in found.columns)) if found.columns else ()
    if settings.json and not columns:
        output.items("runs", found.runs, total=found.total, **({"changed": changed} if options["only_changed"] else {}))
    elif settings.json or options["form"] == "csv":
        rows = [query.row(run) for run in found.runs]
        fields = columns or (("id", "name", *changed) if changed else query.present(rows))
        if settings.json:
            output.items("fields", [{field: row.get(field) for field in fields} for row in rows], total=found.total)
        else:
            output.csv(fields, [[row.get(field) for field in fields] for row in rows])
    elif not found.runs:
        output.line("no run matches" if filtered else "no runs yet: `mlops train` or `mlops run COMMAND` makes one")
    else:
        write = output.markdown if options["form"] == "md" else output.table
        listings.chosen(found.runs, columns, write=write) if columns else listings.runs(
            found.runs, also=(*changed, *found.asked), write=write
        )
        _cut(len(found.runs), found.total, options["form"])


def _groups(settings: Settings, grouped: Any, form: str | None) -> None:
    if settings.json:
        output.items("groups", listings.flat_groups(grouped), by=grouped.by, total=grouped.total)
    elif form == "csv":
        rows = listings.flat_groups(grouped)
        titles = list(rows[0]) if rows else [*grouped.by, "runs"]
        output.csv(titles, [list(row.values()) for row in rows])
    elif not grouped.groups:
        output.line("no run matches")
    else:
        listings.groups(grouped, write=output.markdown if form == "md" else output.table)
        _cut(len(grouped.groups), grouped.total, form)


def _cut(shown: int, total: int, form: str | None) -> None:
    """Say that there are more: below a table for people, beside one for another page."""
    if total > shown:
        text = f"{shown} of {total}; --limit 0 shows all"
        output.line(text) if form is None else diagnostics.say(text)


@click.command(
    epilog="""\b
`mlops schema` lists the tables. The store is open for reading only.
\b
Examples:
  mlops sql "select name, state, seconds from run order by started desc limit 5"
  mlops sql "select name, avg(seconds) from step group by name" --csv
  mlops sql "from metric" --parquet points.parquet
  echo "select count(*) from prediction" | mlops sql -"""
)
@click.argument("query")
@click.option("--parquet", metavar="FILE", type=click.Path(dir_okay=False), help="Write every row to a Parquet file instead.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=1000, show_default=True, help="Show at most so many rows; 0 for all."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=60,
    show_default=True,
    help="Give up after so long; 0: never.",
)
@format_options
@json_option
@click.pass_obj
def sql(settings: Settings, /, query: str, limit: int, **options: Any) -> None:
    """Run one SELECT over the project's data, runs, predictions and decisions."""
    from mlops_local.services import sql as service

    text = sys.stdin.read() if query == "-" else query
    timeout_s = options["timeout"] or None
    if options["parquet"]:
        if settings.json or options["form"]:
            raise click.UsageError("--parquet and another format at once.")
        target = settings.directory / options["parquet"]
        rows = service.to_parquet(settings.project(), text, target, timeout_s=timeout_s)
        diagnostics.say(f"{rows} rows are in {options['parquet']}")
        return
    answer = service.sql(settings.project(), text, limit=limit or None, timeout_s=timeout_s)
    if settings.json:
        found = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
        output.items("rows", found, columns=answer.columns, types=answer.types, more=answer.more)
    elif options["form"] == "csv":
        output.csv(answer.columns, answer.rows)
    else:
        listings.sql(answer, write=output.markdown if options["form"] == "md" else output.table)
    if answer.more:
        diagnostics.warn(f"only the first {len(answer.rows)} rows are shown; --limit 0 shows all")


@click.command(
    epilog="""\b
Examples:
  mlops schema
  mlops schema run"""
)
@click.argument("table", default="")
@json_option
@click.pass_obj
def schema(settings: Settings, table: str) -> None:
    """List the tables `mlops sql` can see, or one table's columns, and what they mean."""
    from mlops_local.services import sql as service

    found = service.schema(settings.project(), table)
    if settings.json:
        output.items("schema", found[0].columns if table else found)
    elif table:
        listings.relation(found[0])
    else:
        listings.schema(found)


@click.group(epilog="\b\nExamples:\n  mlops export runs --to parquet")
def export() -> None:
    """Take what the store knows elsewhere, as files."""


@export.command(
    "runs",
    epilog="""\b
In DIR, `duckdb -init load.sql` answers what `mlops sql` does.
\b
Examples:
  mlops export runs --to parquet
  mlops export runs --to csv ../for-the-paper""",
)
@click.option("--to", "form", type=click.Choice(["parquet", "csv", "json"]), required=True, help="Which kind of files.")
@click.argument("folder", default=None, required=False, type=click.Path(path_type=Path), metavar="[DIR]")
@json_option
@click.pass_obj
def export_runs(settings: Settings, form: str, folder: Path | None) -> None:
    """Write runs with their parameters, metrics, tags, notes, files and steps to DIR (runs-FORM by default)."""
    from mlops_local.services import export as service

    done = service.runs(settings.project(), form, settings.directory / (folder or f"runs-{form}"))
    if settings.json:
        output.fields("export", done)
    else:
        output.table(["file", Column("rows", right=True)], list(done.files.items()))
        diagnostics.say(f"in {done.folder}: `duckdb -init load.sql` there answers what `mlops sql` does")
