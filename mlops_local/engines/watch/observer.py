"""The only importer of watchdog: watches just the wanted folders and yields sets of settled changes.

Never the whole tree: a watch on every folder of a `.venv` costs the kernel's limits and wakes us for nothing. Every folder
between the root and a wanted one is watched too, so a folder that is removed, renamed or made later is followed. Our own
reading makes no events: only created, closed after writing, moved and deleted are asked for.

Each folder's events arrive by a thread of its own, so that a folder may be said to be gone before the files in it are. The
files of a watched folder are therefore remembered: when it goes, or when the system lost events, they count as changed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer as NativeObserver
from watchdog.observers.api import BaseObserver, ObservedWatch
from watchdog.observers.polling import PollingObserver

from mlops_local.engines.watch.changes import Settler

_TICK_S = 0.2
"""How long a stop request may go unseen."""
_POLL_S = 1.0
_FOLDERS: list[type[FileSystemEvent]] = [DirCreatedEvent, DirDeletedEvent, DirMovedEvent]
_NATIVE: list[type[FileSystemEvent]] = [*_FOLDERS, FileCreatedEvent, FileClosedEvent, FileMovedEvent, FileDeletedEvent]
_POLLED: list[type[FileSystemEvent]] = [*_NATIVE, FileModifiedEvent]
_WARNINGS = "watchdog"
"""The logger on which watchdog says that the kernel's queue was full; it tells nobody else."""


