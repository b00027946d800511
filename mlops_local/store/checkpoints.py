"""What a running step keeps of itself, so that an interrupted one can go on where it was.

    checkpoints/FINGERPRINT/ATTEMPT/points.jsonl      the points the attempt logged
    checkpoints/FINGERPRINT/ATTEMPT/NUMBER.EPOCH/     the newest two states of it

The fingerprint is the step's: a state of other code, parameters or data is never found. A folder gets its name when all in it
is written, and its `meta.json` proves with the store's key that it is whole and that this store wrote it: states are pickles.
A state that is not whole (a power cut) is passed over for the one before. Python 3.10, standard library only.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlops_local.domain.records import dataclass
from mlops_local.store import files
from mlops_local.store.layout import Layout

KEPT = 2
"""States kept of one attempt."""
OLD_S = 14 * 24 * 3600.0
"""A fingerprint nobody came back to for so long is dropped when the next step begins."""

_META = "meta.json"
_POINTS = "points.jsonl"
_SPILL_BYTES = 4 << 20


@dataclass(frozen=True)
class Kept:
    """One state on the disk."""

    folder: Path
    epoch: int
    points: int
    """Bytes of the attempt's points that belong to it."""

    @property
    def lines(self) -> bytes:
        """The journal lines of every point logged up to it."""
        try:
            with (self.folder.parent / _POINTS).open("rb") as file:
                return file.read(self.points)
        except OSError:
            return b""


def home(layout: Layout, fingerprint: str) -> Path:
    """Where a step of this fingerprint keeps its states. It need not exist."""
    return layout.checkpoints / fingerprint[:32]


def furthest(place: Path, key: bytes) -> Kept | None:
    """Return the whole state of the highest epoch in a home, the newest of several."""
    found = sorted(_all(place), key=lambda kept: (kept.epoch, kept.folder.parent.name, kept.folder.name), reverse=True)
    return next((kept for kept in found if _whole(kept.folder, key)), None)


def begin(place: Path, key: bytes) -> Kept | None:
    """Make a home ready for another attempt: only the attempt that came furthest stays. Returns its state."""
    best = furthest(place, key)
    for attempt in _folders(place):
        if best is None or attempt != best.folder.parent:
            shutil.rmtree(attempt, ignore_errors=True)
    return best


def drop(place: Path) -> None:
    """Forget a home: its step is done."""
    shutil.rmtree(place, ignore_errors=True)


def prune(layout: Layout, now: float | None = None) -> None:
    """Drop what nobody came back to for two weeks."""
    oldest = (time.time() if now is None else now) - OLD_S
    for place in _folders(layout.checkpoints):
        if max((_changed(folder) for folder in (place, *_folders(place))), default=0.0) < oldest:
            drop(place)


class Attempt:
    """The states of one execution of a step, written by the process that runs it."""

    def __init__(self, place: Path, name: str, key: bytes) -> None:
        self.folder = place / name
        self._key = key
        self._process = os.getpid()
        self._number = 0
        self._lines = bytearray()
        self._mutex = threading.Lock()

    def hear(self, lines: bytes) -> None:
        """Take points that were journalled; they are kept with the next state."""
        if os.getpid() != self._process:
            return  # a process forked by the step: its states are not this one's
        with self._mutex:
            self._lines += lines
        if len(self._lines) > _SPILL_BYTES:
            self._spill()

    def save(self, epoch: int, form: str, write: Callable[[Path], None]) -> None:
        """Keep a state; the third newest goes.

        Args:
            epoch: how far it is.
            form: how to read it: torch, pickle or files.
            write: writes the files into an empty folder.

        Raises:
            MlopsError: the disk is full or the folder cannot be written.
        """
        draft = self.folder / f".{secrets.token_hex(6)}"
        try:
            draft.mkdir(mode=0o700, parents=True)
            write(draft)
            meta = {"epoch": epoch, "form": form, "points": self._spill(), "files": _digests(draft)}
            files.replace(draft / _META, json.dumps({**meta, "proof": _proof(meta, self._key)}).encode())
            self._number += 1
            draft.rename(self.folder / f"{self._number:09d}.{epoch}")
        except OSError as error:
            raise files.cannot_write(self.folder, error) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        for old in sorted(kept.folder for kept in _states(self.folder))[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    def _spill(self) -> int:
        """Write the points that were heard, all or none of them; returns the file's size."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._mutex, (self.folder / _POINTS).open("ab", buffering=0) as file:
            size = file.tell()
            try:
                files.write_all(file.fileno(), bytes(self._lines))
            except BaseException:
                file.truncate(size)
                raise
            self._lines.clear()
            return file.tell()


def form(kept: Kept) -> str:
    """How a state is read: torch, pickle or files."""
    return str(_meta(kept.folder).get("form", ""))


def _all(place: Path) -> Iterator[Kept]:
    for attempt in _folders(place):
        yield from _states(attempt)


def _states(attempt: Path) -> Iterator[Kept]:
    for folder in _folders(attempt):
        meta = _meta(folder)
        if isinstance(meta.get("epoch"), int) and isinstance(meta.get("points"), int):
            yield Kept(folder, meta["epoch"], meta["points"])


def _folders(place: Path) -> list[Path]:
    try:
        return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []


def _meta(folder: Path) -> dict[str, Any]:
    try:
        value = json.loads((folder / _META).read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _whole(folder: Path, key: bytes) -> bool:
    meta = _meta(folder)
    proof = meta.pop("proof", "")
    try:
        return hmac.compare_digest(str(proof), _proof(meta, key)) and _digests(folder) == meta["files"]
    except OSError:
        return False


def _proof(meta: dict[str, Any], key: bytes) -> str:
    return hmac.new(key, json.dumps(meta, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _digests(folder: Path) -> dict[str, str]:
    """File -> digest of its bytes, of everything in a state but its meta.json."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / _META:
            hasher = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    hasher.update(block)
            found[path.relative_to(folder).as_posix()] = hasher.hexdigest()
    return found


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
