"""What comes from a shelf into this store: choose it, check every byte of it, and only then let it count.

Contents come first, then results and journals, then decisions: a pull that was killed at any moment leaves nothing half known,
and the next one goes on. Nothing that is pulled is run or unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mlops_local.domain import events
from mlops_local.domain.assets import ModelVersion
from mlops_local.domain.errors import Conflict, IntegrityError, UsageError
from mlops_local.services import judging
from mlops_local.services.project import Project
from mlops_local.services.transfer import Meter
from mlops_local.store import (
    adoption,
    cache,
    contents,
    history,
    holdings,
    layout,
    ledger,
    objects,
    parcel,
    projection,
    registry,
)
from mlops_local.store.contents import Piece
from mlops_local.store.holdings import Named, Wanted
from mlops_local.store.lockfile import LockFile
from mlops_local.store.parcel import JournalNote, Parcel
from mlops_local.store.shelf import BOX, Shelf

_HELD = 4
"""Boxes that are kept in memory for the next piece."""


@dataclass
class Incoming:
    """What is to come into this store."""

    named: Named
    journals: Mapping[str, JournalNote] = field(default_factory=dict)
    decisions: Sequence[Mapping[str, object]] = ()
    versions: Sequence[ModelVersion] = ()


class Arrivals:
    """The contents on a shelf, each checked as it is read."""

    def __init__(self, shelf: Shelf, held: Parcel) -> None:
        self._shelf = shelf
        self._held = held
        self._at = {
            frame.chunk: (box, start, frame.length)
            for box, frames in held.boxes.items()
            for start, frame in zip(_starts([frame.length for frame in frames]), frames, strict=True)
        }
        self._boxes: dict[str, bytes] = {}

    def pieces(self, hash: str, what: str, meter: Meter | None = None) -> Iterator[Piece]:
        """Yield a content's pieces. Raises IntegrityError, which says what it was, when one is missing or altered."""
        content = self._held.contents.get(hash)
        if content is None:
            raise IntegrityError(f"{what} was never pushed", hint="push it again from a store that has it")
        for chunk in content.chunks:
            place = self._at.get(chunk)
            if place is None:
                raise IntegrityError(f"a piece of {what} was never pushed", hint="push it again from a store that has it")
            box, start, length = place
            try:
                frame = self._box(box)[start : start + length]
            except IntegrityError as error:
                raise IntegrityError(f"{error.message}; {what} needs it", hint=error.hint) from error
            size = content.bytes // len(content.chunks)
            if meter is not None:
                meter.add(size, what)
            yield Piece(chunk, frame, size)

    def whole(self, hash: str, what: str) -> bytes:
        """A content's bytes, for small ones."""
        return b"".join(contents.data_of(piece) for piece in self.pieces(hash, what))

    def _box(self, box: str) -> bytes:
        if box not in self._boxes:
            while len(self._boxes) >= _HELD:
                del self._boxes[next(iter(self._boxes))]
            self._boxes[box] = self._shelf.read(BOX.format(box))
        return self._boxes[box]


def held(shelf: Shelf) -> list[Parcel]:
    """Every parcel on a shelf. Raises IntegrityError: one was altered, and says which."""
    return [parcel.parse(shelf.read(member), shelf.where(member)) for member in shelf.pushes()]


def choose(
    project: Project, arrivals: Arrivals, together: Parcel, versions: Sequence[tuple[str, str]], wanted: Wanted
) -> Incoming:
    """Gather what these versions, runs and snapshots consist of.

    Args:
        project: the project.
        arrivals: the shelf.
        together: what is on it.
        versions: (store, id there) of the versions wanted.
        wanted: further runs and snapshots, or everything.

    Raises:
        IntegrityError: a journal or decision was altered.
    """
    every = adoption.versions(together.decisions)
    chosen = {key: every[key] for key in (every if wanted.everything else versions)}
    wanted = Wanted(
        wanted.everything,
        wanted.runs | {version.run for version in chosen.values() if version.run},
        wanted.snapshots | {snapshot for version in chosen.values() for snapshot in version.snapshots.values()},
        registry.removed(ledger.read(project.layout)),
    )
    journals = {name: note for name, note in sorted(together.journals.items()) if wanted.takes(note)}
    named = Named()
    for version in chosen.values():
        files = {**version.bundle, **({"predictions": version.predictions} if version.predictions else {})}
        for name, hash in files.items():
            named.add(hash, f"{name} of {version.id}")
    for name, note in journals.items():
        if ".metric." not in name:
            holdings.collect(named, arrivals.whole(note.hash, _history(note)), wanted, together.contents)
    decisions = [line for line in together.decisions if wanted.everything or _about(line, chosen)]
    return Incoming(named, journals, decisions, list(chosen.values()))


