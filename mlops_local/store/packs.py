"""Contents of snapshots' files: chunks kept once, whichever files and versions have them in common.

Files are asked for by the BLAKE3 of their bytes. Reading believes nothing: what comes out is hashed again, and bytes that are
not what was put in are an IntegrityError. `packing` puts files in, `sweeping` takes out what nobody needs, `packfiles` says
what all this is on disk.
"""

from __future__ import annotations

import operator
import os
import re
import secrets
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import blake3

from mlops_local.domain.errors import DataError, IntegrityError
from mlops_local.store import files, framing, objects, packfiles
from mlops_local.store.layout import Layout
from mlops_local.store.packfiles import Chunk, Kept, Stretch

if TYPE_CHECKING:
    from concurrent.futures import Future

Put = Callable[[memoryview, int], object]
"""`put(piece, at)`: do something with a piece of a file while it is there."""
_PLACE = re.compile(r" ([0-9a-f]+):(\d+):(\d+)", re.ASCII)
"""A stretch in a line."""
BATCH = 2 << 20
"""Content that one thread makes or unmakes at a time, in bytes: enough to be worth its while, little to hold."""


class Index:
    """What all packs together hold. A picture of one moment: files added since are not in it."""

    def __init__(self, layout: Layout, stamps: Sequence[tuple[str, int, int]]) -> None:
        self._layout = layout
        self.stamps = stamps
        self._sizes = {name[: -len(".pack")]: size for name, size, _ in stamps if name.endswith(".pack")}
        self._lines: dict[str, str] = {}
        self._homes: dict[str, str] = {}
        self._tables: dict[str, list[Chunk]] = {}
        self._sound = True
        for name in self._sizes:
            lines = packfiles.lines(layout, name)
            hashes = [line[:64] for line in lines]
            self._lines.update(zip(hashes, lines, strict=True))
            self._homes.update(dict.fromkeys(hashes, name))
            self._sound = self._sound and self._reaches("\n".join(lines))

    def _reaches(self, lines: str) -> bool:
        """Whether all stretches of these lines lie within packs that are there: then each file of theirs is."""
        places = _PLACE.findall(lines)
        return 2 * len(places) == lines.count(":") and all(
            int(at) + int(length) <= self._sizes.get(pack, -1) for pack, at, length in places
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    @property
    def packs(self) -> list[str]:
        """The packs there are."""
        return list(self._sizes)

    def pack_of(self, hash: str) -> str:
        """The pack whose listing names the file."""
        return self._homes[hash]

    def packs_of(self, hashes: Iterable[str]) -> set[str]:
        """The packs whose listings name the files."""
        return set(map(self._homes.__getitem__, hashes))

    @property
    def bytes(self) -> int:
        """What all frames take."""
        return sum(self._sizes.values())

    def named(self, hash: str) -> set[str]:
        """The packs that the file's line names, and the one it stands in. Raises IntegrityError when it is damaged."""
        return {self._homes[hash], *(stretch.pack for stretch in packfiles.parse(self._lines[hash]).stretches)}

    def get(self, hash: str) -> Kept | None:
        """Return where the file's frames are; None when it is not kept, or a pack of it is gone or cut short."""
        line = self._lines.get(hash)
        if line is None:
            return None
        kept = packfiles.parse(line)
        return kept if all(at.end <= self._sizes.get(at.pack, -1) for at in kept.stretches) else None

    def has(self, hash: str) -> bool:
        """Whether `get` finds the file; where its line is damaged, it does not."""
        try:
            return hash in self._lines and (self._sound or self.get(hash) is not None)
        except IntegrityError:
            return False

    def lacking(self, hashes: Iterable[str]) -> set[str]:
        """Those of the files that `get` does not find."""
        wanted = set(hashes)
        gone = wanted.difference(self._lines)
        return gone if self._sound else gone | {hash for hash in wanted - gone if not self.has(hash)}

    def chunks(self, name: str) -> list[Chunk]:
        """The recorded frames of a pack."""
        if name not in self._tables:
            self._tables[name] = packfiles.chunks(self._layout, name)
        return self._tables[name]

    def of(self, kept: Kept) -> Iterator[Chunk]:
        """The frames of a file, in order. Raises IntegrityError when their records are lost."""
        for stretch in kept.stretches:
            yield from packfiles.within(self.chunks(stretch.pack), stretch)


_newest: dict[Path, Index] = {}
_reading = threading.Lock()


def index(layout: Layout) -> Index:
    """Return what the packs hold now; read again only when one of their files changed."""
    with _reading:
        stamps = sorted(packfiles.stamps(layout))
        known = _newest.get(layout.packs)
        if known is None or known.stamps != stamps:
            known = _newest[layout.packs] = Index(layout, stamps)
        return known


def contains(layout: Layout, hash: str) -> bool:
    """Say whether the file's content is there (not whether it is whole: see `verify`)."""
    return index(layout).has(hash) or objects.exists(layout, hash)


def missing(layout: Layout, hashes: Iterable[str]) -> list[str]:
    """Return those of the files whose content is not there."""
    return [hash for hash in index(layout).lacking(hashes) if not objects.exists(layout, hash)]


def looks(layout: Layout) -> str:
    """What the packs look like from outside, in short: as long as that is the same, they hold what they held."""
    return blake3.blake3(repr(sorted(packfiles.stamps(layout))).encode()).hexdigest()


def every(layout: Layout) -> Iterator[str]:
    """Yield the hash of every file whose content is kept in packs, in no order."""
    yield from list(index(layout))


def size(layout: Layout, hash: str) -> int:
    """Return how many bytes keep the file's content, those it shares with others included. Raises IntegrityError."""
    return sum(at.length for at in _find(layout, hash).stretches)


def content(layout: Layout, hash: str) -> Iterator[bytes]:
    """Yield the file's bytes in pieces. The last one comes only after all of them proved to be what was put in.

    Raises:
        IntegrityError: it is not kept, or not as it was.
    """
    hasher = blake3.blake3()
    last = b""
    for piece in _pieces(layout, hash):
        hasher.update(piece)
        if last:
            yield last
        last = bytes(piece)
    _prove(hasher, hash)
    yield last


def _prove(hasher: blake3.blake3, hash: str) -> None:
    if hasher.hexdigest() != hash:
        raise IntegrityError(
            f"the stored content of file {hash[:12]} is not what was written", hint="run `mlops doctor --deep --fix`"
        )


def verify(layout: Layout, hash: str) -> bool:
    """Say whether the file's content is there with the bytes that were put in."""
    try:
        for _ in content(layout, hash):
            pass
    except IntegrityError:
        return False
    return True


def altered(layout: Layout, hashes: Iterable[str]) -> set[str]:
    """Return those of the files for which `verify` is False; small ones are read and proved many at a time."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  (as in `_pieces`)

    known = index(layout)
    alone: set[str] = set()
    small: dict[Chunk, list[str]] = {}
    for hash in set(hashes):
        try:
            kept = known.get(hash)
            chunks = list(known.of(kept)) if kept is not None else []
        except IntegrityError:
            chunks = []
        if len(chunks) == 1:
            small.setdefault(chunks[0], []).append(hash)
        else:
            alone.add(hash)
    groups = list(_groups(sorted(small, key=operator.attrgetter("place"))))
    with ThreadPoolExecutor(max(1, min(os.cpu_count() or 1, 8)), "mlops-prove") as pool:
        for group, names in zip(groups, pool.map(partial(_named, layout), groups), strict=True):
            alone.update(hash for chunk, name in zip(group, names, strict=True) for hash in small[chunk] if hash != name)
    return {hash for hash in alone if not verify(layout, hash)}


def _named(layout: Layout, group: Sequence[Chunk]) -> list[str]:
    """What the contents of frames in a row hash to; empty texts where they cannot all be made."""
    try:
        piece = _unpacked(layout, group, bytearray(), at=0, put=lambda piece, at: None)[1]
    except IntegrityError:
        return [""] * len(group)
    ends = list(accumulate(chunk.size for chunk in group))
    return [blake3.blake3(piece[end - chunk.size : end]).hexdigest() for chunk, end in zip(group, ends, strict=True)]


def restore(
    layout: Layout,
    hash: str,
    target: Path,
    *,
    put: Callable[[Path, Path], object] = lambda draft, target: draft.replace(target),
) -> None:
    """Put the file's content at `target`, in one step and over whatever is there; its folder exists.

    Args:
        layout: the store.
        hash: of the content.
        target: where.
        put: gives the whole and proven file beside `target` that name, where it is not to be over whatever is there.

    Raises:
        IntegrityError: it is not kept, or not as it was; `target` is as before.
        DataError: `target` cannot be written.
    """
    draft = target.with_name(f".mlops.{secrets.token_hex(6)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            hasher = blake3.blake3()
            turn = threading.Lock()  # the system lets one write to a file at a time; who waits there keeps a core busy

            def write(piece: memoryview, at: int) -> None:
                with turn:
                    files.write_at(descriptor, piece, at)

            # Closed before the descriptor is: no thread may write to it any more.
            with closing(_pieces(layout, hash, write)) as pieces:
                for piece in pieces:
                    hasher.update(piece)
            _prove(hasher, hash)
        finally:
            os.close(descriptor)
        put(draft, target)
    except OSError as error:
        raise DataError(f"cannot write {target}: {error.strerror or error}", hint="check the folder and the space") from error
    finally:
        draft.unlink(missing_ok=True)


def frames(layout: Layout, hash: str) -> Iterator[tuple[str, bytes]]:
    """Yield the file's frames in order, each with the hash of its content; `zstd -d` of all of them gives the file.

    Raises:
        IntegrityError: it is not kept in packs, or its records are lost.
    """
    for group in _groups(index(layout).of(_find(layout, hash))):
        raw, begin = _read(layout, group), group[0].place.offset
        for chunk in group:
            yield chunk.hash.hex(), bytes(raw[chunk.place.offset - begin : chunk.place.end - begin])


def frame(layout: Layout, chunk: Chunk) -> bytes:
    """Return one frame as it is stored. Raises IntegrityError when its pack cannot be read."""
    return bytes(_read(layout, [chunk]))


def _find(layout: Layout, hash: str) -> Kept:
    kept = index(layout).get(hash)
    if kept is None:
        raise IntegrityError(
            f"the content of file {hash[:12]} is missing", hint="run `mlops doctor`, or `mlops pull` it from where it is kept"
        )
    return kept


def _pieces(layout: Layout, hash: str, put: Put = lambda piece, at: None) -> Generator[memoryview]:
    """The file's bytes as they are stored, a few MB at a time, made on all cores; each is valid until the next is asked for.

    Args:
        layout: the store.
        hash: the file.
        put: called with each piece and its place in the file, in no order, on the thread that made it.
    """
    known = index(layout)
    kept = known.get(hash)
    if kept is None and objects.exists(layout, hash):  # kept by a version that had a file for each content
        with objects.path(layout, hash).open("rb") as file:
            while piece := memoryview(file.read(BATCH)):
                put(piece, file.tell() - len(piece))
                yield piece
        return
    groups = list(_groups(known.of(kept or _find(layout, hash))))
    starts = accumulate((sum(chunk.size for chunk in group) for group in groups), initial=0)
    tasks = [partial(_unpacked, layout, group, at=at, put=put) for group, at in zip(groups, starts, strict=False)]
    if len(tasks) == 1:
        yield tasks[0](bytearray())[1]
        return
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  (15 ms; asking what is there needs none)

    workers = max(1, min(os.cpu_count() or 1, 8))
    spare = [bytearray() for _ in range(workers + 2)]
    flying: deque[Future[tuple[bytearray, memoryview]]] = deque()
    with ThreadPoolExecutor(workers, "mlops-unpack") as pool:
        for task in tasks:
            if not spare:
                buffer, piece = flying.popleft().result()
                yield piece
                spare.append(buffer)
            flying.append(pool.submit(task, spare.pop()))
        for coming in flying:
            yield coming.result()[1]


def _groups(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    """Frames that lie in a row, so many that their content is about a batch."""
    group: list[Chunk] = []
    held = 0
    for chunk in chunks:
        fits = group and group[-1].place.pack == chunk.place.pack and group[-1].place.end == chunk.place.offset
        if group and (not fits or held >= BATCH):
            yield group
            group, held = [], 0
        group.append(chunk)
        held += chunk.size
    if group:
        yield group


def _read(layout: Layout, group: Sequence[Chunk]) -> memoryview:
    """The frames of a group, one after another."""
    begin = group[0].place.offset
    stretch = Stretch(group[0].place.pack, begin, group[-1].place.end - begin)
    try:
        descriptor = os.open(packfiles.data(layout, stretch.pack), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return memoryview(os.pread(descriptor, stretch.length, stretch.offset))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise IntegrityError(
            f"objects/packs/{stretch.pack}.pack cannot be read: {error.strerror or error}", hint="run `mlops doctor`"
        ) from error


def _unpacked(layout: Layout, group: Sequence[Chunk], buffer: bytearray, *, at: int, put: Put) -> tuple[bytearray, memoryview]:
    """Make the content of some frames in a row in a buffer; a longer one where that is too short."""
    frames, pack = _read(layout, group), group[0].place.pack
    size = sum(chunk.size for chunk in group)
    try:
        if any(chunk.size > framing.LIMIT for chunk in group):
            raise ValueError("its records are not")
        if len(buffer) < size:
            buffer = bytearray(size if size < BATCH else BATCH + framing.LIMIT)
        piece, begin, done = memoryview(buffer)[:size], group[0].place.offset, 0
        for chunk in group:
            data = framing.content(frames[chunk.place.offset - begin : chunk.place.end - begin])
            if len(data) != chunk.size:
                raise ValueError("its records are not")
            piece[done : done + chunk.size] = data
            done += chunk.size
    except ValueError as error:
        raise IntegrityError(
            f"objects/packs/{pack}.pack is not what was written: {error}", hint="run `mlops doctor --deep --fix`"
        ) from error
    put(piece, at)
    return buffer, piece
