"""Beside a run while it works: pass on what its processes note, say when nothing happens any more, hear a request to stop.

A thread of the run's parent. It ends nothing by itself: a stalled run goes on until somebody ends it.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

from mlops_local.domain import events
from mlops_local.domain.errors import MlopsError
from mlops_local.domain.progress import Emit, Progress
from mlops_local.domain.records import dataclass
from mlops_local.domain.runs import short_id
from mlops_local.services.project import Project
from mlops_local.store.journal import Journal
from mlops_local.store.tail import Tail

CANCEL, KEEP = "cancel", "keep"
"""What a request to stop says."""
_REQUEST_S = 0.1
_LISTEN_S = 0.5
_LEAST_CPU = 0.01
"""A process that uses less of a core than this does nothing: waiting costs a little."""


@dataclass(frozen=True)
class Signs:
    """What a run has done so far."""

    printed: int
    """Bytes in its logs."""
    points: int
    processes: int
    cpu_s: float


class Stillness:
    """How long nothing has happened. Pure: times and signs come in."""

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s
        self._seen: tuple[float, Signs] | None = None
        self._since = 0.0
        self._said = False

    def look(self, now: float, signs: Signs) -> float | None:
        """Take what is there now; return how long it has been still, once, when that is too long."""
        if self._seen is None or _moved(*self._seen, now, signs):
            self._since, self._said = now, False
        self._seen = now, signs
        if self._said or now - self._since < self.after_s:
            return None
        self._said = True
        return now - self._since

    def rest(self) -> None:
        """Nothing should happen now."""
        self._seen = None


def _moved(before: float, then: Signs, now: float, signs: Signs) -> bool:
    counted = (signs.printed, signs.points, signs.processes) != (then.printed, then.points, then.processes)
    return counted or signs.cpu_s - then.cpu_s > _LEAST_CPU * (now - before)


class Vigil:
    """Keep it entered while a run works."""

    def __init__(
        self,
        project: Project,
        run: str,
        journal: Journal,
        emit: Emit,
        *,
        cancel: threading.Event | None = None,
        what: str = "",
    ) -> None:
        """Only assign.

        Args:
            project: the project.
            run: the run's id.
            journal: of this process, for what is noted here.
            emit: told what is noted, from the thread.
            cancel: set when a request says so.
            what: the name of what works; else the steps that are running.
        """
        self.asked = ""
        """What a request said: empty, cancel or keep."""
        self._project = project
        self._run = run
        self._journal = journal
        self._emit = emit
        self._cancel = cancel
        self._what = what
        self._running: list[str] = []
        self._points = 0
        self._still = Stillness(project.config.stalled_after_s)
        self._request = project.layout.stop_request(run)
        self._tail = Tail(project.layout, whole=False)
        self._listening = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="mlops-vigil", daemon=True)

    def __enter__(self) -> Vigil:
        self._tail.poll()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()
        self.listen()
        self._tail.close()
        self._request.unlink(missing_ok=True)

    def listen(self) -> None:
        """Pass on what was noted since."""
        with self._listening:
            for line in self._tail.poll():
                if line.get("r", line.get("run")) == self._run:
                    self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        match line["k"]:
            case events.METRIC:
                self._points += 1
            case events.STEP_STARTED:
                self._running.append(line["step"])
                self._still.rest()
            case events.STEP_ENDED if line["step"] in self._running:
                self._running.remove(line["step"])
            case events.NOTE:
                self._emit(Progress("warning", str(line["text"])))

    def _watch(self) -> None:
        listened = looked = time.monotonic()
        while not self._done.wait(_REQUEST_S):
            now = time.monotonic()
            with suppress(OSError, MlopsError):  # what is read here again later is no reason to end
                self._hear()
                if now - listened >= _LISTEN_S:
                    listened = now
                    self.listen()
                after = self._still.after_s
                if after and now - looked >= min(30.0, after / 4):
                    looked = now
                    self._look(now)

    def _hear(self) -> None:
        if self.asked != CANCEL and self._request.exists():
            self.asked = self._request.read_text()
            if self.asked == CANCEL and self._cancel is not None:
                self._cancel.set()

    def _look(self, now: float) -> None:
        names = self._what or ", ".join(self._running)
        if not names:
            self._still.rest()
            return
        still = self._still.look(now, self._signs())
        if still is not None:
            text = (
                f"{names}: nothing printed, logged or computed for {_span(still)}; to end it: mlops stop {short_id(self._run)}"
            )
            self._journal.state(events.NOTE, run=self._run, text=text)

    def _signs(self) -> Signs:
        import psutil  # noqa: PLC0415  (20 ms, and only for runs that take a while)

        folder = self._project.layout.logs / self._run
        printed = sum(path.stat().st_size for path in folder.iterdir()) if folder.is_dir() else 0
        processes, cpu = 0, 0.0
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                used = process.cpu_times()
                processes, cpu = processes + 1, cpu + used.user + used.system
        return Signs(printed, self._points, processes, cpu)


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
