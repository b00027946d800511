"""From a project's files to a plan: its code, its graph, its parameters, what is fresh and what is stale.

The user's code is never imported here: a worker describes the graph once per version of the sources, and the answer is kept.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_local.domain.assets import Snapshot
from mlops_local.domain.errors import ConfigError, DataError, UsageError
from mlops_local.domain.graph import Graph, Input, Param, Source, Step
from mlops_local.domain.plan import Cause, Dag, Decision, Plan, StepResult
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.domain.project import ProjectConfig
from mlops_local.domain.records import dataclass
from mlops_local.domain.splits import unfolded
from mlops_local.engines.pipeline import plan as planner
from mlops_local.engines.pipeline.plan import decide, needed
from mlops_local.engines.pipeline.sources import discover
from mlops_local.services import data, described, interpreter, known, programs
from mlops_local.services.known import Code, Load
from mlops_local.services.project import Project
from mlops_local.store import cache, newest

if TYPE_CHECKING:
    import threading

    from mlops_local.engines.pipeline.runner import Workers

__all__ = ["Code", "Load", "Parameters"]
Parameters = Mapping[str, Mapping[str, Any]]


def working_tree(root: Path) -> Load:
    """Read files of the working tree by their path relative to the root."""

    def load(path: str) -> bytes | None:
        try:
            with open(f"{root}/{path}", "rb") as file:  # noqa: PTH123  (hundreds of names are tried: Path costs more than open)
                return file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    return load


def read_code(
    project: Project,
    *,
    load: Load | None = None,
    listed: Collection[str] | None = None,
    config: ProjectConfig | None = None,
    workers: Workers | None = None,
    cancel: threading.Event | None = None,
) -> Code:
    """Read the project's code and the graph it declares, from the store when these bytes were described before.

    Args:
        project: the project.
        load: where the bytes come from; the working tree unless given (the hook reads the git index).
        listed: the files of the tree that `load` reads.
        config: checked mlops.toml of the same tree, when it is not the working tree's.
        workers: those that go on to run steps: what they imported to describe the graph is there already. Its own otherwise.
        cancel: set it to end the description.

    Raises:
        ConfigError: no pipeline module, or it does not import or declares something that cannot be.
    """
    declared = config or project.config
    entry = declared.pipeline
    elsewhere, load = load is not None, load or working_tree(project.root)
    if load(entry) is None and (declared.steps or declared.sources):
        return _commands_only(project, declared, load, listed)
    if load(entry) is None:
        raise ConfigError(
            f"no pipeline module: {entry} is not there",
            hint="write one (`mlops init DIR --template blank` shows how), set [project] pipeline in mlops.toml, "
            "or make a step of a script you have: `mlops init --script train.py`",
        )
    sources = discover(entry, load) if elsewhere else known.sources(project.layout, entry, load)
    look = described.Look(project, declared, sources, _or_disk(project.root, load), listed)
    kept = described.find(look)
    if kept is not None:
        return kept
    with nullcontext(workers) if workers is not None else interpreter.workers(project) as describing:
        graph = describing.describe(entry, sources, commands=declared.steps, cancel=cancel)
    return described.keep(look, graph)


def sources(project: Project) -> tuple[Source, ...]:
    """Return the sources that the code declares now; none where there is no code. Raises ConfigError as `read_code`."""
    config = project.config
    there = config.sources or config.steps or (project.root / config.pipeline).exists()
    return read_code(project).graph.sources if there else ()


def _commands_only(project: Project, config: ProjectConfig, load: Load, listed: Collection[str] | None = None) -> Code:
    """The code of a project whose steps and sources are all in mlops.toml."""
    graph, load = programs.with_sources(programs.graph(config.steps), config), _or_disk(project.root, load)
    own = programs.contents(project.root, graph, load, listed)
    return Code(sources={}, graph=graph, key=described.Look(project, config, {}, load, listed).key, programs=own)


def known_code(project: Project) -> Code | None:
    """As `read_code`, but only if these very bytes were described before; nothing is started to find out."""
    load = working_tree(project.root)
    if load(project.config.pipeline) is None:
        declared = project.config.steps or project.config.sources
        return _commands_only(project, project.config, load) if declared else None
    sources = known.sources(project.layout, project.config.pipeline, load)
    return described.find(described.Look(project, project.config, sources, load))


def _or_disk(root: Path, load: Load) -> Load:
    """Files the code uses that a tree of git does not hold are taken as they are: code beside the project, ignored files."""
    disk = working_tree(root)

    def loaded(path: str) -> bytes | None:
        content = load(path)
        return disk(path) if content is None else content

    return loaded


def resolve_targets(graph: Graph, config: ProjectConfig, names: Sequence[str]) -> tuple[str, ...]:
    """Turn what a user names into steps: a model means its candidates, a candidate includes its evaluation.

    Raises:
        UsageError: a name that is neither a step nor a model.
    """
    wanted = list(names) or list(config.targets) or [c for model in graph.models for c in model.candidates]
    if not wanted:
        wanted = [step.name for step in graph.steps if not step.fold]
    models = {model.name: model for model in graph.models}
    steps = {step.name: step for step in graph.steps}
    found: list[str] = []
    for name in wanted:
        if name in models:
            found += [f"{candidate}.evaluate" for candidate in models[name].candidates]
        elif name in steps:
            evaluated = steps[name].kind == "candidate" and not steps[name].fold
            found.append(f"{name}.evaluate" if evaluated else name)
        else:
            near = difflib.get_close_matches(name, [*models, *steps], n=1)
            where = "" if names else "mlops.toml: project.targets: "
            raise UsageError(
                f"{where}no step or model named {name!r}" + (f", did you mean {near[0]!r}?" if near else ""),
                hint="known: " + ", ".join([*models, *(s.name for s in graph.steps if "." not in s.name and not s.fold)]),
            )
    return tuple(dict.fromkeys(found))


def sources_of(graph: Graph, steps: Iterable[Step]) -> tuple[str, ...]:
    """Names of the sources those steps read."""
    names = {item.node for step in steps for item in step.inputs}
    return tuple(source.name for source in graph.sources if source.name in names)


def parameters(graph: Graph, config: ProjectConfig, overrides: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Every step's effective parameters: `-S` over [params] over the default. A fold has those of its step.

    Args:
        graph: the project's graph.
        config: mlops.toml.
        overrides: `step.param` (or `param`, where only one step has it) -> text from the command line.

    Raises:
        UsageError: an unknown parameter or a value that is not of its type.
        ConfigError: [params] names a step or parameter that is not there.
    """
    whole = [step for step in graph.steps if not step.fold]
    values = {step.name: {p.name: p.default for p in step.params} for step in whole if step.params}
    kinds = {(step.name, p.name): p for step in whole for p in step.params}
    for step, table in config.params.items():
        for name, value in table.items():
            if (step, name) not in kinds:
                raise ConfigError(f"mlops.toml: params.{step}.{name}: " + _unknown(f"{step}.{name}", kinds), hint=_known(kinds))
            values[step][name] = _typed(kinds[step, name], value, f"mlops.toml: params.{step}.{name}")
    for key, text in (overrides or {}).items():
        owner, name = _owner(key, kinds)
        values[owner][name] = _typed(kinds[owner, name], text, f"-S {key}", parse=True)
    return {**values, **{step.name: values[unfolded(step.name)] for step in graph.steps if step.fold and step.params}}


