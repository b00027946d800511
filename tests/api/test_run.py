"""A script logs to its own journal: nothing waits, nothing logged is lost, secrets are not kept."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROLOGUE = "from mlops_local.api.run import run, log, log_params\n"


def start(project: Path, code: str, **environment: str) -> subprocess.Popen[str]:
    variables = {key: value for key, value in os.environ.items() if not key.startswith("MLOPS_")}
    return subprocess.Popen(
        [sys.executable, "-c", PROLOGUE + code],
        cwd=project,
        env={**variables, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(project: Path, code: str, **environment: str) -> tuple[int, str]:
    process = start(project, code, **environment)
    out, err = process.communicate(timeout=60)
    return process.returncode, out + err


def lines(project: Path) -> list[dict[str, Any]]:
    """Every journal line, read with plain json."""
    found = []
    for path in sorted((project / ".mlops" / "journal").glob("*.jsonl")):
        found += [json.loads(line) for line in path.read_text().splitlines()]
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mlops.toml").write_text('[project]\nname = "scripts"\n')
    return tmp_path


def test_a_run_from_begin_to_end(folder: Path) -> None:
    """A with block journals start, parameters, points in order and the end."""
    code = (
        "with run('first', params={'opt': {'lr': 0.1}, 'api_key': 'abc'}) as r:\n"
        "    for step in range(1000): log(step, loss=1 / (step + 1))\n"
        "    r.log(auc=float('nan'))\n"
    )
    status, said = finish(folder, code)
    assert status == 0, said
    kept = lines(folder)
    kinds = [line["k"] for line in kept if line["k"] != "m"]
    assert kinds == ["run_started", "params", "note", "run_ended"]  # the note: auc became NaN
    assert next(line for line in kept if line["k"] == "params")["values"] == {"opt.lr": 0.1, "api_key": "***"}
    points = [line for line in kept if line["k"] == "m"]
    assert [point["s"] for point in points if point["key"] == "loss"] == list(range(1000))
    assert [point["x"] for point in points if point["key"] == "auc"] == ["NaN"]


def test_a_failing_script_is_a_failed_run(folder: Path) -> None:
    """The exception ends the run as failed, and passes on to the user."""
    status, said = finish(folder, "with run():\n    raise ValueError('no rows')\n")
    assert status == 1
    assert "ValueError: no rows" in said
    ended = next(line for line in lines(folder) if line["k"] == "run_ended")
    assert (ended["state"], ended["error"]) == ("failed", "ValueError: no rows")


def test_a_killed_script_loses_nothing_that_was_flushed(folder: Path) -> None:
    """After kill -9 every point older than the flush interval is in the journal, and the lock is free."""
    process = start(
        folder,
        (
            "import time\n"
            "with run() as r:\n"
            "    for i in range(5000): r.log(i, x=i)\n"
            "    time.sleep(1)\n"
            "    print('go', flush=True)\n"
            "    time.sleep(60)\n"
        ),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert process.stderr is not None
    process.stderr.close()
    points = [line for line in lines(folder) if line["k"] == "m"]
    assert [point["x"] for point in points] == list(range(5000))
    assert not [line for line in lines(folder) if line["k"] == "run_ended"]


def test_a_process_of_a_run_joins_it(folder: Path) -> None:
    """Under `mlops run` the script's own run() is that run: one start, one end, both the parent's."""
    status, said = finish(folder, "with run() as r: log(1, x=2)\n", MLOPS_RUN="a" * 32, MLOPS_STATE=str(folder / ".mlops"))
    assert status == 0, said
    kept = lines(folder)
    assert [line["k"] for line in kept] == ["m"]
    assert kept[0]["r"] == "a" * 32


def test_logging_outside_a_run_does_nothing(folder: Path) -> None:
    """A step's function can be called in a test or notebook: its log calls are silent."""
    status, said = finish(folder, "log(1, x=2); log_params(a=1); print('fine')\n")
    assert (status, said) == (0, "fine\n")
    assert not (folder / ".mlops").exists()


def test_a_store_that_cannot_be_written_ends_no_training(folder: Path) -> None:
    """What is logged to the run the process was started in is lost then, and that is said once."""
    gone = str(folder / "mlops.toml" / ".mlops")
    status, said = finish(folder, "log(1, x=2); log(2, x=3); print('fine')\n", MLOPS_RUN="a" * 32, MLOPS_STATE=gone)
    assert status == 0 and said.startswith("fine\nmlops: nothing is logged: ") and said.count("\n") == 2


def test_points_that_never_reached_the_disk_are_said(folder: Path) -> None:
    """A process that ends while nothing can be written says how many points went with it."""
    code = (
        "def full(*given): raise OSError(28, 'full')\n"
        "with run() as r:\n    type(r._journal)._open_segment = full\n    r.log(a=1, b=2)\n"
    )
    status, said = finish(folder, code)
    assert status == 0 and "2 points could not be written and are lost" in said


def test_no_project(tmp_path: Path) -> None:
    """Outside a project the error says what to do."""
    status, said = finish(tmp_path, "with run(): pass\n")
    assert status == 1
    assert "no mlops.toml" in said


def test_importing_costs_little() -> None:
    """Logging from a script loads neither DuckDB nor polars nor numpy."""
    code = PROLOGUE + "import sys; print([m for m in ('duckdb', 'polars', 'numpy', 'click', 'lightgbm') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_points_of_a_forked_child_are_kept(folder: Path) -> None:
    """A child of the script logs to a journal of its own; nothing is there twice."""
    code = (
        "import os\n"
        "with run() as r:\n"
        "    r.log(0, x=1)\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        r.log(1, x=2); r._journal.close(); os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
        "    r.log(2, x=3)\n"
    )
    status, said = finish(folder, code)
    assert status == 0, said
    assert sorted(line["x"] for line in lines(folder) if line["k"] == "m") == [1, 2, 3]


def test_a_model_name_is_one_that_can_be_named(folder: Path) -> None:
    """A name with an @ or a slash could never be referred to again: it is refused before anything is made."""
    status, said = finish(folder, "with run() as r:\n    r.log_model(None, example=None, name='churn@1')\n")
    assert status == 1
    assert "a model's name has letters, digits, - and _, got 'churn@1'" in said
