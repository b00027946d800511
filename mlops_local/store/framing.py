"""One chunk of a file as one whole zstd frame: any zstd decodes a row of them to the bytes they were made of.

What does not get smaller is kept as a frame of stored blocks, which costs 11 bytes and no time to read. Never touches a file.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import zstandard

LIMIT = 1 << 20
"""No chunk is longer; a frame that says it is was not written here."""

_MAGIC = b"\x28\xb5\x2f\xfd"
_SINGLE_SEGMENT = b"\xa0"
"""Frame header: the content's size in four bytes, no window, no checksum (the hash in the table is better), no dictionary."""
_BLOCK = 128 << 10
"""The longest block a frame may hold."""
_WORTH = 0.95
"""A frame that is not smaller than this part of its content is not worth decoding."""

_own = threading.local()
"""A compressor is not to be used by two threads at once."""


def packed(data: memoryview) -> bytes | None:
    """Return a compressed frame, or None when these bytes do not get noticeably smaller."""
    try:
        press: zstandard.ZstdCompressor = _own.press
    except AttributeError:
        press = _own.press = _compressor()
    frame = press.compress(data)
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
    import zstandard  # noqa: PLC0415  (as in `_compressor`)

    try:
        if not 0 <= zstandard.frame_content_size(frame) <= LIMIT:
            raise ValueError("not a frame of a chunk")
        return zstandard.ZstdDecompressor().decompress(frame, read_across_frames=False, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


def unpack(frames: memoryview, into: memoryview) -> None:
    """Fill `into` with what frames in a row were made of: no memory is asked for, which costs twice what decoding does.

    Raises:
        ValueError: they are no frames, or of less content.
    """
    import zstandard  # noqa: PLC0415  (as in `_compressor`)

    try:
        count = zstandard.ZstdDecompressor().stream_reader(frames, read_across_frames=True).readinto(into)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    if count != len(into):
        raise ValueError("less than its records say")


def _compressor() -> zstandard.ZstdCompressor:
    import zstandard  # noqa: PLC0415  (10 ms, and most commands store no data)

    # Level 1 with a table that fits the first cache and matches of 7 bytes: a quarter less time for 1 % more bytes on tables
    # written as text.
    chosen = zstandard.ZstdCompressionParameters(
        window_log=18, hash_log=12, chain_log=13, search_log=1, min_match=7, strategy=zstandard.STRATEGY_FAST
    )
    return zstandard.ZstdCompressor(compression_params=chosen)
