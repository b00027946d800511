"""Command steps as far as planning sees them: the graph of a project without a pipeline module, and programs' own files.

Which files a glob stands for is asked each time: a new one counts like an edited one.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlops_local.domain.errors import ConfigError
from mlops_local.domain.graph import Graph, Step
from mlops_local.domain.plan import Part
from mlops_local.engines.pipeline import fingerprint

Load = Callable[[str], bytes | None]


def graph(commands: Mapping[str, Mapping[str, Any]]) -> Graph:
    """The graph of mlops.toml's commands alone. Raises ConfigError with every problem."""
    from mlops_local.worker.describe import resolved  # noqa: PLC0415  (15 ms: only for projects without a pipeline module)
    from mlops_local.worker.scan import Found  # noqa: PLC0415

    return resolved(Found(), commands)


def contents(root: Path, graph: Graph, load: Load) -> dict[str, tuple[Part, ...]]:
    """Each command step's code files by content.

    Args:
        root: the project's folder; globs are looked up there.
        graph: what was declared.
        load: gives a path's bytes, or None where there is no such file.

    Raises:
        ConfigError: a declared code file is not there.
    """
    return {step.name: tuple(_parts(root, step, load)) for step in graph.steps if step.kind == "command"}


def _parts(root: Path, step: Step, load: Load) -> Iterator[Part]:

    for pattern in json.loads(step.extras["code"]):
        wild = glob.has_magic(pattern)
        paths = sorted(glob.glob(pattern, root_dir=root, recursive=True)) if wild else [pattern]  # noqa: PTH207  (root_dir)
        found = {path: data for path in paths if not (root / path).is_dir() and (data := load(path)) is not None}
        if not found:
            raise ConfigError(
                f"{step.file}: the code of {step.name}, {pattern}, is not there",
                hint="name files relative to the project's folder; patterns may have * and **",
            )
        for path, data in found.items():
            yield Part("code", path, fingerprint.digest("file", data.decode("latin-1")), path)
