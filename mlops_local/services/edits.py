"""What an edit means for a run: the project as the run saw it, beside what the files say now. Imports and runs nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlops_local.domain.errors import MlopsError
from mlops_local.domain.graph import Step
from mlops_local.domain.project import ProjectConfig
from mlops_local.engines.pipeline import fingerprint as fingerprints
from mlops_local.engines.pipeline.affected import affected
from mlops_local.engines.pipeline.sources import SourceFile, discover
from mlops_local.engines.watch.meaning import meaning, problem
from mlops_local.services import described, planning, programs
from mlops_local.services.planning import Code, Parameters
from mlops_local.services.project import CONFIG, read_config


@dataclass(frozen=True)
class Version:
    """The project as one run saw it."""

    code: Code
    config: ProjectConfig
    toml: bytes
    """The bytes of its mlops.toml."""
    params: Parameters
    steps: tuple[str, ...] = ()
    """The steps of its plan."""


@dataclass(frozen=True)
class Edit:
    """What the files mean now, for a run that saw a version."""

    same: bool
    """Nothing that could matter differs: it declares the same, and every step means the same."""
    affected: frozenset[str] = field(default_factory=frozenset)
    """Steps whose result could differ."""
    problem: str = ""
    """Why the code cannot be read now, in a few words; nothing else is known then."""


def compare(root: Path, version: Version, *, sources: Collection[str] = ()) -> Edit:
    """Compare the working tree with a version.

    Args:
        root: the project's folder.
        version: what a run saw.
        sources: names of the sources whose files changed.
    """
    load = planning.working_tree(root)
    toml = load(CONFIG)
    if toml is None:
        return Edit(same=False, problem=f"{CONFIG} is gone")
    try:
        config = read_config(toml, name=root.name)
        declared = config.steps or config.sources  # of mlops.toml: these need no pipeline module
        alone = bool(declared) and load(config.pipeline) is None
        now = {} if alone else discover(config.pipeline, load)
        if said := next((text for item in now.values() if (text := problem(item.path, item.data))), ""):
            return Edit(same=False, problem=said)
        params = planning.parameters(version.code.graph, config)
        own = programs.contents(root, version.code.graph, load)
    except MlopsError as error:
        return Edit(same=False, problem=error.message)
    graph, code = version.code.graph, version.code.sources
    # Modules found only while importing count by what they are now, like those found by their import statements.
    also = {name: file for name, item in code.items() if name not in now and (file := _again(item, load)) is not None}
    present = Code(sources={**now, **also}, graph=graph, key="", programs=own)
    reads = all(described.content_hash(load(path)) == held for path, held in graph.contents.items())
    found = (
        affected(graph.steps, _meanings(version.code, version.params), _meanings(present, params), sources)
        if reads
        else frozenset(step.name for step in graph.steps)
    )
    same = reads and not found and meaning(CONFIG, toml) == meaning(CONFIG, version.toml)
    same = same and (_files(code) == _files(present.sources) or described.declares_the_same(graph, code, present.sources))
    return Edit(same=same, affected=found)


def _again(item: SourceFile, load: planning.Load) -> SourceFile | None:
    data = load(item.path)
    return SourceFile(item.path, data) if data is not None else None


def _files(sources: Mapping[str, SourceFile]) -> dict[str, str]:
    return {item.path: meaning(item.path, item.data) for item in sources.values()}


def _meanings(code: Code, params: Parameters) -> dict[str, str]:
    """What each step of the graph means: its fingerprint but for its inputs' contents. One whose code is gone is left out."""
    steps = [step for step in code.graph.steps if all(symbol.module in code.sources for symbol in step.code)]
    return {step.name: _meaning(step, code, params) for step in steps}


def _meaning(step: Step, code: Code, params: Parameters) -> str:
    inputs = {item.argument: "" for item in step.inputs}
    return fingerprints.fingerprint(step, code.parts(step), params.get(step.name, {}), inputs)[0]
