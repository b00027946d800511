"""A model is exported so that what is served answers as what was trained, or says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

from mlops_local.domain.errors import StepFailed
from mlops_local.engines.models import predictor
from mlops_local.engines.models.export import LEAST, Exported, export, floor32
from mlops_local.engines.models.predictor import onnx_score

torch = pytest.importorskip("torch")


def rows(count: int = 2500, *, seed: int = 0) -> Any:
    """Gaps, a timestamp, a price, an id: what breaks float32 parity."""
    random = np.random.default_rng(seed)
    matrix = np.column_stack(
        [
            random.normal(size=count),
            1.7e9 + random.uniform(0, 3 * 86400, count),
            np.round(random.uniform(1, 500, count), 2),
            random.integers(0, 6, count),
        ]
    ).astype(np.float32)
    matrix[random.random(count) < 0.05, 0] = np.nan
    return matrix


NAMES = ("x", "time", "price", "kind")


def booster(objective: str, **params: Any) -> lightgbm.Booster:
    """A booster fitted on those rows."""
    matrix = rows()
    y = np.nan_to_num(matrix[:, 0]) + (matrix[:, 1] > 1.7e9 + 86400) + 0.01 * matrix[:, 2] + (matrix[:, 3] == 2)
    y = (y > np.median(y)).astype(float) if objective == "binary" else np.abs(y)
    data = lightgbm.Dataset(matrix, y, feature_name=list(NAMES), **params)
    return lightgbm.train({"objective": objective, "verbose": -1, "num_threads": 1, "seed": 1}, data, 30)


@pytest.mark.parametrize("objective", ["binary", "regression", "poisson"])
@pytest.mark.parametrize("params", [{}, {"categorical_feature": ["kind"]}], ids=["numbers", "categories"])
def test_lightgbm_answers_the_same_in_onnx(objective: str, params: dict[str, Any]) -> None:
    """Whatever the objective, timestamps and gaps included, ONNX answers as the booster on rows it has not seen."""
    model = booster(objective, **params)
    made = export(model, NAMES, rows(), binary=objective == "binary")
    assert (made.form, made.reason, made.needs) == ("onnx", "", ())
    assert made.parity["rows"] == 2500 and made.parity["above_tolerance"] == 0
    fresh = rows(4000, seed=9)
    fresh[:5] = np.nan
    served = onnx_score(made.onnx, made.output)(fresh)
    assert served == pytest.approx(model.predict(fresh), rel=1e-4, abs=1e-5)


def test_without_flooring_the_same_model_would_be_wrong() -> None:
    """The floor is what makes the difference: the plain conversion is off on rows with timestamps."""
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    model = booster("binary")
    plain = convert_lightgbm(model, initial_types=[("rows", FloatTensorType([None, 4]))], zipmap=False)
    output = {"name": "probabilities", "column": 1}
    fresh = rows(4000, seed=9)
    off = np.abs(onnx_score(plain.SerializeToString(), output)(fresh) - model.predict(fresh)) > 1e-4
    assert off.any()


def test_floored_thresholds_never_change_an_answer() -> None:
    """The floored booster gives the very same bits for float32 rows, and its thresholds are float32."""
    model = booster("regression", categorical_feature=["kind"])
    floored = lightgbm.Booster(model_str=floor32(model.model_to_string()))
    fresh = rows(4000, seed=3)
    assert np.array_equal(floored.predict(fresh), model.predict(fresh))
    lines = [line for line in floored.model_to_string().split("\n") if line.startswith("threshold=")]
    values = [float(item) for line in lines for item in line[10:].split()]
    assert values and all(float(np.float32(value)) == value for value in values)


def test_equal_models_are_equal_bytes() -> None:
    """Exporting twice gives one bundle, not two."""
    model = booster("binary")
    first, second = (export(model, NAMES, rows(), binary=True) for _ in range(2))
    assert first == second


def test_early_stopping_keeps_the_best_round() -> None:
    """What is served is what the booster answers by default: its best iteration."""
    model = booster("binary")
    model.best_iteration = 7
    made = export(model, NAMES, rows(), binary=True)
    assert onnx_score(made.onnx, made.output)(rows()) == pytest.approx(model.predict(rows(), num_iteration=7), abs=1e-6)


def test_a_model_on_some_columns_takes_just_those_in_its_order() -> None:
    """Features are matched by name when the candidate fitted on fewer."""
    matrix = rows()
    data = lightgbm.Dataset(matrix[:, [2, 0]], matrix[:, 3] > 2, feature_name=["price", "x"])
    model = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 5)
    made = export(model, NAMES, matrix, binary=True)
    assert made.features == ("price", "x")
    assert onnx_score(made.onnx, made.output)(matrix[:, [2, 0]]) == pytest.approx(model.predict(matrix[:, [2, 0]]), abs=1e-6)


def test_a_model_on_other_columns_is_refused() -> None:
    """A booster of another width cannot be matched to the features."""
    data = lightgbm.Dataset(rows()[:, :2], rows()[:, 3] > 2)
    model = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 2)
    with pytest.raises(StepFailed, match="fitted on 2 features"):
        export(model, NAMES, rows(), binary=True)


class Small(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    """Embedding, batch norm and gaps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embed = torch.nn.Embedding(6, 3)
        self.norm = torch.nn.BatchNorm1d(5)
        self.out = torch.nn.Linear(5, 1)

    def forward(self, x: Any) -> Any:
        code = torch.nan_to_num(x[:, 3]).long().clamp(0, 5)
        joined = torch.cat([self.embed(code), torch.nan_to_num(x[:, [0, 2]])], 1)
        return torch.sigmoid(self.out(self.norm(joined)))


