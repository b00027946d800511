"""The metrics a model can be judged by: one definition for training reports, gates and intervals.

A metric that is a mean of per-row values says so (`per_row`), which makes resampling a sum; AUC is the exception that gates
handle by ranks. A metric that cannot be computed (one class, nothing there) is NaN, never a number that looks fine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_CLIP = 1e-15
"""Predictions of exactly 0 or 1 would make one row's log-loss infinite; scikit-learn clips by the dtype's epsilon."""


@dataclass(frozen=True)
class Metric:
    """A metric by name."""

    name: str
    greater_is_better: bool
    per_row: Callable[[Floats, Floats], Floats] | None = None
    """Values whose mean, after `finish`, is the metric; None where no such form exists."""
    finish: Callable[[Any], Any] | None = None
    """Applied to the mean (or an array of means)."""
    classes: bool = False
    """The label is 0 or 1 and the prediction a probability or score."""

    def __call__(self, y: Floats, p: Floats) -> float:
        """The metric over all rows; NaN where it has no value."""
        y, p = _floats(y), _floats(p)
        if len(y) == 0 or len(y) != len(p) or not np.isfinite(y).all() or not np.isfinite(p).all():
            return float("nan")
        if self.per_row is None:
            return auc(y, p)
        if self.classes and not (_binary(y) and ((p >= 0) & (p <= 1)).all()):
            return float("nan")
        mean = np.mean(self.per_row(y, p))
        return float(self.finish(mean) if self.finish else mean)


def auc(y: Any, p: Any) -> float:
    """Area under the ROC curve, ties counted half; NaN unless both classes are there."""
    y, p = _floats(y), _floats(p)
    if len(y) == 0 or not _binary(y) or np.isnan(p).any():
        return float("nan")
    positives = float(y.sum())
    negatives = len(y) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    values, index, counts = np.unique(p, return_inverse=True, return_counts=True)
    del values
    ranks = np.cumsum(counts) - (counts - 1) / 2  # mean rank of each tied group, from 1
    return float((ranks[index][y == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def log_loss(y: Any, p: Any) -> float:
    """Mean negative log-likelihood of the true class."""
    return metric("log_loss")(y, p)


def brier(y: Any, p: Any) -> float:
    """Mean squared difference between probability and outcome."""
    return metric("brier")(y, p)


def accuracy(y: Any, p: Any) -> float:
    """Share of rows whose probability lies on the label's side of 0.5."""
    return metric("accuracy")(y, p)


def rmse(y: Any, p: Any) -> float:
    """Root of the mean squared error."""
    return metric("rmse")(y, p)


def mae(y: Any, p: Any) -> float:
    """Mean absolute error."""
    return metric("mae")(y, p)


def metric(name: str) -> Metric:
    """The metric of that name. Raises KeyError, naming the ones there are."""
    try:
        return _METRICS[name]
    except KeyError:
        raise KeyError(f"no metric '{name}'; known: {', '.join(_METRICS)}") from None


def greater_is_better(name: str) -> bool:
    """Whether more of the metric is better; a target before it (`late.auc`) does not matter."""
    return metric(name.rpartition(".")[2]).greater_is_better


def names() -> tuple[str, ...]:
    """Every metric known by name."""
    return tuple(_METRICS)


def usual(y: Any) -> tuple[str, ...]:
    """The metrics worth reporting for such a label: 0/1 labels get AUC and friends, others errors."""
    return ("auc", "log_loss", "brier", "accuracy") if _binary(_floats(y)) else ("rmse", "mae")


def _log_loss_rows(y: Floats, p: Floats) -> Floats:
    likelihood: Floats = np.where(y == 1, p, 1 - p)
    return np.asarray(-np.log(np.clip(likelihood, _CLIP, 1.0)), dtype=np.float64)


def _squared(y: Floats, p: Floats) -> Floats:
    return np.asarray((y - p) ** 2, dtype=np.float64)


def _absolute(y: Floats, p: Floats) -> Floats:
    return np.asarray(np.abs(y - p), dtype=np.float64)


def _hits(y: Floats, p: Floats) -> Floats:
    return np.asarray((p >= 0.5) == (y == 1), dtype=np.float64)


def _floats(values: Any) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _binary(y: Floats) -> bool:
    return bool(np.isin(y, (0.0, 1.0)).all())


_METRICS = {
    found.name: found
    for found in (
        Metric("auc", True, classes=True),
        Metric("log_loss", False, _log_loss_rows, classes=True),
        Metric("brier", False, _squared, classes=True),
        Metric("accuracy", True, _hits, classes=True),
        Metric("rmse", False, _squared, np.sqrt),
        Metric("mse", False, _squared),
        Metric("mae", False, _absolute),
    )
}
