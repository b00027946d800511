"""`mlops init --template blank --data` and `mlops data` in real processes, from a file to a prediction."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import mlops_local
from tests.e2e.conftest import CORE


def _mlops(folder: Path, *words: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlops_local", *words]
    core = {**os.environ, "PYTHONPATH": str(CORE)}
    done = subprocess.run(command, cwd=folder, env=core, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == expect, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def _json(folder: Path, *words: str) -> Any:
    return json.loads(_mlops(folder, *words, "--json").stdout)


def _table(rows: int = 1500) -> pl.DataFrame:
    """People whose churn and spending follow from age and city, with gaps and some noise."""
    draw = random.Random(1)
    ages = [draw.randint(18, 80) for _ in range(rows)]
    cities = [draw.choice(["Ulm", "Bonn", "Köln"]) for _ in range(rows)]
    risk = [(age - 50) / 10 + (city == "Ulm") * 2 for age, city in zip(ages, cities, strict=True)]
    return pl.DataFrame(
        {
            "customer_id": range(rows),
            "age": [None if row % 40 == 0 else age for row, age in enumerate(ages)],
            "city": cities,
            "joined": [f"2024-{row * 12 // rows + 1:02d}-{row % 28 + 1:02d}" for row in range(rows)],
            "spending": [round(100 - 8 * value + draw.gauss(0, 5), 2) for value in risk],
            "churned": ["yes" if value + draw.gauss(0, 1) > 0 else "no" for value in risk],
        }
    )


@pytest.mark.parametrize(
    ("target", "drop", "metric", "kind"), [("churned", "spending", "auc", "csv"), ("spending", "churned", "rmse", "parquet")]
)
def test_a_written_pipeline_trains_and_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, drop: str, metric: str, kind: str
) -> None:
    """From a file to a champion that beats guessing and answers raw rows, without touching what was written."""
    file = tmp_path / f"people.{kind}"
    frame = _table().drop(drop)
    frame.write_csv(file) if kind == "csv" else frame.write_parquet(file)
    _mlops(tmp_path, "init", "people", "--template", "blank", "--data", file.name, "--target", target)
    project = tmp_path / "people"
    made = _json(project, "train")
    assert made["state"] == "done" and len(made["champions"]) == 1, made
    version = _json(project, "model", "show", "@champion")["version"]
    assert version["metric"] == metric
    assert version["value"] > 0.8 if metric == "auc" else version["value"] < 10
    rows = (
        frame.head(5).drop(target, "customer_id", "joined").with_columns(city=pl.Series(["Ulm", "Bonn", "Köln", "Paris", None]))
    )
    monkeypatch.chdir(project)
    answer = mlops_local.load_model("@champion").predict(rows)
    assert len(answer) == 5
    assert all(0 <= value <= 1 for value in answer) if metric == "auc" else all(0 < value < 200 for value in answer)
    assert _json(project, "train")["ran"] == []


def test_data_commands_agree(tmp_path: Path) -> None:
    """`snapshot`, `ls`, `show` and `verify` tell the same, as text and as JSON; a changed file makes verify end with 1."""
    _table(300).write_csv(tmp_path / "people.csv")
    _mlops(tmp_path, "init", "p", "--template", "blank", "--data", "people.csv", "--target", "churned")
    project = tmp_path / "p"
    assert "none yet" in _mlops(project, "data", "ls").stdout
    assert "no source has a snapshot yet" in _mlops(project, "data", "verify").stdout
    _mlops(project, "data", "verify", "people", expect=2)
    (taken,) = _json(project, "data", "snapshot")["items"]
    (listed,) = _json(project, "data", "ls")["items"]
    shown = _json(project, "data", "show", "people")
    assert taken["id"] == listed["snapshot"] == shown["id"] and taken["rows"] == listed["rows"] == shown["rows"] == 300
    assert [column["name"] for column in shown["columns"]] == list(_table(1).columns)
    text = _mlops(project, "data", "show", taken["id"][:8]).stdout
    assert "data/people.csv" in text and "customer_id" in text
    assert "1 file is what its snapshot says" in _mlops(project, "data", "verify").stdout
    with (project / "data/people.csv").open("a") as file:
        file.write("300,30,Ulm,2024-12-28,99.5,no\n")
    assert "changed" in _mlops(project, "data", "verify", expect=1).stdout
    wrong = _mlops(project, "data", "snapshot", "peple", expect=2)
    assert "did you mean 'people'?" in wrong.stderr


def test_a_ragged_line_stops_training_with_its_place(tmp_path: Path) -> None:
    """Bad input reaches the person as file and line, exit 2, and nothing runs."""
    _table(300).write_csv(tmp_path / "people.csv")
    _mlops(tmp_path, "init", "p", "--template", "blank", "--data", "people.csv", "--target", "churned")
    with (tmp_path / "p/data/people.csv").open("a") as file:
        file.write("300,30\n")
    done = _mlops(tmp_path / "p", "train", expect=2)
    assert "data/people.csv, line 302: 2 values where the header has 6" in done.stderr and "Traceback" not in done.stderr
    assert _json(tmp_path / "p", "runs")["items"] == []


def test_the_network_without_torch_is_one_clear_error(tmp_path: Path) -> None:
    """Where torch is missing, `mlops train mlp` ends with 1, one error and the install command, and keeps what was done."""
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    _mlops(tmp_path, "init", "flights", "--template", "flights")
    done = subprocess.run(
        [sys.executable, "-m", "mlops_local", "train", "mlp"],
        cwd=tmp_path / "flights",
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(absent), str(CORE)])},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1 and "torch is not installed" in done.stderr
    assert "pip install 'mlops-local[torch]'" in done.stderr
    (run,) = _json(tmp_path / "flights", "runs")["items"]
    assert run["state"] == "failed"
    fresh = {item["name"] for item in _json(tmp_path / "flights", "plan", "mlp")["items"] if item["state"] == "fresh"}
    assert {"split", "delay.features"} <= fresh
