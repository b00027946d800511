"""Put a bundle together in a folder and prove it there: golden rows, equal features, answers from a fresh process."""

from __future__ import annotations

import io
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mlops_local.domain.assets import Column
from mlops_local.domain.errors import StepFailed
from mlops_local.engines.models import bundle, predictor, score, shake, transform
from mlops_local.engines.models.export import Exported

GOLDEN_ROWS = 50


@dataclass(frozen=True)
class Recipe:
    """What goes into a bundle besides the model."""

    model: str
    candidate: str
    signature: tuple[Column, ...]
    transform: str = ""
    """The function's name; empty: the raw columns are the features."""
    source: str = ""
    """transform.py."""
    rows: str = "frame"
    states: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    metric: str = ""


def build(folder: Path, recipe: Recipe, exported: Exported, rows: pl.DataFrame, matrix: Any) -> predictor.Predictor:
    """Write the bundle's files into an empty folder and load it.

    Args:
        folder: where to; exists.
        recipe: signature, transform, states.
        exported: the model.
        rows: raw rows; some become golden rows.
        matrix: the features training made of those rows, which the bundle must make too.

    Raises:
        StepFailed: the bundle makes other features of the rows than training did.
    """
    files = _files(recipe, exported)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    loaded = predictor.load(folder)
    _same_features(loaded, rows, matrix, exported.features)
    chosen = _spread(rows.height, GOLDEN_ROWS)
    golden = rows.select(column.name for column in recipe.signature)[chosen]
    answers = pl.Series(bundle.EXPECTED, loaded.score(np.ascontiguousarray(matrix[chosen])), dtype=pl.Float64)
    (folder / bundle.GOLDEN).write_bytes(_parquet(golden.with_columns(answers)))
    return predictor.load(folder)


def answer(folder: Path, loaded: predictor.Predictor, rows: pl.DataFrame, matrix: Any) -> Any:
    """What a fresh process, without the project and the training libraries, answers for those rows.

    Raises:
        StepFailed: it does not answer, or otherwise than the model does for the features training made.
    """
    wanted = rows.select(column.name for column in loaded.signature)
    served = score.fresh(folder, wanted).to_numpy()
    own = loaded.score(matrix)
    off = ~np.isclose(served, own, rtol=predictor.TOLERANCE, atol=predictor.TOLERANCE, equal_nan=True)
    if off.any():
        at = int(np.argmax(off))
        raise StepFailed(
            f"the bundle answers {int(off.sum())} of {len(own)} rows otherwise than training: row {at} {served[at]}, {own[at]}",
            hint="the transform depends on something outside the bundle, such as a file, a variable or the time",
        )
    return served


def _files(recipe: Recipe, exported: Exported) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    states = []
    for name in sorted(recipe.states):
        state, data = transform.save_state(name, recipe.states[name])
        states.append(state)
        files[state.file] = data
    imported = shake.imports(recipe.source) & score.BLOCKED if recipe.source else frozenset()
    if recipe.rows == "pandas":
        imported |= {"pandas"}
    if recipe.source:
        files[bundle.TRANSFORM] = recipe.source.encode()
    if exported.onnx:
        files[bundle.ONNX] = exported.onnx
    if exported.native:
        files[exported.native_file] = exported.native
    manifest = bundle.Manifest(
        model=recipe.model,
        candidate=recipe.candidate,
        signature=recipe.signature,
        features=exported.features,
        form=exported.form,
        library=exported.library,
        native=exported.native_file,
        reason=exported.reason,
        output=exported.output,
        transform=recipe.transform,
        rows=recipe.rows,
        states=tuple(states),
        needs=tuple(sorted({*exported.needs, *imported})),
        parity=exported.parity,
        label=recipe.label,
        metric=recipe.metric,
        environment={"python": platform.python_version(), "polars": pl.__version__, "numpy": np.__version__},
    )
    return {**files, bundle.MANIFEST: bundle.write_manifest(manifest)}


def _same_features(loaded: predictor.Predictor, rows: pl.DataFrame, matrix: Any, names: Sequence[str]) -> None:
    chosen = _spread(rows.height, 2000)
    try:
        made = loaded.features(rows[chosen])
    except Exception as error:
        raise StepFailed(
            f"the bundle's copy of the transform raises {type(error).__name__}: {' '.join(str(error).split())[:300]}",
            hint="see its transform.py: what is reached only by name at run time (getattr, globals) is not in it",
        ) from error
    same = np.isclose(made, matrix[chosen], rtol=1e-6, atol=1e-6, equal_nan=True)
    if not same.all():
        column = names[int(np.argmin(same.all(axis=0)))]
        raise StepFailed(
            f"the bundle's transform makes another '{column}' than training did, on {int((~same).any(axis=1).sum())} rows",
            hint="a transform is its rows and its states: no files, no clock, no variables set elsewhere",
        )


def _spread(count: int, wanted: int) -> Any:
    """Positions of evenly spaced rows, first and last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(np.int64))


def _parquet(frame: pl.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.write_parquet(sink)
    return sink.getvalue()


def transform_source(sources: Mapping[str, Any], module: str, name: str) -> str:
    """The transform's source for a bundle.

    Raises:
        StepFailed: the function is not a top-level one of the project.
    """
    try:
        return shake.shake(sources, module, name)
    except KeyError as error:
        raise StepFailed(
            f"the transform {module}.{name} is not a top-level function of the project", hint="define it with `def` in a module"
        ) from error
