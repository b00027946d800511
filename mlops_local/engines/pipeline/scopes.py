"""Which outside names a piece of code uses, as Python resolves them: locals, arguments and comprehension variables shadow.

A use is a chain: `c.clean.trim` is the name `c` with two attributes, so that a module behind `c` can be followed. Names bound
by an import inside a function carry that import.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping

from mlops_local.domain.records import dataclass
from mlops_local.engines.pipeline import normal
from mlops_local.engines.pipeline.bindings import Target, all_arguments, scope_of, stored
from mlops_local.engines.pipeline.normal import Style, last_name
from mlops_local.engines.pipeline.sources import absolute

LOOKERS = {
    "SQLContext", "dmatrices", "dmatrix", "eval", "evaluate", "execute", "from_formula", "from_query", "ic", "ols", "query",
    "sql",
}  # fmt: skip
"""Library functions that look up the variables of whoever calls them by the words of a text: duckdb, polars, pandas, patsy."""
_USERS = {
    "map",
    "filter",
    "sorted",
    "min",
    "max",
    "sum",
    "any",
    "all",
    "reduce",
    "map_elements",
    "map_batches",
    "apply",
    "isinstance",
}
"""Calls that use what they are given on the spot and do not keep it."""
_WITHOUT_ARGUMENTS = {"vars", "dir"}
"""Builtins that look at the names around them only when nothing is given to them."""


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
    passed: bool = False
    """Used as a value, not called on the spot."""
    looker: str = ""
    """The call of a function that looks variables up by name, in words; nothing else of the use counts."""
    wide: bool = False
    """Which names it looks up cannot be seen here."""


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
    if any(use.looker for use in finder.found):
        finder.found += [Use(word, soft=True, passed=True) for word in _words(node)]
    return tuple(dict.fromkeys(finder.found))


def _words(node: ast.AST) -> dict[str, None]:
    """The identifiers in the texts of a piece of code, docstrings aside."""
    parts = list(ast.walk(node))
    docs = {id(item.value) for item in parts if isinstance(item, ast.Expr)}
    texts = [
        item.value for item in parts if isinstance(item, ast.Constant) and isinstance(item.value, str) and id(item) not in docs
    ]
    return dict.fromkeys(word for text in texts for word in re.findall(r"[^\W\d]\w*", text))


def _quoted(text: str) -> dict[str, None]:
    """The names in an annotation in quotes; none where it is other text."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError):
        return {}
    return dict.fromkeys(item.id for item in ast.walk(tree) if isinstance(item, ast.Name))


@dataclass
class _Scope:
    names: Mapping[str, list[Target]]
    is_class: bool = False
    globals: frozenset[str] = frozenset()
    arguments: frozenset[str] = frozenset()


