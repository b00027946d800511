"""Run a script once as it is, in the project's interpreter, and say what it read, wrote and was told."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlops_local
from mlops_local.domain.errors import StepFailed, UsageError
from mlops_local.engines.pipeline import process
from mlops_local.services import interpreter
from mlops_local.services.project import Project
from mlops_local.worker import commands, witness

_CUSTOMIZE = """\
import sys
from importlib.machinery import PathFinder


class Ours:
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, [{place!r}]) if name == "mlops_local" else None


sys.path[:] = [place for place in sys.path if place != {folder!r}]
sys.meta_path.insert(0, Ours)
from mlops_local.worker.witness import begin
sys.meta_path.remove(Ours)
begin()
del sys.modules["sitecustomize"]
try:
    import sitecustomize  # the environment's own
except ModuleNotFoundError:
    sys.modules["sitecustomize"] = type(sys)("sitecustomize")
"""
"""Runs in every Python the script starts, before its first line."""


@dataclass(frozen=True)
class Seen:
    """What one run of a script showed."""

    script: str
    """Relative to the project's folder."""
    arguments: tuple[str, ...]
    reads: Mapping[str, str] = field(default_factory=dict)
    """File -> how the code names it (itself, a pattern, a folder); both relative to the project's folder."""
    writes: tuple[str, ...] = ()
    """Files of the project that are new or changed."""
    parsers: tuple[Mapping[str, Any], ...] = ()
    """The arguments its argparse parser and those of its subcommands declare, and their values in this run."""


def run(project: Project, script: str, arguments: Sequence[str]) -> Seen:
    """Run the script once, as `python SCRIPT ARGUMENTS` in the project's folder; what it prints goes to stderr.

    Args:
        project: the project.
        script: a Python file, relative to the project's folder.
        arguments: what it is called with.

    Raises:
        ConfigError: there is no interpreter to run it with.
        UsageError: it cannot be started.
        StepFailed: it ended with an error.
    """
    python, root = interpreter.of(project).path, project.root
    place = str(Path(mlops_local.__file__).resolve().parent.parent)
    with tempfile.TemporaryDirectory(prefix="script-", dir=project.layout.tmp) as name:
        folder = Path(name)
        customize = _CUSTOMIZE.format(place=place, folder=str(folder))
        (folder / "sitecustomize.py").write_text(customize, encoding="utf-8")
        before = commands.seen(root)
        request = {"root": str(root), "began": time.time(), "arguments": list(arguments)}
        (folder / witness.REQUEST).write_text(json.dumps(request), encoding="utf-8")
        paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH", "")])]
        variables = {witness.FOLDER: name, witness.SCRIPT: "1", "PYTHONPATH": os.pathsep.join(paths)}
        environment = {**process.environment(python, 0), **variables}
        try:
            done = subprocess.run([python, script, *arguments], cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=2)
        except OSError as error:
            raise UsageError(f"cannot start {python}: {error.strerror}") from error
        if done.returncode:
            how = f"exit code {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
            raise StepFailed(
                f"{script} ended with {how}; nothing is proposed", hint="let it run to its end by itself first, then again"
            )
        reads = _reads(folder / witness.READS, root)
        parsers = json.loads(found.read_bytes()) if (found := folder / witness.ARGUMENTS).exists() else []
    return Seen(script, tuple(arguments), reads, tuple(_writes(before, commands.seen(root), root)), tuple(parsers))


def _reads(path: Path, root: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = dict(json.loads(line) for line in lines)
    return {os.path.relpath(file, root): os.path.relpath(name, root) for file, name in sorted(found.items())}


def _writes(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, root: Path) -> list[str]:
    if before is None or after is None:
        raise UsageError(
            "the project has too many files to see which of them the script writes",
            hint="run it in a folder of its own, or write the [steps.NAME] entry by hand: docs/steps.md",
        )
    return sorted(os.path.relpath(path, root) for path, stamp in after.items() if before.get(path) != stamp)
