"""Which top-level statements may change something beyond the names they bind.

Such a statement belongs to every step whose module executes it: it may set an option, fill a registry, patch a library. A
binding whose value is computed without that (a literal, `sorted(...)`, `Path(...)`, one of our declarations) belongs only to
who uses the name. What is not known to change nothing counts as an effect: better a rerun too many.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import field

from mlops_local.domain.records import dataclass
from mlops_local.engines.pipeline import quiet
from mlops_local.engines.pipeline.bindings import COMPREHENSIONS, FUNCTIONS, all_arguments, stored
from mlops_local.engines.pipeline.modules import Module
from mlops_local.engines.pipeline.normal import BLIND, last_name
from mlops_local.engines.pipeline.quiet import OURS
from mlops_local.engines.pipeline.routines import FRESH, Routine, executed, nested

_PARTS = (ast.Name, ast.Attribute, ast.Subscript, ast.Starred)
_LOOKING = (ast.BinOp, ast.UnaryOp, ast.Compare, ast.Subscript, ast.Starred, ast.comprehension)
"""What runs methods of the values in it."""
_CONSTRUCTORS = {"__init__", "__new__", "__post_init__", "__init_subclass__", "__set_name__", "__call__", "__prepare__"}


@dataclass(frozen=True)
class Lead:
    """A definition of the project's that a name leads to."""

    module: Module
    node: ast.stmt
    rest: tuple[str, ...] = ()
    """Attributes of it that were asked for."""


@dataclass(frozen=True)
class Outside:
    """Something that is not the project's."""

    words: tuple[str, ...]
    """`("polars", "col")`."""


@dataclass(frozen=True)
class Doubtful:
    """A name with several bindings."""


Found = Lead | Outside | Doubtful | None
Find = Callable[[Module, str, tuple[str, ...]], Found]
"""Where a name leads; None when the module does not have it."""
Local = dict[str, str]
"""Names of the function that is judged: `fresh` (made in it) or `given`."""


