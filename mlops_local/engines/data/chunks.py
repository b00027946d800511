"""Where a file's bytes are cut into chunks, so that equal stretches of two files become equal chunks.

A cut is the place within a window after the previous cut where a hash of the eight bytes before it is largest; of text, of the
places behind a line, which are soon looked through. It depends on the bytes alone: after an insertion the cuts fall into step
again within a few chunks, and everything behind them is stored already. numpy looks at a window in one go; a loop over bytes in
Python would take minutes a GB. Pure: bytes in, places out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

LEAST = 104 << 10
"""No chunk but a file's last is shorter, in bytes."""
MOST = 152 << 10
"""No chunk is longer."""

_MULTIPLIER = 0x9E3779B97F4A7C15
_WORD = 8
_NEWLINE = 10
_LINES = range(32, 1025)
"""So many lines in a window are places enough to choose from, and few enough to be looked through sooner than all bytes."""
_REACH = (0, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
"""How far before a place to look, in bytes, until one is told apart from the others."""


def cut(data: memoryview, *, final: bool) -> list[int]:
    """Return the ends of the chunks at the beginning of `data` that further bytes cannot change.

    Args:
        data: bytes from an earlier cut (or the file's first byte) on.
        final: nothing follows; then the last end is the end of `data`.
    """
    ends: list[int] = []
    start, size = 0, len(data)
    while size - start > MOST:
        start += _length(data[start : start + MOST])
        ends.append(start)
    if final and (start < size or not ends):
        ends.append(size)
    return ends


def _length(data: memoryview) -> int:
    """Length of the chunk that begins `data`, which is MOST bytes long."""
    import numpy as np  # noqa: PLC0415  (66 ms, and only files longer than a chunk need it)

    behind = np.ndarray((MOST - LEAST,), np.uint8, data, LEAST - 1) == _NEWLINE
    if int(np.count_nonzero(behind)) in _LINES:
        return _one(data, np.flatnonzero(behind) + LEAST)
    count = (MOST - LEAST) // _WORD
    # Row k: the words that end at LEAST + k, LEAST + k + 8, ...
    words = np.ndarray((_WORD, count), "<u8", data, LEAST - _WORD, (1, _WORD))
    hashes = np.multiply(words, np.uint64(_MULTIPLIER), out=np.empty((_WORD, count), np.uint64))
    largest = hashes.max(axis=1)
    best = largest.max()
    rows = np.flatnonzero(largest == best)
    found = [np.flatnonzero(hashes[row] == best) * _WORD + (LEAST + row) for row in rows]
    if sum(map(len, found)) > count:  # data that repeat every few bytes: the first place is as good as any
        return int(min(places[0] for places in found))
    return _one(data, np.concatenate(found))


def _one(data: memoryview, places: np.ndarray[Any, Any]) -> int:
    """Choose among places by the eight bytes before them, and where those are the same by what stands farther before."""
    import numpy as np  # noqa: PLC0415  (as in `_length`)

    words = np.ndarray((len(data) - _WORD + 1,), "<u8", data, strides=(1,))
    for reach in _REACH:
        if len(places) == 1:
            break
        hashes = words[places - _WORD - reach] * np.uint64(_MULTIPLIER)
        places = places[hashes == hashes.max()]
    return int(places.min())
