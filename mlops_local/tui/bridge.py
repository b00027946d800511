"""The only door to services: requests come in, thread workers ask, answers go back as messages. The screen never waits.

A lane is a kind of question. Each lane has one thread at most; while it is busy only the newest questions of that lane are
kept, so fast typing or scrolling never piles up threads behind a locked store. A busy store is asked again; the screen goes
on showing what it knows and the bar says who holds it.
"""

from __future__ import annotations

import os
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import ClassVar

from textual import on, work
from textual.app import App
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive

from mlops_local import __version__
from mlops_local.domain.errors import MlopsError, StoreBusy, UsageError
from mlops_local.domain.runs import Run, RunState
from mlops_local.services import crash
from mlops_local.services.project import Project
from mlops_local.store import projection
from mlops_local.store.database import Store
from mlops_local.tui import questions, words
from mlops_local.tui.live import LiveRuns
from mlops_local.tui.messages import (
    AskComparison,
    AskCurves,
    AskHome,
    AskRun,
    AskRuns,
    AskVersions,
    Changed,
    Decided,
    Failed,
    Home,
    Live,
    Promote,
    Refused,
    Request,
    Rollback,
    Runs,
    RunShown,
    Versions,
    Waiting,
)
from mlops_local.tui.views import HomeView, VersionRow

POLL_S = 0.5
"""Between two looks at the journals' tails."""
FOLD_EVERY = 2
"""Every so many looks the journals are folded into the database."""
WAIT_S = 1.5
"""A question queues for the store this long, then is put again: closing the program never waits longer. Over the second
after which a queue says who holds the store."""
AGAIN_S = 0.5
TOAST_S = 8.0
"""How long a failure stays to be read."""

LANES: dict[type[Request], tuple[str, int]] = {
    AskHome: ("home", 1),
    AskRuns: ("runs", 3),
    AskRun: ("run", 1),
    AskCurves: ("beside", 1),
    AskComparison: ("compare", 1),
    AskVersions: ("versions", 1),
    Promote: ("decide", 8),
    Rollback: ("decide", 8),
}
"""Request -> its lane, and how many of them may wait in it."""


@dataclass
class Answered(Message):
    """A worker is done with a request; `outcome` is None when the store was busy."""

    request: Request
    outcome: Message | None