@dataclass
class Effects:
    """Judges statements; remembers its judgements of functions."""

    find: Find
    is_project: Callable[[str], bool]
    methods: Callable[[], frozenset[str]]
    """Names of all methods of the project's classes."""
    judged: dict[tuple[int, str], bool] = field(default_factory=dict)

    def of(self, module: Module) -> list[ast.stmt]:
        """The module's statements with an effect, in order."""
        loose = {id(statement) for statement in module.loose}
        found = [item for item in module.statements() if not self._statement(module, item, loose=id(item) in loose)]
        found = sorted(found, key=lambda statement: statement.lineno)
        return [*found, *(hint for statement in found for hint in self._loud_hints(module, statement))]

    def ours(self, module: Module, node: ast.expr) -> bool:
        """Whether a decorator or call is one of mlops_local's, also through a declared model: `@delay.candidate`."""
        root, attributes = chain(node.func if isinstance(node, ast.Call) else node)
        found = self.find(module, root, attributes) if root else None
        if isinstance(found, Outside):
            return found.words[0] == OURS
        if not isinstance(found, Lead) or not found.rest:
            return False
        value = getattr(found.node, "value", None)
        return (
            isinstance(found.node, (ast.Assign, ast.AnnAssign))
            and isinstance(value, ast.Call)
            and self.ours(found.module, value)
        )

    def _loud_hints(self, module: Module, node: ast.stmt) -> Iterator[ast.stmt]:
        """Annotations in a statement that do something when they are evaluated, which its own text leaves out."""
        for item in ast.walk(node) if not module.future_annotations else ():
            for hint in _hints(item):
                if not self._annotation(module, hint):
                    yield module.memory.setdefault(("hint", id(hint)), ast.copy_location(ast.Expr(hint), hint))

    # Statements

    def _statement(self, module: Module, node: ast.stmt, *, loose: bool = False) -> bool:
        """Whether a statement of a module's top level changes nothing but the names it binds."""
        if isinstance(node, (ast.Import, ast.ImportFrom, ast.Pass, ast.Raise)):
            return True
        if isinstance(node, FUNCTIONS):
            return self._def(module, node)
        if isinstance(node, ast.ClassDef):
            return self._class(module, node)
        if isinstance(node, ast.Expr):  # a call whose result nobody keeps is made for its effect, unless it is ours
            called = isinstance(node.value, ast.Call) and self.ours(module, node.value)
            return isinstance(node.value, ast.Constant) or (called and self.expression(module, node.value, {}))
        if isinstance(node, (ast.If, ast.Try)):
            return self._compound(module, node)
        if type(node).__name__ == "TypeAlias":
            return True
        return not loose and self._assignment(module, node)

    def _compound(self, module: Module, node: ast.If | ast.Try) -> bool:
        handlers = node.handlers if isinstance(node, ast.Try) else []
        inner = [*node.body, *node.orelse, *(item for handler in handlers for item in handler.body)]
        inner += node.finalbody if isinstance(node, ast.Try) else []
        tested = isinstance(node, ast.Try) or self.expression(module, node.test, {})
        return tested and all(self._statement(module, item) for item in inner)

    def _assignment(self, module: Module, node: ast.stmt) -> bool:
        targets: list[ast.expr]
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
            if not module.future_annotations and not self._annotation(module, node.annotation):
                return False
        elif isinstance(node, ast.Assign):
            targets = node.targets
        else:
            return False
        plain = all(isinstance(item, ast.Name) for target in targets for item in _leaves(target))
        taken_apart = any(isinstance(target, (ast.Tuple, ast.List)) for target in targets)
        if taken_apart and node.value is not None and not self.lasting(module, node.value, {}):
            return False
        return plain and (node.value is None or self.expression(module, node.value, {}))

    def _def(self, module: Module, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        defaults = [*node.args.defaults, *(item for item in node.args.kw_defaults if item is not None)]
        hints = [] if module.future_annotations else _hints(node)
        return (
            all(self._decorator(module, item) for item in node.decorator_list)
            and all(self.expression(module, item, {}) for item in defaults)
            and all(self._annotation(module, item) for item in hints)
        )

    def _class(self, module: Module, node: ast.ClassDef) -> bool:
        if not all(self._decorator(module, item) for item in node.decorator_list) or self._watched(module, node, set()):
            return False
        if not all(self.expression(module, item, {}) for item in [*node.bases, *(keyword.value for keyword in node.keywords)]):
            return False
        own: Local = dict.fromkeys((name for item in node.body for name in stored(item)), FRESH)
        return all(self._class_statement(module, item, own) for item in node.body)

    def _class_statement(self, module: Module, node: ast.stmt, own: Local) -> bool:
        if isinstance(node, FUNCTIONS):
            return self._def(module, node)
        if isinstance(node, ast.ClassDef):
            return self._class(module, node)
        if isinstance(node, (ast.Pass, ast.Expr, ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
            plain = all(isinstance(item, ast.Name) for target in targets for item in _leaves(target))
            value = getattr(node, "value", None)
            hints = [] if module.future_annotations else _hints(node)
            return (
                plain
                and all([self._annotation(module, item) for item in hints])
                and (value is None or self.expression(module, value, own))
            )
        return False

    def _watched(self, module: Module, node: ast.ClassDef, seen: set[int]) -> bool:
        """Whether a project's base class or metaclass runs code when this class is made."""
        for base in [*node.bases, *(keyword.value for keyword in node.keywords if keyword.arg == "metaclass")]:
            root, attributes = chain(base)
            found = self.find(module, root, attributes) if root else None
            if isinstance(found, Doubtful):
                return True
            if not isinstance(found, Lead) or id(found.node) in seen:
                continue
            if not isinstance(found.node, ast.ClassDef):
                return True
            seen.add(id(found.node))
            methods = {item.name for item in found.node.body if isinstance(item, FUNCTIONS)}
            if methods & _CONSTRUCTORS and base not in node.bases:
                return True
            if "__init_subclass__" in methods or self._watched(found.module, found.node, seen):
                return True
        return False

    def _decorator(self, module: Module, node: ast.expr) -> bool:
        """Whether decorating with this changes nothing else."""
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)] if isinstance(node, ast.Call) else []
        if not all(self.expression(module, item, {}) for item in arguments):
            return False
        callee = node.func if isinstance(node, ast.Call) else node
        if self.ours(module, callee):
            return True
        root, attributes = chain(callee)
        found = self.find(module, root, attributes) if root else None
        if isinstance(found, Outside):
            return quiet.decorator(found.words)
        if isinstance(found, Lead) and not found.rest:
            if isinstance(found.node, FUNCTIONS):
                return self._routine(found.module, found.node, "decorator" + "()" * isinstance(node, ast.Call))
            return isinstance(found.node, ast.ClassDef) and self._inert(found.module, found.node, calls=True)
        return found is None and (last_name(callee) in BLIND or (not attributes and quiet.builtin(root)))

    # Functions and classes of the project

    def _routine(self, module: Module, node: ast.FunctionDef | ast.AsyncFunctionDef, way: str) -> bool:
        """Whether running a function changes nothing but what it returns; one that calls itself is as quiet as the rest."""
        key = (id(node), way)
        if key not in self.judged:
            self.judged[key] = True
            decorated = [item for item in node.decorator_list if last_name(item) not in BLIND and not self.ours(module, item)]
            self.judged[key] = not decorated and Routine(self, module, node, way).quiet()
        return self.judged[key]

    def _inert(self, module: Module, node: ast.ClassDef, *, calls: bool = False, seen: frozenset[int] = frozenset()) -> bool:
        """Whether making an object of the class, and using it in any way, changes nothing but that object at its making."""
        if id(node) in seen:
            return True
        for item in node.body:
            if isinstance(item, FUNCTIONS):
                way = "making" if item.name in ("__init__", "__post_init__", "__new__") else "using"
                if not self._routine(module, item, way):
                    return False
        made_by = [*node.bases, *(keyword.value for keyword in node.keywords if keyword.arg == "metaclass")]
        return all(self._inert_base(module, base, seen | {id(node)}) for base in made_by) and all(
            self._inert_attribute(module, item) for item in node.body
        )

    def _inert_attribute(self, module: Module, node: ast.stmt) -> bool:
        """Whether a class's own value changes nothing when an object is made or looked at: no descriptor, no factory."""
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        if not isinstance(value, ast.Call):
            return True
        made = [self._argument(module, keyword.value, {}, kept=False) for keyword in value.keywords]
        return all(made) and (quiet.keeps(last_name(value.func)) or self.lasting(module, value, {}))

    def _inert_base(self, module: Module, base: ast.expr, seen: frozenset[int]) -> bool:
        root, attributes = chain(base)
        found = self.find(module, root, attributes) if root else None
        if isinstance(found, Lead):
            return isinstance(found.node, ast.ClassDef) and self._inert(found.module, found.node, seen=seen)
        return found is None or (isinstance(found, Outside) and quiet.library(found.words))

    # Expressions

    def expression(self, module: Module, node: ast.AST, local: Local) -> bool:
        """Whether evaluating this changes nothing."""
        parts = list(executed(node))
        made = {n: "given" for part in parts if isinstance(part, ast.comprehension) for n in stored(part.target)}
        inner = {id(part.value) for part in parts if isinstance(part, ast.Attribute)}  # judged with the whole chain
        return all(self._part(module, item, {**local, **made}) for item in parts if id(item) not in inner or _calls(item))

    def _part(self, module: Module, node: ast.AST, local: Local) -> bool:
        if isinstance(node, ast.Call):
            return self.call(module, node, local)
        if isinstance(node, ast.Attribute):
            return self._is_outside(module, node, local) or _stores(node) or self.lasting(module, node, local)
        if isinstance(node, _LOOKING):
            asked = [item for item in ast.iter_child_nodes(node) if isinstance(item, (*_PARTS, ast.Call)) and not _stores(item)]
            if isinstance(node, ast.Subscript):  # `list[lib.Kind]`
                asked = [item for item in asked if not self._is_outside(module, item, local)]
            return all(self.lasting(module, item, local) for item in asked)
        return not isinstance(node, (ast.Await, ast.NamedExpr)) or bool(local)

    def _is_outside(self, module: Module, node: ast.expr, local: Local) -> bool:
        root, attributes = chain(node)
        return bool(root) and root not in local and isinstance(self.find(module, root, attributes), Outside)

    def _annotation(self, module: Module, node: ast.expr) -> bool:
        """Whether evaluating an annotation changes nothing: only calls in it could."""
        return all(self.call(module, item, {}) for item in executed(node) if isinstance(item, ast.Call))

    def call(self, module: Module, node: ast.Call, local: Local) -> bool:
        """Whether a call changes nothing but what it returns."""
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        kept = quiet.keeps(last_name(node.func)) or self.ours(module, node)
        if self._writes(module, node, local):
            return False
        if not all(self._argument(module, item, local, kept=kept) for item in given):
            return False
        root, attributes = chain(node.func)
        if not root:  # a method of a value just made: `"a b".split()`, `pl.col("x").alias("y")`
            return (
                isinstance(node.func, ast.Attribute)
                and _changes_nothing(node.func.attr)
                and self.lasting(module, node.func.value, local)
            )
        if root in local:
            return self._local_call(root, attributes, local)
        return kept if self.ours(module, node) else self._callee(module, root, attributes)

    def _writes(self, module: Module, node: ast.Call, local: Local) -> bool:
        """Whether a call is given something to write its result to that was not made here."""
        for keyword in node.keywords:
            if keyword.arg in ("inplace", "in_place") and getattr(keyword.value, "value", True) is not False:
                return True
            if keyword.arg == "out" and not isinstance(keyword.value, ast.Constant):
                return not (isinstance(keyword.value, ast.Name) and local.get(keyword.value.id) == FRESH)
        root, attributes = chain(node.func)
        found = self.find(module, root, attributes) if root and root not in local and len(node.args) > 1 else None
        more = node.args[quiet.inputs(found.words) :] if isinstance(found, Outside) else []
        return any(isinstance(item, _PARTS) for item in more)

    def _local_call(self, root: str, attributes: tuple[str, ...], local: Local) -> bool:
        if local[root] == FRESH:
            return len(attributes) == 1
        if local[root] == "inner":
            return not attributes
        return bool(attributes) and quiet.passing_method(attributes[-1]) and attributes[-1] not in self.methods()

    def _callee(self, module: Module, root: str, attributes: tuple[str, ...]) -> bool:
        found = self.find(module, root, attributes)
        if isinstance(found, Outside):
            return quiet.library(found.words) and (len(found.words) < 3 or _changes_nothing(found.words[-1]))
        if isinstance(found, Lead):
            return self._project_call(found)
        if found is None and not attributes:
            return quiet.builtin(root)
        return found is None and quiet.builtin(root) and _changes_nothing(attributes[-1])

    def _project_call(self, found: Lead) -> bool:
        node, rest = found.node, found.rest
        if isinstance(node, FUNCTIONS):
            return not rest and self._routine(found.module, node, "call")
        if isinstance(node, ast.ClassDef):
            return len(rest) <= 1 and self._inert(found.module, node) and not self._watched(found.module, node, set())
        value = getattr(node, "value", None)
        return bool(rest) and value is not None and _changes_nothing(rest[-1]) and self._lasting_lead(found, {})

    def _argument(self, module: Module, node: ast.expr, local: Local, *, kept: bool) -> bool:
        """Whether a call may be given this: nothing that looking at it, or calling it, changes."""
        if isinstance(node, ast.Lambda):
            inner = {**local, **nested(node)}
            return kept or self.expression(module, node.body, inner)
        if isinstance(node, ast.Call) and not kept and quiet.keeps(last_name(node.func)):
            return self.lasting(module, node, local)
        if not isinstance(node, _PARTS):
            return True  # judged with the rest of the expression
        root, attributes = chain(node)
        found = self.find(module, root, attributes) if root and root not in local else None
        if isinstance(found, Lead) and isinstance(found.node, (*FUNCTIONS, ast.ClassDef)) and not found.rest:
            asked = isinstance(found.node, ast.ClassDef) and self._answers(found.module, found.node)
            return (kept and not asked) or self._project_call(found)
        if isinstance(found, Outside) and not kept:
            return quiet.library(found.words)
        return self.lasting(module, node, local) and (kept or not attributes or _changes_nothing(attributes[-1]))

    def _answers(self, module: Module, node: ast.ClassDef) -> bool:
        """Whether code of the project's runs when something is asked of the class itself: `isinstance(1, It)`."""
        hooked = any(isinstance(item, FUNCTIONS) and item.name == "__subclasshook__" for item in node.body)
        return hooked or not all(
            self._inert_base(module, keyword.value, frozenset()) for keyword in node.keywords if keyword.arg == "metaclass"
        )

    # Values

    def lasting(self, module: Module, node: ast.AST, local: Local) -> bool:
        """Whether a value is known to stay as it is, and to change nothing else, however it is looked at."""
        if isinstance(node, (ast.Constant, ast.JoinedStr, ast.Lambda)):
            return True
        if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)):
            return self._lasting_name(module, node, local)
        if isinstance(node, ast.Call):
            return self._lasting_call(module, node, local)
        if isinstance(node, COMPREHENSIONS):
            inner = {**local, **dict.fromkeys((n for g in node.generators for n in stored(g.target)), FRESH)}
            parts = [
                *(g.iter for g in node.generators),
                *([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]),
            ]
            return not isinstance(node, ast.GeneratorExp) and all(self.lasting(module, item, inner) for item in parts)
        if isinstance(
            node,
            (
                ast.List,
                ast.Tuple,
                ast.Set,
                ast.Dict,
                ast.BinOp,
                ast.UnaryOp,
                ast.BoolOp,
                ast.Compare,
                ast.IfExp,
                ast.Starred,
                ast.Slice,
            ),
        ):
            return all(self.lasting(module, item, local) for item in ast.iter_child_nodes(node) if isinstance(item, ast.expr))
        return False

    def _lasting_name(self, module: Module, node: ast.expr, local: Local) -> bool:
        while isinstance(node, ast.Subscript):
            node = node.value
        root, attributes = chain(node)
        if not root:
            return self.lasting(module, node.value if isinstance(node, ast.Attribute) else node, local)
        if root in local:
            return True
        found = self.find(module, root, attributes)
        if isinstance(found, Outside):
            return quiet.lasting(found.words)
        if isinstance(found, Lead):
            return self._lasting_lead(found, local)
        return found is None and quiet.lasting_builtin(root)

    def _lasting_lead(self, found: Lead, local: Local) -> bool:
        if isinstance(found.node, FUNCTIONS):
            return True
        if isinstance(found.node, ast.ClassDef):
            return not found.rest or self._inert(found.module, found.node)
        value = getattr(found.node, "value", None)
        key = (id(found.node), "value")
        if key not in self.judged:
            self.judged[key] = True  # a name that leads to itself is as lasting as the rest of it
            self.judged[key] = (
                isinstance(found.node, (ast.Assign, ast.AnnAssign))
                and value is not None
                and self.lasting(found.module, value, {})
            )
        return self.judged[key]

    def _lasting_call(self, module: Module, node: ast.Call, local: Local) -> bool:
        root, attributes = chain(node.func)
        if not root:
            return isinstance(node.func, ast.Attribute) and self.lasting(module, node.func.value, local)
        if root in local:
            return True
        if self.ours(module, node):
            return True
        found = self.find(module, root, attributes)
        if not isinstance(found, Lead) and quiet.keeps(last_name(node.func)):  # a partial is what it calls
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            if not all(self._argument(module, item, local, kept=False) for item in given):
                return False
        if isinstance(found, Outside):
            return quiet.lasting(found.words)
        if isinstance(found, Lead) and isinstance(found.node, ast.ClassDef):
            return not found.rest and self._inert(found.module, found.node)
        if isinstance(found, Lead) and found.rest:
            return self._lasting_lead(found, local)
        if isinstance(found, Lead) and isinstance(found.node, FUNCTIONS):
            return self._routine(found.module, found.node, "result")
        return found is None and quiet.lasting_builtin(root)


def _hints(node: ast.AST) -> list[ast.expr]:
    """The annotations of a function, or of a name."""
    if isinstance(node, FUNCTIONS):
        found = [*(item.annotation for item in all_arguments(node.args)), node.returns]
        return [item for item in found if item is not None]
    return [node.annotation] if isinstance(node, ast.AnnAssign) else []


def chain(node: ast.AST) -> tuple[str, tuple[str, ...]]:
    """`a.b.c` is ("a", ("b", "c")); ("", ()) when it does not start with a name."""
    attributes = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return (node.id, tuple(reversed(attributes))) if isinstance(node, ast.Name) else ("", ())


def _changes_nothing(method: str) -> bool:
    return method not in quiet.MUTATORS and not quiet.is_loud(method) and not method.endswith("_update")


def _calls(node: ast.AST) -> bool:
    return isinstance(node, (ast.Call, *_LOOKING))


def _stores(node: ast.AST) -> bool:
    return not isinstance(getattr(node, "ctx", ast.Load()), ast.Load)


def _leaves(target: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, (ast.Tuple, ast.List)):
        for item in target.elts:
            yield from _leaves(item)
    else:
        yield target.value if isinstance(target, ast.Starred) else target
