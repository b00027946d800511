"""Which top-level statements may change something beyond the names they bind.

Such a statement belongs to every step whose module executes it: it may set an option, fill a registry, patch a library. A
binding whose value is computed without that (a literal, `sorted(...)`, `Path(...)`, one of our declarations) belongs only to
who uses the name. Where a call cannot be judged it counts as an effect: better a rerun too many.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mlops_local.engines.pipeline.modules import Module
from mlops_local.engines.pipeline.normal import FUNCTIONS
from mlops_local.engines.pipeline.scopes import Target

OURS = "mlops_local"
_LOUD_BUILTINS = {"exec", "eval", "setattr", "delattr", "open", "__import__", "globals", "next", "input", "breakpoint"}
_LOUD = (
    "set", "seed", "register", "enable", "disable", "use", "patch", "install", "uninstall", "configure", "config", "init_",
    "basic", "filterwarnings", "simplefilter", "manual_seed", "add", "append", "insert", "update", "extend", "put", "chdir",
    "remove", "pop", "clear", "load_dotenv", "activate", "monkey", "delete", "write", "mkdir", "exec", "system",
)  # fmt: skip
"""How names of calls begin that change something elsewhere."""
_QUIET = {"set", "setdiff1d", "user_data_dir", "basename", "extend_constant"}
"""Names that begin so and do not."""
Lead = tuple[Module, ast.stmt]
Find = Callable[[Module, str, tuple[str, ...]], "Lead | Target | None"]
"""Where a name leads: a project's definition, an import from outside, or nowhere known."""


