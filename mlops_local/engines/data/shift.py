"""How far the values of a column moved between two versions, from their sketches: no row is read again.

The population stability index is over ten bins that hold equally many of the first side's values, with bins of their own for
missing values and for what lies beyond either end, and half a row added to each bin. The Kolmogorov-Smirnov distance is the
largest between the two distribution functions; its p-value is the asymptotic one.
"""

from __future__ import annotations

import math

import numpy as np

from mlops_local.domain.difference import ColumnChange
from mlops_local.engines.data import spread
from mlops_local.engines.data.sketch import Sketch
from mlops_local.engines.data.spread import Spread

BINS = 10
_ADDED = 0.5


def column(name: str, before: Sketch, after: Sketch, *, cells: int | None = None) -> ColumnChange:
    """Return what became of a column.

    Args:
        name: its name.
        before: all its values on the first side.
        after: on the second.
        cells: in how many matched rows it differs, where that is known.
    """
    old, new = spread.of(before), spread.of(after)
    distance = None if old is None or new is None else ks(old, new)
    return ColumnChange(
        name,
        cells,
        before.nulls / before.rows if before.rows else None,
        after.nulls / after.rows if after.rows else None,
        psi(before, after),
        distance,
        None if distance is None else ks_p(distance, _size(before), _size(after)),
    )


def psi(before: Sketch, after: Sketch) -> float | None:
    """Return the population stability index; None where one side has no rows or the values cannot be compared."""
    if not before.rows or not after.rows:
        return None
    old, new = spread.of(before), spread.of(after)
    if (old is None) != (new is None) and all(held.nulls + held.nans < held.rows for held in (before, after)):
        return None  # numbers on one side, other values on the other
    if old is not None:
        edges = np.unique(old.quantiles([level / BINS for level in range(BINS + 1)]))
        parts = [_numbers(before, old, edges), _numbers(after, new, edges)]
    else:
        frequent = list(_counts(before))
        if not frequent and before.nulls < before.rows:
            return None
        parts = [_values(before, frequent), _values(after, frequent)]
    shares = [(part + _ADDED) / (part + _ADDED).sum() for part in parts]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def ks(old: Spread, new: Spread) -> float:
    """Return the largest distance between two distribution functions."""
    points = np.union1d(old.points, new.points)
    (old_below, old_upto), (new_below, new_upto) = old.at(points), new.at(points)
    return float(max(np.abs(old_below - new_below).max(), np.abs(old_upto - new_upto).max()))


def ks_p(distance: float, before: float, after: float) -> float:
    """Return the chance of at least that distance between samples of these sizes of one distribution, asymptotically."""
    scaled = distance * math.sqrt(before * after / (before + after)) if before and after else 0.0
    if scaled < 0.2:  # the series needs ever more terms, and its sum is 1 to ten digits
        return 1.0
    terms = ((-1) ** (k - 1) * math.exp(-2 * k * k * scaled * scaled) for k in range(1, 101))
    return min(1.0, max(0.0, 2 * math.fsum(terms)))


def _size(sketch: Sketch) -> float:
    """How many values the distribution is known from."""
    values = sketch.rows - sketch.nulls - sketch.nans - _infinite(sketch)
    return values if sketch.counts is not None else sketch.sampled


def _infinite(sketch: Sketch) -> int:
    """How many numbers are infinite: no distribution has a place for them."""
    # Of times none is counted as finite.
    return sketch.rows - sketch.nulls - sketch.nans - sketch.finite if sketch.finite else 0


def _numbers(
    sketch: Sketch, found: Spread | None, edges: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Rows without a finite number, below the first edge, in each bin, and above the last."""
    missing = sketch.nulls + sketch.nans + _infinite(sketch)
    if found is None:
        return np.array([missing, *np.zeros(len(edges) + 1)])
    below, upto = found.at(edges)
    bounds = np.concatenate([[0.0, below[0]], upto[1:] if len(edges) > 1 else upto, [1.0]])
    return np.array([missing, *(np.diff(bounds) * (sketch.rows - missing))])


def _counts(sketch: Sketch) -> dict[object, float]:
    return dict(sketch.counts) if sketch.counts is not None else dict(sketch.often)


def _values(sketch: Sketch, frequent: list[object]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Rows without a value, with each of the frequent ones, and with any other."""
    counts = _counts(sketch)
    held = [counts.get(value, 0.0) for value in frequent]
    return np.array([sketch.nulls, *held, max(sketch.rows - sketch.nulls - sum(held), 0.0)])
