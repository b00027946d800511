"""Push and pull: a project's data, champion, verdict and history by way of a plain folder. Pack and unpack: by way of one file.

By default what mlops.lock names moves, so that a clone of the commit has the same champion and verdict; with `everything`, all
of the store. The folder is added to only, by any number of people at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlops_local.domain.assets import ModelVersion
from mlops_local.domain.errors import DataError, MlopsError, UsageError
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.services import incoming, outgoing, references, restoring, scripted
from mlops_local.services.incoming import Arrivals, Incoming
from mlops_local.services.outgoing import Outgoing
from mlops_local.services.project import Project
from mlops_local.services.transfer import Meter
from mlops_local.store import adoption, holdings, lockfile, parcel, projection, registry
from mlops_local.store.holdings import Named, Wanted
from mlops_local.store.lockfile import LockFile
from mlops_local.store.parcel import Content, Parcel
from mlops_local.store.shelf import BOX, Archive, Folder, Shelf


@dataclass(frozen=True)
class Moved:
    """What a push or pull moved, or would move."""

    place: str
    dry_run: bool
    versions: tuple[str, ...] = ()
    """Ids as they are here."""
    snapshots: tuple[str, ...] = ()
    """`flights 3f2a90c1`."""
    runs: tuple[str, ...] = ()
    journals: int = 0
    """Files of what runs did that were not there yet."""
    contents: int = 0
    """Objects that were not there yet."""
    bytes: int = 0
    there: int = 0
    """Objects that were there already."""
    champions: tuple[str, ...] = ()
    """Versions that a pull made champion."""
    files: tuple[str, ...] = ()
    """Data files that a pull put into the working tree."""
    notes: tuple[str, ...] = ()
    """What did not come along, and why."""


@dataclass(frozen=True)
class Listing:
    """What an archive holds."""

    project: str
    versions: tuple[ModelVersion, ...] = ()
    snapshots: tuple[tuple[str, str, int, int], ...] = ()
    """Source, id, files, bytes."""
    runs: tuple[tuple[str, str], ...] = ()
    """Id and name."""
    contents: int = 0
    bytes: int = 0


def push(project: Project, folder: Path, *, everything: bool = False, dry_run: bool = False, emit: Emit = ignore) -> Moved:
    """Add to a folder what mlops.lock names, or everything; what is there is not sent again.

    Args:
        project: the project.
        folder: made where it is missing; any number of people may push to it at once.
        everything: all runs, versions and snapshots.
        dry_run: only say what would be sent.
        emit: told how far it is.

    Raises:
        UsageError: the folder holds something else, or another project; nothing says what to push.
        IntegrityError: a file of the champion is missing here.
        MlopsError: the folder cannot be written, or is full: what arrived stays, and the next push goes on.
    """
    versions, wanted = _named(project, everything=everything)
    shelf = Folder.fit(folder) if dry_run else Folder.begin(folder)
    parcels = incoming.held(shelf)
    incoming.same_project(project, parcels, str(folder))
    return _send(
        project,
        outgoing.choose(project, versions, wanted),
        shelf,
        _in_place(shelf, parcels),
        str(folder),
        dry_run=dry_run,
        emit=emit,
    )


def pull(
    project: Project,
    folder: Path,
    *,
    everything: bool = False,
    data: bool = False,
    dry_run: bool = False,
    emit: Emit = ignore,
) -> Moved:
    """Take from a folder what mlops.lock names, or everything. Every byte is checked; nothing is run.

    Args:
        project: the project.
        folder: was pushed to.
        everything: all runs, versions and snapshots there are.
        data: also put the snapshots' files where they are missing in the working tree; one that differs is never overwritten.
        dry_run: only say what would come.
        emit: told how far it is.

    Raises:
        UsageError: it is no such folder, or of another project; with `data`, files that differ.
        IntegrityError: something there was altered; it is named, and nothing of it counts.
        MlopsError: after all else was pulled: what mlops.lock names is not there.
    """
    lock = lockfile.read(project.layout.lockfile)
    return _receive(project, Folder.find(folder), lock, everything=everything, data=data, dry_run=dry_run, emit=emit)


def pack(
    project: Project,
    file: Path,
    refs: Sequence[str] = (),
    *,
    everything: bool = False,
    emit: Emit = ignore,
) -> Moved:
    """Write runs and versions, what mlops.lock names, or everything into one new file.

    Args:
        project: the project.
        file: is made.
        refs: runs and versions; what mlops.lock names when there are none.
        everything: all runs, versions and snapshots.
        emit: told how far it is.

    Raises:
        UsageError: a reference names nothing, or there is a file of that name.
    """
    versions, wanted = _referenced(project, refs) if refs else _named(project, everything=everything)
    with Archive.make(file) as shelf:
        return _send(
            project, outgoing.choose(project, versions, wanted), shelf, Parcel("", "", ""), str(file), dry_run=False, emit=emit
        )


def unpack(project: Project, file: Path, *, data: bool = False, dry_run: bool = False, emit: Emit = ignore) -> Moved:
    """Take in all that an archive holds. Raises as `pull`."""
    lock = lockfile.read(project.layout.lockfile)
    with Archive.open(file) as shelf:
        return _receive(project, shelf, lock, everything=True, data=data, dry_run=dry_run, emit=emit)


def listing(file: Path) -> Listing:
    """Say what an archive holds; needs no project. Raises as `unpack`."""
    with Archive.open(file) as shelf:
        parcels = incoming.held(shelf)
        together = parcel.together(parcels)
        arrivals, named = Arrivals(shelf, together), Named()
        for name, note in sorted(together.journals.items()):
            if ".metric." not in name:
                holdings.collect(named, arrivals.whole(note.hash, name), holdings.EVERYTHING, together.contents)
    journals = {note.hash for note in together.journals.values()}
    objects = {hash: content.bytes for hash, content in together.contents.items() if hash not in journals}
    return Listing(
        parcels[0].name if parcels else "",
        tuple(adoption.versions(together.decisions).values()),
        tuple((s.source, s.id, len(s.files), s.bytes) for _, s in named.snapshots.values()),
        tuple(named.runs.items()),
        len(objects),
        sum(objects.values()),
    )


# -- what


def _named(project: Project, *, everything: bool) -> tuple[list[ModelVersion], Wanted]:
    """What mlops.lock names, of what is here. Raises UsageError when it names nothing, or a champion that is not here."""
    scripted.adopt(project)
    projection.fold(project.store)
    state = registry.load(project.layout)
    if everything:
        return list(state.versions.values()), holdings.EVERYTHING
    lock = _lock(project, "push")
    versions = []
    for model, entry in lock.models.items():
        found = [version for version in state.of(model) if adoption.matches(version, entry)]
        if not found:
            raise UsageError(
                f"mlops.lock names {entry.champion}, which this store does not hold",
                hint="pull it first, or `mlops train` to have a champion of your own; --all goes by the store alone",
            )
        versions.append(found[0])
    return versions, Wanted(snapshots=frozenset(entry.snapshot for entry in lock.sources.values()))


def _lock(project: Project, verb: str) -> LockFile:
    lock = lockfile.read(project.layout.lockfile)
    if not lock.sources and not lock.models:
        raise UsageError(
            f"nothing says what to {verb}: there is no mlops.lock here, or it is empty",
            hint=f"`mlops train` writes it; with --all everything is {verb}ed",
        )
    return lock


def _referenced(project: Project, refs: Sequence[str]) -> tuple[list[ModelVersion], Wanted]:
    scripted.adopt(project)
    projection.fold(project.store)
    state = registry.load(project.layout)
    found = [references.find(project, ref, ("run", "version")) for ref in refs]
    ids = {item.id for item in found if item.kind == "version"}
    return [state.versions[id] for id in sorted(ids)], Wanted(runs=frozenset(item.id for item in found if item.kind == "run"))


def _in_place(shelf: Shelf, parcels: Sequence[Parcel]) -> Parcel:
    """What is on a shelf and whole: a box that somebody removed, and what was in it, is sent again."""
    known = parcel.together(parcels)
    boxes = {box: frames for box, frames in known.boxes.items() if shelf.has(BOX.format(box))}
    chunks = {frame.chunk for frames in boxes.values() for frame in frames}
    contents: dict[str, Content] = {hash: item for hash, item in known.contents.items() if chunks.issuperset(item.chunks)}
    journals = {name: note for name, note in known.journals.items() if note.hash in contents}
    return Parcel("", "", "", journals, known.decisions, contents, boxes)


# -- how


def _send(project: Project, out: Outgoing, shelf: Shelf, known: Parcel, place: str, *, dry_run: bool, emit: Emit) -> Moved:
    total = out.bytes(project, known.contents)
    fresh = [hash for hash in out.named.objects if hash not in known.contents]
    if not dry_run:
        outgoing.send(project, out, shelf, known, Meter("pushed", total, emit))
    for text in out.notes:
        emit(Progress("note", text))
    return Moved(
        place,
        dry_run,
        tuple(version.id for version in out.versions),
        _snapshots(out.named),
        tuple(out.named.runs),
        len(parcel.fresh(out.journals, known.journals)),
        len(fresh),
        total,
        len(out.named.objects) - len(fresh),
        notes=tuple(out.notes),
    )


def _receive(
    project: Project, shelf: Shelf, lock: LockFile, *, everything: bool, data: bool, dry_run: bool, emit: Emit
) -> Moved:
    place = str(getattr(shelf, "root", getattr(shelf, "path", "")))
    parcels = incoming.held(shelf)
    incoming.same_project(project, parcels, place)
    together = parcel.together(parcels)
    arrivals = Arrivals(shelf, together)
    if not everything:
        _lock(project, "pull")
    versions, absent = _wanted(project, together, lock)
    snapshots = frozenset(entry.snapshot for entry in lock.sources.values())
    found = incoming.choose(project, arrivals, together, versions, Wanted(everything, snapshots=snapshots))
    fresh = incoming.missing(project, found)
    total = sum(together.contents[hash].bytes for hash in fresh if hash in together.contents)
    journals = len(found.journals.keys() - holdings.known(project.layout))
    new: Sequence[str] = [version.id for version in found.versions]
    champions: list[str] = []
    if not dry_run:
        incoming.adopt_identity(project, parcels)
        made = incoming.receive(project, found, arrivals, lock, Meter("pulled", total, emit))
        projection.fold(project.store)
        new = sorted(set(made.versions.values()))
        champions = [
            str(entry.value) for entry in made.entries if entry.kind == "alias" and entry.subject.endswith("@champion")
        ]
    files = _working_files(project, lock, emit) if data and lock.sources and not dry_run else []
    notes = _unloadable(found)
    for text in notes:
        emit(Progress("note", text))
    if absent and not everything:
        raise MlopsError(
            f"{place} does not hold {', '.join(absent)}, which mlops.lock names", hint="whoever trained it pushes it there"
        )
    return Moved(
        place,
        dry_run,
        tuple(new),
        _snapshots(found.named),
        tuple(found.named.runs),
        journals,
        len(fresh),
        total,
        len(found.named.objects) - len(fresh),
        tuple(champions),
        tuple(files),
        tuple(notes),
    )


def _wanted(project: Project, together: Parcel, lock: LockFile) -> tuple[list[tuple[str, str]], list[str]]:
    """The versions on a shelf that mlops.lock names, and the champions that are neither there nor here."""
    there = adoption.versions(together.decisions)
    here = registry.load(project.layout).versions.values()
    versions: list[tuple[str, str]] = []
    absent = []
    for entry in lock.models.values():
        found = [key for key, version in there.items() if adoption.matches(version, entry)]
        versions += found
        if not found and not any(adoption.matches(version, entry) for version in here):
            absent.append(entry.champion)
    return versions, absent


def _working_files(project: Project, lock: LockFile, emit: Emit) -> list[str]:
    """Put back the files of the snapshots that mlops.lock names, where they are missing."""
    done: list[restoring.Restored] = []
    for snapshot in restoring.named(project, list(lock.sources), locked=True):
        try:
            done.append(restoring.restore(project, snapshot, None))
        except DataError as error:
            emit(Progress("warning", f"{error.message}"))
    if (failure := restoring.failure(done)) is not None:
        raise failure
    return [path for item in done for path in item.written]


def _snapshots(named: Named) -> tuple[str, ...]:
    return tuple(sorted(f"{snapshot.source} {snapshot.short}" for _, snapshot in named.snapshots.values()))


def _unloadable(found: Incoming) -> list[str]:
    count = len(found.named.pickled)
    if not count:
        return []
    what = "1 step output is a pickle" if count == 1 else f"{count} step outputs are pickles"
    return [f"{what} of another store, which none but that one loads: made again here when needed"]
