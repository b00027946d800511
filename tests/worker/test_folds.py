"""Folds as nodes of the graph, described from a real pipeline in a real worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_local.domain.errors import ConfigError
from mlops_local.domain.graph import Graph, Input
from mlops_local.domain.splits import KFold, Rolling, from_text
from mlops_local.engines.pipeline import fingerprint as fingerprints
from mlops_local.engines.pipeline.runner import Workers
from mlops_local.engines.pipeline.sources import SourceFile, discover

PIPELINE = """\
import polars as pl
import mlops_local as mlops

flights = mlops.data("data/*.parquet", key=["id"], time="at")

@mlops.step
def joined(flights: pl.LazyFrame) -> pl.LazyFrame:
    return flights

split = {split}

@mlops.step
def codes(train: pl.LazyFrame, joined) -> dict:
    return {{}}

@mlops.step
def summary(train) -> dict:
    return {{}}

@mlops.transform
def features(rows: pl.DataFrame, codes: dict) -> pl.DataFrame:
    return rows

delay = mlops.model("delay", label=pl.col("late") > 15, split={given}, features=features)

@delay.candidate
def gbm(train: mlops.XY, valid: mlops.XY, {folds}codes, *, rate: float = 0.1):
    return 1
"""


class Project:
    """A folder and a worker that describes whatever pipeline is in it."""

    def __init__(self, root: Path, workers: Workers) -> None:
        self.root = root
        self.workers = workers

    def sources(self) -> dict[str, SourceFile]:
        """Its code."""
        return dict(discover("pipeline.py", lambda path: (self.root / path).read_bytes() if path == "pipeline.py" else None))

    def describe(self, split: str, *, given: str = "split", folds: str = "", more: str = "") -> Graph:
        """The graph of the pipeline with that split."""
        (self.root / "pipeline.py").write_text(PIPELINE.format(split=split, given=given, folds=folds) + more)
        return self.workers.describe("pipeline.py", self.sources())


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """One worker: it imports each pipeline in a child of its own."""
    with Workers(tmp_path) as workers:
        yield Project(tmp_path, workers)


def test_every_fold_has_nodes_of_its_own(project: Project) -> None:
    """What depends on the split on the way to a candidate is there once a fold; everything else once."""
    graph = project.describe('mlops.rolling("at", rows=joined, test="1mo", folds=2, gap="3d")', folds="folds, ")
    names = [step.name for step in graph.steps]
    for fold in (1, 2):
        assert [name for name in names if name.endswith(f"[{fold}]")] == [
            f"{name}[{fold}]" for name in ("split", "codes", "delay.features", "gbm", "gbm.evaluate")
        ]
    assert {"joined", "summary", "split", "codes", "delay.features", "gbm", "gbm.evaluate"} <= set(names)
    assert from_text(graph.step("split").extras["split"]) == Rolling("at", "1mo", 2, gap="3d")
    assert graph.step("split[2]").inputs == (Input("rows", "joined", "", "frame"),)
    assert (graph.step("split[2]").fold, graph.step("split").fold, graph.model("delay").folds) == (2, 0, 2)
    assert graph.step("codes[1]").inputs == (Input("train", "split[1]", "train", "lazy"), Input("joined", "joined"))
    fitted = graph.step("gbm[2]").inputs
    assert fitted[0] == Input("train", "delay.features[2]", "train", "xy")
    assert [item.node for item in fitted] == ["delay.features[2]", "delay.features[2]", "codes[2]"]
    assert [item.node for item in graph.step("gbm").inputs] == [
        "delay.features", "delay.features", "gbm[1]", "gbm[2]", "codes",
    ]  # fmt: skip
    scored = graph.step("gbm.evaluate[1]")
    assert (scored.kind, scored.outputs) == ("score", ("predictions",))
    assert {item.node for item in scored.inputs} == {"gbm[1]", "delay.features[1]", "codes[1]"}
    assert graph.step("gbm.evaluate").inputs[-2:] == (
        Input("held_out[1]", "gbm.evaluate[1]", "predictions", "frame"),
        Input("held_out[2]", "gbm.evaluate[2]", "predictions", "frame"),
    )


def test_a_split_within_the_model_is_named_after_it(project: Project) -> None:
    """Steps ask for its `train`, or for `delay.split.train` where that is not plain."""
    inline = 'mlops.kfold(3, rows="flights", group="carrier", stratify=True)'
    graph = project.describe("None", given=inline)
    assert graph.model("delay").split == "delay.split"
    assert from_text(graph.step("delay.split").extras["split"]) == KFold(3, ("carrier",), True)
    assert graph.step("delay.split").model == "delay" and "late" in graph.step("delay.split").extras["label"]
    assert graph.step("codes[3]").inputs[0] == Input("train", "delay.split[3]", "train", "lazy")
    more = '\n@mlops.step(inputs={"rows": "delay.split.test"})\ndef count(rows) -> int:\n    return 1\n'
    assert project.describe("None", given=inline, more=more).step("count").inputs[0].node == "delay.split"


def test_which_fold_it_is_does_not_count(project: Project) -> None:
    """The same rows as another fold are the same step; only the split itself depends on the number."""
    graph = project.describe('mlops.rolling("at", rows=joined, test="1mo", folds=2)')
    sources = project.sources()

    def of(name: str) -> str:
        step = graph.step(name)
        inputs = {item.argument: "same" for item in step.inputs}
        return fingerprints.fingerprint(step, fingerprints.parts(step, graph, sources), {}, inputs)[0]

    assert of("split[1]") != of("split[2]") != of("split")
    for name in ("codes", "delay.features", "gbm", "gbm.evaluate"):
        assert of(f"{name}[1]") == of(f"{name}[2]")
    assert of("codes[1]") == of("codes"), "the same rows are the same rows"
    assert of("gbm.evaluate") != of("gbm.evaluate[1]")


def test_what_cannot_be_divided_is_refused_at_once(project: Project) -> None:
    """It is said when the pipeline is read, with file and line."""
    other = "\nother = mlops.model('other', label=pl.col('x') > 1, split=split, features=features)\n"
    for split, more, told in (
        ('mlops.kfold(rows="joint")', "", "'split' asks for 'joint', and nothing makes it, did you mean 'joined'"),
        ("mlops.kfold(rows=joined, stratify=True)", other, "split 'split' keeps the label's shares, and 2 labels use it"),
        ("mlops.kfold(2, rows=joined)", "", "folds is a whole number of 3 or more, got 2"),
    ):
        with pytest.raises(ConfigError, match=told) as caught:
            project.describe(split, more=more)
        assert "pipeline.py:10: " in caught.value.message
