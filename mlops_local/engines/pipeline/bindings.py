"""Which names a scope binds, and the imports behind them. Pure syntax: nothing is resolved here."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import field

from mlops_local.domain.records import dataclass
from mlops_local.engines.pipeline.sources import absolute

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
_OWN_SCOPE = (*_DEFINITIONS, ast.Lambda)
_SPECIAL = {
    *_DEFINITIONS, ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal, ast.NamedExpr, ast.ExceptHandler, ast.MatchAs,
    ast.MatchStar, ast.MatchMapping,
}  # fmt: skip
"""What binds names otherwise than by storing to them."""


@dataclass(frozen=True)
class Target:
    """What an import binds a name to: a module, or a name in one."""

    module: str
    name: str = ""


def bound(statement: ast.stmt) -> tuple[str, ...]:
    """The names a top-level statement binds, imports aside."""
    return tuple(name for name, imports in names_of([statement]).bound.items() if not imports)


def import_targets(node: ast.Import | ast.ImportFrom, package: str) -> dict[str, Target]:
    """Name -> what an import statement binds it to; a star binds nothing here."""
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.partition(".")[0]: Target(alias.name if alias.asname else alias.name.partition(".")[0])
            for alias in node.names
        }
    module = absolute(node, package)
    return {alias.asname or alias.name: Target(module, alias.name) for alias in node.names if alias.name != "*"}


def all_arguments(arguments: ast.arguments) -> list[ast.arg]:
    """Every argument, starred ones last."""
    optional = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *optional]


def stored(node: ast.AST) -> set[str]:
    """The names a target binds."""
    return {item.id for item in ast.walk(node) if isinstance(item, ast.Name) and not isinstance(item.ctx, ast.Load)}


@dataclass
class Names:
    """What a scope says of its names."""

    bound: dict[str, list[ast.Import | ast.ImportFrom]] = field(default_factory=dict)
    """Name -> the imports that bind it (none for an ordinary binding)."""
    declared: dict[str, type[ast.stmt]] = field(default_factory=dict)
    """`global` and `nonlocal` names."""
    definitions: set[str] = field(default_factory=set)
    """Functions and classes it defines."""

    def targets(self, package: str) -> dict[str, list[Target]]:
        """Name -> what the imports that bind it mean."""
        return {
            name: [target for node in nodes for own, target in import_targets(node, package).items() if own == name]
            for name, nodes in self.bound.items()
        }


def names_of(body: Iterable[ast.AST]) -> Names:
    """The names a piece of code binds in its own scope."""
    found = Names()
    for node in body:
        _collect(node, found, in_comprehension=False)
    return found


def scope_of(owner: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef) -> Names:
    """The names of a function's or class's own scope, arguments aside; worked out once."""
    held = owner.__dict__.get("_names")
    if held is None:
        held = names_of(owner.body if isinstance(owner.body, list) else [owner.body])
        owner.__dict__["_names"] = held
    return held


def _collect(node: ast.AST, found: Names, *, in_comprehension: bool) -> None:
    kind = type(node)
    if kind is ast.Name:
        if type(node.ctx) is not ast.Load and not in_comprehension:  # type: ignore[attr-defined]
            found.bound.setdefault(node.id, [])  # type: ignore[attr-defined]
        return
    if kind in _SPECIAL and not _collect_special(node, found):
        return
    if isinstance(node, _OWN_SCOPE):
        for decorator in getattr(node, "decorator_list", []):
            _collect(decorator, found, in_comprehension=in_comprehension)
        return
    inside = in_comprehension or kind in COMPREHENSIONS
    for name in kind._fields:
        value = getattr(node, name, None)
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, ast.AST):
                _collect(item, found, in_comprehension=inside)


def _collect_special(node: ast.AST, found: Names) -> bool:
    """Note a node that binds names by itself; False when nothing is left to look at in it."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        for alias in node.names:
            if alias.name != "*":
                name = alias.asname or (alias.name.partition(".")[0] if isinstance(node, ast.Import) else alias.name)
                found.bound.setdefault(name, []).append(node)
        return False
    if isinstance(node, (ast.Global, ast.Nonlocal)):
        found.declared.update(dict.fromkeys(node.names, type(node)))
        return False
    if isinstance(node, ast.NamedExpr):  # binds in the function around, even from within a comprehension
        found.bound.setdefault(node.target.id, [])
        return True
    given = node.rest if isinstance(node, ast.MatchMapping) else getattr(node, "name", None)
    if given is not None:
        found.bound.setdefault(str(given), [])
        if isinstance(node, _DEFINITIONS):
            found.definitions.add(node.name)
    return True
