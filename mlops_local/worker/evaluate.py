"""The evaluate node of a model: bundle what a candidate fitted, and evaluate what the bundle answers.

Calls the user's metrics and behaviour tests and so runs in the worker's child. What it computes with is in `engines.models`,
imported when a node runs: whoever only describes a graph does without polars and onnx.
"""

from __future__ import annotations

import linecache
import math
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from mlops_local.domain.errors import StepFailed
from mlops_local.domain.graph import Model
from mlops_local.domain.xy import XY
from mlops_local.engines.models import targets
from mlops_local.worker.bundled import Node, bundle
from mlops_local.worker.features import divide, features, frame_of

__all__ = ["Node", "divide", "evaluate", "features", "score"]

HELD_OUT = "held out"
"""In `trained`: a row the bundle learned from, and whose kept answer is of a fold that did not."""

SLICES = 60
"""Values of a slice column that are reported, the most frequent first."""
SEEN_ROWS = 20_000
"""Rows of train and of valid on which the metric is also computed: evenly spaced ones where there are more."""
SLICE_ROWS = 30
"""Rows a slice needs to be reported."""


def score(node: Node) -> tuple[dict[str, Any], dict[str, Any]]:
    """Answer what a fold holds out, through a bundle of the fold's model.

    Returns:
        predictions (a frame: label, prediction, in the order of the test rows), and the report: metrics, rows, notes.

    Raises:
        StepFailed: the model cannot be bundled, or the bundle answers otherwise than the model.
    """
    done = bundle(node)
    y = targets.labels(node.model, node.parts["test"].y)
    report = {
        "metrics": targets.finite(targets.values(node.model, y, done.answers)),
        "rows": {part: len(xy) for part, xy in node.parts.items()},
        "notes": _answer_notes(done.exported, done.answers),
    }
    return {"predictions": targets.frame(node.model, y, done.answers)}, report


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
    from mlops_local.engines.models import rows

    model, declaration, parts, test = node.model, node.declaration, node.parts, node.parts["test"]
    y = targets.labels(model, test.y)
    done = bundle(node)
    answers = targets.pooled(model, held_out, y) if held_out else done.answers
    own, whole = _own_metrics(node, test, answers)
    identity = rows.identity(test.rows, node.keys, node.seen)
    predictions = _predictions(model, test, targets.frame(model, y, answers), own, identity)
    values = targets.values(model, y, answers)
    values |= {name: float(series.mean()) for name, series in own.items()} | whole
    report = {
        "metrics": targets.finite(values),
        "not_computed": sorted(set(values) - set(targets.finite(values))),
        "rows": {part: len(xy) for part, xy in parts.items()},
        "identity": list(identity),
        **_forms(done.exported),
        "seen": _seen(node, done.loaded, values if held_out else None),
        "signature": list(done.needed),
        "tests": [_behaviour(function, done.loaded, test.rows) for function in declaration.tests],
        "slices": _slices(model, predictions, test, node.private),
        "notes": _answer_notes(done.exported, answers),
        "whole": sorted(whole),
        "greater_is_better": {f.__name__: getattr(f.__mlops__, "greater_is_better", True) for f in declaration.metrics},
    }
    if held_out:
        report["folds"] = [
            {"fold": number, "rows": part.height, "metrics": targets.finite(targets.values(model, *_both(model, part)))}
            for number, part in enumerate(held_out, start=1)
        ]
    return {"bundle": node.out, "predictions": predictions, "trained": _trained(parts, identity, bool(held_out))}, report


def _seen(node: Node, loaded: Any, held_out: Mapping[str, float] | None) -> dict[str, float]:
    """The primary metric of what the bundle answers for rows it learned from, and for valid or what the folds held out."""
    name = node.model.metric
    found = {part: _primary(node, loaded, part) for part in ("train", *(() if held_out else ("valid",)))}
    return targets.finite({**found, "held out": held_out.get(name, math.nan)} if held_out else found)


