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
import os
import re
import secrets
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from itertools import count
from pathlib import Path
from typing import Any

from mlops_local.domain import events
from mlops_local.domain.errors import MlopsError
from mlops_local.store import files

SEGMENT_BYTES = 16 << 20
"""A metric file grows to this, then the next begins."""
FLUSH_S = 0.1
"""A point reaches the operating system within this."""
BUFFER_POINTS = (64 << 20) // 256
"""Points kept while the disk takes none: 64 MiB of them; then the oldest go, and are counted."""

NAME = re.compile(r"^(?P<id>[0-9a-f]{32})\.(?:state|metric\.(?P<segment>\d{3,}))\.jsonl$")
"""A journal's file name; `segment` is empty for the state file."""

_Point = tuple[int, int, str, str, "int | float | None", float]


def now_us() -> int:
    """Return the time in microseconds since 1970, UTC."""
    return time.time_ns() // 1000


def new_id(clock_us: int | None = None, random: int | None = None) -> str:
    """Return 32 hexadecimal digits: 16 of microseconds, 16 random. Ids sort by time; their short form is unique."""
    return f"{now_us() if clock_us is None else clock_us:016x}{secrets.randbits(64) if random is None else random:016x}"


def _stderr(text: str) -> None:
    sys.stderr.write(text + "\n")


class Journal:
    """The journal of this process. Safe to use from several threads and after a fork."""

    def __init__(self, folder: Path, journal_id: str, warn: Callable[[str], None]) -> None:
        self.folder = folder
        self.id = journal_id
        self._warn = warn
        self._warned = False
        self.listen: Callable[[bytes], None] | None = None
        """Told each batch of points as it was written, in the thread that wrote it."""
        self._reset()

    def _reset(self) -> None:
        """Become empty, with no file, lock or thread: at the start, and in a forked child."""
        self._io = threading.RLock()
        self._starting = threading.Lock()
        self._dropping = threading.Lock()
        self._points: deque[_Point] = deque()
        self._dropped: dict[str, int] = {}
        self._numbers = count()
        self._stirred = False
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._state = self._metric = -1
        self._state_size = self._metric_size = 0
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
        self._record(kind, fields, durable=True)

    def passing(self, kind: str, /, **fields: Any) -> None:
        """Record a state nothing depends on before a later line: it is with the system on return, on the disk with that line.

        Args:
            kind: one of `domain.events`.
            fields: as for `state`.

        Raises:
            MlopsError: it could not be written, as on a full disk.
        """
        self._record(kind, fields, durable=False)

    def _record(self, kind: str, fields: Mapping[str, Any], *, durable: bool) -> None:
        with self._io:
            if self._stopping.is_set():
                raise MlopsError("this journal is closed")
            self.flush()
            if self._state < 0:
                self._open_state()
            head = {"k": kind, "v": events.VERSIONS.get(kind, 1), "t": now_us(), "n": next(self._numbers)}
            line = dumps({**head, **fields}).encode() + b"\n"
            path = self.folder / f"{self.id}.state.jsonl"
            try:
                if durable and self._metric >= 0:
                    os.fsync(self._metric)
                self._state_size = _append(self._state, self._state_size, line)
                if durable:
                    os.fsync(self._state)
            except OSError as error:
                raise files.cannot_write(path, error) from error

    def metric(self, run: str, key: str, value: float, step: float | None = None) -> None:
        """Record one point. Never raises and never waits; it reaches the operating system within 100 ms."""
        points = self._points
        points.append((now_us(), next(self._numbers), run, key, step, value))
        if not self._stirred:
            self._stirred = True
            self._stir()
        if len(points) > BUFFER_POINTS:
            self._drop()

    def flush(self) -> bool:
        """Hand every buffered point to the operating system; False when it took not all of them."""
        with self._io:
            try:
                while self._points or self._dropped:
                    self._write_batch()
            except (OSError, MlopsError) as error:
                if not self._warned:
                    self._warned = True
                    self._warn(f"mlops: points cannot be written now ({error}); they stay in memory and are tried again")
                return False
            return True

    def close(self) -> None:
        """Write what is buffered and let go of the files: from now on they are final."""
        thread = self._thread
        self._stopping.set()
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self.flush()
        with self._io:
            self._thread = None
            self._points = deque(maxlen=0)  # what is logged from now on is nobody's
            self._let_go()
            _journals.discard(self)

    # -- within

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
        self._state, self._state_size = descriptor, 0

    def _open_segment(self) -> None:
        if self._state < 0:
            self._open_state()
        if self._metric >= 0:
            os.fsync(self._metric)
            os.close(self._metric)
            self._metric = -1
        self._segment += 1
        path = self.folder / f"{self.id}.metric.{self._segment:03d}.jsonl"
        self._metric = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._metric_size = 0

    def _write_batch(self) -> None:
        """Write up to 10,000 points. They leave the buffer first and come back, in order, if they cannot be written."""
        if self._metric < 0 or self._metric_size >= SEGMENT_BYTES:
            self._open_segment()
        with self._dropping:
            dropped, self._dropped = self._dropped, {}
        batch = [self._points.popleft() for _ in range(min(len(self._points), 10_000))]
        gaps = [_gap(run, number, next(self._numbers)) for run, number in dropped.items()]
        data = "".join([*gaps, *map(_line, batch)]).encode("utf-8", "replace")
        try:
            self._metric_size = _append(self._metric, self._metric_size, data)
        except OSError:
            self._points.extendleft(reversed(batch))
            for run, number in dropped.items():
                self._count_dropped(run, number)
            raise
        if self.listen is not None:
            self.listen(data)

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
            self._stopping.wait(FLUSH_S)
            self._wake.clear()
            self._stirred = False
            if not self.flush():
                self._wake.set()

    def _drop(self) -> None:
        """The buffer is full because the disk takes nothing: let the oldest point go, counted."""
        try:
            run = self._points.popleft()[2]
        except IndexError:
            return
        self._count_dropped(run, 1)

    def _count_dropped(self, run: str, number: int) -> None:
        with self._dropping:
            self._dropped[run] = self._dropped.get(run, 0) + number

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
            alive.flush()

    atexit.register(finish)
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, finish, exitpriority=0)


