"""A model's targets: one label and one answer a row, or several by name.

Whatever is computed for each target goes through here, so that a model with one label, whose target is called "", and a model
with several are treated alike. Names of metrics and columns say the target where there are several: `late.auc`, `label.late`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from mlops_local.domain.errors import StepFailed
from mlops_local.domain.graph import Model
from mlops_local.engines.models import metrics


def names(model: Model) -> tuple[str, ...]:
    """The targets; one without a name where the label is one expression."""
    return model.targets or ("",)


def primary(model: Model) -> tuple[str, str]:
    """The primary metric's target and its name there: `late.auc` is ("late", "auc")."""
    target, dot, name = model.metric.partition(".")
    return (target, name) if dot and target in model.targets else ("", model.metric)


def full(target: str, name: str) -> str:
    """A metric or column with its target: `late.auc`."""
    return f"{target}.{name}" if target else name


def column(name: str, target: str) -> str:
    """The column of predictions that holds a target's label or prediction: `label.late`."""
    return f"{name}.{target}" if target else name


def labels(model: Model, y: Any) -> dict[str, Any]:
    """Each target's label as numbers, from `XY.y`."""
    return {name: (y[name] if name else y).cast(pl.Float64) for name in names(model)}


def frame(model: Model, y: Mapping[str, Any], answers: Mapping[str, Any]) -> Any:
    """Labels and answers as a frame. With several targets the primary metric's stand in `label` and `prediction` too."""
    columns = []
    for name in names(model):
        columns += [y[name].alias(column("label", name)), answers[name].alias(column("prediction", name))]
    if model.targets:
        first = primary(model)[0] or model.targets[0]
        columns += [y[first].alias("label"), answers[first].alias("prediction")]
    return pl.DataFrame(columns)


def of_frame(model: Model, predictions: Any, name: str) -> dict[str, Any]:
    """Each target's labels or predictions back from a frame."""
    return {target: predictions[column(name, target)] for target in names(model)}


def given(model: Model, values: Mapping[str, Any]) -> Any:
    """Labels or answers as the user's functions take them: a series, or a frame with a column for each target."""
    return pl.DataFrame([values[name].alias(name) for name in model.targets]) if model.targets else values[""]


def values(model: Model, y: Mapping[str, Any], answers: Mapping[str, Any]) -> dict[str, float]:
    """The primary metric and the usual ones for such labels, by name; NaN where one has no value."""
    first, wanted = primary(model)
    found = {}
    for target in names(model):
        label, answer = y[target].to_numpy(), answers[target].to_numpy()
        for name in dict.fromkeys([*([wanted] if target == first else []), *metrics.usual(label)]):
            if name in metrics.names():
                found[full(target, name)] = metrics.metric(name)(label, answer)
    return found


def finite(found: Mapping[str, float]) -> dict[str, float]:
    """Those that are numbers."""
    return {name: value for name, value in found.items() if math.isfinite(value)}


def fitted(model: Model, made: Any, target: str) -> Any:
    """The model of one target.

    Raises:
        StepFailed: there are several targets and the candidate did not return a model for each.
    """
    if not target:
        return made
    if not isinstance(made, Mapping) or set(made) != set(model.targets):
        returned = f"models for {', '.join(map(str, made))}" if isinstance(made, Mapping) else f"a {type(made).__name__}"
        raise StepFailed(
            f"a candidate of '{model.name}' returned {returned}; its targets are {', '.join(model.targets)}",
            hint=f"return a dict with a model for each, as {{{', '.join(f'{name!r}: ...' for name in model.targets)}}}",
        )
    return made[target]


def pooled(model: Model, held_out: Sequence[Any], y: Mapping[str, Any]) -> dict[str, Any]:
    """The folds' answers one after the other, which is the order of the test rows.

    Raises:
        StepFailed: they are of other rows.
    """
    table = pl.concat(held_out)
    found = of_frame(model, table, "label")
    if any(not found[name].equals(y[name]) for name in names(model)):
        raise StepFailed(
            "the folds answered other rows than the split holds out",
            hint="the step that makes the rows gives them in another order each time: sort them",
        )
    return of_frame(model, table, "prediction")
