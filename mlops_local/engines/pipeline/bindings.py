"""Which names a scope binds, and the imports behind them. Pure syntax: nothing is resolved here."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass

from mlops_local.engines.pipeline.sources import absolute

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_OWN_SCOPE = (*FUNCTIONS, ast.Lambda, ast.ClassDef)


@dataclass(frozen=True)
class Target:
    """What an import binds a name to: a module, or a name in one."""

    module: str
    name: str = ""


def bound(statement: ast.stmt) -> tuple[str, ...]:
    """The names a top-level statement binds, imports aside."""
    return tuple(name for name, targets in bindings([statement], "").items() if not targets)


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


def declared(body: Iterable[ast.AST]) -> dict[str, type[ast.stmt]]:
    """`global` and `nonlocal` names of a scope."""
    found: dict[str, type[ast.stmt]] = {}
    for node in body:
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            found.update(dict.fromkeys(node.names, type(node)))
        elif not isinstance(node, _OWN_SCOPE):
            found.update(declared(ast.iter_child_nodes(node)))
    return found


def bindings(body: Iterable[ast.AST], package: str) -> dict[str, list[Target]]:
    """Names a scope binds -> the imports that bind them (none for an ordinary binding)."""
    found: dict[str, list[Target]] = {}
    for node in body:
        _bind(node, package, found, in_comprehension=False)
    return found


def _bind(node: ast.AST, package: str, found: dict[str, list[Target]], *, in_comprehension: bool) -> None:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        for name, target in import_targets(node, package).items():
            found.setdefault(name, []).append(target)
        return
    given = getattr(node, "name", None)
    if isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and given is not None:
        found.setdefault(str(given), [])
    elif isinstance(node, ast.MatchMapping) and node.rest:
        found.setdefault(node.rest, [])
    elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load) and not in_comprehension:
        found.setdefault(node.id, [])
    elif isinstance(node, ast.NamedExpr):  # binds in the function around, even from within a comprehension
        found.setdefault(node.target.id, [])
    if isinstance(node, _OWN_SCOPE):
        for decorator in getattr(node, "decorator_list", []):
            _bind(decorator, package, found, in_comprehension=in_comprehension)
        return
    inside = in_comprehension or isinstance(node, COMPREHENSIONS)
    for child in ast.iter_child_nodes(node):
        _bind(child, package, found, in_comprehension=inside)
