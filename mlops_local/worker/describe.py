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
    reads = _Reads(finder.root)
    sys.addaudithook(reads)
    name = next(name for name, source in finder.sources.items() if source.path == entry)
    load(finder, name)
    reads.stop()
    graph, problems = resolve(scan(finder))
    if problems:
        raise ConfigError(problems[0].text, hint=problems[0].hint, problems=[problem.text for problem in problems])
    loaded = {module: source.path for module, source in finder.sources.items() if module in sys.modules}
    return replace(
        graph,
        modules={**loaded, **finder.found},
        distributions=distributions(finder.root, imports),
        reads=tuple(sorted(reads.paths - {*loaded.values(), *finder.found.values()})),
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


def distributions(root: Path, imports: Iterable[str]) -> dict[str, str]:
    """Top-level module -> "name version" of what provides it; editable and loose modules carry a hash of their files."""
    providers = importlib.metadata.packages_distributions() if sys.version_info >= (3, 10) else {}
    found = {}
    for module in imports:
        if module in sys.stdlib_module_names or module == "mlops_local":
            continue
        names = providers.get(module)
        text = f"{names[0]} {importlib.metadata.version(names[0])}" if names else module
        found[module] = (text + _loose(root, module, bool(names))).strip()
    return found


def _loose(root: Path, module: str, provided: bool) -> str:
    """What the version does not say: nothing for an ordinary installed package."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return f" {ABSENT}"
    folders = list(spec.submodule_search_locations or [])
    place = spec.origin or (folders[0] if folders else "")
    if (provided and ("site-packages" in place or "dist-packages" in place)) or not Path(place).is_absolute():
        return ""
    files = [file for folder in folders for file in Path(folder).rglob("*.py")] if folders else [Path(place)]
    hasher = hashlib.blake2b(digest_size=8)
    for file in sorted(files):
        hasher.update(file.read_bytes())
    return f" files {hasher.hexdigest()}"
