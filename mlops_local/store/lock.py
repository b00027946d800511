"""Queue for a file across processes, and say who holds it.

The wait is a *blocking* flock in a helper thread: six processes that polled with LOCK_NB instead starved five of them
(1 turn against 1164). An exclusive holder writes pid, start and command into the file; nothing else ever reads it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from mlops_local.domain.errors import StoreBusy
from mlops_local.store import files, gate

TELL_AFTER_S = 1.0
"""Waiting longer than this is worth a word."""
_LOOK_S = 0.002
_TICK_S = 0.05
"""How often somebody who waits looks at the gate, and whether to stop."""


def _ignore(holder: str) -> None:
    """Say nothing."""


@contextmanager
def hold(
    path: Path,
    *,
    shared: bool = False,
    wait_s: float = 30.0,
    on_wait: Callable[[str], None] = _ignore,
    stop: threading.Event | None = None,
    command: str = "",
    passing: bool = False,
) -> Iterator[None]:
    """Hold the lock at `path` for the length of the block. Start and fork nothing inside it.

    Args:
        path: the lock file; made when missing.
        shared: with other shared holders, against exclusive ones.
        wait_s: how long to queue.
        on_wait: told once who holds it, when queueing takes over a second.
        stop: when set, the wait is given up.
        command: what to tell others while we hold it; default the program and its first word.
        passing: remove the file afterwards; everyone who takes this lock must say so, and none may share it.

    Raises:
        StoreBusy: still held after `wait_s`, or when `stop` was set; names the holder.
    """
    taken = _acquire_passing if passing else acquire
    descriptor = taken(path, shared=shared, wait_s=wait_s, on_wait=on_wait, stop=stop)
    try:
        if not shared:
            sign(descriptor, command)
        yield
    finally:
        if passing:
            with suppress(OSError):
                path.unlink()
        release(descriptor, shared=shared)


def _acquire_passing(
    path: Path, *, shared: bool, wait_s: float, on_wait: Callable[[str], None], stop: threading.Event | None
) -> int:
    """Take a lock whose file each holder removes while it has it: what was waited for may be no longer what the path names."""
    deadline = time.monotonic() + wait_s
    while True:
        left = max(0.0, deadline - time.monotonic())
        descriptor = acquire(path, shared=shared, wait_s=left, on_wait=on_wait, stop=stop)
        with suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        release(descriptor, shared=shared)


def acquire(
    path: Path, *, shared: bool, wait_s: float, on_wait: Callable[[str], None], stop: threading.Event | None = None
) -> int:
    """Take the lock and return its descriptor for `release`. Raises StoreBusy."""
    deadline = time.monotonic() + wait_s
    if shared:
        gate.wait_to_pass(path, wait_s)
    try:
        descriptor = _open(path, shared=shared)
    except OSError as error:
        raise files.cannot_write(path, error) from error
    mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        _Waiter(descriptor, mode, stop).wait(path, deadline, on_wait)
    return descriptor


@contextmanager
def glance(path: Path, wait_s: float) -> Iterator[bool]:
    """Hold a lock with other shared holders, if it comes at once or very soon: for who can do without. False if it did not."""
    try:
        descriptor = _open(path, shared=True)
    except OSError as error:
        raise files.cannot_write(path, error) from error
    end = time.monotonic() + wait_s
    try:
        while not (taken := gate.taken(descriptor, fcntl.LOCK_SH)) and time.monotonic() < end:
            time.sleep(_LOOK_S)
        yield taken
    finally:
        os.close(descriptor)


def _open(path: Path, *, shared: bool) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if shared and error.errno in {errno.EROFS, errno.EACCES}:  # who may only look can still queue
            with suppress(FileNotFoundError):
                return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        raise


def release(descriptor: int, *, shared: bool) -> None:
    """Let the lock go, even if a forked child still holds a copy of the descriptor."""
    try:
        if not shared:
            os.ftruncate(descriptor, 0)
    except OSError:
        pass  # a full disk must not keep the lock
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def abandoned(path: Path, *, remove: bool) -> bool:
    """Whether a passing lock's file was left by a process that is gone.

    Args:
        path: the lock file.
        remove: take it away then.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        left = os.path.samestat(os.fstat(descriptor), path.stat())
        if left and remove:
            path.unlink()
        return left
    except OSError:  # it is held, or went this moment
        return False
    finally:
        os.close(descriptor)


