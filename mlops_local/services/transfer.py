"""Say how far a long transfer is: at once where a line is redrawn, every few seconds elsewhere; nothing for a short one."""

from __future__ import annotations

import time

from mlops_local.domain.progress import Emit, Progress

EVERY_S = 5.0


class Meter:
    """Counts bytes against what is to come."""

    def __init__(self, verb: str, total: int, emit: Emit) -> None:
        self._verb = verb
        self._total = total
        self._emit = emit
        self._told = time.monotonic()
        self.done = 0

    def add(self, bytes: int, what: str) -> None:
        """So many bytes more, of something."""
        self.done += bytes
        now = time.monotonic()
        if now - self._told >= EVERY_S:
            self._told = now
            of = f" of {size(self._total)}" if self._total >= self.done else ""
            self._emit(Progress("note", f"{self._verb} {size(self.done)}{of}: {what}"))


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
