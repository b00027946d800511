"""Where readers let a waiting writer in: readers that overlap would otherwise keep it out for ever (over 20 s were measured).

A writer that has waited a little shuts the gate, half a second in every one, so that a reader that is stopped in mid-read does
not shut out all others with it. Readers look at it before they queue, and wait there for one second at most.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

PATIENCE_S = 0.1
"""How long a writer waits before it shuts the gate: most turns are over sooner."""
SHUT_S = 0.5
PASSED_S = 1.0
"""A reader waits here no longer."""
_LOOK_S = 0.005


def _beside(lock: Path) -> Path:
    return lock.with_name(f"{lock.name}.gate")


def wait_to_pass(lock: Path, wait_s: float) -> None:
    """Wait, as a reader, until no writer shuts the gate of this lock, or for long enough."""
    try:
        descriptor = os.open(_beside(lock), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return  # the folder is read-only, and no writer ever waited for a reader in it
    end = time.monotonic() + min(wait_s, PASSED_S)
    try:
        while not taken(descriptor, fcntl.LOCK_SH) and time.monotonic() < end:
            time.sleep(_LOOK_S)
    finally:
        os.close(descriptor)


class Gate:
    """A waiting writer's side: call `tick` now and then, and `open` when it waits no more."""

    def __init__(self, lock: Path) -> None:
        self._path = _beside(lock)
        self._descriptor = -1
        self._next = time.monotonic() + PATIENCE_S

    def tick(self) -> None:
        """Shut or open the gate when it is time to. Another writer may have it: then its turn is ours too."""
        now = time.monotonic()
        if now < self._next:
            return
        if self._descriptor >= 0:
            self.open()
            self._next = now + SHUT_S
            return
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return  # no reader was ever here
        if taken(self._descriptor, fcntl.LOCK_EX):
            self._next = now + SHUT_S
        else:
            self.open()

    def open(self) -> None:
        """Let readers pass."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def taken(descriptor: int, mode: int) -> bool:
    """Try to take a flock, and say whether that went."""
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
