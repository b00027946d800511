"""A tracked command: kept whole whatever happens, once or for each value of a grid, with what it says, writes and takes."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlops_local.domain.errors import UsageError
from mlops_local.services import command, track
from mlops_local.services.history import detail
from mlops_local.services.meter import Meter
from mlops_local.services.project import Project, find
from mlops_local.services.query import listing
from mlops_local.services.track import Wishes, answer_read_output, run_command, run_grid
from mlops_local.store import objects


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty one, as the working folder."""
    (tmp_path / "mlops.toml").write_text("[project]\nname = 'commands'\n")
    monkeypatch.chdir(tmp_path)
    return find(tmp_path)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def newest(project: Project) -> Any:
    return listing(project).runs[0]


def test_a_full_disk_costs_the_log_not_the_command() -> None:
    """What cannot be kept is dropped: the pipe of the command is read on, so that it never waits for a reader that died."""
    printed = b"a line of the command\n" * 10_000  # more than a pipe holds
    heard: list[bytes] = []
    shown = io.BytesIO()
    with Path("/dev/full").open("wb", buffering=0) as full:
        command._copy(io.BufferedReader(io.BytesIO(printed)), shown, command.Log(full), heard.append)
    assert b"".join(heard) == printed == shown.getvalue()


def test_a_program_that_does_not_start_is_a_failed_run(project: Project) -> None:
    """A file that may be executed and is no program: the run says so, and is not called cancelled."""
    script = project.root / "tool"
    script.write_text("no interpreter line\n")
    script.chmod(0o755)
    with pytest.raises(UsageError, match="does not start"):
        run_command(project, [str(script)])
    run = newest(project)
    assert run.state == "failed" and "format" in run.error.lower()


def test_a_grid_is_a_group_of_runs(project: Project) -> None:
    """One run a combination, in order, with its values in the command and as parameters; what each took is its own."""
    said: list[str] = []
    words = [*python("import sys; print(sys.argv[1:])"), "{lr}"]
    values = {"lr": [".1", ".03"], "depth": ["3"]}
    done = list(run_grid(project, words, values, name="try", emit=lambda event: said.append(event.text)))
    assert [(one.name, one.code, one.params) for one in done] == [
        ("try-1", 0, {"lr": 0.1, "depth": 3}),
        ("try-2", 0, {"lr": 0.03, "depth": 3}),
    ]
    assert said[0] == "1 of 2: lr=.1 depth=3" and said[2] == "2 of 2: lr=.03 depth=3"
    for one in done:
        log = project.layout.logs / one.run / "command.log"
        assert log.read_text() == f"['{'.1' if one.name == 'try-1' else '.03'}', '--depth=3']\n"
        kept = detail(project, one.run)
        assert kept.tags == {"group": "try"} and dict(kept.run.params) == dict(one.params)
        assert kept.run.seconds == round(one.seconds, 6), "what is said at the end is what is kept"


def test_a_grid_ends_with_a_failure_unless_it_is_told_to_go_on(project: Project) -> None:
    """The others are not begun; with keep_going all are."""
    words = python("import sys; sys.exit(int(sys.argv[1][4:]))")
    values = {"n": ["0", "3", "0"]}
    assert [one.code for one in run_grid(project, words, values)] == [0, 3]
    assert [one.code for one in run_grid(project, words, values, keep_going=True)] == [0, 3, 0]


def test_printed_values_are_metrics_when_asked_for(project: Project) -> None:
    """Told once, told for good, or found and asked about: then those of the runs just done are kept too."""
    words = python("print('epoch: 1'); print('loss: 0.5'); print('hello: you')")
    assert run_command(project, words, wishes=Wishes(read_output=False)).seen == ()
    found = run_command(project, words)
    assert [point.key for point in found.seen] == ["loss"] and newest(project).metrics == {}
    answer_read_output(project, True, [found])
    assert newest(project).metrics == {"loss": 0.5}
    again = run_command(project, words)
    assert again.seen == () and newest(project).metrics == {"loss": 0.5}
    answer_read_output(project, False, [])
    assert run_command(project, words).seen == () and newest(project).metrics == {}


