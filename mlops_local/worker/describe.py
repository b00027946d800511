"""Import the pipeline module and say what it declares, what it imported and what it read."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mlops_local.domain.errors import ConfigError
from mlops_local.domain.graph import Graph
from mlops_local.worker.constants import constants
from mlops_local.worker.finder import Finder, load
from mlops_local.worker.libraries import libraries
from mlops_local.worker.reads import Reads, Variables
from mlops_local.worker.resolve import resolve
from mlops_local.worker.scan import Found, scan


def describe(
    finder: Finder, entry: str, imports: Iterable[str], commands: Mapping[str, Mapping[str, Any]] | None = None
) -> Graph:
    """The graph the module at path `entry` declares.

    Args:
        finder: installed; serves the project's modules.
        entry: the pipeline module's path, relative to the root.
        imports: top-level names of what project code imports that is not project code.
        commands: the command steps of mlops.toml.

    Raises:
        ConfigError: it does not import, or declares what cannot be.
    """
    name = next(name for name, source in finder.sources.items() if source.path == entry)
    with Reads(finder.root) as reads, Variables(finder.root) as variables:
        load(finder, name)
    graph = resolved(scan(finder), commands or {})
    loaded = {module: source.path for module, source in finder.sources.items() if module in sys.modules}
    used = libraries(finder.root, finder.sources, imports)
    modules = {**loaded, **finder.found, **used.modules}
    return replace(
        graph,
        modules=modules,
        distributions=used.versions,
        reads=tuple(sorted(reads.files() - set(modules.values()))),
        texts=tuple(sorted(reads.files() & {source.path for source in finder.sources.values()})),
        values=constants(finder),
        variables=tuple(sorted(variables.names)),
        places=used.places,
        records=tuple(sorted(used.records)),
        python=platform.python_version(),
    )


def resolved(found: Found, commands: Mapping[str, Mapping[str, Any]]) -> Graph:
    """The graph of what was found and of mlops.toml's commands. Raises ConfigError with every problem."""
    found.add_commands(commands, "mlops.toml")
    graph, problems = resolve(found)
    if problems:
        raise ConfigError(problems[0].text, hint=problems[0].hint, problems=[problem.text for problem in problems])
    return graph
