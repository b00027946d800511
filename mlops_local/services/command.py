"""Run a command in this terminal: its output is shown as it comes and kept, its end is waited for, what it took is measured.

Inside it `import mlops_local` finds this package and nothing else of the environment it is installed in, so that a script can
log from an environment of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import BinaryIO

from mlops_local.services.meter import Meter
from mlops_local.services.project import Project
from mlops_local.worker.commands import importable

LOG_BYTES = 50_000_000
"""Output kept of one command."""
_SAVE_S = 10.0
"""Between ^C and TERM."""
_GRACE_S = 3.0
"""Between TERM and KILL."""

Hear = Callable[[bytes], None]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """Its exit status; 128 + signal when a signal ended it."""
    cpu_seconds: float
    """Of it and what it waited for."""
    peak_bytes: int


def execute(
    project: Project,
    run_id: str,
    words: Sequence[str],
    *,
    hear: Sequence[Hear] = (),
    tell: Callable[[Mapping[str, float]], None] | None = None,
) -> Ended:
    """Run it to its end.

    Args:
        project: the project.
        run_id: the run it belongs to.
        words: the program's path and its arguments.
        hear: for stdout and stderr, given what comes, each in a thread.
        tell: given what it takes of the machine every few seconds; None to measure nothing.

    Raises:
        OSError: it does not start.
    """
    folder = project.layout.logs / run_id
    folder.mkdir(parents=True, exist_ok=True)
    with importable() as found:
        ours = {"MLOPS_RUN": run_id, "MLOPS_STATE": str(project.layout.state), "PYTHONUNBUFFERED": "1"}
        variables = {**os.environ, **found, **ours}
        with (folder / "command.log").open(
            "wb", buffering=0
        ) as log:  # what a full disk refused must not fail again at the close
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=variables)
            assert process.stdout is not None and process.stderr is not None
            kept = Log(log)
            streams = ((process.stdout, sys.stdout.buffer), (process.stderr, sys.stderr.buffer))
            heard: Sequence[Hear] = hear or (_nothing, _nothing)
            copiers = [
                threading.Thread(target=_copy, args=(source, shown, kept, one), daemon=True)
                for (source, shown), one in zip(streams, heard, strict=True)
            ]
            for copier in copiers:
                copier.start()
            try:
                with ExitStack() as beside:
                    if tell is not None:
                        beside.enter_context(Meter(process.pid, tell))
                    return _waited(process)
            except BaseException as error:
                _stop(process, heard=isinstance(error, KeyboardInterrupt))
                raise
            finally:
                for copier in copiers:
                    copier.join(timeout=5)


def _waited(process: subprocess.Popen[bytes]) -> Ended:
    """Wait for it, and ask the system what it alone took: runs before it in this process had their own."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = code = os.waitstatus_to_exitcode(status)
    return Ended(code if code >= 0 else 128 - code, round(usage.ru_utime + usage.ru_stime, 3), usage.ru_maxrss * 1024)


def _stop(process: subprocess.Popen[bytes], *, heard: bool) -> None:
    """End it. ^C it `heard` as we did, from the terminal: it may save what it has first; a second ^C ends it at once."""
    if process.returncode is not None:
        return
    try:
        if heard:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_SAVE_S)
                return
        process.send_signal(signal.SIGTERM)
        process.wait(_GRACE_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()


class Log:
    """The first LOG_BYTES of what a command prints, from both of its streams in the order they came."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = LOG_BYTES
        self._mutex = threading.Lock()

    def keep(self, data: bytes) -> None:
        """Take the next bytes."""
        with self._mutex:
            if self._left > 0 and not self._file.closed:
                try:
                    self._file.write(data[: self._left])
                    self._file.flush()
                    self._left -= len(data)
                except OSError:  # a full disk costs the log, never the command: its output must go on being read
                    self._left = 0


def _copy(source: BinaryIO, shown: BinaryIO, kept: Log, hear: Hear) -> None:
    for data in iter(lambda: source.read1(65536), b""):  # type: ignore[attr-defined]
        kept.keep(data)
        hear(data)
        try:
            shown.write(data)
            shown.flush()
        except (OSError, ValueError):
            continue  # nobody reads our output any more; the log still does
    source.close()


def _nothing(data: bytes) -> None:
    """Nobody listens."""
