"""What a project declares: mlops.toml as plain values, and the graph its pipeline module describes.

`parse` turns the mapping read from mlops.toml into a `ProjectConfig` and collects every problem. Nothing here reads a file.
Python 3.10: the worker imports this in the project's interpreter.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from mlops_local.domain import checks as checking
from mlops_local.domain.checks import Check
from mlops_local.domain.command import command
from mlops_local.domain.errors import ConfigError
from mlops_local.domain.graph import Source
from mlops_local.domain.records import dataclass


@dataclass(frozen=True)
class Gate:
    """One rule a version must pass."""

    metric: str
    max_drop: float | None = None
    """Largest loss against the champion, in the metric's own unit, paired on the same rows."""
    min: float | None = None
    """Absolute lower bound on the metric."""
    max: float | None = None
    """Absolute upper bound on the metric."""


@dataclass(frozen=True)
class ModelConfig:
    """[models.NAME]"""

    gates: tuple[Gate, ...] = ()
    promote: str = "auto"
    """"auto": a version that passes becomes champion; "manual": a person promotes it."""
    max_gap: float | None = None
    """How far the primary metric on train and on valid may part before a warning; None: any distance."""


@dataclass(frozen=True)
class ServeConfig:
    """[serve]"""

    host: str = "127.0.0.1"
    port: int = 8501
    model: str = ""
    """Model to serve when several exist."""


@dataclass(frozen=True)
class HookConfig:
    """[hook]"""

    untrained: str = "allow"
    """"allow": a commit whose code has no evaluated run passes with one line; "block": it does not."""
    timeout: float = 10.0
    """Seconds after which a check ends without a verdict."""


@dataclass(frozen=True)
class ProjectConfig:
    """mlops.toml, checked."""

    name: str
    pipeline: str = "pipeline.py"
    targets: tuple[str, ...] = ()
    """What a bare `mlops train` builds; empty: every model's candidates that can be built."""
    python: str = ""
    stalled_after_s: float = 600.0
    """A run that prints, logs and computes nothing for so long is said to be stalled; 0: never."""
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    models: Mapping[str, ModelConfig] = field(default_factory=dict)
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """[steps.NAME]: programs that are steps, checked, as `domain.command.command` takes them."""
    checks: Mapping[str, tuple[Check, ...]] = field(default_factory=dict)
    """[data.NAME.checks]: source -> the rules its rows must obey."""
    sources: tuple[Source, ...] = ()
    """[data.NAME] with a path: sources that no pipeline declares."""
    serve: ServeConfig = ServeConfig()
    hook: HookConfig = HookConfig()


# One row a key: allowed type(s). Shown in "did you mean" and in the docs.
_PROJECT_KEYS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "pipeline": str,
    "targets": list,
    "python": str,
    "stalled_after": (int, float),
}
_GATE_KEYS: dict[str, type | tuple[type, ...]] = {
    "metric": str,
    "max_drop": (int, float),
    "min": (int, float),
    "max": (int, float),
}
_MODEL_KEYS: dict[str, type | tuple[type, ...]] = {"gates": list, "promote": str, "max_gap": (int, float)}
_SERVE_KEYS: dict[str, type | tuple[type, ...]] = {"host": str, "port": int, "model": str}
_HOOK_KEYS: dict[str, type | tuple[type, ...]] = {"untrained": str, "timeout": (int, float)}
_DECLARED = ("key", "time", "outcome", "private", "schema", "sql")
"""What a source says of its columns, in the pipeline."""
_DATA_KEYS: dict[str, type | tuple[type, ...]] = {"checks": dict, "path": str, "kind": str, "store": str}
_STEP_KEYS: dict[str, type | tuple[type, ...]] = {
    "command": str,
    "inputs": (dict, list, str),
    "outputs": (dict, str),
    "code": (list, str),
    "params": dict,
    "shell": bool,
    "cpus": int,
    "memory": (int, str),
    "gpus": int,
    "retries": int,
    "timeout": (int, float),
}
_TABLES: dict[str, type | tuple[type, ...]] = {
    "project": dict,
    "params": dict,
    "models": dict,
    "steps": dict,
    "serve": dict,
    "hook": dict,
    "data": dict,
}


