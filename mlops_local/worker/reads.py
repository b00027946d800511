"""Notice what the project's code reads beside its declared inputs: files, and environment variables.

Python tells of every file that is opened through it; what polars, duckdb, lightgbm and pyarrow open by themselves is seen at
their readers' path arguments. Not seen: paths inside SQL, files that compiled code opens, what other processes read.
Standard library at import; a library's readers are wrapped when it is there.
"""

from __future__ import annotations

import collections.abc
import functools
import glob
import importlib.util
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import ModuleSpec
from itertools import islice
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

_READERS: dict[str, tuple[str, ...]] = {
    "polars": ("read_", "scan_"),
    "pandas": ("read_",),
    "duckdb": ("read_", "from_", "connect"),
    "lightgbm": ("Dataset", "Booster"),
    "pyarrow.parquet": ("read_", "ParquetFile", "ParquetDataset"),
    "pyarrow.feather": ("read_",),
    "pyarrow.csv": ("read_", "open_"),
    "pyarrow.dataset": ("dataset",),
}
"""Module -> what its readers' names begin with; a class reads when it is made."""
_ARGUMENTS = {"source", "path", "paths", "database", "data", "model_file", "filepath_or_buffer", "io", "where", "path_or_buf"}
"""Names of the arguments that may be paths, beside the first one."""
SYSTEM = tuple(f"/{name}/" for name in ("proc sys dev etc usr lib lib64 bin sbin run".split()))
"""Where a system keeps what is its own."""
_MANY = 10_000
"""Files looked at behind one pattern or folder."""
OURS = str(Path(__file__).resolve().parent.parent) + os.sep
"""Where this package lies."""


