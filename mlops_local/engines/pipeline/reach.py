"""Everything of the project a piece of code depends on, followed by name from module to module.

The walk is deterministic and starts at the step's own functions, so that the order in which definitions are met names them:
where they are written does not count, how they refer to each other does. What cannot be followed widens to the whole file, or
to the whole project, and the reason is kept.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import field
from typing import TypeAlias

from mlops_local.domain.records import dataclass
from mlops_local.engines.pipeline.bindings import Target
from mlops_local.engines.pipeline.modules import Module
from mlops_local.engines.pipeline.names import Piece, Project
from mlops_local.engines.pipeline.normal import Style, last_name, reads_annotations, text
from mlops_local.engines.pipeline.notices import FILE, Seen, everywhere, reads_source
from mlops_local.engines.pipeline.scopes import Use
from mlops_local.engines.pipeline.timeline import timeline

_IMPORTERS = {"importlib", "__import__", "pkgutil", "runpy", "imp", "zipimport"}
_PLACES = ("__name__", "__file__", "__package__", "__spec__", "__path__")
"""Names that say which module this is."""
_MODULE_NAMES = {*_PLACES, "__debug__", "__builtins__", "__loader__", "__class__", "__doc__", "__dict__"}


_EVERYTHING = Style(docs=True, annotations=True, names=True)
Place: TypeAlias = "int | str"
"""Where a name leads: the number of a piece, or something outside the project by its name."""


@dataclass
class Reached:
    """What a walk found."""

    pieces: list[Piece] = field(default_factory=list)
    edges: list[str] = field(default_factory=list)
    """`2:clean>5`: in piece 2 the name `clean` means piece 5."""
    libraries: dict[str, None] = field(default_factory=dict)
    """Top-level names of what is imported from outside the project."""
    variables: dict[str, None] = field(default_factory=dict)
    """Environment variables read by a literal name."""
    style: Style = field(default_factory=Style)
    passed: set[int] = field(default_factory=set)
    """Pieces that are used as values, not only called."""
    modules_seen: bool = False
    """The code looks at the modules its classes belong to."""


class Walk:
    """One walk from a step's functions."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.reached = Reached()
        self.index: dict[tuple[str, str], int] = {}
        self.queue: list[int] = []
        self.imported: dict[str, None] = {}
        """Project modules that are executed."""
        self.whole: dict[str, str] = {}
        """Module -> why all of it counts."""
        self.roots: dict[str, None] = {}
        """Modules the process of the step imports first."""
        self.rebound: set[tuple[str, str]] = set()
        self.submodules: dict[str, None] = {}
        """Modules that are reached as attributes of a package: somebody has to import them."""
        self.lazily: set[str] = set()
        self.seen = Seen()
        self.annotated = False
        """Something reads annotations: what they name counts."""

    def add(self, key: tuple[str, str], make: Callable[[], Piece]) -> int:
        """Number a piece, the first time it is met."""
        if key not in self.index:
            self.index[key] = len(self.reached.pieces)
            self.reached.pieces.append(make())
            self.queue.append(self.index[key])
        return self.index[key]

    def root(self, module: str, name: str, *, step: bool) -> None:
        """Start from a declared function: our decorators do not count, nor (for steps) defaults that travel as parameters."""
        self.roots[module] = None
        self.execute(module)
        parsed = self.project.module(module)
        nodes = parsed.definitions.get(name)
        if not nodes or parsed.broken:
            self.widen(module, f"'{name}' is not defined by a statement of its top level")
            return
        without: list[ast.AST] = []
        for node in nodes:
            for decorator in getattr(node, "decorator_list", []):
                if self.project.effects.ours(parsed, decorator):
                    without.append(decorator)
            if step and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                without += [default for default in node.args.kw_defaults if default is not None]
        line = getattr(nodes[-1], "lineno", 0)
        piece = Piece(f"{module}.{name}", f"{parsed.path}:{line}", parsed, tuple(nodes), tuple(without))
        self.add((module, f"root {name}"), lambda: piece)
        self.drain()

    def expression(self, module: str, what: str, node: ast.AST) -> None:
        """Start from an expression, as a model's label."""
        self.roots[module] = None
        self.execute(module)
        parsed = self.project.module(module)
        where = f"{parsed.path}:{getattr(node, 'lineno', 0)}"
        self.add((module, f"expression {what}"), lambda: Piece(what, where, parsed, (node,)))
        self.drain()

    def finish(self) -> Reached:
        """Follow the effects of every executed module, then settle what counts."""
        while True:
            before = len(self.reached.pieces)
            for module in sorted(self.imported):
                parsed = self.project.module(module)
                if parsed.broken:
                    self.widen(module, "it does not parse")
                loud = self.project.loud(module)
                if loud:
                    where = f"{parsed.path}:{loud[0].lineno}"
                    ours = [
                        d for node in loud for d in getattr(node, "decorator_list", []) if self.project.effects.ours(parsed, d)
                    ]
                    piece = Piece(f"{module} (what its import does)", where, parsed, tuple(loud), tuple(ours))
                    self.add((module, "(effects)"), lambda piece=piece: piece)  # type: ignore[misc]
            self.drain()
            if self.seen.annotations and not self.annotated:
                self.annotated = True
                self.queue += range(len(self.reached.pieces))
                self.drain()
                continue
            if len(self.reached.pieces) == before:
                break
        self.reached.style = self.seen.style()
        self.reached.modules_seen = self.seen.modules
        self._order()
        return self.reached

    def _order(self) -> None:
        """What counts beside the pieces: their order while importing, submodules that are there, how annotations are kept."""
        numbers = {id(node): number for number, piece in enumerate(self.reached.pieces) for node in piece.nodes}
        if self.rebound or any(key[1] == "(effects)" for key in self.index):
            modules = [*self.roots, *(name for name in self.imported if name not in self.roots)]
            self.reached.edges += timeline(self.project, modules, numbers, frozenset(self.rebound))
        there = {name for root in self.roots for name in self.project.executed(root)} | self.lazily
        self.reached.edges += [f"submodule {number}: {name in there}" for number, name in enumerate(self.submodules)]
        for number, piece in enumerate(self.reached.pieces):
            without = {id(node) for node in piece.without}
            if piece.module.future_annotations and any(_annotated(node, without) for node in piece.nodes):
                self.reached.edges.append(f"{number}: annotations are texts")

    def drain(self) -> None:
        """Follow everything that is queued, in order."""
        while self.queue:
            number = self.queue.pop(0)
            piece = self.reached.pieces[number]
            for node in piece.nodes:
                self.reached.variables.update(_known_variables(piece.module, node))
            for use in self.project.uses(piece, Style(annotations=self.annotated)):
                for found in self._follow(piece.module, use):
                    if use.passed and isinstance(found, int):
                        self.reached.passed.add(found)
                    spelled = ".".join((use.name or "import", *use.attributes))
                    self.reached.edges.append(f"{number}:{spelled}>{found}")

    # Where uses lead

    def _follow(self, module: Module, use: Use) -> list[Place]:
        self._notice(module, use)
        if use.executed and use.target is not None:
            self._executes(use.target)
            return []
        if use.target is not None:
            return self._target(use.target, use.attributes)
        return self._name(module, use) if use.name else []

    def _notice(self, module: Module, use: Use) -> None:
        """Names that look at code instead of using it."""
        self.seen.notice(use)
        words = (use.name, *use.attributes)
        if reason := everywhere(use):
            self.widen_all(f"{module.path} {reason}")
        if not use.soft and reads_source(words):
            self.widen_all("the code of functions is read at run time", raw=True)
        if use.wide:
            self.widen(module.name, f"{use.looker} looks names up by their text")
        if "__dict__" in words[:2]:
            self.widen(module.name, "it reaches names through a dictionary")

    def _name(self, module: Module, use: Use) -> list[Place]:
        found = self._resolve(module, use.name, use.attributes, frozenset())
        if found is not None:
            return found
        if use.soft:
            return []
        if use.name in _PLACES or use.name == "__doc__":
            return [f"{use.name} is {self._own(module, use.name)}"]
        if use.name in FILE:
            self._dynamic(module, use.name, everywhere=use.passed)
        elif use.name == "__import__":
            self.widen_all(f"{module.path} imports by a computed name")
        elif not hasattr(builtins, use.name) and use.name not in _MODULE_NAMES:
            self.widen(module.name, f"'{use.name}' is defined nowhere in it")
        return []

    def _own(self, module: Module, name: str) -> str:
        """What a module's own name, place or docstring is."""
        if name == "__doc__":
            return module.doc
        return module.path if name == "__file__" else module.name

    def _dynamic(self, module: Module, name: str, *, everywhere: bool) -> None:
        """A builtin that reaches names by their text; passed on, it may be called from any module."""
        if everywhere:
            self.widen_all(f"{module.path} passes {name} on")
        else:
            self.widen(module.name, f"it uses {FILE[name]}")

    def _resolve(
        self, module: Module, name: str, attributes: tuple[str, ...], seen: frozenset[tuple[str, str]]
    ) -> list[Place] | None:
        """The pieces a module's name means; None when the module does not have it."""
        if (module.name, name) in seen:
            return []
        seen |= {(module.name, name)}
        ways: list[tuple[int, list[Place]]] = []
        for star in module.stars:  # also where the module has the name: who binds it last, the order says
            through = self._through_star(module, star, name, attributes, seen)
            if through is not None:
                ways.append((module.position(f"* {star}"), through))
        if name in module.definitions:
            ways.append((module.position(name), [self._definition(module, name)]))
        for target in dict.fromkeys(module.imports.get(name, [])):
            ways.append((module.position(name, target), self._target(target, attributes, seen)))
        if len({at for at, _ in ways}) > 1 or len(module.definitions.get(name, ())) > 1:
            self.rebound |= {(module.name, name), (module.name, "*")}
        if not ways:
            return None
        return [place for _, places in sorted(ways, key=lambda way: way[0]) for place in places]

    def _through_star(
        self, module: Module, star: str, name: str, attributes: tuple[str, ...], seen: frozenset[tuple[str, str]]
    ) -> list[Place] | None:
        if not self.project.is_project(star):
            self._library(star)
            return None if hasattr(builtins, name) or module.has(name) else [f"{star}:*"]
        if star not in self.project.sources or not self.project.module(star).exported(name):
            return None
        through = self._resolve(self.project.module(star), name, attributes, seen)
        if through is not None and "__all__" in self.project.module(star).definitions:
            through = [*through, self._definition(self.project.module(star), "__all__")]
        return through

    def _definition(self, module: Module, name: str) -> int:
        self.execute(module.name)
        nodes = module.definitions[name]
        without = [d for node in nodes for d in getattr(node, "decorator_list", []) if self.project.effects.ours(module, d)]
        where = f"{module.path}:{getattr(nodes[-1], 'lineno', 0)}"
        return self.add(
            (module.name, name), lambda: Piece(f"{module.name}.{name}", where, module, tuple(nodes), tuple(without))
        )

    def _target(
        self, target: Target, attributes: tuple[str, ...], seen: frozenset[tuple[str, str]] = frozenset()
    ) -> list[Place]:
        """What an import and the attributes after it mean."""
        if not self.project.is_project(target.module):
            self._outside(target, attributes)
            return [f"{target.module}:{target.name}"]
        if not target.name:
            return self._module(target.module, attributes, seen)
        itself = (target.module, target.name) in seen  # `from . import deep` in a package: the submodule is meant
        found = None if itself else self._in_module(target.module, target.name, attributes, seen)
        if found is not None:
            return found
        submodule = f"{target.module}.{target.name}"
        if self.project.is_project(submodule):
            return self._module(submodule, attributes, seen)
        self.widen(target.module, f"'{target.name}' is defined nowhere in it")
        return []

    def _in_module(
        self, module: str, name: str, attributes: tuple[str, ...], seen: frozenset[tuple[str, str]]
    ) -> list[Place] | None:
        if module not in self.project.sources:
            return None
        self.execute(module)
        return self._resolve(self.project.module(module), name, attributes, seen)

    def _module(self, module: str, attributes: tuple[str, ...], seen: frozenset[tuple[str, str]]) -> list[Place]:
        """A module behind a name: its attributes are its names; without any it may be used in every way."""
        if module in self.project.sources:
            self.execute(module)
        if not attributes:
            for name in [name for name in self.project.sources if name == module or name.startswith(module + ".")]:
                self.widen(name, "it is passed on as a value")
            return []
        found = self._in_module(module, attributes[0], attributes[1:], seen)
        if found is not None:
            return found
        submodule = f"{module}.{attributes[0]}"
        if self.project.is_project(submodule):
            self.submodules[submodule] = None
            return self._module(submodule, attributes[1:], seen)
        if module in self.project.sources and (attributes[0] in _PLACES or attributes[0] == "__doc__"):
            return [f"{attributes[0]} is {self._own(self.project.module(module), attributes[0])}"]
        if module in self.project.sources:
            self.widen(module, f"'{attributes[0]}' is defined nowhere in it")
        return []

    def _executes(self, target: Target) -> None:
        """An import statement inside a function runs the module."""
        for name in (target.module, f"{target.module}.{target.name}" if target.name else target.module):
            if name in self.project.sources:
                self.execute(name)
                self.lazily.update(self.project.executed(name))
        if not self.project.is_project(target.module):
            self._library(target.module)

    def _outside(self, target: Target, attributes: tuple[str, ...]) -> None:
        top = target.module.partition(".")[0]
        words = tuple(word for word in (*target.module.split("."), target.name, *attributes) if word)
        self._library(target.module)
        if top in _IMPORTERS and words[1:2] not in (("metadata",), ("resources",)):
            self.widen_all("modules are imported by code, not by statements")
        if top == "inspect" or reads_source(words):
            self.widen_all("the code of functions is read at run time", raw=True)
        if words[:2] == ("sys", "modules"):
            self.widen_all("modules are looked up at run time")
        if top == "builtins" and words[-1] in FILE:
            self.widen_all(f"{words[-1]} is reached through builtins")

    def _library(self, module: str) -> None:
        top = module.partition(".")[0]
        if top not in sys.stdlib_module_names and top != "mlops_local":
            self.reached.libraries[top] = None

    # Widening

    def execute(self, module: str) -> None:
        """Note that importing this project module, and what it imports, runs."""
        if module not in self.imported:
            for name in self.project.executed(module):
                self.imported[name] = None
                self._unused(name)

    def _unused(self, name: str) -> None:
        """A library that is imported and never named is imported for what its import does."""
        parsed = self.project.module(name)
        if parsed.broken:
            return
        spoken = self.project.spoken(parsed)
        for bound, targets in parsed.imports.items():
            for target in targets:
                if bound not in spoken and not self.project.is_project(target.module) and target.module != "__future__":
                    self._library(target.module)

    def widen_all(self, reason: str, *, raw: bool = False) -> None:
        """Every module of the project counts whole."""
        for module in sorted(self.project.sources):
            self.widen(module, reason, raw=raw)

    def widen(self, module: str, reason: str, *, raw: bool = False) -> None:
        """All of a module counts, and all it reaches."""
        if module in self.whole and not (raw and not self.whole[module].startswith("raw ")):
            return
        self.whole[module] = ("raw " if raw else "") + reason
        parsed = self.project.module(module)
        source = self.project.sources[module]
        self.execute(module)
        whole = source.hash if raw or parsed.broken else _whole_text(parsed)
        nodes = tuple(parsed.statements())
        what = f"{parsed.path} (whole file: {reason})"
        self.add((module, f"(whole file{' raw' if raw else ''})"), lambda: Piece(what, parsed.path, parsed, nodes, raw=whole))