def _append(descriptor: int, size: int, data: bytes) -> int:
    """Append whole lines; on any failure cut the file back to `size`, its last whole line. Returns the new size."""
    try:
        files.write_all(descriptor, data)
    except OSError:
        os.ftruncate(descriptor, size)
        raise
    return size + len(data)


def _line(point: _Point) -> str:
    at, number, run, key, step, value = point
    return (
        f'{{"k":"m","v":1,"t":{at},"n":{number},"r":"{run}","key":{json.dumps(key)},'
        f'"s":{"null" if step is None else _number(step)},"x":{_number(value)}}}\n'
    )


def _gap(run: str, dropped: int, number: int) -> str:
    return f'{{"k":"gap","v":1,"t":{now_us()},"n":{number},"r":"{run}","dropped":{dropped}}}\n'


def _number(value: Any) -> str:
    """A JSON number; NaN and infinity as text; what is no number at all counts as NaN rather than stop a training."""
    if type(value) is int:
        return str(value)
    try:
        real = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return '"NaN"'
    if math.isfinite(real):
        return repr(real)
    return '"NaN"' if real != real else '"Infinity"' if real > 0 else '"-Infinity"'


def dumps(value: Any) -> str:
    """JSON on one line, keys in the given order; NaN and infinity as text, unknown values as text."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False, default=_plain)
    except ValueError:
        return json.dumps(_finite(value), separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", 1) == 0:
        return item()
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else json.loads(_number(value))
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, (str, int)) or value is None:
        return value
    return _finite(_plain(value))


# -- reading


def read(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Return the whole lines from `offset` on, and where to read on. A line that is no JSON is left out.

    Raises:
        FileNotFoundError: retired meanwhile.
    """
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    end = data.rfind(b"\n") + 1
    return decode(data[:end])[0], offset + end


def decode(data: bytes) -> tuple[list[dict[str, Any]], list[tuple[int, int]]]:
    """Decode whole lines. Returns them, and (offset, length) of each that is damaged."""
    lines: list[dict[str, Any]] = []
    damaged: list[tuple[int, int]] = []
    position = 0
    for raw in data.splitlines(keepends=True):
        try:
            value = json.loads(raw)
        except ValueError:
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
