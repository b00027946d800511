"""The only writer to stderr: errors, warnings, talk and progress; and the one table of exit codes.

Nothing here goes to stdout, nothing depends on colour alone, and nothing heavier than the standard library is imported.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from mlops_local.domain.progress import Progress


class ExitCode(IntEnum):
    """What a process of ours can end with."""

    DONE = 0
    FAILED = 1
    """A step or command failed, or --exit-code found a difference."""
    USAGE = 2
    """Usage or configuration."""
    REGRESSION = 3
    NO_VERDICT = 4
    """Untrained, no baseline, or inconclusive."""
    BUSY = 5
    """The store stayed in use past --wait."""
    INTEGRITY = 6
    BUG = 70
    """Ours: one line here, the traceback in .mlops/logs/."""
    INTERRUPTED = 130
    TERMINATED = 143


_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_ASCII_SPINNER = "|/-\\"
_STYLE = {"error": "31", "warning": "33", "hint": "36", "done": "32", "failed": "31"}
_TICK_S = 0.1


class _Talk:
    """How this process talks: set once from the command line, read by every writer below."""

    def __init__(self) -> None:
        self.quiet = False
        self.verbose = 0
        self.color: bool | None = None
        self.live: _LiveLine | None = None
        self.behind: set[str] = set()
        """What was said of it."""


_talk = _Talk()


def begin() -> None:
    """Talk as nobody asked otherwise yet."""
    _talk.quiet, _talk.verbose, _talk.color, _talk.behind = False, 0, None, set()


def configure(*, quiet: bool | None = None, verbose: int | None = None, color: bool | None = None) -> None:
    """Set how this process talks; what is not given stays."""
    if quiet is not None:
        _talk.quiet = quiet
    if verbose is not None:
        _talk.verbose = verbose
    if color is not None:
        _talk.color = color


def verbose() -> int:
    """How often -v was given."""
    return _talk.verbose


def error(message: str, hint: str = "", detail: str = "", more: Sequence[str] = ()) -> None:
    """Say what went wrong and the way out; a user's traceback (`detail`) comes first, further lines (`more`) after."""
    if detail:
        _write(detail.rstrip("\n"))
    _write(f"{_paint('error', 'error:')} {message}")
    for line in more:
        _write(f"       {line}")
    if hint:
        _write(f"{_paint('hint', 'hint:')} {hint}")


def plain(text: str) -> None:
    """Write text as it stands, even with -q: help that was not asked for."""
    _write(text)


def warn(message: str) -> None:
    """Say something the user should know; shown even with -q."""
    _write(f"{_paint('warning', 'warning:')} {message}")


def say(message: str) -> None:
    """Say something; silenced by -q."""
    if not _talk.quiet:
        _write(message)


def waiting(holder: str) -> None:
    """Say who holds the store while we queue for it."""
    say(f"waiting for the store, in use by {holder}" if holder else "waiting for the store, in use by another process")


def behind(why: str) -> None:
    """Say once that what is shown may lack the newest."""
    if why not in _talk.behind:
        _talk.behind.add(why)
        warn(f"the newest may be missing here: {why}")


@contextmanager
def progress() -> Iterator[Callable[[Progress], None]]:
    """Show a verb's progress: on a terminal one live line for the running step, elsewhere one plain line an event."""
    if _talk.quiet or not _terminal():
        yield _plain
        return
    live = _LiveLine()
    _talk.live = live
    try:
        yield live.take
    finally:
        _talk.live = None
        live.close()


def settle() -> None:
    """Take the live line off the screen: what follows goes to stdout."""
    if _talk.live is not None:
        _talk.live.stop()


def _plain(event: Progress) -> None:
    if event.kind == "warning":
        warn(event.text)
    elif event.kind == "output":
        if _talk.verbose:
            say(event.text)
    else:
        say(event.text)


class _LiveLine:
    """The last line of the terminal, redrawn while steps run; everything else scrolls above it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._running: dict[str, tuple[str, float]] = {}
        """Step -> what is said of it, and since when it runs."""
        self._shown = 0
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, event: Progress) -> None:
        """Show one event."""
        if event.kind == "step_started":
            self.start(event.text, event.step)
            return
        if event.kind == "step_ended":
            self.stop(event.step)
        _plain(event)

    def start(self, text: str, step: str = "") -> None:
        """Begin the live line, or let it speak of one more step."""
        with self._lock:
            self._running[step] = text, time.monotonic()
            self.draw()
        if self._thread is None:
            self._thread = threading.Thread(target=self._tick, name="mlops-progress", daemon=True)
            self._thread.start()

    def stop(self, step: str | None = None) -> None:
        """End the live line, or what it says of one step; the terminal is clean."""
        with self._lock:
            if step is None:
                self._running.clear()
            self._running.pop(step or "", None)
            self.clear()

    def close(self) -> None:
        """End for good."""
        self.stop()
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    def clear(self) -> None:
        """Take the live line off the screen."""
        with self._lock:
            if self._shown:
                _raw("\r\x1b[K")
                self._shown = 0

    def draw(self) -> None:
        """Put the live line on the screen."""
        with self._lock:
            if not self._running:
                return
            now = time.monotonic()
            oldest = now - min(since for _, since in self._running.values())
            frames = _SPINNER if _unicode() else _ASCII_SPINNER
            frame = frames[int(oldest / _TICK_S) % len(frames)]
            said = [f"{escape(text)}  {now - since:.0f} s" for text, since in self._running.values()]
            if len(said) > 1:
                said = [f"{escape(step)} {now - since:.0f} s" for step, (_, since) in self._running.items()]
            line = f"{frame} {', '.join(said)}"
            line = line[: max(_width() - 1, 10)]
            _raw("\r\x1b[K" + line)
            self._shown = len(line)

    def _tick(self) -> None:
        while not self._done.wait(_TICK_S):
            self.draw()


def escape(text: str) -> str:
    """Show control characters instead of sending them to the terminal; line breaks and tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        character if character in "\n\t" or character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _write(text: str) -> None:
    live = _talk.live
    if live is None:
        _raw(_safe(text) + "\n")
        return
    with live._lock:
        live.clear()
        _raw(_safe(text) + "\n")
        live.draw()


def _safe(text: str) -> str:
    """Escape everything but the colours we painted ourselves."""
    return "\x1b[".join(escape(part) for part in text.split("\x1b[")) if _colored() else escape(text)


def _raw(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):  # stderr is closed or gone: there is nobody to tell
        pass


def painted(style: str, text: str, stream: TextIO) -> str:
    """Text in the colour of a style, where the stream is a terminal and nobody asked for none."""
    return f"\x1b[{_STYLE[style]}m{text}\x1b[0m" if _colored(stream) else text


def _paint(style: str, text: str) -> str:
    return painted(style, text, sys.stderr)


def _colored(stream: TextIO | None = None) -> bool:
    if _talk.color is not None:
        return _talk.color and _terminal(stream)
    return _terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _terminal(stream: TextIO | None = None) -> bool:
    try:
        return (stream or sys.stderr).isatty()
    except (AttributeError, ValueError):  # no stderr, or a closed one
        return False


def _unicode() -> bool:
    return (getattr(sys.stderr, "encoding", "") or "").lower().replace("-", "") == "utf8"


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80
