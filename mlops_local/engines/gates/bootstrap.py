"""How far a metric, or the difference of two, may be off: bootstrap intervals that resample clusters of rows.

The rows of one day or one customer are good or bad together, so whole clusters are drawn; without clusters each row is its own.
Both models are always measured on the same draw. The interval is BCa (bias-corrected and accelerated); docs/gates.md has the
formulas. 2,000 draws over 27,000 rows take well under a second: a metric that is a mean of per-row values needs only sums per
cluster, and AUC only counts of ordered pairs per pair of clusters, or one weighted pass over sorted rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Resampled = Callable[[Floats], Floats]
"""Cluster counts, one draw a row, to the metric of each draw."""

LEVEL = 0.95
_PAIRS = 256
"""Up to so many clusters AUC is computed from pairs of clusters; beyond, from a pass over the rows."""
_BLOCK = 64
"""Draws held at a time."""
_LOST = 0.05
"""Share of draws in which the metric may have no value (one class); more, and there is no interval."""


class Metric(Protocol):
    """What is needed of a metric."""

    @property
    def greater_is_better(self) -> bool:
        """Whether more is better."""

    @property
    def per_row(self) -> Callable[[Floats, Floats], Floats] | None:
        """Values whose mean, after `finish`, is the metric; None means AUC."""

    @property
    def finish(self) -> Callable[[Any], Any] | None:
        """Applied to the mean."""

    def __call__(self, y: Floats, p: Floats, /) -> float:
        """The metric over all rows."""


@dataclass(frozen=True)
class Interval:
    """A difference and where it may lie; positive means the candidate is better. NaN where there is no value."""

    difference: float
    low: float
    high: float


def paired(
    metric: Metric,
    y: Floats,
    candidate: Floats,
    champion: Floats,
    clusters: npt.NDArray[Any] | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The difference of two models on the same rows, positive when the candidate is better.

    Args:
        metric: what is compared.
        y: labels.
        candidate: its answers.
        champion: its answers, row by row the same.
        clusters: equal values are drawn together; None: each row by itself.
        resamples: number of draws.
        seed: of the draws.
    """
    sign = 1.0 if metric.greater_is_better else -1.0
    difference = sign * (metric(y, candidate) - metric(y, champion))
    groups, count = _groups(clusters, len(y))
    if not np.isfinite(difference) or count < 2:
        return Interval(difference, float("nan"), float("nan"))
    first, second = _resampled(metric, y, candidate, groups, count), _resampled(metric, y, champion, groups, count)
    low, high = _bca(lambda counts: sign * (first(counts) - second(counts)), difference, count, resamples, seed)
    return Interval(difference, low, high)


