"""Make a script a step: run it once, propose its entry, and write that to mlops.toml when the user agrees."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mlops_local.domain.errors import ConfigError, UsageError
from mlops_local.domain.secrets import command_line
from mlops_local.services import planning, proposal, witness
from mlops_local.services.project import CONFIG, Project, read_config
from mlops_local.services.proposal import Proposal
from mlops_local.store import files


def check(project: Project, script: Path, arguments: Sequence[str]) -> str:
    """Say what the script is called from the project's folder, when it can become a step.

    Raises:
        UsageError: it is not there or no Python script, an argument is a secret, or there is a step of its name.
        ConfigError: the project's pipeline cannot be read.
    """
    path = os.path.relpath(script.absolute(), project.root)
    if not script.is_file() or path.startswith("../"):
        what = "lies outside the project" if script.is_file() else "is not there"
        raise UsageError(f"the script {script} {what}", hint="name a Python script in the project's folder")
    if script.suffix != ".py":
        raise UsageError(
            f"{path} is no Python script (.py)", hint="write the [steps.NAME] entry of other programs by hand: docs/steps.md"
        )
    if command_line(arguments) != list(arguments):
        raise UsageError(
            "one of the script's arguments looks like a secret, and mlops.toml would keep it",
            hint="let the script take it from an environment variable",
        )
    name = proposal.step_name(path)
    taken = set(project.config.steps)
    if (project.root / project.config.pipeline).exists():
        graph = planning.read_code(project).graph
        taken |= {
            *(item.name for item in graph.steps),
            *(item.name for item in graph.sources),
            *(item.name for item in graph.models),
        }
    if name in taken:
        raise UsageError(
            f"the project has something named {name!r} already; nothing was run or written",
            hint=f"rename the script, or the step in {CONFIG if name in project.config.steps else project.config.pipeline}",
        )
    return path


def propose(project: Project, script: str, arguments: Sequence[str]) -> Proposal:
    """Run the script once and return the entry of mlops.toml that makes it a step.

    Args:
        project: the project.
        script: as `check` gave it.
        arguments: what it is called with.

    Raises:
        StepFailed: it ended with an error.
        UsageError: it wrote nothing, or the entry cannot be written down.
        ConfigError: there is no interpreter to run it with.
    """
    made = proposal.propose(witness.run(project, script, arguments), project.root)
    _extended(project, made)
    return made


def write(project: Project, made: Proposal) -> None:
    """Append the entry to mlops.toml. Raises UsageError when an entry of its name came meanwhile."""
    path = project.root / CONFIG
    files.replace(path, _extended(project, made), mode=path.stat().st_mode & 0o777)


def _extended(project: Project, made: Proposal) -> bytes:
    """The file with the entry at its end, checked as a whole."""
    before = (project.root / CONFIG).read_bytes()
    gap = b"" if not before else b"\n" if before.endswith(b"\n") else b"\n\n"
    after = before + gap + made.text.encode("utf-8")
    try:
        read_config(after, name=project.root.name)
    except ConfigError as error:
        raise UsageError(f"the entry for {made.name} does not fit into {CONFIG}: {error.message}", hint=error.hint) from error
    return after
