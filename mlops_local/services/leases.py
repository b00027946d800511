"""The right to make a result: two runs that need the same one do not both make it, the second waits and uses it.

A lease is a lock on a file named by the fingerprint, or by the source that is pulled; the file goes when its holder ends. One
whose holder was killed stays, hinders nobody, and is swept by the next run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlops_local.store import lock
from mlops_local.store.layout import Layout

LONGEST_S = 24 * 3600.0
"""How long a run waits for another that makes the same result."""


@contextmanager
def lease(
    layout: Layout, command: str, name: str, *, waiting: Callable[[str], None], stop: threading.Event | None = None
) -> Iterator[None]:
    """Hold the right to make a result for the length of the block.

    Args:
        layout: the store.
        command: what is being done, for those that wait: `train gbm`.
        name: the result's fingerprint, or another name that begins like no other.
        waiting: told who has it, when it takes a while.
        stop: when set, the wait is given up.

    Raises:
        StoreBusy: another had it all the while, or `stop` was set.
    """
    layout.leases.mkdir(parents=True, exist_ok=True)
    held = lock.hold(layout.leases / name[:32], wait_s=LONGEST_S, on_wait=waiting, stop=stop, command=command, passing=True)
    with held:
        yield


def sweep(layout: Layout) -> None:
    """Remove the leases of processes that are gone."""
    for path in layout.leases.iterdir() if layout.leases.is_dir() else ():
        lock.abandoned(path, remove=True)
