"""In which order what is reached happens while the modules are imported.

It counts only where it can make a difference: where a statement has an effect, or a name is bound more than once.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

from mlops_local.engines.pipeline.bindings import FUNCTIONS, import_targets
from mlops_local.engines.pipeline.modules import Module
from mlops_local.engines.pipeline.names import Project
from mlops_local.engines.pipeline.normal import does_nothing
from mlops_local.engines.pipeline.sources import Imported, candidates, imported

_LITERAL = (
    ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.UnaryOp, ast.BinOp, ast.operator, ast.unaryop, ast.expr_context,
)  # fmt: skip


def timeline(
    project: Project, modules: Iterable[str], numbers: Mapping[int, int], rebound: frozenset[tuple[str, str]]
) -> tuple[str, ...]:
    """Pieces in the order in which importing these modules runs them, by their numbers.

    Args:
        project: the code.
        modules: what is imported.
        numbers: statement (its identity) -> the piece it belongs to.
        rebound: module and name of what is bound more than once.
    """
    done: set[str] = set()

    def run(module: str) -> Iterator[str]:
        if module in done or module not in project.sources:
            return
        done.add(module)
        parsed = project.module(module)
        for statement in parsed.body:
            found = _imported(parsed, statement)
            for item in found:
                for name in candidates(item):
                    yield from run(name)
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                names = {*import_targets(statement, parsed.package), *("*" for item in found if "*" in item.names)}
                yield from (f"import {name}" for name in sorted(names) if (module, name) in rebound)
            elif id(statement) in numbers and (rebound or statement in project.loud(module) or _matters(statement)):
                yield str(numbers[id(statement)])

    return tuple(token for module in modules for token in run(module))


def _imported(module: Module, statement: ast.stmt) -> list[Imported]:
    key = ("imported", id(statement))
    if key not in module.memory:
        module.memory[key] = [item for item in imported(statement, module.package) if not item.lazy]
    return module.memory[key]  # type: ignore[no-any-return]


def _matters(statement: ast.stmt) -> bool:
    """Whether something is computed when the statement runs; a plain function, class or literal can come at any time."""
    if isinstance(statement, FUNCTIONS):
        return bool(statement.decorator_list or statement.args.defaults or any(statement.args.kw_defaults))
    if isinstance(statement, ast.ClassDef):
        return bool(statement.decorator_list) or any(_matters(item) for item in statement.body if not does_nothing(item))
    value = getattr(statement, "value", None)
    if not isinstance(statement, (ast.Assign, ast.AnnAssign)) or value is None:
        return True
    return not all(isinstance(item, _LITERAL) for item in ast.walk(value))
