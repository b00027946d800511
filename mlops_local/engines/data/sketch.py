"""What a column of one file holds, small enough to keep and made to be added up: a file that never changes is read once.

Counts, extremes, mean and spread add up exactly. Distinct values are estimated from the smallest hashes seen (exact below
`HASHES`), quantiles from a sample of `SAMPLE` rows a file that depends on the rows' places alone. Values are kept in their
physical form (times as whole numbers). `columns` makes sketches of frames; here is arithmetic only.
"""

from __future__ import annotations

import base64
import bisect
import math
import operator
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

HASHES = 1024
"""So many smallest hashes are kept of a column: the estimate of its distinct values has a standard error of 3 %."""
SAMPLE = 50_000
"""Rows of a file whose values say its quantiles: they are off by less than 0.8 % of the rows, 99 times in 100."""
LEVELS = tuple(sorted({step / 128 for step in range(129)} | {0.001, 0.002, 0.004, 0.996, 0.998, 0.999}))
"""The shares of a file's values whose quantiles are kept: evenly spread, closer at both ends."""
FORM = 3
"""Raised when a sketch of before cannot be read or says something else."""
MOST = 64
"""Frequent values kept of a column with many."""
_MANY = 16
"""So many times what is kept may come together before it is thinned out."""
_RANGE = 2.0**64


@dataclass
class Sketch:
    """One column of some rows."""

    rows: int = 0
    nulls: int = 0
    nans: int = 0
    low: Any = None
    high: Any = None
    finite: int = 0
    """Numbers that are neither null, NaN nor infinite: what the mean is of."""
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared distances from the mean."""
    lengths: list[int] = field(default_factory=list)
    """Of text in characters, of lists in elements: the shortest, the longest, all together."""
    hashes: list[int] = field(default_factory=list)
    """The smallest hashes of its values, in order."""
    counts: dict[Any, int] | None = None
    """Value -> how often, where there are few; None where there are many."""
    often: dict[Any, float] = field(default_factory=dict)
    """Value -> about how often, from the sample: of columns with many values, those that are frequent."""
    points: list[tuple[float, list[float]]] = field(default_factory=list)
    """Of numbers and times: how many values, and their quantiles at `LEVELS`; one pair a file."""

    @property
    def distinct(self) -> int | None:
        """How many values there are, nulls left out; about, from `HASHES` on. None where values cannot be compared."""
        if self.counts is not None:
            return len(self.counts)
        if len(self.hashes) < HASHES:
            return len(self.hashes) if self.hashes else None
        return min(round((HASHES - 1) * _RANGE / max(self.hashes[-1], 1)), self.rows - self.nulls)

    def reach(self, low: Any, high: Any) -> None:
        """Take in the extremes of more values."""
        self.low = low if self.low is None or (low is not None and low < self.low) else self.low
        self.high = high if self.high is None or (high is not None and high > self.high) else self.high

    def average(self, count: int, mean: float, squares: float) -> None:
        """Take in more finite numbers: how many, their mean, and their squared distances from it."""
        if count:
            both, apart = self.finite + count, mean - self.mean
            self.squares += squares + apart * apart * self.finite * count / both
            self.mean += apart * count / both
            self.finite = both

    def stretch(self, shortest: int, longest: int, together: int) -> None:
        """Take in the lengths of more values."""
        least, most, all = self.lengths or [shortest, 0, 0]
        self.lengths = [min(least, shortest), max(most, longest), all + together]

    def tell(self, counts: Mapping[Any, int], *, numbers: bool) -> None:
        """Take in all that follows from how often each value is there, but for the counts themselves.

        Args:
            counts: value -> how often; no null and no NaN.
            numbers: they have a mean.
        """
        if not counts:
            return
        self.reach(min(counts), max(counts))
        if isinstance(self.low, str):
            lengths = [len(value) for value in counts]
            together = sum(map(operator.mul, lengths, counts.values()))
            self.stretch(min(lengths), max(lengths), together)
        elif numbers:
            if not (math.isfinite(self.low) and math.isfinite(self.high)):
                counts = {value: count for value, count in counts.items() if math.isfinite(value)}
            total = sum(counts.values())
            mean = _sum(map(operator.mul, counts, counts.values())) / max(total, 1)
            distances = [value - mean for value in counts]
            squares = map(operator.mul, distances, distances)
            self.average(total, mean, _sum(map(operator.mul, squares, counts.values())))


class Sum:
    """What several parts of a column amount to, taken one after the other."""

    def __init__(self) -> None:
        self._total = Sketch(counts={})
        self._hashes: set[int] = set()
        self._most = math.inf
        """No hash from here on is among the smallest."""

    def take(self, part: Sketch) -> None:
        """Add a part; it is not changed."""
        _add(self._total, part)
        self._hashes.update(part.hashes[: bisect.bisect_left(part.hashes, self._most)])
        if len(self._hashes) > 2 * HASHES:  # put in order only then: after each of 2,000 files it took most of the time
            least = sorted(self._hashes)[:HASHES]
            self._hashes, self._most = set(least), least[-1]

    def done(self) -> Sketch:
        """Return the sum; nothing is added after that."""
        self._total.hashes = sorted(self._hashes)[:HASHES]
        self._total.often = _most(self._total.often)
        return self._total


def add(sketches: Iterable[Sketch]) -> Sketch:
    """Return what several parts of a column amount to."""
    total = Sum()
    for part in sketches:
        total.take(part)
    return total.done()


def _add(total: Sketch, part: Sketch) -> None:
    total.rows, total.nulls, total.nans = total.rows + part.rows, total.nulls + part.nulls, total.nans + part.nans
    total.reach(part.low, part.high)
    total.average(part.finite, part.mean, part.squares)
    if part.lengths:
        total.stretch(*part.lengths)
    _add_counts(total, part)
    total.points += part.points


def _add_counts(total: Sketch, part: Sketch) -> None:
    if total.counts is not None and part.counts is not None:
        for value, count in part.counts.items():
            total.counts[value] = total.counts.get(value, 0) + count
        if len(total.counts) < HASHES:
            return
        part = Sketch(often=_most(total.counts))
        total.counts = None
    else:
        if total.counts is not None:
            total.often, total.counts = _most(total.counts), None
        part = Sketch(often=part.often if part.counts is None else _most(part.counts))
    for value, about in part.often.items():
        total.often[value] = total.often.get(value, 0.0) + about
    if len(total.often) > _MANY * MOST:
        total.often = _most(total.often)


def _sum(values: Iterable[float]) -> float:
    """The exact sum, whatever their order; infinite where it is too large for a number."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):  # or the difference of two such
        return math.inf