def _owner(key: str, kinds: Mapping[tuple[str, str], Param]) -> tuple[str, str]:
    step, dot, name = key.rpartition(".")
    owners = [pair for pair in kinds if pair == (step, name)] if dot else [pair for pair in kinds if pair[1] == key]
    if len(owners) > 1:
        raise UsageError(
            f"-S {key}: several steps have it: " + ", ".join(".".join(pair) for pair in owners), hint="give step.name=value"
        )
    if not owners:
        raise UsageError(f"-S {key}: " + _unknown(key, kinds), hint=_known(kinds))
    return owners[0]


def _unknown(key: str, kinds: Mapping[tuple[str, str], Param]) -> str:
    names = [".".join(pair) for pair in kinds] + [pair[1] for pair in kinds]
    near = difflib.get_close_matches(key, names, n=1)
    return "no such parameter" + (f", did you mean {near[0]!r}?" if near else "")


def _known(kinds: Mapping[tuple[str, str], Param]) -> str:
    return "parameters: " + (
        ", ".join(".".join(pair) for pair in kinds) or "none (keyword-only arguments of steps are parameters)"
    )


def _typed(param: Param, value: Any, where: str, *, parse: bool = False) -> Any:
    """The value as the parameter's type; text from the command line is read as JSON where no type says otherwise."""
    kind = param.type or (type(param.default).__name__ if param.default is not None else "")
    if parse and kind != "str":
        try:
            value = json.loads({"True": "true", "False": "false", "None": "null"}.get(value, value))
        except ValueError:
            if kind in {"int", "float", "bool"}:
                raise UsageError(f"{where}: expected {kind}, got {value!r}") from None
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind in {"int", "float", "bool", "str"} and value is not None and type(value).__name__ != kind:
        raise (UsageError if parse else ConfigError)(f"{where}: expected {kind}, got {value!r}")
    return value


