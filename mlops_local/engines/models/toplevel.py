"""What a top-level statement binds, what it changes in place and which module names it needs, as Python resolves them."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterator


def bound(node: ast.stmt) -> Iterator[str]:
    """Names a top-level statement binds, inside its blocks too but not inside functions and classes."""
    table = symtable.symtable(ast.unparse(node), "statement", "exec")
    for symbol in table.get_symbols():
        if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace():
            yield symbol.get_name()


def changed(node: ast.stmt) -> set[str]:
    """Names whose values a statement changes in place: `TABLE["x"] = 1`, `NAMES.append("y")`, also inside loops."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return set()
    found: set[str] = set()
    for item in ast.walk(node):
        if isinstance(item, (ast.Subscript, ast.Attribute)) and isinstance(item.ctx, ast.Store):
            found.add(root(item))
        elif isinstance(item, ast.Expr) and isinstance(item.value, ast.Call) and isinstance(item.value.func, ast.Attribute):
            found.add(root(item.value.func))
    return found


def needed(node: ast.stmt, ours: set[str]) -> set[str]:
    """Module-level names the statement needs when it runs or is called; decorators in `ours` and annotations do not count."""
    bare = _Bare(ours).visit(ast.parse(ast.unparse(node)))
    return set(_global_names(symtable.symtable(ast.unparse(ast.fix_missing_locations(bare)), "statement", "exec")))


def chains(node: ast.AST) -> Iterator[tuple[str, ...]]:
    """Every dotted name in a statement, longest form: `a.b.c` once, not also `a.b`."""
    if isinstance(node, (ast.Attribute, ast.Name)):
        parts: list[str] = []
        item: ast.AST = node
        while isinstance(item, ast.Attribute):
            parts.insert(0, item.attr)
            item = item.value
        if isinstance(item, ast.Name):
            yield (item.id, *parts)
            return
    for child in ast.iter_child_nodes(node):
        yield from chains(child)


def is_main_guard(node: ast.If) -> bool:
    """Whether this is `if __name__ == "__main__":`."""
    return "__name__" in {item.id for item in ast.walk(node.test) if isinstance(item, ast.Name)}


def root(node: ast.expr) -> str:
    """The name an expression starts from: `mlops` of `@mlops.step(gpus=1)`, or empty."""
    while isinstance(node, (ast.Attribute, ast.Call, ast.Subscript)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _global_names(table: symtable.SymbolTable) -> Iterator[str]:
    for symbol in table.get_symbols():
        if (table.get_type() == "module" and symbol.is_referenced()) or (table.get_type() != "module" and symbol.is_global()):
            yield symbol.get_name()
    for child in table.get_children():
        yield from _global_names(child)


class _Bare(ast.NodeTransformer):
    """Drops what does not run: function annotations and our own decorators."""

    def __init__(self, ours: set[str]) -> None:
        self.ours = ours
        self.in_class = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        outer, self.in_class = self.in_class, False
        node.decorator_list = [item for item in node.decorator_list if root(item) not in self.ours]
        node.returns = None
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        self.generic_visit(node)
        self.in_class = outer
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        outer, self.in_class = self.in_class, True
        node.decorator_list = [item for item in node.decorator_list if root(item) not in self.ours]
        self.generic_visit(node)
        self.in_class = outer
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        if self.in_class:
            return node
        return ast.Assign([node.target], node.value, lineno=node.lineno) if node.value else ast.Pass()