class Observer:
    """Watches folders below a root and yields what settled in them. Use as a context manager."""

    def __init__(self, root: Path, *, polling: bool = False) -> None:
        self.root = root.resolve()
        self.polling = polling
        """Looking each second instead of being told: asked for, or because the system's limit of watches is reached."""
        self._wanted: dict[Path, bool] = {self.root: False}
        self._watches: dict[Path, tuple[ObservedWatch, bool]] = {}
        self._files: dict[Path, set[str]] = {}
        """Folder -> names of the files seen in it."""
        self._queue: queue.SimpleQueue[FileSystemEvent | None] = queue.SimpleQueue()
        self._handler = _Forward(self._queue)
        self._overflows = _Overflows(self._queue)
        self._observer: BaseObserver | None = None
        self._found: list[str] = []

    def __enter__(self) -> Observer:
        self._start()
        self._reconcile()
        self._found.clear()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders watched now, relative to the root."""
        return tuple(sorted(self._relative(path) for path in self._watches))

    def look(self, folders: Mapping[str, bool]) -> None:
        """Watch these folders (relative to the root -> whether with all below them) and no others.

        Files in a folder that was not watched before count as changed, so that nothing falls between reading and watching.
        """
        wanted = {self.root: False}
        for folder, recursive in folders.items():
            path = Path(os.path.normpath(self.root / folder))
            wanted[path] = wanted.get(path, False) or recursive
            for parent in path.parents:
                if self.root in parent.parents:
                    wanted.setdefault(parent, False)
        self._wanted = wanted
        if self._observer is not None:
            self._reconcile()

    def wake(self) -> None:
        """Make `changes` yield an empty set now. Any thread may call it."""
        self._queue.put(None)

    def changes(
        self,
        settler: Settler,
        stop: threading.Event,
        *,
        held: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> Iterator[frozenset[str]]:
        """Yield sets of settled paths relative to the root until `stop` is set; an empty set after `wake`.

        Args:
            settler: decides what has settled.
            stop: set it to end; seen within 0.2 s.
            held: whether git is at work in the tree.
            clock: a steady clock in seconds.
        """
        while not stop.is_set():
            woken = self._take(settler, clock)
            now = clock()
            settled = settler.due(now, held=settler.wait_s(now) is not None and held())
            if settled or woken:
                yield settled

    def _take(self, settler: Settler, clock: Callable[[], float]) -> bool:
        """Move events to the settler, waiting for one until something may settle. Returns whether we were woken."""
        wait = settler.wait_s(clock())
        timeout = _TICK_S if wait is None else min(wait, _TICK_S)
        woken = False
        try:
            event = self._queue.get(timeout=timeout)
            while True:
                if event is None:
                    woken = True
                else:
                    self._digest(event)
                event = self._queue.get_nowait()
        except queue.Empty:
            pass
        now = clock()
        for path in self._found:
            settler.add(path, now)
        self._found.clear()
        return woken

    def _digest(self, event: FileSystemEvent) -> None:
        if isinstance(event, _Lost):
            self._rescan()
            return
        source, target = (Path(os.fsdecode(path)) if path else None for path in (event.src_path, event.dest_path))
        gone = source if isinstance(event, (FileDeletedEvent, FileMovedEvent, DirDeletedEvent, DirMovedEvent)) else None
        if event.is_directory:
            if gone is not None:
                self._lose(gone)
            self._reconcile()
            return
        for path in (source, target):
            if path is not None:
                names = self._files.setdefault(path.parent, set())
                names.discard(path.name) if path == gone else names.add(path.name)
                self._found.append(self._relative(path))

    def _lose(self, folder: Path) -> None:
        """A folder is gone from where it was: so is what was in it, whether or not its own watch said so in time."""
        for known in [place for place in self._files if place == folder or folder in place.parents]:
            self._found.extend(self._relative(known / name) for name in self._files.pop(known))
        for path in [place for place in self._watches if place == folder or folder in place.parents]:
            if path != self.root:
                self._drop(path)

    def _rescan(self) -> None:
        """Events were lost: look at everything that was or is there."""
        for folder, names in self._files.items():
            self._found.extend(self._relative(folder / name) for name in names)
        for path in list(self._watches):
            self._drop(path)
        self._reconcile()

    def _reconcile(self) -> None:
        """Watch the wanted folders that are there. Files in a folder that was not watched before count as changed."""
        present = {path: recursive for path, recursive in self._wanted.items() if path.is_dir()}
        for path, (_, recursive) in list(self._watches.items()):
            if path in self._wanted and path not in present:
                self._lose(path)
            elif present.get(path) is not recursive:
                self._drop(path)
        for path, recursive in present.items():
            if path not in self._watches:
                self._schedule(path, recursive)
                self._scan(path, recursive)

    def _scan(self, folder: Path, recursive: bool) -> None:
        for place, folders, names in os.walk(folder):
            self._files.setdefault(Path(place), set()).update(names)
            self._found.extend(self._relative(Path(place, name)) for name in names)
            if not recursive:
                folders.clear()

    def _schedule(self, path: Path, recursive: bool) -> None:
        assert self._observer is not None
        events = _POLLED if self.polling else _NATIVE
        try:
            watch = self._observer.schedule(
                self._handler, str(path), recursive=recursive, event_filter=events, follow_symlink=path.is_symlink()
            )
        except FileNotFoundError:
            return  # gone again; its parent tells when it is back
        except OSError:
            if self.polling:
                raise
            self._fall_back()
            return
        self._watches[path] = (watch, recursive)

    def _fall_back(self) -> None:
        """Out of inotify watches or instances: look each second instead."""
        self._end()
        self.polling = True
        self._start()
        self._reconcile()

    def _start(self) -> None:
        # A folder made while its parent is being added is added twice; watchdog warns from its own thread and goes on.
        warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)
        logging.getLogger(_WARNINGS).addHandler(self._overflows)
        self._observer = PollingObserver(timeout=_POLL_S) if self.polling else NativeObserver()
        self._observer.start()

    def _end(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
        logging.getLogger(_WARNINGS).removeHandler(self._overflows)
        self._observer = None
        self._watches.clear()

    def _drop(self, path: Path) -> None:
        watch, _ = self._watches.pop(path)
        if self._observer is not None:
            with contextlib.suppress(KeyError):  # watchdog has dropped it with the folder
                self._observer.unschedule(watch)

    def _relative(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.root)).as_posix()


class _Forward(FileSystemEventHandler):
    """Hands events to the reading thread and does nothing else."""

    def __init__(self, sink: queue.SimpleQueue[FileSystemEvent | None]) -> None:
        self._sink = sink

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._sink.put(event)


class _Lost(FileSystemEvent):
    """The system could not tell of everything that happened."""


class _Overflows(logging.Handler):
    """Hears watchdog say that events were lost, in place of the terminal."""

    def __init__(self, sink: queue.SimpleQueue[FileSystemEvent | None]) -> None:
        super().__init__(logging.WARNING)
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        if "overflowed" in record.getMessage():
            self._sink.put(_Lost(""))