def _primary(node: Node, loaded: Any, part: str) -> float:
    import numpy as np

    xy = node.parts[part]
    if len(xy) > SEEN_ROWS:
        at = np.linspace(0, len(xy) - 1, SEEN_ROWS).astype(int)
        xy = XY(xy.X[at], xy.y[at], xy.rows[at])
    table = loaded.table(xy.rows)
    answers = {name: table[name or "prediction"] for name in targets.names(node.model)}
    try:
        own, whole = _own_metrics(node, xy, answers)
    except Exception:  # noqa: BLE001 - a metric is made for the evaluation rows; elsewhere it may raise anything
        own, whole = {}, {}
    values = targets.values(node.model, targets.labels(node.model, xy.y), answers)
    return float({**values, **{key: series.mean() for key, series in own.items()}, **whole}.get(node.model.metric, math.nan))


def _both(model: Model, predictions: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return targets.of_frame(model, predictions, "label"), targets.of_frame(model, predictions, "prediction")


def _forms(exported: Mapping[str, Any]) -> dict[str, Any]:
    """How the model is served; with several targets, each by its name."""
    said = {
        name: {"form": one.form, "reason": one.reason, "output": one.output["kind"], "parity": dict(one.parity)}
        for name, one in exported.items()
    }
    return (
        said[""] if "" in said else {key: {name: one[key] for name, one in said.items()} for key in next(iter(said.values()))}
    )


def _trained(parts: Mapping[str, XY], identity: Sequence[str], folds: bool) -> Any:
    """The rows the bundle learned from; those that a fold held out apart, whose kept answers are not the bundle's."""
    import polars as pl

    from mlops_local.engines.models import rows

    held_out = set(rows.row_hashes(parts["test"].rows, identity)) if folds else set()

    def lines(part: str) -> Any:
        hashes = rows.row_hashes(parts[part].rows, identity)
        return pl.DataFrame({"row": hashes, "part": [HELD_OUT if row in held_out else part for row in hashes]})

    return pl.concat([lines(part) for part in ("train", "valid")])


def _own_metrics(node: Node, test: XY, answers: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """The user's metrics: a series a row, or one number over all."""
    import polars as pl

    per_row: dict[str, Any] = {}
    whole: dict[str, float] = {}
    for function in node.declaration.metrics:
        value = function(test.y, targets.given(node.model, answers), test.rows)
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


def _predictions(model: Model, test: XY, answered: Any, own: Mapping[str, Any], identity: Sequence[str]) -> Any:
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
    taken = {"row", *answered.columns}
    columns = [rows.row_hashes(test.rows, identity)]
    columns += [test.rows.get_column(name).alias(f"rows.{name}" if name in taken else name) for name in wanted]
    columns += answered.get_columns()
    return pl.DataFrame(columns + [series.alias(f"metric.{name}") for name, series in own.items()])


def _behaviour(function: Callable[..., Any], loaded: Any, rows: Any) -> dict[str, str]:
    """Run a behaviour test; what it asserts or raises is its note."""

    def answered(frame: Any) -> Any:
        table = loaded.table(frame_of(frame))
        return table if loaded.targets else table["prediction"]

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


def _slices(model: Model, predictions: Any, test: XY, private: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """The primary metric by the values of each slice column; private ones are numbered."""
    import numpy as np

    from mlops_local.engines.models import metrics

    name = targets.primary(model)[1]
    if name not in metrics.names():
        return {}
    metric = metrics.metric(name)
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
        for place, line in enumerate(found[column] if column in private else (), 1):
            line["value"] = f"(private {place})"
    return found


def _answer_notes(exported: Mapping[str, Any], answers: Mapping[str, Any]) -> list[str]:
    notes = []
    for target, one in exported.items():
        of = f"{target}: " if target else ""
        if one.reason:
            notes.append(f"{of}served with the native model: {one.reason}")
        if one.output["kind"] == "score":
            notes.append(f"{of}answers lie outside 0..1, so log-loss and Brier have no value: apply the sigmoid in the model")
        if not (known := answers[target].is_finite()).all():
            notes.append(f"{of}{int((~known).sum())} answers are NaN or infinite")
    return notes
