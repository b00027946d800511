"""The project's modules, and where their names lead."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from mlops_local.engines.pipeline import scopes
from mlops_local.engines.pipeline.bindings import FUNCTIONS
from mlops_local.engines.pipeline.effects import Doubtful, Effects, Found, Lead, Outside
from mlops_local.engines.pipeline.modules import Module, parse
from mlops_local.engines.pipeline.normal import Style
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
        self._uses: dict[tuple[int, Style], tuple[Use, ...]] = {}
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
        found: dict[Use, None] = {}
        for node in piece.nodes:
            key = (id(node), style)
            if piece.without or key not in self._uses:
                made = scopes.uses(node, piece.module.package, style, without=piece.without)
                if piece.without:
                    found.update(dict.fromkeys(made))
                    continue
                self._uses[key] = made
            found.update(dict.fromkeys(self._uses[key]))
        return tuple(found)

    def is_project(self, module: str) -> bool:
        """Whether a module, or a folder of modules, is the project's."""
        return module in self.sources or any(name.startswith(module + ".") for name in self.sources)

    def lead(self, module: Module, name: str, attributes: tuple[str, ...]) -> Found:
        """What a name leads to: the project's definition, something outside, doubtful where it is bound more than once."""
        seen: set[tuple[str, str]] = set()
        while (module.name, name) not in seen:
            seen.add((module.name, name))
            stars = [star for star in module.stars if star not in self.sources or self._has(star, name)]
            targets = set(module.imports.get(name, ()))
            defined = module.definitions.get(name, [])
            if len(defined) + len(targets) + len(stars) > 1:
                return Doubtful()
            if defined:
                return Lead(module, defined[0], attributes)
            if stars and not targets:
                if stars[0] not in self.sources:
                    return None if hasattr(builtins, name) else Doubtful()
                module = self.module(stars[0])
                continue
            if not targets:
                return None
            target = targets.pop()
            names = [*([target.name] if target.name else []), *attributes]
            if not self.is_project(target.module):
                return Outside((*target.module.split("."), *names))
            place = target.module
            while names and f"{place}.{names[0]}" in self.sources and not self._has(place, names[0]):
                place = f"{place}.{names.pop(0)}"
            if not names or place not in self.sources:
                return Doubtful()
            module, name, attributes = self.module(place), names[0], tuple(names[1:])
        return Doubtful()

    def _has(self, module: str, name: str) -> bool:
        return module in self.sources and (self.module(module).has(name) or bool(self.module(module).stars))

    @cached_property
    def method_names(self) -> frozenset[str]:
        """Names of all methods of the project's classes."""
        trees = (node for name in self.sources for node in self.module(name).body)
        classes = (item for tree in trees for item in ast.walk(tree) if isinstance(item, ast.ClassDef))
        return frozenset(item.name for found in classes for item in found.body if isinstance(item, FUNCTIONS))
