"""Make the store smaller without losing a line: small put-away journals in archives, the database as a fresh copy.

Each turn of the lock is short but the database's own, which lasts as long as copying it. Killed at any moment, everything is
there, a journal perhaps twice, which counts once. Never touches what a process still writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlops_local.store import archive, lock, projection
from mlops_local.store.database import Store

_SMALL_BYTES = 1 << 20
"""A file of done/ below this goes into an archive with others; a full segment gains nothing there."""


@dataclass(frozen=True)
class Sizes:
    """What a part of the store takes on the disk."""

    files: int
    bytes: int


@dataclass(frozen=True)
class Compacted:
    """Sizes before and after."""

    database_before: Sizes
    database_after: Sizes
    journals_before: Sizes
    journals_after: Sizes


def compact(store: Store) -> Compacted:
    """Fold what is new, put small journals together, copy the database where that makes it smaller.

    Raises:
        StoreBusy, NewerStore, IntegrityError: as `Store.writer`.
        MlopsError: the disk is full; nothing is lost, and what was done by then stays.
    """
    projection.catch_up(store)
    before = _sizes(store.files()), _sizes(store.layout.done.iterdir())
    _journals(store)
    store.rewrite()
    return Compacted(before[0], _sizes(store.files()), before[1], _sizes(store.layout.done.iterdir()))


def _journals(store: Store) -> None:
    """Put small files together, as many as fit into one archive in each turn of the lock."""
    while True:
        with lock.hold(store.layout.store_lock, wait_s=store.wait_s, on_wait=store.on_wait):
            group, contents = _group(sorted(store.layout.done.glob("*.zst")))
            if len(group) < 2:
                return
            archive.put(store.layout, contents)
            for path in group:
                path.unlink()


def _group(paths: Sequence[Path]) -> tuple[list[Path], list[tuple[str, bytes]]]:
    """The next files to put together, and what they hold, each journal once. Any two of those that are not full fit."""
    group: list[Path] = []
    contents: dict[str, bytes] = {}
    for path in paths:
        if path.stat().st_size >= _SMALL_BYTES:
            continue
        found = {kept.name: kept.read() for kept in archive.members(path)}
        size, together = (sum(map(len, content.values())) for content in (found, contents))
        if not found or size >= archive.ARCHIVE_BYTES // 2:
            continue
        if size + together > archive.ARCHIVE_BYTES:
            break
        group.append(path)
        contents |= {name: data for name, data in found.items() if name not in contents}
    return group, list(contents.items())


def _sizes(paths: Iterable[Path]) -> Sizes:
    found = [path.stat().st_size for path in paths]
    return Sizes(len(found), sum(found))
