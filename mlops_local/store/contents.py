"""The bytes behind a hash, whatever keeps them: objects have a file each, contents of data files are chunks in packs.

They travel as pieces of at most a megabyte, each a whole zstd frame.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

import blake3

from mlops_local.domain.errors import IntegrityError
from mlops_local.store import framing, objects, packfiles, packing, packs
from mlops_local.store.layout import Layout

_RENEW_S = 12 * 3600.0
_COMMIT_BYTES = 64 << 20
"""What a kill loses of the data that arrived is at most this."""


class Piece(NamedTuple):
    """A piece of a content."""

    chunk: str
    """BLAKE3 of the bytes it was made of."""
    frame: bytes
    """Those bytes as a whole zstd frame."""
    size: int
    """How many they are."""


def every(layout: Layout) -> set[str]:
    """The hash of every content that is kept."""
    return {*objects.every(layout), *packs.every(layout)}


def has(layout: Layout, hash: str) -> bool:
    """Say whether the store has that content; it is young from now on, for somebody is about to name it."""
    if objects.renew(layout, hash):
        return True
    index = packs.index(layout)
    if index.get(hash) is None:
        return False
    listing = packfiles.listing(layout, index.pack_of(hash))
    with suppress(PermissionError, FileNotFoundError):
        if time.time() - listing.stat().st_mtime > _RENEW_S:
            os.utime(listing)
    return True


def size(layout: Layout, hash: str) -> int:
    """How many bytes it has. Raises IntegrityError when it is not there."""
    kept = packs.index(layout).get(hash)
    if kept is not None:
        return kept.size
    try:
        return objects.path(layout, hash).stat().st_size
    except OSError as error:
        raise _missing(hash) from error


def data(layout: Layout, hash: str) -> Iterator[bytes]:
    """Yield a content's bytes. Raises IntegrityError, before the last of them, when they are not what was written."""
    if packs.index(layout).get(hash) is not None:
        yield from packs.content(layout, hash)
        return
    hasher = blake3.blake3()
    try:
        with objects.path(layout, hash).open("rb") as file:
            block = file.read(framing.LIMIT)
            while True:
                hasher.update(block)
                following = file.read(framing.LIMIT) if block else b""
                if not following and hasher.hexdigest() != hash:
                    raise IntegrityError(f"object {hash[:12]} is not what was written", hint="run `mlops doctor --deep --fix`")
                yield block
                if not following:
                    return
                block = following
    except OSError as error:
        raise _missing(hash) from error


def pieces(layout: Layout, hash: str) -> Iterator[Piece]:
    """Yield a content's pieces in order. Raises IntegrityError when they are not what was written."""
    if packs.index(layout).get(hash) is None:
        yield from map(piece, data(layout, hash))
        return
    for chunk, frame in packs.frames(layout, hash):
        found = Piece(chunk, frame, 0)
        yield found._replace(size=len(data_of(found)))


def of_bytes(data: bytes) -> Iterator[Piece]:
    """The same of bytes in memory."""
    for start in range(0, max(1, len(data)), framing.LIMIT):
        yield piece(data[start : start + framing.LIMIT])


def piece(data: bytes) -> Piece:
    """One piece, of at most a megabyte."""
    view = memoryview(data)
    return Piece(blake3.blake3(data).hexdigest(), framing.packed(view) or framing.stored(view), len(data))


def data_of(found: Piece) -> bytes:
    """What a piece was made of. Raises IntegrityError when it is not that."""
    try:
        data = framing.content(found.frame)
    except ValueError as error:
        raise IntegrityError(f"piece {found.chunk[:12]} is damaged: {error}", hint="fetch it again") from error
    if blake3.blake3(data).hexdigest() != found.chunk:
        raise IntegrityError(f"piece {found.chunk[:12]} is not what its name says", hint="fetch it again")
    return data


def keep(layout: Layout, hash: str, arriving: Iterable[Piece]) -> None:
    """Take an object in. Raises IntegrityError when it is not what its hash says; it is not kept then."""
    objects.receive(layout, map(data_of, arriving), hash)


def keep_data(layout: Layout, arriving: Mapping[str, Iterable[Piece]], *, wait_s: float = 30.0) -> None:
    """Take contents of data files in. Raises IntegrityError when one is not what its hash says; those before it are kept."""
    with packing.writer(layout, wait_s=wait_s) as made:
        open_bytes = 0
        try:
            for hash, coming in arriving.items():
                counted = _Counted(coming)
                made.adopt(hash, counted)
                open_bytes += counted.bytes
                if open_bytes >= _COMMIT_BYTES:
                    made.commit()
                    open_bytes = 0
        finally:
            made.commit()


class _Counted:
    """Pieces as packs take them, with how many bytes went by."""

    def __init__(self, coming: Iterable[Piece]) -> None:
        self._coming = coming
        self.bytes = 0

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        for found in self._coming:
            self.bytes += len(found.frame)
            yield found.chunk, found.frame


def _missing(hash: str) -> IntegrityError:
    return IntegrityError(f"object {hash[:12]} is missing", hint="run `mlops doctor`")
