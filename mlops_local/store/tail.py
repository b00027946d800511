"""Follow what living processes log, without the lock: live curves and steps come from here, history from the database."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

from mlops_local.store import journal
from mlops_local.store.layout import Layout


class Tail:
    """Reads on in the journals of living processes.

    A file that was opened is read to its end even if it is retired in between, so no line is missed between two polls.
    """

    def __init__(self, layout: Layout, *, whole: bool = True) -> None:
        """Follow `layout`'s journals.

        Args:
            layout: the store.
            whole: begin with what living processes have logged so far; otherwise with what comes after the first poll.
        """
        self._layout = layout
        self._whole = whole
        self._open: dict[str, tuple[int, int]] = {}
        self._ended: set[str] = set()
        self._first = True

    def poll(self) -> list[dict[str, Any]]:
        """Return the lines since the last poll, each file's in order. Steps and runs before points."""
        found: list[dict[str, Any]] = []
        there = {path.name for path in self._layout.journal.iterdir() if journal.NAME.match(path.name)}
        for name in sorted(there - self._ended - set(self._open), key=lambda name: (".metric." in name, name)):
            self._follow(name)
        for name in sorted(self._open, key=lambda name: (".metric." in name, name)):
            alive = journal.live(self._layout.journal / name)  # asked first: what is written later is read next time
            found += self._read(name)
            if not alive:
                os.close(self._open.pop(name)[0])
                self._ended.add(name)
        self._ended &= there
        self._first = False
        return found

    def close(self) -> None:
        """Let go of the files."""
        for descriptor, _ in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _follow(self, name: str) -> None:
        path = self._layout.journal / name
        if self._first and not journal.live(path):
            self._ended.add(name)  # of a process that is gone: the database has it, or will
            return
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        skip = os.fstat(descriptor).st_size if self._first and not self._whole else 0
        self._open[name] = descriptor, skip

    def _read(self, name: str) -> list[dict[str, Any]]:
        descriptor, offset = self._open[name]
        data = bytearray()
        while block := os.pread(descriptor, 1 << 20, offset + len(data)):
            data += block
        end = data.rfind(b"\n") + 1
        self._open[name] = descriptor, offset + end
        return journal.decode(bytes(data[:end]))[0]
