"""A project with a real store and real bundles: a tiny ONNX model behind a polars transform, served by real processes."""

from __future__ import annotations

import datetime as dt
import io
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest

from mlops_local.domain.assets import Column, ModelVersion
from mlops_local.domain.events import ALIAS
from mlops_local.engines.models import bundle
from mlops_local.engines.models.export import Exported
from mlops_local.engines.models.predictor import Predictor
from mlops_local.engines.models.predictor import load as load_predictor
from mlops_local.store import ledger, objects, registry
from mlops_local.store.layout import Layout, create

FEATURES = ("hour", "weekday", "carrier", "distance", "wind")
TRANSFORM = b"""
import polars as pl


def features(rows, codes):
    return rows.select(
        hour=pl.col("time").dt.hour(),
        weekday=pl.col("time").dt.weekday(),
        carrier=pl.col("carrier").replace_strict(codes["carrier"], default=-1, return_dtype=pl.Int32),
        distance=pl.col("distance").log1p(),
        wind=pl.col("wind").fill_null(0.0) / pl.lit(10.0),
    )
"""
SIGNATURE = (
    Column("time", "datetime", "Datetime(time_unit='us', time_zone=None)", nullable=False),
    Column("carrier", "string", "String", nullable=False),
    Column("distance", "integer", "Int64", nullable=False),
    Column("wind", "number", "Float64", nullable=True),
)


def raw_rows(count: int) -> pl.DataFrame:
    """The first `count` of 5,000 raw rows as a project's data would hold them."""
    rng = np.random.default_rng(7)
    start = dt.datetime(2013, 9, 1)
    return pl.DataFrame(
        {
            "time": [start + dt.timedelta(hours=int(hour)) for hour in rng.integers(0, 700, 5000)],
            "carrier": [["UA", "AA", "B6", "DL"][code] for code in rng.integers(0, 4, 5000)],
            "distance": rng.integers(80, 3983, 5000),
            "wind": [None if at % 5 == 3 else float(value) for at, value in enumerate(rng.normal(10, 4, 5000))],
        }
    ).head(count)


