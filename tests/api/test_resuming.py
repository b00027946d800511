"""A run that is gone on with: by its id or name, by one process at a time; how it ends is its newest word."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mlops_local as mlops
from mlops_local.api import recording
from mlops_local.domain.errors import AmbiguousReference, UsageError
from mlops_local.services.project import find
from mlops_local.store import projection

WORK = """
import time, mlops_local as mlops
with mlops.run({name!r}, resume={resume!r}):
    mlops.log(loss=3)
    time.sleep(0.4)  # until a point is in the system's hands
    print("on", flush=True)
    time.sleep(60)
"""


def begin(project: Path, name: str = "", resume: str = "") -> subprocess.Popen[str]:
    """A process with a run in it that says when it goes on, and is killed by the caller."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLOPS_")}
    code = WORK.format(name=name, resume=resume)
    return subprocess.Popen([sys.executable, "-c", code], cwd=project, env=environment, stdout=subprocess.PIPE, text=True)


def killed(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None and process.stdout.readline() == "on\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def close_journal(project: Path) -> None:
    """What this process logs from now on is of another journal, as of another process."""
    recording._recorders.pop(project / ".mlops").journal.close()


def state(project: Path) -> tuple[str, dict[str, float]]:
    frame = mlops.runs()
    assert frame.height == 1
    return frame["state"][0], {name: frame[name][0] for name in frame.columns if name.startswith("metric.")}


def test_a_crashed_run_goes_on(project: Path) -> None:
    """It runs again, ends as it ends, keeps what it had; also when the one who went on crashes; a rebuild says the same."""
    killed(begin(project, "long"))
    assert state(project) == ("crashed", {"metric.loss": 3})
    short = mlops.runs()["id"][0][16:24]
    with mlops.run(resume=short) as run:
        run.log(loss=2)
        assert run.name == "long" and state(project)[0] == "running"
    assert state(project) == ("done", {"metric.loss": 2})
    killed(begin(project, resume="long"))
    assert state(project) == ("crashed", {"metric.loss": 3})
    store = find(project).store
    projection.rebuild(store)
    assert state(project) == ("crashed", {"metric.loss": 3})
    with pytest.raises(ZeroDivisionError), mlops.run(resume=run.id):
        _ = 1 / 0
    assert state(project)[0] == "failed"


def test_a_clock_that_was_ahead_does_not_have_the_last_word(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ended an hour from now, by the clock of another machine, goes on and ends as it ends."""
    real = time.time_ns
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError), mlops.run("ahead"):
        patch.setattr(time, "time_ns", lambda: real() + 3_600_000_000_000)
        mlops.log(loss=3)
        _ = 1 / 0
    close_journal(project)
    with mlops.run(resume="ahead") as run:
        run.log(loss=2)
        assert state(project)[0] == "running"
    assert state(project) == ("done", {"metric.loss": 2})


def test_two_processes_do_not_resume_one_run(project: Path) -> None:
    """Not one that still runs, and not one that another has resumed: both are said, with who has it."""
    process = begin(project, "busy")
    try:
        assert process.stdout is not None and process.stdout.readline() == "on\n"
        with pytest.raises(UsageError, match="busy is still being written, by the process that began it"):
            mlops.run(resume="busy").start()
    finally:
        process.kill()
        process.communicate()
    process = begin(project, resume="busy")
    try:
        assert process.stdout is not None and process.stdout.readline() == "on\n"
        with pytest.raises(UsageError, match=rf"busy is still being written, by .*pid {process.pid}"):
            mlops.run(resume="busy").start()
    finally:
        process.kill()
        process.communicate()
    with mlops.run(resume="busy"):
        pass
    assert state(project)[0] == "done"


def test_what_cannot_be_resumed_is_said(project: Path) -> None:
    """No such run; several of that name; and nothing was begun by it."""
    for _ in range(2):
        with mlops.run("twin"):
            pass
    with pytest.raises(UsageError, match="no run 'nobody' to resume"):
        mlops.run(resume="nobody").start()
    with pytest.raises(AmbiguousReference, match="'twin' is several runs"):
        mlops.run(resume="twin").start()
    assert mlops.runs().height == 2
