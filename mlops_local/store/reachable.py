"""Which objects are still needed, and for what. Reads; writes and removes nothing.

Conservative on purpose: every hash that a kept line of a journal or the ledger, a kept cache entry or what a script left
mentions counts as a need, whatever kind of line it is. A kind of line that is added later keeps its objects without a change
here. Only what was removed on purpose, or never came to be named, is not needed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_local.domain import events
from mlops_local.store import archive, journal, ledger, registry
from mlops_local.store.layout import Layout
from mlops_local.store.ledger import Line

_HASH = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_RUN = re.compile(rb'"run": ?"([0-9a-f]{32})"')
_NO_FACTS = frozenset({"objects", "packs", "tmp", "logs", "checkpoints", "journal"})
"""Folders of .mlops/ whose files name no object."""


@dataclass
class Needs:
    """What is needed, of the objects that were asked about."""

    kept: set[str] = field(default_factory=set)
    """Named by something that is kept."""
    removed: dict[str, str] = field(default_factory=dict)
    """Named by a removed run -> that run. May be kept for something else all the same."""
    entries: list[Path] = field(default_factory=list)
    """Cache entries that removed runs left."""


def needs(layout: Layout, present: Collection[str], *, entries_after_s: float = math.inf) -> Needs:
    """Work out which of the objects that are present are needed.

    Args:
        layout: the store.
        present: hashes of the objects to ask about.
        entries_after_s: results that removed runs left in the cache after this moment (seconds since 1970) count as needed: the
            removal may be taken back, or a process that works now take them up.
    """
    found = Needs()
    asked = {hash.encode() for hash in present}
    lines = ledger.read(layout)
    removed = registry.removed(lines)
    scan = _Scan(found, asked, frozenset(run.encode() for run in removed))
    for data in states(layout):
        scan.journal(data)
    scan.whole("\n".join(json.dumps(dict(line.data)) for line in _standing(lines)).encode())
    for path in _texts(layout):
        try:
            data, changed = path.read_bytes(), path.stat().st_mtime
        except OSError:
            continue  # a cache file that was replaced meanwhile: its successor names what a journal names too
        if path.parent == layout.cache / "steps" and changed <= entries_after_s:
            scan.entry(path, data)
        elif path.parent == layout.cache and path.name.startswith("latest.jsonl"):
            scan.journal(data)  # says nothing that the file of a step does not
        else:
            scan.whole(data)
    return found


def writers(layout: Layout) -> list[int]:
    """When each process that writes a journal now began it, in microseconds, the oldest first."""
    names = {match["id"]: path for path in layout.journal.iterdir() if (match := journal.NAME.match(path.name))}
    return sorted(int(name[:16], 16) for name, path in names.items() if journal.live(path))


class _Scan:
    """Collects the hashes that texts mention."""

    def __init__(self, found: Needs, asked: Collection[bytes], removed: frozenset[bytes]) -> None:
        self._found = found
        self._asked = asked
        self._removed = removed

    def whole(self, data: bytes) -> None:
        """All of a text counts."""
        self._found.kept.update(self._hashes(data))

    def journal(self, data: bytes) -> None:
        """What is said of removed runs does not count, except which data were seen: a snapshot is nobody's alone."""
        if not self._removed:
            self.whole(data)
            return
        for line in data.splitlines():
            match = _RUN.search(line)
            if match is not None and match[1] in self._removed and _kind(line) != events.SNAPSHOT:
                self._found.removed.update((hash, match[1].decode()) for hash in self._hashes(line))
            else:
                self.whole(line)

    def entry(self, path: Path, data: bytes) -> None:
        """A cached result: it counts unless a removed run made it."""
        match = _RUN.search(data)
        if match is not None and match[1] in self._removed:
            self._found.entries.append(path)
            self._found.removed.update((hash, match[1].decode()) for hash in self._hashes(data))
        else:
            self.whole(data)

    def _hashes(self, data: bytes) -> Iterator[str]:
        return (hash.decode() for hash in _HASH.findall(data) if hash in self._asked)


def _kind(line: bytes) -> str:
    try:
        value: Any = json.loads(line)
        return str(value["k"])
    except (ValueError, KeyError, TypeError):
        return ""


def _standing(lines: Sequence[Line]) -> Iterator[Line]:
    """The decisions about versions that were not removed."""
    gone = {line.subject for line in lines if line.kind == events.DELETION and line.value != "kept"}
    return (line for line in lines if line.subject not in gone or line.kind == events.DELETION)


def states(layout: Layout) -> Iterator[bytes]:
    """Yield the content of every state file, as far as it was written: what points are logged in names no objects."""
    for path in sorted(layout.journal.glob("*.state.jsonl")):
        try:
            yield path.read_bytes()
        except FileNotFoundError:
            continue  # put away meanwhile: it is met below
    for _, data in archive.contents(layout, points=False):
        yield data


def _texts(layout: Layout) -> Iterator[Path]:
    """Every other file that may name objects: the cache, what scripts left, and what a later version may add."""
    for entry in sorted(layout.state.iterdir()):
        if entry.is_dir() and entry.name not in _NO_FACTS:
            yield from (path for path in sorted(entry.rglob("*")) if path.is_file())
