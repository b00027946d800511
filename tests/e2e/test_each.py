"""A step that runs once for each file of a source."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from mlops_local.store import newest, objects
from mlops_local.store.layout import Layout
from tests.e2e.conftest import Shop

PIPELINE = """\
from pathlib import Path

import polars as pl
import mlops_local as mlops

visits = mlops.data("data/*.parquet")
notes = mlops.data("notes/*.txt", kind="files")

@mlops.step
def factor() -> int:
    return 2

@mlops.step(each="visits")
def clean(visits: pl.LazyFrame, factor: int, *, plus: int = 0) -> pl.LazyFrame:
    print("cleaning")
    return visits.with_columns(pl.col("x") * factor + plus)

@mlops.step(each="notes")
def lengths(notes: Path) -> int:
    return len(notes.read_text())

@mlops.step
def total(clean: pl.LazyFrame, lengths: list[int]) -> list[int]:
    return [clean.collect()["x"].sum(), *lengths]
"""


@pytest.fixture
def files(tmp_path: Path) -> Shop:
    (tmp_path / "data").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "mlops.toml").write_text('[project]\nname = "files"\n')
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    for number in range(4):
        pl.DataFrame({"x": [number]}).write_parquet(tmp_path / "data" / f"{number}.parquet")
        (tmp_path / "notes" / f"{number}.txt").write_text("n" * number)
    return Shop(tmp_path)


def total(shop: Shop) -> list[int]:
    """What the last step made, from its stored file."""
    layout = Layout(shop.root)
    result = newest.read(layout).result("total")
    assert result is not None
    (part,) = result.outputs[0].parts.values()
    found: list[int] = json.loads(objects.get(layout, part))
    return found


def ran(shop: Shop, *arguments: str) -> dict[str, int]:
    """How often each of the two steps was called by a train."""
    before = {path for path in (shop.root / ".mlops" / "logs").glob("*/clean.log")}
    shop.mlops("train", *arguments)
    new = [path for path in (shop.root / ".mlops" / "logs").glob("*/clean.log") if path not in before]
    return {path.name: path.read_text().count("cleaning") for path in new}


def test_only_new_and_changed_files_run(files: Shop) -> None:
    """Adding or editing one of several files runs that one; removing or renaming one runs none; code and parameters run all."""
    assert ran(files) == {"clean.log": 4} and total(files) == [12, 0, 1, 2, 3]
    pl.DataFrame({"x": [10]}).write_parquet(files.root / "data" / "4.parquet")
    plan = {item["name"]: item for item in files.json("plan")["items"]}
    assert "data visits 1 of 5 files" in [reason["text"] for reason in plan["clean"]["reasons"]]
    assert plan["lengths"]["state"] == "fresh"
    assert ran(files) == {"clean.log": 1} and total(files) == [32, 0, 1, 2, 3]
    (files.root / "data" / "0.parquet").unlink()
    (files.root / "data" / "4.parquet").rename(files.root / "data" / "5.parquet")
    assert ran(files) == {} and total(files) == [32, 0, 1, 2, 3]
    assert ran(files, "-S", "clean.plus=1") == {"clean.log": 4} and total(files)[0] == 36
    files.edit("pipeline.py", "return 2", "return 3")
    assert ran(files) == {"clean.log": 4} and total(files)[0] == 48


def test_a_failing_file_is_named_and_costs_the_others_nothing(files: Shop) -> None:
    """Files that ran before the failure are kept; after the mend only the rest runs."""
    (files.root / "data" / "2.parquet").write_bytes((files.root / "data" / "2.parquet").read_bytes())
    files.edit("pipeline.py", '    print("cleaning")\n', "    print(\"cleaning\")\n    assert visits.collect()['x'][0] != 2\n")
    assert "data/2.parquet" in files.mlops("train", code=1).stderr
    pl.DataFrame({"x": [7]}).write_parquet(files.root / "data" / "2.parquet")
    assert ran(files) == {"clean.log": 2}


def test_each_must_name_a_source_the_step_takes(files: Shop) -> None:
    """A source that is not there, or not asked for, is a mistake with its place."""
    files.edit("pipeline.py", 'each="notes"', 'each="visits"')
    said = files.mlops("plan", code=2).stderr
    assert "pipeline.py:19: step 'lengths' runs for each file of 'visits', and takes no such source" in said
    files.edit("pipeline.py", 'each="visits")\ndef lengths', 'each="visit")\ndef lengths')
    assert "there is no such source" in files.mlops("plan", code=2).stderr
