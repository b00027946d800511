"""Keep what a step prints: the head as it comes, the tail of what is too much, in one log file."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import BinaryIO

LIMIT = 50 * 1024 * 1024
"""Bytes kept of one step's output: half head, half tail."""


class Capture:
    """Writes a pipe's bytes into a log file, bounded."""

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self.path = path
        self.half = limit // 2
        self._file: BinaryIO | None = None
        self._written = 0
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._dropped = 0

    def open(self) -> None:
        """Create the log file, empty."""
        self._file = self.path.open("wb", buffering=0)

    def pump(self, pipe: int) -> bool:
        """Move what the pipe holds into the log; False at its end."""
        try:
            data = os.read(pipe, 1 << 16)
        except BlockingIOError:
            return True
        self._keep(data)
        return bool(data)

    def drain(self, pipe: int) -> None:
        """Take what is left in the pipe without waiting: a grandchild may hold it open."""
        os.set_blocking(pipe, False)
        while True:
            try:
                data = os.read(pipe, 1 << 16)
            except BlockingIOError:
                return
            if not data:
                return
            self._keep(data)

    def _keep(self, data: bytes) -> None:
        room = self.half - self._written
        if room > 0 and self._file is not None:
            self._file.write(data[:room])
            self._written += len(data[:room])
            data = data[room:]
        if not data:
            return
        self._tail.append(data)
        self._tail_bytes += len(data)
        while self._tail_bytes - len(self._tail[0]) >= self.half:
            gone = len(self._tail.popleft())
            self._tail_bytes -= gone
            self._dropped += gone

    def close(self) -> None:
        """Write the tail, and how much lies between."""
        if self._file is None:
            return
        if self._dropped:
            self._file.write(f"\n[... {self._dropped} bytes left out ...]\n".encode())
        for data in self._tail:
            self._file.write(data)
        self._file.close()
        self._file = None
