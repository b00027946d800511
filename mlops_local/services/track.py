"""Track any command as a run: what it was, what it printed, how it ended, and the models it made."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO

from mlops_local.domain import events, names, secrets
from mlops_local.domain.assets import ModelVersion
from mlops_local.domain.errors import UsageError
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.services import environment, scripted
from mlops_local.services.project import Project
from mlops_local.services.vigil import Vigil
from mlops_local.store import projection
from mlops_local.store.journal import Journal, new_id

LOG_BYTES = 50_000_000
"""Output kept of one command."""


@dataclass(frozen=True)
class Tracked:
    """What one tracked command did."""

    run: str
    name: str
    code: int
    """The command's exit status; 128 + signal when a signal ended it."""
    seconds: float
    versions: tuple[ModelVersion, ...] = ()


def run_command(project: Project, command: Sequence[str], *, name: str = "", message: str = "", emit: Emit = ignore) -> Tracked:
    """Run a command in this terminal and keep it as a run.

    Its output is shown as it comes and kept in the run's log. Inside it, `mlops_local.run()` and `log` join this run.

    Raises:
        UsageError: there is no such program.
    """
    program = shutil.which(command[0])
    if program is None:
        raise UsageError(f"no such program: {command[0]}", hint="give the whole command, as in `mlops run python train.py`")
    run_id = new_id()
    name = name or names.readable(run_id)
    started = time.monotonic()
    with closing(Journal.open(project.layout.journal)) as journal:
        facts = {**environment.capture(project), "argv": secrets.command_line(list(command))}
        journal.state(events.RUN_STARTED, run=run_id, name=name, kind="script", targets=[], message=message, **facts)
        options = secrets.parameters(_options(command))
        if options:
            journal.state(events.PARAMS, run=run_id, values=options)
        emit(Progress("note", f"run {run_id[16:24]} {name}", data={"run": run_id}))
        state, error, code = "cancelled", "interrupted", 130
        try:
            with Vigil(project, run_id, journal, emit, what=name):
                code = _execute(project, run_id, [program, *command[1:]])
            state, error = ("done", "") if code == 0 else ("failed", _ending(code))
        except OSError as problem:  # it is there and may be executed, and still does not start
            state, error = "failed", problem.strerror or str(problem)
            raise UsageError(f"{command[0]} does not start: {error}", hint="is its first line `#!…`?") from problem
        finally:
            seconds = round(time.monotonic() - started, 6)
            usage = resource.getrusage(resource.RUSAGE_CHILDREN)
            journal.state(
                events.RUN_ENDED,
                run=run_id,
                state=state,
                error=error,
                seconds=seconds,
                cpu_seconds=round(usage.ru_utime + usage.ru_stime, 3),
                peak_bytes=usage.ru_maxrss * 1024,
            )
    made = scripted.adopt(project, emit=emit)
    projection.settle(project.layout)
    return Tracked(run_id, name, code, seconds, tuple(made))


def _ending(code: int) -> str:
    return f"exit status {code}" if code < 128 else f"ended by signal {code - 128}"


def _execute(project: Project, run_id: str, command: Sequence[str]) -> int:
    """Run it with its output copied to our own streams and to the log; returns its exit status."""
    folder = project.layout.logs / run_id
    folder.mkdir(parents=True, exist_ok=True)
    variables = {**os.environ, "MLOPS_RUN": run_id, "MLOPS_STATE": str(project.layout.state), "PYTHONUNBUFFERED": "1"}
    with (folder / "command.log").open("wb", buffering=0) as log:  # what a full disk refused must not fail again at the close
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=variables)
        assert process.stdout is not None and process.stderr is not None
        kept = _Log(log)
        copiers = [
            threading.Thread(target=_copy, args=(process.stdout, sys.stdout.buffer, kept), daemon=True),
            threading.Thread(target=_copy, args=(process.stderr, sys.stderr.buffer, kept), daemon=True),
        ]
        for copier in copiers:
            copier.start()
        try:
            code = process.wait()
        except BaseException:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise
        finally:
            for copier in copiers:
                copier.join(timeout=5)
    return code if code >= 0 else 128 - code


class _Log:
    """The first LOG_BYTES of what a command prints, from both of its streams in the order they came."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = LOG_BYTES
        self._mutex = threading.Lock()

    def keep(self, data: bytes) -> None:
        with self._mutex:
            if self._left > 0 and not self._file.closed:
                try:
                    self._file.write(data[: self._left])
                    self._file.flush()
                    self._left -= len(data)
                except OSError:  # a full disk costs the log, never the command: its output must go on being read
                    self._left = 0


def _copy(source: BinaryIO, shown: BinaryIO, kept: _Log) -> None:
    for data in iter(lambda: source.read1(65536), b""):  # type: ignore[attr-defined]
        kept.keep(data)
        try:
            shown.write(data)
            shown.flush()
        except (OSError, ValueError):
            continue  # nobody reads our output any more; the log still does
    source.close()


def _options(command: Sequence[str]) -> Mapping[str, object]:
    """`--lr 0.1 --fast` of a command line as parameters lr=0.1, fast=true."""
    found: dict[str, object] = {}
    words = list(command[1:])
    for at, word in enumerate(words):
        if not word.startswith("--") or len(word) < 3:
            continue
        key, equals, value = word[2:].partition("=")
        following = words[at + 1] if at + 1 < len(words) else ""
        if equals:
            found[key] = _number(value)
        elif following and not following.startswith("--"):
            found[key] = _number(following)
        else:
            found[key] = True
    return found


def _number(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
