"""The stat cache on disk, one file a source: a line that says how long the columns are, then the columns.

    {"form":1,"files":N,"paths":BYTES,"order":"little"}
    paths, a zero byte between two; the hashes, 32 bytes each; the stamps, four numbers of 64 bits each

Read for every command that looks at data, so it is made to be read at once: as JSON, 50,000 files took longer than asking the
system about each of them. One that is damaged is none, and its files are hashed again.
"""

from __future__ import annotations

import json
import sys
from array import array

from mlops_local.domain.errors import MlopsError
from mlops_local.domain.listing import STAMP, Hashed, Listing
from mlops_local.store import cache, files
from mlops_local.store.layout import Layout

_FORM = 1
_HASH = 32
_NONE = "00" * _HASH
"""In the place of a hash that is not known."""


def read(layout: Layout, source: str) -> Hashed | None:
    """Return what a source's files looked like when they were hashed, if that is known."""
    try:
        return decoded(cache.at(layout, "stats", source, ".bin").read_bytes())
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(layout: Layout, source: str, value: Hashed) -> None:
    """Keep what a source's files looked like when they were hashed; it only spares work, so a full disk is no error."""
    home = cache.at(layout, "stats", source, ".bin")
    try:
        home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.replace(home, encoded(value))
    except (OSError, MlopsError):
        return


def forget(layout: Layout, source: str) -> None:
    """Believe nothing of a source's files any more."""
    cache.at(layout, "stats", source, ".bin").unlink(missing_ok=True)


def encoded(value: Hashed) -> bytes:
    """The columns as bytes."""
    paths = "\0".join(value.listing.paths).encode("utf-8", "surrogateescape")
    head = {"form": _FORM, "files": len(value.hashes), "paths": len(paths), "order": sys.byteorder}
    hashes = bytes.fromhex("".join([hash or _NONE for hash in value.hashes]))
    return b"".join([json.dumps(head, separators=(",", ":")).encode(), b"\n", paths, hashes, value.listing.stamps.tobytes()])


def decoded(data: bytes) -> Hashed:
    """Back from `encoded`. Raises ValueError, KeyError or TypeError where it is not that."""
    begin = data.index(b"\n") + 1
    head = json.loads(data[:begin])
    count, middle = head["files"], begin + head["paths"]
    end = middle + count * _HASH
    stamps = array("q")
    if (head["form"], head["order"], len(data)) != (_FORM, sys.byteorder, end + count * STAMP * stamps.itemsize):
        raise ValueError("not as it was written")
    stamps.frombytes(data[end:])
    text = data[middle:end].hex()
    paths = data[begin:middle].decode("utf-8", "surrogateescape").split("\0") if count else []
    if len(paths) != count:
        raise ValueError("not as many paths as hashes")
    hashes = [text[at : at + 2 * _HASH] for at in range(0, len(text), 2 * _HASH)]
    return Hashed(Listing(paths, stamps), ["" if hash == _NONE else hash for hash in hashes] if _NONE in text else hashes)