class Reads:
    """While entered, notes the files that are read and matter."""

    def __init__(self, root: Path, *, began: float = 0.0) -> None:
        """Only assign.

        Args:
            root: the project's folder.
            began: a file made after that is no input; 0: when this is entered.
        """
        self.root = root
        self.found: dict[str, str] = {}
        """File, absolute -> how the code names it: the file itself, or the pattern or folder it was read by."""
        self.on = False
        self._prefix = str(root) + os.sep
        self._written: set[str] = set()
        self._began = began
        self._patches: list[tuple[Any, str, Any]] = []
        self._importing: set[str] = set()
        prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix}
        self._foreign = (*SYSTEM, *(str(Path(prefix)) + os.sep for prefix in prefixes if prefix != "/"), OURS)

    def __enter__(self) -> Reads:
        self._began, self.on = self._began or time.time(), True
        sys.addaudithook(self._hook())
        sys.meta_path.insert(0, self)
        _entered.append(self)
        for module in _unwrapped():
            self._patches += _wrapped(module)
        return self

    def __exit__(self, *error: object) -> None:
        self.on = False  # a hook cannot be taken out
        _entered.remove(self)
        sys.meta_path.remove(self)
        for owner, name, original in reversed(self._patches):
            setattr(owner, name, original)

    def beside(self, declared: Iterable[str]) -> list[str]:
        """What was read and is not among those files: paths, patterns and folders, relative to the root, sorted."""
        known = {os.path.realpath(path) for path in declared}
        names = {name for file, name in self.found.items() if os.path.realpath(file) not in known}
        return sorted(os.path.relpath(name, self.root) for name in names)

    def wrote(self) -> list[str]:
        """Files of the project that were written and are there now, relative to the root; the store's own left out."""
        inside = [path.removeprefix(self._prefix) for path in self._written if path.startswith(self._prefix)]
        return sorted(
            path
            for path in inside
            if not path.startswith((".mlops/", ".git/")) and "__pycache__" not in path and (self.root / path).is_file()
        )

    def files(self) -> set[str]:
        """Every file that was read, relative to the root."""
        return {os.path.relpath(file, self.root) for file in self.found}

    # What Python tells

    def _hook(self) -> Callable[[str, tuple[Any, ...]], None]:
        """Called for everything Python audits: it must let go of what is no matter at once."""

        def heard(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open" and self.on:
                self._opened(*arguments[:3])
            elif event == "sqlite3.connect" and self.on:
                self._opened(arguments[0], "r", 0)

        return heard

    def _opened(self, path: Any, mode: Any, flags: Any) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        name = self._absolute(os.fsdecode(path))
        writes = set(mode) & set("wax") if isinstance(mode, str) else bool(isinstance(flags, int) and flags & os.O_ACCMODE)
        if writes:
            self._written.add(name)
        elif name not in self.found and self._matters(name):
            self.found[name] = name

    def _absolute(self, path: str) -> str:
        if path.startswith("~"):
            path = str(Path(path).expanduser())
        return os.path.normpath(path if path.startswith("/") else f"{Path.cwd()}/{path}")

    def _matters(self, path: str) -> bool:
        """Whether a path is a file of the user's: not an installed library's, not the store's, not made by the step itself."""
        inside = path.startswith(self._prefix)
        rest = path[len(self._prefix) :] if inside else path
        if "-packages/" in rest or "__pycache__" in rest or rest.endswith((".pyc", ".so")) or path in self._written:
            return False
        if inside and rest.startswith((".mlops/", ".git/")):
            return False
        if any(path.startswith(prefix) and not self._prefix.startswith(prefix) for prefix in self._foreign):
            return False
        if not inside and ("/." in rest or not by_project(self._prefix, sys._getframe(2))):
            return False
        try:
            held = Path(path).stat()
        except OSError:
            return False
        return stat.S_ISREG(held.st_mode) and held.st_ctime < self._began

    # What readers are given

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a library with readers as always, and wrap them when it is imported."""
        if fullname not in _READERS or fullname in self._importing or not self.on:
            return None
        self._importing.add(fullname)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._importing.discard(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def executed(module: ModuleType) -> None:
            execute(module)
            self._patches += _wrapped(module)

        spec.loader.exec_module = executed  # type: ignore[method-assign]
        return spec

    def given(self, value: Any) -> None:
        """A reader was given this argument, which may be a path or several."""
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(item, (str, os.PathLike)) and (text := os.fsdecode(item)) and "://" not in text and len(text) < 4096:
                self._note(self._absolute(text))

    def _note(self, name: str) -> None:
        files: Iterable[str] = [name]
        if Path(name).is_dir():
            files = map(str, Path(name).rglob("*"))
        elif glob.has_magic(name) and not Path(name).exists():
            files = map(str, Path("/").glob(name.removeprefix("/")))
        for file in islice(files, _MANY):
            if file not in self.found and self._matters(file):
                self.found[file] = name


_entered: list[Reads] = []
"""Whoever is to hear of what readers are given."""
_for_good: set[str] = set()
"""Libraries whose readers were wrapped before anybody listened."""


def wrap_loaded() -> None:
    """Wrap the readers of the libraries that are loaded, for as long as this process lives.

    A server does so before it forks: a child would copy a page of memory for each of hundreds of names it looks at.
    """
    for module in _unwrapped():
        _for_good.add(module.__name__)
        _wrapped(module)


def _unwrapped() -> list[ModuleType]:
    return [sys.modules[name] for name in _READERS if name in sys.modules and name not in _for_good]


def _wrapped(module: ModuleType) -> list[tuple[Any, str, Any]]:
    """Wrap a library's readers; returns what was changed: owner, name and what it was."""
    changed = []
    for name, value in list(vars(module).items()):
        if not name.startswith(_READERS[module.__name__]) or not callable(value):
            continue
        owner, attribute = (value, "__init__") if isinstance(value, type) else (module, name)
        original = getattr(owner, attribute)
        try:
            setattr(owner, attribute, _noting(original, 1 if isinstance(value, type) else 0))
        except (AttributeError, TypeError):  # a class of C: it cannot be changed
            continue
        changed.append((owner, attribute, original))
    return changed


def _noting(reader: Callable[..., Any], first: int) -> Callable[..., Any]:
    @functools.wraps(reader)
    def noted(*arguments: Any, **named: Any) -> Any:
        for reads in _entered:
            for value in (*arguments[first : first + 1], *(named[name] for name in _ARGUMENTS & named.keys())):
                reads.given(value)
        return reader(*arguments, **named)

    return noted


class Variables:
    """While entered, notes which environment variables the project's code asks for, itself or through a library.

    What a library asks for while it is imported is its own business: that would be most of the environment.
    """

    def __init__(self, root: Path, *, direct: bool = False) -> None:
        """Only assign.

        Args:
            root: the project's folder.
            direct: only what the project's code asks for itself.
        """
        self.direct = direct
        self.prefix = str(root) + os.sep
        self.names: set[str] = set()
        self._kind: Any = type(os.environ)
        self._original = self._kind.__getitem__

    def __enter__(self) -> Variables:
        def asked(environment: Any, key: Any) -> Any:
            if isinstance(key, str) and key not in self.names and self._asked(sys._getframe(1)):
                self.names.add(key)
            return self._original(environment, key)

        self._kind.__getitem__ = asked
        return self

    def __exit__(self, *error: object) -> None:
        self._kind.__getitem__ = self._original

    def _asked(self, frame: FrameType | None) -> bool:
        while (
            self.direct
            and frame is not None
            and frame.f_code.co_filename.startswith(("<frozen ", os.__file__, collections.abc.__file__))
        ):
            frame = frame.f_back
        return _is_of(self.prefix, frame) if self.direct else by_project(self.prefix, frame)


def _is_of(prefix: str, frame: FrameType | None) -> bool:
    """Whether a frame is the project's own code."""
    file = frame.f_code.co_filename if frame is not None else ""
    return file.startswith(prefix) and "site-packages" not in file


def by_project(prefix: str, frame: FrameType | None) -> bool:
    """Whether project code does it, itself or by calling a library, and not a library on its own while it is imported."""
    while frame is not None:
        if _is_of(prefix, frame):
            return True
        if "importlib" in frame.f_code.co_filename:
            return False
        frame = frame.f_back
    return False
