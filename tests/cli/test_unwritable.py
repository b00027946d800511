"""Where nothing can be written, what is there is shown all the same, and what is not is said."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_local.domain.graph import Source
from mlops_local.services import data, init
from mlops_local.services.project import find
from mlops_local.store import projection
from mlops_local.store.journal import Journal, new_id

Mlops = Callable[..., "subprocess.CompletedProcess[str]"]
SOURCE = Source("people", "data/*.csv")
READING = [
    ["status"],
    ["runs"],
    ["show", "@1"],
    ["sql", "FROM run"],
    ["data", "ls"],
    ["data", "log", "people"],
    ["data", "show", "people"],
    ["data", "diff", "people@~1", "people", "--key", "id"],
    ["data", "du"],
    ["gc"],
]
AS_SOMEBODY = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
"""Without the right to write what permissions forbid, which the superuser has."""
ALL = """
import contextlib, io, json, sys
from mlops_local.cli import main
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main.run(arguments)
    print(json.dumps([arguments, code, out.getvalue(), err.getvalue()]))
"""


def _run(journal: Path, name: str) -> None:
    writer, run = Journal.open(journal), new_id()
    writer.state("run_started", run=run, name=name, kind="script")
    writer.state("run_ended", run=run, state="done", seconds=1.0)
    for step in range(2_000):
        writer.metric(run, "loss", float(step), step)
    writer.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with two snapshots, a run that was folded and one that was not."""
    init.create(tmp_path)
    with (tmp_path / "mlops.toml").open("a") as file:
        file.write('[data.people]\npath = "data/*.csv"\n')
    (tmp_path / "pipeline.py").touch()
    project, rows = find(tmp_path), tmp_path / "data" / "a.csv"
    rows.parent.mkdir()
    for text in ("id,age\n1,30\n", "id,age\n1,31\n"):
        rows.write_text(text)
        data.snapshot(project, SOURCE)
    _run(project.layout.journal, "folded-run")
    projection.fold(project.store)
    project.store.close()
    _run(project.layout.journal, "newest-run")
    return tmp_path


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="the superuser writes anyway")
@pytest.mark.parametrize("closed", ["everything", "locks", "database", "journal"])
def test_what_may_not_be_written_can_be_read(folder: Path, environment: dict[str, str], closed: str) -> None:
    """Every reading command answers, and says where it may lack the newest; a writing one ends in one clear error."""
    state = folder / ".mlops"
    shut = {
        "everything": [folder, *folder.rglob("*")],
        "locks": list(state.glob("*.lock*")),
        "database": list(state.glob("project.duckdb*")),
        "journal": [state / "journal"],
    }[closed]
    for path in shut:
        path.chmod(path.stat().st_mode & ~0o222)
    commands = [*READING, *([["tag", "@1", "team=red"]] if closed in {"everything", "journal"} else [])]
    command = [*(AS_SOMEBODY if os.geteuid() == 0 else []), sys.executable, "-c", ALL, json.dumps(commands)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    for path in shut:
        path.chmod(path.stat().st_mode | 0o200)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer[0] for answer in answers] == commands, done.stderr
    for arguments, code, out, err in answers:
        if arguments[0] == "tag":
            assert code == 1 and "error: cannot write" in err and "Permission denied" in err
            continue
        assert code == 0, (arguments, err)
        if arguments == ["runs"]:
            assert "folded-run" in out
            assert "newest-run" in out or "the newest may be missing here" in err
        if arguments[:2] == ["data", "diff"]:
            assert "id 1: age 30 -> 31" in out


def test_lists_answer_on_a_full_disk(folder: Path, here: Mlops) -> None:
    """What was folded is shown, that it may not be all is said once; with room again all of it is there."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        for arguments in READING[:5]:
            shown = here(*arguments)
            assert shown.returncode == 0, (arguments, shown.stderr)
            if arguments == ["runs"]:
                assert "folded-run" in shown.stdout and "newest-run" not in shown.stdout
                assert shown.stderr.startswith("warning: the newest may be missing here: no space left to write")
                assert len(shown.stderr.splitlines()) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "newest-run" in here("runs").stdout
