"""The store's final journals one by one, as they travel, and what their lines name. Writes in `place` and `extend` alone."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import blake3

from mlops_local.domain import events
from mlops_local.domain.assets import Snapshot
from mlops_local.domain.plan import StepResult, pickled, result_from_json
from mlops_local.store import archive, cache, files, journal
from mlops_local.store.database import Store
from mlops_local.store.layout import Layout
from mlops_local.store.parcel import JournalNote

_HASH = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_OF_RUN = re.compile(rb'"r": ?"([0-9a-f]{32})"')
_RUN = re.compile(rb'"(?:r|run)": ?"([0-9a-f]{32})"')

_CLOCKS_US = 24 * 3600 * 1_000_000
"""What the clocks of those who made a run and of those who put it away may differ by."""


@dataclass
class Named:
    """What lines of journals name."""

    objects: dict[str, str] = field(default_factory=dict)
    """Hash -> what it is, for people; in the order they were met."""
    data: set[str] = field(default_factory=set)
    """Those of them that are contents of data files and nothing else."""
    pickled: set[str] = field(default_factory=set)
    """Outputs of steps that only the store that wrote them loads; none of `objects`."""
    snapshots: dict[str, tuple[int, Snapshot]] = field(default_factory=dict)
    """Id -> when it was seen last (microseconds), and the snapshot."""
    results: dict[str, StepResult] = field(default_factory=dict)
    """Fingerprint -> the last result of it."""
    runs: dict[str, str] = field(default_factory=dict)
    """Runs that began -> their names."""

    def add(self, hash: str, what: str) -> None:
        """Name an object that is more than the content of a data file."""
        self.objects.setdefault(hash, what)
        self.data.discard(hash)


@dataclass(frozen=True)
class Wanted:
    """Whose lines count."""

    everything: bool = False
    """All but `without`."""
    runs: frozenset[str] = frozenset()
    snapshots: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    """Runs that were removed."""

    def takes(self, note: JournalNote) -> bool:
        """Whether a journal has lines that count."""
        if self.everything:
            return not note.runs or bool(set(note.runs) - self.without) or bool(note.snapshots)
        return bool(self.runs & set(note.runs) - self.without or self.snapshots & set(note.snapshots))

    def counts(self, line: dict[str, Any]) -> bool:
        """Whether a line of a state file counts."""
        if line["k"] == events.SNAPSHOT:
            return self.everything or line["snapshot"]["id"] in self.snapshots
        run = line.get("run", "")
        return run not in self.without and (self.everything or run in self.runs)


EVERYTHING = Wanted(everything=True)


def journals(layout: Layout, wanted: Wanted = EVERYTHING) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each final journal file that may have lines that count."""
    ids = [identity.encode() for identity in (*wanted.runs, *wanted.snapshots)]
    # Points put away before the first wanted run began are of none, but for clocks that are not right.
    since_us = 0 if wanted.everything else min((int(run[:16], 16) for run in wanted.runs), default=1 << 62) - _CLOCKS_US
    for name, content in archive.contents(layout, since_us=since_us):
        data = _without(content, wanted.without)
        if data and (wanted.everything or any(identity in data for identity in ids)):
            yield name, data


def _without(data: bytes, removed: Collection[str]) -> bytes:
    """What was removed does not travel: a journal's lines without those of removed runs."""
    gone = {run.encode() for run in removed if run.encode() in data}
    if not gone:
        return data
    lines = ((line, _RUN.search(line)) for line in data.splitlines(keepends=True))
    return b"".join(line for line, run in lines if run is None or run[1] not in gone or b'"k":"snapshot"' in line)


def note(name: str, data: bytes) -> JournalNote:
    """Say what a journal file is about."""
    runs: set[str] = set()
    snapshots: set[str] = set()
    if ".metric." in name:
        runs = {run.decode() for run in set(_OF_RUN.findall(data))}
    else:
        for line in journal.decode(data)[0]:
            if line["k"] == events.SNAPSHOT:
                snapshots.add(_text(line.get("snapshot"), "id"))
            elif line.get("run"):
                runs.add(str(line["run"]))
    return JournalNote(blake3.blake3(data).hexdigest(), tuple(sorted(runs)), tuple(sorted(snapshots - {""})))


