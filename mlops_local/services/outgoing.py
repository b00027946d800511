"""What goes from this store to a shelf: choose it, then send it in boxes. What is on the shelf already is not sent again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import blake3

from mlops_local.domain import events
from mlops_local.domain.assets import ModelVersion
from mlops_local.domain.errors import IntegrityError
from mlops_local.services.project import Project
from mlops_local.services.transfer import Meter
from mlops_local.store import adoption, contents, holdings, layout, parcel, registry
from mlops_local.store.contents import Piece
from mlops_local.store.holdings import Named, Wanted
from mlops_local.store.ledger import Line
from mlops_local.store.parcel import Content, Frame, JournalNote, Parcel
from mlops_local.store.registry import Registry
from mlops_local.store.shelf import BOX, PUSH, Shelf

BOX_BYTES = 16 << 20
"""A box this large is closed: what a push that was killed sends again is at most this."""


@dataclass
class Outgoing:
    """What is to be on the shelf."""

    named: Named
    journals: dict[str, JournalNote] = field(default_factory=dict)
    decisions: Sequence[Line] = ()
    versions: Sequence[ModelVersion] = ()
    notes: list[str] = field(default_factory=list)
    """What cannot go along, and why."""
    wanted: Wanted = holdings.EVERYTHING

    def bytes(self, project: Project, known: Collection[str]) -> int:
        """How much of the objects is not on the shelf yet."""
        return sum(contents.size(project.layout, hash) for hash in self.named.objects if hash not in known)


def choose(project: Project, versions: Sequence[ModelVersion], wanted: Wanted) -> Outgoing:
    """Gather what these versions, runs and snapshots consist of.

    Args:
        project: the project, its journals folded.
        versions: with all that they were made from.
        wanted: further runs and snapshots, or everything.

    Raises:
        IntegrityError: a file of a version is missing or a journal is damaged.
    """
    state = registry.load(project.layout)
    wanted = Wanted(
        wanted.everything,
        wanted.runs | {version.run for version in versions if version.run},
        wanted.snapshots | {snapshot for version in versions for snapshot in version.snapshots.values()},
        registry.removed(state.lines),
    )
    there = contents.every(project.layout)
    out = Outgoing(
        Named(), decisions=_decisions(state, versions, everything=wanted.everything), versions=versions, wanted=wanted
    )
    for version in versions:
        _of_version(out.named, version, there)
    for name, data in holdings.journals(project.layout, wanted):
        note = holdings.note(name, data)
        if wanted.takes(note):
            out.journals[name] = note
            if ".metric." not in name:
                holdings.collect(out.named, data, wanted, there)
    out.notes += _left(out, wanted, there)
    return out


def send(project: Project, out: Outgoing, shelf: Shelf, known: Parcel, meter: Meter) -> Parcel:
    """Put on the shelf what is not there yet, the parcel that names it last.

    Args:
        project: the project.
        out: what is to be there.
        shelf: where.
        known: what is there, all of it in place.
        meter: told how far it is.

    Returns:
        What was added; nothing was written when it is empty.
    """
    boxes = _Boxes(shelf, {frame.chunk for frames in known.boxes.values() for frame in frames})
    sent: dict[str, Content] = {}

    def add(hash: str, arriving: Iterable[Piece], what: str) -> None:
        if hash in known.contents or hash in sent:
            return
        size = 0
        chunks = []
        for piece in arriving:
            boxes.add(piece)
            chunks.append(piece.chunk)
            size += piece.size
            meter.add(piece.size, what)
        sent[hash] = Content(size, tuple(chunks))

    for hash, what in out.named.objects.items():
        add(hash, contents.pieces(project.layout, hash), what)
    journals = parcel.fresh(out.journals, known.journals)
    for name, data in holdings.journals(project.layout, out.wanted):
        if name in journals:
            add(journals[name].hash, contents.of_bytes(data), "what runs did")
    boxes.close()
    there = {line["hash"] for line in known.decisions}
    made = Parcel(
        layout.store_id(project.layout),
        layout.project_id(project.layout),
        project.config.name,
        journals,
        [asdict(line) for line in out.decisions if line.hash not in there],
        sent,
        boxes.written,
    )
    if made.journals or made.decisions or made.contents:
        data = parcel.render(made)
        shelf.write(PUSH.format(blake3.blake3(data).hexdigest()), data)
    return made


class _Boxes:
    """Fills boxes with pieces that are in none yet."""

    def __init__(self, shelf: Shelf, known: set[str]) -> None:
        self._shelf = shelf
        self._known = known
        self._open = bytearray()
        self._frames: list[Frame] = []
        self.written: dict[str, Sequence[Frame]] = {}

    def add(self, piece: Piece) -> None:
        """Put a piece in, unless it is in a box already."""
        if piece.chunk in self._known:
            return
        self._known.add(piece.chunk)
        self._open += piece.frame
        self._frames.append(Frame(piece.chunk, len(piece.frame)))
        if len(self._open) >= BOX_BYTES:
            self.close()

    def close(self) -> None:
        """Write the box that is open. One that a push before wrote and did not come to name is there already."""
        if not self._frames:
            return
        data = bytes(self._open)
        box = blake3.blake3(data).hexdigest()
        if not self._shelf.has(BOX.format(box)):
            self._shelf.write(BOX.format(box), data)
        self.written[box] = tuple(self._frames)
        self._open.clear()
        self._frames = []


def _of_version(named: Named, version: ModelVersion, there: Collection[str]) -> None:
    files: Mapping[str, str] = {**version.bundle, **({"predictions": version.predictions} if version.predictions else {})}
    for name, hash in files.items():
        if hash not in there:
            raise IntegrityError(
                f"{version.id} cannot go along: its {name} is missing", hint="run `mlops doctor`; or leave it out"
            )
        named.add(hash, f"{name} of {version.id}")


def _decisions(state: Registry, versions: Sequence[ModelVersion], *, everything: bool) -> list[Line]:
    """What was decided about these versions; an alias only where it is one of theirs now."""
    ids = {version.id for version in versions}
    gone = {line.subject for line in state.lines if line.kind == events.DELETION} - set(state.versions)
    aliases = {name for name, version in state.aliases.items() if version in ids}
    found = []
    for line in state.lines:
        about = line.subject in ids if not everything else line.subject not in gone
        if line.kind not in adoption.KINDS:
            continue
        if line.kind == events.ALIAS:
            about = line.subject in aliases and line.value == state.aliases[line.subject]
        if about:
            found.append(line)
    return found


def _left(out: Outgoing, wanted: Wanted, there: Collection[str]) -> list[str]:
    """What is wanted and not there to go along, in words."""
    notes = []
    for identity in sorted(wanted.snapshots - out.named.snapshots.keys()):
        notes.append(f"snapshot {identity[:8]} is not known here")
    for _, snapshot in out.named.snapshots.values():
        missing = sum(entry.hash not in there for entry in snapshot.files)
        if missing:
            kept = f"{missing} of its {len(snapshot.files)} files are not in the store (kept by reference, or lost)"
            notes.append(f"{snapshot.source} {snapshot.short}: {kept}; bring them along yourself")
    for run in sorted(wanted.runs - {run for note in out.journals.values() for run in note.runs}):
        notes.append(f"run {run[16:24]} is not known here, or still works")
    if out.named.pickled:
        notes.append(
            f"{len(out.named.pickled)} step outputs are pickles, which only this store loads: they are made again elsewhere"
        )
    return notes
