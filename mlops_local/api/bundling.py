"""What `log_model` and `log_eval` do: bundle a script's model and evaluate what the bundle answers.

Loads polars and onnx, and the model's own library is loaded already; only scripts that make a model come here.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mlops_local.api.load import frame_of
from mlops_local.domain.errors import UsageError
from mlops_local.engines.models import build, bundle, export, metrics, predictor, rows, score, signature, transform
from mlops_local.store import objects, pending
from mlops_local.store.layout import Layout
from mlops_local.store.versions import SCRIPT


def make(layout: Layout, model: Any, example: Any, *, name: str, label: str) -> dict[str, Any]:
    """Export and bundle a fitted model; the example's columns are its features.

    Returns:
        `bundle` (file -> object hash) and `bundle_hash`.

    Raises:
        UsageError: the example has no rows, or a column that is no number.
        StepFailed: the model is of a kind that cannot be served.
    """
    frame = frame_of(example)
    if frame.height == 0:
        raise UsageError("log_model: the example has no rows", hint="pass some of the rows the model was fitted on")
    words = [column for column, dtype in frame.schema.items() if not (dtype.is_numeric() or dtype == pl.Boolean)]
    if words:
        raise UsageError(
            f"log_model: column {words[0]!r} of the example holds no numbers",
            hint="pass what the model itself takes; a pipeline with a transform bundles raw columns",
        )
    matrix = transform.matrix(frame, frame.columns)
    exported = export.export(model, frame.columns, matrix, binary=_binary(model))
    recipe = build.Recipe(
        model=name,
        candidate=SCRIPT,
        signature=signature.describe(frame, exported.features, signature.gaps_in(frame, exported.features)),
        label=label,
    )
    with tempfile.TemporaryDirectory(prefix="mlops-bundle-") as place:
        folder = Path(place)
        build.build(folder, recipe, exported, frame, transform.matrix(frame, exported.features))
        stored = {file: objects.put_file(layout, path) for file, path in predictor.folder(folder).items()}
    return {"bundle": stored, "bundle_hash": bundle.digest(stored)}


def _binary(model: Any) -> bool:
    objective = str(getattr(model, "params", {}).get("objective", "")) if hasattr(model, "params") else ""
    return hasattr(model, "predict_proba") or objective.startswith(("binary", "cross"))


def _one_a_row(y: Any) -> pl.Series:
    """The labels as numbers. Raises UsageError for several targets: only models of a pipeline have those."""
    several = f"a table of {len(y)} columns" if isinstance(y, Mapping) else ""
    values = [] if several else list(y) if not hasattr(y, "__array__") else np.asarray(y)
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    several = several or (f"an array of shape {values.shape}" if isinstance(values, np.ndarray) and values.ndim != 1 else "")
    if several:
        raise UsageError(
            f"log_eval: y is {several}, and a script's model has one label a row",
            hint="a model of several targets is declared in a pipeline: mlops.model(..., label={...}), docs/splits.md",
        )
    return pl.Series("label", values).cast(pl.Float64)


def evaluate(layout: Layout, made: Mapping[str, Any], given: Any, y: Any, *, cluster: str) -> dict[str, float]:
    """Score rows through the bundle in a fresh process, keep one answer a row, and leave the version to be registered.

    Raises:
        UsageError: lengths differ, or the cluster column is not there.
    """
    frame = frame_of(given)
    labels = _one_a_row(y)
    if len(labels) != frame.height:
        raise UsageError(f"log_eval: {frame.height} rows and {len(labels)} labels", hint="pass one label for each row")
    if cluster and cluster not in frame.columns:
        raise UsageError(f"log_eval: the rows have no column {cluster!r}", hint="columns: " + ", ".join(frame.columns))
    known = labels.is_not_null()
    frame, labels = frame.filter(known), labels.filter(known)
    with tempfile.TemporaryDirectory(prefix="mlops-bundle-") as place:
        answers = score.fresh(_unpacked(layout, made["bundle"], Path(place)), frame)
        predictions = pl.DataFrame(
            [
                rows.row_hashes(frame, frame.columns),
                *([frame.get_column(cluster)] if cluster else []),
                labels,
                answers.cast(pl.Float64).alias("prediction"),
            ]
        )
        stored = {}
        for name, table in (("predictions", predictions), ("rows", frame)):
            path = Path(place) / f"{name}.parquet"
            table.write_parquet(path)
            stored[name] = objects.put_file(layout, path)
    names = dict.fromkeys([*([made["metric"]] if made["metric"] else []), *metrics.usual(labels.to_numpy())])
    values = {name: metrics.metric(name)(labels.to_numpy(), answers.to_numpy()) for name in names}
    finite = {name: float(value) for name, value in values.items() if np.isfinite(value)}
    identity = hashlib.blake2b(f"{made['bundle_hash']}\0{stored['predictions']}".encode(), digest_size=32).hexdigest()
    pending.leave(
        layout,
        identity[:32],
        {
            **made,
            **stored,
            "metric": made["metric"] or next(iter(names)),
            "metrics": finite,
            "cluster": cluster,
            "fingerprint": identity,
        },
    )
    return finite


def _unpacked(layout: Layout, stored: Mapping[str, str], folder: Path) -> Path:
    for name, held in stored.items():
        path = folder / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(objects.get(layout, held))
    return folder / "bundle"
