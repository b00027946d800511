"""A process's own append-only record of what happened: logging never waits for the store and never loses a point.

One writer a file, no lock to append. The writer holds flock on `<id>.state.jsonl` for life, so lock free = writer gone =
file final. Runs in the user's interpreter: Python 3.10, standard library only (msgspec where present). Never opens DuckDB.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import json
import math
import operator
import os
import re
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count, repeat, starmap
from pathlib import Path
from typing import Any

from mlops_local.domain import events
from mlops_local.domain.errors import MlopsError
from mlops_local.store import files
from mlops_local.store.lines import EXACT, SLOTS, dumps, gap, of_points, real

SEGMENT_BYTES = 16 << 20
"""A metric file grows to this, then the next begins."""
EASE_S = 0.005
"""How long a call stands back."""
FLUSH_S = 0.1
"""A point reaches the operating system within this."""
EASE_POINTS = 1 << 15
"""With so many waiting, 4 MB, a call stands back for a disk that takes points."""
BUFFER_POINTS = (64 << 20) // 256
"""Points kept while the disk takes none: 64 MiB of them; then the oldest go, and are counted."""

NAME = re.compile(r"^(?P<id>[0-9a-f]{32})\.(?:state|metric\.(?P<segment>\d{3,}))\.jsonl$")
"""A journal's file name; `segment` is empty for the state file."""


def now_us() -> int:
    """Return the time in microseconds since 1970, UTC."""
    return time.time_ns() // 1000


def new_id(clock_us: int | None = None, random: int | None = None) -> str:
    """Return 32 hexadecimal digits: 16 of microseconds, 16 random. Ids sort by time; their short form is unique."""
    time_part = now_us() if clock_us is None else clock_us
    return f"{time_part:016x}{int.from_bytes(os.urandom(8), 'big') if random is None else random:016x}"


def _stderr(text: str) -> None:
    sys.stderr.write(text + "\n")