class Bridge(App[None]):
    """The half of the application that talks to services."""

    activity: reactive[Content] = reactive(Content(""))
    """What is going on, for the bar."""
    POLLING: ClassVar[bool] = True

    def __init__(self, project: Project) -> None:
        super().__init__(ansi_color=True if os.environ.get("NO_COLOR") else None)
        self.project = replace(project, store=Store(project.layout, wait_s=WAIT_S, on_wait=self._store_in_use))
        self.home: HomeView | None = None
        """The newest answer to `AskHome`, for the palette."""
        self.versions: tuple[VersionRow, ...] = ()
        """Likewise."""
        self._waiting: dict[str, deque[Request]] = {}
        self._busy: set[str] = set()
        self._runs_now: set[str] = set()
        self._holder = ""
        self._last_holder = ""
        self._held_up: set[str] = set()
        self._warned = ""
        self._told: dict[str, float] = {}
        self._trouble: dict[str, str] = {}
        self._live = LiveRuns()
        self._tail = projection.Tail(project.layout)
        self._looks = 0
        self._seen = self._stamps()

    def on_mount(self) -> None:
        """Begin to look for news."""
        self._show_activity()
        if self.POLLING:
            self.set_interval(POLL_S, self.look)
            self.look()

    # Questions

    @on(AskHome)
    @on(AskRuns)
    @on(AskRun)
    @on(AskComparison)
    @on(AskVersions)
    @on(Promote)
    @on(Rollback)
    def _asked(self, request: Request) -> None:
        request.stop()
        lane, room = LANES[type(request)]
        waiting = self._waiting.setdefault(lane, deque(maxlen=room))
        if lane not in self._busy:
            self._start(request)
        elif request not in waiting:
            waiting.append(request)

    def _start(self, request: Request) -> None:
        self._busy.add(LANES[type(request)][0])
        self._work(request)

    @work(thread=True, exit_on_error=False, group="ask")
    def _work(self, request: Request) -> None:
        self.post_message(Answered(request, self._outcome(request, lambda: questions.answer(self.project, request))))

    def _outcome(self, request: Request, ask: Callable[[], Message]) -> Message | None:
        """The one table from errors to messages."""
        try:
            return ask()
        except StoreBusy as error:
            if isinstance(request, Promote | Rollback):
                return Failed(error.message, error.hint)
            return None
        except MlopsError as error:
            if isinstance(error, UsageError) and isinstance(request, AskRuns | AskRun | AskComparison):
                return Refused(request, f"{error.message}{'  ' + error.hint if error.hint else ''}")
            return Failed(error.message, error.hint)
        except Exception as error:  # noqa: BLE001  (a bug behind the bridge is a toast, never the end of the screen)
            return self._bug(error)

    def _complaint(self, error: Exception) -> Failed:
        """What looking for news came to: a warning, the same one only once."""
        known = Failed(str(error), getattr(error, "hint", "")) if isinstance(error, MlopsError | OSError) else self._bug(error)
        return replace(known, severe=False)

    def _bug(self, error: Exception) -> Failed:
        text = "".join(traceback.format_exception(error))
        place = crash.record(self.project.root, text, version=__version__)
        summary = (str(error).splitlines() or [""])[0]
        return Failed(
            f"a bug in mlops: {type(error).__name__}: {summary}",
            f"the traceback is in {place.relative_to(self.project.root)}; please report it" if place else "",
        )

    @on(Answered)
    def _answered(self, event: Answered) -> None:
        event.stop()
        lane, room = LANES[type(event.request)]
        self._busy.discard(lane)
        waiting = self._waiting.setdefault(lane, deque(maxlen=room))
        if event.outcome is None:
            if not waiting:
                waiting.append(event.request)
            self._held_up.add(lane)
            self._say_waiting(self._last_holder)
            self.set_timer(AGAIN_S, lambda: self._next(lane))
            return
        self._moves_on(lane)
        self._hand_over(lane, event)
        self._next(lane)

    def _hand_over(self, lane: str, event: Answered) -> None:
        """Give an answer to who asked; a failure is told once, and stays in the bar until the question is answered."""
        if isinstance(event.outcome, Failed):
            told = self._trouble.get(lane) == event.outcome.text
            if lane != "decide":
                self._trouble[lane] = event.outcome.text
                self._show_activity()
            if not told:
                self.post_message(event.outcome)
            return
        if self._trouble:
            self._trouble.clear()  # what another screen could not be told is tried again there
            self._show_activity()
        if event.outcome is not None:
            event.request.asker.post_message(event.outcome)
            self._learn(event.outcome)

    def _learn(self, outcome: Message) -> None:
        """Keep what the palette and the bar need of an answer."""
        match outcome:
            case Home(view):
                self.home = view
                self._ended(view.newest)
            case Runs(page):
                self._ended(page.rows)
            case RunShown(shown):
                self._ended([shown.run])
            case Versions(rows):
                self.versions = rows
            case Decided():
                self.look()

    def _next(self, lane: str) -> None:
        waiting = self._waiting.get(lane)
        if waiting and lane not in self._busy:
            self._start(waiting.popleft())

    # News

    def look(self) -> None:
        """Look at the journals' tails, and every second time fold what is new."""
        self._looks += 1
        if "tail" not in self._busy:
            self._busy.add("tail")
            self._look_at_tails()
        if self._looks % FOLD_EVERY == 1 and "fold" not in self._busy:
            self._busy.add("fold")
            self._fold()

    @work(thread=True, exit_on_error=False, group="tail")
    def _look_at_tails(self) -> None:
        try:
            runs = self._live.absorb(self._tail.poll())
            if runs:
                self.post_message(Live(runs))
        except Exception as error:  # noqa: BLE001  (as above)
            self.post_message(self._complaint(error))
        finally:
            self._busy.discard("tail")

    @work(thread=True, exit_on_error=False, group="fold")
    def _fold(self) -> None:
        try:
            folded = projection.fold(self.project.store)
            self.post_message(Waiting("", done=True))
        except StoreBusy:
            folded = 0
            self.post_message(Waiting(self._last_holder))
        except Exception as error:  # noqa: BLE001  (as above)
            folded = 0
            self.post_message(self._complaint(error))
        finally:
            self._busy.discard("fold")
        stamps = self._stamps()
        if folded or stamps != self._seen:
            decisions = stamps[1] != self._seen[1]
            self._seen = stamps
            self.post_message(Changed(decisions))

    def _stamps(self) -> tuple[object, object]:
        """What tells that somebody else folded or decided: the files' stamps, without opening them."""
        return _stamp(self.project.layout.folded), _stamp(self.project.layout.ledger)

    @on(Changed)
    def _changed(self, event: Changed) -> None:
        event.stop()
        for screen in self.screen_stack:
            screen.post_message(Changed(event.decisions))

    @on(Live)
    def _moved_on(self, event: Live) -> None:
        event.stop()
        for run in event.runs:
            (self._runs_now.add if run.state == "running" else self._runs_now.discard)(run.id)
        self._show_activity()
        for screen in self.screen_stack:
            screen.post_message(Live(event.runs))

    # What the bar says

    def _store_in_use(self, holder: str) -> None:
        """Called in a worker's thread when queueing takes over a second."""
        self._last_holder = holder
        self.post_message(Waiting(holder))

    @on(Waiting)
    def _told_waiting(self, event: Waiting) -> None:
        event.stop()
        if event.done:
            self._moves_on("fold")
        elif event.holder:
            self._held_up.add("fold")
            self._say_waiting(event.holder)

    def _moves_on(self, lane: str) -> None:
        """A lane got through; once none is held up, nobody is waited for."""
        self._held_up.discard(lane)
        if not self._held_up:
            self._say_waiting("")

    def _say_waiting(self, holder: str) -> None:
        if holder != self._holder:
            self._holder = holder
            self._show_activity()

    def _show_activity(self) -> None:
        if self._holder:
            self.activity = Content.styled(f"waiting for {self._holder}", words.WARN)
        elif self._trouble:
            self.activity = Content.styled(f"! {next(iter(self._trouble.values()))}", words.WARN)
        elif self._runs_now:
            self.activity = Content.styled(f"● {len(self._runs_now)} running", words.LIVE)
        else:
            self.activity = Content.styled(self.project.config.name, words.MUTED)

    def _ended(self, runs: Iterable[Run]) -> None:
        """The store knows of ends that no journal tells: a process that was killed writes no last word."""
        over = {run.id for run in runs if run.state is not RunState.RUNNING}
        if self._runs_now & over:
            self._runs_now -= over
            self._show_activity()

    @on(Failed)
    def _failed(self, event: Failed) -> None:
        event.stop()
        text = f"{event.text}\n{event.hint}" if event.hint else event.text
        first = monotonic() - self._told.get(text, -TOAST_S) >= TOAST_S
        if not first or (not event.severe and text == self._warned):
            return  # it is still there to be read; news is looked for every second, and a warning of that is said once
        self._told[text] = monotonic()
        self._warned = self._warned if event.severe else text
        self.notify(text, severity="error" if event.severe else "warning", timeout=TOAST_S, markup=False)


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
