"""A small real project and the real command, for tests that go the user's way from end to end."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mlops_local.services import database
from mlops_local.services.project import Project, find
from mlops_local.store import projection
from tests.conftest import MadeOnce

CORE = Path(__file__).with_name("core")
"""On PYTHONPATH: only what a plain `pip install` brings. LightGBM imports scikit-learn and pandas where they are, which takes
longer than all else in a training here."""

PIPELINE = '''\
"""Will a visit end in a purchase?"""

from typing import NamedTuple

import lightgbm as lgb
import polars as pl

import mlops_local as mlops
from cleaning import scale

visits = mlops.data("data/visits-*.parquet", key=["id"], time="day", outcome=["spent"])


class Split(NamedTuple):
    train: pl.DataFrame
    valid: pl.DataFrame
    test: pl.DataFrame


@mlops.step
def split(visits: pl.DataFrame) -> Split:
    rows = visits.sort("id")
    days = rows["day"].unique().sort()
    last, before = days[-3:], days[-5:-3]
    return Split(
        rows.filter(~pl.col("day").is_in([*last, *before])),
        rows.filter(pl.col("day").is_in(list(before))),
        rows.filter(pl.col("day").is_in(list(last))),
    )


@mlops.step
def means(train: pl.DataFrame) -> dict[str, float]:
    return {"pages": float(train["pages"].mean()), "minutes": float(train["minutes"].mean())}


@mlops.transform
def features(rows: pl.DataFrame, means: dict[str, float]) -> pl.DataFrame:
    return rows.select(
        mobile=pl.col("device") == "mobile",
        pages=scale(pl.col("pages"), means["pages"]), minutes=pl.col("minutes") - means["minutes"],
    )


purchase = mlops.model(
    "purchase", label=pl.col("spent") > 0, split=split, features=features, metric="auc", cluster="day", slices=["device"]
)

ROUNDS = 30


@purchase.candidate
def gbm(train: mlops.XY, valid: mlops.XY, *, leaves: int = 7) -> lgb.Booster:
    options = {"objective": "binary", "num_leaves": leaves, "verbose": -1, "deterministic": True, "num_threads": 1, "seed": 1}
    return lgb.train(options, lgb.Dataset(train.X.to_numpy(), train.y.to_numpy()), ROUNDS)
'''

CLEANING = '''\
"""Helpers of the pipeline."""

import polars as pl


def scale(column: pl.Expr, mean: float) -> pl.Expr:
    """Centre a column."""
    return column - mean
'''

CONFIG = """\
[project]
name = "shop"

[[models.purchase.gates]]
metric = "auc"
max_drop = 0.02
"""


def visits(rows: int, *, first_day: int = 1, days: int = 20, seed: int = 0, noise: float = 1.0) -> pl.DataFrame:
    """Visits whose purchases depend on pages, minutes and the device; some `spent` are unknown."""
    random = np.random.default_rng(seed)
    pages = random.poisson(5, rows)
    minutes = random.gamma(2, 3, rows)
    mobile = random.random(rows) < 0.5
    score = 0.5 * (pages - 5) + 0.2 * (minutes - 6) - 0.8 * mobile + noise * random.normal(size=rows)
    spent = np.where(score > 0, np.round(random.gamma(2, 10, rows), 2) + 0.01, 0.0)
    unknown = random.random(rows) < 0.02
    return pl.DataFrame(
        {
            "id": np.arange(rows) + 1_000_000 * first_day,
            "day": [f"2026-05-{first_day + day:02d}" for day in random.integers(0, days, rows)],
            "pages": pages,
            "minutes": minutes,
            "device": np.where(mobile, "mobile", "desktop"),
            "spent": [None if gone else float(value) for gone, value in zip(unknown, spent, strict=True)],
        }
    )


def plain_environment() -> dict[str, str]:
    """The variables of a process in a core installation, with nothing of ours or of git's."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("MLOPS_", "GIT_"))}
    return {**variables, "PYTHONPATH": str(CORE)}


HERE = ("check", "hook", "model", "plan", "runs", "sql", "status", "train", "why")
"""Commands that say all they do in what they print: asked in this process they spare starting another, a third of a second.
Those whose children write to the terminal, who are killed or whose environment is what is tested, are processes."""


