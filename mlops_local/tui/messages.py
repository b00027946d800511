"""Everything screens and the bridge say to each other: requests go up, answers come back to the screen that asked."""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message
from textual.message_pump import MessagePump

from mlops_local.tui.views import ComparisonView, HomeView, LiveRun, RunsPage, RunsQuery, RunView, VersionRow


@dataclass
class Request(Message):
    """A question or order for the bridge. `asker` gets the answer."""

    asker: MessagePump


@dataclass
class AskHome(Request):
    """What is live, what needs attention, what ran last?"""


@dataclass
class AskRuns(Request):
    """A page of runs, please."""

    query: RunsQuery
    start: int
    limit: int


@dataclass
class AskRun(Request):
    """Everything about one run."""

    run: str


@dataclass
class AskCurves(AskRun):
    """The same, for the panel beside the list: only the newest question counts."""


@dataclass
class AskComparison(Request):
    """These runs side by side."""

    runs: tuple[str, ...]


@dataclass
class AskVersions(Request):
    """Every model version."""


@dataclass
class Promote(Request):
    """Make this version its model's champion."""

    version: str
    reason: str
    expect: str
    """The champion on screen when the user decided, or empty."""


@dataclass
class Rollback(Request):
    """Give the model back its champion before this one."""

    model: str
    reason: str


@dataclass
class Home(Message, bubble=False):
    """Answer to `AskHome`."""

    view: HomeView


@dataclass
class Runs(Message, bubble=False):
    """Answer to `AskRuns`."""

    page: RunsPage


@dataclass
class RunShown(Message, bubble=False):
    """Answer to `AskRun` and `AskCurves`."""

    view: RunView


@dataclass
class Compared(Message, bubble=False):
    """Answer to `AskComparison`."""

    view: ComparisonView


@dataclass
class Versions(Message, bubble=False):
    """Answer to `AskVersions`."""

    rows: tuple[VersionRow, ...]


@dataclass
class Decided(Message, bubble=False):
    """A promotion or rollback is in the ledger."""

    text: str


@dataclass
class Refused(Message, bubble=False):
    """The question itself was wrong (a filter that cannot be read); shown where it was asked."""

    request: Request
    text: str


@dataclass
class Failed(Message):
    """Something went wrong; shown as a toast."""

    text: str
    hint: str = ""
    severe: bool = True


@dataclass
class Waiting(Message):
    """The store is in use by somebody; `done`: looking for news got through."""

    holder: str
    done: bool = False


@dataclass
class Changed(Message, bubble=False):
    """There is news in the store: runs, decisions or both. Sent to the screens; each asks for what it shows."""

    decisions: bool = False


@dataclass
class Live(Message, bubble=False):
    """What running runs did since the last time. Sent to the screens about twice a second, only when there is something."""

    runs: tuple[LiveRun, ...]
