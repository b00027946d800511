"""Intervals agree with scipy's and with the truth, respect clusters, and have no value where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from mlops_local.engines.gates import bootstrap
from mlops_local.engines.models import metrics


def answers(rows: int = 600, *, seed: int = 0, ties: bool = False) -> tuple[Any, Any, Any]:
    """Labels and two models' answers, the second with more noise."""
    random = np.random.default_rng(seed)
    signal = random.normal(size=rows)
    y = (random.random(rows) < 1 / (1 + np.exp(-signal))).astype(float)
    good, worse = (1 / (1 + np.exp(-(signal + random.normal(scale=scale, size=rows)))) for scale in (0.5, 1.5))
    return y, (good.round(1) if ties else good), (worse.round(1) if ties else worse)


@pytest.mark.parametrize("name", ["auc", "log_loss", "rmse", "accuracy"])
def test_a_single_metric_agrees_with_scipy(name: str) -> None:
    """BCa by rows is what scipy.stats.bootstrap gives, up to the noise of the draws."""
    y, p, _ = answers()
    metric = metrics.metric(name)
    value, low, high = bootstrap.interval(metric, y, p, resamples=4000)
    oracle = stats.bootstrap(
        (y, p), lambda a, b: metric(a, b), paired=True, vectorized=False, n_resamples=2000, method="BCa", rng=1
    ).confidence_interval
    assert value == metric(y, p)
    assert (low, high) == pytest.approx((oracle.low, oracle.high), abs=0.06 * (high - low))


@pytest.mark.parametrize("name", ["auc", "log_loss"])
def test_a_paired_difference_agrees_with_scipy(name: str) -> None:
    """The same rows are drawn for both models; positive means the candidate is better, whichever way the metric points."""
    y, good, worse = answers(400)
    metric = metrics.metric(name)
    found = bootstrap.paired(metric, y, good, worse, resamples=4000)
    sign = 1 if metric.greater_is_better else -1
    oracle = stats.bootstrap(
        (y, good, worse),
        lambda a, b, c: sign * (metric(a, b) - metric(a, c)),
        paired=True,
        vectorized=False,
        n_resamples=2000,
        method="BCa",
        rng=1,
    ).confidence_interval
    assert found.difference > 0
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=0.08 * (found.high - found.low))


@pytest.mark.parametrize("ties", [False, True])
def test_both_ways_to_resample_auc_are_the_same_number(ties: bool) -> None:
    """Pairs of clusters, weighted ranks and scikit-learn's weights agree to the last digits, ties included."""
    y, p, _ = answers(300, ties=ties)
    groups = np.random.default_rng(3).integers(0, 12, 300).astype(np.intp)
    counts = np.random.default_rng(4).multinomial(12, [1 / 12] * 12, size=20).astype(float)
    pairs = bootstrap._auc_pairs(y, p, groups, 12)(counts)
    ranks = bootstrap._auc_rows(y, p, groups)(counts)
    oracle = [roc_auc_score(y, p, sample_weight=weights[groups]) for weights in counts]
    assert pairs == pytest.approx(oracle, abs=1e-12)
    assert ranks == pytest.approx(oracle, abs=1e-12)


def test_clusters_that_move_together_widen_the_interval() -> None:
    """Thirty days with a bad or a good day effect are thirty observations, not six hundred."""
    random = np.random.default_rng(5)
    days = np.repeat(np.arange(30), 20)
    error = random.normal(size=30)[days] + random.normal(scale=0.1, size=600)
    y, p = np.zeros(600), error
    metric = metrics.metric("mse")
    rows, by_day = bootstrap.interval(metric, y, p), bootstrap.interval(metric, y, p, days)
    assert rows[0] == by_day[0]
    assert by_day[2] - by_day[1] > 3 * (rows[2] - rows[1])


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Of 200 repetitions with a known difference, about 95 % cover it (binomial bounds at one in ten thousand)."""
    metric = metrics.metric("mae")
    hits = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        first, second = random.exponential(1.0, 300), random.exponential(1.2, 300)
        found = bootstrap.paired(metric, np.zeros(300), second, first, resamples=400, seed=seed)
        hits += found.low <= -0.2 <= found.high
    assert 0.87 * 200 <= hits <= 0.995 * 200


def test_one_seed_one_interval() -> None:
    """The same call gives the same bits; another seed gives others."""
    y, p, q = answers()
    metric = metrics.metric("auc")
    assert bootstrap.paired(metric, y, p, q, seed=7) == bootstrap.paired(metric, y, p, q, seed=7)
    assert bootstrap.paired(metric, y, p, q, seed=7) != bootstrap.paired(metric, y, p, q, seed=8)


def test_equal_models_differ_by_nothing() -> None:
    """Two models with the same answers have difference and interval zero."""
    y, p, _ = answers()
    assert bootstrap.paired(metrics.metric("auc"), y, p, p.copy()) == bootstrap.Interval(0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("y", "p", "clusters"),
    [
        ([1.0, 1.0, 1.0], [0.1, 0.2, 0.3], None),
        ([0.0, 1.0, 1.0], [0.1, float("nan"), 0.3], None),
        ([], [], None),
        ([0.0, 1.0, 1.0], [0.1, 0.2, 0.3], ["a", "a", "a"]),
        ([0.0] * 40 + [1.0], [0.1] * 41, None),
    ],
    ids=["one class", "nan", "no rows", "one cluster", "one positive"],
)
def test_without_a_value_there_is_no_interval(y: list[float], p: list[float], clusters: list[str] | None) -> None:
    """One class, NaN, no rows, a single cluster, or draws that mostly lack a class: NaN, never a narrow interval."""
    groups = None if clusters is None else np.array(clusters)
    _, low, high = bootstrap.interval(metrics.metric("auc"), np.array(y), np.array(p), groups)
    assert np.isnan(low) and np.isnan(high)


def test_the_mean_of_given_values() -> None:
    """A metric of the user's own is a mean, with the same interval as the built-in one of the same values."""
    y, p, _ = answers()
    mean = bootstrap.mean_interval((y - p) ** 2)
    assert mean == pytest.approx(bootstrap.interval(metrics.metric("mse"), y, p))
