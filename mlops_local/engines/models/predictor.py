"""Answer rows from a bundle: what the server, `load_model` and the evaluation all use.

For a bundle in ONNX form nothing here imports lightgbm, torch, scikit-learn or pandas. One thread inside a model: with two,
13 % of rows differed in the last bit depending on the batch they came in (measured).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mlops_local.domain.assets import Column
from mlops_local.domain.errors import DataError, IntegrityError, MlopsError
from mlops_local.engines.models import signature, transform
from mlops_local.engines.models.bundle import EXPECTED, GOLDEN, MANIFEST, ONNX, TRANSFORM, Manifest, digest, read_manifest

Floats = npt.NDArray[np.float64]
Score = Callable[[transform.Floats32], Floats]

PREDICTION = "prediction"
"""The column of answers where there is one a row."""
TOLERANCE = 1e-5
"""Golden rows may differ by this, absolute and relative: other processors round the last bits otherwise."""


class Predictor:
    """A loaded bundle. Thread-safe: nothing in it changes after `load`."""

    def __init__(
        self,
        manifest: Manifest,
        score: Score,
        function: Callable[..., Any] | None,
        states: Mapping[str, Any],
        golden: pl.DataFrame,
        *,
        version: str = "",
        bundle_hash: str = "",
    ) -> None:
        self.manifest = manifest
        self.version = version
        """`delay@3`, as given to `load`; a bundle is made before it has a number."""
        self.bundle_hash = bundle_hash
        """Of the bytes that were read (see `bundle.digest`)."""
        self._score = score
        self._function = function
        self._states = states
        self._golden = golden

    @property
    def model(self) -> str:
        """The model's name."""
        return self.manifest.model

    @property
    def signature(self) -> tuple[Column, ...]:
        """The raw columns a row needs."""
        return self.manifest.signature

    @property
    def form(self) -> str:
        """onnx or native."""
        return self.manifest.form

    def validate(self, rows: Sequence[Any]) -> pl.DataFrame:
        """Rows of JSON values as the frame `predict` takes. Raises RowErrors."""
        return signature.validate(self.signature, rows)

    @property
    def targets(self) -> tuple[str, ...]:
        """What it answers by name; none: one number a row."""
        return self.manifest.targets

    def features(self, frame: pl.DataFrame) -> transform.Floats32:
        """The float32 matrix the model sees for those raw rows."""
        return self.matrix(self.made(frame))

    def made(self, frame: pl.DataFrame) -> pl.DataFrame:
        """What the transform makes of those raw rows."""
        rows = signature.conform(self.signature, frame)
        if self._function is None:
            return rows
        made = transform.run(self._function, rows, self._states, self.manifest.rows)
        if made.height != rows.height:
            raise DataError(f"the transform answered {made.height} rows for {rows.height}")
        return made

    def matrix(self, made: pl.DataFrame) -> transform.Floats32:
        """The columns the model takes, as float32."""
        return transform.matrix(made, self.manifest.features)

    def answers(self, frame: pl.DataFrame) -> list[Any]:
        """One JSON value a row: a number, or an object with one for each target. Raises RowErrors."""
        made: list[Any] = self.predict(frame).tolist()
        return [dict(zip(self.targets, row, strict=True)) for row in made] if self.targets else made

    def table(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The answers as a frame: a column `prediction`, or one for each target. Raises RowErrors."""
        made = self.predict(frame)
        if not self.targets:
            return pl.DataFrame({PREDICTION: made})
        return pl.DataFrame({name: made[:, at] for at, name in enumerate(self.targets)})

    def predict(self, frame: pl.DataFrame) -> Floats:
        """One number a row, in order. Columns beyond the signature are ignored; gaps are passed to the transform as they are.

        Raises:
            RowErrors: a column is missing or has the wrong type.
        """
        if frame.height == 0:
            return np.zeros(0, dtype=np.float64)
        return self._score(self.features(frame))

    def score(self, matrix: transform.Floats32) -> Floats:
        """One number a row for features that are made already: the model without the transform."""
        return self._score(matrix)

    def golden_problem(self) -> str:
        """Why the golden rows are not answered as they must be; empty when they are."""
        if self._golden.height == 0:
            return ""
        expected = self._golden.get_column(EXPECTED).to_numpy()
        try:
            got = self.predict(self._golden.drop(EXPECTED))
        except Exception as error:  # noqa: BLE001 - the user's transform can raise anything; a bundle that raises is refused
            return f"the golden rows raise {type(error).__name__}: {error}"
        if not np.isfinite(got).all():
            return f"golden row {int(np.argmin(np.isfinite(got)))} is answered with {got[~np.isfinite(got)][0]}"
        wrong = ~np.isclose(got, expected, rtol=TOLERANCE, atol=TOLERANCE)
        if not wrong.any():
            return ""
        at = int(np.argmax(wrong))
        return f"{int(wrong.sum())} of {len(got)} golden rows differ; row {at}: expected {expected[at]}, got {got[at]}"

    def golden_ok(self) -> bool:
        """Whether the golden rows are answered as they were when the bundle was made."""
        return not self.golden_problem()


def load(paths: Mapping[str, Path] | Path, version: str = "") -> Predictor:
    """Load a bundle.

    Args:
        paths: bundle file -> where its bytes are, or a folder with those files.
        version: the version's id, carried along for answers.

    Raises:
        IntegrityError: a file is missing or is not what the manifest says.
    """
    files = folder(paths) if isinstance(paths, Path) else paths
    data = {name: path.read_bytes() for name, path in files.items() if not name.startswith("native/")}
    manifest = read_manifest(_need(data, MANIFEST))
    if manifest.targets:
        from mlops_local.engines.models import several  # noqa: PLC0415 - it is made of predictors itself

        return several.load(manifest, files, version=version, bundle_hash=digest(data))
    try:
        function = None
        if manifest.transform:
            source = _need(data, TRANSFORM)
            function = transform.load_function(source, manifest.transform, digest({TRANSFORM: source}))
        states = {state.name: transform.load_state(state, _need(data, state.file)) for state in manifest.states}
        golden = pl.read_parquet(_need(data, GOLDEN)) if GOLDEN in data else pl.DataFrame()
        score = onnx_score(_need(data, ONNX), manifest.output) if manifest.form == "onnx" else _native(manifest, files)
    except MlopsError:
        raise
    except Exception as error:
        raise IntegrityError(f"the bundle of {version or manifest.model} cannot be loaded: {error}") from error
    return Predictor(manifest, score, function, states, golden, version=version, bundle_hash=digest(data))


def folder(path: Path) -> dict[str, Path]:
    """A bundle's files in a folder, by bundle name."""
    return {str(found.relative_to(path).as_posix()): found for found in sorted(path.rglob("*")) if found.is_file()}


def _need(data: Mapping[str, bytes], name: str) -> bytes:
    try:
        return data[name]
    except KeyError:
        raise IntegrityError(f"the bundle has no {name}") from None


def onnx_score(model: bytes, output: Mapping[str, Any]) -> Score:
    """An ONNX model as a function from the float32 matrix to one number a row; `output` as in the manifest."""
    import onnxruntime as ort  # noqa: PLC0415 - 60 ms and 40 MB; whoever only reads a manifest does without

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0].name
    wanted = [output.get("name") or session.get_outputs()[0].name]
    column = output.get("column")

    def score(rows: transform.Floats32) -> Floats:
        return one_column(session.run(wanted, {given: rows})[0], len(rows), column)

    return score


