"""`mlops check` and `mlops hook …`: parse, call one service, show what it returned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlops_local.cli.context import Settings, json_option
from mlops_local.cli.diagnostics import ExitCode

if TYPE_CHECKING:
    from mlops_local.services.check import CheckResult
    from mlops_local.services.hook import HookState

_CODES = {
    "pass": ExitCode.DONE,
    "unaffected": ExitCode.DONE,
    "regression": ExitCode.REGRESSION,
    "no-verdict": ExitCode.NO_VERDICT,
}


@click.command(epilog="\b\nExamples:\n  mlops check\n  mlops check --staged\n  mlops check --staged --json")
@click.option("--staged", is_flag=True, help="Ask about what is staged in git, not about the working tree.")
@json_option
@click.pass_obj
def check(settings: Settings, staged: bool) -> None:
    """Say whether this code regresses: its version's verdict against the champion. Trains nothing.

    Exit code 0: it passes, or nothing it depends on changed. 3: a regression. 4: no verdict, with the command that gives one.
    """
    from mlops_local.cli import diagnostics
    from mlops_local.services import check as service

    if staged:
        project = service.find_staged(settings.directory, wait_s=settings.wait_s, on_wait=diagnostics.waiting)
    else:
        project = settings.project()
    result = service.check(project, staged=staged)
    _show_check(settings, result)
    raise SystemExit(_CODES[result.state])


def _show_check(settings: Settings, result: CheckResult) -> None:
    from mlops_local.cli import output

    if settings.json:
        fields = {name: getattr(result, name) for name in ("state", "staged", "tree", "models", "notes")}
        output.fields("check", fields)
        return
    for line in result.lines:
        output.line(line)
    if not result.models:
        output.line(result.state)


@click.group(epilog="\b\nExamples:\n  mlops hook install\n  mlops hook status\n  mlops hook uninstall")
def hook() -> None:
    """Check for regressions before each commit.

    The hook looks at what is staged, trains nothing and leaves at once when the commit does not touch the project. It blocks a
    regression and lets code that was never evaluated pass with one line, unless [hook] untrained = "block".
    """


@hook.command(epilog="\b\nExamples:\n  mlops hook install")
@click.pass_obj
def install(settings: Settings) -> None:
    """Install the pre-commit hook; an earlier one is kept and runs first."""
    from mlops_local.hook import pre_commit
    from mlops_local.services import hook as service

    _show_hook(settings, service.install(settings.project(), pre_commit.frame()))


@hook.command(epilog="\b\nExamples:\n  mlops hook uninstall")
@click.pass_obj
def uninstall(settings: Settings) -> None:
    """Remove the pre-commit hook; an earlier one comes back as it was."""
    from mlops_local.services import hook as service

    _show_hook(settings, service.uninstall(settings.project()))


@hook.command(epilog="\b\nExamples:\n  mlops hook status\n  mlops hook status --json")
@json_option
@click.pass_obj
def status(settings: Settings) -> None:
    """Say which hook git would run, and whether it would work."""
    from mlops_local.services import hook as service

    _show_hook(settings, service.status(settings.project()))


def _show_hook(settings: Settings, state: HookState) -> None:
    from mlops_local.cli import diagnostics, output

    if settings.json:
        output.fields("hook", state)
        return
    said = {
        "installed": f"installed: {state.path}",
        "absent": f"not installed: no {state.path.name} hook in {state.path.parent}",
        "foreign": f"not installed: {state.path} is another hook",
        "elsewhere": f"not installed for this project: {state.path} checks others",
    }
    output.line(said[state.state])
    if state.chained is not None:
        output.line(f"runs first: {state.chained}")
    if state.problem:
        diagnostics.warn(state.problem)


@hook.command("run", hidden=True)
@click.option(
    "--budget", type=click.FloatRange(min=0.1), metavar="SECONDS", help="No verdict after so long; else [hook] timeout."
)
@click.pass_obj
def run_hook(settings: Settings, budget: float | None) -> None:
    """Answer git: called by the installed hook, on what is staged."""
    from mlops_local.cli import diagnostics, output
    from mlops_local.hook import pre_commit
    from mlops_local.services import check as service

    project = service.find_staged(settings.directory, wait_s=min(settings.wait_s, 5.0), on_wait=diagnostics.waiting)
    answer = pre_commit.run(project, budget_s=budget)
    for line in answer.lines:
        output.line(line)
    raise SystemExit(answer.code)
