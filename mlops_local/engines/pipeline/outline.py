"""What importing a project can depend on: its code without the bodies of functions that nothing runs meanwhile.

Versions of one outline declare the same graph, at other lines: to know the graph of the second nothing need be imported. A body
is left out only where no code that importing executes names the function, its class or what calls it; names are compared as
words, wherever they stand, so that more counts than has to. A project that may reach its functions in another way has no
outline. Nothing is imported or run here.
"""

from __future__ import annotations

import ast
import hashlib
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, replace
from functools import lru_cache

from mlops_local.domain.graph import Graph, Step
from mlops_local.domain.records import dataclass
from mlops_local.engines.pipeline.sources import SourceFile, third_party

_UNSEEN = frozenset(
    # functions and modules by a name that is made up
    "eval exec globals vars locals getattr setattr delattr attrgetter methodcaller builtins __builtins__ __dict__ __import__ "
    "__globals__ __getattribute__ __subclasses__ import_module import_string importlib imp runpy modules "
    # the text of code, and code run by other processes
    "inspect getsource linecache __code__ _getframe currentframe gc settrace setprofile subprocess Popen popen system fork "
    "spawn multiprocessing joblib dill shelve".split()
)
"""Words in code that importing executes behind which a function may be used that no word names."""
_UNSEEN_PARTS = re.compile(r"load|pickle|plugin|entry_point|deserial", re.IGNORECASE)
"""The same as parts of words: what a file or an installed package names."""
_DECLARING = frozenset("candidate command data kfold metric model rolling step test transform".split())
"""Our own calls and decorators that keep a function and do not call it."""
_WORD = re.compile(r"[^\W\d]\w*")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Outline:
    """What importing one version of a project can depend on, and where its statements stand."""

    digest: str
    lines: Mapping[str, tuple[int, ...]]
    """File -> the line of each statement of its top level."""


@dataclass(frozen=True)
class _Body:
    """The inside of a function that importing defines."""

    names: tuple[str, ...]
    """The function's own and those of the classes around it: it may run where one of them is used."""
    uses: frozenset[str]
    text: str


@dataclass(frozen=True)
class _Module:
    """One file, read for itself."""

    text: str = ""
    """All of it but the bodies."""
    uses: frozenset[str] = frozenset()
    """Words in the code that importing executes."""
    bodies: tuple[_Body, ...] = ()
    lines: tuple[int, ...] = ()
    compiles: bool = True


def outline(sources: Mapping[str, SourceFile]) -> Outline | None:
    """The outline of a project's modules; None where it cannot be told what importing them runs.

    Args:
        sources: the project's modules, as `discover` found them.
    """
    read = {name: _read(source.data) for name, source in sources.items()}
    if not all(module.compiles for module in read.values()):
        return None
    bodies = [body for module in read.values() for body in module.bodies]
    used = _used({word for module in read.values() for word in module.uses}, bodies)
    parts = {f"<{part}>" for name in sources for part in name.split(".")}
    if used & (_UNSEEN | parts) or any(map(_UNSEEN_PARTS.search, used)):
        return None
    texts = [*third_party(sources), ""]
    for name, module in sorted(read.items()):
        texts += [name, sources[name].path, module.text]
        texts += [body.text if used.intersection(body.names) else "" for body in module.bodies]
    return Outline(_digest(texts), {sources[name].path: module.lines for name, module in read.items()})


def relined(graph: Graph, before: Mapping[str, Iterable[int]], now: Outline) -> Graph | None:
    """The graph of an earlier version with the lines of this one; None where a declaration is not a statement of its own.

    Args:
        graph: of a version with the same outline.
        before: that version's lines.
        now: this version's outline.
    """
    lines = {
        (path, old): new for path, found in before.items() for old, new in zip(found, now.lines.get(path, ()), strict=False)
    }
    steps: list[Step] = []
    for step in graph.steps:
        line = lines.get((step.file, step.line)) if step.line else 0
        if line is None:
            return None
        steps.append(replace(step, line=line))
    return replace(graph, steps=tuple(steps))


def _used(words: set[str], bodies: Iterable[_Body]) -> set[str]:
    """All words that importing may come across: those given, and those of every body one of them may run."""
    left = list(bodies)
    while True:
        run = [body for body in left if words.intersection(body.names)]
        if not run:
            return words
        left = [body for body in left if not words.intersection(body.names)]
        words = words.union(*(body.uses for body in run))


def _digest(texts: Iterable[str]) -> str:
    hasher = hashlib.blake2b(digest_size=32)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        hasher.update(len(data).to_bytes(8, "little") + data)
    return hasher.hexdigest()


@lru_cache(maxsize=256)
def _read(data: bytes) -> _Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data)
            compile(data, "<project>", "exec", dont_inherit=True)  # finds what parsing does not: a `return` outside functions
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _Module(compiles=False)
    reader = _Reader()
    reader.learn(tree)
    for statement in tree.body:
        reader.runs(statement, ())
    lines = tuple(statement.lineno for statement in tree.body)
    return _Module(ast.dump(tree), frozenset(reader.uses), tuple(reader.bodies), lines)