def _most(counts: Mapping[Any, float]) -> dict[Any, float]:
    """The most frequent values, in no order; of equally frequent ones the smallest."""
    if len(counts) <= MOST:
        return dict(counts)
    least = sorted(counts.values(), reverse=True)[MOST - 1]
    made = {value: count for value, count in counts.items() if count > least}
    equal = [value for value, count in counts.items() if count == least]
    try:
        equal.sort()
    except TypeError:  # values of several types
        equal.sort(key=str)
    return made | dict.fromkeys(equal[: MOST - len(made)], least)


def to_json(sketch: Sketch) -> dict[str, Any]:
    """The sketch as JSON values."""
    return {
        **{key: value for key, value in vars(sketch).items() if key not in ("hashes", "counts", "often", "low", "high")},
        "low": _plain(sketch.low),
        "high": _plain(sketch.high),
        "hashes": base64.b64encode(_swapped(array("Q", sketch.hashes)).tobytes()).decode(),
        "counts": None if sketch.counts is None else _plain_counts(sketch),
        "often": [[_plain(value), about] for value, about in sketch.often.items()],
    }


def from_json(value: Mapping[str, Any]) -> Sketch:
    """Back from `to_json`. Raises KeyError, TypeError, ValueError where it is no sketch."""
    hashes = _swapped(array("Q", base64.b64decode(value["hashes"])))
    return Sketch(
        **{
            **value,
            "low": _back(value["low"]),
            "high": _back(value["high"]),
            "hashes": hashes.tolist(),
            "counts": None if value["counts"] is None else _pairs(value["counts"]),
            "often": _pairs(value["often"]),
            "points": [(count, points) for count, points in value["points"]],
        }
    )


def _swapped(hashes: array[int]) -> array[int]:
    """To the byte order they are kept in, or back from it."""
    if sys.byteorder == "little":
        hashes.byteswap()
    return hashes


def _plain_counts(sketch: Sketch) -> list[Any]:
    """Pairs of value and count; between two finite ones, none needs a look."""
    counts = (sketch.counts or {}).items()
    if _plain(sketch.low) is sketch.low and _plain(sketch.high) is sketch.high:
        return list(counts)
    return [[_plain(value), count] for value, count in counts]


def _plain(value: Any) -> Any:
    """Infinity and NaN as a list of one: JSON has no word for them."""
    return [str(value)] if isinstance(value, float) and not math.isfinite(value) else value


def _pairs(value: Sequence[tuple[Any, Any]]) -> dict[Any, Any]:
    try:
        return dict(value)
    except TypeError:  # one is a list: infinity
        return {_back(one): count for one, count in value}


def _back(value: Any) -> Any:
    return float(value[0]) if isinstance(value, list) else value


def plain(values: Sequence[Any]) -> Sketch:
    """Return the sketch of whole numbers or of text, None for a null: exact, and made without any library."""
    there = [value for value in values if value is not None]
    found = Sketch(rows=len(values), nulls=len(values) - len(there), counts=dict(Counter(there)))
    found.tell(found.counts or {}, numbers=True)
    return found
