"""Import project modules from the exact bytes that were hashed, never from what the disk says by now.

The bytes come from the program; a project file that did not come along is read from disk while describing (and reported, so
that it is hashed from then on) and refused while a step runs. Tracebacks show the served bytes' lines.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import linecache
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from mlops_local.domain.errors import ConfigError, MlopsError
from mlops_local.domain.jobs import Code
from mlops_local.worker import tracebacks

PLACES = ("", "src")
"""Folders under the root that modules are imported from."""

_LONGEST_LINE = 200
"""Characters of a source line that an error shows."""


class Compiled(NamedTuple):
    """A project module made ready to run; it holds for these bytes at this path alone."""

    path: str
    data: bytes
    code: CodeType
    lines: list[str]
    """For tracebacks."""


def compiled(path: str, data: bytes) -> Compiled:
    """Compile a module's bytes. Raises SyntaxError, ValueError, RecursionError or MemoryError."""
    lines = importlib.util.decode_source(data).splitlines(keepends=True)
    return Compiled(path, data, compile(data, path, "exec", dont_inherit=True), lines)


def quietly_compiled(path: str, data: bytes) -> Compiled | None:
    """Compile a module ahead of its use; None where Python objects or warns: whoever imports it is to hear that."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return compiled(path, data)
    except (SyntaxError, ValueError, RecursionError, MemoryError, Warning):
        return None


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Serves the project's modules."""

    def __init__(
        self, root: Path, sources: Mapping[str, Code], *, report: bool, ready: Mapping[str, Compiled] | None = None
    ) -> None:
        """Only assign.

        Args:
            root: the project's folder.
            sources: the hashed modules.
            report: read other project files from disk and remember them; refuse them otherwise.
            ready: modules that are compiled already.
        """
        self.root = root
        self.sources = sources
        self.report = report
        self.ready = ready or {}
        self.found: dict[str, str] = {}
        """Modules read from disk: name -> path relative to the root."""

    def install(self) -> None:
        """Put the project before every other place modules come from."""
        sys.meta_path.insert(0, self)
        sys.dont_write_bytecode = True
        for place in reversed(PLACES):
            sys.path.insert(0, str(self.root / place))

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Say where a project module is; None for anything else."""
        if fullname.partition(".")[0] == "mlops_local":  # a project that holds our own source is still served by this copy
            return None
        relative = self._path(fullname)
        if relative is None:
            return self._namespace(fullname)
        spec = importlib.machinery.ModuleSpec(fullname, self, origin=str(self.root / relative))
        spec.has_location = True
        if relative.endswith("__init__.py"):
            spec.submodule_search_locations = [str((self.root / relative).parent)]
        return spec

    def _path(self, fullname: str) -> str | None:
        source = self.sources.get(fullname)
        if source is not None:
            return source.path
        relative = self._on_disk(fullname)
        if relative is None:
            return None
        if not self.report:
            raise ImportError(
                f"{relative} is project code, but no import statement names it, so its changes could not be noticed; "
                f"write `import {fullname}` in the module that loads it",
                name=fullname,
            )
        self.found[fullname] = relative
        return relative

    def _on_disk(self, fullname: str) -> str | None:
        stem = fullname.replace(".", "/")
        for place in (*(f"{place}/{stem}" if place else stem for place in PLACES), *self._in_package(fullname)):
            for relative in (f"{place}/__init__.py", f"{place}.py"):
                if (self.root / relative).is_file():
                    return relative
        return None

    def _in_package(self, fullname: str) -> list[str]:
        """Where a package beside the project would hold it."""
        package, _, name = fullname.rpartition(".")
        source = self.sources.get(package)
        return [f"{source.path.removesuffix('/__init__.py')}/{name}"] if source and source.path.endswith("/__init__.py") else []

    def _namespace(self, fullname: str) -> importlib.machinery.ModuleSpec | None:
        """A folder without `__init__.py` that holds project modules."""
        if not any(name.startswith(fullname + ".") for name in self.sources):
            return None
        folders = [self.root / place / fullname.replace(".", "/") for place in PLACES]
        spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = [str(folder) for folder in folders if folder.is_dir()] or [str(folders[0])]
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Python's own way."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Run the served bytes as the module's body."""
        name = module.__name__
        path = str(self.root / self._relative(name))
        data = self.data(name)
        try:
            ready = self.ready.get(name)
            if ready is None or (ready.path, ready.data) != (path, data):
                ready = compiled(path, data)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two: nested too deep
            raise self._broken(name, error) from error
        linecache.cache[path] = (len(data), None, ready.lines, path)
        exec(ready.code, module.__dict__)

    def data(self, name: str) -> bytes:
        """A module's bytes."""
        source = self.sources.get(name)
        return source.data if source is not None else (self.root / self.found[name]).read_bytes()

    def get_source(self, name: str) -> str:
        """A module's text, for `inspect` and tracebacks."""
        return importlib.util.decode_source(self.data(name))

    def _relative(self, name: str) -> str:
        source = self.sources.get(name)
        return source.path if source is not None else self.found[name]

    def _broken(self, name: str, error: Exception) -> ConfigError:
        line = getattr(error, "lineno", None)
        place = self._relative(name) + (f":{line}" if line else "")
        text = getattr(error, "msg", None) or str(error)
        shown = (getattr(error, "text", None) or "").rstrip("\n")
        offset = (getattr(error, "offset", None) or 1) - 1
        stripped = shown.lstrip()
        caret = " " * max(0, offset - (len(shown) - len(stripped))) + "^"
        if len(stripped) > _LONGEST_LINE:
            stripped, caret = stripped[:_LONGEST_LINE] + " ...", ""
        excerpt = f"  {place}\n    {stripped}\n    {caret}\n" if stripped else f"  {place}\n"
        if isinstance(error, (RecursionError, MemoryError)):
            text = "an expression is nested too deep for Python"
        elif isinstance(error, UnicodeError) or "encoding declaration" in text:
            return ConfigError(f"{place}: not UTF-8 text", hint="save it as UTF-8, or declare its encoding", traceback=excerpt)
        return ConfigError(f"{place}: syntax error: {text}", hint="mend it and run the command again", traceback=excerpt)


def load(finder: Finder, name: str) -> Any:
    """Import a project module.

    Raises:
        ConfigError: with the user's own traceback.
    """
    try:
        return importlib.import_module(name)
    except MlopsError as error:
        place = tracebacks.place(error, finder.root)
        traceback = getattr(error, "traceback", "") or tracebacks.render(error, finder.root)
        told = re.match(r"\S+\.py:\d+: ", error.message) or not place
        text = error.message if told else f"{place}: {error.message}"
        raise ConfigError(text, hint=error.hint, traceback=traceback) from error
    except (Exception, SystemExit) as error:
        what = f"it called sys.exit({error.code!r})" if isinstance(error, SystemExit) else tracebacks.sentence(error)
        place = tracebacks.place(error, finder.root) or name
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        raise ConfigError(
            f"{place}: the module cannot be imported: {what}",
            hint=f"install it in the project's environment: pip install {missing.partition('.')[0]}"
            if missing
            else "mend it and run the command again; nothing ran and nothing was lost",
            traceback=tracebacks.render(error, finder.root),
        ) from error
