"""Queueing across processes."""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_local.domain.errors import StoreBusy
from mlops_local.store import lock
from mlops_local.store.layout import Layout

HOLD = """
import sys, time
from pathlib import Path
from mlops_local.store import lock
from mlops_local.store.layout import Layout
with lock.hold(Layout(Path(sys.argv[1])).store_lock, shared=sys.argv[2] == "shared", command="mlops train"):
    print("held", flush=True)
    sys.stdin.read()
"""
Start = Callable[..., "subprocess.Popen[str]"]
Monkey = pytest.MonkeyPatch


def _held(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_busy_lock_names_its_holder(layout: Layout, start: Start) -> None:
    """Past the limit the error says which command with which pid holds the store."""
    other = _held(start(HOLD, "exclusive"))
    with pytest.raises(StoreBusy) as caught, lock.hold(layout.store_lock, wait_s=0.05):
        pass
    assert f"mlops train (pid {other.pid}" in caught.value.message
    assert caught.value.exit_code == 5


def test_a_reader_is_named_too(layout: Layout, start: Start) -> None:
    """A shared holder writes nothing, but its pid is found."""
    other = _held(start(HOLD, "shared"))
    with pytest.raises(StoreBusy, match=f"pid {other.pid}"), lock.hold(layout.store_lock, wait_s=0.05):
        pass


def test_waiting_says_for_whom_after_a_second(layout: Layout, start: Start) -> None:
    """Whoever queues longer than a second is told once, and gets the lock when it is free."""
    other = _held(start(HOLD, "exclusive"))
    told: list[str] = []

    def release(holder: str) -> None:
        told.append(holder)
        assert other.stdin is not None
        other.stdin.close()

    with lock.hold(layout.store_lock, wait_s=30, on_wait=release):
        assert lock.holder(layout.store_lock).endswith("UTC)")
    assert len(told) == 1 and f"pid {other.pid}" in told[0]


def test_a_wait_can_be_stopped(layout: Layout, start: Start) -> None:
    """Whoever is told to stop while queueing gets no lock, long before its time is up, and leaves none taken."""
    other = _held(start(HOLD, "exclusive"))
    stop = threading.Event()
    queue = lock.hold(layout.store_lock, wait_s=3600, on_wait=lambda holder: stop.set(), stop=stop)
    with pytest.raises(StoreBusy, match=f"pid {other.pid}"), queue:
        pass
    assert other.stdin is not None
    other.stdin.close()
    other.wait()
    with lock.hold(layout.store_lock, wait_s=5):
        assert lock.holder(layout.store_lock).endswith("UTC)")


def test_the_lock_of_a_killed_holder_is_free(layout: Layout, start: Start) -> None:
    """kill -9 leaves nothing to clean up."""
    other = _held(start(HOLD, "exclusive"))
    with pytest.raises(StoreBusy), lock.hold(layout.store_lock, wait_s=0.05):
        pass
    other.kill()
    other.wait()
    with lock.hold(layout.store_lock, wait_s=5):
        assert f"pid {os.getpid()}" in lock.holder(layout.store_lock)


def test_readers_share_and_writers_do_not(layout: Layout, start: Start) -> None:
    """Two shared holders are in at once; an exclusive one is not."""
    _held(start(HOLD, "shared"))
    with lock.hold(layout.store_lock, shared=True, wait_s=0.05):
        pass
    with pytest.raises(StoreBusy), lock.hold(layout.store_lock, wait_s=0.05):
        pass


def test_an_abandoned_wait_does_not_take_the_lock_later(layout: Layout) -> None:
    """A waiter that gave up lets go at once when its turn comes after all."""
    with lock.hold(layout.store_lock), pytest.raises(StoreBusy), lock.hold(layout.store_lock, wait_s=0.05):
        pass
    with lock.hold(layout.store_lock, wait_s=10):
        pass
    for thread in threading.enumerate():
        if thread.name == "mlops-lock":
            thread.join(10)
            assert not thread.is_alive()


def test_a_passing_lock_leaves_no_file_and_lets_one_in_at_a_time(tmp_path: Path) -> None:
    """However many queue while others remove the file, never are two in, and in the end nothing is left."""
    path, inside, most = tmp_path / "lease", [0], [0]

    def takes() -> None:
        for _ in range(40):
            with lock.hold(path, passing=True):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                os.sched_yield()
                inside[0] -= 1

    threads = [threading.Thread(target=takes) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == ([0], [1])
    assert not list(tmp_path.iterdir())


def test_a_passing_lock_is_never_one_that_was_removed(tmp_path: Path, monkeypatch: Monkey) -> None:
    """A file that its holder removes between another's open and lock is not what the other then holds."""
    path, flock = tmp_path / "lease", fcntl.flock
    removed: list[int] = []

    def late(descriptor: int, mode: int) -> None:
        if not removed:
            removed.append(descriptor)
            path.unlink()
        flock(descriptor, mode)

    monkeypatch.setattr(fcntl, "flock", late)
    with lock.hold(path, passing=True):
        with pytest.raises(StoreBusy), lock.hold(path, wait_s=0.05, passing=True):
            pass
        assert path.exists()
    assert removed and not path.exists()


def test_a_forked_child_does_not_keep_the_lock(layout: Layout) -> None:
    """Letting go works although a child inherited the descriptor and lives on."""
    here, there = os.pipe()
    with lock.hold(layout.store_lock):
        child = os.fork()
        if child == 0:
            os.close(there)
            os.read(here, 1)
            os._exit(0)
    with lock.hold(layout.store_lock, wait_s=5):
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the child still lives"
    os.close(there)
    os.waitpid(child, 0)
    os.close(here)


def test_secrets_of_the_command_line_are_not_written(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock file holds the program and its verb, never its arguments."""
    monkeypatch.setattr("sys.argv", ["/x/bin/mlops", "run", "--token=geheim"])
    with lock.hold(layout.store_lock):
        text = layout.store_lock.read_text()
    assert text.startswith(f"mlops run (pid {os.getpid()}, since ") and "geheim" not in text
    assert layout.store_lock.read_text() == ""


def test_a_lock_that_comes_while_the_wait_is_given_up_is_let_go(layout: Layout, start: Start, monkeypatch: Monkey) -> None:
    """Whoever is interrupted just as the lock arrives does not keep it from everybody else."""
    monkeypatch.setattr(lock, "TELL_AFTER_S", 0.01)
    other = _held(start(HOLD, "exclusive"))

    def interrupted(holder: str) -> None:
        assert other.stdin is not None
        other.stdin.close()
        other.wait()
        while not any(thread.name == "mlops-lock" and not thread.is_alive() for thread in waiting):
            waiting[0].join(0.05)
        raise KeyboardInterrupt

    started = threading.Thread.start
    waiting: list[threading.Thread] = []

    def noted(thread: threading.Thread) -> None:
        waiting.append(thread)
        started(thread)

    monkeypatch.setattr(threading.Thread, "start", noted)
    with pytest.raises(KeyboardInterrupt), lock.hold(layout.store_lock, wait_s=30, on_wait=interrupted):
        pass
    with lock.hold(layout.store_lock, wait_s=0.05):
        pass


READER = """
import sys, time
from pathlib import Path
from mlops_local.store import lock
print("reads", flush=True)
while True:
    with lock.hold(Path(sys.argv[1]) / "store.lock", shared=True, wait_s=30):
        time.sleep(0.03)
"""


def test_readers_that_overlap_let_a_writer_in(layout: Layout, start: Start) -> None:
    """Five readers that are never all gone: a writer gets many turns within its patience, and the readers go on."""
    readers = [start(READER) for _ in range(5)]
    for reader in readers:
        assert reader.stdout is not None and reader.stdout.readline() == "reads\n"
    path = layout.root / "store.lock"
    for _ in range(5):
        with lock.hold(path, wait_s=10):
            pass
    with lock.hold(path, shared=True, wait_s=10):
        pass
    assert all(reader.poll() is None for reader in readers)


def test_a_reader_that_is_stopped_shuts_out_writers_only(layout: Layout) -> None:
    """While a writer waits for a reader that does not move, other readers still get their turns."""
    path = layout.root / "store.lock"
    stopped = lock.acquire(path, shared=True, wait_s=0, on_wait=lambda holder: None)
    refused: list[StoreBusy] = []

    def write() -> None:
        with pytest.raises(StoreBusy) as caught, lock.hold(path, wait_s=1.5):
            pass
        refused.append(caught.value)

    waiting = threading.Thread(target=write)
    waiting.start()
    turns = 0
    for _ in range(3):
        with lock.hold(path, shared=True, wait_s=5):
            turns += 1
    waiting.join()
    lock.release(stopped, shared=True)
    assert turns == 3 and len(refused) == 1
