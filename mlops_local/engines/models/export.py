"""Turn a fitted model into what is served: ONNX where it agrees with the model on real rows, else the model itself.

LightGBM compares in float64, ONNX in float32: thresholds are floored to float32 first, without which up to one row in ten was
wrong (measured). Parity is measured on real rows every time and kept with the version. Bytes are made reproducible: equal
models are equal bundles, and no path of this machine stays in them.

The library of the model is imported already by whoever fitted it; onnx and the converters are imported where they are used.
"""

from __future__ import annotations

import importlib.metadata
import io
import logging
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from mlops_local.domain.errors import MlopsError, StepFailed
from mlops_local.engines.models.predictor import one_column, onnx_score

TOLERANCE = 1e-4
"""Largest difference between ONNX and native on a row, absolute or relative to the answer."""
PARITY_ROWS = 10_000
"""Rows compared: all up to this many, then evenly spaced ones."""
LEAST = 2_000
"""Below this many rows parity is measured on all there are, and the record says so."""

Score = Callable[[Any], Any]
"""float32 matrix -> one float64 a row."""


@dataclass(frozen=True)
class Exported:
    """A model as it goes into a bundle."""

    form: str
    """onnx or native."""
    library: str
    """`lightgbm 4.7.0`."""
    features: tuple[str, ...]
    """Columns it takes, in its order."""
    onnx: bytes = b""
    native_file: str = ""
    native: bytes = b""
    output: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    """Why the native form is served."""
    needs: tuple[str, ...] = ()
    parity: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Native:
    """A model in its own library: how it answers, how it is kept, how it becomes ONNX."""

    library: str
    features: tuple[str, ...]
    score: Score
    to_onnx: Callable[[], tuple[bytes, dict[str, Any]]]
    file: str = ""
    data: bytes = b""


def export(model: Any, features: Sequence[str], matrix: Any, *, binary: bool) -> Exported:
    """Export a fitted model.

    Args:
        model: a LightGBM booster or estimator, a torch module, a scikit-learn estimator or an ONNX model.
        features: the columns of `matrix`.
        matrix: real rows as float32, what the model sees when it is served.
        binary: the label is 0/1, so answers should be probabilities.

    Raises:
        StepFailed: a model of another kind, or one whose answers have another shape than one number a row.
    """
    native = _native(model, tuple(features), binary)
    if native.features != tuple(features):
        matrix = matrix[:, [list(features).index(name) for name in native.features]]
    rows = _sample(matrix)
    with _quiet():
        own = native.score(rows)
        kind = _kind(own, binary)
        try:
            onnx, output = native.to_onnx()
            parity, reason = _parity(onnx, output, rows, own, binary)
        except Exception as error:  # noqa: BLE001 - converters raise anything; the native form stands in
            onnx, output, parity = b"", {}, {"rows": 0}
            reason = _failure(error)
    if reason and not native.file:
        raise StepFailed(
            f"{_article(type(model).__name__)} cannot be bundled: {reason}",
            hint="return a LightGBM booster, a torch module, or a scikit-learn estimator that skl2onnx can convert; "
            "the converter has to be installed in the project's environment",
        )
    name = native.library.split()[0]
    return Exported(
        form="native" if reason else "onnx",
        library=native.library,
        features=native.features,
        onnx=b"" if reason else onnx,
        native_file=native.file,
        native=native.data,
        output={**output, "kind": kind},
        reason=reason,
        needs=(name,) if reason else (),
        parity=parity,
    )


