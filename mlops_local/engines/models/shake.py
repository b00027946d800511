"""Cut from a project's sources what one function reaches, as one file that runs without the project.

A served transform must be the code that trained, and nothing else of the project: not the steps beside it, not the training
libraries they import. What is kept is decided by names as Python resolves them (`symtable`), per top-level statement; where
that cannot be known (`globals()`, a module passed around as a value) the whole module is kept. Comments and annotations of
functions cost nothing: annotations stay as text and are never evaluated.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping
from typing import Protocol, TypeAlias

from mlops_local.engines.models import toplevel

OURS = "mlops_local"
_HEADER = (
    '"""The transform, cut from {module}.py with all it reaches in the project."""\n\nfrom __future__ import annotations\n'
)
_LOADER = """
import sys
import types

__project__: dict = {{name: types.ModuleType("{prefix}" + name) for name in {names!r}}}
for __name in __project__:
    if "." in __name and __name.rpartition(".")[0] in __project__:
        setattr(__project__[__name.rpartition(".")[0]], __name.rpartition(".")[2], __project__[__name])
    __project__[__name].__project__ = __project__
    sys.modules["{prefix}" + __name] = __project__[__name]


def __run(name: str, source: str) -> None:
    exec(compile(source, "<" + name + " in the bundle>", "exec"), __project__[name].__dict__)

"""
_PREFIX = "mlops_bundled."


class Source(Protocol):
    """A project module's file."""

    @property
    def path(self) -> str:
        """Relative to the root."""

    @property
    def data(self) -> bytes:
        """Its bytes."""


Need: TypeAlias = "tuple[str, str]"
"""A module and a name in it; the name `*` means all of it."""


def shake(sources: Mapping[str, Source], module: str, qualname: str) -> str:
    """The function and all it reaches in the project, as one source file that defines it by its name.

    Args:
        sources: project modules by name.
        module: where the function is.
        qualname: the function.

    Raises:
        KeyError: the module is not among the sources, or has no such name.
    """
    name = qualname.split(".", maxsplit=1)[0]
    project = {key: _Module(key, value) for key, value in sources.items()}
    if name not in project[module].binds:
        raise KeyError(f"{module}.{name}")
    reached = _Reach(project)
    reached.take(module, name)
    order = reached.order(module)
    if order == [module]:
        return _HEADER.format(module=module) + "\n" + project[module].text(project)
    parts = [_HEADER.format(module=module), _LOADER.format(prefix=_PREFIX, names=sorted(_with_parents(order)))]
    parts += [f"__run({key!r}, {_quoted(project[key].text(project))})\n" for key in order]
    return "".join(parts) + f"\n{name} = __project__[{module!r}].{name}\n"


