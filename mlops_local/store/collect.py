"""Remove what nothing needs any more, so that a crash at any moment and any writer beside it lose nothing.

An object is set aside (renamed within the file system), then everything is asked again whether something needs it, and only
then is it removed; what is needed by now goes back. Young objects are left: their writer may not have said yet what they are
for, and whoever keeps a content that is there already makes it young again (see `objects`).
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mlops_local.domain import events
from mlops_local.domain.errors import MlopsError, StoreBusy
from mlops_local.store import cache, files, ledger, lock, newest, objects, packs, reachable, registry, sweeping
from mlops_local.store.journal import new_id
from mlops_local.store.layout import Layout

YOUNG_S = 24 * 3600.0
"""What is younger stays, whatever names it."""
UNUSED_S = 7 * 24 * 3600.0
"""What can be made again stays for so long after it was last used."""
_COPIES = ("contents", "rows")
"""Folders of the cache with files of old snapshots, made to be read."""
_SLACK_S = 5.0
"""File systems date a change by a clock that lags behind the journals'."""
_ASIDE = "gc."
_HASH = 64
_RUN = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Item:
    """One thing that nothing needs."""

    kind: str
    """object, data, result, log, draft or cache."""
    why: str
    bytes: int
    path: Path
    run: str = ""
    """The removed run it is of."""
    count: int = 1
    """How many things, where it is several."""


@dataclass(frozen=True)
class Garbage:
    """What nothing needs, and what is left all the same."""

    items: tuple[Item, ...] = ()
    young: int = 0
    """Objects that nothing names, left because they are young."""
    needed: int = 0
    """Objects that something needs."""
    waiting: bool = False
    """A process writes to the store: what removed runs made stays until it ends, it may be using that."""

    @property
    def bytes(self) -> int:
        """All that is or was freed."""
        return sum(item.bytes for item in self.items)

    @property
    def runs(self) -> tuple[str, ...]:
        """Removed runs whose files go: they cannot be taken back whole."""
        return tuple(sorted({item.run for item in self.items if item.run}))


def survey(layout: Layout, *, now_s: float | None = None, sources: Collection[str] | None = None) -> Garbage:
    """Say what could be removed. Changes nothing.

    Args:
        layout: the store.
        now_s: the time, in seconds since 1970; default: what it is.
        sources: the sources there are now, whose figures are of use; all count as being there when it is not known.

    Raises:
        IntegrityError: a journal or the ledger cannot be read: what it names is not known then.
    """
    alive = reachable.writers(layout)
    limit = _limit(now_s, alive)
    there, packed = set(objects.every(layout)), set(packs.every(layout))
    sketched = {path.name[:_HASH]: path for path in _cached(layout, "sketches")}
    found = reachable.needs(layout, there | packed | set(sketched), entries_after_s=0.0 if alive else limit)
    gone = sorted(registry.removed(ledger.read(layout)))
    items: list[Item] = []
    young = 0
    for hash in sorted(there - found.kept):
        path, run = objects.path(layout, hash), found.removed.get(hash, "")
        if not _old(path, limit):
            young += 1
            continue
        why = "made by removed runs alone" if run else "named by nothing: left by processes that were killed"
        items.append(Item("object", why, _bytes(path), path, run))
    items += [Item("result", "made by removed runs", _bytes(path), path) for path in found.entries]
    items += _data(layout, packed & found.kept, dry=True)
    logs = [(layout.logs / run, run) for run in gone if _RUN.fullmatch(run)]  # a store that was fetched may say anything
    items += [Item("log", "printed by removed runs", _bytes(path), path, run) for path, run in logs if _old(path, limit)]
    drafts = [path for path in sorted(_drafts(layout)) if _old(path, limit)]
    items += [Item("draft", "half written, and nobody goes on with it", _bytes(path), path) for path in drafts]
    figures = [path for hash, path in sketched.items() if hash not in found.kept and _old(path, limit)]
    items += [Item("cache", "figures of contents that no snapshot names", _bytes(path), path) for path in figures]
    unused = limit - (UNUSED_S - YOUNG_S)
    copies = [path for kind in _COPIES for path in _cached(layout, kind) if _old(path, unused)]
    items += [Item("cache", "copies to read old snapshots from, unused for a week", _bytes(path), path) for path in copies]
    if sources is not None:
        strange = [path for path in cache.of_others(layout, sources) if _old(path, unused)]
        items += [Item("cache", "of sources that are declared no more", _bytes(path), path) for path in strange]
    return Garbage(tuple(items), young, len((there | packed) & found.kept), bool(alive and gone))


