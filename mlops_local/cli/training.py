"""`mlops train`: parse, call one service, show what it returned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mlops_local.cli import diagnostics
from mlops_local.cli.context import Settings, json_option
from mlops_local.cli.diagnostics import ExitCode
from mlops_local.cli.parameters import set_option
from mlops_local.cli.planning import decision_fields, show_plan

if TYPE_CHECKING:
    from mlops_local.domain.assets import ModelVersion
    from mlops_local.services.train import TrainResult


@click.command(
    epilog="""\b
Examples:
  mlops train
  mlops train mlp -S mlp.epochs=3
  mlops train -j 4 --keep-going
  mlops train gbm --scratch -S gbm.num_leaves=31
  mlops train --dry-run
  mlops train --gate
  mlops train --resume"""
)
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@set_option
@click.option("-n", "--dry-run", is_flag=True, help="Show the plan, run nothing.")
@click.option("--debug", is_flag=True, help="Run one step in this terminal, a debugger where it raises; keep nothing.")
@click.option("-f", "--force", is_flag=True, help="Run every step, whatever the plan says.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), metavar="N", help="Run at most N steps at once (one for each core).")
@click.option("-k", "--keep-going", is_flag=True, help="After a failure, go on with what does not depend on it.")
@click.option("-s", "--single", is_flag=True, help="Only the named steps, on their inputs as they are kept.")
@click.option("--downstream", is_flag=True, help="Also everything that depends on the named steps.")
@click.option("--scratch", is_flag=True, help="Keep nothing: no run, no result, no version, no mlops.lock.")
@click.option("-m", "--message", default="", help="A note kept with the run.")
@click.option(
    "--resume",
    is_flag=False,
    flag_value="",
    metavar="[RUN]",
    help="Let interrupted steps go on from their checkpoints; with RUN, for its targets and parameters.",
)
@click.option("--strict", is_flag=True, help="Fail a step that reads a file which is not its input (Linux 5.13 or newer).")
@click.option("--gate", is_flag=True, help="Exit 3 on a regression, 4 without a verdict.")
@json_option
@click.pass_obj
def train(
    settings: Settings,
    /,
    targets: tuple[str, ...],
    params: dict[str, str],
    dry_run: bool,
    debug: bool,
    force: bool,
    message: str,
    resume: str | None,
    strict: bool,
    gate: bool,
    **how: Any,
) -> None:
    """Bring steps and models up to date: run what changed, reuse the rest, judge what was made.

    TARGET is a step, a candidate or a model; without one, what [project] targets says.
    """
    if debug:
        from mlops_local.cli import foreground

        raise SystemExit(foreground.debug(settings, targets, params))
    from mlops_local.services.train import train as run

    with settings.progress() as emit:
        result = run(
            settings.project(),
            targets,
            params=params,
            force=("*",) if force else (),
            dry_run=dry_run,
            message=message,
            resume=resume,
            strict=strict,
            **how,
            emit=lambda event: None if event.kind == "version" else emit(event),  # the result below says it
        )
    _show_result(settings, result, dry_run=dry_run)
    if gate:
        raise SystemExit(_gate_code(result))


def _gate_code(result: TrainResult) -> int:
    verdicts = {_counts(result, version) for version in result.versions}
    if "fail" in verdicts:
        return ExitCode.REGRESSION
    return ExitCode.DONE if verdicts == {"pass"} else ExitCode.NO_VERDICT


def _counts(result: TrainResult, version: ModelVersion) -> str:
    """What the gates say of a version now: a person's rejection counts, and a pass only against the champion of today."""
    verdict, champion = result.verdicts.get(version.id), result.champions.get(version.model, "")
    if version.state == "rejected":
        return "fail"
    if verdict is None:
        return "none"
    if verdict.verdict == "pass" and champion not in (version.id, verdict.baseline):
        diagnostics.warn(f"{version.id} passed against {verdict.baseline or 'nothing'}, and {champion} is the champion now")
        return "none"
    return verdict.verdict


def _show_result(settings: Settings, result: TrainResult, *, dry_run: bool) -> None:
    from mlops_local.cli import output
    from mlops_local.domain.names import counted

    if settings.json:
        output.fields(
            "train",
            {
                "run": result.run,
                "name": result.name,
                "state": result.state,
                "ran": result.ran,
                "reused": result.reused,
                "versions": [version.id for version in result.versions],
                "verdicts": {key: verdict.verdict for key, verdict in result.verdicts.items()},
                "champions": result.champions,
                "plan": [decision_fields(d) for d in result.plan.decisions],
                "seconds": result.seconds,
                "scratch": result.scratch,
            },
        )
        return
    if dry_run:
        show_plan(result.plan)
        return
    if result.scratch and result.ran:
        output.line(
            f"scratch: {counted(len(result.ran), 'step')} ran, {output.seconds(result.seconds)}; nothing of it was kept"
        )
    if result.run:
        counts = f"{counted(len(result.ran), 'step')} ran, {len(result.reused)} reused"
        output.line(f"run {result.run[16:24]} {result.name}: {counts}, {output.seconds(result.seconds)}")
    for version in result.versions:
        verdict = result.verdicts.get(version.id)
        mark = ", champion" if result.champions.get(version.model) == version.id else ""
        known = version.low is not None and version.high is not None
        interval = f" [{version.low:.3f}, {version.high:.3f}]" if known else ""
        judged = verdict.verdict if verdict else "none"
        note = f", {version.note}" if version.note else ""
        output.line(
            f"{version.id} {version.candidate}{note}: {version.metric} {version.value:.4f}{interval}, gates: {judged}{mark}"
        )
