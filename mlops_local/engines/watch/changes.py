"""When a burst of file events is a change worth acting on. Pure: time and looks at files are passed in, nothing is read here.

Code acts a moment after its last event if it parses, because an editor saves it whole. Data acts when it has been quiet for
longer and looks the same twice, because a download or copy takes its time. Whether anything changed in content is decided by
the caller, by hash: events only say where to look.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass, field

CODE_QUIET_MS = 20
CODE_PATIENCE_MS = 400
"""Code that does not parse may be half written; after this long it is handed over all the same, so that its error is shown."""
DATA_QUIET_MS = 500
DATA_PATIENCE_MS = 5000
"""Data that arrive file after file are handed over together, but one quiet for this long does not wait for the others."""
AFTER_HOLD_MS = 100
"""When git is done, the last events of what it did may still be on their way."""
HOLD_PATIENCE_MS = 30_000
"""A lock that a killed git left behind is believed for this long."""

Stamp = tuple[int, int]
"""(mtime in nanoseconds, size) of a file."""

_IGNORED_FOLDERS = frozenset(
    {".mlops", ".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".ipynb_checkpoints"}
    | {".mypy_cache", ".pytest_cache", ".ruff_cache", ".idea", ".vscode"}
)
_IGNORED_NAMES = ("*~", ".#*", "#*#", "*.sw[a-p]", "*.sw[a-p]x", "*.tmp", "*.part", "*.crdownload", "*.pyc", "4913", ".nfs*")


def ignored(path: str) -> bool:
    """Say whether a path relative to the project is never of interest: our store, git, caches, editor backups."""
    *folders, name = path.split("/")
    if not _IGNORED_FOLDERS.isdisjoint(folders):
        return True
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _IGNORED_NAMES)


def kind(path: str) -> str:
    """Return `code` for what a person edits and the project reads as text (Python, TOML), else `data`."""
    return "code" if path.endswith((".py", ".toml")) else "data"


@dataclass
class _Pending:
    last: float
    stamp: Stamp | None = None
    stamped: bool = False


@dataclass
class Settler:
    """Collects events and hands over sets of paths once they have settled.

    Times are seconds on any steady clock.
    """

    stamp: Callable[[str], Stamp | None]
    """A file's stamp now, or None when it is gone."""
    parses: Callable[[str], bool]
    """Whether a code file is whole: it parses, or is gone."""
    wanted: Callable[[str], bool] = lambda path: True
    _pending: dict[str, _Pending] = field(default_factory=dict)
    _held_since: float | None = None
    _held_until: float = -1e9

    def add(self, path: str, now: float) -> None:
        """Take one event."""
        if ignored(path) or not self.wanted(path):
            return
        self._pending[path] = _Pending(last=now)

    def due(self, now: float, *, held: bool = False) -> frozenset[str]:
        """Take out and return the paths that have settled.

        Args:
            now: the time.
            held: git is at work in the tree; nothing settles before it is done.
        """
        if self._hold(now, held):
            return frozenset()
        code = self._code_settled(now)
        data = self._data_settled(now)
        for path in code | data:
            del self._pending[path]
        return frozenset(code | data)

    def wait_s(self, now: float) -> float | None:
        """Return how long until something may settle, or None when nothing is pending."""
        if not self._pending:
            return None
        waits = [_seconds(CODE_QUIET_MS if kind(path) == "code" else DATA_QUIET_MS) - (now - event.last)
                 for path, event in self._pending.items()]  # fmt: skip
        return max(min(waits), _seconds(CODE_QUIET_MS))

    def _hold(self, now: float, held: bool) -> bool:
        if not held:
            if self._held_since is not None:
                self._held_since, self._held_until = None, now
            return now - self._held_until < _seconds(AFTER_HOLD_MS)
        if self._held_since is None:
            self._held_since = now
        return now - self._held_since < _seconds(HOLD_PATIENCE_MS)

    def _code_settled(self, now: float) -> set[str]:
        """Files that are saved together are one change: none acts while others are still arriving, but not for ever."""
        quiet = {path: now - event.last for path, event in self._pending.items() if kind(path) == "code"}
        if not quiet:
            return set()
        if min(quiet.values()) < _seconds(CODE_QUIET_MS) and max(quiet.values()) < _seconds(CODE_PATIENCE_MS):
            return set()
        settled = {path for path, since in quiet.items() if since >= _seconds(CODE_QUIET_MS)}
        return {path for path in settled if quiet[path] >= _seconds(CODE_PATIENCE_MS) or self.parses(path)}

    def _data_settled(self, now: float) -> set[str]:
        data = {path: event for path, event in self._pending.items() if kind(path) == "data"}
        calm: set[str] = set()
        for path, event in data.items():
            if now - event.last >= _seconds(DATA_QUIET_MS) and self._same_twice(path, event, now):
                calm.add(path)
        if len(calm) == len(data):
            return calm
        return {path for path in calm if now - data[path].last >= _seconds(DATA_PATIENCE_MS)}

    def _same_twice(self, path: str, event: _Pending, now: float) -> bool:
        stamp = self.stamp(path)
        if event.stamped and event.stamp == stamp:
            return True
        if event.stamped:
            # It grew without an event (a writer that keeps the file open): quiet starts again.
            event.last = now
        event.stamp, event.stamped = stamp, True
        return False


def _seconds(milliseconds: int) -> float:
    return milliseconds / 1000