def snapshots(
    project: Project,
    graph: Graph,
    steps: Sequence[Step],
    *,
    emit: Emit = ignore,
    reading: Callable[[str], object] = lambda source: None,
) -> dict[str, Snapshot]:
    """Every source those steps read, as it is now, stored where it is new; unchanged files cost one stat each.

    Args:
        project: the project.
        graph: its graph.
        steps: some of its steps.
        emit: told what was found.
        reading: called with the name of a source that is new, before it is read.
    """
    names = sources_of(graph, steps)
    return {name: data.snapshot(project, graph.source(name), emit=emit, reading=partial(reading, name)) for name in names}


def _identities(project: Project, graph: Graph, steps: Sequence[Step], emit: Emit) -> dict[str, str]:
    """The snapshot each source those steps read stands for now; one that cannot be read is left out, and said."""
    found = {}
    for name in sources_of(graph, steps):
        try:
            found[name] = data.identify(project, graph.source(name))
        except DataError as error:
            emit(Progress("warning", error.message + (f"; {error.hint}" if error.hint else "")))
    return found


def make_plan(
    project: Project,
    code: Code,
    targets: Sequence[str],
    *,
    params: Parameters,
    snapshots: Mapping[str, str],
    force: Sequence[str] = (),
    given: Mapping[str, StepResult] | None = None,
    whole: bool = True,
) -> Plan:
    """Decide what is fresh and what is stale. Reads the store's cache files only.

    Args:
        project: the project.
        code: its code.
        targets: what to plan, with all it depends on.
        params: every step's effective parameters.
        snapshots: source -> id of its snapshot.
        force: steps that run whatever is kept.
        given: plan the targets alone; these are the results they read.
        whole: a result counts while its files are there; without this, what it was is enough: to say, not to go on from it.
    """
    steps = needed(code.graph, targets)
    if given is not None:
        steps = tuple(step for step in steps if step.name in targets)
    before = set(code.known)
    last = newest.read(project.layout)

    plan = decide(
        replace(code.graph, steps=steps),
        [step.name for step in steps],
        parts=code.parts,
        params=params,
        snapshots=snapshots,
        cached=lambda fingerprint: (cache.step_result if whole else cache.recorded)(project.layout, fingerprint, last),
        latest=last.result,
        force=force,
        seconds=last.predicted,
        lost=lambda fingerprint: cache.lost(project.layout, fingerprint),
        given=given,
    )
    known.keep_parts(project.layout, code, before)
    return _in_files(project, code, plan, params, snapshots) if any(step.each for step in steps) else plan


