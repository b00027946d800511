"""Which files a source means, and what their bytes are.

A file is hashed once: `trusted` answers from a remembered stat as long as inode, size, mtime and ctime are the same and the
file was quiet for two seconds before it was hashed (a write within the clock's grain leaves the same stat). Never reads a
file's content except to hash it, and never opens anything under .mlops/.
"""

from __future__ import annotations

import errno
import fnmatch
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from mlops_local.domain.errors import DataError

RACY_NS = 2_000_000_000
"""A file younger than this when it was hashed is hashed again next time."""
STATE = ".mlops"
_MAGIC = "*?["
_BLOCK = 4 << 20
"""Bytes read at a time to be hashed."""


def find(root: Path, pattern: str, *, source: str) -> list[str]:
    """List the files a source's pattern means, relative to the root, sorted.

    Raises:
        DataError: the pattern leaves the project's folder, or no file matches it.
    """
    return list(stamps(root, pattern, source=source))


def stamps(root: Path, pattern: str, *, source: str) -> dict[str, list[int]]:
    """As `find`, with what the stat cache compares of each file.

    Raises:
        DataError: as `find`.
    """
    parts = PurePosixPath(pattern).parts
    if not pattern or PurePosixPath(pattern).is_absolute() or ".." in parts:
        raise DataError(
            f"source {source}: {pattern!r} is not a pattern inside the project's folder",
            hint="give a path relative to mlops.toml, as in data/flights-*.parquet; a link in the project may point elsewhere",
        )
    hidden = any(part.startswith(".") for part in parts)
    found: dict[str, list[int]] = {}
    try:
        paths = sorted(_matching(str(root), "", parts, hidden=hidden))
    except PermissionError as error:
        folder = os.path.relpath(error.filename, root)
        raise DataError(
            f"source {source}: cannot look into {folder}/: {error.strerror}", hint="check the folder's permissions"
        ) from error
    for path in paths:
        try:
            held = os.stat(f"{root}/{path}")  # noqa: PTH116  (thousands of files: Path costs more than the call)
        except OSError as error:
            if os.path.islink(f"{root}/{path}"):  # noqa: PTH114  (as above)
                raise _broken(source, path, error) from error
            continue  # gone since its folder was read, or never there
        if stat.S_ISREG(held.st_mode):
            found[path] = _stamp(held)
    if not found:
        raise DataError(f"source {source}: no file matches {pattern} in {root}", hint=_nearest(root, parts))
    return found


def _matching(root: str, folder: str, parts: Sequence[str], *, hidden: bool) -> set[str]:
    """Paths below a folder that match these parts, as `Path.glob` finds them; hidden names only where they are asked for."""
    part, rest = parts[0], parts[1:]
    if not any(sign in part for sign in _MAGIC):
        path = folder + part
        if path == STATE:
            return set()
        return _matching(root, path + "/", rest, hidden=hidden) if rest else {path}
    if part == "**":
        below = [entry for entry in _entries(root, folder, hidden=hidden) if entry.is_dir(follow_symlinks=False)]
        deeper = [_matching(root, f"{folder}{entry.name}/", parts, hidden=hidden) for entry in below]
        return set().union(*deeper, _matching(root, folder, rest, hidden=hidden) if rest else ())
    matches = re.compile(fnmatch.translate(part)).match
    found = [entry for entry in _entries(root, folder, hidden=hidden) if matches(entry.name)]
    if not rest:
        return {folder + entry.name for entry in found}
    return set().union(*(_matching(root, f"{folder}{entry.name}/", rest, hidden=hidden) for entry in found if entry.is_dir()))


def _entries(root: str, folder: str, *, hidden: bool) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(f"{root}/{folder}") as entries:
            return [
                entry for entry in entries if (hidden or not entry.name.startswith(".")) and (folder or entry.name != STATE)
            ]
    except PermissionError:
        raise  # what cannot be seen must not look as if it were not there
    except OSError:
        return []


