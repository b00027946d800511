"""Import the pipeline module and say what it declares, what it imported and what it read."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from mlops_local.domain.errors import ConfigError, MlopsError
from mlops_local.domain.graph import Graph
from mlops_local.worker import tracebacks
from mlops_local.worker.finder import Finder
from mlops_local.worker.resolve import resolve
from mlops_local.worker.scan import scan

ABSENT = "(not installed)"


def describe(finder: Finder, entry: str, imports: Iterable[str]) -> Graph:
    """The graph the module at path `entry` declares.

    Args:
        finder: installed; serves the project's modules.
        entry: the pipeline module's path, relative to the root.
        imports: top-level names of what project code imports that is not project code.

    Raises:
        ConfigError: it does not import, or declares what cannot be.
    """
    reads, variables = _Reads(finder.root), _Variables(finder.root)
    sys.addaudithook(reads)
    name = next(name for name, source in finder.sources.items() if source.path == entry)
    with variables:
        load(finder, name)
    reads.stop()
    graph, problems = resolve(scan(finder))
    if problems:
        raise ConfigError(problems[0].text, hint=problems[0].hint, problems=[problem.text for problem in problems])
    loaded = {module: source.path for module, source in finder.sources.items() if module in sys.modules}
    versions, places = distributions(imports)
    return replace(
        graph,
        modules={**loaded, **finder.found},
        distributions=versions,
        reads=tuple(sorted(reads.paths - {*loaded.values(), *finder.found.values()})),
        variables=tuple(sorted(variables.names)),
        places=places,
    )


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
        what = f"it called sys.exit({error.code!r})" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
        place = tracebacks.place(error, finder.root) or name
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        raise ConfigError(
            f"{place}: the module cannot be imported: {what}",
            hint=f"install it in the project's environment: pip install {missing.partition('.')[0]}" if missing else "",
            traceback=tracebacks.render(error, finder.root),
        ) from error


class _Reads:
    """An audit hook that remembers which project files Python opened for reading."""

    def __init__(self, root: Path) -> None:
        self.prefix = str(root) + os.sep
        self.paths: set[str] = set()
        self.on = True

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or event != "open" or not isinstance(arguments[0], (str, os.PathLike)):
            return
        mode = arguments[1]
        path = os.fsdecode(Path.cwd() / os.fsdecode(arguments[0]))
        if path.startswith(self.prefix) and not (mode and set(mode) & set("wax+")):
            self.paths.add(path.removeprefix(self.prefix))

    def stop(self) -> None:
        """Hear no more (a hook cannot be taken out)."""
        self.on = False
        self.paths = {path for path in self.paths if not path.startswith(".mlops/") and "site-packages" not in path}


class _Variables:
    """While entered, remembers which environment variables the project's code asks for, itself or through a library.

    What a library asks for while it is imported is its own business: that would be most of the environment.
    """

    def __init__(self, root: Path) -> None:
        self.prefix = str(root) + os.sep
        self.names: set[str] = set()
        self._kind: Any = type(os.environ)
        self._original = self._kind.__getitem__

    def __enter__(self) -> None:
        def asked(environment: Any, key: Any) -> Any:
            if isinstance(key, str) and key not in self.names and self._by_project():
                self.names.add(key)
            return self._original(environment, key)

        self._kind.__getitem__ = asked

    def __exit__(self, *error: object) -> None:
        self._kind.__getitem__ = self._original

    def _by_project(self) -> bool:
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            file = frame.f_code.co_filename
            if file.startswith(self.prefix) and "site-packages" not in file:
                return True
            if "importlib" in file:
                return False
            frame = frame.f_back
        return False


def distributions(imports: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What provides each imported top-level module.

    Returns:
        Module -> "name version"; editable and loose modules carry a hash of their files. And module -> place, of those.
    """
    providers = importlib.metadata.packages_distributions() if sys.version_info >= (3, 10) else {}
    found: dict[str, str] = {}
    places: dict[str, str] = {}
    for module in imports:
        if module in sys.stdlib_module_names or module == "mlops_local":
            continue
        names = providers.get(module)
        text = f"{names[0]} {importlib.metadata.version(names[0])}" if names else module
        place = _place(module, bool(names))
        if place is None:
            found[module] = f"{text} {ABSENT}"
        elif place:
            places[module] = place
            found[module] = f"{text} files {content(Path(place))}"
        else:
            found[module] = text
    return found, places


def content(place: Path) -> str:
    """A digest of the Python files of a module, whatever its version says; empty when it is gone."""
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    hasher = hashlib.blake2b(digest_size=8)
    try:
        for file in files:
            hasher.update(file.read_bytes())
    except OSError:
        return ""
    return hasher.hexdigest()


def _place(module: str, provided: bool) -> str | None:
    """Where a module is whose version does not say what it holds; empty for an ordinary one, None when it is not there."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or [])
    place = spec.origin or (folders[0] if folders else "")
    if (provided and ("site-packages" in place or "dist-packages" in place)) or not Path(place).is_absolute():
        return ""
    return folders[0] if folders else place
