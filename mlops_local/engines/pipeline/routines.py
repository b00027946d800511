"""Whether running one function changes anything but what it returns: what it makes itself it may change, nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlops_local.engines.pipeline.bindings import COMPREHENSIONS, FUNCTIONS, all_arguments, import_targets, scope_of

if TYPE_CHECKING:
    from mlops_local.engines.pipeline.effects import Effects, Local
    from mlops_local.engines.pipeline.modules import Module

FRESH, GIVEN, INNER = "fresh", "given", "inner"
_ALL = 99
_DEPTHS = {"decorator": 0, "decorator()": 1}
_NEW = (ast.Constant, ast.JoinedStr, ast.List, ast.Dict, ast.Set, ast.Tuple, ast.BinOp, ast.Compare, *COMPREHENSIONS)
_BUILDERS = {"list", "dict", "set", "sorted", "tuple", "bytearray", "int", "float", "str", "sum", "len", "min", "max", "deque"}


class Routine:
    """One function, judged for one way of running it.

    way: `call`; `result` (its result has to last, too); `making` (its first argument is a new object); `using` (a method);
    `decorator` and `decorator()` (only what runs while something is decorated; that is new, too).
    """

    def __init__(self, effects: Effects, module: Module, node: ast.FunctionDef | ast.AsyncFunctionDef, way: str) -> None:
        self.effects = effects
        self.module = module
        self.node = node
        self.way = way
        self.depth = _DEPTHS.get(way, _ALL)
        self.local = self._local()

    def quiet(self) -> bool:
        """The judgement."""
        parts = [item for statement in self.node.body for item in executed(statement, self.depth)]
        return all(map(self._part, parts))

    def _local(self) -> Local:
        found: Local = {}
        functions = [self.node, *(item for item in ast.walk(self.node) if isinstance(item, (*FUNCTIONS, ast.Lambda)))]
        for function in functions:
            found.update(dict.fromkeys(scope_of(function).bound, GIVEN))
            found.update(nested(function))
        for item in ast.walk(self.node):
            if isinstance(item, COMPREHENSIONS):
                names = (n.id for g in item.generators for n in ast.walk(g.target) if isinstance(n, ast.Name))
                found.update(dict.fromkeys(names, GIVEN))
        found.update(dict.fromkeys(self._fresh(), FRESH))
        found.update(
            (item.name, INNER) for item in ast.walk(self.node) if isinstance(item, FUNCTIONS) and item is not self.node
        )
        for name, kind in scope_of(self.node).declared.items():
            if kind is ast.Global:
                found.pop(name, None)
        arguments = all_arguments(self.node.args)
        if arguments and (self.way == "making" or self.way.startswith("decorator")):
            found[arguments[0].arg] = "new" if self.way.startswith("decorator") else FRESH
        return found

    def _fresh(self) -> set[str]:
        """Names that only ever hold what this function made."""
        made: dict[str, bool] = {}
        for item in ast.walk(self.node):
            if isinstance(item, (ast.Assign, ast.AnnAssign)):
                for target in item.targets if isinstance(item, ast.Assign) else [item.target]:
                    if isinstance(target, ast.Name):
                        made[target.id] = made.get(target.id, True) and _is_new(item.value)
        others = {
            item.id
            for holder in ast.walk(self.node)
            if isinstance(holder, (ast.For, ast.With, ast.NamedExpr, ast.ExceptHandler, ast.Match, ast.AsyncFor, ast.AsyncWith))
            for item in ast.walk(
                holder.target if isinstance(holder, (ast.For, ast.AsyncFor, ast.NamedExpr)) else ast.Module([], [])
            )
            if isinstance(item, ast.Name)
        }
        tuples = {
            item.id
            for holder in ast.walk(self.node)
            if isinstance(holder, (ast.Tuple, ast.List)) and not isinstance(holder.ctx, ast.Load)
            for item in ast.walk(holder)
            if isinstance(item, ast.Name)
        }
        arguments = {argument.arg for argument in all_arguments(self.node.args)}
        return {name for name, new in made.items() if new} - others - tuples - arguments

    def _part(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Global):
            return False
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            targets = import_targets(node, self.module.package).values()
            return not any(self.effects.is_project(target.module) for target in targets) and bool(targets)
        if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
            return isinstance(node.value, ast.Name) and self.local.get(node.value.id) in (FRESH, "new")
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            return self.local.get(node.target.id) == FRESH
        if isinstance(node, (ast.Yield, ast.YieldFrom, ast.Await)):
            return self.way != "result"
        if isinstance(node, ast.Call):
            return self.effects.call(self.module, node, self.local) and self._lasts(node)
        return True

    def _lasts(self, node: ast.Call) -> bool:
        return self.way != "result" or self.effects.lasting(self.module, node, self.local)


def nested(function: ast.AST) -> dict[str, str]:
    """A function's or lambda's arguments, as given."""
    arguments = getattr(function, "args", None)
    return {item.arg: GIVEN for item in all_arguments(arguments)} if isinstance(arguments, ast.arguments) else {}


def executed(node: ast.AST, depth: int = 0) -> Iterator[ast.AST]:
    """The nodes that run when this one does: bodies of functions and lambdas in it only as deep as they are called.

    Args:
        node: a statement or expression.
        depth: how many levels of functions in it run, too.
    """
    if isinstance(node, (*FUNCTIONS, ast.Lambda)):
        arguments = node.args
        outer = [
            *getattr(node, "decorator_list", []),
            *arguments.defaults,
            *(i for i in arguments.kw_defaults if i is not None),
        ]
        inner = node.body if isinstance(node.body, list) else [node.body]
        for item in outer:
            yield from executed(item, depth)
        for item in inner if depth else ():
            yield from executed(item, depth - 1)
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from executed(child, depth)


def _is_new(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _BUILDERS
    return isinstance(node, _NEW)
