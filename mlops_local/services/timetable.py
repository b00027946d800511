"""When a watcher asks the sources again that say how often (`@mlops.source(every="1h")`).

Times are the wall clock's: a computer that slept, or whose clock was set, is noticed within half a minute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

_LONGEST_S = 30.0
"""How long a jump of the clock may go unseen."""


class Timetable:
    """Source -> when it is due. `due` has us woken when there is something to ask for."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._times: Mapping[str, float] = {}
        self._timer: threading.Timer | None = None

    def set(self, times: Mapping[str, float]) -> None:
        """Follow these times (seconds since 1970) from now on."""
        self._times = times

    def due(self) -> list[str]:
        """The sources whose time has come; where there is none, `wake` is called when it is worth asking again."""
        self.stop()
        now = time.time()
        found = [name for name, at in self._times.items() if at <= now]
        if self._times and not found:
            self._timer = threading.Timer(min(min(self._times.values()) - now, _LONGEST_S), self._wake)
            self._timer.daemon = True
            self._timer.start()
        return found

    def stop(self) -> None:
        """Wake nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
