"""What a column of one file holds, small enough to keep and made to be added up: a file that never changes is read once.

Counts, extremes, mean and spread add up exactly. Distinct values are estimated from the smallest hashes seen (exact below
`HASHES`), quantiles from a sample of `SAMPLE` rows a file that depends on the rows' places alone. Values are kept in their
physical form (times as whole numbers). `columns` makes sketches of frames; here is arithmetic only.
"""

from __future__ import annotations

import bisect
import math
import operator
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlops_local.engines.data import counted
from mlops_local.engines.data.counted import Counted

HASHES = 1024
"""So many smallest hashes are kept of a column: the estimate of its distinct values has a standard error of 3 %."""
SAMPLE = 50_000
"""Rows of a file whose values say its quantiles: they are off by less than 0.8 % of the rows, 99 times in 100."""
FEWEST = 5_000
"""So many rows at least of a file with many columns: then by less than 2.4 %."""
LEVELS = tuple(sorted({step / 128 for step in range(129)} | {0.001, 0.002, 0.004, 0.996, 0.998, 0.999}))
"""The shares of a file's values whose quantiles are kept: evenly spread, closer at both ends."""
FORM = 4
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
    hashes: Sequence[int] = ()
    """The smallest hashes of its values, in order; of numbers that are counted none: `counted` makes them when needed."""
    counts: Mapping[Any, int] | None = None
    """Value -> how often, where there are few; None where there are many."""
    often: dict[Any, float] = field(default_factory=dict)
    """Value -> about how often, from the sample: of columns with many values, those that are frequent."""
    points: list[tuple[float, list[float]]] = field(default_factory=list)
    """Of numbers and times: how many values, and their quantiles at `LEVELS`; one pair a file with many of them."""
    sampled: int = 0
    """How many values those quantiles are from."""

    @property
    def distinct(self) -> int | None:
        """How many values there are, nulls left out; about, from `HASHES` on. None where values cannot be compared."""
        if self.counts is not None:
            return len(self.counts)
        if len(self.hashes) < HASHES:
            return len(self.hashes) if self.hashes else None
        there = self.rows - self.nulls - self.nans
        return min(round((HASHES - 1) * _RANGE / max(self.hashes[-1], 1)), there)

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
            count = sum(counts.values())
            mean = total(map(operator.mul, counts, counts.values())) / max(count, 1)
            distances = [value - mean for value in counts]
            squares = map(operator.mul, distances, distances)
            self.average(count, mean, total(map(operator.mul, squares, counts.values())))


class Sum:
    """What several parts of a column amount to, taken one after the other."""

    def __init__(self) -> None:
        self._total = Sketch(counts={})
        self._hashes: set[int] = set()
        self._most = math.inf
        """No hash from here on is among the smallest."""

    def take(self, part: Sketch) -> None:
        """Add a part; it is not changed."""
        before = self._total.counts
        _add(self._total, part)
        if self._total.counts is None:
            for counts in (before, part.counts):
                self._see(counted.hashes(counts or {}))
                for many, quantiles in counted.quantiles(counts or {}, LEVELS):
                    self._total.points.append((many, quantiles))
                    self._total.sampled += int(many)
        self._see(part.hashes)

    def _see(self, hashes: Sequence[int]) -> None:
        self._hashes.update(hashes[: bisect.bisect_left(hashes, self._most)])
        if len(self._hashes) > 2 * HASHES:  # put in order only then: after each of 2,000 files it took most of the time
            least = sorted(self._hashes)[:HASHES]
            self._hashes, self._most = set(least), least[-1]

    def done(self) -> Sketch:
        """Return the sum; nothing is added after that."""
        self._total.hashes = array("Q", sorted(self._hashes)[:HASHES])
        self._total.often = most(self._total.often)
        return self._total


def add(sketches: Iterable[Sketch]) -> Sketch:
    """Return what several parts of a column amount to."""
    made = Sum()
    for part in sketches:
        made.take(part)
    return made.done()


def _add(total: Sketch, part: Sketch) -> None:
    total.rows, total.nulls, total.nans = total.rows + part.rows, total.nulls + part.nulls, total.nans + part.nans
    total.reach(part.low, part.high)
    total.average(part.finite, part.mean, part.squares)
    if part.lengths:
        total.stretch(*part.lengths)
    _add_counts(total, part)
    total.points += part.points
    total.sampled += part.sampled


def _add_counts(total: Sketch, part: Sketch) -> None:
    if total.counts is not None and part.counts is not None:
        total.counts = counted.both(total.counts, part.counts)
        if len(total.counts) < HASHES:
            return
        part = Sketch(often=most(total.counts))
        total.counts = None
    else:
        if total.counts is not None:
            total.often, total.counts = most(total.counts), None
        part = Sketch(often=part.often if part.counts is None else most(part.counts))
    for value, about in part.often.items():
        total.often[value] = total.often.get(value, 0.0) + about
    if len(total.often) > _MANY * MOST:
        total.often = most(total.often)


def total(values: Iterable[float]) -> float:
    """The exact sum, whatever their order; infinite where it is too large for a number."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):  # or the difference of two such
        return math.inf


def most(counts: Mapping[Any, float], count: int = MOST) -> dict[Any, float]:
    """The most frequent values, in no order; of equally frequent ones the smallest."""
    if len(counts) <= count:
        return dict(counts.items())
    if isinstance(counts, Counted):
        return counts.most(count)
    least = sorted(counts.values(), reverse=True)[count - 1]
    made = {value: often for value, often in counts.items() if often > least}
    equal = [value for value, often in counts.items() if often == least]
    try:
        equal.sort()
    except TypeError:  # values of several types
        equal.sort(key=str)
    return made | dict.fromkeys(equal[: count - len(made)], least)


def to_json(sketch: Sketch) -> dict[str, Any]:
    """The sketch as JSON values."""
    return {
        **{key: value for key, value in vars(sketch).items() if key not in ("hashes", "counts", "often", "low", "high")},
        "low": _plain(sketch.low),
        "high": _plain(sketch.high),
        "hashes": counted.packed(array("Q", sketch.hashes)),
        "counts": _plain_counts(sketch.counts),
        "often": [[_plain(value), about] for value, about in sketch.often.items()],
    }


def from_json(value: Mapping[str, Any]) -> Sketch:
    """Back from `to_json`. Raises KeyError, TypeError, ValueError where it is no sketch."""
    return Sketch(
        **{
            **value,
            "low": _back(value["low"]),
            "high": _back(value["high"]),
            "hashes": counted.unpacked(value["hashes"]),
            "counts": _counts(value["counts"]),
            "often": _pairs(value["often"]),
            "points": [(count, points) for count, points in value["points"]],
        }
    )


def _plain_counts(counts: Mapping[Any, int] | None) -> Any:
    """Of numbers in order two packed columns, of anything else pairs of value and count."""
    if isinstance(counts, Counted):
        return {"values": counted.packed(counts.numbers), "times": counted.packed(counts.times)}
    return None if counts is None else [[_plain(value), count] for value, count in counts.items()]


def _counts(value: Any) -> Mapping[Any, int] | None:
    if isinstance(value, dict):
        return Counted(counted.unpacked(value["values"]), counted.unpacked(value["times"]))
    return None if value is None else _pairs(value)


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