def missing(project: Project, found: Incoming) -> dict[str, str]:
    """The contents that are not here yet, with what they are."""
    named = found.named
    there = {hash: contents.has if hash in named.data else objects.renew for hash in named.objects}
    return {hash: what for hash, what in named.objects.items() if not there[hash](project.layout, hash)}


def receive(project: Project, found: Incoming, arrivals: Arrivals, lock: LockFile, meter: Meter) -> adoption.Adopted:
    """Take it all in. Returns what was decided for it here.

    Raises:
        IntegrityError: something was altered; what came before stays, unused.
    """
    fresh = missing(project, found)
    arriving = {hash: arrivals.pieces(hash, what, meter) for hash, what in fresh.items()}
    for hash in fresh.keys() - found.named.data:
        contents.keep(project.layout, hash, arriving[hash])
    data = {hash: arriving[hash] for hash in fresh if hash in found.named.data}
    if data:
        contents.keep_data(project.layout, data, wait_s=project.store.wait_s)
    _remember(project, found.named, lock)
    here = holdings.known(project.layout)
    lacking = _lacking(project, [note for name, note in found.journals.items() if name in here])
    for name, note in found.journals.items():
        if name not in here:
            holdings.place(project.layout, name, arrivals.whole(note.hash, _history(note)))
        elif lacking.intersection(note.runs):
            holdings.extend(project.store, name, arrivals.whole(note.hash, _history(note)), lacking)
    holdings.settle(project.layout)
    return _decide(project, found, lock)


def _lacking(project: Project, notes: Sequence[JournalNote]) -> set[str]:
    """The runs of journals that are here, but without them: removed when those came, and taken back since."""
    named = {run for note in notes for run in note.runs}
    if not named:
        return named
    projection.fold(project.store)
    with project.store.reader() as db:
        return named - history.known_runs(db, named)


def _decide(project: Project, found: Incoming, lock: LockFile) -> adoption.Adopted:
    for _ in range(5):
        made = adoption.adopt(registry.load(project.layout), found.decisions, lock.models)
        try:
            if made.entries:
                judging.write(project, made.entries)
        except Conflict:
            continue  # somebody decided meanwhile: look again
        return made
    raise Conflict("others decided five times while this was pulled", hint="run the command again")


def _remember(project: Project, named: Named, lock: LockFile) -> None:
    """What step results and snapshots the next plan goes by; what is known here stays."""
    for result in named.results.values():
        if cache.step_result(project.layout, result.fingerprint) is None:
            cache.record(project.layout, result)
    named_by_lock = {name: entry.snapshot for name, entry in lock.sources.items()}
    for _, snapshot in sorted(named.snapshots.values(), key=lambda item: item[0]):
        now = cache.snapshot(project.layout, snapshot.source)
        if named_by_lock.get(snapshot.source, "" if now is None else now.id) in ("", snapshot.id):
            cache.save_snapshot(project.layout, snapshot)


def adopt_identity(project: Project, parcels: Sequence[Parcel]) -> None:
    """A store in which nothing happened yet becomes the same project: the same seeds, so the same results."""
    nothing = not ledger.read(project.layout) and not holdings.known(project.layout)
    if nothing and parcels and parcels[0].project != layout.project_id(project.layout):
        layout.take_identity(project.layout, parcels[0].project)


def same_project(project: Project, parcels: Sequence[Parcel], where: str) -> None:
    """Raises UsageError: what is on the shelf is of another project."""
    own = layout.project_id(project.layout)
    if parcels and not any(item.project == own or item.name == project.config.name for item in parcels):
        raise UsageError(
            f"{where} holds the project {parcels[0].name!r}, this is {project.config.name!r}",
            hint="give each project a folder of its own",
        )


def _history(note: JournalNote) -> str:
    runs = [run[16:24] for run in note.runs]
    return f"the history of run {', '.join(runs[:3])}" if runs else "the history of the data"


def _about(line: Mapping[str, object], chosen: Mapping[tuple[str, str], ModelVersion]) -> bool:
    subject = line["value"] if line["kind"] == events.ALIAS else line["subject"]
    return (line["store"], subject) in chosen


def _starts(lengths: Sequence[int]) -> Iterator[int]:
    start = 0
    for length in lengths:
        yield start
        start += length
