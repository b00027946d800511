"""Rules for every test: properties without a stopwatch, and no thread or process left behind."""

import threading
from collections.abc import Iterator

import psutil
import pytest
from hypothesis import HealthCheck, settings

# The machine may be busy: how long an example takes says nothing about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def no_active_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever environment the tests are started from, projects made in them have none of their own."""
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a child process or a thread that would keep the interpreter alive."""
    threads = set(threading.enumerate())
    children = {child.pid for child in psutil.Process().children()}
    yield
    left = [child for child in psutil.Process().children() if child.pid not in children]
    _, alive = psutil.wait_procs(left, timeout=5)
    names = [f"{child.pid} {' '.join(child.cmdline())[:80]}" for child in alive if child.is_running()]
    for child in alive:
        child.kill()
    assert not names, f"processes left behind: {names}"
    stuck = [thread for thread in threading.enumerate() if thread not in threads and not thread.daemon]
    for thread in stuck:
        thread.join(5)
    assert not [thread.name for thread in stuck if thread.is_alive()]
