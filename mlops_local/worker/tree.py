"""The processes below a process: adopted when their parent ends, counted, measured and ended together.

Linux tells them in /proc and lets a process adopt its orphans, so that also a program that left its session or its parent is
found. Elsewhere a step's process group stands for all of them.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

_SET_CHILD_SUBREAPER = 36


@lru_cache(maxsize=1)
def _prctl() -> Callable[..., int] | None:
    try:
        import ctypes

        function: Callable[..., int] = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None
    return function


def adopt() -> None:
    """Make this process the parent of every orphan below it, where the system can. A fork does not inherit it."""
    prctl = _prctl()
    if prctl is not None:
        prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(pid: int) -> list[int]:
    """The processes whose parent is `pid`; none where the system does not say."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  (called ten times a second)
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children", "rb") as file:  # noqa: PTH123
                found += map(int, file.read().split())
    return found


def below(pid: int) -> list[int]:
    """Every process below `pid`, parents first."""
    found: list[int] = []
    queue = children(pid)
    while queue:
        one = queue.pop(0)
        if one not in found:
            found.append(one)
            queue += children(one)
    return found


def memory(pid: int) -> int:
    """Bytes a process has in memory, its share of what it has in common with others; 0 when it is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii", errors="replace")
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024
    return 0


def end(pid: int, number: int, *, adopted: bool = True) -> None:
    """Send a signal to a process, its group, and (unless `adopted` is false) every process below it that left the group."""
    with contextlib.suppress(OSError):
        os.killpg(pid, number)
    for other in (pid, *below(pid)) if adopted else ():
        with contextlib.suppress(OSError):
            if os.getpgid(other) != pid:
                os.kill(other, number)


def sweep() -> None:
    """End every process below this one and wait for it, so that its CPU time counts here. Call it last.

    Python's resource trackers go after the others, by themselves: they remove the shared memory those left.
    """
    trackers = _trackers()
    spared = {getattr(tracker, "_pid", None) for tracker in trackers}
    while left := [pid for pid in below(os.getpid()) if pid not in spared]:
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for pid in children(os.getpid()):
            if pid not in spared:
                with contextlib.suppress(OSError):
                    os.waitpid(pid, 0)
    for tracker in trackers:
        with contextlib.suppress(Exception):
            tracker._stop()  # type: ignore[attr-defined]


def _trackers() -> list[object]:
    import sys

    names = ("multiprocessing.resource_tracker", "joblib.externals.loky.backend.resource_tracker")
    loaded = [sys.modules[name] for name in names if name in sys.modules]
    found = [getattr(module, "_resource_tracker", None) for module in loaded]
    return [tracker for tracker in found if getattr(tracker, "_pid", None)]