class _Waiter:
    """A blocking flock that can be abandoned: the thread then lets go by itself."""

    def __init__(self, descriptor: int, mode: int, stop: threading.Event | None) -> None:
        self._descriptor = descriptor
        self._mode = mode
        self._stop = stop
        self._mutex = threading.Lock()
        self._got = threading.Event()
        self._abandoned = False
        self._gate: gate.Gate | None = None

    def wait(self, path: Path, deadline: float, on_wait: Callable[[str], None]) -> None:
        begun = time.monotonic()
        if self._mode == fcntl.LOCK_EX:
            self._gate = gate.Gate(path)
        threading.Thread(target=self._block, name="mlops-lock", daemon=True).start()
        try:
            if self._comes(min(deadline, begun + TELL_AFTER_S)):
                return
            if deadline > begun + TELL_AFTER_S:
                on_wait(holder(path))
                if self._comes(deadline):
                    return
            busy = holder(path)
        except BaseException:
            if self._abandon():  # it came at this very moment: nobody else will let it go
                os.close(self._descriptor)
            raise
        finally:
            if self._gate is not None:
                self._gate.open()
        if self._abandon():
            return
        raise StoreBusy(
            f"the store is in use by {busy} and stayed so for {deadline - begun:.3g} s",
            hint="wait for it to finish, or pass a longer --wait",
        )

    def _comes(self, deadline: float) -> bool:
        """Wait to the deadline, or until told to stop; the flock itself queues all the while."""
        while not (self._stop is not None and self._stop.is_set()):
            if self._gate is not None:
                self._gate.tick()
            left = deadline - time.monotonic()
            if self._got.wait(max(0.0, min(left, _TICK_S))):
                return True
            if left <= 0:
                return False
        return False

    def _block(self) -> None:
        fcntl.flock(self._descriptor, self._mode)
        with self._mutex:
            if self._abandoned:
                os.close(self._descriptor)
            else:
                self._got.set()

    def _abandon(self) -> bool:
        """Give up; True if the lock came at the last moment."""
        with self._mutex:
            if self._got.is_set():
                return True
            self._abandoned = True
            return False


def holder(path: Path) -> str:
    """Return who holds the lock, for people: `mlops train (pid 4711, since 10:04:11 UTC)`."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        text = ""
    return text or _reader(path) or "another process"


def _reader(path: Path) -> str:
    """A holder that wrote nothing (a reader), from the system's lock table where there is one."""
    try:
        inode = path.stat().st_ino
        table = Path("/proc/locks").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return ""
    for line in table:
        fields = line.split()
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
            return program(int(fields[4])) if fields[4].isdigit() and fields[4] != "0" else ""
    return ""


def program(pid: int) -> str:
    """Return a process's name and pid, for people."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        name = "a process"
    return f"{name} (pid {pid})"


def _command() -> str:
    """The program and its first word; never the rest, which may hold secrets."""
    words = [Path(sys.argv[0]).name or "python"] if sys.argv else ["python"]
    if len(sys.argv) > 1 and sys.argv[1].isidentifier():
        words.append(sys.argv[1])
    return " ".join(words)


def sign(descriptor: int, command: str = "") -> None:
    """Write into an exclusively held lock file who holds it; default the program and its first word."""
    since = datetime.now(timezone.utc).strftime("%H:%M:%S UTC")
    text = f"{command or _command()} (pid {os.getpid()}, since {since})\n".encode()
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text, 0)
    except OSError:
        pass  # the name is a courtesy; a full disk must not stop a reader's queue
