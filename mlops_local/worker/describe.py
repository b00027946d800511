"""Import the pipeline module and say what it declares, what it imported and what it read."""

from __future__ import annotations

import importlib
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from mlops_local.domain.errors import ConfigError, MlopsError
from mlops_local.domain.graph import Graph
from mlops_local.worker import tracebacks
from mlops_local.worker.finder import Finder
from mlops_local.worker.libraries import libraries
from mlops_local.worker.resolve import resolve
from mlops_local.worker.scan import Found, scan


def describe(
    finder: Finder, entry: str, imports: Iterable[str], commands: Mapping[str, Mapping[str, Any]] | None = None
) -> Graph:
    """The graph the module at path `entry` declares.

    Args:
        finder: installed; serves the project's modules.
        entry: the pipeline module's path, relative to the root.
        imports: top-level names of what project code imports that is not project code.
        commands: the command steps of mlops.toml.

    Raises:
        ConfigError: it does not import, or declares what cannot be.
    """
    reads, variables = _Reads(finder.root), _Variables(finder.root)
    sys.addaudithook(reads)
    name = next(name for name, source in finder.sources.items() if source.path == entry)
    with variables:
        load(finder, name)
    reads.stop()
    graph = resolved(scan(finder), commands or {})
    loaded = {module: source.path for module, source in finder.sources.items() if module in sys.modules}
    used = libraries(finder.root, finder.sources, imports)
    modules = {**loaded, **finder.found, **used.modules}
    return replace(
        graph,
        modules=modules,
        distributions=used.versions,
        reads=tuple(sorted(reads.paths - set(modules.values()))),
        variables=tuple(sorted(variables.names)),
        places=used.places,
        records=tuple(sorted(used.records)),
        python=platform.python_version(),
    )


def resolved(found: Found, commands: Mapping[str, Mapping[str, Any]]) -> Graph:
    """The graph of what was found and of mlops.toml's commands. Raises ConfigError with every problem."""
    found.add_commands(commands, "mlops.toml")
    graph, problems = resolve(found)
    if problems:
        raise ConfigError(problems[0].text, hint=problems[0].hint, problems=[problem.text for problem in problems])
    return graph


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