def one_column(answer: Any, rows: int, column: int | None = None) -> Floats:
    """A model's answer as one float64 a row. Raises DataError for any other shape."""
    values = np.asarray(answer)
    if column is not None and values.ndim == 2:
        values = values[:, column]
    if values.shape not in {(rows,), (rows, 1)}:
        raise DataError(
            f"the model answers with shape {list(values.shape)} for {rows} rows; one number a row is supported",
            hint="return [n] or [n, 1]: the prediction itself, a probability for a 0/1 label",
        )
    return values.reshape(rows).astype(np.float64)


def _native(manifest: Manifest, files: Mapping[str, Path]) -> Score:
    if manifest.native not in files:
        raise IntegrityError(f"the bundle has no {manifest.native}")
    kind = manifest.library.split()[0]
    try:
        return native_score(kind, files[manifest.native])
    except ImportError as error:
        raise DataError(
            f"{manifest.model} is served with {kind} itself ({manifest.reason}), and {kind} is not installed",
            hint=f"pip install {kind}",
        ) from error


def native_score(library: str, path: Path) -> Score:
    """A model in its own library's format as a function from the float32 matrix to one number a row."""
    try:
        return _NATIVE[library](path)
    except KeyError:
        raise IntegrityError(f"the bundle's native form is of '{library}', which this program cannot serve") from None


def _lightgbm(path: Path) -> Score:
    import lightgbm  # noqa: PLC0415 - 0.8 s, only when ONNX could not stand in

    booster = lightgbm.Booster(model_str=path.read_text(encoding="utf-8"))

    def score(rows: transform.Floats32) -> Floats:
        return one_column(booster.predict(rows, num_threads=1), len(rows))

    return score


def _torch(path: Path) -> Score:
    import torch  # noqa: PLC0415 - seconds, only when ONNX could not stand in

    module = torch.export.load(str(path)).module()

    def score(rows: transform.Floats32) -> Floats:
        with torch.inference_mode():
            return one_column(module(torch.from_numpy(rows)).numpy(), len(rows))

    return score


_NATIVE: dict[str, Callable[[Path], Score]] = {"lightgbm": _lightgbm, "torch": _torch}
