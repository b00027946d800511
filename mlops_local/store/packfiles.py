"""What a pack is on disk, and how one process at a time adds to it.

    objects/packs/3f2a90c1.pack     zstd frames, one after another, each a chunk of a file
    objects/packs/3f2a90c1.chunks   a record of 48 bytes for each frame: BLAKE3 of its content, where, how long
    objects/packs/3f2a90c1.files    a line of text for each file: BLAKE3, bytes, and the stretches of packs that hold it

A line is `HASH BYTES PACK:OFFSET:LENGTH ...`, so that a shell can cut the stretches out and `zstd -d` them. Frames are on the
disk before their records are written, and records before the lines that need them: whatever a killed writer left behind its
last record belongs to nobody and is cut off by the next one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import struct
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mlops_local.domain.errors import IntegrityError
from mlops_local.store import files
from mlops_local.store.layout import Layout

if TYPE_CHECKING:  # 15 ms at runtime, and reading needs none
    from concurrent.futures import Future, ThreadPoolExecutor

FULL = 256 << 20
"""A pack this long is not added to any more; what gc rewrites at once is at most this."""
FILES = ".files"
_DATA, _TABLE = ".pack", ".chunks"
_RECORD = struct.Struct("<32sQII")
_SYNC_EVERY = 32 << 20
"""Bytes after which the disk begins to be told, so that it has little left to write at the end."""


class Stretch(NamedTuple):
    """Some frames in a row."""

    pack: str
    offset: int
    length: int

    @property
    def end(self) -> int:
        """Where the next frame begins."""
        return self.offset + self.length


class Chunk(NamedTuple):
    """One frame."""

    hash: bytes
    """BLAKE3 of its content."""
    place: Stretch
    size: int
    """Bytes of its content."""


class Kept(NamedTuple):
    """One file's line."""

    hash: str
    size: int
    stretches: tuple[Stretch, ...]


def names(layout: Layout) -> list[str]:
    """Return the packs there are."""
    return sorted(path.stem for path in layout.packs.glob(f"*{_DATA}"))


def data(layout: Layout, name: str) -> Path:
    """The pack's frames."""
    return layout.packs / f"{name}{_DATA}"


def listing(layout: Layout, name: str) -> Path:
    """The pack's lines."""
    return layout.packs / f"{name}{FILES}"


def table(layout: Layout, name: str) -> Path:
    """The pack's records."""
    return layout.packs / f"{name}{_TABLE}"


def chunks(layout: Layout, name: str) -> list[Chunk]:
    """Return the recorded frames of a pack, in their order; none of a pack that is gone."""
    try:
        raw = table(layout, name).read_bytes()
        size = data(layout, name).stat().st_size
    except FileNotFoundError:
        return []
    whole = raw[: len(raw) - len(raw) % _RECORD.size]
    found = (Chunk(hash, Stretch(name, at, length), count) for hash, at, length, count in _RECORD.iter_unpack(whole))
    return [chunk for chunk in found if chunk.place.end <= size]


def within(table: Sequence[Chunk], stretch: Stretch) -> Sequence[Chunk]:
    """Return the frames that make up a stretch. Raises IntegrityError when the records do not."""
    first = bisect_left(table, stretch.offset, key=lambda chunk: chunk.place.offset)
    last = bisect_left(table, stretch.end, key=lambda chunk: chunk.place.offset)
    found = table[first:last]
    if sum(chunk.place.length for chunk in found) != stretch.length:
        raise IntegrityError(f"objects/packs/{stretch.pack}{_TABLE} lacks records", hint="run `mlops doctor`")
    return found


def lines(layout: Layout, name: str) -> list[str]:
    """Return the lines of a pack; a torn last one is none."""
    try:
        raw = listing(layout, name).read_bytes()
    except FileNotFoundError:
        return []
    return raw[: raw.rfind(b"\n") + 1].decode("ascii", "replace").splitlines()


def parse(line: str) -> Kept:
    """Return what a line says. Raises IntegrityError when it is damaged."""
    try:
        hash, size, *places = line.split(" ")
        stretches = [place.split(":") for place in places]
        return Kept(hash, int(size), tuple(Stretch(pack, int(at), int(length)) for pack, at, length in stretches))
    except ValueError as error:
        raise IntegrityError(f"a line in objects/packs is damaged: {line[:80]!r}", hint="run `mlops doctor`") from error


def line(kept: Kept) -> str:
    """The line that `parse` reads."""
    return " ".join([kept.hash, str(kept.size), *(f"{at.pack}:{at.offset}:{at.length}" for at in kept.stretches)])


def joined(places: Iterable[Stretch]) -> tuple[Stretch, ...]:
    """Return the places as few stretches as they make."""
    made: list[Stretch] = []
    for place in places:
        if made and made[-1].pack == place.pack and made[-1].end == place.offset:
            made[-1] = Stretch(place.pack, made[-1].offset, made[-1].length + place.length)
        else:
            made.append(place)
    return tuple(made)


