"""Metrics are scikit-learn's numbers, and NaN where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from mlops_local.engines.models import metrics

PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=2, max_size=60)


@given(PAIRS)
def test_auc_is_scikit_learns_ties_included(pairs: list[tuple[int, int]]) -> None:
    """Whatever the ties; one class has no AUC."""
    y, p = np.array([y for y, _ in pairs]), np.array([p / 20 for _, p in pairs])
    if len(set(y)) == 2:
        assert metrics.auc(y, p) == pytest.approx(oracle.roc_auc_score(y, p))
    else:
        assert np.isnan(metrics.auc(y, p))


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (metrics.log_loss, oracle.log_loss),
        (metrics.brier, oracle.brier_score_loss),
        (metrics.accuracy, lambda y, p: oracle.accuracy_score(y, p >= 0.5)),
        (metrics.rmse, oracle.root_mean_squared_error),
        (metrics.mae, oracle.mean_absolute_error),
    ],
)
def test_the_others_are_scikit_learns(mine: Callable[..., float], theirs: Callable[..., float]) -> None:
    """The same definition on random answers."""
    random = np.random.default_rng(1)
    y, p = random.integers(0, 2, 500).astype(float), random.random(500)
    assert mine(y, p) == pytest.approx(theirs(y, p))


def test_certain_and_wrong_is_bad_but_finite() -> None:
    """A probability of exactly zero for what happened does not make the mean infinite."""
    assert 10 < metrics.log_loss([1.0], [0.0]) < 100


@pytest.mark.parametrize("name", metrics.names())
@pytest.mark.parametrize(
    ("y", "p"),
    [([], []), ([0.0, 1.0], [0.1]), ([0.0, 1.0], [0.1, np.nan]), ([0.0, np.nan], [0.1, 0.2]), ([0.0, 1.0], [0.1, np.inf])],
    ids=["nothing", "lengths", "nan answer", "nan label", "infinite answer"],
)
def test_what_cannot_be_computed_is_nan(name: str, y: Any, p: Any) -> None:
    """No metric turns garbage into a number."""
    assert np.isnan(metrics.metric(name)(np.array(y), np.array(p)))


@pytest.mark.parametrize("name", ["log_loss", "brier", "accuracy"])
def test_scores_are_not_probabilities(name: str) -> None:
    """Answers outside 0..1 and labels other than 0/1 have no log-loss, Brier or accuracy."""
    assert np.isnan(metrics.metric(name)(np.array([0.0, 1.0]), np.array([-3.0, 4.0])))
    assert np.isnan(metrics.metric(name)(np.array([0.0, 2.0]), np.array([0.3, 0.4])))


def test_names_and_directions() -> None:
    """An unknown metric is an error that lists the known ones; errors are better when small."""
    with pytest.raises(KeyError, match="auc, log_loss"):
        metrics.metric("acu")
    assert metrics.greater_is_better("auc") and not metrics.greater_is_better("rmse")
    assert metrics.usual([0, 1, 1])[0] == "auc" and metrics.usual([0.5, 2.0])[0] == "rmse"