def sweep(
    layout: Layout, *, wait_s: float = 30.0, now_s: float | None = None, sources: Collection[str] | None = None
) -> Garbage:
    """Remove what nothing needs, and record that in the ledger. Killed at any moment, the next call goes on. As `survey`.

    Returns:
        What was removed; less than `survey` said where something was needed again meanwhile.

    Raises:
        StoreBusy: another collection works.
        IntegrityError: as `survey`; nothing is removed.
    """
    with lock.hold(layout.state / "gc.lock", wait_s=wait_s):
        recover(layout)
        seen = survey(layout, now_s=now_s, sources=sources)
        _drop(item.path for item in seen.items if item.kind in {"draft", "cache"})  # on a full disk, room for what follows
        doomed = [item.path for item in seen.items if item.kind == "object"]
        # Results before their objects: from now on nobody finds one whose objects go. Who found one before holds a journal,
        # and beside a journal that is held no result of a removed run is among them.
        entries = [item.path for item in seen.items if item.kind == "result"]
        if entries or doomed:
            newest.forget(layout, registry.removed(ledger.read(layout)))
        _drop(entries)
        back = _set_aside(layout, doomed, now_s)
        done = replace(seen, items=tuple(item for item in seen.items if item.path not in back))
        said = _say(layout, done, wait_s)
        for aside in layout.tmp.glob(_ASIDE + "*"):
            shutil.rmtree(aside)
        _drop(item.path for item in seen.items if item.kind == "log")
        if any(item.kind == "data" for item in seen.items):
            packed = set(packs.every(layout))
            _data(layout, packed & reachable.needs(layout, packed).kept, dry=False, wait_s=wait_s)
        if not said:
            _say(layout, done, wait_s)
        return done


def _say(layout: Layout, done: Garbage, wait_s: float) -> bool:
    """Record what goes, before it does: a run whose files may be gone is not taken back. False if there is no room for it."""
    if not done.items:
        return True
    data = {"objects": sum(item.kind == "object" for item in done.items), "bytes": done.bytes, "runs": list(done.runs)}
    try:
        ledger.append(layout, events.COLLECTED, "objects", None, reason="nothing needed them", data=data, wait_s=wait_s)
    except BaseException as error:
        if isinstance(error, MlopsError) and files.full(error):
            return False
        recover(layout)
        raise
    return True


def _drop(paths: Iterable[Path]) -> None:
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def mend(layout: Layout) -> None:
    """As `recover`, unless a collection works right now."""
    with suppress(StoreBusy), lock.hold(layout.state / "gc.lock", wait_s=0):
        recover(layout)


def recover(layout: Layout) -> None:
    """Put back what a collection that was killed had set aside; the next one asks again."""
    for aside in layout.tmp.glob(_ASIDE + "*"):
        for path in aside.iterdir():
            _back(layout, path)
        aside.rmdir()


def _data(layout: Layout, keep: set[str], *, dry: bool, wait_s: float = 30.0) -> list[Item]:
    """Contents of data files that no snapshot names; packs have a rule of their own for what is young."""
    swept = sweeping.collect(layout, keep, dry=dry, wait_s=wait_s)
    if swept.files:
        return [Item("data", "contents of files that no snapshot names", swept.bytes, layout.packs, count=swept.files)]
    # Snapshots that were taken at once each kept what both had; or a collection was killed before it was through.
    why = "packs with contents that are kept twice, or left by a collection that was killed"
    return [Item("data", why, swept.bytes, layout.packs, count=swept.packs)] if swept.packs else []


def _set_aside(layout: Layout, doomed: Sequence[Path], now_s: float | None) -> set[Path]:
    """Set objects aside, then ask again what is needed. Returns what stays, at its place."""
    if not doomed:
        return set()
    limit = _limit(now_s, reachable.writers(layout))
    aside = layout.tmp / f"{_ASIDE}{new_id()}"
    aside.mkdir(mode=0o700)
    for path in doomed:
        if _old(path, limit):
            path.rename(aside / path.name)
    for path in list(aside.iterdir()):
        if path.stat().st_mtime > limit:  # kept once more in between: asking takes a while, and somebody may read it
            _back(layout, path)
    moved = [path.name for path in aside.iterdir()]
    for hash in reachable.needs(layout, moved).kept:
        _back(layout, aside / hash)
    return {path for path in doomed if path.exists()}


def _back(layout: Layout, path: Path) -> None:
    home = objects.path(layout, path.name)
    home.parent.mkdir(mode=0o700, exist_ok=True)
    path.rename(home)  # over the same bytes, where they were kept anew meanwhile


def _cached(layout: Layout, kind: str) -> list[Path]:
    """The files of a folder of the cache; their names begin with a content's hash."""
    folder = layout.cache / kind
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _limit(now_s: float | None, alive: Sequence[int]) -> float:
    """What was changed after this moment is young."""
    now = time.time() if now_s is None else now_s
    return min([now - YOUNG_S, *(started / 1e6 - _SLACK_S for started in alive[:1])])


def _old(path: Path, limit: float) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return max(found.st_mtime, found.st_ctime) <= limit


def _drafts(layout: Layout) -> Iterator[Path]:
    """What processes left half done; the folders of leases and of a collection are no drafts."""
    for path in layout.tmp.iterdir():
        if not path.name.startswith((_ASIDE, "altered.")) and path.name != "leases":
            yield path


def _bytes(path: Path) -> int:
    try:
        if path.is_dir():
            return sum(item.lstat().st_size for item in path.rglob("*") if item.is_file())
        return path.lstat().st_size
    except FileNotFoundError:
        return 0
