"""What the project imports that is not in its own folders: installed distributions by version, code beside it by bytes.

A package installed for editing, or on PYTHONPATH, has no version that says what it holds: its modules count like the project's
own. Runs in the project's interpreter; standard library at import.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_local.domain.jobs import Code
from mlops_local.domain.records import dataclass
from mlops_local.engines.pipeline.sources import SourceFile, beside, third_party

if TYPE_CHECKING:
    import importlib.metadata  # at runtime only where distributions are looked up: 15 ms, and running a step asks for none

ABSENT = "(not installed)"
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


@dataclass
class Libraries:
    """What provides the imported modules."""

    versions: dict[str, str] = field(default_factory=dict)
    """Top-level module -> "name version"; what is neither installed nor readable as source carries a hash of its files."""
    records: set[str] = field(default_factory=set)
    """RECORD files of the distributions."""
    places: dict[str, str] = field(default_factory=dict)
    """Top-level module -> file or folder, of those whose version does not say what they hold."""
    modules: dict[str, str] = field(default_factory=dict)
    """Modules beside the project that it reaches: name -> path relative to the root."""


def libraries(root: Path, sources: Mapping[str, Code], imports: Iterable[str]) -> Libraries:
    """Look up what provides each imported top-level module, over any number of packages beside the project.

    Args:
        root: the project's folder.
        sources: the project's modules.
        imports: top-level names of what they import that is not project code.
    """
    found = Libraries()
    provided = providers()
    own = {name: SourceFile(item.path, item.data) for name, item in sources.items()}
    folders: dict[str, str] = {}
    queue = sorted({*imports, "polars"})  # tables are kept through polars, whoever imports it
    while queue:
        for module in queue:
            _look_up(found, module, provided)
            if module in found.places and _is_source(found.places[module]):
                folders[module] = os.path.relpath(Path(found.places[module]).parent, root)
        around = beside(own, folders, lambda path: _bytes(root / path))
        found.modules = {name: source.path for name, source in around.items()}
        queue = sorted(set(third_party({**own, **around})) - set(found.versions) - set(folders))
        queue = [module for module in queue if not _ignored(module)]
    found.modules |= _imported(root, folders)
    return found


def installed(module: str) -> bool:
    """Whether a top-level module comes from an installation or the standard library, so that its bytes stay what they are."""
    return _ignored(module) or _place(module, provided=True) == ""


def content(place: Path) -> str:
    """A digest of a module's files that are code, whatever its version says; empty when it is gone."""
    files = sorted(path for path in place.rglob("*") if path.suffix in _CODE) if place.is_dir() else [place]
    hasher = hashlib.blake2b(digest_size=8)
    try:
        for file in files:
            hasher.update(file.read_bytes())
    except OSError:
        return ""
    return hasher.hexdigest()


_CODE = (".py", *importlib.machinery.EXTENSION_SUFFIXES, ".so")


def providers() -> Mapping[str, list[str]]:
    """Top-level module -> distributions, worked out once while nothing is installed or removed.

    A forking server asks before it forks, so that its children need not.
    """
    found: dict[str, list[str]] = {}
    for place in sys.path:
        for module, names in _provided(place, _mtime(place)).items():
            found.setdefault(module, []).extend(names)
    return found


@lru_cache(maxsize=64)
def _provided(place: str, mtime: int) -> dict[str, list[str]]:
    """What the distributions of one folder provide; `mtime` tells one state of it from another."""
    import importlib.metadata

    # As importlib.metadata.packages_distributions, which makes an object of each of 15,000 files: 250 ms of work, here 20.
    found: dict[str, list[str]] = {}
    for distribution in importlib.metadata.distributions(path=[place]):
        name = _named(distribution)
        # One installed for editing may list none of its modules: then its own name has to do.
        for module in (_top_level(distribution) or {name.replace("-", "_").lower()}) if name else ():
            found.setdefault(module, []).append(name)
    return found


def _named(distribution: importlib.metadata.Distribution) -> str:
    head = (distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or "").partition("\n\n")[0]
    return next((line[5:].strip() for line in head.split("\n") if line[:5].lower() == "name:"), "")


def _top_level(distribution: importlib.metadata.Distribution) -> set[str]:
    """The modules a distribution says it has, or the first parts of its files' paths."""
    declared = (distribution.read_text("top_level.txt") or "").split()
    if declared:
        return set(declared)
    record = distribution.read_text("RECORD")
    paths = [line.split(",", 1)[0].strip('"') for line in record.splitlines()] if record else map(str, distribution.files or ())
    firsts = {path.split("/", 1)[0] for path in paths if "/" in path or path.endswith(_CODE)}
    names = {first.partition(".")[0] if first.endswith(_CODE) else first for first in firsts}
    return {name for name in names if name.isidentifier()}


def _mtime(place: str) -> int:
    try:
        return os.stat(place or os.curdir).st_mtime_ns  # noqa: PTH116  (an entry of sys.path, as it is)
    except OSError:
        return 0


def _look_up(found: Libraries, module: str, provided: Mapping[str, list[str]]) -> None:
    if _ignored(module):
        return
    import importlib.metadata

    names = provided.get(module)
    text = module
    if names:
        distribution = importlib.metadata.distribution(names[0])
        text = f"{names[0]} {distribution.version}"
        folder = getattr(distribution, "_path", None)
        if folder is not None:
            found.records.add(str(folder / "RECORD"))
    place = _place(module, provided=bool(names))
    if place is None:
        text = f"{text} {ABSENT}"
    elif place:
        found.places[module] = place
        if not _is_source(place):
            text = f"{text} files {content(Path(place))}"
    found.versions[module] = text


def _ignored(module: str) -> bool:
    return module in sys.stdlib_module_names or module == "mlops_local"


def _is_source(place: str) -> bool:
    """Whether the module there is Python source all through: then its modules are looked at one by one."""
    path = Path(place)
    if path.is_dir():
        return not any(file.suffix in _CODE[1:] for file in path.rglob("*"))
    return path.suffix == ".py"


def _place(module: str, *, provided: bool) -> str | None:
    """Where a module is whose version does not say what it holds; empty for an ordinary one, None when it is not there."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or [])
    place = spec.origin or (folders[0] if folders else "")
    if (provided and any(part in place for part in _INSTALLED)) or not Path(place).is_absolute():
        return ""
    return folders[0] if folders else place


def _imported(root: Path, folders: Mapping[str, str]) -> dict[str, str]:
    """What of the packages beside the project is imported by now, whoever asked for it."""
    found: dict[str, str] = {}
    if not folders:
        return found
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in folders and file and file.endswith(".py"):
            found[name] = os.path.relpath(file, root)
    return found


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
