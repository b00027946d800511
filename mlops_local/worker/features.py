"""The split and features nodes of a model: divide rows in folds, and turn the parts into features and label.

Calls the user's transform and label and so runs in the worker's child. Outcome columns and what the label is made of never
reach the transform; a transform that looks beyond its row is refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

from mlops_local.domain import checks
from mlops_local.domain.errors import StepFailed
from mlops_local.domain.graph import Model, Source, Step
from mlops_local.domain.splits import from_text
from mlops_local.domain.xy import XY
from mlops_local.worker import leaks

PARTS = ("train", "valid", "test")
_FLOAT32_WHOLE = 1 << 24


def divide(step: Step, declaration: Any, rows: Any, *, seed: int) -> dict[str, Any]:
    """Divide rows as the split says.

    Args:
        step: the split, whole or one fold of it.
        declaration: the model whose label's shares are kept; None where none are.
        rows: all rows.
        seed: of the draw, the same for all folds.

    Raises:
        StepFailed: the rows cannot be divided so.
    """
    from mlops_local.engines.models import splits

    frame = frame_of(rows)
    label = _label(frame, label_of(declaration), step.model) if declaration is not None else None
    return dict(splits.parts(frame, from_text(step.extras["split"]), step.fold, seed=seed, label=label))


def features(
    model: Model,
    declaration: Any,
    parts: Mapping[str, Any],
    states: Mapping[str, Any],
    *,
    hidden: Sequence[str],
    seed: int,
    sources: Sequence[Source] = (),
    fold: int = 0,
) -> tuple[dict[str, XY], dict[str, Any]]:
    """Turn each part's rows into features and label.

    Args:
        model: the model as described.
        declaration: the `mlops.model(...)` object: transform and label.
        parts: train, valid and test rows, as the split returned them.
        states: the transform's further arguments.
        hidden: outcome columns; neither they nor the label's columns reach the transform.
        seed: of the row-wise check's sample.
        sources: the pipeline's, which say what names a row and which columns are not shown.
        fold: which one this is; 0: none, or all of them together.

    Returns:
        An XY a part, and the report: rows, dropped rows, notes, what looks like a leak.

    Raises:
        StepFailed: the label or the transform does not fit the rows, or the transform is not row-wise.
    """
    import polars as pl

    from mlops_local.engines.models import rowwise

    made = rowwise.Transform(declaration.features, states, model.rows)
    label = label_of(declaration)
    outputs: dict[str, XY] = {}
    report: dict[str, Any] = {"rows": {}, "dropped": {}, "notes": []}
    for part in PARTS:
        rows = frame_of(parts[part])
        y = _labels(rows, label, model.name)
        labelled = _known(y)
        report["dropped"][part] = int((~labelled).sum())
        rows, y = rows.filter(labelled), y.filter(labelled)
        report["rows"][part] = rows.height
        if rows.height == 0:
            raise StepFailed(
                f"{part} has no row with a label ({report['dropped'][part]} without)", hint="look at the split and the label"
            )
        seen = rows.drop(unseen(label, hidden), strict=False)
        frame = _made(made, seen, unseen(label, hidden))
        _numbers(frame)
        if part != "valid":
            rowwise.check(made, seen, frame, seed=seed)
        report["notes"] += [note for note in _notes(frame, part) if note not in report["notes"]]
        # One cast at one place: LightGBM compares in float64 and ONNX in float32, so both are given float32.
        outputs[part] = XY(frame.select(pl.all().cast(pl.Float32)), y, rows)
    _one_schema(outputs)
    leaking = leaks.found(
        model,
        outputs["train"],
        outputs["test"],
        fold=fold,
        key=[name for source in sources for name in source.key],
        private=[name for source in sources for name in source.private],
    )
    report["findings"] = [checks.to_json(item) for item in leaking]
    report["features"] = outputs["train"].X.columns
    report["label"] = {part: _means(xy.y) for part, xy in outputs.items()}
    return outputs, report


def frame_of(value: Any) -> Any:
    """A part of the split as a polars frame, in its order."""
    import polars as pl

    if isinstance(value, pl.LazyFrame):
        return value.collect(engine="in-memory")  # the streaming engine may reorder rows
    if isinstance(value, pl.DataFrame):
        return value
    if type(value).__module__.split(".")[0] == "pandas":
        return pl.DataFrame({str(name): _from_pandas(value[name]) for name in value.columns})
    raise StepFailed(f"a part of the split is a {type(value).__name__}, not a frame", hint="return frames of raw rows")


def _from_pandas(column: Any) -> Any:
    """A pandas column without pyarrow: numbers and times as numpy, the rest as a list with None for gaps."""
    import polars as pl

    if column.dtype.kind in "biufmM":
        return pl.Series(column.to_numpy())
    return pl.Series([None if gone else value for value, gone in zip(column.tolist(), column.isna().tolist(), strict=True)])


def label_of(declaration: Any) -> Any:
    """The label as an expression, or several by target; a column's name will do for one."""
    import polars as pl

    def expression(label: Any) -> Any:
        return pl.col(label) if isinstance(label, str) else label

    given = declaration.label
    return {name: expression(one) for name, one in given.items()} if isinstance(given, Mapping) else expression(given)


