"""What this process has imported: when that is out of date, and whether it may still fork."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path


def stamps() -> dict[str, int]:
    """What tells that this process's imports are out of date: its import folders, and loaded files that belong to no package.

    Installing a package changes the folder it is installed to.
    """
    places = [place for place in sys.path if place]
    installed = tuple(place for place in places if place.endswith("-packages"))
    standard = (str(Path(os.__file__).parent), str(Path(__file__).parent.parent), *installed)
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    loose = {file for file in files if isinstance(file, str) and not file.startswith(standard)}
    return {path: _mtime(path) for path in (*installed, *sorted(loose))}


def _mtime(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116
    except OSError:
        return 0


def unsafe_threads() -> bool:
    """Whether this process has a thread that makes forking it unsafe.

    Python's own threads do, and native ones with a name of their own. Allowed: polars' and jemalloc's housekeepers, idle
    while nothing is computed, and threads that bear the process's name, which are OpenBLAS's: it stops
    them before a fork and starts them again after it.
    """
    import threading

    if threading.active_count() > 1:
        return True
    names = set()
    with contextlib.suppress(OSError):
        names = {task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}
    own = Path("/proc/self/comm").read_text().strip() if names else ""
    return bool(names - {own, "polars-ooc-clea", "jemalloc_bg_thd"})


def own_memory() -> int:
    """Bytes this process shares with no file: what a fork has to mark page by page. 0 where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
        return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
    return 0
