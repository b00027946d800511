"""The meaning of a piece of code as text: two spellings that cannot behave differently give the same text.

Left out: positions, comments, formatting, docstrings and other statements that do nothing, annotations nothing evaluates, the
order of neighbouring imports. Kept, where code looks at them: docstrings (`__doc__`) and annotations (`get_type_hints`, a
decorator that may read them, the body of a class).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SCOPES = (*FUNCTIONS, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)
_BLIND = {
    "abstractmethod", "asynccontextmanager", "cache", "cached_property", "classmethod", "contextmanager", "deleter", "final",
    "getter", "lru_cache", "njit", "jit", "overload", "override", "property", "setter", "staticmethod", "wraps",
}  # fmt: skip
"""Decorators that never look at annotations."""


@dataclass(frozen=True)
class Style:
    """What counts beyond the plain meaning."""

    docs: bool = False
    annotations: bool = False


def text(node: ast.AST | None, style: Style, *, without: Iterable[ast.AST] = ()) -> str:
    """The canonical text of a node.

    Args:
        node: a statement or expression.
        style: what counts.
        without: nodes to leave out, by identity (our own decorators, defaults that travel as parameters).
    """
    out: list[str] = []
    _Writer(style, {id(item) for item in without}, out).write(node, in_class=False)
    return "".join(out)


def reads_annotations(node: ast.AST, without: frozenset[int] | set[int] = frozenset()) -> bool:
    """Whether a decorator of this function may read its annotations."""
    decorators = [item for item in getattr(node, "decorator_list", []) if id(item) not in without]
    return any(last_name(item) not in _BLIND for item in decorators)


def last_name(node: ast.AST) -> str:
    """`a.b.c(...)` is `c`."""
    if isinstance(node, ast.Call):
        return last_name(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def does_nothing(node: ast.stmt) -> bool:
    """`pass`, a docstring, `...`."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


class _Writer:
    def __init__(self, style: Style, without: set[int], out: list[str]) -> None:
        self.style = style
        self.without = without
        self.out = out

    def write(self, node: object, *, in_class: bool) -> None:
        if isinstance(node, ast.AST):
            if id(node) not in self.without:
                self._node(node, in_class=in_class)
        elif isinstance(node, list):
            self.out.append("[")
            for item in node:
                self.write(item, in_class=in_class)
            self.out.append("]")
        else:
            self.out.append(f"{type(node).__name__}:{node!r},")

    def _node(self, node: ast.AST, *, in_class: bool) -> None:
        if isinstance(node, ast.AnnAssign) and not in_class and not self.style.annotations:
            self._plain_assignment(node)
            return
        self.out.append(type(node).__name__ + "(")
        annotated = isinstance(node, FUNCTIONS) and (self.style.annotations or reads_annotations(node, self.without))
        for name, value in self._fields(node, annotated):
            self.out.append(name + "=")
            if isinstance(value, ast.arguments):
                self._arguments(value, annotated=annotated)
            elif isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                self._body(value, node, in_class=in_class)
            else:
                self.write(value, in_class=in_class and not isinstance(node, _SCOPES))
        self.out.append(")")

    @staticmethod
    def _fields(node: ast.AST, annotated: bool) -> Iterator[tuple[str, object]]:
        for name, value in ast.iter_fields(node):
            if name in ("ctx", "type_comment", "kind", "type_ignores", "type_params", "simple"):
                continue
            if name == "returns" and not annotated:
                continue
            yield name, value

    def _plain_assignment(self, node: ast.AnnAssign) -> None:
        """`x: int = 1` is `x = 1`; a bare `x: int` only makes the name local."""
        self.out.append("Assign(targets=[")
        self.write(node.target, in_class=False)
        self.out.append("]value=")
        self.write(node.value, in_class=False)
        self.out.append(")")

    def _arguments(self, node: ast.arguments, *, annotated: bool) -> None:
        self.out.append("arguments(")
        groups: dict[str, Sequence[ast.arg | None]] = {
            "posonly": node.posonlyargs,
            "args": node.args,
            "vararg": [node.vararg],
            "kwonly": node.kwonlyargs,
            "kwarg": [node.kwarg],
        }
        for name, group in groups.items():
            self.out.append(f"{name}=")
            for argument in group:
                if argument is not None:
                    self.out.append(f"{argument.arg},")
                    if annotated:
                        self.write(argument.annotation, in_class=False)
        self.out.append("defaults=")
        self.write(node.defaults, in_class=False)
        self.write(node.kw_defaults, in_class=False)
        self.out.append(")")

    def _body(self, body: list[ast.stmt], owner: ast.AST, *, in_class: bool) -> None:
        in_class = isinstance(owner, ast.ClassDef) or (in_class and not isinstance(owner, FUNCTIONS))
        self.out.append("[")
        for number, group in enumerate(_grouped(body)):
            for statement in group:
                if self._counts(statement, first=number == 0 and isinstance(owner, _SCOPES)):
                    self.write(statement, in_class=in_class)
        self.out.append("]")

    def _counts(self, statement: ast.stmt, *, first: bool) -> bool:
        if not does_nothing(statement):
            return True
        is_text = (
            isinstance(statement, ast.Expr)
            and isinstance(statement.value, ast.Constant)
            and isinstance(statement.value.value, str)
        )
        return self.style.docs and first and is_text


def _grouped(body: list[ast.stmt]) -> Iterator[list[ast.stmt]]:
    """Neighbouring imports, one name each, sorted; every other statement alone."""
    group: list[ast.stmt] = []
    for statement in body:
        if isinstance(statement, _IMPORTS):
            group += _single(statement)
            continue
        if group:
            yield sorted(group, key=ast.dump)
            group = []
        yield [statement]
    if group:
        yield sorted(group, key=ast.dump)


def _single(statement: ast.Import | ast.ImportFrom) -> list[ast.stmt]:
    if isinstance(statement, ast.Import):
        return [ast.Import(names=[alias]) for alias in statement.names]
    return [ast.ImportFrom(module=statement.module, names=[alias], level=statement.level) for alias in statement.names]
