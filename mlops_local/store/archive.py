"""Where folded journals go: compressed into done/, one file each, or many small ones in one archive.

An archive is two zstd frames: one line of JSON that names its members and their lengths, then their bytes one after the other;
`zstd -dc` of either kind gives JSON lines. At every moment one whole copy of a journal is there. Never decides what is folded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mlops_local.domain.errors import IntegrityError
from mlops_local.store import files, journal
from mlops_local.store.compression import zstd
from mlops_local.store.layout import Layout

_SUFFIX = ".archive.zst"
ARCHIVE_BYTES = 4 << 20
"""Uncompressed content of an archive, at most: making one holds the store's lock, and it is unpacked into memory."""
_READ_BYTES = 1 << 20
_HEADER_BYTES = 18
"""A frame's header, which says how long its content is, is no longer."""
_OPTIONS: dict[int, int] = {zstd.CompressionParameter.compression_level: 1, zstd.CompressionParameter.checksum_flag: 1}
"""Of journal lines the first level makes smaller files than the third, in half the time."""


@dataclass(frozen=True)
class Kept:
    """One journal that was put away."""

    name: str
    """As it was called in journal/."""
    path: Path
    begin: int = 0
    """Where it begins in the unpacked file."""
    size: int = -1
    """Its bytes; -1: all of the file."""

    def read(self) -> bytes:
        """Return its content. Raises IntegrityError."""
        data = unpack(self.path)
        return data if self.size < 0 else data[self.begin : self.begin + self.size]

    def length(self) -> int:
        """Return how many bytes that is, without unpacking them; -1 where the file does not say."""
        if self.size >= 0:
            return self.size
        with suppress(OSError, zstd.ZstdError), self.path.open("rb") as file:
            size = zstd.get_frame_info(file.read(_HEADER_BYTES)).decompressed_size
            return -1 if size is None else size
        return -1


def listing(layout: Layout) -> Iterator[Kept]:
    """Yield every journal in done/, those of archives too. Raises IntegrityError where an archive is damaged."""
    for path in layout.done.iterdir():
        yield from members(path)


def contents(layout: Layout, *, points: bool = True, since_us: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every journal in done/, also while others put theirs away together.

    Args:
        layout: the store.
        points: also the files of points.
        since_us: of those only what was put away after this moment, in microseconds since 1970.

    Raises:
        IntegrityError: one is damaged.
    """
    seen: set[str] = set()
    while True:
        try:
            for kept in sorted(listing(layout), key=lambda kept: (kept.path.name, kept.begin)):
                old = ".metric." in kept.name and (not points or kept.path.stat().st_mtime_ns // 1000 < since_us)
                if not old and kept.name not in seen:
                    data = kept.read()
                    seen.add(kept.name)
                    yield kept.name, data
            return
        except FileNotFoundError:
            continue  # it went into an archive: look again


def damaged(layout: Layout) -> list[Path]:
    """Return the files of done/ that cannot be read; what is none of ours is not looked into."""
    found = []
    for path in sorted(layout.done.glob("*.zst")):
        try:
            if members(path):
                unpack(path)
        except IntegrityError:
            found.append(path)
    return found


def members(path: Path) -> list[Kept]:
    """Return the journals in one file of done/; none if it is no such file. Raises IntegrityError."""
    if not path.name.endswith(_SUFFIX):
        name = path.name.removesuffix(".zst")
        return [Kept(name, path)] if name != path.name and journal.NAME.match(name) else []
    head = _head(path)
    found, begin = [], len(head)
    try:
        for name, size in json.loads(head)["files"]:
            found.append(Kept(str(name), path, begin, int(size)))
            begin += int(size)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    return found


def put(layout: Layout, contents: Sequence[tuple[str, bytes]]) -> None:
    """Put journals away, durably, together where they are several. Those of the same names elsewhere in done/ stay.

    Raises:
        MlopsError: the disk is full.
    """
    if len(contents) == 1:
        ((name, data),) = contents
        path, packed = layout.done / f"{name}.zst", _frame(data)
    else:
        head = json.dumps({"k": "archive", "v": 1, "files": [[name, len(data)] for name, data in contents]}).encode() + b"\n"
        path = layout.done / f"{journal.new_id()}{_SUFFIX}"
        packed = _frame(head) + _frame(b"".join(data for _, data in contents))
    files.replace(path, packed, sync=True)
    unpack.cache_clear()


def put_file(layout: Layout, source: Path) -> None:
    """Put one journal away as `put` does, without having all of it in memory; two threads compress it."""
    packer, made = zstd.ZstdCompressor(options=_OPTIONS | {zstd.CompressionParameter.nb_workers: 2}), []
    packer.set_pledged_input_size(source.stat().st_size)
    with source.open("rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            made.append(packer.compress(data))
    made.append(packer.flush())
    files.replace(layout.done / f"{source.name}.zst", b"".join(made), sync=True)
    unpack.cache_clear()


def replace(layout: Layout, kept: Kept, data: bytes) -> None:
    """Put `data` in the place of a journal's content. Raises MlopsError, IntegrityError."""
    contents = [(other.name, data if other.name == kept.name else other.read()) for other in members(kept.path)]
    put(layout, contents)
    if len(contents) > 1:
        kept.path.unlink()


@lru_cache(maxsize=2)
def unpack(path: Path) -> bytes:
    """Return the whole content of a file in done/; a segment is 16 MiB, and is read in pieces.

    Raises:
        IntegrityError: it is damaged.
    """
    try:
        return zstd.decompress(path.read_bytes())
    except zstd.ZstdError as error:
        raise _damaged(path, error) from error


def _head(path: Path) -> bytes:
    """An archive's first line."""
    try:
        with zstd.ZstdFile(path) as file:
            return file.readline()
    except (EOFError, zstd.ZstdError) as error:
        raise _damaged(path, error) from error


def _frame(data: bytes) -> bytes:
    return zstd.ZstdCompressor(options=_OPTIONS).compress(data, zstd.ZstdCompressor.FLUSH_FRAME)


def _damaged(path: Path, error: Exception) -> IntegrityError:
    return IntegrityError(f"journal/done/{path.name} is damaged: {error}", hint="restore it from a backup")
