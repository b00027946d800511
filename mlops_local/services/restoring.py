"""Give a snapshot's files back, byte by byte.

A file that is neither that nor what the newest snapshot has is never written over without `force`, and then what it holds is
kept first, as a snapshot of its own. Files of the source that the snapshot does not have are left alone. A file whose stored
content is damaged or gone stops none of the others: it is named when they are written.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from mlops_local.domain.assets import FileEntry, Snapshot
from mlops_local.domain.errors import DataError, IntegrityError, MlopsError, UsageError
from mlops_local.domain.graph import Source
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.engines.data import files
from mlops_local.services import data, references
from mlops_local.services.project import Project
from mlops_local.store import cache, history, lockfile, packs
from mlops_local.store import files as storing

_LISTED = 5
_TOLD = 20
"""Problems told in a line each before the rest is only counted."""


@dataclass(frozen=True)
class Failed:
    """What could not be given back."""

    path: str
    """The file; empty for a whole snapshot."""
    why: str
    """In a line, with the file's name and the snapshots that need its content."""
    hint: str = ""
    exit_code: int = IntegrityError.exit_code


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
    failed: tuple[Failed, ...] = ()
    """What could not be given back; its places are as they were."""

    @property
    def refused(self) -> bool:
        """Whether nothing of it was looked at."""
        return any(not item.path for item in self.failed)


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


def restore_all(
    project: Project,
    snapshots: Iterable[Snapshot],
    declared: Mapping[str, Source],
    *,
    to: Path | None = None,
    force: bool = False,
    emit: Emit = ignore,
) -> list[Restored]:
    """As `restore`, one after another: a snapshot that is refused is one that failed, and stops none of the others.

    Args:
        project: the project.
        snapshots: which.
        declared: sources by name.
        to: as for `restore`.
        force: as for `restore`.
        emit: as for `restore`.
    """
    done: list[Restored] = []
    for item in snapshots:
        try:
            done.append(restore(project, item, declared.get(item.source), to=to, force=force, emit=emit))
        except (UsageError, IntegrityError) as error:
            done.append(Restored(item.source, item.id, (), 0, failed=(_failed("", error),)))
    return done


def failure(done: Iterable[Restored]) -> MlopsError | None:
    """Return the one error that names all that could not be given back; None when everything was."""
    failed = [item for restored in done for item in restored.failed]
    if not failed:
        return None
    worst = max(failed, key=lambda item: item.exit_code)
    kind = IntegrityError if worst.exit_code == IntegrityError.exit_code else UsageError
    if len(failed) == 1:
        return kind(worst.why, hint=worst.hint)
    more = [f"and {len(failed) - _TOLD:,} more: --json lists them"] if len(failed) > _TOLD else []
    message = f"{len(failed):,} could not be given back:"
    return kind(message, hint=worst.hint, problems=[message, *(item.why for item in failed[:_TOLD]), *more])


def restore(
    project: Project,
    snapshot: Snapshot,
    source: Source | None,
    *,
    to: Path | None = None,
    force: bool = False,
    emit: Emit = ignore,
) -> Restored:
    """Write the files of a snapshot: all that can be given back. The others are in what is returned, and `failure` makes an
    error of them.

    Args:
        project: the project.
        snapshot: which.
        source: the declaration of its source, if there is one.
        to: a folder to write to; the files' own places when None.
        force: write over files in their own places that changed since the newest snapshot, which are snapshotted first.
        emit: told what is being done.

    Raises:
        UsageError: files would be written over.
        DataError: bytes are not stored (a source by reference).
        IntegrityError: a path leads out of the folder.
    """
    root = project.root if to is None else to
    places = {entry.path: root / inside(entry.path) for entry in snapshot.files}
    wanted = [entry for entry in snapshot.files if not _has(places[entry.path], entry)]
    failed = _gone(project, snapshot, wanted)
    lost = {item.path for item in failed}
    wanted = [entry for entry in wanted if entry.path not in lost]
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
    same = len(snapshot.files) - len(wanted) - len(failed)
    written, unwritten = _write_all(project, wanted, places, held)
    failed += unwritten
    beside = _beside(project, snapshot, source) if to is None else ()
    newest = cache.snapshot(project.layout, snapshot.source)
    other = not beside and (newest is None or newest.id != snapshot.id)
    if to is None and (written or other) and not failed:  # the source's newest is what its files are now
        snapshot = replace(snapshot, private=data.private(project, (), snapshot.source))
        data.journal(project, snapshot)
        if not beside:
            cache.save_snapshot(project.layout, snapshot)
    kept_as = kept.id if kept is not None else ""
    return Restored(snapshot.source, snapshot.id, tuple(written), same, kept_as, beside, tuple(failed))


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