class Pack:
    """A pack that this process alone adds to; nothing of it counts before `commit`."""

    def __init__(self, layout: Layout, name: str, descriptor: int) -> None:
        self.name = name
        self._layout = layout
        self._descriptor = descriptor
        self._begin = self._end = 0
        self._told = 0
        self._records: list[bytes] = []
        self._syncing: list[Future[None]] = []

    def begin(self) -> bool:
        """Cut off what a killed writer left; False when the pack is not to be added to."""
        home = table(self._layout, self.name)
        size = os.fstat(self._descriptor).st_size
        if not home.exists():
            if size:
                return False  # its records are lost: what it holds must not be cut off
            os.close(os.open(home, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        whole = home.stat().st_size // _RECORD.size * _RECORD.size
        os.truncate(home, whole)
        ends = [at + length for _, at, length, _ in _RECORD.iter_unpack(home.read_bytes())]
        if max(ends, default=0) > size:
            return False  # shorter than its records say
        self._begin = self._end = self._told = ends[-1] if ends else 0
        os.ftruncate(self._descriptor, self._end)
        return self._end < FULL

    @property
    def full(self) -> bool:
        """Whether the next frame belongs into another pack."""
        return self._end >= FULL

    def write(self, chunks: Sequence[tuple[bytes, int, bytes]], syncer: ThreadPoolExecutor) -> list[Stretch]:
        """Add frames and return where they are.

        Args:
            chunks: the hash of a content, its size, and its frame.
            syncer: what to begin telling the disk with.

        Raises:
            MlopsError: the disk is full.
        """
        try:
            files.write_at(self._descriptor, b"".join([frame for _, _, frame in chunks]), self._end)
        except OSError as error:
            raise files.cannot_write(data(self._layout, self.name), error) from error
        places = []
        for hash, size, frame in chunks:
            places.append(Stretch(self.name, self._end, len(frame)))
            self._records.append(_RECORD.pack(hash, self._end, len(frame), size))
            self._end += len(frame)
        if self._end - self._told >= _SYNC_EVERY:
            self._told = self._end
            self._syncing.append(syncer.submit(os.fdatasync, self._descriptor))
        return places

    def settle(self) -> int:
        """Make the frames and then their records outlive a power cut; return their bytes. Raises MlopsError on a full disk."""
        try:
            self._wait()
            os.fsync(self._descriptor)
            _append(table(self._layout, self.name), b"".join(self._records))
        except OSError as error:
            raise files.cannot_write(data(self._layout, self.name), error) from error
        written = self._end - self._begin + sum(map(len, self._records))
        self._records = []
        self._begin = self._end
        return written

    def list(self, lines: Sequence[str]) -> None:
        """Say which files there are now. Raises MlopsError on a full disk."""
        try:
            home = listing(self._layout, self.name)
            if home.exists():
                _cut_torn(home)
            _append(home, "".join(f"{line}\n" for line in lines).encode("ascii"))
            files.sync_folder(self._layout.packs)
        except OSError as error:
            raise files.cannot_write(home, error) from error

    def close(self) -> None:
        """Let the pack go; what was not settled is cut off."""
        with suppress(OSError):  # a disk that fails even here: the next writer cuts it off
            self._wait()
        with suppress(OSError):
            os.ftruncate(self._descriptor, self._begin)
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)

    def _wait(self) -> None:
        waiting, self._syncing = self._syncing, []
        for future in waiting:
            future.result()


def open_pack(layout: Layout, *, without: Collection[str] = ()) -> Pack:
    """Return a pack that has room and that nobody else adds to, none of those in `without`; a new one when there is none."""
    for name in names(layout):
        if name in without:
            continue
        try:
            if data(layout, name).stat().st_size < FULL and (pack := _take(layout, name)) is not None:
                return pack
        except FileNotFoundError:
            continue
        except OSError as error:
            raise files.cannot_write(data(layout, name), error) from error
    while True:
        name = secrets.token_hex(4)
        try:
            os.close(os.open(data(layout, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            continue
        except OSError as error:
            raise files.cannot_write(data(layout, name), error) from error
        pack = _take(layout, name)
        if pack is not None:
            return pack


def _take(layout: Layout, name: str) -> Pack | None:
    """Lock a pack, unless somebody else has it or it is not to be added to."""
    descriptor = os.open(data(layout, name), os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        pack = Pack(layout, name, descriptor)
        if os.fstat(descriptor).st_nlink and pack.begin():
            return pack
    except BlockingIOError:
        pass
    except OSError as error:
        os.close(descriptor)
        if error.errno in files.FULL:
            raise files.cannot_write(data(layout, name), error) from error
        raise
    os.close(descriptor)
    return None


def _append(home: Path, data: bytes) -> None:
    descriptor = os.open(home, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        files.write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cut_torn(home: Path) -> None:
    raw = home.read_bytes()
    whole = raw.rfind(b"\n") + 1
    if whole != len(raw):
        os.truncate(home, whole)


def stamps(layout: Layout) -> Iterator[tuple[str, int, int]]:
    """What the packs look like from outside: name, length and time of every file of theirs."""
    try:
        with os.scandir(layout.packs) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    held = entry.stat()
                    yield entry.name, held.st_size, held.st_mtime_ns
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