def parse(mapping: Mapping[str, Any], *, name: str = "project") -> ProjectConfig:
    """Check the mapping read from mlops.toml.

    Args:
        mapping: the parsed TOML document.
        name: the project's name when [project] gives none (its folder's name).

    Raises:
        ConfigError: with every problem, one line each.
    """
    problems: list[str] = []
    _check(mapping, _TABLES, "", problems)
    project = _table(mapping, "project")
    _check(project, _PROJECT_KEYS, "project.", problems)
    if not all(isinstance(target, str) for target in _list(project.get("targets"))):
        problems.append("project.targets: expected a list of names")
    stalled = project.get("stalled_after", 0.0)
    if isinstance(stalled, (int, float)) and not (math.isfinite(stalled) and stalled >= 0):
        problems.append(f"project.stalled_after: expected seconds, or 0 for never, got {stalled}")
    params = _table(mapping, "params")
    for step, values in params.items():
        if not isinstance(values, Mapping):
            problems.append(f"params.{step}: expected a table of parameters, as in [params.{step}]")
    models = {key: _model(key, value, problems) for key, value in _table(mapping, "models").items()}
    steps = {key: _step(key, value, problems) for key, value in _table(mapping, "steps").items()}
    checks = {key: _checks(key, value, problems) for key, value in _table(mapping, "data").items()}
    sources = _sources(_table(mapping, "data"), problems)
    serve = _table(mapping, "serve")
    _check(serve, _SERVE_KEYS, "serve.", problems)
    port = serve.get("port", 8501)
    if isinstance(port, int) and not 0 <= port <= 65535:
        problems.append(f"serve.port: {port} is not a port (0 to 65535)")
    hook = _table(mapping, "hook")
    _check(hook, _HOOK_KEYS, "hook.", problems)
    _choice(hook, "untrained", ("allow", "block"), "hook.", problems)
    if isinstance(hook.get("timeout"), (int, float)) and hook["timeout"] <= 0:
        problems.append(f"hook.timeout: {hook['timeout']} is not a number of seconds above 0")
    if problems:
        raise ConfigError("mlops.toml: " + problems[0], problems=problems, hint="see `mlops --help` or docs/configuration.md")
    return ProjectConfig(
        name=project.get("name", name),
        pipeline=project.get("pipeline", "pipeline.py"),
        targets=tuple(project.get("targets", ())),
        python=project.get("python", ""),
        stalled_after_s=float(project.get("stalled_after", 600.0)),
        params={step: dict(values) for step, values in params.items()},
        models=models,
        steps=steps,
        checks={name: rules for name, rules in checks.items() if rules},
        sources=sources,
        serve=ServeConfig(**serve),
        hook=HookConfig(**hook),
    )


def _model(name: str, value: Any, problems: list[str]) -> ModelConfig:
    where = f"models.{name}."
    if not isinstance(value, Mapping):
        problems.append(f"models.{name}: expected a table, as in [models.{name}]")
        return ModelConfig()
    _check(value, _MODEL_KEYS, where, problems)
    _choice(value, "promote", ("auto", "manual"), where, problems)
    gates: list[Gate] = []
    for number, gate in enumerate(_list(value.get("gates"))):
        place = f"{where}gates[{number}]"
        if not isinstance(gate, Mapping):
            problems.append(f"{place}: expected a table, as in [[models.{name}.gates]]")
            continue
        before = len(problems)
        _check(gate, _GATE_KEYS, place + ".", problems)
        if "metric" not in gate:
            problems.append(f"{place}: missing key 'metric'")
        if not {"max_drop", "min", "max"} & set(gate):
            problems.append(f"{place}: give max_drop, min or max")
        for key in ("max_drop", "min", "max"):
            if isinstance(gate.get(key), float) and not math.isfinite(gate[key]):
                problems.append(f"{place}.{key}: {gate[key]} is no limit: nothing can fail it")
        if len(problems) == before:
            gates.append(Gate(**gate))
    gap = value.get("max_gap")
    if isinstance(gap, (int, float)) and not (math.isfinite(gap) and gap >= 0):
        problems.append(f"{where}max_gap: expected a distance of 0 or more, got {gap!r}")
    return ModelConfig(tuple(gates), str(value.get("promote", "auto")), gap)