class _Finder(ast.NodeVisitor):
    def __init__(self, package: str, style: Style, without: set[int]) -> None:
        self.package = package
        self.style = style
        self.without = without
        self.scopes: list[_Scope] = []
        self.found: list[Use] = []
        self.reading = style.annotations
        """Whether something may read the annotations of functions here."""

    def visit(self, node: ast.AST) -> None:
        if id(node) not in self.without:
            super().visit(node)

    # Uses

    def visit_Name(self, node: ast.Name) -> None:
        self._use(node.id, (), isinstance(node.ctx, ast.Load))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._chain(node, passed=True)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name):
            looks = bool(node.args or node.keywords)
            self._use(node.func.id, (), True, passed=False, soft=looks and node.func.id in _WITHOUT_ARGUMENTS)
        elif isinstance(node.func, ast.Attribute):
            self._chain(node.func, passed=False)
        else:
            self.visit(node.func)
        self._looks(node)
        uses_up = last_name(node.func) in _USERS
        given: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]
        for item in given:
            self._given(item, kept=not uses_up and getattr(item, "arg", None) != "key")

    def _given(self, node: ast.expr | ast.keyword, *, kept: bool) -> None:
        value = node.value if isinstance(node, ast.keyword) else node
        if isinstance(value, ast.Name):
            self._use(value.id, (), True, passed=kept)
        elif isinstance(value, ast.Attribute):
            self._chain(value, passed=kept)
        else:
            self.visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and node.value.startswith("__") and node.value.endswith("__"):
            self.found.append(Use("", (node.value,)))  # `getattr(f, "__doc__")`

    def _chain(self, node: ast.Attribute, *, passed: bool) -> None:
        attributes = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            attributes.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            self._use(inner.id, tuple(reversed(attributes)), load=True, passed=passed)
        else:
            if any(attribute.startswith(("__", "f_", "gi_")) for attribute in attributes):
                self.found.append(Use("", tuple(reversed(attributes))))  # `cls().__doc__` says something by itself
            self.visit(inner)

    def _looks(self, node: ast.Call) -> None:
        """Note a call that looks variables up by name; a text that is not made here may hold any name of the file."""
        name = last_name(node.func)
        if name not in LOOKERS or (isinstance(node.func, ast.Name) and self._is_local(name)):
            return
        asked = [item.id for given in node.args[:1] for item in ast.walk(given) if isinstance(item, ast.Name)]
        wide = any(not self._is_local(word) or self._is_argument(word) for word in asked)
        self.found.append(Use("", looker=f"{name}()", wide=wide))

    def _is_local(self, name: str) -> bool:
        return any(name in scope.names for scope in self.scopes)

    def _is_argument(self, name: str) -> bool:
        return any(name in scope.arguments for scope in self.scopes)

    def _use(self, name: str, attributes: tuple[str, ...], load: bool, *, passed: bool = True, soft: bool = False) -> None:
        for depth, scope in enumerate(reversed(self.scopes)):
            if name in scope.globals:
                break
            if name not in scope.names or (scope.is_class and depth):
                continue
            for target in scope.names[name]:
                self.found.append(Use("", attributes, target, passed=passed))
            if not scope.is_class:
                if any(attribute.startswith(("__", "f_", "gi_")) for attribute in attributes):
                    self.found.append(Use("", attributes))
                return
            soft = True  # read before the class body binds it, the module's name is meant
        if load or not self.scopes or any(name in scope.globals for scope in self.scopes):
            self.found.append(Use(name, attributes, soft=soft or not load, passed=passed))

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
        annotated = self.reading or normal.reads_annotations(node, self.without)
        self._arguments(node.args, annotated=annotated)
        if annotated and node.returns is not None:
            self._annotation(node.returns)
        self._inside(node)

    visit_FunctionDef = _function
    visit_AsyncFunctionDef = _function

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._arguments(node.args, annotated=False)
        self._inside(node)

    def _arguments(self, arguments: ast.arguments, *, annotated: bool) -> None:
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            if default is not None:
                self.visit(default)
        if annotated:
            for argument in all_arguments(arguments):
                if argument.annotation is not None:
                    self._annotation(argument.annotation)

    def _inside(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        scope = scope_of(node)
        names: dict[str, list[Target]] = {argument.arg: [] for argument in all_arguments(node.args)}
        names.update(scope.targets(self.package))
        outer = {name for name, kind in scope.declared.items() if kind is ast.Nonlocal}
        module = frozenset(name for name, kind in scope.declared.items() if kind is ast.Global)
        kept = {name: targets for name, targets in names.items() if name not in outer and name not in module}
        self.scopes.append(_Scope(kept, globals=module, arguments=frozenset(item.arg for item in all_arguments(node.args))))
        for statement in node.body if isinstance(node.body, list) else [node.body]:
            self.visit(statement)
        self.scopes.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for item in [*node.decorator_list, *node.bases, *node.keywords]:
            self.visit(item)
        before, self.reading = self.reading, self.reading or normal.reads_annotations(node, self.without)
        self.scopes.append(_Scope(scope_of(node).targets(self.package), is_class=True))
        for statement in node.body:
            self.visit(statement)
        self.scopes.pop()
        self.reading = before

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        in_class = bool(self.scopes) and self.scopes[-1].is_class
        if in_class or self.style.annotations:
            self._annotation(node.annotation)
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def _annotation(self, node: ast.expr) -> None:
        """Annotations in quotes mean the same; what nobody can resolve there is not evaluated either."""
        self.visit(node)
        for item in ast.walk(node):
            if isinstance(item, ast.Constant) and isinstance(item.value, str):
                self.found += [Use(name, soft=True) for name in _quoted(item.value)]

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        self.visit(node.generators[0].iter)
        names = {name for generator in node.generators for name in stored(generator.target)}
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
