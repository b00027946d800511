"""One run of the pipeline in a thread of its own, and when a later edit ends it.

A run is ended once nothing of what it is doing is still wanted: steps that the edit does not affect go on to their end, and
the run that follows reuses them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mlops_local.domain.progress import Emit, Progress
from mlops_local.services.edits import Version
from mlops_local.services.project import Project
from mlops_local.services.train import TrainResult

Work = Callable[["Attempt", Emit], TrainResult]


@dataclass
class Attempt:
    """A run that may be in progress. `start` begins it."""

    project: Project
    """With the configuration it sets out with, once that was read."""
    toml: bytes
    """The bytes of that configuration."""
    changed: tuple[str, ...]
    """The files that brought it about; none for the first."""
    sampled: bool = False
    """It runs on a sample, to be followed by one on everything."""
    quiet: bool = False
    """What brought it about was answered already: that there is nothing to do goes without saying."""
    result: TrainResult | None = None
    error: BaseException | None = None
    version: Version | None = None
    """The project as it saw it; None before it has planned."""
    later: list[str] = field(default_factory=list)
    """Files that were changed since and that it does not know of: another attempt follows."""
    answered: bool = False
    """What was changed since touches nothing of this run, and that was said."""
    started: float = field(default_factory=time.monotonic)
    cancel: threading.Event = field(default_factory=threading.Event)
    _running: set[str] = field(default_factory=set)
    _finished: int = 0
    _affected: frozenset[str] = frozenset()
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self, work: Work, emit: Emit, ended: Callable[[], None]) -> None:
        """Begin.

        Args:
            work: brings the project up to date for this attempt.
            emit: told what happens.
            ended: called in the attempt's thread when it has ended, however.
        """

        def told(event: Progress) -> None:
            self._take(event)
            emit(event)

        def run() -> None:
            try:
                self.result = work(self, told)
            except BaseException as error:  # noqa: BLE001  (carried to the watching thread, which decides)
                self.error = error
            self._over.set()  # the thread itself lives a moment longer, and who is told asks at once
            ended()

        self._thread = threading.Thread(target=run, name="mlops-train", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it has begun and not ended."""
        return self._thread is not None and not self._over.is_set()

    def join(self) -> None:
        """Wait for its end."""
        if self._thread is not None:
            self._thread.join()

    @property
    def finished(self) -> int:
        """How many steps it has made anew."""
        with self._lock:
            return self._finished

    def end_when_pointless(self, affected: frozenset[str]) -> list[str]:
        """Have it end as soon as it only does what an edit affects; with nothing affected it goes on to its end.

        Returns:
            The steps in progress that the edit does not affect and that go on; empty when it ends at once.
        """
        with self._lock:
            self._affected = affected
            self._end_if_pointless()
            return [] if self.cancel.is_set() else sorted(self._running - affected)

    def _take(self, event: Progress) -> None:
        with self._lock:
            if event.kind == "plan":
                data = event.data
                steps = tuple(decision.name for decision in data["plan"].decisions)
                self.version = Version(data["code"], self.project.config, self.toml, data["params"], steps)
            elif event.kind == "step_started":
                self._running.add(event.step)
            elif event.kind == "step_ended":
                self._running.discard(event.step)
                self._finished += event.data.get("state") == "done"
            self._end_if_pointless()

    def _end_if_pointless(self) -> None:
        if self._affected and not self._running - self._affected:
            self.cancel.set()
