"""The evaluate node of a model: bundle what a candidate fitted, and evaluate what the bundle answers.

Calls the user's metrics and behaviour tests and so runs in the worker's child. What it computes with is in `engines.models`,
imported when a node runs: whoever only describes a graph does without polars and onnx.
"""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlops_local.domain.errors import StepFailed
from mlops_local.domain.graph import Model
from mlops_local.domain.jobs import Code
from mlops_local.domain.xy import XY
from mlops_local.worker.features import features, frame_of, label_of, unseen

__all__ = ["evaluate", "features"]

SLICES = 60
"""Values of a slice column that are reported, the most frequent first."""
SLICE_ROWS = 30
"""Rows a slice needs to be reported."""


def evaluate(
    model: Model,
    declaration: Any,
    fitted: Any,
    parts: Mapping[str, XY],
    states: Mapping[str, Any],
    *,
    candidate: str,
    sources: Mapping[str, Code],
    hidden: Sequence[str],
    seed: int,
    out: Path,
    keys: Sequence[Sequence[str]] = (),
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Bundle a fitted model and evaluate what the bundle answers.

    Args:
        model: the model as described.
        declaration: the `mlops.model(...)` object: transform, label, metrics, tests.
        fitted: what the candidate returned.
        parts: features, label and rows of train, valid and test.
        states: the transform's further arguments.
        candidate: the candidate's name.
        sources: the project's modules, to cut the transform from.
        hidden: outcome columns.
        seed: of samples.
        out: an existing folder for the bundle.
        keys: the sources' declared keys, which name rows.

    Returns:
        bundle (a folder), predictions (a frame: row, keys, cluster, slices, label, prediction, metric.NAME) and trained (a
        frame: row, part), and the report: metrics, parity, behaviour tests, slices, notes.

    Raises:
        StepFailed: the model cannot be bundled, or the bundle answers otherwise than the model.
    """
    import numpy as np
    import polars as pl

    from mlops_local.engines.models import build, export, metrics, rows, rowwise, signature, transform

    label = label_of(declaration)
    test = parts["test"]
    seen = [name for name in test.rows.columns if name not in unseen(label, hidden)]
    y = test.y.cast(pl.Float64).to_numpy()
    binary = bool(np.isin(y, (0.0, 1.0)).all())
    real = pl.concat([test.X, parts["valid"].X])
    exported = export.export(fitted, test.X.columns, transform.matrix(real, real.columns), binary=binary)
    made = rowwise.Transform(declaration.features, states, model.rows)
    needed = rowwise.needed(made, _sample(parts["train"].rows, 64), seen)
    recipe = build.Recipe(
        model=model.name,
        candidate=candidate,
        signature=signature.describe(parts["train"].rows, needed, _gaps(parts, needed)),
        transform=model.features.name,
        source=build.transform_source(sources, model.features.module, model.features.name),
        rows=model.rows,
        states=states,
        label=model.label,
        metric=model.metric,
    )
    matrix = transform.matrix(test.X, exported.features)
    loaded = build.build(out, recipe, exported, test.rows, matrix)
    answers = pl.Series("prediction", build.answer(out, loaded, test.rows, matrix), dtype=pl.Float64)
    own, whole = _own_metrics(declaration, test, answers)
    identity = rows.identity(test.rows, keys, seen)
    predictions = _predictions(model, test, answers, own, identity)
    values = {name: metrics.metric(name)(y, answers.to_numpy()) for name in _wanted(model, y)}
    values |= {name: float(series.mean()) for name, series in own.items()} | whole
    report = {
        "metrics": {name: value for name, value in values.items() if np.isfinite(value)},
        "not_computed": sorted(name for name, value in values.items() if not np.isfinite(value)),
        "rows": {part: len(xy) for part, xy in parts.items()},
        "identity": list(identity),
        "form": exported.form,
        "reason": exported.reason,
        "output": exported.output["kind"],
        "parity": dict(exported.parity),
        "signature": list(needed),
        "tests": [_behaviour(function, loaded.predict, test.rows) for function in declaration.tests],
        "slices": _slices(model, predictions, test),
        "notes": _answer_notes(exported, answers),
        "whole": sorted(whole),
        "greater_is_better": {f.__name__: getattr(f.__mlops__, "greater_is_better", True) for f in declaration.metrics},
    }
    trained = pl.concat(
        pl.DataFrame({"row": rows.row_hashes(parts[part].rows, identity), "part": [part] * len(parts[part])})
        for part in ("train", "valid")
    )
    return {"bundle": out, "predictions": predictions, "trained": trained}, report


def _sample(rows: Any, count: int) -> Any:
    """Evenly spaced rows."""
    return rows if rows.height <= count else rows.gather_every(rows.height // count)


def _gaps(parts: Mapping[str, XY], names: Sequence[str]) -> dict[str, str]:
    """Columns with gaps anywhere in the data: rows like those already seen must not be refused."""
    from mlops_local.engines.models import signature

    found: dict[str, str] = {}
    for xy in parts.values():
        for name, kind in signature.gaps_in(xy.rows, names).items():
            found[name] = "null" if found.get(name) == "null" else kind
    return found


def _wanted(model: Model, y: Any) -> list[str]:
    from mlops_local.engines.models import metrics

    return [name for name in dict.fromkeys([model.metric, *metrics.usual(y)]) if name in metrics.names()]


def _own_metrics(declaration: Any, test: XY, answers: Any) -> tuple[dict[str, Any], dict[str, float]]:
    """The user's metrics: a series a row, or one number over all."""
    import polars as pl

    per_row: dict[str, Any] = {}
    whole: dict[str, float] = {}
    for function in declaration.metrics:
        value = function(test.y, answers, test.rows)
        if getattr(function.__mlops__, "whole", False):
            whole[function.__name__] = float(value)
            continue
        series = pl.Series(function.__name__, value).cast(pl.Float64) if hasattr(value, "__len__") else None
        if series is None or len(series) != len(test):
            raise StepFailed(
                f"metric '{function.__name__}' returned {type(value).__name__} for {len(test)} rows, not a value a row",
                hint="return one value a row, or declare it with @model.metric(whole=True)",
            )
        per_row[function.__name__] = series
    return per_row, whole


def _predictions(model: Model, test: XY, answers: Any, own: Mapping[str, Any], identity: Sequence[str]) -> Any:
    """The evaluation, a line a row: what names it, label, prediction, cluster, slices, own metrics."""
    import polars as pl

    from mlops_local.engines.models import rows

    wanted = dict.fromkeys(
        [*(identity if len(identity) <= 8 else ()), *([model.cluster] if model.cluster else []), *model.slices]
    )
    for name in wanted:
        if name not in test.rows.columns:
            raise StepFailed(
                f"model '{model.name}' names column '{name}' (cluster or slices), which the split's rows do not have",
                hint="add it in the split; it need not be a feature",
            )
    taken = {"row", "label", "prediction"}
    columns = [rows.row_hashes(test.rows, identity)]
    columns += [test.rows.get_column(name).alias(f"rows.{name}" if name in taken else name) for name in wanted]
    columns += [test.y.cast(pl.Float64).alias("label"), answers]
    return pl.DataFrame(columns + [series.alias(f"metric.{name}") for name, series in own.items()])


def _behaviour(function: Callable[..., Any], predict: Callable[[Any], Any], rows: Any) -> dict[str, str]:
    """Run a behaviour test; what it asserts or raises is its note."""
    import polars as pl

    def answered(frame: Any) -> Any:
        return pl.Series("prediction", predict(frame_of(frame)), dtype=pl.Float64)

    name = function.__name__
    try:
        function(answered, rows)
    except AssertionError as error:
        return {"name": name, "verdict": "fail", "note": str(error).split("\n")[0] or _line(error)}
    except Exception as error:  # noqa: BLE001 - a test that cannot run has not passed
        return {"name": name, "verdict": "fail", "note": f"raised {type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    return {"name": name, "verdict": "pass", "note": ""}


def _line(error: BaseException) -> str:
    """The asserting line itself."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return (last.line or linecache.getline(last.filename, last.lineno or 0)).strip()


def _slices(model: Model, predictions: Any, test: XY) -> dict[str, list[dict[str, Any]]]:
    """The primary metric by the values of each slice column."""
    import numpy as np

    from mlops_local.engines.models import metrics

    if model.metric not in metrics.names():
        return {}
    metric = metrics.metric(model.metric)
    found = {}
    for column in model.slices:
        groups = predictions.group_by(test.rows.get_column(column).alias("value"), maintain_order=True)
        lines = [
            {
                "value": str(value),
                "rows": group.height,
                "metric": metric(group["label"].to_numpy(), group["prediction"].to_numpy()),
            }
            for (value,), group in groups
            if group.height >= SLICE_ROWS
        ]
        kept = [line for line in lines if np.isfinite(line["metric"])]
        found[column] = sorted(kept, key=lambda line: (-line["rows"], line["value"]))[:SLICES]
    return found


def _answer_notes(exported: Any, answers: Any) -> list[str]:
    notes = []
    if exported.reason:
        notes.append(f"served with the native model: {exported.reason}")
    if exported.output["kind"] == "score":
        notes.append("answers lie outside 0..1, so log-loss and Brier have no value: apply the sigmoid in the model")
    if not answers.is_finite().all():
        notes.append(f"{int((~answers.is_finite()).sum())} answers are NaN or infinite")
    return notes
