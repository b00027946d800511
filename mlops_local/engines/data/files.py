"""Which files a source means, and what their bytes are.

Never reads a file's content except to hash it, and never opens anything under .mlops/.
"""

from __future__ import annotations

import errno
import fnmatch
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path, PurePosixPath

from mlops_local.domain.errors import DataError
from mlops_local.domain.listing import Listing
from mlops_local.domain.listing import stamps as as_stamps

STATE = ".mlops"
_MAGIC = "*?["
_BLOCK = 4 << 20
"""Bytes read at a time to be hashed."""
_SMALL = 64 << 10
"""A file shorter than this is read at once: there may be tens of thousands of them."""


def find(root: Path, pattern: str, *, source: str) -> list[str]:
    """List the files a source's pattern means, relative to the root, sorted.

    Raises:
        DataError: the pattern leaves the project's folder, or no file matches it.
    """
    return listing(root, pattern, source=source).paths


def listing(root: Path, pattern: str, *, source: str) -> Listing:
    """As `find`, with what the stat cache compares of each file.

    Raises:
        DataError: as `find`.
    """
    parts = PurePosixPath(pattern).parts
    if not parts or PurePosixPath(pattern).is_absolute() or ".." in parts or "\0" in pattern:
        raise DataError(
            f"source {source}: {pattern!r} is not a pattern inside the project's folder",
            hint="give a path relative to mlops.toml, as in data/flights-*.parquet; a link in the project may point elsewhere",
        )
    hidden = any(part.startswith(".") for part in parts)
    try:
        paths = sorted(_matching(str(root), "", parts, hidden=hidden))
    except PermissionError as error:
        folder = os.path.relpath(error.filename, root)
        raise DataError(
            f"source {source}: cannot look into {folder}/: {error.strerror}", hint="check the folder's permissions"
        ) from error
    found = seen(root, paths, source=source)
    if not found.paths:
        raise DataError(f"source {source}: no file matches {pattern} in {root}", hint=_nearest(root, parts))
    return found


def seen(root: Path, paths: Iterable[str], *, source: str = "") -> Listing:
    """Those of the paths that are regular files, and their stat.

    Args:
        root: the folder the paths are relative to.
        paths: in the order that is wanted.
        source: whose files they have to be; where none is given, links that lead nowhere are left out like what is not there.

    Raises:
        DataError: one of the source's paths is a link that leads nowhere.
    """
    found: list[str] = []
    numbers: list[int] = []
    base, regular = f"{root}/", stat.S_ISREG
    for path in paths:
        try:
            held = os.stat(base + path)  # noqa: PTH116  (thousands of files: Path costs more than the call)
        except OSError as error:
            if source and os.path.islink(base + path):  # noqa: PTH114  (as above)
                raise _broken(source, path, error) from error
            continue  # gone since its folder was read, or never there
        if regular(held.st_mode):
            found.append(path)
            numbers += (held.st_ino, held.st_size, held.st_mtime_ns, held.st_ctime_ns)
    return Listing(found, as_stamps(numbers))


def below(folder: Path) -> list[str]:
    """The files below a folder, relative to it and sorted; hidden ones are left out as in patterns. Raises DataError."""
    try:
        return seen(folder, sorted(_matching(str(folder), "", ("**", "*"), hidden=False))).paths
    except PermissionError as error:
        raise DataError(
            f"cannot look into {error.filename}: {error.strerror}", hint="check the folder's permissions"
        ) from error


def stamps(root: Path, pattern: str, *, source: str) -> dict[str, list[int]]:
    """As `listing`, by path: for few files.

    Raises:
        DataError: as `find`.
    """
    found = listing(root, pattern, source=source)
    return {path: found.stamp(place) for place, path in enumerate(found.paths)}


