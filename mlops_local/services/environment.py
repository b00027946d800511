"""What is recorded of where a run happened: interpreter, machine, packages, commit; never a secret, never an absolute path."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import sys
from collections.abc import Mapping
from typing import Any

from mlops_local import __version__
from mlops_local.domain import secrets
from mlops_local.domain.graph import Graph
from mlops_local.services import git, interpreter
from mlops_local.services.project import Project
from mlops_local.store import layout, objects


def capture(project: Project) -> dict[str, Any]:
    """The fields RUN_STARTED carries beside the run's own: commit, dirty, diff, env, python, host, pid, argv."""
    diff, dirty = git.dirty_diff(project.root)
    return {
        "argv": secrets.command_line([os.path.basename(sys.argv[0]), *sys.argv[1:]]),  # noqa: PTH119  (a name, not a path)
        "commit": git.head(project.root),
        "dirty": dirty,
        "diff": objects.put_bytes(
            project.layout, secrets.strike(diff.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        )
        if diff
        else "",
        "env": secrets.environment(os.environ),
        "python": platform.python_version(),
        "mlops": __version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }


def of_steps(project: Project, graph: Graph) -> dict[str, Any]:
    """The fields a run of steps has in addition: the interpreter that runs them and the versions of what they import."""
    python = interpreter.of(project)
    versions = dict(text.partition(" ")[::2] for text in sorted(graph.distributions.values()))
    return {
        "python": python.version,
        "interpreter": "" if python.ours else python.shown(project.root),
        "packages": {name: version for name, version in versions.items() if version},
    }


def safe(values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with secret ones struck out."""
    return dict(secrets.parameters(values))


def seed(project: Project, step: str, trial: int = 0) -> int:
    """A step's seed: stable across edits, another for each step and trial. 31 bits, what every library accepts."""
    text = "\0".join((layout.project_id(project.layout), step, str(trial)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") & 0x7FFFFFFF
