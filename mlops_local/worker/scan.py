"""Find what imported project modules declare, by the marks the API leaves; the API itself is not imported."""

from __future__ import annotations

import ast
import inspect
import os
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from types import ModuleType, SimpleNamespace
from typing import Any

from mlops_local.domain.command import command
from mlops_local.domain.graph import Symbol
from mlops_local.domain.records import dataclass
from mlops_local.worker.finder import Finder

NODES = ("step", "candidate")


@dataclass(frozen=True)
class Problem:
    """One thing that cannot be, with its place and the way out."""

    text: str
    hint: str = ""


@dataclass(frozen=True)
class Declared:
    """One declaration and where it is."""

    value: Any
    symbol: Symbol
    file: str
    line: int

    @property
    def place(self) -> str:
        """`pipeline.py:31`."""
        return f"{self.file}:{self.line}"


@dataclass
class Found:
    """Everything the project declares, in the order of its modules."""

    sources: list[Declared] = field(default_factory=list)
    splits: list[Declared] = field(default_factory=list)
    models: list[Declared] = field(default_factory=list)
    functions: dict[int, Declared] = field(default_factory=dict)
    """Every function with a note, by its identity."""
    problems: list[Problem] = field(default_factory=list)

    def steps(self) -> Iterator[Declared]:
        """The functions that are steps (candidates come with their model)."""
        return (item for item in self.functions.values() if item.value.__mlops__.kind == "step")

    def pulls(self) -> Iterator[Declared]:
        """The functions whose tables are sources."""
        return (item for item in self.functions.values() if item.value.__mlops__.kind == "pull")

    def commands(self) -> Iterator[Declared]:
        """The programs that are steps."""
        return (item for item in self.functions.values() if item.value.__mlops__.kind == "command")

    def add_commands(self, commands: Mapping[str, Mapping[str, Any]], file: str) -> None:
        """Add what mlops.toml declares, checked there already."""
        for name, declared in commands.items():
            value = SimpleNamespace(
                declared=command(**declared), __mlops__=SimpleNamespace(kind="command", inputs={}, each=""), place=(file, 0)
            )
            value.__mlops__.inputs, value.__mlops__.needs = value.declared.inputs, value.declared.needs
            self.functions[id(value)] = Declared(value, Symbol("", name), file, 0)


def scan(finder: Finder) -> Found:
    """Collect the declarations of every project module that is imported."""
    found = Found()
    seen: set[int] = set()
    for name in [*finder.sources, *finder.found]:
        module = sys.modules.get(name)
        if module is not None:
            _module(module, _Lines(finder, name), found, seen)
    return found


class _Lines:
    """Where a module's top level binds its names."""

    def __init__(self, finder: Finder, module: str) -> None:
        self.module = module
        self.file = os.path.relpath(str(finder.find_spec(module).origin), finder.root)  # type: ignore[union-attr]
        self.bound: dict[str, list[int]] = {}
        for node in ast.parse(finder.data(module)).body:
            for target in _targets(node):
                self.bound.setdefault(target, []).append(node.lineno)


def _targets(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        yield node.target.id


def _module(module: ModuleType, lines: _Lines, found: Found, seen: set[int]) -> None:
    for name, value in list(vars(module).items()):
        kind = _kind(value)
        if not kind or id(value) in seen or _home(value, module) != module.__name__:
            continue
        own = getattr(value, "__name__", name)
        if kind in NODES and name != own and vars(module).get(own) is value:
            continue  # an alias of a step in its own module: the step keeps its own name
        seen.add(id(value))
        places = lines.bound.get(name, [])
        item = Declared(value, Symbol(module.__name__, name), lines.file, places[-1] if places else _line(value))
        if len(places) > 1:
            found.problems.append(
                Problem(
                    f"{item.place}: '{name}' is declared twice, first in line {places[0]}",
                    "rename one: the first would be lost",
                )
            )
        if kind in ("source", "split", "model"):
            {"source": found.sources, "split": found.splits, "model": found.models}[kind].append(item)
        else:
            found.functions[id(value)] = item


def _kind(value: Any) -> str:
    if isinstance(value, type):
        return ""
    note = inspect.getattr_static(value, "__mlops__", None)
    if note is not None:
        return str(note.kind)
    return str(getattr(type(value), "__mlops_kind__", ""))


def _home(value: Any, module: ModuleType) -> str:
    """The module that declares the value: the one that defines it, where that is a project module that holds it."""
    home = getattr(value, "__module__", "") if callable(value) else ""
    if home == module.__name__ or home not in sys.modules:
        return module.__name__
    place = getattr(value, "place", None)
    if place is not None:
        return module.__name__ if getattr(module, "__file__", "") == place[0] else ""
    return str(home) if any(item is value for item in vars(sys.modules[home]).values()) else module.__name__


def _line(value: Any) -> int:
    code = getattr(inspect.unwrap(value), "__code__", None) if callable(value) else None
    place = getattr(value, "place", None)
    return int(code.co_firstlineno) if code is not None else int(place[1]) if place else 0


def annotation(function: Callable[..., Any], raw: Any) -> Any:
    """An annotation as an object; its text where it cannot be evaluated (a library that is not installed)."""
    raw = getattr(raw, "__forward_arg__", raw)  # what a NamedTuple makes of a quoted annotation
    if not isinstance(raw, str):
        return raw
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return eval(raw, scope)
    except Exception:  # noqa: BLE001 - an annotation may fail in any way; its text is still worth reading
        return raw


def wants(kind: Any) -> str:
    """How an annotated argument asks for its value: lazy, frame, pandas, xy or value."""
    for item in typing.get_args(kind) or (kind,):
        text = item if isinstance(item, str) else f"{getattr(item, '__module__', '')}.{getattr(item, '__qualname__', '')}"
        top, _, name = text.strip("'\" ").partition(".")
        name = (name or top).rpartition(".")[2]
        if name == "LazyFrame":
            return "lazy"
        if name == "DataFrame":
            return "pandas" if top in ("pd", "pandas") else "frame"
        if name == "XY":
            return "xy"
    return "value"


def has_set(kind: Any) -> bool:
    """Whether an annotation is a set anywhere in it."""
    if isinstance(kind, str):
        return kind.partition("[")[0].rpartition(".")[2] in {"set", "frozenset", "Set", "FrozenSet"}
    origin = typing.get_origin(kind) or kind
    if isinstance(origin, type) and issubclass(origin, (set, frozenset, typing.AbstractSet)):
        return True
    return any(has_set(item) for item in typing.get_args(kind) if not isinstance(item, (int, bytes)))


def fields(function: Callable[..., Any], kind: Any) -> Mapping[str, Any]:
    """The outputs a return annotation names: a NamedTuple's fields, else one `result`."""
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        hints = getattr(kind, "__annotations__", {})
        return {name: annotation(function, hints.get(name)) for name in kind._fields}
    return {"result": kind}