def _write_all(
    project: Project, wanted: Sequence[FileEntry], places: Mapping[str, Path], held: Mapping[str, str]
) -> tuple[list[str], list[Failed]]:
    """Write what can be written, and say which files were and which were not."""
    written: list[str] = []
    errors: list[tuple[FileEntry, MlopsError]] = []
    for entry in wanted:
        try:
            _write(project, entry, places[entry.path], held.get(entry.path, ""))
            written.append(entry.path)
        except (UsageError, IntegrityError) as error:
            errors.append((entry, error))
            if storing.full(error):  # nor would the next one fit
                break
    needed = needed_by(project, [entry.hash for entry, error in errors if isinstance(error, IntegrityError)])
    return written, [
        _failed(entry.path, error, f"{entry.path}: {error.message}, {needed[entry.hash]}")
        if isinstance(error, IntegrityError)
        else _failed(entry.path, error)
        for entry, error in errors
    ]


def _failed(path: str, error: MlopsError, why: str = "") -> Failed:
    return Failed(path, why or error.message, error.hint, error.exit_code)


def _write(project: Project, entry: FileEntry, place: Path, kept: str) -> None:
    """Write one file beside its place, then put it there: nothing is lost that came there since it was looked at.

    Args:
        project: the project.
        entry: what to write.
        place: where.
        kept: the hash of what is there, which is kept; empty where nothing was.
    """
    made = [folder for folder in place.parents if not folder.exists()]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot make {place.parent}: {error.strerror}", hint="move what is in the way, or --to DIR writes elsewhere"
        ) from error
    try:
        packs.restore(project.layout, entry.hash, place, put=partial(_swap, kept=kept) if kept else _put)
    except BaseException:
        for folder in made:
            with suppress(OSError):  # something came there meanwhile
                folder.rmdir()
        raise


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
    lost = f", {len(done.failed):,} could not be given back" if done.failed else ""
    return f"{done.source} {done.snapshot[:8]}: {count:,} file{'' if count == 1 else 's'} written{where}{same}{lost}"


def _what(place: Path) -> str:
    return (
        "a link to nothing"
        if place.is_symlink() and not place.exists()
        else "a folder"
        if place.is_dir()
        else "a device or pipe"
    )


def needed_by(project: Project, hashes: Sequence[str]) -> dict[str, str]:
    """Say in words which snapshots need each of the contents."""
    if not hashes:
        return {}
    with project.store.reader() as db:
        found = history.snapshots_of_files(db, hashes)
    named = {hash: [f"{source} {id[:8]}" for source, id in snapshots] for hash, snapshots in found.items()}
    return {hash: f"needed by {_some(named[hash])}" if hash in named else "no snapshot needs it" for hash in hashes}


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


def _gone(project: Project, snapshot: Snapshot, wanted: Sequence[FileEntry]) -> list[Failed]:
    """Say of which files no bytes are stored. Raises DataError where that is as it was meant."""
    lost = set(packs.missing(project.layout, [entry.hash for entry in wanted]))
    gone = [entry for entry in wanted if entry.hash in lost]
    if gone and snapshot.kept == "reference":
        raise DataError(
            f"{snapshot.source} {snapshot.short} was kept by reference: the bytes of {_some([entry.path for entry in gone])} "
            "are not stored",
            hint=f"fetch them from where they came; {data.fully(project, snapshot.source)} keeps bytes from now on",
        )
    needed = needed_by(project, sorted(lost))
    hint = "run `mlops doctor`, or `mlops pull` it from where it is kept"
    return [Failed(entry.path, f"the stored content of {entry.path} is missing, {needed[entry.hash]}", hint) for entry in gone]


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
