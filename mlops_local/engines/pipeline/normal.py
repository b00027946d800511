"""The meaning of a piece of code as text: two spellings that cannot behave differently give the same text.

Left out: positions, comments, formatting, docstrings and other statements that do nothing, annotations nothing evaluates, the
order of neighbouring imports, the names of local variables. Kept, where code looks at them: docstrings (`__doc__`), annotations
(`get_type_hints`, a decorator that may read them, the body of a class) and local names (`locals()`, `eval`, SQL that names a
variable). Names of arguments and of inner functions and classes are always kept: callers and `__name__` see them.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

from mlops_local.domain.records import dataclass
from mlops_local.engines.pipeline.bindings import COMPREHENSIONS, FUNCTIONS, all_arguments, scope_of, stored

_SCOPES = (*FUNCTIONS, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)
_NAMED = (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)
BLIND = {
    "abstractmethod", "asynccontextmanager", "cache", "cached_property", "classmethod", "contextmanager", "dataclass", "define",
    "deleter", "final", "frozen", "getter", "jit", "lru_cache", "njit", "overload", "override", "property", "runtime_checkable",
    "setter", "staticmethod", "total_ordering", "unique", "wraps",
}  # fmt: skip
"""Decorators that never look at the annotations of functions."""
_ARITHMETIC: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
}


@dataclass(frozen=True)
class Style:
    """What counts beyond the plain meaning."""

    docs: bool = False
    annotations: bool = False
    names: bool = False
    """The names of local variables."""


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
    """Whether a decorator of this function or class may read the annotations in it."""
    decorators = [item for item in getattr(node, "decorator_list", []) if id(item) not in without]
    return any(last_name(item) not in BLIND for item in decorators)


def last_name(node: ast.AST) -> str:
    """`a.b.c(...)` is `c`."""
    if isinstance(node, ast.Call):
        return last_name(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def does_nothing(node: ast.stmt) -> bool:
    """`pass`, a docstring, `...`."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def number(node: ast.AST) -> int | float | None:
    """What an expression of plain numbers comes to: `60 * 60` is 3600; None for anything else."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, (int, float)) and not isinstance(node.value, bool) else None
    if isinstance(node, ast.UnaryOp):
        operands = [number(node.operand)]
    elif isinstance(node, ast.BinOp):
        operands = [number(node.left), number(node.right)]
    else:
        return None
    compute = _ARITHMETIC.get(type(node.op))
    if compute is None or None in operands:
        return None
    try:
        made = compute(*operands)
    except ArithmeticError:
        return None
    return made if type(made) in (int, float) else None


@dataclass
class _Scope:
    """The names one function, comprehension or class binds, and what they are written as."""

    names: set[str]
    kept: set[str] = field(default_factory=set)
    """Those that are written as they are."""
    globals: set[str] = field(default_factory=set)
    is_class: bool = False
    written: dict[str, str] = field(default_factory=dict)


class _Writer:
    def __init__(self, style: Style, without: set[int], out: list[str]) -> None:
        self.style = style
        self.without = without
        self.out = out
        self.scopes: list[_Scope] = []
        self.count = 0
        self.reading = style.annotations
        """Whether something may read the annotations of functions here."""

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
        if isinstance(node, ast.Name):
            self.out.append(f"Name({self._named(node.id)})")
        elif isinstance(node, ast.AnnAssign) and not in_class and not self.style.annotations:
            self._plain_assignment(node)
        elif isinstance(node, COMPREHENSIONS):
            self._comprehension(node)
        elif isinstance(node, (ast.BinOp, ast.UnaryOp)) and (value := number(node)) is not None:
            self.out.append(f"Constant(value={type(value).__name__}:{value!r},)")
        elif isinstance(node, _SCOPES):
            self._scope(node)
        elif isinstance(node, ast.Lambda):
            self.out.append("Lambda(")
            self._arguments(node.args, annotated=False)
            self._inside(node, lambda: self.write(node.body, in_class=False))
            self.out.append(")")
        else:
            self._plain(node, in_class=in_class)

    def _plain(self, node: ast.AST, *, in_class: bool) -> None:
        self.out.append(type(node).__name__ + "(")
        for name, value in self._fields(node):
            self.out.append(name + "=")
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                self._body(value, node, in_class=in_class)
            elif isinstance(node, ast.Delete):  # `del (a, b)` is `del a, b`
                self.write(list(_flat(node.targets)), in_class=in_class)
            elif isinstance(value, str) and (name == "rest" or (name == "name" and isinstance(node, _NAMED))):
                self.out.append(self._named(value))
            elif isinstance(node, ast.Nonlocal):
                self.out.append("".join(sorted(map(self._named, node.names))))
            else:
                self.write(value, in_class=in_class)
        self.out.append(")")

    @staticmethod
    def _fields(node: ast.AST) -> Iterator[tuple[str, object]]:
        for name, value in ast.iter_fields(node):
            if name not in ("ctx", "type_comment", "kind", "type_ignores", "type_params", "simple"):
                yield name, value

    def _plain_assignment(self, node: ast.AnnAssign) -> None:
        """`x: int = 1` is `x = 1`; a bare `x: int` only makes the name local."""
        self.out.append("Assign(targets=[")
        self.write(node.target, in_class=False)
        self.out.append("]value=")
        self.write(node.value, in_class=False)
        self.out.append(")")

    # Scopes

    def _scope(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self.out.append(f"{type(node).__name__}({node.name},")
        self.write(node.decorator_list, in_class=False)
        reads = reads_annotations(node, self.without)
        if isinstance(node, ast.ClassDef):
            self.write(node.bases, in_class=False)
            self.write(node.keywords, in_class=False)
            before, self.reading = self.reading, self.reading or reads
            self.scopes.append(_Scope(set(scope_of(node).bound), is_class=True))
            self._body(node.body, node, in_class=True)
            self.scopes.pop()
            self.reading = before
        else:
            annotated = self.reading or reads
            self._arguments(node.args, annotated=annotated)
            if annotated:
                self.write(node.returns, in_class=False)
            self._inside(node, lambda: self._body(node.body, node, in_class=False))
        self.out.append(")")

    def _inside(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, write: Callable[[], None]) -> None:
        names = scope_of(node)
        free = {name for name, kind in names.declared.items() if kind is ast.Global}
        outer = {name for name, kind in names.declared.items() if kind is ast.Nonlocal}
        taken = {argument.arg for argument in all_arguments(node.args)}
        kept = taken | {name for name, imports in names.bound.items() if imports} | names.definitions
        self.scopes.append(_Scope((taken | set(names.bound)) - free - outer, kept, free))
        write()
        self.scopes.pop()

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        self.out.append(type(node).__name__ + "(")
        self.write(node.generators[0].iter, in_class=False)
        self.scopes.append(_Scope({name for generator in node.generators for name in stored(generator.target)}))
        for position, generator in enumerate(node.generators):
            self.write(generator.target, in_class=False)
            if position:
                self.write(generator.iter, in_class=False)
            self.write(generator.ifs, in_class=False)
            self.out.append(f"{generator.is_async},")
        for part in [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]:
            self.write(part, in_class=False)
        self.scopes.pop()
        self.out.append(")")

    def _named(self, name: str) -> str:
        """How a name is written: a local variable by its turn, anything else as it is."""
        if not self.style.names:
            for depth, scope in enumerate(reversed(self.scopes)):
                if name in scope.globals:
                    break
                if name not in scope.names or (scope.is_class and depth):
                    continue
                if scope.is_class or name in scope.kept:
                    break
                if name not in scope.written:
                    scope.written[name] = f"%{self.count},"
                    self.count += 1
                return scope.written[name]
        return f"{name},"

    # Arguments and bodies

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
        self.out.append("[")
        for position, group in enumerate(_grouped(body)):
            for statement in group:
                if self._counts(statement, first=position == 0 and isinstance(owner, _SCOPES)):
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


def _flat(targets: Iterable[ast.expr]) -> Iterator[ast.expr]:
    for target in targets:
        if isinstance(target, (ast.Tuple, ast.List)):
            yield from _flat(target.elts)
        else:
            yield target


def _grouped(body: list[ast.stmt]) -> Iterator[list[ast.stmt]]:
    """Neighbouring imports, one name each, sorted and each once; every other statement alone."""
    group: dict[str, ast.stmt] = {}
    for statement in body:
        if isinstance(statement, _IMPORTS):
            group.update((ast.dump(item), item) for item in _single(statement))
            continue
        if group:
            yield [group[key] for key in sorted(group)]
            group = {}
        yield [statement]
    if group:
        yield [group[key] for key in sorted(group)]


def _single(statement: ast.Import | ast.ImportFrom) -> list[ast.stmt]:
    if isinstance(statement, ast.Import):
        return [ast.Import(names=[alias]) for alias in statement.names]
    return [ast.ImportFrom(module=statement.module, names=[alias], level=statement.level) for alias in statement.names]