def _in_files(project: Project, code: Code, plan: Plan, params: Parameters, snapshots: Mapping[str, str]) -> Plan:
    """Say of each step that runs file by file how many of its files would run."""
    from mlops_local.services import perfile  # noqa: PLC0415  (only for pipelines that have such a step)

    decisions = {decision.name: decision for decision in plan.decisions}
    for name, decision in decisions.items():
        step = code.graph.step(name)
        if step.each and decision.state == "stale" and decision.fingerprint:
            inputs = {
                item.argument: snapshots.get(item.node) or _logical(project, decisions[item.node], item) for item in step.inputs
            }
            source = code.graph.source(step.each)
            each = perfile.PerFile(step, source, data.hashes(project, source), code.parts(step), params.get(name, {}), inputs)
            decisions[name] = replace(decision, reasons=perfile.told(project.layout, each, decision.reasons))
    return Plan(tuple(decisions.values()))


def _logical(project: Project, decision: Decision, item: Input) -> str:
    """The content of a fresh step's output."""
    result = cache.step_result(project.layout, decision.fingerprint)
    outputs = result.outputs if result is not None else ()
    return next((found.logical for found in outputs if not item.output or found.name == item.output), "")


def as_kept(project: Project, code: Code, targets: Sequence[str]) -> dict[str, StepResult]:
    """The newest kept results of all that the targets depend on, out of date or not.

    Raises:
        UsageError: a step that a target reads has none.
    """
    last = newest.read(project.layout)
    results = {}
    for step in needed(code.graph, targets):
        result = last.result(step.name) if step.name not in targets else None
        if result is not None and cache.step_result(project.layout, result.fingerprint, last) is not None:
            results[step.name] = result
    for name in targets:
        for item in code.graph.step(name).inputs:
            made = item.node in {step.name for step in code.graph.steps}
            if made and item.node not in results and item.node not in targets:
                raise UsageError(
                    f"{name} reads {item.node}, and no result of that is kept",
                    hint=f"`mlops train {name}` makes it; then --single runs {name} alone",
                )
    return results


def plan(
    project: Project, targets: Sequence[str] = (), *, params: Mapping[str, str] | None = None, emit: Emit = ignore
) -> Plan:
    """What `mlops train` would do now, and why; steps whose data cannot be read are blocked.

    Raises what `read_code` and `parameters` raise.
    """
    return _look(project, targets, params, emit).plan


def why(project: Project, step: str, *, params: Mapping[str, str] | None = None, emit: Emit = ignore) -> list[Cause]:
    """What lies behind the state of a step, or of each step a model means. Raises what `plan` raises."""
    seen = _look(project, (step,), params, emit, exact=True)
    return [planner.why(seen.plan, seen.graph, name) for name in seen.targets]


def dag(project: Project, targets: Sequence[str] = (), *, emit: Emit = ignore) -> Dag:
    """The graph behind the targets, with the state of each step. Raises what `plan` raises."""
    seen = _look(project, targets, None, emit, exact=True)
    return planner.dag(seen.plan, seen.graph, seen.targets, seen.snapshots)


@dataclass(frozen=True)
class _Look:
    """The project as it is now."""

    graph: Graph
    targets: tuple[str, ...]
    snapshots: Mapping[str, str]
    plan: Plan


def _look(
    project: Project, targets: Sequence[str], params: Mapping[str, str] | None, emit: Emit, *, exact: bool = False
) -> _Look:
    """Look at the project. `exact`: a candidate's name means that step alone, not its evaluation."""
    code = read_code(project)
    steps = {step.name for step in code.graph.steps}
    alone = exact and targets and steps.issuperset(targets)
    names = tuple(targets) if alone else resolve_targets(code.graph, project.config, targets)
    values = parameters(code.graph, project.config, params)
    ids = _identities(project, code.graph, needed(code.graph, names), emit)
    return _Look(code.graph, names, ids, make_plan(project, code, names, params=values, snapshots=ids))
