"""What git's pre-commit hook says and answers.

A regression blocks the commit, and so does a staged project that cannot be read. No verdict lets it pass with a line that says
why, unless mlops.toml asks for more. The hook trains nothing, needs no network and ends in a set time.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from mlops_local.domain.errors import ConfigError, MlopsError, NoVerdict
from mlops_local.services import check
from mlops_local.services.project import Project

ALLOWED = 0
REGRESSION = 3
_PREFIX = "mlops: "


@dataclass(frozen=True)
class Answer:
    """How the hook ends."""

    code: int
    """0 lets the commit pass."""
    lines: tuple[str, ...]


def frame() -> str:
    """Return the hook file without sections."""
    return Path(__file__).with_name("template.sh").read_text(encoding="utf-8")


def run(project: Project, *, budget_s: float | None = None) -> Answer:
    """Check the staged tree and answer git; what takes longer than mlops.toml or `budget_s` allows ends without a verdict."""
    block = project.config.hook.untrained == "block"
    try:
        with _budget(budget_s or project.config.hook.timeout):
            result = check.check(project, staged=True)
            block = check.staged_config(project).hook.untrained == "block"
    except ConfigError as error:
        lines = [f"{_PREFIX}the staged project cannot be read: {error.message}", *error.traceback.splitlines()]
        return _blocked(error.exit_code, lines)
    except MlopsError as error:
        return _without_verdict([f"{_PREFIX}no verdict: {error.message}"], block)
    lines = [_PREFIX + line for line in result.lines]
    if result.state == check.REGRESSION:
        return _blocked(REGRESSION, lines)
    if result.state == check.NO_VERDICT:
        return _without_verdict(lines, block)
    return Answer(ALLOWED, () if result.state == check.UNAFFECTED and not result.models else tuple(lines))


def _blocked(code: int, lines: list[str]) -> Answer:
    return Answer(code, (*lines, f"{_PREFIX}commit blocked (`git commit --no-verify` skips this check)"))


def _without_verdict(lines: list[str], block: bool) -> Answer:
    if block:
        return _blocked(NoVerdict.exit_code, [*lines, f'{_PREFIX}mlops.toml asks for a verdict ([hook] untrained = "block")'])
    return Answer(ALLOWED, tuple(lines))


@contextmanager
def _budget(seconds: float) -> Iterator[None]:
    """End what runs inside after so many seconds. Only the main thread can be interrupted; elsewhere there is no limit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def out_of_time(number: int, where: FrameType | None) -> None:
        raise NoVerdict(f"the check took longer than {seconds:g} s", hint="run `mlops check --staged`")

    before = signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
