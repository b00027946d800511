"""What a step reads beside its inputs: noticed, and forbidden under `--strict`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlops_local.cli import main
from mlops_local.worker import landlock
from tests.engines.pipeline.bench import Bench

HEAD = """\
import os
import mlops_local as mlops

data = mlops.data("data.csv")
rates = mlops.data("rates*.csv")

@mlops.step
def clean(data) -> int:
"""
Run = Callable[[str], Bench]
strict = pytest.mark.skipif(bool(landlock.problem()), reason=landlock.problem())


def files(place: Path) -> Path:
    """A project's folder with files that no step declares, and one beside it."""
    (place / "project" / "more").mkdir(parents=True)
    for name in ("project/extra.csv", "project/rates1.csv", "project/more/a.csv", "project/more/b.csv", "beside.csv"):
        (place / name).write_text("a,b\n1,2\n")
    return place / "project"


def indented(body: str) -> str:
    return "".join(f"    {line}\n" for line in body.splitlines()) + "    return 1\n"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Run]:
    """A project of one step with that body."""
    benches: list[Bench] = []

    def make(body: str) -> Bench:
        benches.append(Bench(files(tmp_path), HEAD + indented(body)))
        return benches[-1]

    yield make
    for item in benches:
        item.workers.close()


READS = (
    ("open('extra.csv').read()", "extra.csv"),
    ("os.close(os.open('extra.csv', os.O_RDONLY))", "extra.csv"),
    ("import polars\npolars.read_csv('extra.csv')", "extra.csv"),
    ("import polars as pl\nfrom pathlib import Path\npl.scan_csv(source=Path('more', 'a.csv')).collect()", "more/a.csv"),
    ("import polars as pl\npl.scan_csv('more/*.csv').collect()", "more/*.csv"),
    ("from polars import read_csv\nread_csv(['more/a.csv', 'extra.csv'])", "extra.csv"),
    ("import numpy as np\nnp.loadtxt('extra.csv', delimiter=',', skiprows=1)", "extra.csv"),
    ("import numpy as np\nnp.fromfile('extra.csv', dtype='u1')", "extra.csv"),
    ("import numpy as np\nnp.genfromtxt('extra.csv', delimiter=',')", "extra.csv"),
    ("import duckdb\nduckdb.read_csv('extra.csv').fetchall()", "extra.csv"),
    ("import lightgbm as lgb\nlgb.Dataset('extra.csv')", "extra.csv"),
    ("open('../beside.csv').read()", "../beside.csv"),
)
"""Body of a step, and what it reads."""


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A project with a step for each way to read."""
    root = files(tmp_path_factory.mktemp("readers"))
    steps = (f"@mlops.step\ndef read{number}() -> int:\n{indented(body)}" for number, (body, _) in enumerate(READS))
    made = Bench(root, "import os\nimport mlops_local as mlops\n" + "".join(steps))
    yield made
    made.workers.close()


@pytest.mark.parametrize("number", range(len(READS)), ids=[body.splitlines()[-1] for body, _ in READS])
def test_a_read_that_is_no_input_is_noticed(number: int, readers: Bench) -> None:
    """Whichever library opens it; the line names it as the code does, and says what to add."""
    outcome = readers.run(f"read{number}")
    assert outcome.ok, outcome.traceback
    said = [line for line in outcome.report["undeclared"] if line.startswith(f"reads {READS[number][1]} undeclared")]
    assert len(said) == 1 and "mlops.data" in said[0]


def test_what_is_no_matter_is_not_said(made: Run) -> None:
    """The step's own input, files it wrote itself, libraries' files, the system's, and what it reads of its own code."""
    body = (
        "import polars as pl, tempfile, inspect, sys\n"
        "pl.read_csv('data.csv')\n"
        "open('own.txt', 'w').write('x')\nopen('own.txt').read()\n"
        "pl.DataFrame({'a': [1]}).write_parquet('own.parquet')\npl.read_parquet('own.parquet')\n"
        "with tempfile.NamedTemporaryFile() as file:\n    open(file.name).read()\n"
        "open('/etc/hosts').read()\nopen(pl.__file__).read()\ninspect.getsource(sys.modules[__name__])\n"
        "os.environ.get('HOME')"
    )
    outcome = made(body).run("clean")
    assert outcome.ok, outcome.traceback
    assert "undeclared" not in outcome.report


