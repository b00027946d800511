"""Command steps as far as planning sees them: the graph of a project without a pipeline module, and programs' own files.

Which files a glob stands for is asked each time: a new one counts like an edited one.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlops_local.domain.errors import ConfigError
from mlops_local.domain.graph import Graph, Step
from mlops_local.domain.plan import Part
from mlops_local.domain.project import ProjectConfig
from mlops_local.engines.data import patterns
from mlops_local.engines.pipeline import fingerprint

Load = Callable[[str], bytes | None]


def graph(commands: Mapping[str, Mapping[str, Any]]) -> Graph:
    """The graph of mlops.toml's commands alone. Raises ConfigError with every problem."""
    from mlops_local.worker.describe import resolved  # noqa: PLC0415  (15 ms: only for projects without a pipeline module)
    from mlops_local.worker.scan import Found  # noqa: PLC0415

    return resolved(Found(), commands)


def with_sources(graph: Graph, config: ProjectConfig) -> Graph:
    """The graph with the sources of mlops.toml; of two of one name the code's counts."""
    known = {source.name for source in graph.sources}
    added = tuple(source for source in config.sources if source.name not in known)
    return replace(graph, sources=(*graph.sources, *added)) if added else graph


def code(graph: Graph) -> list[str]:
    """The patterns of all command steps' code files."""
    return [pattern for step in graph.steps if step.kind == "command" for pattern in json.loads(step.extras["code"])]


def files(root: Path, graph: Graph) -> set[str]:
    """The command steps' code files that are there now, and those that are named and gone."""
    return {path for pattern in code(graph) for path in _paths(root, pattern, None)}


def contents(root: Path, graph: Graph, load: Load, listed: Collection[str] | None = None) -> dict[str, tuple[Part, ...]]:
    """Each command step's code files by content.

    Args:
        root: the project's folder.
        graph: what was declared.
        load: gives a path's bytes, or None where there is no such file.
        listed: the files of the tree that is asked about; None for those in the project's folder. A pattern that means none of
            them is looked up in the folder all the same.

    Raises:
        ConfigError: a declared code file is not there.
    """
    return {step.name: tuple(_parts(root, step, load, listed)) for step in graph.steps if step.kind == "command"}


def _paths(root: Path, pattern: str, listed: Collection[str] | None) -> list[str]:
    if not glob.has_magic(pattern):
        return [pattern]
    tracked = sorted(path for path in listed or () if patterns.matches(pattern, path))
    return tracked or sorted(glob.glob(pattern, root_dir=root, recursive=True))  # noqa: PTH207  (root_dir)


def _parts(root: Path, step: Step, load: Load, listed: Collection[str] | None) -> Iterator[Part]:
    for pattern in json.loads(step.extras["code"]):
        paths = _paths(root, pattern, listed)
        found = {path: data for path in paths if not (root / path).is_dir() and (data := load(path)) is not None}
        if not found:
            raise ConfigError(
                f"{step.file}: the code of {step.name}, {pattern}, is not there",
                hint="name files relative to the project's folder; patterns may have * and **",
            )
        for path, data in found.items():
            yield Part("code", path, fingerprint.digest("file", data.decode("latin-1")), path)
