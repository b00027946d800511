"""What one push brought: the journals, decisions and objects it stands for. Pure: JSON in and out, nothing is read here.

A parcel is written when everything it names is in place, named by the hash of its bytes, and never changed. What a shelf holds
is what its parcels say together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlops_local.domain.errors import IntegrityError, NewerStore
from mlops_local.store import journal, ledger

FORMAT = 1
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class JournalNote:
    """One journal file."""

    hash: str
    """BLAKE3 of its bytes: its content's name."""
    runs: tuple[str, ...] = ()
    """The runs its lines are of."""
    snapshots: tuple[str, ...] = ()
    """Ids of the snapshots it describes."""

    def covers(self, other: JournalNote) -> bool:
        """Whether it has all that the other has: lines of a removed run do not travel, until it is taken back."""
        return set(self.runs) >= set(other.runs) and set(self.snapshots) >= set(other.snapshots)


@dataclass(frozen=True)
class Content:
    """An object or a journal's bytes, in pieces."""

    bytes: int
    chunks: tuple[str, ...]
    """BLAKE3 of each piece, in order."""


@dataclass(frozen=True)
class Frame:
    """One piece in a box, as a whole zstd frame."""

    chunk: str
    length: int
    """Of the frame, in bytes; the next one begins behind it."""


@dataclass(frozen=True)
class Parcel:
    """One push."""

    store: str
    """The store it came from."""
    project: str
    """That store's project id."""
    name: str
    """The project's name in mlops.toml."""
    journals: Mapping[str, JournalNote] = field(default_factory=dict)
    """File name -> what it holds."""
    decisions: Sequence[Mapping[str, Any]] = ()
    """Ledger lines as they stand there; together with others, each has its `store`."""
    contents: Mapping[str, Content] = field(default_factory=dict)
    """BLAKE3 of an object's or a journal's bytes -> its pieces; they are in this push's boxes or in those of one before."""
    boxes: Mapping[str, Sequence[Frame]] = field(default_factory=dict)
    """Box -> what is in it, in order."""


def render(parcel: Parcel) -> bytes:
    """The parcel as text: the same parcel always gives the same bytes."""
    value = {
        **vars(parcel),
        "format": FORMAT,
        "journals": {name: vars(note) for name, note in parcel.journals.items()},
        # A content of one piece has that piece's hash.
        "contents": {
            hash: [content.bytes, *([] if content.chunks == (hash,) else content.chunks)]
            for hash, content in parcel.contents.items()
        },
        "boxes": {box: [[frame.chunk, frame.length] for frame in frames] for box, frames in parcel.boxes.items()},
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def parse(data: bytes, where: str) -> Parcel:
    """A parcel back.

    Raises:
        IntegrityError: it is none, or says what none may: a name that leaves, a decision that was altered.
        NewerStore: a newer program wrote it.
    """
    try:
        value = json.loads(data)
        if value["format"] > FORMAT:
            raise NewerStore(
                f"{where} was written by a newer version of mlops", hint="upgrade with `pip install --upgrade mlops-local`"
            )
        return Parcel(
            str(value["store"]),
            str(value["project"]),
            str(value["name"]),
            {name: _note(name, note) for name, note in value["journals"].items()},
            [_decision(line) for line in value["decisions"]],
            {_hash(hash): _content(hash, *item) for hash, item in value["contents"].items()},
            {
                _hash(box): [Frame(_hash(chunk), int(length)) for chunk, length in frames]
                for box, frames in value["boxes"].items()
            },
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(
            f"{where} is not what `mlops push` wrote: {error}", hint="remove that file, and push again where it came from"
        ) from error


def together(parcels: Sequence[Parcel]) -> Parcel:
    """What several parcels hold; of a journal that came twice, the first counts that has all of it."""
    journals: dict[str, JournalNote] = {}
    contents: dict[str, Content] = {}
    boxes: dict[str, Sequence[Frame]] = {}
    lines: dict[tuple[str, str], Mapping[str, Any]] = {}
    for parcel in parcels:
        journals.update(fresh(parcel.journals, journals))
        contents.update(parcel.contents)
        boxes.update(parcel.boxes)
        lines.update({(parcel.store, line["hash"]): {**line, "store": parcel.store} for line in parcel.decisions})
    return Parcel("", "", "", journals, list(lines.values()), contents, boxes)


def fresh(journals: Mapping[str, JournalNote], known: Mapping[str, JournalNote]) -> dict[str, JournalNote]:
    """Those of the journals that say something that the known ones do not."""
    return {name: note for name, note in journals.items() if name not in known or not known[name].covers(note)}


def _content(hash: str, size: int, *chunks: str) -> Content:
    return Content(int(size), tuple(map(_hash, chunks)) or (hash,))


def _note(name: str, value: Mapping[str, Any]) -> JournalNote:
    if journal.NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no journal")
    runs, snapshots = value["runs"], value["snapshots"]
    return JournalNote(_hash(value["hash"]), tuple(map(str, runs)), tuple(map(str, snapshots)))


def _hash(text: Any) -> str:
    if not isinstance(text, str) or _HASH.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no hash")
    return text


def _decision(line: Mapping[str, Any]) -> Mapping[str, Any]:
    if not ledger.sound(line):
        raise ValueError(f"decision {line.get('seq')} about {line.get('subject')} was altered")
    return line