def interval(
    metric: Metric,
    y: Floats,
    p: Floats,
    clusters: npt.NDArray[Any] | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """A metric with its interval: value, low, high; NaN where there is none."""
    value = metric(y, p)
    groups, count = _groups(clusters, len(y))
    if not np.isfinite(value) or count < 2:
        return value, float("nan"), float("nan")
    low, high = _bca(_resampled(metric, y, p, groups, count), value, count, resamples, seed)
    return value, low, high


def mean_interval(
    values: Floats, clusters: npt.NDArray[Any] | None = None, *, resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """The mean of given per-row values with its interval: a metric of the user's own, or a difference of two."""
    values = np.asarray(values, dtype=np.float64)
    groups, count = _groups(clusters, len(values))
    mean = float(np.mean(values)) if len(values) else float("nan")
    if not np.isfinite(mean) or count < 2:
        return mean, float("nan"), float("nan")
    low, high = _bca(_means(values, None, groups, count), mean, count, resamples, seed)
    return mean, low, high


def _groups(clusters: npt.NDArray[Any] | None, rows: int) -> tuple[npt.NDArray[np.intp], int]:
    """Each row's cluster as a number from 0, and how many there are."""
    if clusters is None:
        return np.arange(rows), rows
    values, numbers = np.unique(clusters, return_inverse=True)
    return numbers.reshape(-1).astype(np.intp), len(values)


def _resampled(metric: Metric, y: Floats, p: Floats, groups: npt.NDArray[np.intp], count: int) -> Resampled:
    y, p = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    if metric.per_row is not None:
        return _means(metric.per_row(y, p), metric.finish, groups, count)
    return _auc_pairs(y, p, groups, count) if count <= _PAIRS else _auc_rows(y, p, groups)


def _means(values: Floats, finish: Callable[[Any], Any] | None, groups: npt.NDArray[np.intp], count: int) -> Resampled:
    sums = np.bincount(groups, weights=values, minlength=count)
    sizes = np.bincount(groups, minlength=count).astype(np.float64)

    def of(counts: Floats) -> Floats:
        means = (counts @ sums) / (counts @ sizes)
        return np.asarray(finish(means) if finish else means, dtype=np.float64)

    return of


def _auc_pairs(y: Floats, p: Floats, groups: npt.NDArray[np.intp], count: int) -> Resampled:
    """won[k, l]: pairs in which a positive of cluster k beats a negative of cluster l, ties half."""
    positive = y == 1
    scores, owners = p[positive], groups[positive]
    won = np.zeros((count, count))
    for cluster in range(count):
        negatives = np.sort(p[~positive & (groups == cluster)])
        below = np.searchsorted(negatives, scores, side="left") + np.searchsorted(negatives, scores, side="right")
        won[:, cluster] = np.bincount(owners, weights=below / 2, minlength=count)
    positives = np.bincount(owners, minlength=count).astype(np.float64)
    negatives_each = np.bincount(groups[~positive], minlength=count).astype(np.float64)

    def of(counts: Floats) -> Floats:
        pairs = (counts @ positives) * (counts @ negatives_each)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.einsum("bk,kl,bl->b", counts, won, counts, optimize=True) / pairs, dtype=np.float64)

    return of


def _auc_rows(y: Floats, p: Floats, groups: npt.NDArray[np.intp]) -> Resampled:
    """By weighted mean ranks: one running sum over the rows in the order of their answers, then only the positives.

    The positives' mean ranks add up to the pairs they win against negatives plus those among themselves, half their number
    squared.
    """
    order = np.argsort(p, kind="stable")
    owners, sorted_p = groups[order], p[order]
    positive = np.flatnonzero(y[order] == 1)
    mine = owners[positive]
    first = np.searchsorted(sorted_p, sorted_p[positive], side="left")
    last = np.searchsorted(sorted_p, sorted_p[positive], side="right")
    running = np.zeros(len(order) + 1)

    def one(counts: Floats) -> float:
        np.cumsum(counts[owners], out=running[1:])
        weights = counts[mine]
        positives = float(weights.sum())
        pairs = positives * (running[-1] - positives)
        ranks = (running[first] + running[last]) * 0.5
        return float((np.sum(weights * ranks) - positives**2 / 2) / pairs) if pairs > 0 else float("nan")

    return lambda counts: np.array([one(each) for each in counts])


def _bca(of: Resampled, value: float, count: int, resamples: int, seed: int) -> tuple[float, float]:
    """The BCa interval of a statistic over `count` clusters."""
    random = np.random.default_rng(seed)
    drawn = np.concatenate([of(_draw(random, count, min(_BLOCK, resamples - at))) for at in range(0, resamples, _BLOCK)])
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < (1 - _LOST) * resamples:
        return float("nan"), float("nan")
    normal = NormalDist()
    below = (np.count_nonzero(drawn < value) + np.count_nonzero(drawn == value) / 2) / len(drawn)
    tails = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if 0 < below < 1:
        bias, pull = normal.inv_cdf(below), _acceleration(of, count)
        shifted = [bias + normal.inv_cdf(tail) for tail in tails]
        tails = np.array([normal.cdf(bias + each / (1 - pull * each)) for each in shifted])
    low, high = np.quantile(drawn, tails)
    return float(low), float(high)


def _draw(random: np.random.Generator, count: int, draws: int) -> Floats:
    """How often each cluster is drawn, a draw a line."""
    made = np.empty((draws, count))
    for line in made:
        line[:] = np.bincount(random.integers(count, size=count, dtype=np.int32), minlength=count)
    return made


def _acceleration(of: Resampled, count: int) -> float:
    """How the statistic's spread changes with its value, from leaving each cluster out (at most 256 of them, evenly spaced).

    With thousands of clusters the acceleration is of the order of 1/sqrt(count) and a sample of them gives it well enough.
    """
    chosen = np.unique(np.linspace(0, count - 1, min(count, 256)).astype(np.intp))
    left: list[Floats] = []
    for at in range(0, len(chosen), _BLOCK):
        block = chosen[at : at + _BLOCK]
        counts = np.ones((len(block), count))
        counts[np.arange(len(block)), block] = 0.0
        left.append(of(counts))
    values = np.concatenate(left)
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0
    off = values.mean() - values
    spread = float(np.sum(off**2)) * (count / len(chosen))
    return float(np.sum(off**3)) * (count / len(chosen)) / (6 * spread**1.5) if spread > 0 else 0.0
