"""The evaluate node of a model: bundle what a candidate fitted, and evaluate what the bundle answers.

Calls the user's metrics and behaviour tests and so runs in the worker's child. What it computes with is in `engines.models`,
imported when a node runs: whoever only describes a graph does without polars and onnx.
"""

from __future__ import annotations

import linecache
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_local.domain.errors import StepFailed
from mlops_local.domain.graph import Model
from mlops_local.domain.jobs import Code
from mlops_local.domain.xy import XY
from mlops_local.worker.features import divide, features, frame_of, label_of, unseen

__all__ = ["Node", "divide", "evaluate", "features", "score"]

HELD_OUT = "held out"
"""In `trained`: a row the bundle learned from, and whose kept answer is of a fold that did not."""

SLICES = 60
"""Values of a slice column that are reported, the most frequent first."""
SEEN_ROWS = 20_000
"""Rows of train and of valid on which the metric is also computed: evenly spaced ones where there are more."""
SLICE_ROWS = 30
"""Rows a slice needs to be reported."""


@dataclass(frozen=True)
class Node:
    """A fitted model and all it takes to bundle it and answer rows with it."""

    model: Model
    declaration: Any
    """The `mlops.model(...)` object: transform, label, metrics, tests."""
    fitted: Any
    """What the candidate returned."""
    parts: Mapping[str, XY]
    """Features, label and rows of train, valid and test."""
    states: Mapping[str, Any]
    """The transform's further arguments."""
    candidate: str
    sources: Mapping[str, Code]
    """The project's modules, to cut the transform from."""
    hidden: Sequence[str]
    """Outcome columns."""
    out: Path
    """An existing folder for the bundle."""
    keys: Sequence[Sequence[str]] = ()
    """The sources' declared keys, which name rows."""

    @property
    def seen(self) -> list[str]:
        """The raw columns the transform may see."""
        hidden = unseen(label_of(self.declaration), self.hidden)
        return [name for name in self.parts["test"].rows.columns if name not in hidden]


@dataclass(frozen=True)
class _Answered:
    """A bundle that was made, and what it answers for the test rows in a fresh process."""

    exported: Any
    loaded: Any
    needed: Sequence[str]
    """The raw columns it asks for."""
    answers: Any


def score(node: Node) -> tuple[dict[str, Any], dict[str, Any]]:
    """Answer what a fold holds out, through a bundle of the fold's model.

    Returns:
        predictions (a frame: label, prediction, in the order of the test rows), and the report: metrics, rows, notes.

    Raises:
        StepFailed: the model cannot be bundled, or the bundle answers otherwise than the model.
    """
    import polars as pl

    test = node.parts["test"]
    done = _answered(node)
    label = test.y.cast(pl.Float64).alias("label")
    values = _values(node.model, label.to_numpy(), done.answers.to_numpy())
    report = {
        "metrics": _finite(values),
        "rows": {part: len(xy) for part, xy in node.parts.items()},
        "notes": _answer_notes(done.exported, done.answers),
    }
    return {"predictions": pl.DataFrame([label, done.answers])}, report