class Journal:
    """The journal of this process. Safe to use from several threads and after a fork."""

    def __init__(self, folder: Path, journal_id: str, warn: Callable[[str], None]) -> None:
        self.folder = folder
        self.id = journal_id
        self._warn = warn
        self._warned = False
        self._odd: set[str] = set()
        self.listen: Callable[[bytes], None] | None = None
        """Told each batch of points as it was written, in the thread that wrote it."""
        self._reset()

    def _reset(self) -> None:
        """Become empty, with no file, lock or thread: at the start, and in a forked child."""
        self._io = threading.RLock()
        self._starting = threading.Lock()
        self._taking = threading.Lock()
        self._points: deque[Any] = deque()
        self._ease, self._most = EASE_POINTS * SLOTS, BUFFER_POINTS * SLOTS
        self._dropped: dict[str, int] = {}
        self._numbers = count()
        self._stirred = False
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._state = self._metric = -1
        self._metric_size = 0
        self._unsynced = self._refused = False
        self._at = 0
        self._segment = -1

    @classmethod
    def open(cls, folder: Path, *, journal_id: str | None = None, warn: Callable[[str], None] = _stderr) -> Journal:
        """Begin a journal in `folder` (a layout's `journal`).

        Args:
            folder: exists.
            journal_id: default a new one.
            warn: told once, in one line, when points can no longer be written.

        Raises:
            MlopsError: it cannot be created.
        """
        journal = cls(folder, journal_id or new_id(), warn)
        journal._open_state()
        _journals.add(journal)
        return journal

    def state(self, kind: str, /, **fields: Any) -> None:
        """Record a state change; on return it and every point before it are on the disk.

        Args:
            kind: one of `domain.events`.
            fields: JSON values, dataclasses, paths; NaN and infinity are kept as text.

        Raises:
            MlopsError: it could not be written, as on a full disk.
        """
        self.states([(kind, fields)])

    def passing(self, kind: str, /, **fields: Any) -> None:
        """Record a state nothing depends on before a later line: it is with the system on return, on the disk with that line.

        Args:
            kind: one of `domain.events`.
            fields: as for `state`.

        Raises:
            MlopsError: it could not be written, as on a full disk.
        """
        self.states([(kind, fields)], durable=False)

    def states(self, changes: Sequence[tuple[str, Mapping[str, Any]]], *, durable: bool = True) -> None:
        """Record several state changes in their order, with one write and one wait for the disk.

        Args:
            changes: a kind of `domain.events` and its fields, each.
            durable: as `state` is; otherwise as `passing`.

        Raises:
            MlopsError: they could not all be written, as on a full disk.
        """
        with self._io:
            if self._stopping.is_set():
                raise MlopsError("this journal is closed")
            self.flush()
            if self._state < 0:
                self._open_state()
            lines = []
            self._at = max(self._at, now_us())  # a clock that is put back does not put an end before its beginning
            for kind, fields in changes:
                head = {"k": kind, "v": events.VERSIONS.get(kind, 1), "t": self._at, "n": next(self._numbers)}
                lines.append(dumps({**head, **fields}).encode() + b"\n")
            path = self.folder / f"{self.id}.state.jsonl"
            try:
                if durable and self._unsynced:
                    os.fsync(self._metric)
                    self._unsynced = False
                files.append_lines(self._state, b"".join(lines))
                if durable:
                    os.fsync(self._state)
            except OSError as error:
                raise files.cannot_write(path, error) from error

    def after(self, moment_us: int) -> None:
        """Date what comes behind a moment: what was said of a run elsewhere, by a clock that is ahead, comes before this."""
        with self._io:
            self._at = max(self._at, moment_us + 1)

    def metric(self, run: str, key: str, value: float, step: float | None = None) -> None:
        """Record one point, as `metrics` does several."""
        self.metrics(run, {key: value}, step)

    def metrics(self, run: str, values: Mapping[str, Any], step: Any = None) -> None:
        """Record points of one moment. Never raises, and waits for nothing but to let a crowd of points before it be written.

        They reach the operating system within 100 ms.

        Args:
            run: its id.
            values: metric -> number; anything with one number in it, as a scalar of numpy or torch, is read now.
            step: where on the curve; None for a single value.
        """
        now, points = time.time_ns(), self._points
        if type(step) is not int and step is not None:
            step = self._scalar("step", step)
        for key, value in values.items():
            if type(value) is not float:
                value = self._scalar(key, value)
            points.extend((now, run, key, step, value))  # at once or not at all: no Python code runs within
        if not self._stirred:
            self._stirred = True
            self._stir()
        if len(points) > self._ease:
            self._make_room()

    def flush(self) -> bool:
        """Hand every buffered point to the operating system; False when it took not all of them."""
        with self._io:
            try:
                while self._points or self._dropped:
                    self._write_batch()
            except (OSError, MlopsError) as error:
                self._refused = True
                if not self._warned:
                    self._warned = True
                    self._warn(f"mlops: points cannot be written now ({error}); they stay in memory and are tried again")
                return False
            self._refused = False
            return True

    def close(self) -> None:
        """Write what is buffered and let go of the files: from now on they are final."""
        thread = self._thread
        self._stopping.set()
        self._hurry.set()
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._last_flush()
        with self._io:
            self._thread = None
            self._points = deque(maxlen=0)  # what is logged from now on is nobody's
            self._let_go()
            _journals.discard(self)

    # -- within

    def _last_flush(self) -> None:
        """Flush where nobody will try again, and say what is lost with it."""
        if not self.flush():
            self._warn(f"mlops: {len(self._points) // SLOTS} points could not be written and are lost")

    def _open_state(self) -> None:
        """Create the state file, locked before anybody can see it under its name."""
        path = self.folder / f"{self.id}.state.jsonl"
        draft = self.folder / f".{self.id}.new"
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if path.exists():
                raise FileExistsError(errno.EEXIST, "a journal of this id exists", str(path))
            draft.rename(path)
            files.sync_folder(self.folder)
        except OSError as error:
            raise files.cannot_write(path, error) from error
        self._state = descriptor

    def _open_segment(self) -> None:
        if self._state < 0:
            self._open_state()
        if self._metric >= 0:
            os.fsync(self._metric)
            os.close(self._metric)
            self._metric, self._unsynced = -1, False
        self._segment += 1
        path = self.folder / f"{self.id}.metric.{self._segment:03d}.jsonl"
        self._metric = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._metric_size = 0

    def _write_batch(self) -> None:
        """Write up to 2,500 points. They leave the buffer first and come back, in order, if they cannot be written."""
        if self._metric < 0 or self._metric_size >= SEGMENT_BYTES:
            self._open_segment()
        take, before, data = self._points.popleft, self._metric_size, b""
        batch: list[Any] = []
        dropped: dict[str, int] = {}
        try:
            with self._taking:
                dropped, self._dropped = self._dropped, {}
                batch = list(starmap(take, repeat((), min(len(self._points) // SLOTS, 2_500) * SLOTS)))
            gaps = [gap(run, number, next(self._numbers), now_us()) for run, number in dropped.items()]
            lines, self._at = of_points(batch, self._numbers, self._at)
            data = "".join([*gaps, *lines]).encode("utf-8", "replace")
            files.append_lines(self._metric, data)
        except BaseException:  # the disk is full, or ^C
            there = data.count(b"\n", 0, os.fstat(self._metric).st_size - before)
            self._give_back(batch[max(0, there - len(dropped)) * SLOTS :], list(dropped.items())[there:])
            raise
        finally:
            self._metric_size = os.fstat(self._metric).st_size
            self._unsynced = True
        if self.listen is not None:
            self.listen(data)

    def _give_back(self, points: Sequence[Any], dropped: Sequence[tuple[str, int]]) -> None:
        """Put what could not be written back at the front of the buffer."""
        with self._taking:
            self._points.extendleft(reversed(points))
            for run, number in dropped:
                self._dropped[run] = self._dropped.get(run, 0) + number

    def _stir(self) -> None:
        """A first point since the last flush: see that a thread is there to write it."""
        with self._starting:
            if self._thread is None and not self._stopping.is_set():
                thread = threading.Thread(target=self._run, name="mlops-journal", daemon=True)
                _finish_with_process(self)
                try:
                    thread.start()
                    self._thread = thread
                except RuntimeError:
                    pass  # no more threads, or the interpreter is ending: the next state change or exit flushes
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait()
            self._hurry.wait(FLUSH_S)
            self._hurry.clear()
            self._wake.clear()
            self._stirred = False
            if not self.flush():
                self._wake.set()

    def _make_room(self) -> None:
        """Many points wait. A disk that takes points is let catch up; for one that takes none the oldest go in the end."""
        if len(self._points) > (self._most if self._refused else 2 * self._most):
            self._drop()
        elif self._refused:
            return
        elif self._thread is None:
            self.flush()
        else:  # a loop that does nothing but log shares the interpreter with the thread that writes, and lost every tenth point
            self._hurry.set()
            time.sleep(EASE_S)

    def _drop(self) -> None:
        """The buffer is full because the disk takes nothing: let the oldest points go, counted. Waits for nobody."""
        if not self._taking.acquire(blocking=False):
            return  # points are being taken right now; if they come back, the next call drops
        try:
            while len(self._points) > self._most:
                _, run, *_ = starmap(self._points.popleft, repeat((), SLOTS))  # as they are put there: all or none of a point
                self._dropped[run] = self._dropped.get(run, 0) + 1
        finally:
            self._taking.release()

    def _scalar(self, key: str, value: Any) -> int | float:
        """The one number in a value; what has none counts as NaN rather than stop a training, and is said once."""
        try:
            try:
                whole = operator.index(value)
                return whole if -EXACT < whole < EXACT else real(whole)
            except TypeError:
                return real(value)
        except Exception:  # noqa: BLE001 - the value's own code may raise anything, and logging never does
            if key not in self._odd:
                self._odd.add(key)
                with suppress(OSError, ValueError):  # stderr is closed
                    self._warn(f"mlops: {key[:80]!a} was logged as a {type(value).__name__}, not a number; kept as NaN")
            return math.nan

    def _let_go(self) -> None:
        for descriptor in (self._metric, self._state):
            if descriptor >= 0:
                os.close(descriptor)
        self._metric = self._state = -1

    def _after_fork(self) -> None:
        self._let_go()
        self._reset()
        self.id = new_id()


_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _all_after_fork() -> None:
    for journal in list(_journals):
        journal._after_fork()


os.register_at_fork(after_in_child=_all_after_fork)


def _finish_with_process(journal: Journal) -> None:
    """Flush at the process's end. A multiprocessing child skips atexit, so there its own list is used."""
    reference = weakref.ref(journal)

    def finish() -> None:
        alive = reference()
        if alive is not None:
            alive._last_flush()

    atexit.register(finish)
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, finish, exitpriority=0)


# -- reading


def decode(data: bytes) -> tuple[list[dict[str, Any]], list[tuple[int, int]]]:
    """Decode whole lines. Returns them, and (offset, length) of each that is damaged."""
    lines: list[dict[str, Any]] = []
    damaged: list[tuple[int, int]] = []
    position = 0
    for raw in data.splitlines(keepends=True):
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError):  # RecursionError: brackets without an end
            value = None
        if isinstance(value, dict) and "k" in value:
            lines.append(value)
        else:
            damaged.append((position, len(raw)))
        position += len(raw)
    return lines, damaged


def live(path: Path) -> bool:
    """Say whether the writer of the journal that `path` (any of its files) belongs to still holds its lock."""
    match = NAME.match(path.name)
    state = path.with_name(f"{match['id']}.state.jsonl") if match else path
    try:
        descriptor = os.open(state, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