def _whole_text(module: Module) -> str:
    """The text of all of a module."""
    if "whole" not in module.memory:
        module.memory["whole"] = text(ast.Module(list(module.body), []), _EVERYTHING)
    return str(module.memory["whole"])


def _known_variables(module: Module, node: ast.AST) -> dict[str, None]:
    key = ("variables", id(node))
    if key not in module.memory:
        module.memory[key] = dict.fromkeys(_variables(node))
    return module.memory[key]  # type: ignore[no-any-return]


def _variables(node: ast.AST) -> Iterator[str]:
    """Environment variables read by a literal name: `os.environ["X"]`, `os.environ.get("X")`, `os.getenv("X")`."""
    for item in ast.walk(node):
        key: ast.expr | None = None
        if isinstance(item, ast.Subscript) and last_name(item.value) == "environ":
            key = item.slice
        elif isinstance(item, ast.Call) and item.args and isinstance(item.func, (ast.Attribute, ast.Name)):
            through = item.func.value if isinstance(item.func, ast.Attribute) else None
            if last_name(item.func) == "getenv" or (through is not None and last_name(through) == "environ"):
                key = item.args[0]
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value


def _annotated(node: ast.AST, without: set[int]) -> bool:
    """Whether annotations in this may count."""
    return isinstance(node, ast.ClassDef) or reads_annotations(node, without)


def reach(
    project: Project, roots: Iterable[tuple[str, str, bool]], expressions: Iterable[tuple[str, str, ast.AST]] = ()
) -> Reached:
    """Walk from functions (module, name, whether it is the step's own) and expressions (module, what, node)."""
    walk = Walk(project)
    for module, name, step in roots:
        walk.root(module, name, step=step)
    for module, what, node in expressions:
        walk.expression(module, what, node)
    return walk.finish()
