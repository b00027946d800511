"""What of the project's code may travel in a value: classes, and functions used as values. A pickle finds them by full name."""

from __future__ import annotations

import ast

from mlops_local.domain.graph import Step
from mlops_local.engines.pipeline.bindings import FUNCTIONS
from mlops_local.engines.pipeline.effects import Lead, chain
from mlops_local.engines.pipeline.names import Piece, Project


def carried(piece: Piece, *, passed: bool) -> list[tuple[str, str]]:
    """Module and name of what of a piece a value may hold.

    Args:
        piece: what a step reaches.
        passed: whether it is used as a value there.
    """
    kinds = (ast.ClassDef, *FUNCTIONS) if passed else (ast.ClassDef,)
    return [(piece.module.name, node.name) for node in piece.nodes if isinstance(node, kinds)]


def outputs_class(project: Project, step: Step) -> tuple[str, str]:
    """The NamedTuple whose fields are the step's outputs: each is kept by itself, the class never is."""
    symbol = step.code[0] if step.code else None
    if symbol is None or symbol.module not in project.sources:
        return "", ""
    module = project.module(symbol.module)
    for node in module.definitions.get(symbol.name, []):
        root, attributes = chain(_unquoted(node.returns)) if isinstance(node, FUNCTIONS) and node.returns else ("", ())
        found = project.lead(module, root, attributes) if root else None
        if isinstance(found, Lead) and isinstance(found.node, ast.ClassDef):
            fields = (item.target for item in found.node.body if isinstance(item, ast.AnnAssign))
            if tuple(field.id for field in fields if isinstance(field, ast.Name)) == step.outputs:
                return found.module.name, found.node.name
    return "", ""


def _unquoted(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            return ast.parse(node.value, mode="eval").body
        except SyntaxError:
            return node
    return node