def _failure(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"ONNX export needs {error.name}, which is not installed in the project's environment"
    return f"ONNX export failed: {_first_line(error)}"


def floor32(text: str) -> str:
    """A LightGBM model text whose numerical thresholds are the largest float32 not above them.

    A float32 value is at most the threshold exactly if it is at most the floored one, so no answer changes for float32 rows.
    """
    made: list[str] = []
    thresholds: list[str] = []
    at = -1
    for line in text.split("\n"):
        if line.startswith("tree_sizes="):
            continue  # byte sizes of the trees, wrong now; without them LightGBM reads tree by tree
        if line.startswith("threshold="):
            thresholds, at = line[len("threshold=") :].split(), len(made)
        elif line.startswith("decision_type=") and at >= 0:
            kinds = line[len("decision_type=") :].split()
            floored = [t if int(k) & 1 else repr(_floor32(float(t))) for t, k in zip(thresholds, kinds, strict=True)]
            made[at] = "threshold=" + " ".join(floored)
        made.append(line)
    return "\n".join(made)


def _floor32(value: float) -> float:
    with np.errstate(over="ignore"):
        nearest = np.float32(value)
    # As Python floats: numpy would round the threshold to float32 before comparing.
    return float(nearest if float(nearest) <= value else np.nextafter(nearest, np.float32(-np.inf)))


def _native(model: Any, features: tuple[str, ...], binary: bool) -> _Native:
    bases = {base.__module__.split(".")[0] for base in type(model).__mro__}
    if "lightgbm" in bases:
        return _lightgbm(getattr(model, "booster_", model), features)
    if "torch" in bases and hasattr(model, "forward"):
        return _torch(_one_argument(model) if "keras" in bases else model, features)
    if "sklearn" in bases:
        return _sklearn(model, features, binary)
    if "onnx" in bases and hasattr(model, "SerializeToString"):
        return _ready(model, features)
    raise StepFailed(
        f"a candidate returned {_article(type(model).__name__)}, which is not a model that can be served",
        hint="return a LightGBM booster, a torch module, a scikit-learn estimator or an ONNX model",
    )


def _lightgbm(booster: Any, features: tuple[str, ...]) -> _Native:
    text = booster.model_to_string()  # of the best iteration, where early stopping found one
    names = tuple(booster.feature_name())
    if not set(names) <= set(features):
        if len(names) != len(features):
            raise StepFailed(
                f"the model was fitted on {len(names)} features, and the transform makes {len(features)}",
                hint="fit on train.X or on some of its columns by name",
            )
        names = features  # LightGBM replaces characters in names, and numpy input has none

    def to_onnx() -> tuple[bytes, dict[str, Any]]:
        import lightgbm  # noqa: PLC0415 - seconds; whoever fitted the model has it loaded
        from onnxmltools import convert_lightgbm  # noqa: PLC0415 - a second, only for this kind
        from onnxmltools.convert.common.data_types import FloatTensorType  # noqa: PLC0415 - a second, only for this kind

        floored = lightgbm.Booster(model_str=floor32(text))
        made = convert_lightgbm(floored, initial_types=[("rows", FloatTensorType([None, len(names)]))], zipmap=False)
        return _finish(made)

    def score(rows: Any) -> Any:
        return booster.predict(rows)

    return _Native(_version("lightgbm"), names, _flat(score), to_onnx, "native/model.txt", text.encode())


def _torch(module: Any, features: tuple[str, ...]) -> _Native:
    import torch  # noqa: PLC0415 - seconds; whoever fitted the model has it loaded

    module = module.eval().cpu()
    rows = torch.zeros((4, len(features)))

    def score(given: Any) -> Any:
        with torch.inference_mode():
            return module(torch.from_numpy(given)).numpy()

    with _quiet():
        try:
            program = torch.export.export(module, (rows,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1 << 20)},))
        except Exception as error:
            raise StepFailed(
                f"the torch module cannot be exported: {_first_line(error)}",
                hint="its forward takes one float32 matrix [n, features], returns [n] or [n, 1] and does not branch on values",
            ) from error
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # holds this machine's paths
        sink = io.BytesIO()
        torch.export.save(program, sink)

    def to_onnx() -> tuple[bytes, dict[str, Any]]:
        made = torch.onnx.export(program, (rows,), dynamo=True, verbose=False)
        assert made is not None  # only the deprecated exporter returns nothing
        return _finish(made.model_proto)

    return _Native(_version("torch"), features, _flat(score), to_onnx, "native/model.pt2", sink.getvalue())


def _one_argument(model: Any) -> Any:
    """A Keras model (on the torch backend it is a module) as a module whose forward takes the rows and nothing else."""
    import torch  # noqa: PLC0415 - Keras has it loaded

    class Rows(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, rows: Any) -> Any:
            return self.model(rows)

    return Rows()