def evaluate(node: Node, held_out: Sequence[Any] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """Bundle a fitted model and evaluate what the bundle answers; with folds, what theirs answered for the rows they held out.

    Args:
        node: the model and its rows.
        held_out: the folds' predictions in their order; test is their rows one after the other.

    Returns:
        bundle (a folder), predictions (a frame: row, keys, cluster, slices, label, prediction, metric.NAME) and trained (a
        frame: row, part), and the report: metrics, parity, behaviour tests, slices, notes.

    Raises:
        StepFailed: the model cannot be bundled, or the bundle answers otherwise than the model.
    """
    import polars as pl

    from mlops_local.engines.models import rows

    model, declaration, parts, test = node.model, node.declaration, node.parts, node.parts["test"]
    y = test.y.cast(pl.Float64).to_numpy()
    done = _answered(node)
    answers = _pooled(held_out, y) if held_out else done.answers
    own, whole = _own_metrics(declaration, test, answers)
    identity = rows.identity(test.rows, node.keys, node.seen)
    predictions = _predictions(model, test, answers, own, identity)
    values = _values(model, y, answers.to_numpy())
    values |= {name: float(series.mean()) for name, series in own.items()} | whole
    report = {
        "metrics": _finite(values),
        "not_computed": sorted(set(values) - set(_finite(values))),
        "rows": {part: len(xy) for part, xy in parts.items()},
        "identity": list(identity),
        "form": done.exported.form,
        "reason": done.exported.reason,
        "output": done.exported.output["kind"],
        "parity": dict(done.exported.parity),
        "seen": _seen(node, done.loaded, values if held_out else None),
        "signature": list(done.needed),
        "tests": [_behaviour(function, done.loaded.predict, test.rows) for function in declaration.tests],
        "slices": _slices(model, predictions, test),
        "notes": _answer_notes(done.exported, answers),
        "whole": sorted(whole),
        "greater_is_better": {f.__name__: getattr(f.__mlops__, "greater_is_better", True) for f in declaration.metrics},
    }
    if held_out:
        report["folds"] = [
            {"fold": number, "rows": part.height, "metrics": _finite(_values(model, *_both(part)))}
            for number, part in enumerate(held_out, start=1)
        ]
    return {"bundle": node.out, "predictions": predictions, "trained": _trained(parts, identity, bool(held_out))}, report


def _answered(node: Node) -> _Answered:
    """Export and bundle the fitted model, and ask the bundle for the test rows."""
    import numpy as np
    import polars as pl

    from mlops_local.engines.models import build, export, rowwise, signature, transform

    model, parts, test = node.model, node.parts, node.parts["test"]
    binary = bool(np.isin(test.y.cast(pl.Float64).to_numpy(), (0.0, 1.0)).all())
    real = pl.concat([test.X, parts["valid"].X])
    exported = export.export(node.fitted, test.X.columns, transform.matrix(real, real.columns), binary=binary)
    made = rowwise.Transform(node.declaration.features, node.states, model.rows)
    needed = rowwise.needed(made, _sample(parts["train"].rows, 64), node.seen)
    recipe = build.Recipe(
        model=model.name,
        candidate=node.candidate,
        signature=signature.describe(parts["train"].rows, needed, _gaps(parts, needed)),
        transform=model.features.name,
        source=build.transform_source(node.sources, model.features.module, model.features.name),
        rows=model.rows,
        states=node.states,
        label=model.label,
        metric=model.metric,
    )
    matrix = transform.matrix(test.X, exported.features)
    loaded = build.build(node.out, recipe, exported, test.rows, matrix)
    answers = pl.Series("prediction", build.answer(node.out, loaded, test.rows, matrix), dtype=pl.Float64)
    return _Answered(exported, loaded, needed, answers)


def _seen(node: Node, loaded: Any, held_out: Mapping[str, float] | None) -> dict[str, float]:
    """The primary metric of what the bundle answers for rows it learned from, and for valid or what the folds held out."""
    name = node.model.metric
    found = {part: _primary(node, loaded, part) for part in ("train", *(() if held_out else ("valid",)))}
    return _finite({**found, "held out": held_out.get(name, math.nan)} if held_out else found)


def _primary(node: Node, loaded: Any, part: str) -> float:
    import numpy as np
    import polars as pl

    xy = node.parts[part]
    if len(xy) > SEEN_ROWS:
        at = np.linspace(0, len(xy) - 1, SEEN_ROWS).astype(int)
        xy = XY(xy.X[at], xy.y[at], xy.rows[at])
    answers = pl.Series("prediction", loaded.predict(xy.rows), dtype=pl.Float64)
    try:
        own, whole = _own_metrics(node.declaration, xy, answers)
    except Exception:  # noqa: BLE001 - a metric is made for the evaluation rows; elsewhere it may raise anything
        own, whole = {}, {}
    values = _values(node.model, xy.y.cast(pl.Float64).to_numpy(), answers.to_numpy())
    return float({**values, **{key: series.mean() for key, series in own.items()}, **whole}.get(node.model.metric, math.nan))


def _pooled(held_out: Sequence[Any], y: Any) -> Any:
    """The folds' answers one after the other, which is the order of the test rows."""
    import numpy as np
    import polars as pl

    pooled = pl.concat(held_out)
    if not np.array_equal(pooled["label"].to_numpy(), y):
        raise StepFailed(
            "the folds answered other rows than the split holds out",
            hint="the step that makes the rows gives them in another order each time: sort them",
        )
    return pooled["prediction"]


def _both(predictions: Any) -> tuple[Any, Any]:
    return predictions["label"].to_numpy(), predictions["prediction"].to_numpy()


def _trained(parts: Mapping[str, XY], identity: Sequence[str], folds: bool) -> Any:
    """The rows the bundle learned from; those that a fold held out apart, whose kept answers are not the bundle's."""
    import polars as pl

    from mlops_local.engines.models import rows

    held_out = set(rows.row_hashes(parts["test"].rows, identity)) if folds else set()

    def lines(part: str) -> Any:
        hashes = rows.row_hashes(parts[part].rows, identity)
        return pl.DataFrame({"row": hashes, "part": [HELD_OUT if row in held_out else part for row in hashes]})

    return pl.concat([lines(part) for part in ("train", "valid")])


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


def _values(model: Model, y: Any, p: Any) -> dict[str, float]:
    """The primary metric and the usual ones for such a label; NaN where one has no value."""
    from mlops_local.engines.models import metrics

    names = [name for name in dict.fromkeys([model.metric, *metrics.usual(y)]) if name in metrics.names()]
    return {name: metrics.metric(name)(y, p) for name in names}


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}


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