def onnx_model(bias: float) -> bytes:
    """sigmoid(x·w + bias) as ONNX."""
    weights = np.array([[0.05], [0.02], [-0.1], [0.11], [0.3]], dtype=np.float32)
    helper = onnx.helper
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["rows", "weights"], ["scores"]),
            helper.make_node("Add", ["scores", "bias"], ["biased"]),
            helper.make_node("Sigmoid", ["biased"], ["prediction"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("rows", onnx.TensorProto.FLOAT, [None, len(FEATURES)])],
        [helper.make_tensor_value_info("prediction", onnx.TensorProto.FLOAT, [None, 1])],
        [
            onnx.numpy_helper.from_array(weights, "weights"),
            onnx.numpy_helper.from_array(np.array([bias], dtype=np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    encoded: bytes = model.SerializeToString()
    return encoded


def bundle_files(
    folder: Path,
    *,
    bias: float = -1.0,
    transform: bytes = TRANSFORM,
    signature: tuple[Column, ...] = SIGNATURE,
    exported: Exported | None = None,
) -> dict[str, bytes]:
    """A bundle's files, its golden rows answered by itself; `exported` is a trained model in place of the tiny one."""
    manifest = bundle.Manifest(
        model="delay",
        candidate="gbm",
        signature=signature,
        features=FEATURES,
        form="onnx",
        library="tiny 1.0",
        output=exported.output if exported else {"name": "prediction", "column": None, "kind": "probability"},
        transform="features",
        rows="lazy",
        states=(bundle.State("codes", "states/codes.json", "json"),),
    )
    files = {
        bundle.MANIFEST: bundle.write_manifest(manifest),
        bundle.ONNX: exported.onnx if exported else onnx_model(bias),
        bundle.TRANSFORM: transform,
        "states/codes.json": b'{"carrier": {"UA": 0, "AA": 1, "B6": 2}}',
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    rows = raw_rows(20)
    for column in signature:
        if column.name not in rows.columns:
            rows = rows.with_columns(pl.lit(1.0).alias(column.name))
    answers = load_predictor(folder).predict(rows)
    sink = io.BytesIO()
    rows.with_columns(pl.Series(bundle.EXPECTED, answers)).write_parquet(sink)
    files[bundle.GOLDEN] = sink.getvalue()
    return files


@dataclass(frozen=True)
class Served:
    """A project whose versions a test makes and promotes."""

    layout: Layout
    folder: Path

    def version(
        self, *, bias: float = -1.0, model: str = "delay", change: Mapping[str, bytes] | None = None, **more: Any
    ) -> str:
        """Register a version with that bias and return its id."""
        build = self.folder / f"build-{len(list(self.folder.iterdir()))}"
        files = {**bundle_files(build, bias=bias, **more), **(change or {})}
        kept = {name: objects.put_bytes(self.layout, data) for name, data in files.items()}
        made = ModelVersion(
            id="",
            model=model,
            number=0,
            candidate="gbm",
            run="0006500000000000abcdef0123456789",
            fingerprint=f"fp-{bundle.digest(kept)[:16]}",
            bundle=kept,
            bundle_hash=bundle.digest(kept),
            predictions="",
            evaluation="e",
            metric="auc",
            value=0.7171,
            low=0.652,
            high=0.78,
            snapshots={"flights": "ab" * 16},
        )
        return ledger.append_version(self.layout, lambda number: replace(made, id=f"{model}@{number}", number=number)).id

    def promote(self, version: str, *, alias: str = "champion") -> None:
        """Let the alias mean that version."""
        ledger.append(self.layout, ALIAS, f"{version.partition('@')[0]}@{alias}", version)

    def predictor(self, version: str) -> Predictor:
        """The version's own predictor, loaded without the server."""
        known = registry.load(self.layout).versions[version]
        return load_predictor({name: objects.path(self.layout, digest) for name, digest in known.bundle.items()})

    def features(self, frame: pl.DataFrame) -> Any:
        """The matrix a model behind the tiny transform sees."""
        build = self.folder / "features"
        bundle_files(build)
        return load_predictor(build).features(frame)

    def deployments(self) -> list[tuple[str, str]]:
        """(event, version) of each deployment line."""
        return [(found.event, found.version) for found in registry.load(self.layout).deployments]


@pytest.fixture
def served(tmp_path: Path) -> Served:
    """An empty project."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "mlops.toml").write_text('[project]\nname = "delays"\n')
    layout = Layout(root)
    create(layout)
    folder = tmp_path / "builds"
    folder.mkdir()
    return Served(layout, folder)


class Process:
    """`mlops serve` as a user starts it, ended by its id."""

    def __init__(self, root: Path, *arguments: str, python: Sequence[str] = ()) -> None:
        self.child = subprocess.Popen(
            [sys.executable, *python, "-m", "mlops_local", "-C", str(root), "serve", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.url = ""

    def _read(self) -> None:
        assert self.child.stderr is not None
        for line in self.child.stderr:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("stop:"):
                self._ready.set()
        self._ready.set()

    @property
    def said(self) -> str:
        """Everything on stderr so far."""
        return "\n".join(self.lines)

    def ready(self) -> Process:
        """Wait until it answers."""
        assert self._ready.wait(60)
        found = re.search(r"(http://\S+)/predict ", self.said)
        assert found, self.said
        self.url = found[1]
        return self

    def wait(self) -> int:
        """Wait until it ended by itself and return its exit code."""
        code = self.child.wait(60)
        self._reader.join()
        assert self.child.stderr is not None
        self.child.stderr.close()
        return code

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Tell it to stop, and wait."""
        if self.child.poll() is None:
            self.child.send_signal(number)
        return self.wait()

    def close(self) -> None:
        """End it whatever it does."""
        if self.child.poll() is None:
            self.child.kill()
        if self.child.stderr is not None and not self.child.stderr.closed:
            self.wait()


@pytest.fixture
def start(served: Served) -> Iterator[Callable[..., Process]]:
    """Start server processes for the project; whatever still runs at the end is ended."""
    running: list[Process] = []

    def begin(*arguments: str, port: int = 0, python: Sequence[str] = ()) -> Process:
        running.append(Process(served.layout.root, *arguments, "--port", str(port), python=python))
        return running[-1]

    yield begin
    for process in running:
        process.close()


def until(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Wait for something another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def eventually() -> Callable[..., None]:
    """`until`, for tests."""
    return until


@pytest.fixture
def rows() -> Callable[[int], list[dict[str, Any]]]:
    """Raw rows as a client sends them."""
    return lambda count: [{**row, "time": row["time"].isoformat()} for row in raw_rows(count).to_dicts()]


@pytest.fixture
def frame() -> Callable[[int], pl.DataFrame]:
    """The same rows as a frame."""
    return raw_rows
