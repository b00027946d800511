"""What `log_model` and `log_eval` do: bundle a script's model and evaluate what the bundle answers.

Loads polars and onnx, and the model's own library is loaded already; only scripts that make a model come here.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mlops_local.api.load import frame_of
from mlops_local.domain.errors import UsageError
from mlops_local.domain.graph import Model, Symbol
from mlops_local.engines.models import (
    build,
    bundle,
    export,
    predictor,
    rows,
    score,
    several,
    signature,
    targets,
    transform,
)
from mlops_local.store import objects, pending
from mlops_local.store.layout import Layout
from mlops_local.store.versions import SCRIPT


def make(layout: Layout, model: Any, example: Any, *, name: str, label: str, metric: str = "") -> dict[str, Any]:
    """Export and bundle a fitted model, or one for each target; the example's columns are its features.

    Returns:
        `bundle` (file -> object hash), `bundle_hash` and `targets`, which is empty for a single model.

    Raises:
        UsageError: the example has no rows or a column that is no number; a target's name is none, the metric is no target's.
        StepFailed: the model is of a kind that cannot be served.
    """
    frame = _numbers(example)
    names = _targets(model, metric)
    with tempfile.TemporaryDirectory(prefix="mlops-bundle-") as place:
        folder = Path(place)
        for target in names:
            (folder / target).mkdir()
            _build(folder / target, model[target], frame, name=name, label=target)
        if names:
            several.build(folder, names, label=label, metric=metric)
        else:
            _build(folder, model, frame, name=name, label=label)
        stored = {file: objects.put_file(layout, path) for file, path in predictor.folder(folder).items()}
    return {"bundle": stored, "bundle_hash": bundle.digest(stored), "targets": names}


def _numbers(example: Any) -> pl.DataFrame:
    """The example as a frame. Raises UsageError."""
    frame: pl.DataFrame = frame_of(example)
    if frame.height == 0:
        raise UsageError("log_model: the example has no rows", hint="pass some of the rows the model was fitted on")
    words = [column for column, dtype in frame.schema.items() if not (dtype.is_numeric() or dtype == pl.Boolean)]
    if words:
        raise UsageError(
            f"log_model: column {words[0]!r} of the example holds no numbers",
            hint="pass what the model itself takes; a pipeline with a transform bundles raw columns",
        )
    return frame


def _targets(model: Any, metric: str) -> list[str]:
    """The targets a mapping has models for; none of a single model. Raises UsageError."""
    if not isinstance(model, Mapping):
        return []
    names = list(model)
    if not names or not all(isinstance(name, str) and name.isidentifier() for name in names):
        raise UsageError(
            f"log_model: a target is named as a variable is, got {', '.join(map(repr, names)) or 'no target'}",
            hint='pass a model for each target: {"late": ..., "minutes": ...}',
        )
    if metric and metric.partition(".")[0] not in names:
        raise UsageError(f"log_model: metric {metric!r} says no target", hint=f"as in metric='{names[0]}.{metric}'")
    return names


def _build(folder: Path, model: Any, frame: pl.DataFrame, *, name: str, label: str) -> None:
    """The bundle of one model. Raises StepFailed."""
    matrix = transform.matrix(frame, frame.columns)
    exported = export.export(model, frame.columns, matrix, binary=_binary(model))
    recipe = build.Recipe(
        model=name,
        candidate=SCRIPT,
        signature=signature.describe(frame, exported.features, signature.gaps_in(frame, exported.features)),
        label=label,
    )
    build.build(folder, recipe, exported, frame, transform.matrix(frame, exported.features))


def _binary(model: Any) -> bool:
    objective = str(getattr(model, "params", {}).get("objective", "")) if hasattr(model, "params") else ""
    return hasattr(model, "predict_proba") or objective.startswith(("binary", "cross"))


def _labels(model: Model, y: Any) -> dict[str, pl.Series]:
    """Each target's labels as numbers. Raises UsageError where `y` holds others than the model answers."""
    if model.targets:
        columns = list(y) if isinstance(y, Mapping) else list(getattr(y, "columns", ()))
        if set(columns) != set(model.targets):
            raise UsageError(
                f"log_eval: y has {'the columns ' + ', '.join(map(str, columns)) if columns else 'no columns'}, "
                f"and the model's targets are {', '.join(model.targets)}",
                hint="pass a frame or a dict with the labels of each target",
            )
        return {name: pl.Series("label", list(y[name])).cast(pl.Float64) for name in model.targets}
    several = f"a table of {len(y)} columns" if isinstance(y, Mapping) else ""
    values = [] if several else list(y) if not hasattr(y, "__array__") else np.asarray(y)
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    several = several or (f"an array of shape {values.shape}" if isinstance(values, np.ndarray) and values.ndim != 1 else "")
    if several:
        raise UsageError(
            f"log_eval: y is {several}, and the model that was logged has one label a row",
            hint="a model of several targets is logged as a dict: log_model({'late': ..., 'minutes': ...}, ...)",
        )
    return {"": pl.Series("label", values).cast(pl.Float64)}


def evaluate(layout: Layout, made: Mapping[str, Any], given: Any, y: Any, *, cluster: str) -> dict[str, float]:
    """Score rows through the bundle in a fresh process, keep one answer a row, and leave the version to be registered.

    Raises:
        UsageError: lengths or targets differ, or the cluster column is not there.
    """
    frame = frame_of(given)
    model = Model(made["model"], "", Symbol("", ""), metric=made["metric"], targets=tuple(made["targets"]))
    labels = _labels(model, y)
    if wrong := [len(label) for label in labels.values() if len(label) != frame.height]:
        raise UsageError(f"log_eval: {frame.height} rows and {wrong[0]} labels", hint="pass one label for each row")
    if cluster and cluster not in frame.columns:
        raise UsageError(f"log_eval: the rows have no column {cluster!r}", hint="columns: " + ", ".join(frame.columns))
    known = pl.DataFrame([label.is_not_null().alias(name) for name, label in labels.items()]).select(pl.all_horizontal("*"))
    frame, labels = frame.filter(known.to_series()), {name: label.filter(known.to_series()) for name, label in labels.items()}
    with tempfile.TemporaryDirectory(prefix="mlops-bundle-") as place:
        table = score.fresh_table(_unpacked(layout, made["bundle"], Path(place)), frame)
        answers = {name: table[name or predictor.PREDICTION].cast(pl.Float64) for name in labels}
        values = targets.values(model, labels, answers)
        model = replace(model, metric=model.metric or next(iter(values)))
        predictions = pl.DataFrame(
            [
                rows.row_hashes(frame, frame.columns),
                *([frame.get_column(cluster)] if cluster else []),
                *targets.frame(model, labels, answers).get_columns(),
            ]
        )
        stored = {}
        for name, kept in (("predictions", predictions), ("rows", frame)):
            path = Path(place) / f"{name}.parquet"
            kept.write_parquet(path)
            stored[name] = objects.put_file(layout, path)
    finite = {name: float(value) for name, value in targets.finite(values).items()}
    identity = hashlib.blake2b(f"{made['bundle_hash']}\0{stored['predictions']}".encode(), digest_size=32).hexdigest()
    pending.leave(
        layout,
        identity[:32],
        {**made, **stored, "metric": model.metric, "metrics": finite, "cluster": cluster, "fingerprint": identity},
    )
    return finite


def _unpacked(layout: Layout, stored: Mapping[str, str], folder: Path) -> Path:
    for name, held in stored.items():
        path = folder / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(objects.get(layout, held))
    return folder / "bundle"
