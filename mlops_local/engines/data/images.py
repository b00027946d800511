"""Files that are no tables: what can be known of them is their size, type, and a picture's width and height.

Of a picture only its first bytes are read (PNG, JPEG, GIF, BMP, WebP), and those once for each content. Loads no library.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

TYPES = frozenset({"png", "jpg", "jpeg", "gif", "bmp", "webp"})
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""JPEG segments that begin with the picture's size."""


def about(
    root: Path,
    paths: Sequence[str],
    sizes: Mapping[str, int],
    load: Callable[[str], Mapping[str, Any] | None] = lambda path: None,
    save: Callable[[str, Mapping[str, Any]], None] = lambda path, value: None,
) -> dict[str, list[Any]]:
    """Return a value for each file: `bytes`, `type` (its suffix), and `width` and `height` where any file is a picture.

    Args:
        root: the folder the paths are relative to.
        paths: the files.
        sizes: their bytes, as far as they are known already.
        load: what `save` kept of a picture of these bytes.
        save: keep what was found out of a picture.
    """
    types = [_type(path) or "none" for path in paths]
    length = [sizes[path] if path in sizes else os.stat(f"{root}/{path}").st_size for path in paths]  # noqa: PTH116
    found: dict[str, list[Any]] = {"bytes": length, "type": types}
    if not TYPES.isdisjoint(types):
        seen = [_known(root, path, load, save) or (None, None) for path in paths]
        found |= {"width": [width for width, _ in seen], "height": [height for _, height in seen]}
    return found


def _type(path: str) -> str:
    """The suffix in small letters, without its dot: of text, for `Path` takes ten times as long."""
    name, _, suffix = path.rpartition(".")
    if not name or name[-1] in "/." or "/" in suffix:  # a hidden file, or none
        return os.path.splitext(path)[1].lower().removeprefix(".")  # noqa: PTH122
    return suffix.lower()


def _known(
    root: Path,
    path: str,
    load: Callable[[str], Mapping[str, Any] | None],
    save: Callable[[str, Mapping[str, Any]], None],
) -> tuple[int, int] | None:
    if _type(path) not in TYPES:
        return None
    held = load(path)
    if held is not None and "size" in held:
        return tuple(held["size"]) if held["size"] else None
    size = dimensions(root / path)
    save(path, {"size": size})
    return size


def dimensions(file: Path) -> tuple[int, int] | None:
    """Return a picture's width and height in pixels; None where its first bytes do not say. Raises OSError."""
    try:
        with file.open("rb") as opened:
            head = opened.read(30)
            if head.startswith(b"\xff\xd8"):
                opened.seek(2)
                return _jpeg(opened)
            return _fixed(head)
    except struct.error:
        return None


def _fixed(head: bytes) -> tuple[int, int] | None:
    """Of the formats whose size stands at a fixed place."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return struct.unpack(">II", head[16:24])
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return struct.unpack("<HH", head[6:10])
    if head.startswith(b"BM"):
        width, height = struct.unpack("<ii", head[18:26])
        return width, abs(height)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp(head)
    return None


def _webp(head: bytes) -> tuple[int, int] | None:
    match head[12:16]:
        case b"VP8 ":
            width, height = struct.unpack("<HH", head[26:30])
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            (packed,) = struct.unpack("<I", head[21:25])
            return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    return None


def _jpeg(file: BinaryIO) -> tuple[int, int] | None:
    while file.read(1) == b"\xff":
        while (marker := file.read(1)) == b"\xff":
            pass
        (length,) = struct.unpack(">H", file.read(2))
        if marker and marker[0] in _FRAME_MARKERS:
            _, height, width = struct.unpack(">BHH", file.read(5))
            return width, height
        file.seek(length - 2, 1)
    return None
