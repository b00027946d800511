"""Several steps at once in workers that outlive a run, and the end of everything a step started."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mlops_local.domain.errors import MlopsError
from mlops_local.engines.pipeline.runner import StepOutcome, Workers
from mlops_local.engines.pipeline.sources import discover
from tests.engines.pipeline.bench import Bench, bench, gone, pids_of

PIPELINE = """
    import os, signal, subprocess, sys, time
    import mlops_local as mlops

    ELSEWHERE = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(600)"

    @mlops.step
    def meets(*, me: str = "a", other: str = "b"):
        open(me, "w").close()
        while not os.path.exists(other):
            time.sleep(0.01)
        return me

    @mlops.step
    def threads():
        return os.environ.get("POLARS_MAX_THREADS", "")

    @mlops.step
    def gpus():
        return os.environ.get("CUDA_VISIBLE_DEVICES", "all")

    @mlops.step
    def pid():
        return [os.getppid(), os.getpid()]

    @mlops.step(timeout=0.3)
    def endless():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("a polite end"))
        while True:
            time.sleep(1)

    @mlops.step
    def leaves_its_session(*, how: str = "returns"):
        child = subprocess.Popen([sys.executable, "-c", ELSEWHERE], stdout=subprocess.PIPE, start_new_session=True)
        orphan = os.popen(f"{sys.executable} -c 'import subprocess, sys; "
                          f"print(subprocess.Popen([sys.executable, \\"-c\\", \\"import time; time.sleep(600)\\"], "
                          f"stdout=subprocess.DEVNULL, start_new_session=True).pid)'").read().strip()
        child.stdout.readline()
        print("pids", os.getpid(), child.pid, orphan, flush=True)
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "stays":
            time.sleep(600)
        return 1

    @mlops.step
    def busy_children():
        code = "import time\\nend = time.process_time() + 0.3\\nwhile time.process_time() < end: pass"
        for _ in range(2):
            subprocess.run([sys.executable, "-c", code])

    @mlops.step
    def hungry_children():
        code = "b = bytearray(60_000_000); print(len(b), flush=True); input()"
        pipe = subprocess.PIPE
        children = [subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) for _ in range(3)]
        for child in children:
            child.stdout.readline()
        time.sleep(1)
        for child in children:
            child.communicate(b"\\n")
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = bench(tmp_path_factory.mktemp("project"), PIPELINE)
    with made.workers:
        yield made


def test_steps_run_at_the_same_time(shared: Bench) -> None:
    """Two steps that wait for each other both end: they run side by side in one worker process."""
    outcomes: list[StepOutcome] = []
    pairs = [("a", "b"), ("b", "a")]
    runners = [
        threading.Thread(target=lambda p=pair: outcomes.append(shared.run("meets", me=p[0], other=p[1]))) for pair in pairs
    ]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join(60)
    assert [outcome.ok for outcome in outcomes] == [True, True]


def test_a_limit_has_its_own_process(tmp_path: Path) -> None:
    """Threads are limited in the environment, before any library is imported; no limit leaves it as it was."""
    project = bench(tmp_path, PIPELINE)
    values = []
    with project.workers:
        for limit in (1, 0, 2):
            assert project.run("threads", threads=limit).ok
            values.append(project.value("threads"))
    assert values == ["1", os.environ.get("POLARS_MAX_THREADS", ""), "2"]


def test_a_step_sees_the_gpus_it_was_given(shared: Bench) -> None:
    """CUDA_VISIBLE_DEVICES names a step's GPUs; without a choice the environment stays."""
    values = []
    for given in (("1", "3"), (), None):
        assert shared.run("gpus", gpus=given).ok
        values.append(shared.value("gpus"))
    assert values == ["1,3", "", os.environ.get("CUDA_VISIBLE_DEVICES", "all")]


def test_an_edit_costs_a_fork(tmp_path: Path) -> None:
    """Kept workers describe and run the next version of the code in the same process; each step is a child of it."""
    project = bench(tmp_path, PIPELINE)
    with project.workers:
        assert project.run("pid").ok
        first = project.value("pid")
        (tmp_path / "pipeline.py").write_text(
            "import os, mlops_local as mlops\n@mlops.step\ndef pid():\n    return [os.getppid(), 0]\n"
        )
        project.sources = discover("pipeline.py", project._load)
        project.graph = project.workers.describe("pipeline.py", project.sources)
        assert project.run("pid").ok
        assert project.value("pid") == [first[0], 0]


def test_a_library_installed_anew_is_imported_anew(tmp_path: Path) -> None:
    """A worker that imported a loose module is replaced once the module's file changed."""
    library = tmp_path / "elsewhere"
    library.mkdir()
    (library / "loose.py").write_text("VALUE = 1\n")
    root = tmp_path / "project"
    root.mkdir()
    text = "import loose, mlops_local as mlops\n@mlops.step\ndef one():\n    return loose.VALUE\n"
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(library)
    try:
        project = bench(root, text)
        with project.workers:
            assert project.run("one").ok
            assert project.value("one") == 1
            (library / "loose.py").write_text("VALUE = 22\n")
            assert project.run("one").ok
            assert project.value("one") == 22
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


def test_a_step_that_takes_too_long_is_ended(shared: Bench) -> None:
    """At its time limit a step is ended and says so, even if it ends politely."""
    outcome = shared.run("endless")
    assert not outcome.ok
    assert outcome.error == "timed out after 0.3 s"