def collect(named: Named, data: bytes, wanted: Wanted, there: Collection[str]) -> None:
    """Add what the lines of a state file name.

    Args:
        named: what was found so far.
        data: the file.
        wanted: whose lines count.
        there: the objects there are; another hash names none.
    """
    for line in journal.decode(data)[0]:
        try:
            if not wanted.counts(line):
                continue
            if line["k"] == events.SNAPSHOT:
                _snapshot(named, line, there)
            else:
                _step(named, line)
                what = f"{line['k'].replace('_', ' ')} {line.get('step') or line.get('path') or ''}".strip()
                _objects(named, line, f"{what} of run {str(line.get('run', ''))[16:24]}", there)
        except (KeyError, TypeError, ValueError, AttributeError):
            continue  # a damaged line: the fold will say so
        if line["k"] == events.RUN_STARTED:
            named.runs[str(line["run"])] = str(line.get("name", ""))


def place(layout: Layout, name: str, data: bytes) -> bool:
    """Put another store's final journal file among ours, to be folded; False if it is there already.

    Nor is one taken of a journal that is being written here: its next segment would pass for this one's, and be lost.
    """
    home = layout.journal / name
    taken = home.exists() or (layout.done / f"{name}.zst").exists()
    if journal.NAME.fullmatch(name) is None or taken or journal.live(home):
        return False
    try:
        files.put(layout.journal / f".{name}.{secrets.token_hex(4)}", home, data, sync=True)
    except OSError as error:
        raise files.cannot_write(home, error) from error
    return True


def extend(store: Store, name: str, data: bytes, runs: Collection[str]) -> None:
    """Give a journal that is here the lines of runs that it came without: they were removed then, and were taken back since.

    Args:
        store: what it holds is folded.
        name: the journal's file; one that somebody writes to stays as it is.
        data: all of it, from another store.
        runs: whose lines may be missing.
    """
    layout = store.layout
    with store.writer() as db:  # nobody folds it or puts it away meanwhile
        kept = next((kept for kept in archive.listing(layout) if kept.name == name), None)
        home = layout.journal / name
        if kept is None or home.exists():
            return
        here = kept.read()
        here = here[: here.rfind(b"\n") + 1]
        there = set(here.splitlines(keepends=True))
        more = [line for line in data.splitlines(keepends=True) if line not in there and _of(line, runs)]
        if more:
            here += b"".join(more)
            archive.replace(layout, kept, here)
        ((position,),) = db.execute("SELECT coalesce(max(position), 0) FROM store.position WHERE file = ?", [name]).fetchall()
        if position < len(here):  # the fold goes on where it was, then puts it away again
            files.replace(home, here, sync=True)


def _of(line: bytes, runs: Collection[str]) -> bool:
    found = _RUN.search(line)
    return found is not None and found[1].decode() in runs and b'"k":"snapshot"' not in line


def settle(layout: Layout) -> None:
    """Make the names of placed journals outlive a power cut."""
    files.sync_folder(layout.journal)


def known(layout: Layout) -> set[str]:
    """The names of all journal files that are here, live ones too."""
    there = {path.name for path in layout.journal.iterdir() if journal.NAME.fullmatch(path.name)}
    return there | {kept.name for kept in archive.listing(layout)}


def _snapshot(named: Named, line: dict[str, Any], there: Collection[str]) -> None:
    found = cache.snapshot_from_json(line["snapshot"])
    seen = int(line.get("t", 0))
    if found.id not in named.snapshots or named.snapshots[found.id][0] < seen:
        named.snapshots[found.id] = seen, found
    for entry in found.files:
        if entry.hash in there and entry.hash not in named.objects:
            named.objects[entry.hash] = f"data {entry.path} of {found.source} {found.short}"
            named.data.add(entry.hash)


def _step(named: Named, line: dict[str, Any]) -> None:
    if line["k"] == events.STEP_ENDED and line.get("result"):
        result = result_from_json(line["result"])
        named.results[result.fingerprint] = result
        named.pickled.update(hash for output in result.outputs for hash in pickled(output))


def _objects(named: Named, line: dict[str, Any], what: str, there: Collection[str]) -> None:
    for match in _HASH.findall(json.dumps(line).encode()):
        hash = match.decode()
        if hash in there and hash not in named.pickled:
            named.add(hash, what)


def _text(value: Any, key: str) -> str:
    return str(value.get(key, "")) if isinstance(value, dict) else ""