def test_a_source_that_is_not_the_steps_input_is_named(made: Run) -> None:
    """The way out is shorter then: an argument."""
    outcome = made("open('rates1.csv').read()").run("clean")
    assert outcome.report["undeclared"] == [
        "reads rates1.csv undeclared: changes to it are not noticed; take rates as an argument"
    ]


def test_variables_the_code_asks_for_are_reported(made: Run) -> None:
    """By name, never with their value; what a library asks for on its own account is not the project's."""
    outcome = made("os.environ.get('_'.join(['SHOP', 'ROUNDS']))\nimport polars\npolars.DataFrame({'a': [1]}).lazy().collect()")
    assert outcome.run("clean").report["variables"] == ["SHOP_ROUNDS"]


def test_what_was_read_when_the_code_was_imported_is_an_input(tmp_path: Path) -> None:
    """Its content is in the fingerprint already, also where a library read it; a file beside the project counts as well."""
    (tmp_path / "project").mkdir()
    (tmp_path / "beside.txt").write_text("x")
    (tmp_path / "project" / "table.csv").write_text("a\n1\n")
    text = (
        "import polars as pl\nimport mlops_local as mlops\n"
        "TABLE = pl.read_csv('table.csv')\nBESIDE = open('../beside.txt').read()\n"
        "@mlops.step\ndef first() -> int:\n    return 1\n"
    )
    bench = Bench(tmp_path / "project", text)
    try:
        assert bench.graph.reads == ("../beside.txt", "table.csv")
        assert "undeclared" not in bench.run("first").report
    finally:
        bench.workers.close()


@strict
@pytest.mark.parametrize(
    "body",
    [
        "open('extra.csv').read()",
        "import polars as pl\npl.read_csv('extra.csv')",
        "import duckdb\nduckdb.sql(\"FROM 'extra.csv'\").fetchall()",
        "try:\n    open('extra.csv').read()\nexcept OSError:\n    pass",
        "import subprocess\nsubprocess.run(['cat', 'extra.csv'], check=True, capture_output=True)",
    ],
)
def test_strict_lets_a_step_read_its_inputs_only(body: str, made: Run) -> None:
    """Also where Python sees nothing, in other processes, and when the code carries on after the refusal."""
    outcome = made(body).run("clean", strict=True)
    assert not outcome.ok and outcome.outputs == ()
    if "cat" not in body:
        assert outcome.error.startswith("PermissionError: it reads extra.csv, which is no input of the step")
        assert 'add `extra = mlops.data("extra.csv")` and take extra as an argument' in outcome.hint


@strict
def test_strict_leaves_a_step_what_it_needs(made: Run) -> None:
    """Its input, libraries, programs, temporary files, and moving a file from one folder to another."""
    body = (
        "import polars as pl, numpy, lightgbm, subprocess, tempfile, json\n"
        "pl.read_csv('data.csv')\n"
        "subprocess.run(['ls', '/'], check=True, capture_output=True)\n"
        "with tempfile.TemporaryDirectory() as place:\n"
        "    open(place + '/x', 'w').write('x')\n    open(place + '/x').read()\n"
        "    os.rename(place + '/x', 'more/x')\n"
    )
    outcome = made(body).run("clean", strict=True)
    assert outcome.ok, outcome.traceback


def test_without_landlock_strict_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`mlops train --strict` exits 2, says what is missing, and has made nothing."""
    (tmp_path / "mlops.toml").write_text('[project]\nname = "strict"\n')
    (tmp_path / "pipeline.py").write_text("import mlops_local as mlops\n\n@mlops.step\ndef one():\n    open('ran', 'w')\n")
    monkeypatch.setattr(landlock, "_version", lambda: -1)
    assert main.run(["-C", str(tmp_path), "train", "--strict"]) == 2
    assert "--strict cannot be kept on this machine: this Linux" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists() and not list((tmp_path / ".mlops" / "journal").glob("*.jsonl"))


def test_a_machine_without_landlock_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another system, an old kernel, and a kernel where it was not enabled are three sentences."""
    import ctypes
    import errno
    import sys

    monkeypatch.setattr(landlock, "_version", lambda: -1)
    ctypes.set_errno(errno.ENOSYS)
    assert "5.13" in landlock.problem()
    ctypes.set_errno(errno.EOPNOTSUPP)
    assert "enabled at boot" in landlock.problem()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "darwin" in landlock.problem()
