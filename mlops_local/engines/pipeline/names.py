"""The project's modules, and where their names lead."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping
from functools import cached_property

from mlops_local.domain.records import dataclass
from mlops_local.engines.pipeline import scopes
from mlops_local.engines.pipeline.bindings import FUNCTIONS, Target
from mlops_local.engines.pipeline.effects import Doubtful, Effects, Found, Lead, Outside
from mlops_local.engines.pipeline.modules import Module, parse
from mlops_local.engines.pipeline.normal import Style, text
from mlops_local.engines.pipeline.scopes import Use
from mlops_local.engines.pipeline.sources import SourceFile, executed


@dataclass(frozen=True)
class Piece:
    """One definition, statement or expression that is reached."""

    what: str
    """`pipeline.clean`."""
    where: str
    """`pipeline.py:31`."""
    module: Module
    nodes: tuple[ast.AST, ...]
    without: tuple[ast.AST, ...] = ()
    """Nodes in it that do not count."""
    raw: str = ""
    """For a whole file: what is hashed instead of the nodes."""


class Project:
    """One version of the project's code; everything asked of it is worked out once."""

    def __init__(self, sources: Mapping[str, SourceFile]) -> None:
        self.sources = sources
        self.effects = Effects(self.lead, self.is_project, lambda: self.method_names)
        self._loud: dict[str, list[ast.stmt]] = {}
        self._executed: dict[str, tuple[str, ...]] = {}
        self._modules: dict[str, Module] = {}

    def module(self, name: str) -> Module:
        """A project module by name."""
        if name not in self._modules:
            self._modules[name] = parse(name, self.sources[name])
        return self._modules[name]

    def executed(self, name: str) -> tuple[str, ...]:
        """The project modules that importing this one executes."""
        if name not in self._executed:
            self._executed[name] = executed(name, self.sources)
        return self._executed[name]

    def loud(self, name: str) -> list[ast.stmt]:
        """The statements of a module that do something when it is imported."""
        if name not in self._loud:
            self._loud[name] = self.effects.of(self.module(name))
        return self._loud[name]

    def uses(self, piece: Piece, style: Style) -> tuple[Use, ...]:
        """The outside names of a piece; each node is analysed once."""
        memory, without = piece.module.memory, tuple(map(id, piece.without))
        found: dict[Use, None] = {}
        for node in piece.nodes:
            key = ("uses", id(node), style, without)
            if key not in memory:
                memory[key] = scopes.uses(node, piece.module.package, style, without=piece.without)
            found.update(dict.fromkeys(memory[key]))
        return tuple(found)

    def text(self, piece: Piece, style: Style) -> tuple[str, ...]:
        """The canonical text of each of a piece's nodes."""
        memory, without = piece.module.memory, tuple(map(id, piece.without))
        found: list[str] = []
        for node in piece.nodes:
            key = ("text", id(node), style, without)
            if key not in memory:
                memory[key] = text(node, style, without=piece.without)
            found.append(memory[key])
        return tuple(found)

    def spoken(self, module: Module) -> frozenset[str]:
        """Every name a module's code uses."""
        if "spoken" not in module.memory:
            parts = (self.uses(Piece("", "", module, (node,)), Style()) for node in module.statements())
            module.memory["spoken"] = frozenset(use.name for uses in parts for use in uses)
        return module.memory["spoken"]  # type: ignore[no-any-return]

    def is_project(self, module: str) -> bool:
        """Whether a module, or a folder of modules, is the project's."""
        return module in self.sources or any(name.startswith(module + ".") for name in self.sources)

    def lead(self, module: Module, name: str, attributes: tuple[str, ...]) -> Found:
        """What a name leads to: the project's definition, something outside, doubtful where its bindings lead apart."""
        return self._lead(module, name, attributes, frozenset())

    def _lead(self, module: Module, name: str, attributes: tuple[str, ...], seen: frozenset[tuple[str, str]]) -> Found:
        if (module.name, name) in seen:
            return Doubtful()
        seen |= {(module.name, name)}
        found: set[Found] = set()
        for node in module.definitions.get(name, []):
            found.add(Lead(module, node, attributes))
        for target in module.imports.get(name, ()):
            found.add(self._lead_of_import(target, attributes, seen))
        for star in module.stars:
            if star in self.sources:
                found.add(self._lead(self.module(star), name, attributes, seen))
            elif not hasattr(builtins, name) and not found:
                found.add(Doubtful())
        found.discard(None)
        return found.pop() if len(found) == 1 else Doubtful() if found else None

    def _lead_of_import(self, target: Target, attributes: tuple[str, ...], seen: frozenset[tuple[str, str]]) -> Found:
        names = [*([target.name] if target.name else []), *attributes]
        if not self.is_project(target.module):
            return Outside((*target.module.split("."), *names))
        place = target.module
        while names and f"{place}.{names[0]}" in self.sources and ((place, names[0]) in seen or not self._has(place, names[0])):
            place = f"{place}.{names.pop(0)}"
        if not names or place not in self.sources:
            return Doubtful()
        return self._lead(self.module(place), names[0], tuple(names[1:]), seen)

    def _has(self, module: str, name: str) -> bool:
        return module in self.sources and (self.module(module).has(name) or bool(self.module(module).stars))

    @cached_property
    def method_names(self) -> frozenset[str]:
        """Names of all methods of the project's classes."""
        trees = (node for name in self.sources for node in self.module(name).body)
        classes = (item for tree in trees for item in ast.walk(tree) if isinstance(item, ast.ClassDef))
        return frozenset(item.name for found in classes for item in found.body if isinstance(item, FUNCTIONS))
