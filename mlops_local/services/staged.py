"""Which data the next commit stands for: tracked files by their staged content, the others as they are.

The working tree is not asked about a file that git tracks. What had to be taken from it is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import blake3

from mlops_local.domain.errors import DataError
from mlops_local.domain.graph import Source
from mlops_local.engines.data import files, patterns
from mlops_local.services import data, git
from mlops_local.services.project import Project
from mlops_local.store import cache
from mlops_local.store.lockfile import LockFile

_NONE = LockFile()


@dataclass(frozen=True)
class Data:
    """The snapshots a tree stands for."""

    snapshots: Mapping[str, str]
    """Source -> snapshot id; a source without a file is left out."""
    notes: tuple[str, ...] = ()
    """What was not taken from the staged tree, and what is missing; one line each."""


def tree_data(project: Project, sources: Iterable[Source], tree: git.Tree, lock: LockFile = _NONE) -> Data:
    """Name the snapshot of each source as the staged tree has it. Stores nothing but hashes."""
    found: dict[str, str] = {}
    notes: list[str] = []
    for source in sources:
        tracked = [path for path in tree.entries if patterns.matches(source.pattern, path)]
        try:
            if not tracked:
                held = data.current(project, source)
                found[source.name] = held.id
                notes.append(f"{source.name}: not tracked by git, taken as it is now ({held.short})")
                continue
            beside = _ignored(project, source, tracked)
            hashes = {path: files.digest(project.root / path) for path in beside}
            there = {**hashes, **_hashes(project, tracked, tree)}
            found[source.name] = files.identity(there.items(), source.schema, source.labels)
            if beside:
                notes.append(
                    f"{source.name}: {len(beside)} file{'s' if len(beside) > 1 else ''} ignored by git, taken as on disk"
                )
        except DataError as error:
            notes.append(_as_named(project, source, lock, found) or error.message)
    return Data(found, tuple(notes))


def current_data(project: Project, sources: Iterable[Source], lock: LockFile = _NONE) -> Data:
    """Name the snapshot of each source as the working tree has it, or as mlops.lock does where there is no file of it."""
    found: dict[str, str] = {}
    notes: list[str] = []
    for source in sources:
        try:
            found[source.name] = data.current(project, source).id
        except DataError as error:
            notes.append(_as_named(project, source, lock, found) or error.message)
    return Data(found, tuple(notes))


def _as_named(project: Project, source: Source, lock: LockFile, found: dict[str, str]) -> str:
    """A source without any file here stands for what mlops.lock says, as in a clone without the data; what to say of it."""
    entry = lock.sources.get(source.name)
    try:
        there = bool(files.find(project.root, source.pattern, source=source.name))
    except DataError:
        there = False
    if entry is None or there:
        return ""
    found[source.name] = entry.snapshot
    return f"{source.name}: no file of it is here, taken as mlops.lock names it ({entry.snapshot[:8]})"


def _ignored(project: Project, source: Source, tracked: Iterable[str]) -> list[str]:
    """Files of the source that git is told to ignore: the user's data all the same. Files nobody added yet are not."""
    try:
        present = files.find(project.root, source.pattern, source=source.name)
    except DataError:
        return []
    return git.ignored(project.root, sorted(set(present) - set(tracked)))


def _hashes(project: Project, paths: Iterable[str], tree: git.Tree) -> dict[str, str]:
    """Content hash of staged files, as a checkout would write them; each content is hashed once."""
    known = cache.blobs(project.layout)
    names = list(paths)
    filtered = tree.filtered(names)
    found: dict[str, str] = {}
    fresh: dict[str, str] = {}
    for path in names:
        blob = tree.blob(path)
        key = f"{blob} {path}" if path in filtered else blob
        value = known.get(key) or fresh.get(key)
        if not isinstance(value, str):
            hasher = blake3.blake3()
            for chunk in tree.stream_filtered(path) if path in filtered else tree.stream(blob):
                hasher.update(chunk)
            value = fresh[key] = hasher.hexdigest()
        found[path] = value
    if fresh:
        cache.save_blobs(project.layout, {**known, **fresh})
    return found
