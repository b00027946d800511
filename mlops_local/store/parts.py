"""Journal files as the fold sees them: where each lies, how far it was read, and whether somebody still writes to it.

Only looks and reads; what is folded and put away is decided elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlops_local.store import archive, journal

FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 to 9999: what both Python and the table can hold as a time."""


@dataclass
class Part:
    """One journal file, and how far it was read."""

    name: str
    """Without `.zst`."""
    path: Path
    journal: str
    segment: int
    """-1: the state file."""
    final: bool = False
    """Nobody writes to it any more."""
    kept: archive.Kept | None = None
    """Where it was put away; None while it lies in journal/."""
    position: int = 0
    consumed: bool = False
    """Every whole line of it was read."""

    @property
    def place(self) -> str:
        """The file of done/ that it lies in; empty for journal/."""
        return self.kept.path.name if self.kept else ""

    @property
    def order(self) -> tuple[bool, str, str, int]:
        """States first; those of one archive together, so that it is unpacked once."""
        return self.segment >= 0, self.place, self.journal, self.segment

    def read(self, position: int, size: int) -> bytes:
        """Return up to so many bytes from a position on."""
        if self.kept is not None:
            return self.kept.read()[position : position + size]
        with self.path.open("rb") as file:
            file.seek(position)
            return file.read(size)

    def read_lines(self, position: int, limit: int) -> tuple[int, bytes]:
        """Return the limit and up to so many bytes; both more for a longer line of states, as of many files."""
        while True:
            data = self.read(position, limit)
            if self.segment >= 0 or len(data) < limit or b"\n" in data:
                return limit, data
            limit *= 4

    def last_time(self) -> int:
        """Return the microseconds of its last whole line; 0 when there is none."""
        for line in reversed(self._tail().splitlines(keepends=True)):
            found, _ = journal.decode(line)
            at = found[0].get("t") if found else None
            if isinstance(at, int) and FIRST_US <= at <= LAST_US:
                return at
        return 0

    def _tail(self, size: int = 1 << 16) -> bytes:
        if self.kept is not None:
            data = self.kept.read()
        else:
            with self.path.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - (1 << 20)))
                data = file.read()
        data = data[: data.rfind(b"\n") + 1]
        start = max(0, len(data) - size)
        return data[data.find(b"\n", start - 1) + 1 :] if start else data


def named(name: str, path: Path, kept: archive.Kept | None = None) -> Part:
    """Return the part of this name, which is a journal's."""
    match = journal.NAME.match(name)
    assert match is not None
    return Part(name, path, match["id"], int(match["segment"]) if match["segment"] else -1, kept=kept)


def listing(folder: Path) -> Iterator[Part]:
    """Yield every journal file of a folder."""
    for entry in folder.iterdir():
        if journal.NAME.match(entry.name):
            yield named(entry.name, entry)
