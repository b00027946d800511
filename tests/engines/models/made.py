"""Small real bundles for the tests of everything that answers from one."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
from onnx import TensorProto, helper

from mlops_local.domain.assets import Column
from mlops_local.engines.models import bundle

WEIGHTS = (0.5, -2.0)

TRANSFORM = b"""
import polars as pl


def features(rows: pl.LazyFrame, codes: dict) -> pl.LazyFrame:
    return rows.select(x=pl.col("x") * 2.0, code=pl.col("carrier").replace_strict(codes, default=-1.0))
"""

SIGNATURE = (
    Column("x", "number", "Float64", nullable=False, example=1.5),
    Column("carrier", "string", "String", nullable=True, example="AA"),
)
CODES = {"AA": 1.0, "UA": 2.0}


def linear(weights: Sequence[float] = WEIGHTS) -> bytes:
    """An ONNX model: the sigmoid of the weighted sum of its features."""
    given = helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["N", len(weights)])
    made = helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N", 1])
    values = helper.make_tensor("w", TensorProto.FLOAT, [len(weights), 1], list(weights))
    nodes = [helper.make_node("MatMul", ["rows", "w"], ["sum"]), helper.make_node("Sigmoid", ["sum"], ["probability"])]
    graph = helper.make_graph(nodes, "linear", [given], [made], [values])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def expected(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """What the bundle of `files` must answer, computed without it."""
    sums = [WEIGHTS[0] * 2.0 * row["x"] + WEIGHTS[1] * CODES.get(row["carrier"] or "", -1.0) for row in rows]
    return [float(1 / (1 + np.exp(-value))) for value in sums]


GOLDEN_ROWS: list[dict[str, Any]] = [
    {"x": 0.25, "carrier": "AA"},
    {"x": -1.0, "carrier": "UA"},
    {"x": 3.0, "carrier": None},
]


def files(**changes: Any) -> dict[str, bytes]:
    """A bundle with a lazy transform, one state and three golden rows; `changes` go into the manifest."""
    sink = io.BytesIO()
    pl.DataFrame(GOLDEN_ROWS).with_columns(pl.Series(bundle.EXPECTED, expected(GOLDEN_ROWS))).write_parquet(sink)
    values: dict[str, Any] = {
        "model": "delay",
        "candidate": "gbm",
        "signature": SIGNATURE,
        "features": ("x", "code"),
        "form": "onnx",
        "library": "made by hand",
        "transform": "features",
        "rows": "lazy",
        "states": (bundle.State("codes", "states/codes.json", "json"),),
        **changes,
    }
    return {
        bundle.MANIFEST: bundle.write_manifest(bundle.Manifest(**values)),
        bundle.ONNX: linear(),
        bundle.TRANSFORM: TRANSFORM,
        "states/codes.json": b'{"AA": 1.0, "UA": 2.0}',
        bundle.GOLDEN: sink.getvalue(),
    }


def write(folder: Path, contents: Mapping[str, bytes]) -> Path:
    """The files as a folder."""
    for name, data in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder
