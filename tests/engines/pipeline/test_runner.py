from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from mlops_local.domain.errors import MlopsError
from mlops_local.engines.pipeline.runner import StepOutcome
from mlops_local.engines.pipeline.sources import discover
from tests.engines.pipeline.bench import Bench, bench, gone, pids_of

PIPELINE = """
    import os, random, signal, subprocess, sys, time
    from typing import NamedTuple
    import polars as pl
    import mlops_local as mlops

    flights = mlops.data("data.csv", key="id")

    class Split(NamedTuple):
        train: pl.LazyFrame
        valid: pl.DataFrame
        test: pl.LazyFrame

    @mlops.step
    def split(flights: pl.LazyFrame, *, parts: int = 4, shape: tuple = (1, 2)) -> Split:
        print("splitting in", parts, type(flights).__name__)
        assert isinstance(shape, tuple)
        rows = [flights.filter(pl.col("id") % parts == n) for n in range(3)]
        return Split(rows[0], rows[1].collect(), rows[2])

    @mlops.step
    def codes(split__train: pl.DataFrame) -> dict:
        return {code: n for n, code in enumerate(split__train["carrier"].unique().sort())}

    @mlops.step
    def mean(split__valid: pl.LazyFrame, codes: dict) -> float:
        return split__valid.select(pl.col("late").mean()).collect().item() + len(codes)

    @mlops.step
    def lucky() -> list:
        import numpy as np
        return [random.random(), float(np.random.random()), mlops.seed(), list({"a", "b", "c", "d"})]

    @mlops.step
    def fails(codes):
        try:
            {}["missing"]
        except KeyError as error:
            raise ValueError("no such carrier") from error

    @mlops.step
    def leaves():
        sys.exit(3)

    @mlops.step
    def crashes():
        print("before")
        os.kill(os.getpid(), signal.SIGSEGV)

    @mlops.step
    def killed():
        os.kill(os.getpid(), signal.SIGKILL)

    @mlops.step
    def vanishes():
        os._exit(4)

    @mlops.step
    def wrong() -> Split:
        return 1

    @mlops.step
    def a_set():
        return {1, 2}

    @mlops.step
    def missing():
        import nothing_like_it

    @mlops.step
    def chatty(*, megabytes: int = 60):
        sys.stdout.write("first line\\n")
        for _ in range(megabytes):
            sys.stdout.write("x" * 1024 * 1024)
        sys.stdout.write("\\nlast line\\n")
        os.write(2, b"\\xff not utf-8\\n")

    @mlops.step
    def sleeps():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print("pids", os.getpid(), child.pid, flush=True)
        time.sleep(600)

    @mlops.step
    def leaves_a_child():
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        return 1

    @mlops.step
    def hungry():
        block = bytearray(150_000_000)
        return len(block)
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = bench(tmp_path_factory.mktemp("project"), PIPELINE)
    with made.workers:
        yield made


def test_values_travel_between_steps_as_asked(shared: Bench) -> None:
    """A source is read, several outputs are kept, and the next steps get them lazily, eagerly or as values."""
    split = shared.run("split", parts=5)
    assert split.ok, split.error
    assert [(made.name, made.kind, made.rows) for made in split.outputs] == [
        ("train", "parquet", 20),
        ("valid", "parquet", 20),
        ("test", "parquet", 20),
    ]
    assert shared.run("codes").ok
    assert shared.value("codes") == {"A": 0, "B": 1}
    assert shared.run("mean").ok
    frame = pl.read_csv(shared.root / "data.csv").filter(pl.col("id") % 5 == 1)
    assert shared.value("mean") == pytest.approx(frame["late"].to_numpy().mean() + 2)
    assert "splitting in 5 LazyFrame" in shared.log("split").read_text()


def test_the_same_step_gives_the_same_logical_hash(shared: Bench) -> None:
    """Two executions with equal inputs agree, so that the steps behind them need not run; another parameter disagrees."""
    first, again, other = shared.run("split"), shared.run("split"), shared.run("split", parts=3)
    assert [made.logical for made in first.outputs] == [made.logical for made in again.outputs]
    assert [made.logical for made in first.outputs] != [made.logical for made in other.outputs]


def test_seeds_make_randomness_repeatable(shared: Bench) -> None:
    """Python's and numpy's generators and the order of sets repeat with the seed and change with it."""
    values = []
    for seed in (7, 7, 8):
        assert shared.run("lucky", seed=seed).ok
        values.append(shared.value("lucky"))
    assert values[0] == values[1]
    assert values[0][:2] != values[2][:2]
    assert values[0][2] == 7
    assert values[0][3] == values[2][3]


def test_an_exception_is_told_with_the_users_frames(shared: Bench) -> None:
    """A step's exception names its place; the traceback and its cause show only the user's frames, with their lines."""
    shared.run("split")
    shared.run("codes")
    outcome = shared.run("fails")
    assert not outcome.ok
    assert outcome.error.endswith("ValueError: no such carrier")
    assert outcome.error.startswith("pipeline.py:")
    assert "mlops_local" not in outcome.traceback
    assert '{}["missing"]' in outcome.traceback
    assert "KeyError: 'missing'" in outcome.traceback
    assert str(shared.root) not in outcome.traceback


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("leaves", "it called sys.exit(3)"),
        ("crashes", "it was killed by SIGSEGV (segmentation fault)"),
        ("killed", "it was killed by SIGKILL (most often: out of memory)"),
        ("vanishes", "it ended its process with exit code 4"),
        ("a_set", "output 'result' is a set, and sets have no order"),
        ("missing", "nothing_like_it is not installed"),
        ("wrong", "step 'wrong' returned an int, and its annotation promises train, valid, test"),
    ],
)
def test_every_way_to_fail_is_an_outcome_with_a_name(shared: Bench, step: str, error: str) -> None:
    """sys.exit, a crash, a kill, a silent end, a wrong value and a missing library fail that step only, each by name."""
    outcome = shared.run(step)
    assert not outcome.ok
    assert error in outcome.error
    assert shared.run("lucky").ok, "the worker goes on"


def test_a_crash_leaves_what_was_printed_and_where_it_was(shared: Bench) -> None:
    """The log of a crashed step holds its output and the Python stack at the crash."""
    shared.run("crashes")
    text = shared.log("crashes").read_text()
    assert text.startswith("before\n")
    assert "in crashes" in text


def test_output_keeps_head_and_tail(shared: Bench) -> None:
    """60 MB of output become a log of 50 MB with first and last lines; bytes that are no UTF-8 are kept as they are."""
    assert shared.run("chatty").ok
    data = shared.log("chatty").read_bytes()
    assert data.startswith(b"first line\n")
    assert data.endswith(b"\nlast line\n\xff not utf-8\n")
    assert b"bytes left out" in data
    assert len(data) < 52 * 1024 * 1024


def test_resources_are_measured(shared: Bench) -> None:
    """Peak memory and CPU time are the step's own."""
    small, big = shared.run("lucky"), shared.run("hungry")
    assert big.peak_bytes - small.peak_bytes > 120_000_000
    assert big.cpu_seconds > 0
    assert big.seconds > 0


def test_cancel_ends_the_step_and_all_it_started(tmp_path: Path) -> None:
    """Cancelling ends the step's process and its children; the outcome says cancelled, and nothing runs afterwards."""
    project = bench(tmp_path, PIPELINE)
    with project.workers:
        outcomes: list[StepOutcome] = []
        runner = threading.Thread(target=lambda: outcomes.append(project.run("sleeps")))
        runner.start()
        pids = pids_of(project.log("sleeps"))
        project.cancel.set()
        runner.join(30)
        assert not outcomes[0].ok
        assert outcomes[0].error == "cancelled"
        assert all(gone(pid) for pid in pids)
        assert project.run("lucky").error == "cancelled"


def test_children_a_step_leaves_end_with_it(shared: Bench) -> None:
    """A process that a finished step left running is ended; the step does not wait for it."""
    outcome = shared.run("leaves_a_child")
    assert outcome.ok, outcome.error
    assert outcome.seconds < 60


KEEPER = """
import sys, threading
sys.path.insert(0, {tests!r})
from pathlib import Path
from tests.engines.pipeline.bench import bench
from tests.engines.pipeline.test_runner import PIPELINE
bench(Path({root!r}), PIPELINE).run("sleeps")
"""


def test_a_killed_program_takes_its_steps_with_it(tmp_path: Path) -> None:
    """kill -9 of the program that trains ends worker, step and the step's children."""
    program = subprocess.Popen(
        [sys.executable, "-c", KEEPER.format(tests=str(Path(__file__).parents[3]), root=str(tmp_path))],
        stderr=subprocess.DEVNULL,
    )
    pids = pids_of(tmp_path / "sleeps.log")
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    assert all(gone(pid) for pid in pids)