def test_torch_answers_the_same_in_onnx_for_any_batch() -> None:
    """A module left in training mode is served in evaluation mode, for one row or thousands, with no path of this machine."""
    model = Small()
    made = export(model, NAMES, rows(), binary=True)
    assert (made.form, made.output["kind"]) == ("onnx", "probability")
    here = str(Path(__file__).parent).encode()
    assert here not in made.onnx and here not in made.native
    score = onnx_score(made.onnx, made.output)
    for count in (1, 2, 7, 2500):
        with torch.inference_mode():
            own = model.eval()(torch.from_numpy(rows()[:count])).numpy().reshape(-1)
        assert score(rows()[:count]) == pytest.approx(own, abs=1e-5)
    assert export(model, NAMES, rows(), binary=True) == made


def test_logits_are_recognised() -> None:
    """Answers outside 0..1 for a 0/1 label are scores, and the manifest says so."""
    made = export(torch.nn.Linear(4, 1), NAMES, np.nan_to_num(rows()), binary=True)
    assert made.output["kind"] == "score"


def test_a_module_with_several_outputs_is_refused() -> None:
    """One number a row; anything else is said with its shape."""
    with pytest.raises(Exception, match=r"shape \[2500, 3\]"):
        export(torch.nn.Linear(4, 3), NAMES, np.nan_to_num(rows()), binary=True)


def test_scikit_learn_goes_through_its_converter() -> None:
    """An estimator becomes ONNX and answers the probability of class 1."""
    matrix = np.nan_to_num(rows()) / np.array([1, 1.7e9, 500, 6], dtype=np.float32)
    model = LogisticRegression().fit(matrix, matrix[:, 3] > 0.5)
    made = export(model, NAMES, matrix, binary=True)
    assert made.form == "onnx" and not made.native
    assert onnx_score(made.onnx, made.output)(matrix) == pytest.approx(model.predict_proba(matrix)[:, 1], abs=1e-5)


class Odd(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """An estimator no converter knows."""

    def predict_proba(self, rows: Any) -> Any:
        return np.column_stack([1 - rows[:, 0], rows[:, 0]])


def test_an_estimator_without_converter_is_refused_with_the_reason() -> None:
    """There is no native form to fall back to, because a bundle holds no pickle."""
    with pytest.raises(StepFailed, match="an Odd cannot be bundled: ONNX export failed: "):
        export(Odd(), ("x",), np.zeros((10, 1), dtype=np.float32), binary=True)


def test_native_form_when_onnx_disagrees(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A booster whose ONNX answers are off is served natively, with the reason, and answers exactly."""
    from mlops_local.engines.models import export as module

    monkeypatch.setattr(module, "floor32", lambda text: text)  # the known way to make ONNX wrong
    model = booster("binary")
    made: Exported = export(model, NAMES, rows(), binary=True)
    assert made.form == "native" and made.needs == ("lightgbm",) and not made.onnx
    assert "ONNX differs" in made.reason and made.parity["above_tolerance"] > 0
    path = tmp_path / "model.txt"
    path.write_bytes(made.native)
    assert np.array_equal(predictor.native_score("lightgbm", path)(rows()), model.predict(rows()))


def test_a_torch_module_answers_natively_from_any_file_name(tmp_path: Path) -> None:
    """The native form loads without the class's code, from an object store's nameless file."""
    model = Small()
    made = export(model, NAMES, rows(), binary=True)
    path = tmp_path / "0f3a"
    path.write_bytes(made.native)
    with torch.inference_mode():
        own = model.eval()(torch.from_numpy(rows())).numpy().reshape(-1)
    assert predictor.native_score("torch", path)(rows()) == pytest.approx(own, abs=1e-6)


@pytest.mark.parametrize("what", [{"a": 1}, None, "model", np.zeros(3)])
def test_what_is_no_model_is_said(what: Any) -> None:
    """The candidate's return value is named by its type."""
    with pytest.raises(StepFailed, match=type(what).__name__):
        export(what, NAMES, rows(), binary=True)


def test_few_rows_are_recorded_as_few() -> None:
    """Parity on a handful of rows proves little, and the record says so."""
    assert export(booster("binary"), NAMES, rows(50), binary=True).parity["few_rows"] is True
    assert LEAST == 2000