def test_files_it_wrote_are_kept_when_asked_for(project: Project) -> None:
    """New and changed ones of the project, as they are at its end; not what was there, nor what others keep for themselves."""
    (project.root / "old.txt").write_text("old")
    (project.root / "changed.txt").write_text("before")
    code = (
        "import os; os.makedirs('out/__pycache__'); open('out/__pycache__/x', 'w').close()\n"
        "open('out/new.txt', 'w').write('new'); open('changed.txt', 'a').write(' after')\n"
    )
    done = run_command(project, python(code), wishes=Wishes(artifacts=True))
    kept = {one.path: objects.get(project.layout, one.object) for one in detail(project, done.run).artifacts}
    assert kept == {"out/new.txt": b"new", "changed.txt": b"before after"} and set(done.artifacts) == set(kept)


def test_what_it_takes_of_the_machine(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors, memory and disk of the command with all it starts, as metrics of the run."""
    for name in ("FIRST_S", "EVERY_S"):
        monkeypatch.setattr(f"mlops_local.services.meter.{name}", 0.05)
    inner = "b = bytearray(80_000_000); import time; time.sleep(0.6)"
    done = run_command(
        project,
        python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"),
        wishes=Wishes(system=True),
    )
    sql = "SELECT max(value) FROM metric WHERE run = ? AND key = 'system.memory_bytes'"
    with project.store.reader() as db:
        ((top,),) = db.execute(sql, [done.run]).fetchall()
    assert top > 80_000_000
    assert {"system.cpu_percent", "system.disk_read_bytes", "system.disk_written_bytes"} <= set(newest(project).metrics)


def test_a_process_that_is_gone_takes_nothing() -> None:
    """Looking at one that ended is no error."""
    gone = psutil.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert Meter(gone.pid, lambda values: None).look() == {}


def test_gpus_are_asked_where_there_are_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their share and memory are read from the driver's tool; one that fails is not asked again."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '0, 37, 1024'\necho '1, 0, 5'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    meter = Meter(psutil.Process().pid, lambda values: None)
    found = {name: value for name, value in meter.look().items() if "gpu" in name}
    assert found == {
        "system.gpu0_percent": 37.0,
        "system.gpu0_memory_bytes": 1024 * 2**20,
        "system.gpu1_percent": 0.0,
        "system.gpu1_memory_bytes": 5 * 2**20,
    }
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert not any("gpu" in name for name in meter.look())
    tool.write_text("#!/bin/sh\necho '0, 37, 1024'\n")
    assert not any("gpu" in name for name in meter.look())


def test_a_script_logs_from_an_environment_without_this_program(project: Project) -> None:
    """`import mlops_local` works in a Python that has nothing installed, and finds nothing else of ours."""
    code = (
        "import mlops_local as mlops, sys\n"
        "mlops.log(1, loss=0.5); mlops.log_params(a=1)\n"
        "try:\n    import duckdb\nexcept ImportError: mlops.log(alone=1)\n"
    )
    bare = Path(sys.base_prefix) / "bin" / "python3"
    done = run_command(project, [str(bare), "-S", "-c", code])
    assert done.code == 0
    assert newest(project).metrics == {"loss": 0.5, "alone": 1.0} and newest(project).params == {"a": 1}


def test_secrets_of_a_grid_are_struck_out(project: Project) -> None:
    """As those of a command line are."""
    assert track._options(["x", "--lr", "0.1", "--fast", "--deep", "3"]) == {"lr": 0.1, "fast": True, "deep": 3}
    run_command(project, python("pass"), params={"api_key": "abc", "lr": "1"})
    assert newest(project).params == {"api_key": "***", "lr": 1}
    assert "abc" not in " ".join(detail(project, newest(project).id).environment["argv"])