@pytest.mark.parametrize("how", ["returns", "dies"])
def test_processes_that_left_the_session_end_with_the_step(shared: Bench, how: str) -> None:
    """A daemon that a step started, and an orphan of its children, are gone when the step is, however it ended."""
    shared.log("leaves_its_session").unlink(missing_ok=True)
    outcome = shared.run("leaves_its_session", how=how)
    assert outcome.ok == (how == "returns")
    assert all(gone(pid) for pid in pids_of(shared.log("leaves_its_session")))


def test_cancel_reaches_what_left_the_session(tmp_path: Path) -> None:
    """Cancelling ends daemons of a running step too, and leaves the workers ready for the next run."""
    project = bench(tmp_path, PIPELINE)
    with project.workers:
        runner = threading.Thread(target=lambda: project.run("leaves_its_session", how="stays"))
        runner.start()
        pids = pids_of(project.log("leaves_its_session"))
        project.cancel.set()
        runner.join(30)
        assert all(gone(pid) for pid in pids)
        project.cancel.clear()
        assert project.run("threads").ok


def test_children_count_in_cpu_and_memory(shared: Bench) -> None:
    """CPU seconds and peak memory are those of the step with all its processes, not of the largest."""
    assert shared.run("busy_children").cpu_seconds > 0.55
    assert shared.run("hungry_children").peak_bytes > 180_000_000


def test_workers_begin_anew_after_a_close(tmp_path: Path) -> None:
    """Closing ends the processes; asking again starts them."""
    (tmp_path / "pipeline.py").write_text("import mlops_local as mlops\n@mlops.step\ndef one():\n    return 1\n")
    sources = discover("pipeline.py", lambda path: (tmp_path / path).read_bytes() if (tmp_path / path).is_file() else None)
    workers = Workers(tmp_path)
    for _ in range(2):
        assert [step.name for step in workers.describe("pipeline.py", sources).steps] == ["one"]
        workers.close()


def test_what_is_expected_is_loaded_once_and_ends_with_the_rest(tmp_path: Path) -> None:
    """A step that was expected runs in the process that loaded for it; one that never comes leaves no process and no thread."""
    text = "import os, xml.dom\nimport mlops_local as mlops\n@mlops.step\ndef one():\n    return os.getppid()\n"
    project = Bench(tmp_path, text)
    with project.workers as workers:
        workers.close()
        others = set(psutil.Process().children())
        workers.expect("one", project.graph, project.sources, threads=0)
        assert project.run("one").ok
        (loader,) = set(psutil.Process().children()) - others
        assert project.value("one") == loader.pid
    workers.expect("one", project.graph, project.sources, threads=0)
    workers.close()
    assert set(psutil.Process().children()) <= others
    assert not [thread for thread in threading.enumerate() if thread.name == "mlops-loading"]


def waiting(project: Bench, server: int) -> int:
    """The pid of the child that waits for the next request."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        found: list[int] = [child.pid for child in psutil.Process(server).children() if child.status() != psutil.STATUS_ZOMBIE]
        if len(found) == 1:
            return found[0]
        time.sleep(0.01)
    raise AssertionError("no child waits")


def test_the_next_child_is_there_before_it_is_asked_for(tmp_path: Path) -> None:
    """With a large library, a step's child was forked before; code that was edited since reaches it, a dead one is replaced."""
    text = (
        "import os, polars\nimport mlops_local as mlops\n@mlops.step\ndef pid():\n    return [os.getppid(), os.getpid(), {n}]\n"
    )
    project = Bench(tmp_path, text.format(n=0))
    with project.workers:
        assert project.run("pid").ok
        server = project.value("pid")[0]
        for n in (1, 2):
            (tmp_path / "pipeline.py").write_text(text.format(n=n))
            project.sources = discover("pipeline.py", project._load)
            there = waiting(project, server)
            assert project.run("pid").ok
            assert project.value("pid") == [server, there, n]
        there = waiting(project, server)
        os.kill(there, signal.SIGKILL)
        assert gone(there)
        assert project.run("pid").ok
        assert project.value("pid")[0] == server
        assert project.value("pid")[1] != there


def test_a_child_that_waits_has_every_library_its_server_has(tmp_path: Path) -> None:
    """When the server imports more, the child that waited without it is let go: a step finds its libraries imported."""
    loaded = "import os, sys, polars\nLOADED = 'wave' in sys.modules\n"
    step = "import mlops_local as mlops\n@mlops.step\ndef one():\n    return [os.getppid(), os.getpid(), LOADED]\n"
    project = Bench(tmp_path, loaded + step)
    with project.workers:
        assert project.run("one").ok
        server, _, before = project.value("one")
        there = waiting(project, server)
        (tmp_path / "pipeline.py").write_text(f"{loaded}import wave\n{step}")
        project.sources = discover("pipeline.py", project._load)
        assert project.run("one").ok
        same, pid, after = project.value("one")
        assert (before, same, after) == (False, server, True)
        assert pid != there
        assert gone(there)


def test_an_interpreter_that_is_gone_is_told_to_who_asks_and_to_nobody_else(tmp_path: Path) -> None:
    """Who only expects a step hears nothing; who runs it hears which Python cannot be started."""
    text = "import mlops_local as mlops\n@mlops.step\ndef one():\n    return 1\n"
    project = Bench(tmp_path, text)
    project.workers.close()
    with Workers(tmp_path, python=str(tmp_path / "python")) as workers:
        project.workers = workers
        workers.expect("one", project.graph, project.sources, threads=0)
        with pytest.raises(MlopsError, match="python cannot be started: No such file"):
            project.run("one")
