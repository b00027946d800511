"""Give a snapshot's files back, byte by byte.

A file that is neither that nor what the newest snapshot has is never written over without `force`, and then what it holds is
kept first, as a snapshot of its own. Files of the source that the snapshot does not have are left alone.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from mlops_local.domain.assets import FileEntry, Snapshot
from mlops_local.domain.errors import DataError, IntegrityError, UsageError
from mlops_local.domain.graph import Source
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.engines.data import files
from mlops_local.services import data, references
from mlops_local.services.project import Project
from mlops_local.store import cache, history, lockfile, packs

_LISTED = 5


@dataclass(frozen=True)
class Restored:
    """What `restore` did."""

    source: str
    snapshot: str
    written: tuple[str, ...]
    """Paths that were written."""
    same: int
    """Files that were right already."""
    kept: str = ""
    """The snapshot that what was written over is in."""
    beside: tuple[str, ...] = ()
    """Files of the source that the snapshot does not have; left alone."""


def named(project: Project, names: Sequence[str], *, locked: bool) -> list[Snapshot]:
    """Return the snapshots that are meant.

    Args:
        project: the project.
        names: references, as in `flights@~1`.
        locked: the snapshots that mlops.lock names instead; of the sources `names`, or of all.

    Raises:
        UsageError: nothing is called so, or mlops.lock does not name it.
    """
    if not locked:
        return [references.snapshot(project, name) for name in names]
    known = lockfile.read(project.layout.lockfile).sources
    for name in names:
        if name not in known:
            raise UsageError(f"mlops.lock does not name {name}", hint=f"it names: {', '.join(known) or 'no source'}")
    wanted = [f"{name}@{entry.snapshot}" for name, entry in known.items() if not names or name in names]
    if not wanted:
        raise UsageError("mlops.lock names no source", hint="`mlops train` writes it")
    return [references.snapshot(project, name) for name in wanted]


def restore(
    project: Project,
    snapshot: Snapshot,
    source: Source | None,
    *,
    to: Path | None = None,
    force: bool = False,
    emit: Emit = ignore,
) -> Restored:
    """Write the files of a snapshot.

    Args:
        project: the project.
        snapshot: which.
        source: the declaration of its source, if there is one.
        to: a folder to write to; the files' own places when None.
        force: write over files in their own places that changed since the newest snapshot, which are snapshotted first.
        emit: told what is being done.

    Raises:
        UsageError: files would be written over.
        DataError: bytes are not stored (a source by reference), or a file cannot be written.
        IntegrityError: stored bytes are missing or altered; names the snapshots that need them.
    """
    root = project.root if to is None else to
    places = {entry.path: root / inside(entry.path) for entry in snapshot.files}
    wanted = [entry for entry in snapshot.files if not _has(places[entry.path], entry)]
    _require(project, snapshot, wanted)
    over = [entry.path for entry in wanted if places[entry.path].exists() or places[entry.path].is_symlink()]
    blocked = next((path for path in over if not places[path].is_file()), None)
    if blocked is not None:  # neither kept nor written over
        raise UsageError(
            f"something that is no file is in the place of {blocked}: {_what(places[blocked])}",
            hint="move it away, or --to DIR writes elsewhere",
        )
    if over and (to is not None or not force):
        _require_kept(project, snapshot, {path: places[path] for path in over}, elsewhere=to is not None)
    kept = _keep(project, snapshot, source, over) if over else None
    if kept:
        emit(Progress("note", f"what is written over is kept: {snapshot.source}@{kept.short}"))
    held = {entry.path: entry.hash for entry in kept.files} if kept is not None else {}
    for entry in wanted:
        _write(project, entry, places[entry.path], held.get(entry.path, ""))
    beside = _beside(project, snapshot, source) if to is None else ()
    if to is None and wanted:  # the source's newest is what its files are now
        snapshot = replace(snapshot, private=data.private(project, (), snapshot.source))
        data.journal(project, snapshot)
        if not beside:
            cache.save_snapshot(project.layout, snapshot)
    written = tuple(entry.path for entry in wanted)
    same = len(snapshot.files) - len(written)
    return Restored(snapshot.source, snapshot.id, written, same, kept.id if kept is not None else "", beside)


def _require_kept(project: Project, snapshot: Snapshot, over: Mapping[str, Path], *, elsewhere: bool) -> None:
    """Refuse to write over files, but where each is as the source's newest snapshot has it, with a copy."""
    newest = cache.snapshot(project.layout, snapshot.source) if not elsewhere else None
    held = {entry.path: entry for entry in newest.files if entry.path in over} if newest is not None else {}
    same = {path: entry.hash for path, entry in held.items() if _has(over[path], entry)}
    gone = set(packs.missing(project.layout, list(same.values())))
    changed = [path for path in over if path not in same or same[path] in gone]
    if changed:
        raise UsageError(
            f"{_some(changed)} would be written over: not what snapshot {snapshot.short} of {snapshot.source} has",
            hint="name an empty folder"
            if elsewhere
            else "--force keeps what is there as a snapshot first, or --to DIR writes elsewhere",
        )


