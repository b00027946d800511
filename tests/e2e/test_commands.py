"""Programs in any language as steps of a pipeline, the user's way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Shop

TOML = """\
[project]
name = "legacy"

[steps.summed]
command = "sh lib/sum.sh {rows} {output} {factor}"
inputs = {rows = "data/*.csv"}
outputs = "sums.csv"
code = ["lib/*.sh"]
params = {factor = 3}
"""
SUM = """f1="$1"; f2="$2"; echo sum > "$3"; awk -v k="$4" 'FNR>1{s+=$1} END{print s*k}' "$f1" "$f2" >> "$3"\n"""
PIPELINE = """\
import polars as pl
import mlops_local as mlops

doubled = mlops.command("sed s/1/2/ {input:csv} > {output}", inputs="summed", outputs="d.csv", shell=True)

@mlops.step
def total(doubled: pl.DataFrame) -> int:
    return int(doubled["sum"].sum())
"""


@pytest.fixture
def legacy(tmp_path: Path) -> Shop:
    for name, text in (("data/a.csv", "a\n1\n2\n"), ("data/b c.csv", "a\n4\n"), ("lib/sum.sh", SUM), ("mlops.toml", TOML)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return Shop(tmp_path)


def test_a_project_of_programs_needs_no_python(legacy: Shop) -> None:
    """[steps.NAME] alone trains; only its line, parameters, data and declared files make it run again, and `why` names them."""
    assert legacy.json("train")["ran"] == ["summed"]
    (legacy.root / "unrelated.py").write_text("x = 1")
    assert legacy.stale() == []
    (legacy.root / "lib" / "new.sh").write_text("true\n")
    assert "code lib/new.sh (lib/new.sh) is new" in legacy.mlops("why", "summed").stdout
    (legacy.root / "lib" / "new.sh").unlink()
    assert legacy.stale("-S", "factor=4") == ["summed"]
    legacy.edit("lib/sum.sh", "s*k", "s*k+1")
    assert "code lib/sum.sh (lib/sum.sh) changed" in legacy.mlops("why", "summed").stdout
    legacy.edit("lib/sum.sh", "s*k+1", "s*k")
    assert legacy.stale() == []
    (legacy.root / "data" / "a.csv").write_text("a\n5\n")
    assert legacy.stale() == ["summed"]
    (legacy.root / "lib" / "sum.sh").write_text("echo sorry\nexit 3\n")
    failed = legacy.mlops("train", code=1).stderr
    assert "step summed failed: 'sh' ended with exit code 3" in failed and "sorry" in failed
    (legacy.root / "lib" / "sum.sh").unlink()
    assert "the code of summed, lib/*.sh, is not there" in legacy.mlops("plan", code=2).stderr


def test_programs_and_functions_feed_each_other(legacy: Shop) -> None:
    """A command's table is a frame of the next step, and a step's frame a file for a command."""
    (legacy.root / "pipeline.py").write_text(PIPELINE)
    assert legacy.json("train")["ran"] == ["summed", "doubled", "total"]
    script = "import mlops_local as mlops; print(mlops.load('total'))"
    assert legacy.mlops("run", sys.executable, "-c", script).stdout.split()[0] == "22"


def test_mistakes_in_the_table_are_said_with_their_place(legacy: Shop) -> None:
    """An unknown key, a placeholder nobody declared and an input nobody makes."""
    legacy.edit("mlops.toml", "outputs =", "output =")
    assert "steps.summed.output: unknown key, did you mean 'outputs'?" in legacy.mlops("plan", code=2).stderr
    legacy.edit("mlops.toml", "output =", "outputs =")
    legacy.edit("mlops.toml", "{factor}", "{facto}")
    assert "steps.summed: {facto} is no input, output or parameter" in legacy.mlops("plan", code=2).stderr
    legacy.edit("mlops.toml", "{facto}", "{factor}")
    legacy.edit("mlops.toml", '"data/*.csv"', '"flights"')
    assert "'summed' asks for 'flights', and nothing makes it" in legacy.mlops("plan", code=2).stderr