def _sklearn(model: Any, features: tuple[str, ...], binary: bool) -> _Native:
    names = tuple(str(name) for name in getattr(model, "feature_names_in_", features))
    if not set(names) <= set(features):
        names = features
    classifier = hasattr(model, "predict_proba") and binary

    def score(rows: Any) -> Any:
        if hasattr(model, "feature_names_in_"):
            rows = pl.DataFrame(rows, schema=list(names))
        return model.predict_proba(rows)[:, 1] if classifier else model.predict(rows)

    def to_onnx() -> tuple[bytes, dict[str, Any]]:
        from skl2onnx import convert_sklearn  # noqa: PLC0415 - a second, only for this kind
        from skl2onnx.common.data_types import FloatTensorType  # noqa: PLC0415 - a second, only for this kind

        options = {id(model): {"zipmap": False}} if classifier else None
        made = convert_sklearn(model, initial_types=[("rows", FloatTensorType([None, len(names)]))], options=options)
        return _finish(made)

    return _Native(_version("scikit-learn"), names, _flat(score), to_onnx)


def _ready(model: Any, features: tuple[str, ...]) -> _Native:
    data, output = _finish(model)

    def score(rows: Any) -> Any:
        return onnx_score(data, output)(rows)

    return _Native("onnx", features, score, lambda: (data, output))


def _finish(model: Any) -> tuple[bytes, dict[str, Any]]:
    """Make a converted model reproducible and say which of its outputs is the answer."""
    model.graph.name = "model"  # LightGBM's converter draws a random one
    model.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]  # torch notes the source lines of this machine here
    del model.graph.metadata_props[:]
    outputs = {item.name: item for item in model.graph.output}
    for item in outputs.values():
        dims = item.type.tensor_type.shape.dim
        if len(dims) == 1 and dims[0].dim_value == 1:
            dims[0].dim_param = "N"  # declared as one label; onnxruntime warned on every batch
    name = "probabilities" if "probabilities" in outputs else model.graph.output[-1].name
    return model.SerializeToString(deterministic=True), {"name": name, "column": 1 if name == "probabilities" else None}


def _parity(onnx: bytes, output: Mapping[str, Any], rows: Any, own: Any, binary: bool) -> tuple[dict[str, Any], str]:
    """Compare both forms; the text says why ONNX is refused, or is empty."""
    served = onnx_score(onnx, output)(rows)
    with np.errstate(invalid="ignore"):
        difference = np.abs(served - own)
    difference[np.isnan(served) & np.isnan(own)] = 0.0
    off = ~(difference <= TOLERANCE * np.maximum(1.0, np.abs(own)))
    record = {
        "rows": len(own),
        "max_difference": float(np.nanmax(difference)) if len(own) else 0.0,
        "above_tolerance": int(off.sum()),
        "tolerance": TOLERANCE,
        "flips": int(((served >= 0.5) != (own >= 0.5)).sum()) if binary else None,
        "few_rows": len(own) < LEAST,
    }
    reason = f"ONNX differs from the native model on {int(off.sum())} of {len(own)} rows, by up to {np.nanmax(difference):.2g}"
    return record, reason if off.any() else ""


def _sample(matrix: Any) -> Any:
    if len(matrix) <= PARITY_ROWS:
        return matrix
    return np.ascontiguousarray(matrix[np.linspace(0, len(matrix) - 1, PARITY_ROWS).astype(int)])


def _kind(own: Any, binary: bool) -> str:
    """What the answers are: probability, score (a 0/1 label answered outside 0..1) or value."""
    if not binary:
        return "value"
    return "probability" if ((own >= 0) & (own <= 1)).all() else "score"


def _flat(score: Score) -> Score:
    def checked(rows: Any) -> Any:
        return one_column(score(rows), len(rows))

    return checked


def _version(distribution: str) -> str:
    return f"{distribution} {importlib.metadata.version(distribution)}"


def _first_line(error: BaseException) -> str:
    text = error.message if isinstance(error, MlopsError) else re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


class _quiet:
    """Silence converters: their warnings concern their own internals and would fill every step's log."""

    def __enter__(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        self._loggers = [
            logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "skl2onnx")
        ]
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *raised: object) -> None:
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)
        self._warnings.__exit__(None, None, None)
