"""One chunk of a file as one whole zstd frame: any zstd decodes a row of them to the bytes they were made of.

What does not get smaller is kept as a frame of stored blocks, which costs 11 bytes and no time to read. Never touches a file.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops_local.store.compression import zstd

LIMIT = 1 << 20
"""No chunk is longer; a frame that says it is was not written here."""

_MAGIC = b"\x28\xb5\x2f\xfd"
_SINGLE_SEGMENT = b"\xa0"
"""Frame header: the content's size in four bytes, no window, no checksum (the hash in the table is better), no dictionary."""
_BLOCK = 128 << 10
"""The longest block a frame may hold."""
_WORTH = 0.95
"""A frame that is not smaller than this part of its content is not worth decoding."""

_LITERALS = 1002
"""zstd's parameter that says how bytes outside matches are coded, which no header has a name for; see `_compressor`."""
_CODED = 1
"""Its value for: with fewer bits for frequent ones, always."""


class _Own(threading.local):
    """Compressors, quick or not: none is to be used by two threads at once."""

    def __init__(self) -> None:
        self.made: dict[bool, zstd.ZstdCompressor] = {}


_own = _Own()


def packed(data: memoryview, *, quick: bool = False) -> bytes | None:
    """Return a compressed frame, or None when these bytes do not get noticeably smaller.

    Args:
        data: the chunk.
        quick: in half the time, for a tenth more bytes of numbers as text, and half as many again of what repeats itself.
    """
    press = _own.made.get(quick) or _own.made.setdefault(quick, _compressor(quick))
    frame = press.compress(data, press.FLUSH_FRAME)
    return frame if len(frame) < _WORTH * len(data) else None


def stored(data: memoryview) -> bytes:
    """Return a frame that holds the bytes as they are."""
    parts: list[bytes | memoryview] = [_MAGIC, _SINGLE_SEGMENT, len(data).to_bytes(4, "little")]
    for start in range(0, max(1, len(data)), _BLOCK):
        block = data[start : start + _BLOCK]
        last = start + _BLOCK >= len(data)
        parts += [(int(last) | len(block) << 3).to_bytes(3, "little"), block]
    return b"".join(parts)


def content(frame: bytes | memoryview) -> bytes:
    """Return what a frame was made of. Raises ValueError when it is no such frame."""
    from mlops_local.store.compression import zstd  # noqa: PLC0415  (as in `_compressor`)

    try:
        size = zstd.get_frame_info(frame).decompressed_size
        if size is None or size > LIMIT:
            raise ValueError("not a frame of a chunk")
        reader = zstd.ZstdDecompressor()
        data = reader.decompress(frame, size + 1)  # one more: so it comes to the end, and not further than that
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error
    if not reader.eof or reader.unused_data or len(data) != size:
        raise ValueError("not the whole frame of a chunk, or more than that")
    return data


def _compressor(quick: bool) -> zstd.ZstdCompressor:
    from mlops_local.store.compression import zstd  # noqa: PLC0415  (8 ms, and most commands store no data)

    # Level 1 with a table that fits the first cache and matches of 7 bytes: a quarter less time for 1 % more bytes on tables
    # written as text. Quick has longer strides where no match is found; zstd then leaves what lies between matches as it is,
    # which makes half as much again, unless told to code it.
    chosen: dict[int, int] = {
        zstd.CompressionParameter.window_log: 18,
        zstd.CompressionParameter.hash_log: 12,
        zstd.CompressionParameter.chain_log: 13,
        zstd.CompressionParameter.search_log: 1,
        zstd.CompressionParameter.min_match: 7,
        zstd.CompressionParameter.strategy: zstd.Strategy.fast,
    }
    if quick:
        try:
            return zstd.ZstdCompressor(options=chosen | {zstd.CompressionParameter.target_length: 16, _LITERALS: _CODED})
        except (ValueError, zstd.ZstdError):  # a later library numbers it otherwise
            pass
    return zstd.ZstdCompressor(options=chosen)
