"""Mutation operators: one small change each, at every place of a file where they apply."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

_OPERATORS: dict[type[ast.AST], ast.operator] = {
    ast.Add: ast.Sub(),
    ast.Sub: ast.Add(),
    ast.Mult: ast.Add(),
    ast.Mod: ast.Mult(),
    ast.FloorDiv: ast.Mult(),
    ast.Div: ast.Mult(),
    ast.Pow: ast.Mult(),
}
_COMPARISONS: dict[type[ast.AST], ast.cmpop] = {
    ast.Gt: ast.LtE(),
    ast.GtE: ast.Lt(),
    ast.Lt: ast.GtE(),
    ast.LtE: ast.Gt(),
    ast.Eq: ast.NotEq(),
    ast.NotEq: ast.Eq(),
    ast.In: ast.NotIn(),
    ast.Is: ast.IsNot(),
}


def constant(node: ast.AST) -> str:
    """Another number or text."""
    if not isinstance(node, ast.Constant) or node.value is None or isinstance(node.value, (bytes, bool)):
        return ""
    if isinstance(node.value, (int, float)):
        node.value += 1
    elif isinstance(node.value, str) and node.value.isalpha():
        node.value += "x"
    else:
        return ""
    return f"constant {node.value!r}"


def arithmetic(node: ast.AST) -> str:
    """Another operator."""
    if isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in _OPERATORS:
        node.op = _OPERATORS[type(node.op)]
        return f"operator {type(node.op).__name__}"
    return ""


def comparison(node: ast.AST) -> str:
    """The opposite comparison."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
        node.ops[0] = _COMPARISONS[type(node.ops[0])]
        return f"comparison {type(node.ops[0]).__name__}"
    return ""


def boolean(node: ast.AST) -> str:
    """`and` for `or`, the other branch of a condition."""
    if isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        return "boolean"
    if isinstance(node, (ast.If, ast.IfExp)):
        node.test = ast.UnaryOp(ast.Not(), node.test)
        return "condition"
    return ""


def default(node: ast.AST) -> str:
    """One default fewer."""
    if isinstance(node, ast.arguments) and node.defaults:
        node.defaults = [ast.BinOp(item, ast.Mult(), ast.Constant(2)) for item in node.defaults]
        return "default"
    return ""


def arguments(node: ast.AST) -> str:
    """The first two arguments swapped."""
    if isinstance(node, ast.Call) and len(node.args) > 1:
        node.args[:2] = node.args[1::-1]
        return "swapped arguments"
    return ""


def decorator(node: ast.AST) -> str:
    """No decorator."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.decorator_list:
        node.decorator_list = []
        return f"no decorator on {node.name}"
    return ""


def bases(node: ast.AST) -> str:
    """No bases."""
    if isinstance(node, ast.ClassDef) and node.bases:
        node.bases = []
        return f"no bases of {node.name}"
    return ""


def returned(node: ast.AST) -> str:
    """Nothing returned."""
    if isinstance(node, ast.Return) and node.value is not None:
        node.value = ast.Tuple([node.value, ast.Constant(None)], ast.Load())
        return "returned value"
    return ""


def deletion(node: ast.AST) -> str:
    """A function without its first statement."""
    if isinstance(node, ast.FunctionDef):
        kept = [item for item in node.body if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))]
        if len(kept) > 1:
            node.body = kept[1:]
            return f"first statement of {node.name} gone"
    return ""


OPERATORS: tuple[Callable[[ast.AST], str], ...] = (
    constant,
    arithmetic,
    comparison,
    boolean,
    default,
    arguments,
    decorator,
    bases,
    returned,
    deletion,
)


def mutants(text: str) -> Iterator[tuple[str, str]]:
    """What was done and the changed text, for each operator at each place."""
    nodes = list(ast.walk(ast.parse(text)))
    for operator in OPERATORS:
        for place in range(len(nodes)):
            done = operator(nodes[place])
            if done:
                line = getattr(nodes[place], "lineno", 0)
                yield f"line {line}: {done}", ast.unparse(ast.fix_missing_locations(nodes[0]))
                nodes = list(ast.walk(ast.parse(text)))  # the operator changed this tree