class Shop:
    """A project in a folder and the real command, as a process where that makes a difference."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def mlops(
        self, *arguments: str, code: int | None = 0, timeout: float = 120, process: bool = False, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `mlops ARGUMENTS` here; unless `code` is None it must end with that exit code."""
        if process or environment or arguments[0] not in HERE or "--debug" in arguments:
            done = subprocess.run(
                [sys.executable, "-m", "mlops_local", *arguments],
                cwd=self.root,
                env={**plain_environment(), **environment},
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        else:
            done = _here(self.root, arguments)
        said = f"mlops {' '.join(arguments)}: exit {done.returncode}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
        assert code is None or done.returncode == code, said
        assert "Traceback (most recent call last)" not in done.stderr or code == 1 or code == 2, said
        return done

    def json(self, *arguments: str) -> Any:
        """What `mlops ARGUMENTS --json` answers."""
        return json.loads(self.mlops(*arguments, "--json").stdout)

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace the one place `old` stands at in a file."""
        path = self.root / name
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {name}"
        path.write_text(text.replace(old, new))

    def stale(self, *arguments: str) -> list[str]:
        """Names of the steps a plan would run."""
        return [item["name"] for item in self.json("plan", *arguments)["items"] if item["state"] != "fresh"]


def _here(root: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command line in this process, in that folder and the environment a process would have there."""
    from mlops_local.cli import main

    out, said, wanted = io.StringIO(), io.StringIO(), plain_environment()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(said):
        patch.chdir(root)
        for name in os.environ.keys() - wanted.keys():  # one by one: a watcher's thread may start something meanwhile
            patch.delenv(name)
        patch.setenv("PYTHONPATH", wanted["PYTHONPATH"])
        code = main.run(list(arguments))
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), said.getvalue())


def make_shop(root: Path) -> Shop:
    """Write the project's files."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "data").mkdir()
    visits(3000).write_parquet(root / "data" / "visits-1.parquet")
    (root / "pipeline.py").write_text(PIPELINE)
    (root / "cleaning.py").write_text(CLEANING)
    (root / "mlops.toml").write_text(CONFIG)
    return Shop(root)


def train_shop(root: Path) -> None:
    """Write the project's files and train it."""
    make_shop(root).mlops("train")


VIEWS = (
    "run param metric step model version alias gate_result snapshot snapshot_file column_profile lineage artifact "
    "deployment event evaluation"
).split()


def answers(project: Project) -> dict[str, list[Any]]:
    """Every row of every view."""
    with project.store.reader() as db:
        return {view: db.execute(f"SELECT * FROM {view} ORDER BY ALL").fetchall() for view in VIEWS}


def written(root: Path) -> dict[str, int]:
    """Bytes of every journal and of the ledger: what the database is made from."""
    return {path.name: path.stat().st_size for path in (root / ".mlops" / "journal").rglob("*.jsonl*")}


def rebuilt_is_the_same(shop: Shop) -> None:
    """Drop the database, rebuild it from journals, ledger and objects: every view must answer as before."""
    project = find(shop.root, wait_s=30)
    try:
        projection.fold(project.store)
        before = answers(project)
        for path in (shop.root / ".mlops").glob("project.duckdb*"):
            path.unlink()
        database.rebuild(project)
        after = answers(project)
    finally:
        project.store.close()
    for view, rows in before.items():
        assert after[view] == rows, view
    assert before["run"], "the test ran nothing"


@pytest.fixture(scope="session")
def trained_once(made_once: MadeOnce) -> Path:
    """A shop trained once; tests copy it."""
    return made_once("trained-shop", train_shop)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A fresh project, nothing trained."""
    return make_shop(tmp_path / "shop")


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Iterator[Shop]:
    """A project with one trained version; if a test adds to it, its database is dropped and rebuilt, with the same answers."""
    import shutil

    root = tmp_path / "shop"
    shutil.copytree(trained_once, root, symlinks=True)
    made, before = Shop(root), written(root)
    yield made
    if written(made.root) != before:
        rebuilt_is_the_same(made)


Mlops = Callable[..., subprocess.CompletedProcess[str]]
