"""The runs that go on in this process, where they are kept, and how a signal or the end of the process ends them."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, SupportsFloat, SupportsIndex

from mlops_local.api import notebook
from mlops_local.domain import secrets
from mlops_local.domain.errors import MlopsError, ProjectNotFound, UsageError
from mlops_local.store import layout as layouts
from mlops_local.store.layout import Layout

if TYPE_CHECKING:
    from mlops_local.api.running import Run

Number = SupportsFloat | SupportsIndex
"""What can be logged: a number, or what has one in it, as a scalar of numpy or torch."""
RUN_VARIABLE = "MLOPS_RUN"
"""Set for a process that belongs to a run: the run's id."""
STATE_VARIABLE = "MLOPS_STATE"
"""Set beside it: the project's .mlops folder."""
MODE_VARIABLE = "MLOPS_MODE"
"""`off`: nothing is tracked, and no project is needed."""


class Process:
    """The runs of this process that go on, and whether the one it was started in was joined."""

    def __init__(self) -> None:
        self.stack: list[Run] = []
        self.joined = False
        self.base: Run | None = None
        """The run this process was started in, for what is logged outside any `with`."""
        self._at_exit = False
        self._complained = False

    def begin(self, run: Run) -> None:
        """Make a run one that goes on."""
        self.joined = self.joined or not run.owned
        self.stack.append(run)
        if not self._at_exit:
            self._at_exit = True
            atexit.register(end_left)

    def complain(self, error: MlopsError) -> None:
        """Say once that nothing is logged, and why: a training is not ended by what watches it."""
        if not self._complained and sys.stderr is not None:
            self._complained = True
            sys.stderr.write(f"mlops: nothing is logged: {error.message}\n")


process = Process()


def innermost() -> Run | None:
    """The run that was begun last and goes on: by this thread, else by the main one, else by any."""
    stack = process.stack
    for thread in (threading.get_ident(), threading.main_thread().ident):
        for run in reversed(stack):
            if run.thread == thread:
                return run
    return stack[-1] if stack else None


def mode() -> str:
    """`on` or `off`, as MLOPS_MODE says. Raises UsageError for anything else."""
    found = os.environ.get(MODE_VARIABLE, "") or "on"
    if found not in ("on", "off"):
        raise UsageError(f"MLOPS_MODE is {found!r}", hint="it is `on` or `off`")
    return found


def project_layout() -> Layout:
    """The store of the project this process works in. Raises ProjectNotFound."""
    state = os.environ.get(STATE_VARIABLE, "")
    place = state or os.getcwd()  # noqa: PTH109  (asked at every run: a Path costs more than the call)
    known = _layouts.get(place)
    if known is not None and known.journal.is_dir():
        return known
    root = Path(state).parent if state else layouts.find_root(Path.cwd())
    if root is None:
        raise ProjectNotFound(
            f"no project in {Path.cwd()} or above it (no mlops.toml)", hint="run `mlops init` once in its folder"
        )
    layout = Layout(root)
    layouts.create(layout)
    _layouts[place] = layout
    return layout


_layouts: dict[str, Layout] = {}
"""Folder -> its project's store, made or found before."""


def end_left() -> None:
    """End the runs that were begun without a block: at the end of the process, or where a notebook begins the next."""
    error = None if notebook.position() else getattr(sys, "last_value", None)
    for run in reversed(process.stack):
        if not run.block:
            run.end(error)


def ending(error: BaseException | None) -> tuple[str, str]:
    """The state a run ends in, and why."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "done", ""
    cancelled = isinstance(error, (KeyboardInterrupt, _Terminated))
    try:
        said = f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - the error's own text may fail, and must not take the place of the error
        said = type(error).__name__
    return "cancelled" if cancelled else "failed", secrets.strike(said)


class _Terminated(SystemExit):
    """Ends a script with exit code 143 and no traceback."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated(128 + number)


def hear_terminate() -> None:
    """SIGTERM, which `mlops stop` sends, ends the block like ^C, so that the run is cancelled and not crashed."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


def unhear_terminate() -> None:
    """Let SIGTERM do what it does."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is _terminate:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