def imports(source: str | bytes) -> frozenset[str]:
    """Top-level packages a source imports, embedded modules included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "__run":
            found |= imports(str(ast.literal_eval(node.args[1])))
    return frozenset(found - {"__future__"})


class _Module:
    """One module's top-level statements and what has been kept of them."""

    def __init__(self, name: str, source: Source) -> None:
        self.name = name
        self.package = source.path.endswith("__init__.py")
        self.body = ast.parse(source.data).body
        self.binds: dict[str, list[int]] = {}
        """Name -> the statements that bind or change it, in order."""
        self.stars: list[str] = []
        """Modules imported with a star, absolute."""
        self.kept: set[int] = set()
        self.names: set[str] = set()
        """Names asked for; decides which names of an import are kept."""
        for index, node in enumerate(self.body):
            for bound in toplevel.bound(node):
                self.binds.setdefault(bound, []).append(index)
            if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                self.stars.append(self.absolute(node))
        for index, node in enumerate(self.body):
            for changed in toplevel.changed(node) & set(self.binds):
                self.binds[changed] = sorted({*self.binds[changed], index})

    def absolute(self, node: ast.ImportFrom) -> str:
        """The absolute name of the module a from-import names."""
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        base = parts if self.package else parts[:-1]
        base = base[: len(base) - node.level + 1]
        return ".".join([*base, *([node.module] if node.module else [])])

    def imported(self, project: Mapping[str, _Module]) -> list[str]:
        """Project modules that its kept top-level imports name, in order."""
        found = []
        for index in sorted(self.kept):
            top = self.body[index]
            for node in () if isinstance(top, (ast.FunctionDef, ast.ClassDef)) else ast.walk(top):
                if isinstance(node, ast.Import):
                    found += [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    base = self.absolute(node)
                    found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
        return [name for name in found if name in project]

    def text(self, project: Mapping[str, _Module]) -> str:
        """The kept statements as source, imports of project modules rewritten."""
        ours = {name for name in self.binds if self._is_ours(name)}
        rewriter = _Rewriter(self, project, ours)
        lines = []
        for index in sorted(self.kept):
            made = rewriter.visit(self._narrowed(self.body[index]))
            for node in made if isinstance(made, list) else [made]:
                text = ast.unparse(ast.fix_missing_locations(node))
                lines.append(f"\n\n{text}\n\n" if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else text + "\n")
        return "".join(lines).lstrip("\n").replace("\n\n\n\n\n", "\n\n\n")

    def _narrowed(self, node: ast.stmt) -> ast.stmt:
        """An import without the names nobody asked for."""
        if isinstance(node, ast.Import):
            return ast.Import([item for item in node.names if (item.asname or item.name.split(".")[0]) in self.names])
        if isinstance(node, ast.ImportFrom) and node.names[0].name != "*":
            kept = [item for item in node.names if (item.asname or item.name) in self.names]
            return ast.ImportFrom(node.module, kept, node.level)
        return node

    def _is_ours(self, name: str) -> bool:
        for index in self.binds[name]:
            node = self.body[index]
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == OURS and not node.level:
                return True
            if isinstance(node, ast.Import):
                return any((a.asname or a.name.split(".")[0]) == name and a.name.split(".")[0] == OURS for a in node.names)
        return False

    def references(self, node: ast.stmt) -> set[str]:
        """Module-level names the statement needs when it runs or is called."""
        ours = {name for name in self.binds if self._is_ours(name)}
        return toplevel.needed(node, ours)


class _Reach:
    """Follows names from one function through the project."""

    def __init__(self, project: Mapping[str, _Module]) -> None:
        self.project = project
        self.seen: set[Need] = set()
        self.reached: set[str] = set()

    def order(self, entry: str) -> list[str]:
        """The reached modules as Python would run them: imported ones before those that import them."""
        done: list[str] = []
        entered: set[str] = set()

        def run(name: str) -> None:
            if name in entered:
                return
            entered.add(name)
            for other in self.project[name].imported(self.project):
                if other in self.reached:
                    run(other)
            done.append(name)

        for name in (entry, *sorted(self.reached)):
            run(name)
        return [name for name in done if self.project[name].kept]

    def take(self, module: str, name: str) -> None:
        """Keep what binds the name in the module, and all that needs."""
        if (module, name) in self.seen:
            return
        self.seen.add((module, name))
        found = self.project[module]
        found.names.add(name)
        self.reached.add(module)
        indices = range(len(found.body)) if name == "*" else found.binds.get(name, ())
        if name == "*":
            found.names |= set(found.binds)
        for index in indices:
            self._statement(found, index, name)
        if not indices and name not in dir(builtins):
            self._from_stars(found, name)

    def _statement(self, found: _Module, index: int, name: str) -> None:
        node = found.body[index]
        if isinstance(node, ast.If) and toplevel.is_main_guard(node):
            return
        inside = [item for item in ast.walk(node) if isinstance(item, (ast.Import, ast.ImportFrom))]
        top = isinstance(node, (ast.Import, ast.ImportFrom))
        for item in inside:
            self._import(found, item, name if top and name != "*" else "")
        first = index not in found.kept
        found.kept.add(index)
        if top:
            return
        if first:
            self._attributes(found, node)
            for needed in sorted(found.references(node)):
                if needed == "globals":
                    self.take(found.name, "*")
                elif not self._is_project_module(found, needed):
                    self.take(found.name, needed)
                else:
                    self._keep_import(found, needed)

    def _keep_import(self, found: _Module, name: str) -> None:
        """Keep the statement that binds a project module to a name; what of it is used, `_attributes` has taken."""
        found.names.add(name)
        for index in found.binds[name]:
            found.kept.add(index)

    def _import(self, found: _Module, node: ast.Import | ast.ImportFrom, name: str) -> None:
        """Take what an import brings from the project. `name`: only what it binds to that name."""
        if isinstance(node, ast.ImportFrom):
            base = found.absolute(node)
            for alias in node.names:
                if name and alias.name != "*" and (alias.asname or alias.name) != name:
                    continue
                below = f"{base}.{alias.name}"
                if below in self.project and not (base in self.project and alias.name in self.project[base].binds):
                    self.take(below, "*")
                elif base in self.project and (alias.name != "*" or not name):
                    self.take(base, alias.name)
            return
        for alias in node.names:
            if alias.name in self.project and (not name or (alias.asname or alias.name.split(".")[0]) == name):
                self.take(alias.name, "*")

    def _from_stars(self, found: _Module, name: str) -> None:
        for star in found.stars:
            if star in self.project and (name in self.project[star].binds or self.project[star].stars):
                self.take(star, name)
                found.names.add(name)
        for index, node in enumerate(found.body):
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                found.kept.add(index)

    def _is_project_module(self, found: _Module, name: str) -> bool:
        """Whether the name is a project module of which only attributes are used."""
        return bool(found.binds.get(name)) and _bound_module(found, name, self.project) is not None

    def _attributes(self, found: _Module, node: ast.stmt) -> None:
        """For `helpers.rate` take `rate` of helpers; for `helpers` used in any other way, all of it."""
        for chain in sorted(set(toplevel.chains(node))):
            if not found.binds.get(chain[0]):
                continue
            target = _bound_module(found, chain[0], self.project)
            if target is None:
                continue
            rest = list(chain[1:])
            while rest and f"{target}.{rest[0]}" in self.project:
                target = f"{target}.{rest.pop(0)}"
            if rest and rest[0] in self.project[target].binds:
                self.take(target, rest[0])
            elif target in self.project:
                self.take(target, "*")


class _Rewriter(ast.NodeTransformer):
    """Imports of project modules become look-ups in the bundle; our decorators go."""

    def __init__(self, module: _Module, project: Mapping[str, _Module], ours: set[str]) -> None:
        self.module = module
        self.project = project
        self.ours = ours

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list = [item for item in node.decorator_list if toplevel.root(item) not in self.ours]
        self.generic_visit(node)
        return node

    visit_ClassDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_Import(self, node: ast.Import) -> ast.AST | list[ast.stmt]:
        foreign = [alias for alias in node.names if alias.name not in self.project]
        made: list[ast.stmt] = [ast.Import(foreign)] if foreign else []
        for alias in node.names:
            if alias.name in self.project:
                top = alias.name if alias.asname else alias.name.split(".")[0]
                made.append(_assign(alias.asname or top, f"__project__[{top!r}]"))
        return made

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | list[ast.stmt]:
        base = self.module.absolute(node)
        if base == "__future__":
            return []
        made: list[ast.stmt] = []
        foreign = []
        for alias in node.names:
            bound = alias.asname or alias.name
            binds = self.project[base].binds if base in self.project else {}
            if f"{base}.{alias.name}" in self.project and alias.name not in binds:
                made.append(_assign(bound, f"__project__[{f'{base}.{alias.name}'!r}]"))
            elif base not in self.project:
                foreign.append(alias)
            elif alias.name == "*":
                taken = sorted(self.project[base].names - {"*"})
                made += [_assign(name, f"__project__[{base!r}].{name}") for name in taken if name not in self.module.binds]
            else:
                made.append(_assign(bound, f"__project__[{base!r}].{alias.name}"))
        if foreign:
            made.insert(0, ast.ImportFrom(node.module, foreign, node.level))
        return made


def _assign(name: str, value: str) -> ast.stmt:
    return ast.parse(f"{name} = {value}").body[0]


def _bound_module(found: _Module, name: str, project: Mapping[str, _Module]) -> str | None:
    """The project module an import binds to that name."""
    for index in found.binds[name]:
        node = found.body[index]
        if isinstance(node, ast.Import):
            for alias in node.names:
                if (alias.asname or alias.name.split(".")[0]) == name:
                    target = alias.name if alias.asname else alias.name.split(".")[0]
                    return target if target in project else None
        if isinstance(node, ast.ImportFrom):
            base = found.absolute(node)
            for alias in node.names:
                target = f"{base}.{alias.name}"
                binds = project[base].binds if base in project else {}
                if (alias.asname or alias.name) == name and target in project and alias.name not in binds:
                    return target
    return None


def _with_parents(order: list[str]) -> set[str]:
    names = set(order)
    for name in order:
        parts = name.split(".")
        names |= {".".join(parts[:count]) for count in range(1, len(parts))}
    return names


def _quoted(text: str) -> str:
    """The text as a readable literal."""
    if "'''" in text or "\\" in text or text.endswith("'"):
        return repr(text)
    return f"'''\n{text}'''"
