"""Take out of the packs what no kept file needs any more.

A pack with something nobody needs is written anew: its needed frames go to another pack, as they are; the lines of its files
follow; then its own files are removed. Killed at any moment, every kept file has a line whose frames are there. The packs of a
kept file that is damaged are left alone. Adders are kept out meanwhile; what was added, or relied upon, within the last day is
kept whatever the caller says: its snapshot may not be journalled yet.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from mlops_local.store import files, lock, packfiles, packs
from mlops_local.store.layout import Layout
from mlops_local.store.packfiles import Chunk, Kept, Pack, Stretch

YOUNG_S = 24 * 3600.0
"""A listing that changed within this many seconds is left alone."""


@dataclass(frozen=True)
class Swept:
    """What was removed, or would be."""

    files: int
    """Contents that nobody needs."""
    bytes: int
    """On the disk: of chunks that no kept content shares."""
    packs: int
    """Packs written anew or removed."""


def collect(layout: Layout, keep: Collection[str], *, dry: bool, wait_s: float = 30.0, young_s: float = YOUNG_S) -> Swept:
    """Remove the contents that are not in `keep`.

    Args:
        layout: the store.
        keep: hashes of the files whose content must stay.
        dry: only say what would go.
        wait_s: how long to wait for those who add.
        young_s: how many seconds a listing counts as young.

    Raises:
        StoreBusy: somebody adds to the packs and did not finish in time.
        IntegrityError: a record or line that is needed is damaged; nothing was removed.
        MlopsError: the disk is full; nothing was removed.
    """
    with lock.hold(layout.packs_lock, shared=dry, wait_s=wait_s):
        index = packs.index(layout)
        young = {name for name in index.packs if _age_s(layout, name) < young_s}
        stay = {hash for hash in index if hash in keep or index.pack_of(hash) in young}
        kept = {hash: found for hash in stay if (found := index.get(hash)) is not None}
        untouched = young | {name for hash in stay - kept.keys() for name in index.named(hash)}
        needed: dict[str, set[int]] = defaultdict(set)
        for found in kept.values():
            for chunk in index.of(found):
                needed[chunk.place.pack].add(chunk.place.offset)
        gone = {
            name: size
            for name in index.packs
            if name not in untouched and (size := _unneeded(index.chunks(name), needed[name])) is not None
        }
        swept = Swept(sum(hash not in stay for hash in index), sum(gone.values()), len(gone))
        if not dry and (gone or swept.files):
            _rewrite(layout, index, set(gone), kept)
            _forget(layout, index, set(gone), stay)
        return swept


def _unneeded(table: list[Chunk], needed: set[int]) -> int | None:
    """Bytes of the frames nobody needs; None when all are needed."""
    size = sum(chunk.place.length for chunk in table if chunk.place.offset not in needed)
    return size if size or not table else None


def _rewrite(layout: Layout, index: packs.Index, gone: set[str], kept: dict[str, Kept]) -> None:
    """Add what is needed of the packs `gone` to others, with lines for all files that had something there."""
    moved: dict[tuple[str, int], Stretch] = {}
    homeless = [
        found
        for hash, found in kept.items()
        if index.pack_of(hash) in gone or any(stretch.pack in gone for stretch in found.stretches)
    ]
    chunks = {
        (chunk.place.pack, chunk.place.offset): chunk
        for found in homeless
        for chunk in index.of(found)
        if chunk.place.pack in gone
    }
    opened: list[Pack] = []
    try:
        with ThreadPoolExecutor(1) as syncer:
            for place in sorted(chunks):
                if not opened or opened[-1].full:
                    opened.append(packfiles.open_pack(layout, without=gone))
                chunk = chunks[place]
                (moved[place],) = opened[-1].write([(chunk.hash, chunk.size, packs.frame(layout, chunk))], syncer)
            if homeless and not opened:
                opened.append(packfiles.open_pack(layout, without=gone))
            for pack in opened:
                pack.settle()
        if homeless:
            opened[-1].list([packfiles.line(_moved(index, found, moved)) for found in homeless])
    finally:
        for pack in opened:
            pack.close()


def _moved(index: packs.Index, found: Kept, moved: dict[tuple[str, int], Stretch]) -> Kept:
    places = (moved.get((chunk.place.pack, chunk.place.offset), chunk.place) for chunk in index.of(found))
    return Kept(found.hash, found.size, packfiles.joined(places))


def _forget(layout: Layout, index: packs.Index, gone: set[str], stay: set[str]) -> None:
    """Drop the lines that nobody needs or that name a pack that goes, then those packs."""
    for name in index.packs:
        home = packfiles.listing(layout, name)
        lines = packfiles.lines(layout, name)
        left = [line for line in lines if line[:64] in stay and not any(f" {pack}:" in line for pack in gone)]
        if name in gone:
            home.unlink(missing_ok=True)
        elif left != lines:
            old = home.stat()
            files.replace(home, "".join(f"{line}\n" for line in left).encode("ascii"), sync=True)
            with suppress(OSError):  # it did not get younger by losing lines
                os.utime(home, ns=(old.st_atime_ns, old.st_mtime_ns))
    for name in gone:
        packfiles.table(layout, name).unlink(missing_ok=True)
        packfiles.data(layout, name).unlink(missing_ok=True)
    if gone:
        files.sync_folder(layout.packs)


def _age_s(layout: Layout, name: str) -> float:
    """How long ago the pack was added to, or something in it relied upon."""
    try:
        return time.time() - packfiles.listing(layout, name).stat().st_mtime
    except FileNotFoundError:
        return time.time() - packfiles.data(layout, name).stat().st_mtime