@dataclass
class Effects:
    """Judges statements; remembers its judgements of functions."""

    find: Find
    judged: dict[int, bool] = field(default_factory=dict)

    def of(self, module: Module) -> list[ast.stmt]:
        """The module's statements with an effect, in order."""
        loose = {id(statement) for statement in module.loose}
        found = [item for item in module.statements() if not self._quiet_statement(module, item, loose=id(item) in loose)]
        return sorted(found, key=lambda statement: statement.lineno)

    def ours(self, module: Module, node: ast.expr) -> bool:
        """Whether a decorator or call is one of mlops_local's, also through a declared model: `@delay.candidate`."""
        callee = node.func if isinstance(node, ast.Call) else node
        root, attributes = _chain(callee)
        found = self.find(module, root, attributes) if root else None
        if isinstance(found, Target):
            return found.module.partition(".")[0] == OURS
        if found is None or not attributes:
            return False
        value = getattr(found[1], "value", None)
        return isinstance(found[1], (ast.Assign, ast.AnnAssign)) and isinstance(value, ast.Call) and self.ours(found[0], value)

    # Statements

    def _quiet_statement(self, module: Module, node: ast.AST, *, loose: bool = False) -> bool:
        if isinstance(node, (ast.Import, ast.ImportFrom, ast.Pass, ast.Raise)):
            return True
        if isinstance(node, FUNCTIONS):
            return self._quiet_def(module, node)
        if isinstance(node, ast.ClassDef):
            return self._quiet_class(module, node)
        if isinstance(node, ast.Expr):  # a call whose result nobody keeps is made for its effect, unless it is ours
            return isinstance(node.value, ast.Constant) or (isinstance(node.value, ast.Call) and self.ours(module, node.value))
        if isinstance(node, (ast.If, ast.Try)):
            inner = [
                *node.body,
                *node.orelse,
                *(s for h in getattr(node, "handlers", []) for s in h.body),
                *getattr(node, "finalbody", []),
            ]
            tested = not isinstance(node, ast.If) or self._quiet(module, node.test)
            return tested and all(self._quiet_statement(module, item) for item in inner)
        if isinstance(node, ast.Assign) and not all(
            isinstance(target, (ast.Name, ast.Tuple, ast.List)) for target in node.targets
        ):
            return False
        return not loose and isinstance(node, (ast.Assign, ast.AnnAssign)) and self._quiet(module, node)

    def _quiet_def(self, module: Module, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        defaults = [*node.args.defaults, *(item for item in node.args.kw_defaults if item is not None)]
        return self._quiet_decorators(module, node.decorator_list) and all(self._quiet(module, item) for item in defaults)

    def _quiet_decorators(self, module: Module, decorators: list[ast.expr]) -> bool:
        for decorator in decorators:
            called = isinstance(decorator, ast.Call)
            if not self._quiet_call(module, decorator.func if isinstance(decorator, ast.Call) else decorator):
                return False
            if called and not all(self._quiet(module, item) for item in ast.iter_child_nodes(decorator)):
                return False
        return True

    def _quiet_class(self, module: Module, node: ast.ClassDef) -> bool:
        if not self._quiet_decorators(module, node.decorator_list) or self._watched(module, node, set()):
            return False
        evaluated: list[ast.AST] = [*node.bases, *node.keywords]
        for statement in node.body:
            if isinstance(statement, FUNCTIONS):
                if not self._quiet_def(module, statement):
                    return False
            elif isinstance(statement, ast.ClassDef):
                if not self._quiet_class(module, statement):
                    return False
            else:
                evaluated.append(statement)
        return all(self._quiet(module, item) for item in evaluated)

    def _watched(self, module: Module, node: ast.ClassDef, seen: set[int]) -> bool:
        """Whether a project's base class or metaclass runs code when this class is made."""
        for base in [*node.bases, *(keyword.value for keyword in node.keywords if keyword.arg == "metaclass")]:
            root, attributes = _chain(base)
            found = self.find(module, root, attributes) if root else None
            if not isinstance(found, tuple) or not isinstance(found[1], ast.ClassDef) or id(found[1]) in seen:
                continue
            seen.add(id(found[1]))
            methods = {item.name for item in found[1].body if isinstance(item, FUNCTIONS)}
            if methods & {"__init_subclass__", "__set_name__", "__new__", "__init__"} and base not in node.bases:
                return True
            if "__init_subclass__" in methods or self._watched(found[0], found[1], seen):
                return True
        return False

    # Expressions

    def _quiet(self, module: Module, node: ast.AST) -> bool:
        """Whether evaluating this changes nothing."""
        return all(not isinstance(item, ast.Call) or self._quiet_call(module, item.func) for item in _executed(node))

    def _quiet_call(self, module: Module, callee: ast.expr) -> bool:
        root, attributes = _chain(callee)
        if not root:  # a method of a value just made: `"a b".split()`, `pl.col("x").alias("y")`
            return isinstance(callee, ast.Attribute) and not _is_loud(callee.attr)
        if self.ours(module, callee):
            return True
        found = self.find(module, root, attributes)
        if isinstance(found, Target):
            return not _is_loud(attributes[-1] if attributes else found.name or root)
        if found is not None:
            return self._quiet_use(*found, attributes)
        return hasattr(builtins, root) and not attributes and root not in _LOUD_BUILTINS

    def _quiet_use(self, module: Module, node: ast.stmt, attributes: tuple[str, ...]) -> bool:
        """Whether calling a project's definition, or a method of it, changes nothing but what it returns."""
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            made = self._lead_of_call(module, node.value)  # an object of the project's own may collect what it is given
            return bool(attributes) and not _is_loud(attributes[-1]) and not isinstance(made, tuple)
        if id(node) not in self.judged:
            self.judged[id(node)] = True  # one that calls itself is as quiet as the rest of it
            if isinstance(node, FUNCTIONS):
                self.judged[id(node)] = self._quiet_function(module, node)
            else:
                methods = [item for item in getattr(node, "body", []) if isinstance(item, FUNCTIONS)]
                self.judged[id(node)] = isinstance(node, ast.ClassDef) and all(
                    self._quiet_function(module, item) for item in methods
                )
        return self.judged[id(node)]

    def _lead_of_call(self, module: Module, node: ast.expr | None) -> Lead | Target | None:
        root, attributes = _chain(node.func) if isinstance(node, ast.Call) else ("", ())
        return self.find(module, root, attributes) if root else None

    def _quiet_function(self, module: Module, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        parts = list(ast.walk(node))
        given = {argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)} - {"self"}
        own = {item.id for item in parts if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)} | {"self"}
        own |= {item.name for item in parts if isinstance(item, FUNCTIONS)}
        renamed = [item for item in parts if isinstance(item, ast.Assign) and isinstance(item.value, (ast.Name, ast.Attribute))]
        own -= {target.id for item in renamed for target in item.targets if isinstance(target, ast.Name)}
        return all(self._quiet_part(module, item, own, given) for item in parts)

    def _quiet_part(self, module: Module, node: ast.AST, own: set[str], given: set[str]) -> bool:
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            return False
        if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
            return _root(node) in own
        if isinstance(node, ast.Call):
            root, attributes = _chain(node.func)
            if root in own:
                return True
            if root in given:
                return bool(attributes) and not _is_loud(attributes[-1])
            return self._quiet_call(module, node.func)
        return True


def _is_loud(name: str) -> bool:
    return name not in _QUIET and name.lstrip("_").startswith(_LOUD)


def _chain(node: ast.expr) -> tuple[str, tuple[str, ...]]:
    """`a.b.c` is ("a", ("b", "c")); ("", ()) when it does not start with a name."""
    attributes = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return (node.id, tuple(reversed(attributes))) if isinstance(node, ast.Name) else ("", ())


def _root(node: ast.expr) -> str:
    """The name `a.b[c].d` starts with."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when this one does: not the bodies of functions and lambdas in it."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (*FUNCTIONS, ast.Lambda)):
            yield from _executed(child)