def _matching(root: str, folder: str, parts: Sequence[str], *, hidden: bool) -> list[str]:
    """Paths below a folder that match these parts; hidden names only where they are asked for.

    As `Path.glob` finds them, and a folder, or `**` at the end, stands for all files below it.
    """
    part, rest = parts[0], parts[1:]
    if not any(sign in part for sign in _MAGIC):
        path = folder + part
        if path == STATE:
            return []
        if not rest and os.path.isdir(f"{root}/{path}"):  # noqa: PTH112  (as above)
            rest = ("**", "*")
        return _matching(root, path + "/", rest, hidden=hidden) if rest else [path]
    if part == "**":
        rest = rest or ("*",)
        below = [entry.name for entry in _entries(root, folder, hidden=hidden) if entry.is_dir(follow_symlinks=False)]
        deeper = [_matching(root, f"{folder}{name}/", parts, hidden=hidden) for name in below]
        found = [*chain.from_iterable(deeper), *_matching(root, folder, rest, hidden=hidden)]
        return list(set(found)) if "**" in rest else found  # several ways to the same file
    matches = re.compile(fnmatch.translate(part)).match
    if not rest:
        # In order within each folder, so that putting all in order afterwards takes next to nothing.
        return [folder + name for name in sorted(_names(root, folder, hidden=hidden)) if part == "*" or matches(name)]
    inner = [entry.name for entry in _entries(root, folder, hidden=hidden) if matches(entry.name) and entry.is_dir()]
    return [path for name in sorted(inner) for path in _matching(root, f"{folder}{name}/", rest, hidden=hidden)]


def _entries(root: str, folder: str, *, hidden: bool) -> list[os.DirEntry[str]]:
    with _seeing(), os.scandir(f"{root}/{folder}") as entries:
        return [entry for entry in entries if (hidden or not entry.name.startswith(".")) and (folder or entry.name != STATE)]
    return []


def _names(root: str, folder: str, *, hidden: bool) -> list[str]:
    """As `_entries`, where only their names are wanted: a third of the time."""
    with _seeing():
        names = os.listdir(f"{root}/{folder}")  # noqa: PTH208  (as above)
        return [name for name in names if (hidden or name[0] != ".") and (folder or name != STATE)]
    return []


@contextmanager
def _seeing() -> Iterator[None]:
    """A folder that is none holds nothing; what cannot be seen must not look as if it were not there."""
    try:
        yield
    except PermissionError:
        raise
    except OSError:
        return


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
    held = file.stat()
    return as_stamps((held.st_ino, held.st_size, held.st_mtime_ns, held.st_ctime_ns)).tolist()


def digest(file: Path) -> str:
    """Return the BLAKE3 of a file's bytes, in hexadecimal."""
    import blake3  # noqa: PLC0415  (9 ms, and only when a file changed)

    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if len(data := os.read(descriptor, _SMALL)) < _SMALL and not os.read(descriptor, 1):
            return blake3.blake3(data).hexdigest()
    finally:
        os.close(descriptor)
    return _digests(file, 0)[0]


def _digests(file: Path, first: int) -> tuple[str, str]:
    """The BLAKE3 of a file's bytes and of the `first` of them; of the latter none where there are not so many."""
    import blake3  # noqa: PLC0415  (9 ms, and only when a file changed)

    # Read, not mapped: a mapped file that another program cuts short ends this process.
    hasher, done, begins = blake3.blake3(max_threads=blake3.blake3.AUTO), 0, ""
    with file.open("rb", buffering=0) as opened:
        buffer = memoryview(bytearray(min(_BLOCK, os.fstat(opened.fileno()).st_size + 1)))
        while count := opened.readinto(buffer):
            part = min(max(first - done, 0), count)
            hasher.update(buffer[:part])
            if part and done + part == first:
                begins = hasher.hexdigest()
            hasher.update(buffer[part:count])
            done += count
    return hasher.hexdigest(), begins


def settled_digest(file: Path, *, source: str, first: int = 0, tries: int = 3) -> tuple[str, list[int], str]:
    """Hash a file that nobody writes meanwhile.

    Args:
        file: to read.
        source: the source's name, for messages.
        first: of so many bytes at its beginning the hash is wanted too.
        tries: how often it is read again because it changed.

    Returns:
        Its hash, the stat it had before and after, and the hash of its first bytes.

    Raises:
        DataError: the file cannot be read, or keeps changing.
    """
    try:
        for _ in range(tries):
            before = stamp(file)
            value, begins = _digests(file, first)
            if stamp(file) == before:
                return value, before, begins
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

    lines = [
        f"{len(path) if path.isascii() else len(path.encode('utf-8', 'surrogateescape'))}:{path} {content}\n"
        for path, content in sorted(files)
    ]
    text = ["snapshot\n", *lines]
    if schema:
        text.append("read as\n" + json.dumps(dict(schema), sort_keys=True))
    if labels:
        text.append("labelled by\n" + labels)
    return blake3.blake3("".join(text).encode("utf-8", "surrogateescape")).hexdigest()


def shown(path: Path, here: Path) -> str:
    """Return a path as a person standing in `here` would type it."""
    try:
        return path.relative_to(here.absolute()).as_posix()
    except ValueError:
        return str(path)
