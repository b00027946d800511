"""Rules for every test: properties without a stopwatch, no thread or process left behind; and folders all of a run share."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

# Importing numpy starts a thread a core, and each spins for a while before it sleeps: half of what importing it costs, in every
# process of every test. Set before anything imports it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# The machine may be busy: how long an example takes says nothing about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow tests first, whatever the order of the rest: one that begins last leaves all processes but one idle."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def no_active_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever environment the tests are started from, projects made in them have none of their own."""
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a child process or a thread that would keep the interpreter alive."""
    threads = set(threading.enumerate())
    children = _children()
    yield
    left = []
    for pid in _children() - children:
        with suppress(psutil.NoSuchProcess):
            left.append(psutil.Process(pid))
    _, alive = psutil.wait_procs(left, timeout=5)
    names = [f"{child.pid} {' '.join(child.cmdline())[:80]}" for child in alive if child.is_running()]
    for child in alive:
        child.kill()
    assert not names, f"processes left behind: {names}"
    stuck = [thread for thread in threading.enumerate() if thread not in threads and not thread.daemon]
    for thread in stuck:
        thread.join(5)
    assert not [thread.name for thread in stuck if thread.is_alive()]


def _children() -> set[int]:
    """Pids of this process's children: from the kernel's own lists, as asking every process for its parent took 8 ms a test."""
    lists = list(Path("/proc/self/task").glob("*/children"))
    if not lists:  # a kernel without them
        return {child.pid for child in psutil.Process().children()}
    found: set[int] = set()
    for path in lists:
        with suppress(OSError):  # a thread that just ended; what it started is in another's list now
            found.update(map(int, path.read_text().split()))
    return found


MadeOnce = Callable[[str, Callable[[Path], object]], Path]
"""Takes a name and what makes the folder; returns the folder. Whoever uses it reads it or copies it."""


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Makes a folder once for all the processes of a test run: whoever comes first makes it, the others wait and take it."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    place = tmp_path_factory.getbasetemp().parent / f"shared-{run}" if run else tmp_path_factory.mktemp("shared")
    place.mkdir(exist_ok=True)

    def get(name: str, make: Callable[[Path], object]) -> Path:
        with (place / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (place / f"{name}.made").exists():
                shutil.rmtree(place / name, ignore_errors=True)  # of a try that failed
                make(place / name)
                (place / f"{name}.made").touch()
        return place / name

    return get