def _step(name: str, value: Any, problems: list[str]) -> dict[str, Any]:
    """A command step's table as `domain.command` takes it."""
    if not isinstance(value, Mapping):
        problems.append(f"steps.{name}: expected a table, as in [steps.{name}]")
        return {}
    before = len(problems)
    _check(value, _STEP_KEYS, f"steps.{name}.", problems)
    if len(problems) > before:
        return {}
    made = {"line": value.get("command", ""), **{key: item for key, item in value.items() if key != "command"}}
    try:
        if not name.isidentifier():
            raise ConfigError("a step's name has letters, digits and _")
        command(**made)
    except ConfigError as error:
        problems.append(f"steps.{name}: {error.message}" + (f" ({error.hint})" if error.hint else ""))
    return made


def _checks(name: str, value: Any, problems: list[str]) -> tuple[Check, ...]:
    """The rules of one source."""
    if not isinstance(value, Mapping):
        problems.append(f"data.{name}: expected a table, as in [data.{name}.checks]")
        return ()
    problems += [f"data.{name}.{key}: belongs in the pipeline: mlops.data(…, {key}=…)" for key in value if key in _DECLARED]
    _check({key: held for key, held in value.items() if key not in _DECLARED}, _DATA_KEYS, f"data.{name}.", problems)
    return checking.parse(_table(value, "checks"), f"data.{name}.checks", problems)


def _sources(tables: Mapping[str, Any], problems: list[str]) -> tuple[Source, ...]:
    """The sources that have a path."""
    found = {}
    for name, value in tables.items():
        if not isinstance(value, Mapping):
            continue
        if "path" not in value:
            problems += [_without_path(name, key) for key in ("kind", "store") if key in value]
            continue
        if not isinstance(value["path"], str):
            continue
        found[name] = value
        _inside(value["path"], f"data.{name}.path", problems)
        _choice(value, "kind", ("table", "files"), f"data.{name}.", problems)
        _choice(value, "store", ("full", "reference"), f"data.{name}.", problems)
        if not name.isidentifier():
            problems.append(f"data.{name}: a source's name has letters, digits and _")
    return tuple(
        Source(name, value["path"], kind=str(value.get("kind", "table")), store=str(value.get("store", "")))
        for name, value in found.items()
    )


def _without_path(name: str, key: str) -> str:
    return f"data.{name}.{key}: says something of a source with a path; one of the pipeline has it in mlops.data({key}=…)"


def _inside(path: str, where: str, problems: list[str]) -> None:
    """A source's files lie in the project: elsewhere a clone would not find them."""
    if not path or path.startswith("/") or ".." in path.split("/"):
        problems.append(
            f"{where}: {path!r} is not a pattern inside the project's folder; a link in the project may point elsewhere"
        )


def _table(mapping: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = mapping.get(key, {})
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _check(table: Mapping[str, Any], keys: Mapping[str, type | tuple[type, ...]], where: str, problems: list[str]) -> None:
    for key, value in table.items():
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1)
            problems.append(
                f"{where}{key}: unknown key" + (f", did you mean '{near[0]}'?" if near else f"; known: {', '.join(keys)}")
            )
        elif not isinstance(value, keys[key]) or (isinstance(value, bool) and keys[key] is not bool):
            problems.append(f"{where}{key}: expected {_type_name(keys[key])}, got {value!r}")


def _choice(table: Mapping[str, Any], key: str, allowed: tuple[str, ...], where: str, problems: list[str]) -> None:
    if key in table and table[key] not in allowed:
        problems.append(f"{where}{key}: expected one of {', '.join(allowed)}, got {table[key]!r}")


def _type_name(kind: type | tuple[type, ...]) -> str:
    names = {str: "text", int: "a whole number", float: "a number", list: "a list", dict: "a table"}
    return names.get(kind[-1] if isinstance(kind, tuple) else kind, str(kind))
