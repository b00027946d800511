"""Put files' contents into packs: read once, cut, hashed and compressed on all cores, and nothing counts before `commit`.

A file that changes while it is read is read again, and refused when it does not stop. Where a file is cut is the caller's to
say: the store keeps any chunks. Memory is a few buffers, whatever the sizes of the files.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import blake3

from mlops_local.domain.errors import DataError, IntegrityError, Unsettled
from mlops_local.store import files, framing, lock, packfiles, packs
from mlops_local.store.layout import Layout
from mlops_local.store.packfiles import Kept, Pack, Stretch

Cut = Callable[..., list[int]]
"""`cut(data, final=...)`: ends of the chunks at the beginning of `data`; none longer than `WHOLE`."""
WHOLE = 152 << 10
"""A file up to this long is one chunk."""
_MANY = 512
"""Small files that one thread presses at a time."""
_QUEUE = 3
"""Batches that may wait for a thread: while one is pressed on the reading thread, the others do not run out of work."""
_TRIES = 3
_TELLING = 1 << 10
"""Of a chunk shorter than this nothing follows for others: next to nothing gets smaller."""
_UNTRIED = 15
"""After a chunk that did not get smaller, so many of its kind are stored as they are before the next one is tried."""
_TELLS = 64
"""One chunk in so many of a kind is pressed both ways, to see what the quick way costs."""
_DEARER = 1.125
"""The quick way is taken where it makes at most so much more."""


class Read(NamedTuple):
    """A file that was read and is kept once `commit` returns."""

    hash: str
    size: int
    stamp: tuple[int, int, int, int]
    """Inode, size, mtime_ns and ctime_ns it had before and after."""
    begun: int = 0
    """So many bytes, all that it held before, it begins with; 0 where it has not only grown, or nobody looked."""


@dataclass(slots=True)
class _Entry:
    """A file on its way in."""

    hash: str = ""
    size: int = 0
    kind: str = ""
    """Suffix: files of one kind get smaller, or do not."""
    places: list[Stretch] = field(default_factory=list)


@dataclass(slots=True)
class _Begun:
    """How far a file is kept already."""

    hasher: blake3.blake3 = field(default_factory=blake3.blake3)
    """Has seen the first `size` bytes."""
    size: int = 0
    rest: bytes = b""
    """Of them, those at the end that belong to no chunk yet."""
    places: tuple[Stretch, ...] = ()


class _Piece(NamedTuple):
    entry: _Entry
    data: memoryview
    hash: bytes = b""


class _Pressed(NamedTuple):
    entry: _Entry
    hash: bytes
    size: int
    frame: bytes
    """Empty: the chunk is there already."""


_Coming = Future[list[_Pressed]]


def evenly(data: memoryview, *, final: bool) -> list[int]:
    """Cut at every `WHOLE` bytes: for content that has nothing in common with other content."""
    ends = list(range(WHOLE, len(data) + 1, WHOLE))
    return [*ends, len(data)] if final and (not ends or ends[-1] < len(data)) else ends


@contextmanager
def writer(layout: Layout, cut: Cut = evenly, *, wait_s: float = 30.0) -> Iterator[Writer]:
    """Open the packs for adding; what was not committed when the block ends was never there.

    Raises:
        StoreBusy: somebody removes from the packs and did not finish in `wait_s` seconds.
    """
    layout.packs.mkdir(mode=0o700, exist_ok=True)
    with lock.hold(layout.packs_lock, shared=True, wait_s=wait_s):
        made = Writer(layout, cut)
        try:
            yield made
        finally:
            made.close()


class Writer:
    """Takes files in; made by `writer`."""

    def __init__(self, layout: Layout, cut: Cut) -> None:
        self._layout = layout
        self._cut = cut
        self._index = packs.index(layout)
        self._known: dict[bytes, Stretch] = {}
        self._loaded = False
        self._entries: dict[str, _Entry] = {}
        self._committed: set[str] = set()
        self._relied: set[str] = set()
        self._packs: list[Pack] = []
        self._workers = max(1, min(os.cpu_count() or 1, 8) - 1)
        self._pool = ThreadPoolExecutor(self._workers, "mlops-pack")
        self._syncer = ThreadPoolExecutor(1, "mlops-sync")
        self._flying: deque[tuple[_Coming, bytearray | None]] = deque()
        self._small: list[_Piece] = []
        self._small_bytes = 0
        self._spare: list[bytearray] = []
        self._untried: dict[str, int] = {}
        self._quick: dict[str, tuple[bool, int]] = {}

    def contains(self, hash: str) -> bool:
        """Say whether the file's content is kept, or will be by `commit`."""
        if hash in self._entries or hash in self._committed:
            return True
        if not self._index.has(hash):
            return False
        self._relied.add(self._index.pack_of(hash))
        return True

    def lacking(self, hashes: Iterable[str]) -> set[str]:
        """Those of the files whose content is not kept and will not be by `commit`."""
        wanted = set(hashes).difference(self._entries, self._committed)
        gone = self._index.lacking(wanted)
        self._relied |= self._index.packs_of(wanted - gone)
        return gone

    def add(self, path: Path | str, *, said: str = "", earlier: str = "") -> Read:
        """Read a file and keep its content.

        Args:
            path: the file.
            said: what a message calls it.
            earlier: hash of what it held before; where it has only grown since, that is neither cut nor compressed again.

        Raises:
            DataError: it cannot be read, or keeps changing.
            MlopsError: the disk is full.
        """
        kind = os.path.splitext(path)[1]  # noqa: PTH122  (thousands of files: Path costs more than the reading)
        try:
            for _ in range(_TRIES):
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                try:
                    before = _stamp(descriptor)
                    begun = _Begun()
                    if before[1] <= WHOLE:
                        entry, piece = self._whole(descriptor, before[1], kind)
                    else:
                        begun = self._grown(descriptor, before[1], earlier)
                        entry, piece = self._long(descriptor, kind, begun), None
                    after = _stamp(descriptor)
                finally:
                    os.close(descriptor)
                if before == after and entry.size == before[1]:
                    self._keep(entry, piece)
                    return Read(entry.hash, entry.size, before, begun.size)
        except OSError as error:
            raise DataError(
                f"{said or path}: cannot be read: {error.strerror or error}",
                hint="check that the file exists and is yours",
            ) from error
        raise Unsettled(f"{said or path} is being written right now", hint="run the command again when the writer is done")

    def adopt(self, hash: str, chunks: Iterable[tuple[str, bytes]]) -> None:
        """Keep a file from another store's frames, each checked against the hash that came with it.

        Raises:
            IntegrityError: a frame is not what its hash says, or all of them are not the file.
        """
        if self.contains(hash):
            return
        self._load()
        entry, hasher, new = _Entry(), blake3.blake3(), []
        for name, frame in chunks:
            data = self._checked(name, frame)
            hasher.update(data)
            entry.size += len(data)
            new.append(_Pressed(entry, bytes.fromhex(name), len(data), bytes(frame)))
            if len(new) >= 64:
                self._write(new)
                new = []
        self._write(new)
        if hasher.hexdigest() != hash:
            raise IntegrityError(f"file {hash[:12]}: what arrived is not its content", hint="fetch it again")
        entry.hash = hash
        self._entries[hash] = entry

    def _checked(self, name: str, frame: bytes) -> bytes:
        try:
            data = framing.content(frame)
        except ValueError as error:
            raise IntegrityError(f"chunk {name[:12]} is damaged: {error}", hint="fetch it again") from error
        if blake3.blake3(data).hexdigest() != name:
            raise IntegrityError(f"chunk {name[:12]} is not what its name says", hint="fetch it again")
        return data

    def commit(self) -> int:
        """Make all that was added outlive a power cut, then say that it is there; return the bytes that were new on disk.

        More can be added afterwards.

        Raises:
            MlopsError: the disk is full.
        """
        self._flush_small()
        while self._flying:
            self._drain()
        lines = [
            packfiles.line(Kept(hash, entry.size, packfiles.joined(entry.places))) for hash, entry in self._entries.items()
        ]
        if lines and not self._packs:
            self._packs.append(packfiles.open_pack(self._layout))
        written = sum([pack.settle() for pack in self._packs])
        if lines:
            self._packs[-1].list(lines)
        for name in self._relied:  # gc leaves alone what is young
            listing = packfiles.listing(self._layout, name)
            try:
                os.utime(listing)
            except OSError as error:
                raise files.cannot_write(listing, error) from error
        self._committed.update(self._entries)
        self._entries = {}
        return written

    def close(self) -> None:
        """Let the packs go, and forget what was not committed."""
        for future, _ in self._flying:
            future.cancel()
        self._pool.shutdown()
        for pack in self._packs:
            pack.close()
        self._syncer.shutdown()

    # -- reading

    def _whole(self, descriptor: int, size: int, kind: str) -> tuple[_Entry, _Piece]:
        """A file of one chunk, in one read; one that grew meanwhile shows by its stat."""
        data = os.read(descriptor, size)
        digest = blake3.blake3(data).digest()
        entry = _Entry(digest.hex(), len(data), kind)
        return entry, _Piece(entry, memoryview(data), digest)

    def _grown(self, descriptor: int, size: int, earlier: str) -> _Begun:
        """What is kept already of a file that begins with all that it held before; nothing when it does not."""
        kept = self._index.get(earlier) if earlier else None
        if kept is None or not WHOLE < kept.size < size:
            return _Begun()
        try:
            *_, last = self._index.of(kept)
        except IntegrityError:  # its records are lost
            return _Begun()
        rest = os.pread(descriptor, last.size, kept.size - last.size)
        if blake3.blake3(rest).digest() != last.hash:  # changed elsewhere: not worth reading all of it
            return _Begun()
        hasher = self._hashed(descriptor, kept.size)
        if hasher.hexdigest() != earlier:
            return _Begun()
        *places, end = kept.stretches
        if end.length > last.place.length:  # the last chunk goes on now, so it is cut anew
            places.append(end._replace(length=end.length - last.place.length))
        return _Begun(hasher, kept.size, rest, tuple(places))

    def _hashed(self, descriptor: int, size: int) -> blake3.blake3:
        """Hash a file's first bytes on all cores, while the next are read."""
        hasher, done = blake3.blake3(max_threads=blake3.blake3.AUTO), 0
        now, then = memoryview(bytearray(packs.BATCH)), memoryview(bytearray(packs.BATCH))
        coming = self._pool.submit(os.preadv, descriptor, [now[:size]], 0)
        while count := coming.result():
            done += count
            coming = self._pool.submit(os.preadv, descriptor, [then[: size - done]], done)
            hasher.update(now[:count])
            now, then = then, now
        return hasher

    def _long(self, descriptor: int, kind: str, begun: _Begun) -> _Entry:
        """A file of several chunks, in one pass with a buffer's worth in memory, from where it is not kept yet."""
        self._load()
        entry, hasher, rest, final = _Entry("", begun.size, kind, list(begun.places)), begun.hasher, begun.rest, False
        os.lseek(descriptor, begun.size, os.SEEK_SET)
        while not final:
            buffer = self._spare.pop() if self._spare else bytearray(packs.BATCH + WHOLE)
            buffer[: len(rest)] = rest
            view = memoryview(buffer)
            count = _fill(descriptor, view[len(rest) : len(rest) + packs.BATCH])
            final = count < packs.BATCH
            hasher.update(view[len(rest) : len(rest) + count])
            entry.size += count
            data = view[: len(rest) + count]
            pieces, start = [], 0
            for end in self._cut(data, final=final) if data else ():
                pieces.append(_Piece(entry, data[start:end]))
                start = end
            rest = bytes(data[start:])
            self._send(pieces, buffer)
        entry.hash = hasher.hexdigest()
        return entry

    def _keep(self, entry: _Entry, piece: _Piece | None) -> None:
        """A file was read in peace: it will be there after `commit`."""
        if self.contains(entry.hash):
            return
        self._entries[entry.hash] = entry
        if piece is not None:
            self._small.append(piece)
            self._small_bytes += len(piece.data)
            if self._small_bytes >= packs.BATCH or len(self._small) >= _MANY:
                self._flush_small()

    def _flush_small(self) -> None:
        if self._small:
            self._send(self._small, None)
            self._small, self._small_bytes = [], 0

    def _load(self) -> None:
        """Learn which chunks are there; only a file that is new to the store needs that."""
        if not self._loaded:
            self._loaded = True
            for name in self._index.packs:
                self._known.update((chunk.hash, chunk.place) for chunk in self._index.chunks(name))

    # -- pressing, on all cores

    def _send(self, pieces: list[_Piece], buffer: bytearray | None) -> None:
        """Press some chunks on another thread, or on this one while those have enough to do."""
        if sum(not coming.done() for coming, _ in self._flying) <= self._workers + _QUEUE:
            coming: _Coming = self._pool.submit(self._press, pieces)
        else:
            coming = Future()
            coming.set_result(self._press(pieces))
        self._flying.append((coming, buffer))
        while self._flying and (len(self._flying) > 2 * (self._workers + _QUEUE) + 2 or self._flying[0][0].done()):
            self._drain()

    def _press(self, pieces: list[_Piece]) -> list[_Pressed]:
        made = []
        for piece in pieces:
            hash = piece.hash or blake3.blake3(piece.data).digest()
            frame = b"" if hash in self._known else self._frame(piece)
            made.append(_Pressed(piece.entry, hash, len(piece.data), frame))
        return made

    def _frame(self, piece: _Piece) -> bytes:
        left = self._untried.get(piece.entry.kind, 0)
        if left <= 0:
            frame = self._packed(piece)
            if frame is not None:
                return frame
            if len(piece.data) < _TELLING:
                return framing.stored(piece.data)
        self._untried[piece.entry.kind] = left - 1 if left > 0 else _UNTRIED
        return framing.stored(piece.data)

    def _packed(self, piece: _Piece) -> bytes | None:
        """Press a chunk the quick way where that costs few bytes: numbers as text, but not what repeats itself."""
        quick, left = self._quick.get(piece.entry.kind, (False, 0))
        if left:
            self._quick[piece.entry.kind] = (quick, left - 1)
            return framing.packed(piece.data, quick=quick)
        frame, other = framing.packed(piece.data), framing.packed(piece.data, quick=True)
        cheap = frame is not None and other is not None and len(other) <= _DEARER * len(frame)
        self._quick[piece.entry.kind] = (cheap, _TELLS - 1)
        return frame

    def _drain(self) -> None:
        future, buffer = self._flying.popleft()
        self._write(future.result())
        if buffer is not None:
            self._spare.append(buffer)

    def _write(self, pressed: Sequence[_Pressed]) -> None:
        new = list({one.hash: one for one in pressed if one.hash not in self._known}.values())
        if new:
            if not self._packs or self._packs[-1].full:
                self._packs.append(packfiles.open_pack(self._layout))
            chunks = [(one.hash, one.size, one.frame) for one in new]
            places = self._packs[-1].write(chunks, self._syncer)
            self._known.update(zip((one.hash for one in new), places, strict=True))
        for one in pressed:
            one.entry.places.append(self._known[one.hash])


def _stamp(descriptor: int) -> tuple[int, int, int, int]:
    held = os.fstat(descriptor)
    if not stat.S_ISREG(held.st_mode):
        raise IsADirectoryError(0, "it is no regular file")
    return (held.st_ino, held.st_size, held.st_mtime_ns, held.st_ctime_ns)


def _fill(descriptor: int, view: memoryview) -> int:
    """Read until the buffer is full or the file ends; return the bytes read."""
    count = 0
    while count < len(view) and (more := os.readv(descriptor, [view[count:]])):
        count += more
    return count
