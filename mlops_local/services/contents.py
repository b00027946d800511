"""The bytes of any snapshot as files that can be read: the working file where it is unchanged, else the stored copy.

A copy that has to be unpacked, and a table that is no Parquet, is made once in the cache by content. All of it can be deleted.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mlops_local.domain.assets import FileEntry, Snapshot
from mlops_local.domain.errors import DataError
from mlops_local.domain.graph import Source
from mlops_local.engines.data import files, profile
from mlops_local.services import data
from mlops_local.services.project import Project
from mlops_local.store import files as stored
from mlops_local.store import objects, packs, stats


@dataclass(frozen=True)
class Held:
    """One version of a source, or any files, ready to be read."""

    label: str
    """As a person reads it: `flights 3f2a91b0`."""
    hashes: Mapping[str, str]
    """Path, relative to the root or as it was given -> hash of the content."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Path -> a file with that content."""
    kind: str = "table"
    schema: Mapping[str, str] = field(default_factory=dict)
    """Column -> polars type that text is read as."""
    source: str = ""
    """Whose version it is; empty of files that somebody named."""


def of(project: Project, snapshot: Snapshot) -> Held:
    """Return a snapshot with files to read it from.

    Raises:
        DataError: a file is not what it was, and there is no copy of it.
        IntegrityError: the stored copy of a file is damaged.
    """
    now = files.seen(project.root, snapshot.listed.paths)
    held = stats.read(project.layout, snapshot.source)
    known = dict(zip(now.paths, held.of(now), strict=True)) if held is not None else {}
    found = {
        entry.path: project.root / entry.path if known.get(entry.path) == entry.hash else _file(project, entry, snapshot)
        for entry in snapshot.files
    }
    return Held(
        f"{snapshot.source} {snapshot.short}",
        snapshot.listed.contents,
        found,
        "files" if snapshot.listed.rows is None else "table",
        _read_as(snapshot),
        snapshot.source,
    )


_PLAIN = frozenset("Boolean Date Datetime Time Float64 Int64 String".split())


def _read_as(snapshot: Snapshot) -> dict[str, str]:
    """The types that text was read as when the snapshot was taken."""
    kinds = {column.name: column.type.partition("(")[0] for column in snapshot.columns}
    return {name: kind for name, kind in kinds.items() if kind in _PLAIN} | dict(snapshot.read_as)


def tables(project: Project, held: Held, only: Collection[str] | None = None) -> dict[str, Path]:
    """Return path -> a Parquet file with the same rows; text and Arrow files are converted once, as the steps read them.

    Args:
        project: the project.
        held: a version of a table.
        only: the paths that are wanted; all when None.

    Raises:
        DataError: a file cannot be read.
    """
    if not held.files or profile.form(next(iter(held.files))) == "parquet":
        return dict(held.files)
    kinds = _numbers(profile.types(held.files, held.label, held.schema), next(iter(held.files)))
    form = f"{profile.version()}-{profile.digest(kinds)}"
    found = {}
    for path, file in held.files.items():
        if only is not None and path not in only:
            continue
        target = _home(project, "rows", f"{held.hashes[path]}-{form}.parquet")
        if not _used(target):
            draft = target.with_name(f"draft.{secrets.token_hex(6)}")
            with _writing(target):
                profile.convert(path, file, kinds, draft, held.label)
                draft.rename(target)
        found[path] = target
    return found


def _numbers(kinds: dict[str, Any], path: str) -> dict[str, Any]:
    """Whole numbers beyond 64 bits, as long ids of a CSV, as decimals: Parquet has no such integers, SQL would see bytes."""
    if profile.form(path) != "csv" or "Int128" not in map(str, kinds.values()):
        return kinds
    import polars as pl  # noqa: PLC0415  (loaded by whoever told the types)

    return {name: pl.Decimal(38, 0) if str(kind) == "Int128" else kind for name, kind in kinds.items()}


def working(project: Project, source: Source) -> Held:
    """Return a source's files as they are now. Raises DataError where none matches."""
    hashes = data.hashes(project, source)
    return Held(
        f"{source.name} as it is now",
        hashes,
        {path: project.root / path for path in hashes},
        source.kind,
        source.schema,
        source.name,
    )


def given(here: Path, paths: Sequence[Path], label: str) -> Held:
    """Return files somebody named, hashed now.

    Raises:
        DataError: there is none.
    """
    found: dict[str, Path] = {}
    for path in paths:
        inside = "" if len(paths) == 1 and path.is_dir() else Path(os.path.relpath(path, here)).as_posix()
        if path.is_dir():
            found |= {(Path(inside) / name).as_posix() if inside else name: path / name for name in files.below(path)}
        elif path.is_file():
            found[inside] = path
    if not found:
        raise DataError(f"{label} holds no file", hint="name files, or a folder that holds some")
    shown = dict(sorted(found.items()))
    kind = "table" if all(profile.form(path) != "opaque" for path in shown) else "files"
    return Held(label, {path: files.digest(file) for path, file in shown.items()}, shown, kind)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Make the folder of what is written into the cache; say that it is that which cannot be written, and not the data."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise stored.cannot_write(path, error) from error


def _home(project: Project, kind: str, name: str) -> Path:
    """Where a copy is to be: in the cache, or for this process alone where that takes nothing."""
    path = project.layout.cache / kind / name
    writable = path.parent if path.parent.is_dir() else path.parent.parent
    return path if path.exists() or os.access(writable, os.W_OK) else _own() / kind / name


@cache
def _own() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="mlops-copies-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _used(path: Path) -> bool:
    """Whether a copy is there; `mlops gc` leaves what was used within a week."""
    try:
        os.utime(path)
    except OSError:  # nothing is there, or a folder that takes nothing
        return path.exists()
    return True


def _file(project: Project, entry: FileEntry, snapshot: Snapshot) -> Path:
    file = project.root / entry.path
    try:
        if files.digest(file) == entry.hash:
            return file
    except OSError:
        pass
    if objects.exists(project.layout, entry.hash):
        return objects.path(project.layout, entry.hash)
    copy = _home(project, "contents", entry.hash)
    if not _used(copy):
        if not packs.contains(project.layout, entry.hash):
            raise DataError(
                f"{entry.path} is no longer what it was in snapshot {snapshot.short} of {snapshot.source}: no copy is stored",
                hint="put the old file back; sources over 1 GB keep copies only with store = 'full'",
            )
        with _writing(copy):
            packs.restore(project.layout, entry.hash, copy)
    return copy
