"""Write small files so that a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops_local.domain.errors import MlopsError, Unwritable

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says when no more bytes fit."""
FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""What it says when bytes may not be written at all."""
_AT_ONCE = 128 << 10
"""Longer writes get their pages in large pieces; a virtual machine has to ask its host for those, at ten times the cost."""
_ERRNO = re.compile(r'"errno": ?"(\d+)"')


def replace(path: Path, data: bytes, *, mode: int = 0o600, sync: bool = False) -> None:
    """Put `data` at `path` in one step.

    Args:
        path: where; its folder exists.
        data: the whole content.
        mode: permissions of the new file.
        sync: also outlive a power cut (costs a disk flush).

    Raises:
        MlopsError: the disk is full or the folder cannot be written.
    """
    draft = path.with_name(f".{path.name[:80]}.{os.urandom(6).hex()}")
    try:
        put(draft, path, data, mode=mode, sync=sync)
    except OSError as error:
        raise cannot_write(path, error) from error
    if sync:
        sync_folder(path.parent)


def put(draft: Path, path: Path, data: bytes, *, mode: int = 0o600, sync: bool = False) -> None:
    """Write a draft that is not there yet and give it the name `path`. Raises OSError, and leaves no draft.

    Args:
        draft: on the same file system.
        path: where it is to be; replaced if it is there.
        data: the whole content.
        mode: permissions.
        sync: its bytes outlive a power cut; its name needs `sync_folder`.
    """
    try:
        create(draft, data, mode=mode, sync=sync)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def create(path: Path, data: bytes, *, mode: int = 0o600, sync: bool = False) -> None:
    """Write a file that is not there yet. Raises OSError, and leaves what it wrote by then.

    Args:
        path: where; its folder exists.
        data: the whole content.
        mode: permissions.
        sync: its bytes outlive a power cut; its name needs `sync_folder`.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        write_all(descriptor, data)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write every byte or raise OSError; a short write is continued until the system says why."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_at(descriptor: int, data: bytes | memoryview, at: int) -> None:
    """Write every byte from a place on, or raise OSError; other processes may see part of it."""
    view = memoryview(data)
    while view:
        done = os.pwrite(descriptor, view[:_AT_ONCE], at)
        view, at = view[done:], at + done


def append_lines(descriptor: int, data: bytes) -> None:
    """Append lines. Of what fails, the lines stay that got there whole: who read them already goes on behind them."""
    size = os.fstat(descriptor).st_size
    try:
        write_all(descriptor, data)
    except BaseException:
        there = min(os.fstat(descriptor).st_size - size, len(data))
        os.ftruncate(descriptor, size + data.rfind(b"\n", 0, max(0, there)) + 1)
        raise


def sync_file(path: Path) -> None:
    """Make a file's content outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def told(error: Exception) -> OSError:
    """The system's error that an error of DuckDB's about a file tells of."""
    number = _ERRNO.search(str(error))
    said = int(number[1]) if number else errno.EIO
    return OSError(said, os.strerror(said))


def full(error: MlopsError) -> bool:
    """Whether an error that `cannot_write` made says that no more bytes fit."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in FULL


def cannot_write(path: Path, error: OSError) -> Unwritable:
    """The error a person reads when `path` could not be written."""
    if error.errno in FULL:
        return Unwritable(
            f"no space left to write {path.parent.name}/{path.name}", hint="free some disk space and run the command again"
        )
    return Unwritable(f"cannot write {path}: {error.strerror or error}", hint="check the folder's permissions")


@contextmanager
def searched(folder: Path) -> Iterator[str]:
    """Where relative paths of SQL start from, as DuckDB takes it: a comma would part it in two, and nothing quotes one."""
    if "," not in str(folder):
        yield str(folder)
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


@contextmanager
def scratch(folder: Path, what: str) -> Iterator[Path]:
    """A folder for what is worked out, gone afterwards: in `folder`, or where the system has one if that takes nothing."""
    import tempfile  # noqa: PLC0415  (5 ms, and only for who compares or checks rows)

    try:
        made = tempfile.TemporaryDirectory(prefix=f"{what}-", dir=folder)
    except OSError:
        made = tempfile.TemporaryDirectory(prefix=f"mlops-{what}-")
    with made as name:
        yield Path(name)
