"""File contents by the BLAKE3 hash of their bytes: written once, never changed, verified when read.

One file an object, `objects/ab/abcdef...`, 0400. The project's DuckDB file never comes here: opening it drops DuckDB's lock.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import blake3

from mlops_local.domain.errors import DataError, IntegrityError
from mlops_local.store import files
from mlops_local.store.layout import Layout

_BLOCK = 1 << 20
_RENEW_S = 12 * 3600.0
"""An object that is kept once more counts as new again from this age on: `collect` leaves what is young."""


def path(layout: Layout, hash: str) -> Path:
    """Return where the object is kept, whether or not it is there."""
    return layout.objects.joinpath(hash[:2], hash)


def exists(layout: Layout, hash: str) -> bool:
    """Say whether the object is there (not whether it is whole: see `verify`)."""
    return path(layout, hash).is_file()


def renew(layout: Layout, hash: str) -> bool:
    """Say whether the object is there; an old one becomes young, for somebody is about to name it."""
    home = path(layout, hash)
    try:
        if time.time() - home.stat().st_mtime > _RENEW_S:
            os.utime(home)
    except FileNotFoundError:
        return False
    except PermissionError:
        pass  # another member of the group owns it
    return True


def put_bytes(layout: Layout, data: bytes) -> str:
    """Keep `data` and return its hash. Raises MlopsError on a full disk."""
    digest = blake3.blake3(data).hexdigest()
    if not renew(layout, digest):
        _keep(layout, [data], digest)
    return digest


def put_file(layout: Layout, source: Path, *, known_hash: str | None = None) -> str:
    """Keep the content of the file at `source` and return its hash.

    Args:
        layout: the store.
        source: read once.
        known_hash: when the caller hashed it before, nothing is read if the object is there already.

    Raises:
        DataError: the file cannot be read, or is no longer what `known_hash` says.
        MlopsError: the disk is full.
    """
    if source.name.startswith(layout.database.name) and source.parent.resolve() == layout.state.resolve():
        raise DataError(f"{source} is the store's own database and cannot be an input", hint="name other files")
    if known_hash is not None and renew(layout, known_hash):
        return known_hash
    try:
        file = source.open("rb")
    except OSError as error:
        raise _unreadable(source, error) from error
    with file:
        return _keep(layout, _read(file, source), known_hash, source)


def receive(layout: Layout, blocks: Iterator[bytes], hash: str) -> None:
    """Keep what comes from another store. Raises IntegrityError when it is not what its hash says; it is not kept then."""
    try:
        _keep(layout, blocks, hash)
    except DataError as error:
        raise IntegrityError(f"object {hash[:12]} is not what its name says", hint="nothing of it was kept") from error


def adopt(layout: Layout, source: Path) -> str:
    """Keep a file nobody else needs and return its hash: it is moved, not copied, where it lies on the store's file system.

    Args:
        layout: the store.
        source: a finished file below the store's tmp folder; gone afterwards.

    Raises:
        DataError: the file cannot be read.
        MlopsError: the disk is full.
    """
    if source.parent.parent == layout.objects:  # kept before
        return source.name
    try:
        found = source.lstat()
        alone = stat.S_ISREG(found.st_mode) and found.st_nlink == 1  # a link's other name would be the user's own file
        if not alone or found.st_dev != layout.objects.stat().st_dev:
            digest = put_file(layout, source)
            source.unlink()
            return digest
        digest = hash_file(source)
        # A step that made again what it made before: reading a small file is a fraction of two flushes of the disk.
        if found.st_size <= _BLOCK and renew(layout, digest) and verify(layout, digest):
            source.unlink()
            return digest
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fchmod(descriptor, 0o400)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _name(layout, source, digest)
    except OSError as error:
        if error.errno in files.FULL:
            raise files.cannot_write(source, error) from error
        raise DataError(f"cannot keep {source.name}: {error.strerror or error}") from error
    return digest


def _name(layout: Layout, draft: Path, digest: str) -> None:
    """Give a durable file the name its content has; an altered file of that name is replaced."""
    home = path(layout, digest)
    if not home.parent.is_dir():
        home.parent.mkdir(mode=0o700, exist_ok=True)
        files.sync_folder(layout.objects)
    draft.rename(home)
    files.sync_folder(home.parent)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


def _read(file: BinaryIO, source: Path) -> Iterator[bytes]:
    try:
        yield from _blocks(file)
    except OSError as error:
        raise _unreadable(source, error) from error


def _keep(layout: Layout, blocks: Iterator[bytes] | list[bytes], expected: str | None, source: Path | None = None) -> str:
    """Write a draft, make it durable, give it its name. Raises MlopsError when it cannot be written."""
    draft = layout.tmp / f"object.{secrets.token_hex(8)}"
    hasher = blake3.blake3()
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
        try:
            for block in blocks:
                hasher.update(block)
                files.write_all(descriptor, block)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        digest = hasher.hexdigest()
        if expected is not None and digest != expected:
            raise DataError(f"{source or 'the data'} changed while it was read", hint="run the command again")
        _name(layout, draft, digest)
    except OSError as error:
        raise files.cannot_write(draft, error) from error
    finally:
        draft.unlink(missing_ok=True)
    return digest


def get(layout: Layout, hash: str) -> bytes:
    """Return the object's bytes, verified. Raises IntegrityError when missing or altered."""
    try:
        data = path(layout, hash).read_bytes()
    except OSError as error:
        raise _missing(hash) from error
    if blake3.blake3(data).hexdigest() != hash:
        raise IntegrityError(f"object {hash[:12]} is not what was written", hint="run `mlops doctor --deep --fix`")
    return data


def verify(layout: Layout, hash: str) -> bool:
    """Say whether the object is there with the bytes that were written."""
    home = path(layout, hash)
    return home.is_file() and hash_file(home) == hash


def stamp(layout: Layout, hash: str) -> list[int] | None:
    """What the object's file looks like without reading it: equal stamps, equal bytes. None when it is not there.

    Objects are written once, read-only, and any write or replacement since changes the inode or its ctime, which programs
    cannot set. What the stamp cannot see is a disk that rots: `mlops doctor` reads every object.
    """
    try:
        found = path(layout, hash).stat()
    except OSError:
        return None
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def hash_file(source: Path) -> str:
    """Return the BLAKE3 hash of a file's bytes."""
    hasher = blake3.blake3()
    with source.open("rb") as file:
        for block in _blocks(file):
            hasher.update(block)
    return hasher.hexdigest()


def every(layout: Layout) -> Iterator[str]:
    """Yield the hash of every object that is kept, in no order."""
    for folder in layout.objects.iterdir():
        if len(folder.name) == 2:
            for file in folder.iterdir():
                yield file.name


def _missing(hash: str) -> IntegrityError:
    return IntegrityError(f"object {hash[:12]} is missing", hint="run `mlops doctor`, or `mlops pull` it from where it is kept")


def _unreadable(source: Path, error: OSError) -> DataError:
    return DataError(f"cannot read {source}: {error.strerror or error}")
