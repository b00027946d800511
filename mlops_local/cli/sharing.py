"""The commands that move a project's store between people and machines, and free what nobody needs."""

from __future__ import annotations

import click

from mlops_local.cli import diagnostics
from mlops_local.cli.context import Settings, json_option


@click.command(epilog="\b\nExamples:\n  mlops gc\n  mlops gc --yes\n  mlops gc --json | jq .bytes")
@click.option("--yes", is_flag=True, help="Remove it; without this, nothing is changed.")
@json_option
@click.pass_obj
def gc(settings: Settings, yes: bool) -> None:
    """Show what no run, version, snapshot or working process needs, and why; with --yes remove it.

    Removed runs can be taken back until then. What is younger than a day is left.
    """
    from mlops_local.cli import output
    from mlops_local.services import gc as service

    with settings.progress() as emit:
        freed = service.gc(settings.project(), yes=yes, emit=emit)
    if settings.json:
        output.fields("gc", freed)
        return
    right = [output.Column(name, right=True, keep=True) for name in ("count", "size")]
    rows = [(heap.kind, heap.count, output.size(heap.bytes), heap.why) for heap in freed.heaps]
    if rows:
        output.table([output.Column("what", keep=True), *right, output.Column("why")], rows)
    verb = "freed" if freed.removed else "can be freed"
    output.line(f"{output.size(freed.bytes)} {verb}; {freed.needed} objects are needed" + _young(freed.young))
    if rows and not freed.removed:
        diagnostics.say("nothing was removed; `mlops gc --yes` does it")


def _young(count: int) -> str:
    return f", {count} are too young to tell" if count else ""
