"""The project's own code, found without importing it: every module the entry reaches by import statements, as exact bytes."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import PurePosixPath

from mlops_local.domain.errors import ConfigError
from mlops_local.domain.records import dataclass

PLACES = ("", "src/")
"""Folders under the root that modules are imported from."""
Load = Callable[[str], "bytes | None"]


@dataclass(frozen=True)
class SourceFile:
    """One project module."""

    path: str
    """Relative to the project's root, POSIX form."""
    data: bytes

    @cached_property
    def hash(self) -> str:
        """Of the bytes, hexadecimal."""
        return hashlib.blake2b(self.data, digest_size=32).hexdigest()

    @property
    def package(self) -> bool:
        """Whether it is a package's `__init__.py`."""
        return self.path.endswith("/__init__.py")


@dataclass(frozen=True)
class Imported:
    """One import statement's target, absolute."""

    module: str
    names: tuple[str, ...] = ()
    """What `from module import ...` takes; any of them may be a submodule."""
    lazy: bool = False
    """Inside a function: not executed when the module is imported."""


def discover(entry: str, load: Load) -> dict[str, SourceFile]:
    """Find the entry module and all project modules it reaches, over any number of steps.

    Args:
        entry: the pipeline module's path, relative to the root.
        load: gives a path's bytes, or None where there is no such file (working tree, git index).

    Raises:
        ConfigError: the entry is not there.
    """
    name = module_name(entry)
    data = load(entry)
    if data is None:
        raise ConfigError(f"no pipeline module: {entry} is not there", hint="write it, or set [project] pipeline in mlops.toml")
    found = {name: SourceFile(entry, data)}
    _follow(found, lambda module: _load(module, load, PLACES))
    return found


def beside(sources: Mapping[str, SourceFile], places: Mapping[str, str], load: Load) -> dict[str, SourceFile]:
    """Find the modules of packages outside the project's own folders (installed for editing) that the project reaches.

    Args:
        sources: the project's modules.
        places: top-level module of such a package -> the folder it lies in, relative to the root.
        load: gives a path's bytes, or None where there is no such file.
    """
    found = dict(sources)

    def there(module: str) -> SourceFile | None:
        folder = places.get(module.partition(".")[0])
        return None if folder is None else _load(module, load, (f"{folder}/",))

    _follow(found, there)
    return {name: source for name, source in found.items() if name not in sources}


def _follow(found: dict[str, SourceFile], load: Callable[[str], SourceFile | None]) -> None:
    """Add every module that those found reach by import statements, over any number of steps."""
    tried: set[str] = set()
    queue = list(found)
    while queue:
        current = queue.pop(0)
        wanted = [*_parents(current), *(name for item in imports(current, found[current]) for name in candidates(item))]
        for module in wanted:
            if module in found or module in tried:
                continue
            tried.add(module)
            source_file = load(module)
            if source_file is not None:
                found[module] = source_file
                queue.append(module)


def module_name(path: str) -> str:
    """`src/flights/pipeline.py` is `flights.pipeline`."""
    stem = path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__")
    return ".".join(PurePosixPath(stem).parts)


def third_party(
    sources: Mapping[str, SourceFile], modules: Iterable[str] | None = None, *, lazy: bool = True
) -> tuple[str, ...]:
    """Top-level names that project code imports and that are not project code.

    Args:
        sources: the project's modules.
        modules: only what these import; all of them when None.
        lazy: also what is imported inside functions.
    """
    own = {name.partition(".")[0] for name in sources} | {"mlops_local"}
    found: dict[str, None] = {}
    for name in sources if modules is None else modules:
        for item in imports(name, sources[name]):
            top = item.module.partition(".")[0]
            if top and top not in own and (lazy or not item.lazy):
                found[top] = None
    return tuple(found)


def imports(name: str, source: SourceFile) -> tuple[Imported, ...]:
    """Every import statement of a module, in order; none where it does not parse."""
    return _imports(name, source.package, source.data)


def executed(name: str, sources: Mapping[str, SourceFile]) -> tuple[str, ...]:
    """The project modules that importing `name` executes, itself last."""
    done: dict[str, None] = {}
    path: set[str] = set()

    def visit(module: str) -> None:
        if module not in sources or module in done or module in path:
            return
        path.add(module)
        for parent in _parents(module):
            visit(parent)
        for item in imports(module, sources[module]):
            if not item.lazy:
                for candidate in candidates(item):
                    visit(candidate)
        done[module] = None

    visit(name)
    return tuple(done)


@lru_cache(maxsize=1024)
def tree(data: bytes) -> ast.Module | None:
    """The syntax tree of these bytes, parsed once; None where they are no Python. Nobody changes it."""
    try:
        return ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: nested too deep
        return None


@lru_cache(maxsize=4096)
def _imports(name: str, package: bool, data: bytes) -> tuple[Imported, ...]:
    parsed = tree(data)
    return () if parsed is None else tuple(_walk(parsed, name if package else name.rpartition(".")[0], lazy=False))


def imported(node: ast.AST, package: str) -> Iterator[Imported]:
    """The import statements in a statement, itself included.

    Args:
        node: the statement.
        package: where relative imports start.
    """
    return _walk(ast.Module(body=[node], type_ignores=[]), package, lazy=False)  # type: ignore[list-item]


def _walk(node: ast.AST, package: str, *, lazy: bool) -> Iterator[Imported]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Imported(alias.name, (), lazy)
        elif isinstance(child, ast.ImportFrom):
            yield Imported(absolute(child, package), tuple(alias.name for alias in child.names), lazy)
        else:
            if isinstance(child, ast.Call) and (literal := _dynamic(child)):
                yield Imported(literal, (), lazy)
            yield from _walk(
                child, package, lazy=lazy or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            )


def absolute(node: ast.ImportFrom, package: str) -> str:
    """The module a from-import names, without dots in front."""
    if not node.level:
        return node.module or ""
    parts = package.split(".") if package else []
    kept = parts[: len(parts) - (node.level - 1)]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _dynamic(call: ast.Call) -> str:
    """`importlib.import_module("steps.clean")` and `__import__("steps")` with a text are import statements too."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    if name in ("import_module", "__import__") and call.args and isinstance(call.args[0], ast.Constant):
        value = call.args[0].value
        return value if isinstance(value, str) and not value.startswith(".") else ""
    return ""


def _parents(module: str) -> list[str]:
    """The packages that are imported on the way to a module."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def candidates(item: Imported) -> Iterator[str]:
    """The modules an import may execute, outer packages first."""
    if item.module:
        yield from _parents(item.module)
        yield item.module
    for name in item.names:
        if name != "*":
            yield f"{item.module}.{name}" if item.module else name


def _load(module: str, load: Load, places: Iterable[str]) -> SourceFile | None:
    if module.partition(".")[0] == "mlops_local":
        return None
    stem = module.replace(".", "/")
    for place in places:
        for path in (f"{place}{stem}/__init__.py", f"{place}{stem}.py"):
            data = load(path)
            if data is not None:
                return SourceFile(path, data)
    return None