def unseen(label: Any, hidden: Sequence[str]) -> list[str]:
    """Columns the transform never sees."""
    expressions = label.values() if isinstance(label, Mapping) else [label]
    return [*dict.fromkeys([*hidden, *(name for one in expressions for name in one.meta.root_names())])]


def _labels(rows: Any, label: Any, model: str) -> Any:
    """The label of each row, or a column for each target."""
    import polars as pl

    if not isinstance(label, Mapping):
        return _label(rows, label, model)
    return pl.DataFrame([_label(rows, one, model).alias(name) for name, one in label.items()])


def _known(y: Any) -> Any:
    """Which rows have a label, for every target."""
    columns = y.get_columns() if hasattr(y, "get_columns") else [y]
    return reduce(lambda known, column: known & column.is_not_null(), columns[1:], columns[0].is_not_null())


def _means(y: Any) -> Any:
    import polars as pl

    if hasattr(y, "get_columns"):
        return {column.name: _means(column) for column in y.get_columns()}
    return float(y.cast(pl.Float64).mean())


def _label(rows: Any, label: Any, model: str) -> Any:
    """The label of each row; null where there is none."""
    import polars as pl

    missing = [name for name in label.meta.root_names() if name not in rows.columns]
    if missing:
        near = difflib.get_close_matches(missing[0], rows.columns, n=1)
        raise StepFailed(
            f"the label of '{model}' reads column '{missing[0]}', which the split's rows do not have",
            hint=f"did you mean '{near[0]}'?" if near else f"they have: {', '.join(rows.columns[:20])}",
        )
    y = rows.select(label.alias("label")).to_series()
    if len(y) != rows.height:
        raise StepFailed(f"the label of '{model}' is one value for all rows", hint="an expression per row, as pl.col(...) > 0")
    if y.dtype == pl.Boolean:
        # pandas writes gaps as NaN, and polars holds NaN for greater than any number: a gap would be a positive.
        known = [~rows.get_column(name).is_nan() for name in label.meta.root_names() if rows.schema[name].is_float()]
        return reduce(lambda made, here: made.set(~here.fill_null(False), None), known, y).cast(pl.Int8)
    if y.dtype.is_decimal():
        y = y.cast(pl.Float64)
    if y.dtype.is_float():
        return y.set(~y.is_finite().fill_null(False), None)
    if not y.dtype.is_integer():
        raise StepFailed(
            f"the label of '{model}' is {y.dtype}; a label is a number or a boolean",
            hint='compare it, as in pl.col("answer") == "yes"',
        )
    return y


def _made(made: Callable[[Any], Any], seen: Any, hidden: Sequence[str]) -> Any:
    """The transform's features; a read of a hidden column is said as such."""
    try:
        return made(seen)
    except Exception as error:
        text = str(error)
        found = next((name for name in hidden if f'"{name}"' in text or f"'{name}'" in text or text == name), None)
        if found is not None and type(error).__name__ in {"ColumnNotFoundError", "KeyError"}:
            raise StepFailed(
                f"the transform reads '{found}', which is known only afterwards (an outcome, or what the label is made of)",
                hint="a served row will not have it; leave it out of the features",
            ) from error
        raise


def _numbers(frame: Any) -> None:
    import polars as pl

    for name, dtype in frame.schema.items():
        if not (dtype.is_numeric() or dtype in (pl.Boolean, pl.Null)):
            raise StepFailed(
                f"feature '{name}' is {dtype}, and a model takes numbers",
                hint="encode it in the transform, with a state learned on `train` where it needs one",
            )
    if not frame.width:
        raise StepFailed("the transform returned no column", hint="return the features, one column each")


def _notes(frame: Any, part: str) -> list[str]:
    """What float32 or a broken join would hide."""
    notes = []
    for series in frame.get_columns():
        if series.null_count() == len(series):
            notes.append(f"feature '{series.name}' is empty in {part}")
        elif series.dtype.is_integer() and max(abs(series.min()), abs(series.max())) > _FLOAT32_WHOLE:
            notes.append(f"feature '{series.name}' holds whole numbers beyond 16,777,216, which float32 cannot tell apart")
    return notes


def _one_schema(outputs: Mapping[str, XY]) -> None:
    train = outputs["train"].X.columns
    for part, xy in outputs.items():
        if xy.X.columns != train:
            names = sorted(set(train) ^ set(xy.X.columns)) or train
            raise StepFailed(
                f"the transform makes other columns of {part} than of train: '{names[0]}'",
                hint="name the categories in a state learned on `train`",
            )