@dataclass
class _Reader:
    """Goes over what importing one module executes; takes the bodies of its functions out of the tree."""

    uses: set[str] = field(default_factory=set)
    bodies: list[_Body] = field(default_factory=list)
    ours: set[str] = field(default_factory=set)
    """Names of this package."""
    declaring: set[str] = field(default_factory=set)
    """Names of its functions that only declare."""
    models: set[str] = field(default_factory=set)
    """Names of declared models."""
    imported: dict[str, str] = field(default_factory=dict)
    """Name -> what was imported under it."""

    def learn(self, tree: ast.Module) -> None:
        """Find what names mean this package and its declarations, where nothing else in the file binds them."""
        bound: list[str] = []
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                bound += self._import(node)
            else:
                bound += _binds(node)
        self._keep(bound)
        for statement in tree.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call) and self._declares(statement.value):
                self.models |= {target.id for target in statement.targets if isinstance(target, ast.Name)}
        self._keep(bound)

    def _import(self, node: ast.Import | ast.ImportFrom) -> list[str]:
        """The names an import binds."""
        bound = []
        for alias in node.names:
            top, _, last = alias.name.partition(".") if alias.asname is None else ("", "", alias.name.rpartition(".")[2])
            name = alias.asname or top
            self.imported[name] = last if alias.asname else top
            bound.append(name)
            if isinstance(node, ast.Import) and alias.name == "mlops_local":
                self.ours.add(name)
            elif isinstance(node, ast.ImportFrom) and node.module == "mlops_local" and alias.name in _DECLARING:
                self.declaring.add(name)
        return bound

    def _keep(self, bound: list[str]) -> None:
        """Forget names that something else may bind as well."""
        for names in (self.ours, self.declaring, self.models):
            names &= {name for name in names if bound.count(name) == 1 and "*" not in bound}

    def runs(self, node: ast.AST, classes: tuple[str, ...]) -> None:
        """Note the words of code that is executed."""
        if isinstance(node, _FUNCTIONS):
            self._function(node, classes)
        elif isinstance(node, ast.ClassDef):
            if node.bases or node.keywords or node.decorator_list:  # making such a class may run its methods
                self.uses.add(node.name)
            for child in ast.iter_child_nodes(node):
                self.runs(child, (*classes, node.name))
        elif isinstance(node, ast.Call) and self._declares(node):
            for value in (*node.args, *(keyword.value for keyword in node.keywords)):
                self._kept(value, classes)
        else:
            self.uses.update(self._words(node))
            alone = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)  # a module's name before a dot
            for child in () if alone else ast.iter_child_nodes(node):
                self.runs(child, classes)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, classes: tuple[str, ...]) -> None:
        if not all(self._declares(item) for item in node.decorator_list) or (not classes and node.name.startswith("__")):
            self.uses.add(node.name)
        inside, node.body = node.body, []
        for child in ast.iter_child_nodes(node):
            self.runs(child, classes)
        text = "\n".join(ast.dump(statement) for statement in inside)
        self.bodies.append(_Body((node.name, *classes), frozenset(self._inside(inside)), text))

    def _inside(self, nodes: Iterable[ast.AST]) -> Iterator[str]:
        """The words of code that is not executed yet; texts that stand alone say nothing."""
        for node in nodes:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue
            yield from self._words(node)
            alone = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            yield from self._inside(() if alone else ast.iter_child_nodes(node))

    def _kept(self, value: ast.AST, classes: tuple[str, ...]) -> None:
        """An argument of a declaration: a name that stands there alone is kept, not used."""
        if isinstance(value, (ast.Dict, ast.List, ast.Tuple)):
            for child in ast.iter_child_nodes(value):
                self._kept(child, classes)
        elif not isinstance(value, (ast.Name, ast.Constant)):
            self.runs(value, classes)

    def _words(self, node: ast.AST) -> Iterator[str]:
        """The words of one node by which a function may be found: names, attributes, those of texts, renamed imports."""
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
            if node.id in self.imported:  # a module that is handed on as a value: all its functions
                yield f"<{self.imported[node.id]}>"
        elif isinstance(node, ast.Attribute):
            yield node.attr
            if isinstance(node.value, ast.Name):
                yield node.value.id
            if not isinstance(node.ctx, ast.Load) and node.attr in _DECLARING:
                yield "setattr"
        elif isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            yield from _WORD.findall(text)
            if "mlops_local" in text:
                yield "setattr"
        elif isinstance(node, ast.alias) and node.asname not in (None, node.name):
            yield from node.name.split(".")

    def _declares(self, node: ast.AST) -> bool:
        """Whether this is `mlops.step`, `step`, `delay.candidate`, or a call of one."""
        function = node.func if isinstance(node, ast.Call) else node
        if isinstance(function, ast.Name):
            return function.id in self.declaring
        if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Name):
            return False
        return function.attr in _DECLARING and function.value.id in self.ours | self.models


def _binds(node: ast.AST) -> list[str]:
    """The name a node of the tree binds, imports aside; deleting is binding."""
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        return [node.id]
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
        return [node.attr]
    return [node.name] if isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name else []
