"""In which order what is reached happens while the modules are imported.

It counts only where it can make a difference: where a statement has an effect, or a name is bound more than once.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

from mlops_local.engines.pipeline.bindings import FUNCTIONS, import_targets
from mlops_local.engines.pipeline.names import Project
from mlops_local.engines.pipeline.sources import candidates, imported


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
            found = [item for item in imported(statement, parsed.package) if not item.lazy]
            for item in found:
                for name in candidates(item):
                    yield from run(name)
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                names = {*import_targets(statement, parsed.package), *("*" for item in found if "*" in item.names)}
                yield from (f"import {name}" for name in sorted(names) if (module, name) in rebound)
            elif id(statement) in numbers and _matters(statement):
                yield str(numbers[id(statement)])

    return tuple(token for module in modules for token in run(module))


def _matters(statement: ast.stmt) -> bool:
    """A plain function can be defined at any time."""
    return not isinstance(statement, FUNCTIONS) or bool(
        statement.decorator_list or statement.args.defaults or any(statement.args.kw_defaults)
    )
