"""A forked child's own side: cut off from the server, it does one thing, leaves the answer in a file and is gone."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import fcntl
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn

from mlops_local.worker import tree

_F_SETSIG = 10

Answer = dict[str, Any]


def run(body: Callable[[], Answer], answer: BinaryIO, *, output: int, life: int) -> NoReturn:
    """Become a group of its own, run `body`, leave what it returns as JSON, end without Python's teardown.

    Args:
        body: what to do.
        answer: the file the server reads afterwards.
        output: the pipe that stdout and stderr go to.
        life: the pipe whose other end the server holds while it lives.
    """
    code = 70
    try:
        _leave(output, life)
        value = body()
        _flush()
        tree.sweep()
        answer.write(json.dumps(value).encode())
        answer.flush()
        code = 0
    except BaseException:  # noqa: BLE001 - our own mistake: say it in the log, the server reports the exit code
        import traceback

        traceback.print_exc()
        _flush()
    finally:
        os._exit(code)


def _leave(output: int, life: int) -> None:
    """Cut the child off from the server: its own process group, output to the pipe, death with the server."""
    os.setpgid(0, 0)
    tree.adopt()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
    _die_with(life)
    with contextlib.suppress(OSError):  # when memory runs out the system ends this step, not the program that waits for it
        score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(score, b"500")
        os.close(score)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(null)
    os.close(output)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - the process's own streams
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    atexit._clear()  # the server's own: only what the step registers runs at its end
    faulthandler.enable(file=sys.stderr)


def _die_with(life: int) -> None:
    """Have the kernel kill this process's whole group when the server's end of the pipe is gone, whatever it does then.

    The owner of an asynchronous descriptor gets a signal at its end of file; the owner is the group, the signal KILL.
    """
    with contextlib.suppress(OSError):
        fcntl.fcntl(life, fcntl.F_SETOWN, -os.getpid())
        if sys.platform == "linux":
            fcntl.fcntl(life, _F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)


def _flush() -> None:
    """Run what the step registered for its end (journals flush there), then empty the streams."""
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
