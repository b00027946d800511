"""One project module as names and the statements behind them, read from its bytes and never executed.

`if TYPE_CHECKING:` and `if __name__ == "__main__":` do not run on import. A name bound inside `if`, `try`, `with` or a loop is
defined by the whole of that statement.
"""

from __future__ import annotations

import ast
from collections.abc import Hashable, Iterator
from dataclasses import field
from functools import cached_property, lru_cache
from typing import Any

from mlops_local.domain.records import dataclass
from mlops_local.engines.pipeline.bindings import FUNCTIONS, Target, bound, import_targets
from mlops_local.engines.pipeline.normal import does_nothing
from mlops_local.engines.pipeline.sources import SourceFile, absolute, tree

_COMPOUND = (ast.If, ast.Try, ast.With, ast.For, ast.While, ast.Match, *((ast.TryStar,) if hasattr(ast, "TryStar") else ()))

_PLAIN = (ast.Name, ast.Starred)


@dataclass(eq=False)
class Module:
    """What a module's top level says."""

    name: str
    path: str
    package: str
    """Where its relative imports start."""
    broken: bool = False
    """It does not parse."""
    body: tuple[ast.stmt, ...] = ()
    """Its statements as they stand, those that do nothing included."""
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    """Name -> every statement that binds it, imports aside."""
    imports: dict[str, list[Target]] = field(default_factory=dict)
    """Name -> every import that binds it."""
    stars: list[str] = field(default_factory=list)
    """Modules imported with a star."""
    positions: dict[tuple[str, Target | None], int] = field(default_factory=dict)
    """Name (`* module` for a star), and the import that binds it -> line of the last statement that does."""
    loose: list[ast.stmt] = field(default_factory=list)
    """Statements that are neither an import nor a plain binding: they may do something when the module is imported."""
    public: tuple[str, ...] | None = None
    """`__all__`, where it is a plain list of texts."""
    changes_all: bool = False
    """A statement does something to `__all__`."""
    memory: dict[Hashable, Any] = field(default_factory=dict)
    """What was worked out of this text alone; it lives as long as the text is known."""

    @property
    def doc(self) -> str:
        """Its docstring."""
        return ast.get_docstring(ast.Module(body=list(self.body), type_ignores=[]), clean=False) or ""

    @cached_property  # asked for each definition that is met
    def future_annotations(self) -> bool:
        """Whether its annotations stay texts."""
        return any(
            isinstance(item, ast.ImportFrom) and item.module == "__future__" and "annotations" in {a.name for a in item.names}
            for item in self.body
        )

    def has(self, name: str) -> bool:
        """Whether the module binds the name itself."""
        return name in self.definitions or name in self.imports

    def position(self, name: str, target: Target | None = None) -> int:
        """Where the last statement stands that binds a name (by that import), or imports `* module`."""
        return self.positions.get((name, target), -1)

    def exported(self, name: str) -> bool:
        """Whether a star import takes the name."""
        if self.public is not None and len(self.definitions["__all__"]) == 1 and not self.changes_all:
            return name in self.public
        return "__all__" in self.definitions or not name.startswith("_")

    def statements(self) -> Iterator[ast.stmt]:
        """Every statement, each once."""
        seen: set[int] = set()
        for statement in [*(item for items in self.definitions.values() for item in items), *self.loose]:
            if id(statement) not in seen:
                seen.add(id(statement))
                yield statement


def parse(name: str, source: SourceFile) -> Module:
    """Read a module; the same bytes are read once."""
    return _parse(name, source.path, source.package, source.data)


@lru_cache(maxsize=1024)
def _parse(name: str, path: str, is_package: bool, data: bytes) -> Module:
    module = Module(name, path, name if is_package else name.rpartition(".")[0])
    parsed = tree(data)
    if parsed is None:
        module.broken = True
        return module
    module.body = tuple(parsed.body)
    for statement in parsed.body:
        _statement(module, statement)
    return module


def _statement(module: Module, statement: ast.stmt) -> None:
    if does_nothing(statement) or _is_main_guard(statement):
        return
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        _import(module, statement)
    elif isinstance(statement, ast.If) and _is_type_checking(statement.test):
        for inner in ast.walk(ast.Module(body=statement.body, type_ignores=[])):
            if isinstance(inner, (ast.Import, ast.ImportFrom)):
                _import(module, inner)
        for inner_statement in statement.orelse:
            _statement(module, inner_statement)
    elif isinstance(statement, _COMPOUND):
        _compound(module, statement)
    else:
        _simple(module, statement)


def _compound(module: Module, statement: ast.stmt) -> None:
    _define(module, statement)
    for inner in ast.walk(statement):
        if isinstance(inner, (ast.Import, ast.ImportFrom)):
            _import(module, inner, at=statement.lineno)
            for name in import_targets(inner, module.package):
                held = module.definitions.setdefault(name, [])
                if statement not in held:  # which of the imports it was depends on the rest
                    held.append(statement)
                module.positions[name, None] = statement.lineno
    module.loose.append(statement)


def _simple(module: Module, statement: ast.stmt) -> None:
    plain = (
        isinstance(statement, (*FUNCTIONS, ast.ClassDef, ast.Assign, ast.AnnAssign)) or type(statement).__name__ == "TypeAlias"
    )
    if isinstance(statement, ast.Assign):
        plain = all(isinstance(item, _PLAIN) for target in statement.targets for item in _leaves(target))
        if [target.id for target in statement.targets if isinstance(target, ast.Name)] == ["__all__"]:
            module.public = _texts(statement.value)
    if isinstance(statement, ast.AnnAssign):
        if statement.value is None:
            return
        plain = isinstance(statement.target, ast.Name)
    _define(module, statement)
    if not plain:
        module.loose.append(statement)
        module.changes_all |= any(isinstance(item, ast.Name) and item.id == "__all__" for item in ast.walk(statement))


def _leaves(target: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, (ast.Tuple, ast.List)):
        for item in target.elts:
            yield from _leaves(item)
    else:
        yield target


def _define(module: Module, statement: ast.stmt) -> None:
    names = bound(statement)
    if type(statement).__name__ == "TypeAlias":
        names = (statement.name.id,)  # type: ignore[attr-defined]
    for name in names:
        module.definitions.setdefault(name, []).append(statement)
        module.positions[name, None] = statement.lineno


def _import(module: Module, statement: ast.Import | ast.ImportFrom, *, at: int = 0) -> None:
    for name, target in import_targets(statement, module.package).items():
        module.imports.setdefault(name, []).append(target)
        module.positions[name, target] = at or statement.lineno
    if isinstance(statement, ast.ImportFrom) and any(alias.name == "*" for alias in statement.names):
        module.stars.append(absolute(statement, module.package))
        module.positions[f"* {module.stars[-1]}", None] = statement.lineno


def _texts(node: ast.expr) -> tuple[str, ...] | None:
    if not isinstance(node, (ast.List, ast.Tuple)):
        return None
    values = [item.value for item in node.elts if isinstance(item, ast.Constant) and isinstance(item.value, str)]
    return tuple(values) if len(values) == len(node.elts) else None


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"


def _is_main_guard(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.If) or statement.orelse or not isinstance(statement.test, ast.Compare):
        return False
    sides = [statement.test.left, *statement.test.comparators]
    names = {side.id for side in sides if isinstance(side, ast.Name)}
    texts = {side.value for side in sides if isinstance(side, ast.Constant)}
    return names == {"__name__"} and texts == {"__main__"} and isinstance(statement.test.ops[0], ast.Eq)
