"""How the numbers of a column are spread, from its sketch: a distribution to take quantiles, histograms and differences of.

Where a column has few values the distribution is exact, else it is as good as the sketch's sample. Pure arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlops_local.engines.data import counted
from mlops_local.engines.data.counted import Counted
from mlops_local.engines.data.sketch import LEVELS, Sketch

BINS = 20
"""Of a histogram."""
TAIL = 0.004
"""Part of the values beyond each end of a histogram: its first and last bin hold them too."""
PARTS = 8
"""So many parts of a file that grew keep their quantiles: the small ones, which change little, share theirs."""
_GRID = 1025
_Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """A distribution: the share of values below and up to each of some points; even between them."""

    points: _Numbers
    below: _Numbers
    upto: _Numbers

    def at(self, values: Sequence[float] | _Numbers) -> tuple[_Numbers, _Numbers]:
        """Return the share of values below each of `values`, and up to it."""
        wanted = np.asarray(values, dtype=np.float64)
        place = np.searchsorted(self.points, wanted)
        inside = np.minimum(place, len(self.points) - 1)
        exact = self.points[inside] == wanted
        before = np.maximum(inside - 1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            part = (wanted - self.points[before]) / (self.points[inside] - self.points[before])
            between = self.upto[before] + part * (self.below[inside] - self.upto[before])
        between = np.where(place == 0, 0.0, np.where(place == len(self.points), 1.0, between))
        return np.where(exact, self.below[inside], between), np.where(exact, self.upto[inside], between)

    def quantile(self, share: float) -> float:
        """Return the value that this share of all values is not above."""
        return self.quantiles((share,))[0]

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """As `quantile`, of several."""
        places = self.upto.searchsorted(np.asarray(shares) - 1e-12).tolist()
        return [self._between(share, place) for share, place in zip(shares, places, strict=True)]

    def _between(self, share: float, place: int) -> float:
        """The quantile, before which so many points lie."""
        point = self.points.item
        if place == 0 or place >= len(self.points):
            return point(min(place, len(self.points) - 1))
        low, high = self.upto.item(place - 1), self.below.item(place)
        if high <= share or high <= low:
            return point(place)
        return point(place - 1) + (share - low) / (high - low) * (point(place) - point(place - 1))


def of(sketch: Sketch) -> Spread | None:
    """Return the distribution of a sketched column; None where it holds no finite number."""
    counts = sketch.counts
    if counts is not None and not isinstance(next(iter(counts), 0), (bool, str)):
        return _exact(counts)
    parts = [(weight, _steps(values)) for weight, values in sketch.points if weight > 0]
    return _mixed(parts) if parts else None


def fewer(points: Sequence[tuple[float, list[float]]]) -> list[tuple[float, list[float]]]:
    """Return quantiles of parts, two of the smallest made into one until there are no more than `PARTS`.

    Args:
        points: how many values each part has, and their quantiles at `LEVELS`.
    """
    held = sorted(points)
    while len(held) > PARTS:
        both, held = held[:2], held[2:]
        mixed = _mixed([(weight, _steps(values)) for weight, values in both])
        made = (sum(weight for weight, _ in both), mixed.quantiles(LEVELS))
        held = sorted([*held, made])
    return held


def together(sketch: Sketch) -> list[tuple[float, list[float]]]:
    """Return the quantiles of a column's parts as those of one; nothing where it holds no finite number."""
    found = of(sketch) if sketch.points else None
    if found is None:
        return []
    return [(sum(weight for weight, _ in sketch.points), found.quantiles(LEVELS))]


def _mixed(parts: Sequence[tuple[float, Spread]]) -> Spread:
    """The distribution of several parts together, each of so many values."""
    if len(parts) == 1:
        return parts[0][1]
    grid = np.unique(np.concatenate([part.points for _, part in parts]))
    if len(grid) > _GRID:
        grid = grid[np.unique(np.linspace(0, len(grid) - 1, _GRID).round().astype(np.int64))]
    total = sum(weight for weight, _ in parts)
    below, upto = np.zeros(len(grid)), np.zeros(len(grid))
    for weight, part in parts:
        left, right = part.at(grid)
        below += left * (weight / total)
        upto += right * (weight / total)
    return Spread(grid, below, upto)


def _exact(counts: Mapping[Any, int]) -> Spread | None:
    points: _Numbers
    times: _Numbers
    if isinstance(counts, Counted):
        points, times = (held.astype(np.float64) for held in counted.arrays(counts))
    else:
        points = np.fromiter(counts, dtype=np.float64, count=len(counts))
        times = np.fromiter(counts.values(), dtype=np.float64, count=len(counts))
        order = np.argsort(points, kind="stable")
        points, times = points[order], times[order]
    if len(points) and not math.isfinite(points[0] - points[-1]):
        finite = np.isfinite(points)
        points, times = points[finite], times[finite]
    if not len(points):
        return None
    upto = np.cumsum(times)
    below = np.concatenate([[0.0], upto[:-1]])
    return Spread(points, below / upto[-1], upto / upto[-1])


def _steps(quantiles: Sequence[float]) -> Spread:
    """The quantiles at `LEVELS` as a distribution: a value that stands there several times has a share of its own."""
    points, first, count = np.unique(np.asarray(quantiles, dtype=np.float64), return_index=True, return_counts=True)
    levels = np.asarray(LEVELS)
    return Spread(points, levels[first], levels[first + count - 1])


def histogram(spread: Spread, rows: float, *, whole: bool = False) -> tuple[float, float, tuple[int, ...]]:
    """Return from where to where the bins reach, and about how many of `rows` values are in each.

    Args:
        spread: the distribution.
        rows: how many values it is of.
        whole: the values are whole numbers: each bin holds equally many of those.
    """
    low, high = spread.quantiles((TAIL, 1 - TAIL))
    if high <= low:
        low, high = float(spread.points[0]), float(spread.points[-1])
    bins = BINS
    if whole:
        low, high = math.floor(low) - 0.5, math.ceil(high) + 0.5
        width = math.ceil((high - low) / BINS)
        bins = math.ceil((high - low) / width)
        high = low + bins * width
    if high <= low:
        return low, high, (round(rows),)
    shares = spread.at(np.linspace(low, high, bins + 1))[0]
    shares[0], shares[-1] = 0.0, 1.0
    return low, high, tuple(int(value) for value in np.round(np.diff(shares) * rows))
