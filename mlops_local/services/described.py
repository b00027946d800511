"""The graph that a version of the code declares, where it is known: from these very bytes, or from others of the same outline.

What an earlier version declared holds as long as nothing that importing runs or reads has changed; then nothing is imported.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mlops_local import __version__
from mlops_local.domain.graph import Graph, from_json, to_json
from mlops_local.domain.project import ProjectConfig
from mlops_local.domain.records import dataclass
from mlops_local.engines.pipeline import fingerprint as fingerprints
from mlops_local.engines.pipeline import outline as outlines
from mlops_local.engines.pipeline.outline import Outline
from mlops_local.engines.pipeline.sources import SourceFile
from mlops_local.services import interpreter, known, programs
from mlops_local.services.known import Code, Load
from mlops_local.services.project import Project
from mlops_local.store import cache


@dataclass(frozen=True)
class Look:
    """One look at a project's code."""

    project: Project
    config: ProjectConfig
    """Of the same tree as the sources."""
    sources: Mapping[str, SourceFile]
    load: Load
    """Gives a path's bytes."""
    listed: Collection[str] | None = None
    """The files of the tree that `load` reads; None for those on disk."""

    @cached_property
    def key(self) -> str:
        """A sign of these very bytes, and of all else that says what they declare."""
        files = (f"{module}\0{source.path}\0{source.hash}" for module, source in sorted(self.sources.items()))
        return fingerprints.digest("graph", *self._around, *files)

    def outline_key(self, digest: str) -> str:
        """The same for an outline of the code."""
        return fingerprints.digest("outline", *self._around, digest)

    @cached_property
    def _around(self) -> tuple[str, ...]:
        commands = json.dumps(self.config.steps, sort_keys=True)
        stamp = interpreter.of(self.project).stamp
        return (__version__, known.analysis(), stamp, self.config.pipeline, commands)


def find(look: Look) -> Code | None:
    """The code with its graph, if that is known; nothing is started to find out."""
    kept = cache.graph(look.project.layout, look.key)
    if kept is not None and _still_true(kept, look.load):
        return _code(look, kept)
    return _like_another(look)


def keep(look: Look, graph: Graph) -> Code:
    """The code with a graph that a worker described just now; both are known from now on."""
    load = look.load
    own = look.sources.keys()
    reported = {module: path for module, path in graph.modules.items() if module not in own and load(path) is not None}
    stamps = {path: content_hash(load(path)) for path in {*graph.reads, *reported.values()}}
    graph = replace(graph, contents={path: stamps[path] for path in graph.reads})
    value = {
        "graph": to_json(graph),
        "described": secrets.token_hex(8),
        "reported": reported,
        "stamps": stamps,
        "distributions": {path: _mtime(path) for path in graph.records},
        "variables": {name: _variable(name) for name in graph.variables},
        "places": {path: _content(path) for path in graph.places.values()},
    }
    _save(look, value, _outline(look, graph, reported))
    return _code(look, value, graph)


def _like_another(look: Look) -> Code | None:
    """The code with the graph of another version, at this one's lines: all that importing runs is the same there."""
    now = outlines.outline(look.sources)
    layout = look.project.layout
    like = cache.outline(layout, look.outline_key(now.digest)) if now is not None else None
    kept = cache.graph(layout, like["key"]) if like is not None else None
    if now is None or like is None or kept is None or not _still_true(kept, look.load):
        return None
    graph = outlines.relined(from_json(kept["graph"]), like["lines"], now)
    if graph is None:
        return None
    value = {**kept, "graph": to_json(graph), "described": secrets.token_hex(8)}
    _save(look, value, now)
    return _code(look, value, graph)


def _save(look: Look, value: Mapping[str, Any], now: Outline | None) -> None:
    cache.save_graph(look.project.layout, look.key, value)
    if now is not None:
        cache.save_outline(look.project.layout, look.outline_key(now.digest), {"key": look.key, "lines": now.lines})


def _outline(look: Look, graph: Graph, reported: Mapping[str, str]) -> Outline | None:
    """The code's outline, where that says all: nothing that only importing found is left out of it."""
    return outlines.outline(look.sources) if not reported and _outlined(graph) else None


def _outlined(graph: Graph) -> bool:
    """Whether an outline of its code says all: no code from outside the project, none that is read as a text, nor parsed by
    another version of Python."""
    same = graph.python.split(".")[:2] == platform.python_version().split(".")[:2]
    return same and not graph.places and not graph.texts


def declares_the_same(graph: Graph, before: Mapping[str, SourceFile], now: Mapping[str, SourceFile]) -> bool:
    """Whether other sources are sure to declare the graph that the first did."""
    if not _outlined(graph):
        return False
    old, new = outlines.outline(before), outlines.outline(now)
    return old is not None and new is not None and old.digest == new.digest


def _code(look: Look, kept: Mapping[str, Any], graph: Graph | None = None) -> Code:
    layout, key, described = look.project.layout, look.key, str(kept.get("described", ""))
    graph = graph or from_json(kept["graph"])
    return Code(
        sources=_with_reported(look.sources, kept["reported"], look.load),
        graph=programs.with_sources(graph, look.config),
        programs=programs.contents(look.project.root, graph, look.load, look.listed),
        key=key,
        described=described,
        known=known.kept_parts(layout, key, described, fingerprints.variable),
    )


def _with_reported(sources: Mapping[str, SourceFile], reported: Mapping[str, str], load: Load) -> dict[str, SourceFile]:
    # Modules only seen while importing (importlib, editable installs) count by their bytes too.
    found = dict(sources)
    for module, path in reported.items():
        content = load(path)
        if content is not None:
            found[module] = SourceFile(path, content)
    return found


def _still_true(kept: Mapping[str, Any], load: Load) -> bool:
    return (
        all(content_hash(load(path)) == old for path, old in kept["stamps"].items())
        and all(_mtime(path) == mtime for path, mtime in kept["distributions"].items())
        and all(_variable(name) == old for name, old in kept.get("variables", {}).items())
        and all(_content(path) == old for path, old in kept.get("places", {}).items())
    )


def _variable(name: str) -> str:
    """An environment variable as it may be kept: never its value."""
    value = os.environ.get(name)
    return "" if value is None else fingerprints.digest("variable", value)


def _content(path: str) -> str:
    from mlops_local.worker.libraries import content  # noqa: PLC0415  (12 ms: only for projects with such modules)

    return content(Path(path))


def content_hash(content: bytes | None) -> str:
    """Hash a file as `Graph.contents` does; empty where there is none."""
    return "" if content is None else fingerprints.digest("file", content.decode("utf-8", "surrogateescape"))


def _mtime(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0