def _write(project: Project, entry: FileEntry, place: Path, kept: str) -> None:
    """Write one file beside its place, then put it there: nothing is lost that came there since it was looked at.

    Args:
        project: the project.
        entry: what to write.
        place: where.
        kept: the hash of what is there, which is kept; empty where nothing was.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot make {place.parent}: {error.strerror}", hint="move what is in the way, or --to DIR writes elsewhere"
        ) from error
    try:
        packs.restore(project.layout, entry.hash, place, put=partial(_swap, kept=kept) if kept else _put)
    except IntegrityError as error:
        raise _damaged(project, entry, error) from error


def _swap(draft: Path, place: Path, kept: str) -> None:
    """Put a file in the place of one that is kept; one that is something else by now stays."""
    aside = place.with_name(f".mlops.{secrets.token_hex(6)}")
    try:
        place.rename(aside)
    except FileNotFoundError:  # removed meanwhile: nothing of it is lost
        _put(draft, place)
        return
    try:
        if files.digest(aside) != kept:
            raise _changed(place)
        _put(draft, place)
    except BaseException:
        try:
            _put(aside, place)
        except UsageError as error:
            raise UsageError(
                f"{place} came again while it was restored", hint=f"what was there before is {aside}: look at both"
            ) from error
        raise
    aside.unlink()


def _put(draft: Path, place: Path) -> None:
    """Give a file its name if nothing has it, in one step where the file system has links."""
    try:
        os.link(draft, place, follow_symlinks=False)
    except OSError as error:
        if os.path.lexists(place):
            raise _changed(place) from error
        draft.rename(place)
    else:
        draft.unlink()


def _changed(place: Path) -> UsageError:
    return UsageError(f"{place} changed while it was restored", hint="it is left as it is now; run the command again")


def said(done: Restored, where: str = "") -> str:
    """Say in one line what was done."""
    count = len(done.written)
    same = f", {done.same:,} {'was' if done.same == 1 else 'were'} right already" if done.same else ""
    return f"{done.source} {done.snapshot[:8]}: {count:,} file{'' if count == 1 else 's'} written{where}{same}"


def _what(place: Path) -> str:
    return (
        "a link to nothing"
        if place.is_symlink() and not place.exists()
        else "a folder"
        if place.is_dir()
        else "a device or pipe"
    )


def needed_by(project: Project, hash: str) -> str:
    """Say in words which snapshots need a content."""
    with project.store.reader() as db:
        found = history.snapshots_of_file(db, hash)
    return f"needed by {_some([f'{source} {id[:8]}' for source, id in found])}" if found else "no snapshot needs it"


def _has(place: Path, entry: FileEntry) -> bool:
    try:
        return place.stat().st_size == entry.bytes and files.digest(place) == entry.hash
    except OSError:
        return False


def inside(path: str) -> PurePosixPath:
    """Return the path, unless it leads out of the folder it is to be put under: a store that was fetched may say anything."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or not parts.parts:
        raise IntegrityError(f"a snapshot names a file outside its folder: {path!r}", hint="it is not written")
    return parts


def _require(project: Project, snapshot: Snapshot, wanted: Sequence[FileEntry]) -> None:
    """Refuse before anything is written when bytes are missing."""
    lost = set(packs.missing(project.layout, [entry.hash for entry in wanted]))
    gone = [entry for entry in wanted if entry.hash in lost]
    if gone and snapshot.kept == "reference":
        raise DataError(
            f"{snapshot.source} {snapshot.short} was kept by reference: the bytes of {_some([entry.path for entry in gone])} "
            "are not stored",
            hint=f"fetch them from where they came; {data.fully(project, snapshot.source)} keeps bytes from now on",
        )
    if gone:
        raise IntegrityError(
            f"the stored content of {gone[0].path} is missing, {needed_by(project, gone[0].hash)}",
            hint="run `mlops doctor`, or `mlops pull` it from where it is kept",
        )


def _damaged(project: Project, entry: FileEntry, error: IntegrityError) -> IntegrityError:
    return IntegrityError(f"{entry.path}: {error.message}, {needed_by(project, entry.hash)}", hint=error.hint)


def _keep(project: Project, snapshot: Snapshot, source: Source | None, over: Sequence[str]) -> Snapshot:
    """Snapshot what is about to be written over.

    The whole source where it can be read as one; else (a damaged file, a source that is declared no more) those files alone.
    """
    if source is not None:
        try:
            taken = data.snapshot(project, replace(source, store="full"))
            if set(over) <= {entry.path for entry in taken.files}:
                return taken
        except DataError:
            pass
    return data.keep_files(project, snapshot.source, over)


def _beside(project: Project, snapshot: Snapshot, source: Source | None) -> tuple[str, ...]:
    if source is None:
        return ()
    known = {entry.path for entry in snapshot.files}
    try:
        return tuple(path for path in files.find(project.root, source.pattern, source=source.name) if path not in known)
    except DataError:
        return ()


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
