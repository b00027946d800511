"""Which outside names a piece of code uses, as Python resolves them: locals, arguments and comprehension variables shadow.

A use is a chain: `c.clean.trim` is the name `c` with two attributes, so that a module behind `c` can be followed. Names bound
by an import inside a function carry that import.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mlops_local.engines.pipeline import normal
from mlops_local.engines.pipeline.normal import FUNCTIONS, Style
from mlops_local.engines.pipeline.sources import absolute

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_OWN_SCOPE = (*FUNCTIONS, ast.Lambda, ast.ClassDef)


@dataclass(frozen=True)
class Target:
    """What an import binds a name to: a module, or a name in one."""

    module: str
    name: str = ""


@dataclass(frozen=True)
class Use:
    """One use of an outside name."""

    name: str
    """A name of the module; empty for a local import."""
    attributes: tuple[str, ...] = ()
    target: Target | None = None
    """What a local import bound the name to."""
    executed: bool = False
    """The import statement itself: the module is executed, nothing of it used yet."""
    soft: bool = False
    """Perhaps a name of the class body."""


def uses(node: ast.AST, package: str, style: Style, *, without: Iterable[ast.AST] = ()) -> tuple[Use, ...]:
    """The outside names of a top-level statement or expression, each once, in the order of the text.

    Args:
        node: the code.
        package: the package relative imports start from.
        style: whether annotations count.
        without: nodes to leave out, by identity.
    """
    finder = _Finder(package, style, {id(item) for item in without})
    finder.visit(node)
    return tuple(dict.fromkeys(finder.found))


def bound(statement: ast.stmt) -> tuple[str, ...]:
    """The names a top-level statement binds, imports aside."""
    return tuple(name for name, targets in _bindings([statement], "").items() if not targets)


def import_targets(node: ast.Import | ast.ImportFrom, package: str) -> dict[str, Target]:
    """Name -> what an import statement binds it to; a star binds nothing here."""
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.partition(".")[0]: Target(alias.name if alias.asname else alias.name.partition(".")[0])
            for alias in node.names
        }
    module = absolute(node, package)
    return {alias.asname or alias.name: Target(module, alias.name) for alias in node.names if alias.name != "*"}


@dataclass
class _Scope:
    names: Mapping[str, list[Target]]
    is_class: bool = False
    globals: frozenset[str] = frozenset()


class _Finder(ast.NodeVisitor):
    def __init__(self, package: str, style: Style, without: set[int]) -> None:
        self.package = package
        self.style = style
        self.without = without
        self.scopes: list[_Scope] = []
        self.found: list[Use] = []

    def visit(self, node: ast.AST) -> None:
        if id(node) not in self.without:
            super().visit(node)

    # Uses

    def visit_Name(self, node: ast.Name) -> None:
        self._use(node.id, (), isinstance(node.ctx, ast.Load))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        attributes = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            attributes.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            self._use(inner.id, tuple(reversed(attributes)), load=True)
        else:
            if any(attribute.startswith("__") for attribute in attributes):  # `cls().__doc__` says something by itself
                self.found.append(Use("", tuple(reversed(attributes))))
            self.visit(inner)

    def _use(self, name: str, attributes: tuple[str, ...], load: bool) -> None:
        soft = False
        for depth, scope in enumerate(reversed(self.scopes)):
            if name in scope.globals:
                break
            if name not in scope.names or (scope.is_class and depth):
                continue
            for target in scope.names[name]:
                self.found.append(Use("", attributes, target))
            if not scope.is_class:
                return
            soft = True  # read before the class body binds it, the module's name is meant
        if load or not self.scopes or any(name in scope.globals for scope in self.scopes):
            self.found.append(Use(name, attributes, soft=soft or not load))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.found.append(Use("", (), Target(alias.name), executed=True))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = absolute(node, self.package)
        for alias in node.names:
            self.found.append(Use("", (), Target(module, "" if alias.name == "*" else alias.name), executed=True))

    # Scopes

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        annotated = self.style.annotations or normal.reads_annotations(node, self.without)
        self._arguments(node.args, annotated=annotated)
        if annotated and node.returns is not None:
            self.visit(node.returns)
        self._inside(node.args, node.body)

    visit_FunctionDef = _function
    visit_AsyncFunctionDef = _function

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._arguments(node.args, annotated=False)
        self._inside(node.args, [ast.Expr(node.body)])

    def _arguments(self, arguments: ast.arguments, *, annotated: bool) -> None:
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            if default is not None:
                self.visit(default)
        if annotated:
            for argument in _all_arguments(arguments):
                if argument.annotation is not None:
                    self.visit(argument.annotation)

    def _inside(self, arguments: ast.arguments, body: list[ast.stmt]) -> None:
        names: dict[str, list[Target]] = {argument.arg: [] for argument in _all_arguments(arguments)}
        names.update(_bindings(body, self.package))
        declared = _declared(body)
        outer = {name for name, kind in declared.items() if kind is ast.Nonlocal}
        module = frozenset(name for name, kind in declared.items() if kind is ast.Global)
        kept = {name: targets for name, targets in names.items() if name not in outer and name not in module}
        self.scopes.append(_Scope(kept, globals=module))
        for statement in body:
            self.visit(statement)
        self.scopes.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for item in [*node.decorator_list, *node.bases, *node.keywords]:
            self.visit(item)
        self.scopes.append(_Scope(_bindings(node.body, self.package), is_class=True))
        for statement in node.body:
            self.visit(statement)
        self.scopes.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        in_class = bool(self.scopes) and self.scopes[-1].is_class
        if in_class or self.style.annotations:
            self.visit(node.annotation)
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        self.visit(node.generators[0].iter)
        names = {name for generator in node.generators for name in _stored(generator.target)}
        self.scopes.append(_Scope({name: [] for name in names}))
        for number, generator in enumerate(node.generators):
            if number:
                self.visit(generator.iter)
            self.visit(generator.target)
            for condition in generator.ifs:
                self.visit(condition)
        for part in [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]:
            self.visit(part)
        self.scopes.pop()

    visit_ListComp = _comprehension
    visit_SetComp = _comprehension
    visit_DictComp = _comprehension
    visit_GeneratorExp = _comprehension


def _all_arguments(arguments: ast.arguments) -> list[ast.arg]:
    optional = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *optional]


def _stored(node: ast.AST) -> set[str]:
    return {item.id for item in ast.walk(node) if isinstance(item, ast.Name) and not isinstance(item.ctx, ast.Load)}


def _declared(body: Iterable[ast.AST]) -> dict[str, type[ast.stmt]]:
    """`global` and `nonlocal` names of a scope."""
    found: dict[str, type[ast.stmt]] = {}
    for node in body:
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            found.update(dict.fromkeys(node.names, type(node)))
        elif not isinstance(node, _OWN_SCOPE):
            found.update(_declared(ast.iter_child_nodes(node)))
    return found


def _bindings(body: Iterable[ast.AST], package: str) -> dict[str, list[Target]]:
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
    inside = in_comprehension or isinstance(node, _COMPREHENSIONS)
    for child in ast.iter_child_nodes(node):
        _bind(child, package, found, in_comprehension=inside)
