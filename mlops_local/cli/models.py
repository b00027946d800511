"""`mlops model`: versions, their verdicts, promotion and rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlops_local.cli import diagnostics
from mlops_local.cli.context import Settings, json_option

SLICES = 10
"""Values of a slice column shown, the most frequent first."""

if TYPE_CHECKING:
    from mlops_local.services.model import VersionView


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def model() -> None:
    """Model versions: list, show, promote, roll back."""


@model.command(name="ls", epilog="\b\nExamples:\n  mlops model ls\n  mlops model ls delay --json")
@click.argument("name", required=False)
@json_option
@click.pass_obj
def list_(settings: Settings, name: str | None) -> None:
    """List versions, newest first."""
    from mlops_local.cli import output
    from mlops_local.services import model as service

    views = service.versions(settings.project(), name)
    if settings.json:
        output.items("model", views)
        return
    rows = [
        (
            view.version.id,
            view.version.candidate,
            view.version.metric,
            view.version.value,
            _interval(view),
            view.verdict.verdict if view.verdict else "",
            ", ".join([*view.aliases, *(["served"] if view.deployed else [])]),
            view.version.state,
            output.local_time(view.version.created),
        )
        for view in views
    ]
    columns: list[output.Column | str] = [
        output.Column("version", keep=True),
        "candidate",
        "metric",
        output.Column("value", right=True, keep=True),
        "95 %",
        "gates",
        output.Column("is", keep=True),
        "state",
        "made",
    ]
    output.table(columns, rows, empty="no model version yet: `mlops train` makes one")


def _interval(view: VersionView) -> str:
    low, high = view.version.low, view.version.high
    return f"[{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""


def _rows(view: VersionView) -> str:
    parts = view.report.get("rows", {})
    if not {"train", "valid", "test"} <= set(parts):
        return ""
    folds = len(view.report.get("folds", ()))
    held_out = f" held out in {folds} folds" if folds else ""
    return f"{parts['test']:,} rows{held_out}, fitted on {parts['train'] + parts['valid']:,}"


@model.command(epilog="\b\nExamples:\n  mlops model show @champion\n  mlops model show delay@3 --json")
@click.argument("ref", default="@champion")
@json_option
@click.pass_obj
def show(settings: Settings, ref: str) -> None:
    """Show one version: metrics, gates, where it came from."""
    from mlops_local.cli import output
    from mlops_local.services import model as service

    view = service.view(settings.project(), ref)
    if settings.json:
        output.fields("model-version", view)
        return
    version = view.version
    output.pairs(
        [
            ("version", version.id),
            ("is", ", ".join([version.state, *view.aliases, *(["served"] if view.deployed else [])])),
            ("candidate", version.candidate),
            ("run", version.run[16:24]),
            ("made", output.local_time(version.created)),
            (version.metric, f"{version.value:.4f} {_interval(view)}".strip()),
            *((key, value) for key, value in sorted(version.metrics.items()) if key != version.metric),
            *((f"snapshot {source}", snapshot[:8]) for source, snapshot in sorted(version.snapshots.items())),
            *((f"{version.metric} on {part}", f"{value:.4f}") for part, value in view.report.get("seen", {}).items()),
            ("evaluated on", _rows(view)),
            ("fingerprint", version.fingerprint[:16]),
            ("bundle", version.bundle_hash[:16]),
        ]
    )
    if view.warning:
        diagnostics.warn(f"{version.id}: {view.warning}")
    if view.verdict is not None:
        output.line()
        baseline = f" against {view.verdict.baseline}" if view.verdict.baseline else ""
        from mlops_local.services.judging import describe_gate

        output.line(f"gates{baseline}: {view.verdict.verdict}")
        for gate in view.verdict.gates:
            output.line("  " + describe_gate(gate))
    if folds := view.report.get("folds"):
        output.line()
        rows = [(line["fold"], line["rows"], line["metrics"].get(version.metric)) for line in folds]
        right = [output.Column(name, right=True) for name in ("rows", version.metric)]
        output.table([output.Column("fold"), *right], rows)
    for column, lines in view.report.get("slices", {}).items():
        output.line()
        rows = [(line["value"], line["rows"], line["metric"]) for line in lines[:SLICES]]
        output.table(
            [output.Column(column), output.Column("rows", right=True), output.Column(version.metric, right=True)], rows
        )
        if len(lines) > SLICES:
            output.line(f"… and {len(lines) - SLICES} more: --json")


@model.command(
    epilog='\b\nExamples:\n  mlops model promote delay@3\n  mlops model promote delay@3 --force --reason "labels were wrong"'
)
@click.argument("ref")
@click.option("--reason", default="", help="Why; kept in the ledger.")
@click.option("--force", is_flag=True, help="Although its gates did not pass; needs --reason.")
@click.pass_obj
def promote(settings: Settings, ref: str, reason: str, force: bool) -> None:
    """Make a version the champion; a running server swaps to it."""
    from mlops_local.cli import output
    from mlops_local.services import model as service

    version = service.promote(settings.project(), ref, reason=reason, force=force)
    output.line(f"{version.id} is the champion of {version.model}")


@model.command(epilog="\b\nExamples:\n  mlops model rollback\n  mlops model rollback delay --reason 'too slow'")
@click.argument("name", required=False)
@click.option("--reason", default="", help="Why; kept in the ledger.")
@click.pass_obj
def rollback(settings: Settings, name: str | None, reason: str) -> None:
    """Make the champion before this one champion again."""
    from mlops_local.cli import output
    from mlops_local.services import model as service

    version = service.rollback(settings.project(), name, reason=reason)
    output.line(f"{version.id} is the champion of {version.model} again")
