"""The commands that keep a store sound: doctor and db."""

from __future__ import annotations

import click

from mlops_local.cli import diagnostics, output
from mlops_local.cli.context import Settings, json_option
from mlops_local.cli.diagnostics import ExitCode


@click.command(
    epilog="""\b
Examples:
  mlops doctor
  mlops doctor --deep
  mlops doctor --fix"""
)
@click.option("--deep", is_flag=True, help="Also read every kept file and compare it with what was written.")
@click.option("--fix", is_flag=True, help="Repair what can be repaired; nothing that cannot be made again is removed.")
@json_option
@click.pass_context
def doctor(context: click.Context, deep: bool, fix: bool) -> None:
    """Say what is wrong with the store, and the command that mends it.

    Looks at the ledger's chain, the database, journals, objects, runs and claims of killed processes, modes, room, the clock,
    mlops.lock and mlops.toml. Exits 6 when something stored is not what was written, 1 for anything else that is left.
    """
    from mlops_local.services import doctor as service

    settings: Settings = context.obj
    project, findings = service.find(settings.directory, wait_s=settings.wait_s, on_wait=diagnostics.waiting)
    findings += service.doctor(project, fix=fix, deep=deep)
    left = [finding for finding in findings if not finding.fixed]
    if settings.json:
        output.items("doctor", findings, sound=not left)
    elif not findings:
        output.line("the store is sound")
    for finding in [] if settings.json else findings:
        output.line(f"{finding.kind}: {finding.text}" + (" (repaired)" if finding.fixed else ""))
        if finding.remedy and not finding.fixed:
            output.line(f"    → {finding.remedy}")
    if left:
        integrity = any(finding.integrity for finding in left)
        context.exit(ExitCode.INTEGRITY if integrity else ExitCode.FAILED)


@click.group()
def db() -> None:
    """The project's database file, .mlops/project.duckdb: a projection of journals, ledger and objects."""


@db.command(
    epilog="""\b
Examples:
  mlops db rebuild"""
)
@click.pass_obj
def rebuild(settings: Settings) -> None:
    """Make the database anew from the journals and the ledger; nothing is lost."""
    from mlops_local.services import database

    lines = database.rebuild(settings.project())
    output.line(f"rebuilt from {lines} journal and ledger lines")


@db.command(
    epilog="""\b
Examples:
  mlops db compact"""
)
@json_option
@click.pass_obj
def compact(settings: Settings) -> None:
    """Make the database and the put-away journals smaller. Takes room for a copy of the database; others wait meanwhile."""
    from mlops_local.domain.names import counted
    from mlops_local.services import database

    made = database.compact(settings.project())
    if settings.json:
        output.fields("compact", made)
        return
    for name, before, after in (
        ("database", made.database_before, made.database_after),
        ("journals", made.journals_before, made.journals_after),
    ):
        files = f", {counted(before.files, 'file')} → {after.files}" if before.files != after.files else ""
        output.line(f"{name}  {output.size(before.bytes):>9} → {output.size(after.bytes)}{files}")