def _broken(source: str, path: str, error: OSError) -> DataError:
    """A link that leads nowhere, or round in a circle: it was meant to be a file."""
    said = "a link that leads to itself" if error.errno == errno.ELOOP else "a link to a file that is not there"
    return DataError(f"source {source}: {path} is {said}", hint="mend or remove the link, or narrow the pattern")


def _nearest(root: Path, parts: Sequence[str]) -> str:
    """Say what is there instead: the nearest existing folder of the pattern and what it holds."""
    folder = root
    for part in parts[:-1]:
        if any(sign in part for sign in _MAGIC) or not (folder / part).is_dir():
            break
        folder = folder / part
    name = "the project's folder" if folder == root else f"{folder.relative_to(root).as_posix()}/"
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))
    except OSError:
        return f"{name} cannot be read"
    if not names:
        return f"{name} exists but is empty: put the files there, or correct the pattern"
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"{name} holds {', '.join(names[:4])}{more}: correct the pattern or move the files"


def stamp(file: Path) -> list[int]:
    """Return what the stat cache compares: inode, size, mtime_ns, ctime_ns."""
    return _stamp(file.stat())


def _stamp(held: os.stat_result) -> list[int]:
    return [held.st_ino, held.st_size, held.st_mtime_ns, held.st_ctime_ns]


def trusted(entry: Any, now: Sequence[int]) -> str | None:
    """Return the remembered hash of a file whose stat is `now`, or None when it must be hashed again."""
    if not isinstance(entry, (list, tuple)) or len(entry) != 6 or entry[:4] != now:
        return None
    checked = int(entry[4])
    if checked - max(now[2], now[3]) <= RACY_NS:
        return None
    return str(entry[5])


def digest(file: Path) -> str:
    """Return the BLAKE3 of a file's bytes, in hexadecimal."""
    import blake3  # noqa: PLC0415  (9 ms, and only when a file changed)

    # Read, not mapped: a mapped file that another program cuts short ends this process.
    hasher = blake3.blake3(max_threads=blake3.blake3.AUTO)
    with file.open("rb", buffering=0) as opened:
        buffer = memoryview(bytearray(min(_BLOCK, os.fstat(opened.fileno()).st_size + 1)))
        while count := opened.readinto(buffer):
            hasher.update(buffer[:count])
    return hasher.hexdigest()


def settled_digest(file: Path, *, source: str, tries: int = 3) -> tuple[str, list[int]]:
    """Hash a file that nobody writes meanwhile; return its hash and the stat it had before and after.

    Raises:
        DataError: the file cannot be read, or keeps changing.
    """
    try:
        for _ in range(tries):
            before = stamp(file)
            value = digest(file)
            if stamp(file) == before:
                return value, before
    except OSError as error:
        raise DataError(
            f"source {source}: cannot read {file.name}: {error.strerror or error}",
            hint="check that the file exists and is yours",
        ) from error
    raise DataError(
        f"source {source}: {file.name} is being written right now", hint="run the command again when the writer is done"
    )


def identity(files: Iterable[tuple[str, str]], schema: Mapping[str, str] | None = None, labels: str = "") -> str:
    """Return the snapshot id of (path, content hash) pairs: equal files that are read alike are one snapshot."""
    import blake3  # noqa: PLC0415  (as in `digest`)

    text = [b"snapshot\n"]
    for path, content in sorted(files):
        data = path.encode("utf-8", "surrogateescape")
        text.append(b"%d:%b %b\n" % (len(data), data, content.encode("ascii")))
    if schema:
        text.append(b"read as\n" + json.dumps(dict(schema), sort_keys=True).encode())
    if labels:
        text.append(b"labelled by\n" + labels.encode("utf-8", "surrogateescape"))
    return blake3.blake3(b"".join(text)).hexdigest()


def remembered(stats: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stat cache's entries by path; anything that does not look like one is dropped."""
    return {path: entry for path, entry in stats.items() if isinstance(entry, (list, tuple)) and len(entry) == 6}


def shown(path: Path, here: Path) -> str:
    """Return a path as a person standing in `here` would type it."""
    try:
        return path.relative_to(here.absolute()).as_posix()
    except ValueError:
        return str(path)
