"""The commands that only look: status, runs, show, compare, logs, sql, schema, audit, completion; and bare `mlops`.

Each parses its options, calls one service and hands the answer to `views`.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from mlops_local.cli import diagnostics, output, views
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
Examples:
  mlops runs
  mlops runs -w "state = failed"
  mlops runs -w "metric.auc > 0.7 and param.gbm.num_leaves = 31" --sort -metric.auc
  mlops runs -w "param.lr in (0.1, 0.3) and (metric.auc > 0.7 or not tag.team = 'a')"
  mlops runs -w "started > now() - interval 2 day" --limit 100 --json"""
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
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="At most so many; 0 for all.")
@json_option
@click.pass_obj
def runs(settings: Settings, where: str, sort: str, limit: int) -> None:
    """List runs, newest first."""
    from mlops_local.services import history

    found, total = history.runs(settings.project(), where, sort=sort, limit=limit or None)
    if settings.json:
        output.items("runs", found, total=total)
    else:
        views.runs(found, total, filtered=bool(where))


@click.command(
    epilog="""\b
A REF is an id's beginning, a name, @latest, @1 (newest), @best, HEAD~1,
delay@3, delay@champion, flights, flights@~1.
\b
Examples:
  mlops show @latest
  mlops show delay@champion
  mlops show flights@~1"""
)
@click.argument("ref", default="@latest")
@json_option
@click.pass_obj
def show(settings: Settings, ref: str) -> None:
    """Show one run, model version or snapshot in full."""
    from mlops_local.services import history

    kind, answer = history.show(settings.project(), ref)
    output.fields(kind, answer) if settings.json else views.show(kind, answer)


@click.command(
    epilog="""\b
Examples:
  mlops compare                     the newest run with the one before
  mlops compare @3 @1
  mlops compare delay@champion delay@latest
  mlops diff HEAD~1 HEAD --exit-code"""
)
@click.argument("refs", nargs=-1, metavar="[REF REF...]")
@click.option("--all", "everything", is_flag=True, help="Also what is the same in all.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when anything differs.")
@json_option
@click.pass_context
def compare(context: click.Context, refs: tuple[str, ...], everything: bool, exit_code: bool) -> None:
    """Show what differs between runs or versions: metrics, parameters, code, data, packages."""
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
`mlops schema` lists the tables. The store is open for reading only.
\b
Examples:
  mlops sql "select name, state, seconds from run order by started desc limit 5"
  mlops sql "select name, avg(seconds) from step group by name" --csv
  echo "select count(*) from prediction" | mlops sql -"""
)
@click.argument("query")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--limit", type=click.IntRange(min=0), default=1000, show_default=True, help="At most so many rows; 0 for all.")
@json_option
@click.pass_obj
def sql(settings: Settings, query: str, as_csv: bool, limit: int) -> None:
    """Run one SELECT over the project's data, runs, predictions and decisions."""
    from mlops_local.services import query as service

    text = sys.stdin.read() if query == "-" else query
    answer = service.sql(settings.project(), text, limit=limit or None)
    if settings.json:
        rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
        output.items("rows", rows, columns=answer.columns, types=answer.types, more=answer.more)
    elif as_csv:
        output.csv(answer.columns, answer.rows)
    else:
        output.table(views.sql_columns(answer), answer.rows)
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
    """List the tables `mlops sql` can see, or one table's columns."""
    from mlops_local.services import query as service

    found = service.schema(settings.project(), table)
    if settings.json:
        output.items("schema", found)
    elif table:
        output.table(["column", "type"], [(column.name, column.type) for column in found])
    else:
        views.schema(found)


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