def test_a_killed_worker_takes_the_step_with_it_and_is_told(tmp_path: Path) -> None:
    """kill -9 of the worker ends the step's whole group, and the program gets an error instead of waiting."""
    project = bench(tmp_path, PIPELINE)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            project.run("sleeps")
        except MlopsError as error:
            errors.append(error)

    with project.workers:
        runner = threading.Thread(target=run)
        runner.start()
        pids = pids_of(project.log("sleeps"))
        process = project.workers._processes[0]._process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        runner.join(30)
        assert "the worker ended while step sleeps" in str(errors[0])
        assert all(gone(pid) for pid in pids)


def test_hashed_bytes_run_not_the_disk(tmp_path: Path) -> None:
    """A step runs the code that was read with the plan, whatever the files say by now."""
    text = "import helper, mlops_local as mlops\n@mlops.step\ndef one():\n    return helper.f()\n"
    project = bench(tmp_path, text, helper="def f():\n    return 'hashed'\n")
    with project.workers:
        (tmp_path / "helper.py").write_text("def f():\n    return 'later'\n")
        assert project.run("one").ok
        assert project.value("one") == "hashed"


def test_an_error_shows_the_lines_that_ran(tmp_path: Path) -> None:
    """After an edit, in the same worker, a traceback shows the new lines, whatever the file says by then."""
    text = "import mlops_local as mlops\n@mlops.step\ndef fails():\n    raise ValueError('%s')\n"
    project = bench(tmp_path, text % "first")
    with project.workers:
        assert "    raise ValueError('first')" in project.run("fails").traceback
        (tmp_path / "pipeline.py").write_text("\n" + text % "second")
        project.sources = discover("pipeline.py", project._load)
        (tmp_path / "pipeline.py").write_text("# gone")
        traceback = project.run("fails").traceback
        assert "line 5, in fails\n    raise ValueError('second')" in traceback


def test_what_python_warns_of_is_told_to_the_step(tmp_path: Path) -> None:
    """A module is compiled ahead of the step, and yet a warning about its text is in the output of the step that imports it."""
    project = bench(tmp_path, "import mlops_local as mlops\n@mlops.step\ndef one():\n    return 1 is 1\n")
    with project.workers:
        assert project.run("one").ok
        assert "pipeline.py:4: SyntaxWarning" in project.log("one").read_text()


def test_project_code_nobody_hashed_is_refused(tmp_path: Path) -> None:
    """A step that imports a project file the plan did not see fails and says how to make it seen."""
    text = "import importlib, mlops_local as mlops\n@mlops.step\ndef one():\n    importlib.import_module('hel' + 'per')\n"
    project = bench(tmp_path, text, helper="def f():\n    return 1\n")
    with project.workers:
        outcome = project.run("one")
        assert "helper.py is project code, but no import statement names it" in outcome.error


def test_a_polars_and_lightgbm_step_work_in_forked_children(tmp_path: Path) -> None:
    """Many children in a row use the thread pools of libraries that were imported before the fork."""
    text = """
        import lightgbm as lgb
        import numpy as np
        import polars as pl
        import mlops_local as mlops

        @mlops.step
        def fit(*, rows: int = 400) -> lgb.Booster:
            frame = pl.select(pl.int_range(rows).alias("x")).with_columns(y=(pl.col("x") % 3 == 0).cast(pl.Int8))
            joined = frame.lazy().join(frame.lazy(), on="x").sort("x").collect()
            data = lgb.Dataset(joined.select("x").to_numpy(), joined["y"].to_numpy())
            return lgb.train({"objective": "binary", "verbose": -1, "seed": mlops.seed(), "deterministic": True}, data, 3)
    """
    project = bench(tmp_path, text)
    with project.workers:
        outcomes = [project.run("fit") for _ in range(12)]
    assert all(outcome.ok for outcome in outcomes), [outcome.error for outcome in outcomes]
    assert len({outcome.outputs[0].logical for outcome in outcomes}) == 1
    assert outcomes[0].outputs[0].kind == "lightgbm"


def test_steps_import_only_what_they_use(tmp_path: Path) -> None:
    """The worker does not import a library that only another step's function imports."""
    text = """
        import sys
        import mlops_local as mlops

        @mlops.step
        def light():
            return "torch" in sys.modules or "duckdb" in sys.modules or "click" in sys.modules

        @mlops.step
        def heavy():
            import torch
    """
    project = bench(tmp_path, text)
    with project.workers:
        assert project.run("light").ok
        assert project.value("light") is False
