"""Follow what a run prints while it works, until it, or the step that was asked for, has ended."""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterator
from pathlib import Path

from mlops_local.domain.runs import RunState
from mlops_local.services import references
from mlops_local.services.project import Project
from mlops_local.store import history, projection

_POLL_S = 0.1
_ASK_S = 1.0
"""How often the store is asked whether the run goes on."""


class _Reader:
    """Reads on in one log; bytes that are not UTF-8 become escapes, an unfinished line waits for its end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begin()

    def _begin(self) -> None:
        self._at = 0
        self._rest = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def lines(self, *, last: bool) -> Iterator[str]:
        """Yield what is complete by now; when it is the last time, all."""
        try:
            with self.path.open("rb") as file:
                if file.seek(0, 2) < self._at:  # another attempt began it anew
                    self._begin()
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            data = b""
        self._at += len(data)
        *whole, self._rest = (self._rest + self._decoder.decode(data, final=last)).split("\n")
        yield from (line.rstrip("\r") for line in whole)
        if last and self._rest:
            yield self._rest
            self._rest = ""


def follow(project: Project, ref: str = "@latest", *, step: str = "") -> Iterator[tuple[str, str]]:
    """Yield each line a run's steps print, with the step's name, as it comes.

    Args:
        project: the project.
        ref: the run.
        step: follow this one alone, and until it ends.

    Raises:
        UsageError: the reference names no run.
    """
    run = references.resolve(project, ref)
    folder = project.layout.logs / run
    readers: dict[str, _Reader] = {}
    asked, going = 0.0, True
    while True:
        if time.monotonic() - asked >= _ASK_S:
            going, asked = _goes_on(project, run, step), time.monotonic()
        for path in sorted(folder.glob("*.log")):
            if not step or path.stem == step:
                readers.setdefault(path.stem, _Reader(path))
        for name, reader in readers.items():
            for line in reader.lines(last=not going):
                yield name, line
        if not going:
            return
        time.sleep(_POLL_S)


def _goes_on(project: Project, run: str, step: str) -> bool:
    projection.fold(project.store)
    with project.store.reader() as db:
        found = history.run(db, run)
        if found is None or found.state is not RunState.RUNNING:
            return False
        return not step or all(one.state == "running" for one in history.step_runs(db, run) if one.name == step)
