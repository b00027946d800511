"""What ^C and SIGTERM do to a process of ours at each stage of its life.

While it loads, and when its answer is out, there is nothing to clean up after, and an exception would show the user a
traceback through the modules that are being imported or taken apart: it ends at once. In between it raises, so that every
block is left in order. Imports next to nothing: it is there first.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

_SOON_S = 0.01
_IMPORTING = "<frozen importlib._bootstrap>"
_raised: list[type[KeyboardInterrupt]] = []
"""What was raised so far."""


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: cleaned up after like ^C, but the process ends with 143."""


def at_once() -> None:
    """From now on, end the process with one line. What is ignored (by `nohup`, of a shell's background jobs) stays so."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)


def in_order() -> None:
    """From now on, raise KeyboardInterrupt or Terminated."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _raise)
    signal.signal(signal.SIGTERM, _raise)


def meant(error: Exception) -> type[KeyboardInterrupt] | None:
    """Return what was raised, where this error is what DuckDB made of it in the middle of a query."""
    return _raised[-1] if _raised and isinstance(error, RuntimeError) and str(error) == "Query interrupted" else None


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    try:
        os.write(2, b"error: interrupted\n" if number == signal.SIGINT else b"error: terminated\n")
    finally:
        os._exit(128 + number)


def _raise(number: int, frame: FrameType | None) -> None:
    """Not in the middle of an import: its machinery swallows exceptions, and libraries written in C++ abort the process."""
    if _importing(frame):
        signal.signal(signal.SIGALRM, lambda _, later: _raise(number, later))
        signal.setitimer(signal.ITIMER_REAL, _SOON_S)
    else:
        _raised.append(Terminated if number == signal.SIGTERM else KeyboardInterrupt)
        raise _raised[-1]


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTING:
            return True
        frame = frame.f_back
    return False
