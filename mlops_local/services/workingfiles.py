"""Put files of snapshots where they are missing in the working tree. Never over a file that is there."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from mlops_local.domain.assets import FileEntry, Snapshot
from mlops_local.domain.errors import DataError, IntegrityError, UsageError
from mlops_local.engines.data import files
from mlops_local.store import contents
from mlops_local.store.layout import Layout

_SHOWN = 5


def put_back(layout: Layout, root: Path, snapshots: Iterable[Snapshot], *, ours: bool = False) -> list[str]:
    """Write the files that are missing below `root`.

    Args:
        layout: the store, which has their contents.
        root: the project's folder, or one to make a copy in.
        snapshots: what to write; a file whose content is not in the store is left out.
        ours: the folder was made a moment ago and holds nobody's work: what differs is replaced.

    Returns:
        The paths written, relative to `root`.

    Raises:
        UsageError: files are there with other content; nothing was written.
        IntegrityError: a path leads out of the folder, or a stored content was altered.
        DataError: a file cannot be written.
    """
    wanted = {entry.path: entry for snapshot in snapshots for entry in snapshot.files}
    places = {path: inside(root, path) for path in wanted}
    there = {path for path, place in places.items() if place.exists() or place.is_symlink()}
    other = sorted(path for path in there if not places[path].is_file() or files.digest(places[path]) != wanted[path].hash)
    if ours:
        places = {path: place for path, place in places.items() if not leaves(root, place)}
        for path in places.keys() & set(other):
            places[path].unlink()
        there -= set(other)
    elif other:
        shown = ", ".join(other[:_SHOWN]) + (" …" if len(other) > _SHOWN else "")
        raise UsageError(
            f"{len(other)} data file{'s' if len(other) > 1 else ''} differ from what is to be put back: {shown}",
            hint="nothing was written; move them away, or leave out --data",
        )
    missing = [wanted[path] for path in places if path not in there and contents.has(layout, wanted[path].hash)]
    for entry in missing:
        _write(layout, places[entry.path], entry)
    return [entry.path for entry in missing]


def inside(root: Path, path: str) -> Path:
    """The place of a path below a folder. Raises IntegrityError: it leads out."""
    parts = PurePosixPath(path)
    if not parts.parts or parts.is_absolute() or ".." in parts.parts or "\0" in path:
        raise IntegrityError(f"a snapshot names {path!r}, which is not in the project", hint="nothing was written")
    return root / path


def leaves(root: Path, place: Path) -> bool:
    """Whether a place below a folder is behind a link that leads out of it."""
    return not place.parent.resolve().is_relative_to(root.resolve())


def _write(layout: Layout, place: Path, entry: FileEntry) -> None:
    draft = place.with_name(f".mlops.{secrets.token_hex(6)}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("xb") as file:
            for data in contents.data(layout, entry.hash):
                file.write(data)
        place.hardlink_to(draft)  # refuses where something came to be there meanwhile
    except OSError as error:
        raise DataError(f"cannot write {place}: {error.strerror or error}", hint="check the folder and the space") from error
    finally:
        draft.unlink(missing_ok=True)
