"""Sketches of a file's columns, made as its rows come: in one pass, a batch at a time, each batch's columns on all cores.

A column with few values is only counted: all that is to be said of it follows from that at the end. Of one with many, numbers
are measured a stretch at a time that stays in the processor's cache. Never opens a file.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mlops_local.engines.data import counted, sketch
from mlops_local.engines.data.counted import Counted
from mlops_local.engines.data.sketch import FEWEST, HASHES, LEVELS, MOST, SAMPLE, Sketch

if TYPE_CHECKING:
    import polars as pl

_Numbers = np.ndarray[Any, Any]
_Made = TypeVar("_Made")
_CELLS = 400 * SAMPLE
"""Values of all columns together that are in the samples, where columns are many: 160 MB of numbers."""
_PROBE = 4 * HASHES
"""Values that tell whether a column has many."""
_STRETCH = 1 << 15
"""Numbers that are measured together."""
_HUGE = ("Int128", "UInt128")
_EXACT = 2**53
"""Whole numbers up to this are the same as floating ones."""
_RANGE = 1 << 16
"""Whole numbers as near each other as this are counted in an array."""
_FACTORS = np.uint64(counted.FACTORS[0]), np.uint64(counted.FACTORS[1])
_LONG = 1 << 13
"""Rows from which on several threads are worth it: of fewer, they wait for each other."""
_SORTED = 1 << 14
"""Numbers up to so many are soonest counted in order."""


def threads() -> Executor:
    """Return threads for `Columns`: none of them starts before it is worth it."""
    return ThreadPoolExecutor(min(os.cpu_count() or 1, 8), "mlops-sketch")


class Columns:
    """Sketches of every column of one file, fed with its rows a batch at a time."""

    def __init__(self, schema: Mapping[str, Any], pool: Executor | None = None) -> None:
        self._schema = dict(schema)
        self._columns = [_Column(kind) for kind in schema.values()]
        self._cast = any(kind.is_temporal() or kind.is_decimal() or _coded(kind) for kind in schema.values())
        self._pool = pool
        self._rows = 0
        self._most = min(SAMPLE, max(FEWEST, _CELLS // max(len(schema), 1)))
        """Rows in the samples."""
        self._places = np.empty(0, dtype=np.uint64)
        """Hashes of the places of the rows that are in the samples."""

    def feed(self, frame: pl.DataFrame) -> None:
        """Take the next rows, in the file's order."""
        if self._cast:
            frame = frame.select(physical(name, kind) for name, kind in self._schema.items())
        chosen, left = self._draw(frame.height)
        self._each(lambda column, values: column.feed(values, chosen, left), frame.get_columns(), rows=frame.height)

    def done(self) -> dict[str, Sketch]:
        """Return the sketches of all rows that were fed."""
        left = self._left()
        found = self._each(lambda column, _: column.done(left), self._columns, rows=len(self._places))
        return dict(zip(self._schema, found, strict=True))

    def _each(self, act: Callable[[_Column, Any], _Made], given: Sequence[Any], *, rows: int) -> list[_Made]:
        """Do something with each column; on several threads, where that is worth their start."""
        several = self._pool.map if self._pool is not None and rows >= _LONG and len(given) > 1 else map
        return list(several(act, self._columns, given))

    def _draw(self, rows: int) -> tuple[pl.Series | None, pl.Series | None]:
        """Choose the rows whose places have the smallest hashes: a sample of all rows, the same whatever the batches.

        Args:
            rows: how many come now.

        Returns:
            Which of them join the sample, and which of the sample stay after that; None: all.
        """
        import polars as pl  # noqa: PLC0415  (it is there: the caller has a frame)

        places = _scatter(np.arange(self._rows, self._rows + rows, dtype=np.uint64))
        self._rows += rows
        chosen = None
        if len(self._places) >= self._most:
            chosen = np.flatnonzero(places < np.partition(self._places, self._most - 1)[self._most - 1])
        elif rows > self._most:  # no other row of these can be among all the smallest
            chosen = np.sort(np.argpartition(places, self._most)[: self._most])
        self._places = np.concatenate([self._places, places if chosen is None else places[chosen]])
        left = self._left() if len(self._places) > self._most * 5 // 4 else None  # seldom: it costs as much as half a batch
        return (None if chosen is None else pl.Series(chosen, dtype=pl.UInt32)), left

    def _left(self) -> pl.Series | None:
        """Leave the smallest places, and return which they were; None: all."""
        import polars as pl  # noqa: PLC0415  (as in `_draw`)

        if len(self._places) <= self._most:
            return None
        left = np.sort(np.argpartition(self._places, self._most)[: self._most])
        self._places = self._places[left]
        return pl.Series(left, dtype=pl.UInt32)


class _Column:
    """One column's sketch."""

    def __init__(self, kind: Any) -> None:
        self._comparable = comparable(kind)
        self._found = Sketch(counts={} if self._comparable else None)
        self._numbers = kind.is_numeric()
        """They have a mean."""
        self._floats = kind.is_float() or kind.is_decimal()
        self._plain = self._floats or kind.is_temporal() or (kind.is_integer() and str(kind) not in _HUGE)
        """numpy has them."""
        self._kind: Any = None
        """The physical type."""
        self._hashes = np.empty(0, dtype=np.uint64)
        self._sample: pl.Series | None = None

    def feed(self, column: pl.Series, chosen: pl.Series | None, left: pl.Series | None) -> None:
        """Take the next values, in their physical form; of them, and then of the sample, which make the sample (None: all)."""
        column = column.rechunk()
        found, nulls = self._found, column.null_count()
        found.rows, found.nulls, self._kind = found.rows + len(column), found.nulls + nulls, column.dtype
        if self._comparable:
            some = column if chosen is None else column[chosen]
            self._sample = some if self._sample is None else self._sample.append(some)
            self._sample = self._sample if left is None else self._sample[left]
        there = column.drop_nulls() if nulls else column
        there = self._real(there) if self._floats else there
        if len(there) and not self._counted(there):
            self._measure(there)

    def _real(self, there: pl.Series) -> pl.Series:
        """Floating numbers without what is none; that is counted, and the extremes are taken from the others."""
        values = there.to_numpy()
        if len(values) and np.isnan(values.min()):
            real = there.filter(there.is_not_nan())
            self._found.nans += len(there) - len(real)
            there, values = real, real.to_numpy()
        if len(values):
            self._found.reach(float(values.min()) + 0.0, float(values.max()) + 0.0)  # the negative zero is zero
        return there

    def _counted(self, there: pl.Series) -> bool:
        """Count the values of a column that has few; False where it has many and they are yet to be looked at."""

        found = self._found
        if found.counts is None:
            return False
        if not found.counts and len(there) >= HASHES and there.head(_PROBE).n_unique() >= HASHES:
            found.counts = None
            return False
        found.counts = counted.both(found.counts, self._few(there))
        if len(found.counts) >= HASHES:
            self._tell(found.counts)
            self._smallest(np.asarray(counted.hashes(found.counts)))
            found.counts = None
        return True

    def _few(self, there: pl.Series) -> Mapping[Any, int]:
        """Each value, and how often it is there."""
        if self._plain:
            return _numbers(there)
        told = there.alias("value").value_counts()
        return dict(zip(told["value"].to_list(), told["count"].to_list(), strict=True))

    def _tell(self, counts: Mapping[Any, int]) -> None:
        """Extremes, mean, spread and lengths, from all values and how often each is there; hashes of what is no `Counted`."""
        import polars as pl  # noqa: PLC0415

        found = self._found
        if not isinstance(counts, Counted):
            found.tell(counts, numbers=self._numbers)
            self._hash(pl.Series(list(counts), dtype=self._kind))
            return
        numbers, times = counted.arrays(counts)
        low, high, most = counts.numbers[0], counts.numbers[-1], int(times.max())
        if not self._floats and max(-low, high) * most >= _EXACT:  # as floating numbers they would not be exact
            found.tell(counts, numbers=self._numbers)
        else:
            found.reach(low, high)
            if self._numbers:
                found.average(*_moments(numbers, times))

    def _measure(self, there: pl.Series) -> None:
        """As `_tell`, of values of which there are many."""
        import polars as pl  # noqa: PLC0415

        found, kind = self._found, there.dtype
        if self._comparable:
            self._hash(there)
            if not self._floats:  # of those, they are known
                found.reach(there.min(), there.max())
        if self._numbers:
            self._average(there.cast(pl.Float64).to_numpy())
        if kind == pl.String or isinstance(kind, pl.List):
            long = there.str.len_chars() if kind == pl.String else there.list.len()
            said: Any = (long.min(), long.max(), long.sum())
            found.stretch(*said)

    def _average(self, values: _Numbers) -> None:
        if self._found.low == -np.inf or self._found.high == np.inf:
            values = values[np.isfinite(values)]
        scratch = np.empty(min(_STRETCH, len(values)))
        with np.errstate(all="ignore"):  # numbers too large to be squared have a spread without end
            for start in range(0, len(values), _STRETCH):
                some = values[start : start + _STRETCH]
                mean = some.sum() / len(some)
                apart = np.subtract(some, mean, out=scratch[: len(some)])
                self._found.average(len(some), float(mean), float(np.einsum("i,i->", apart, apart)))

    def _hash(self, there: pl.Series) -> None:
        """Keep the smallest hashes; once there are enough, most values only have to be compared with the largest of them."""
        fresh = []
        for hashes in _hashed(there):
            if len(self._hashes) == HASHES:
                fresh.append(hashes[hashes < self._hashes[-1]])
            else:
                self._smallest(hashes)
        if fresh:
            self._smallest(*fresh)

    def _smallest(self, *hashes: _Numbers) -> None:
        self._hashes = _smallest(np.concatenate([self._hashes, *hashes]))

    def done(self, left: pl.Series | None) -> Sketch:
        """Return the sketch, with what is left of the sample (None: all); nothing is fed after that."""

        found = self._found
        if found.counts:
            self._tell(found.counts)
        elif found.counts is None and self._sample is not None:
            self._estimate((self._sample if left is None else self._sample[left]).drop_nulls())
        found.hashes = array("Q", self._hashes.tobytes())
        return found

    def _estimate(self, values: pl.Series) -> None:
        """Say from a sample how many values are spread and which are frequent."""
        import polars as pl  # noqa: PLC0415

        found = self._found
        values = values.drop_nans() if values.dtype.is_float() else values
        if not len(values):
            return
        share = (found.rows - found.nulls - found.nans) / len(values)
        numbers = values.dtype.is_numeric()
        ordered = np.sort(values.cast(pl.Float64).to_numpy()) if numbers else np.empty(0)
        if values.dtype.is_float() or (numbers and found.low > -_EXACT and found.high < _EXACT):
            often = _runs(ordered, int if values.dtype.is_integer() else float)
        else:
            counts = values.alias("value").value_counts().sort("count", "value", descending=[True, False])
            often = dict(counts.head(MOST).iter_rows())
        found.often = {value: count * share for value, count in often.items() if count > 2}
        real = ordered[np.isfinite(ordered)]
        if len(real):
            wanted = np.maximum(np.ceil(np.asarray(LEVELS) * len(real)), 1)
            found.sampled = len(real)
            found.points = [(float(len(real) * share), real[wanted.astype(np.intp) - 1].tolist())]


def _runs(ordered: _Numbers, kind: type) -> dict[Any, int]:
    """The most frequent of numbers in order, and how often each is there."""
    first = _firsts(ordered)
    counts = np.diff(first, append=len(ordered))
    most = np.argsort(-counts, kind="stable")[:MOST]
    return {kind(value): int(count) for value, count in zip(ordered[first[most]], counts[most], strict=True)}


def _numbers(there: pl.Series) -> Counted:
    """Numbers in order, each once, and how often it is there."""
    values = there.to_numpy()
    if not there.dtype.is_float():
        low, high = int(values.min()), int(values.max())
        if high - low < min(_RANGE, 1024 + 8 * len(values)) and low >= -(2**63) and high < 2**63:
            counts = np.bincount(values.astype(np.int64) - low)
            found = np.flatnonzero(counts)
            return counted.of((found + low).astype(values.dtype), counts[found])
    if len(values) > _SORTED:
        told = there.alias("value").value_counts()
        values, counts = told["value"].to_numpy(), told["count"].to_numpy()
        order = np.argsort(values)
        return counted.of(_positive(values[order]), counts[order])
    ordered = np.sort(values)
    first = _firsts(ordered)
    return counted.of(_positive(ordered[first]), np.diff(first, append=len(ordered)))


def _positive(values: _Numbers) -> _Numbers:
    """The negative zero is zero."""
    return values + 0.0 if values.dtype.kind == "f" else values


def _firsts(ordered: _Numbers) -> _Numbers:
    """Where in numbers in order each stands first."""
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def _moments(numbers: _Numbers, times: _Numbers) -> tuple[int, float, float]:
    """How many finite numbers there are, their mean, and their squared distances from it."""
    if numbers.dtype.kind == "f" and not (np.isfinite(numbers[0]) and np.isfinite(numbers[-1])):
        finite = np.isfinite(numbers)
        numbers, times = numbers[finite], times[finite]
    count = int(times.sum())
    with np.errstate(all="ignore"):  # numbers too large to be squared have a spread without end
        mean = sketch.total((numbers * times).tolist()) / max(count, 1)
        apart = numbers - mean
        return count, mean, sketch.total((apart * apart * times).tolist())


def comparable(kind: Any) -> bool:
    """Whether values of a polars type have an order and can be counted."""
    import polars as pl  # noqa: PLC0415  (as below: whoever has rows has it)

    return not kind.is_nested() and kind not in (pl.Binary, pl.Null, pl.Object)


def physical(name: str, kind: Any) -> pl.Expr:
    """A column as plain numbers, text or truth."""
    import polars as pl  # noqa: PLC0415

    column = pl.col(name)
    if kind.is_temporal():
        return column.to_physical()
    if kind.is_decimal():
        return column.cast(pl.Float64)
    return column.cast(pl.String) if _coded(kind) else column


def _coded(kind: Any) -> bool:
    """Whether its values are words that are kept as numbers."""
    import polars as pl  # noqa: PLC0415

    return isinstance(kind, (pl.Categorical, pl.Enum))


def _hashed(there: pl.Series) -> Iterator[_Numbers]:
    """Hashes of values, a stretch at a time, in an array that the next stretch takes; of equal numbers equal ones."""
    import polars as pl  # noqa: PLC0415

    kind = there.dtype
    if not kind.is_numeric() or kind in (pl.Int128, pl.UInt128):
        all = there.hash(0).to_numpy()
        yield from (all[start : start + _STRETCH] for start in range(0, len(all), _STRETCH))
        return
    values = there.to_numpy()
    bits = np.empty(min(_STRETCH, len(values)), dtype=np.uint64)
    for start in range(0, len(values), _STRETCH):
        some = values[start : start + _STRETCH]
        yield counted.hashed(some, bits[: len(some)])


def _smallest(hashes: _Numbers) -> _Numbers:
    """The smallest of hashes, each once, in order."""
    ordered = np.sort(hashes)
    return ordered[np.flatnonzero(np.diff(ordered, prepend=ordered[:1] ^ np.uint64(1)))[:HASHES]]


def _scatter(places: _Numbers) -> _Numbers:
    """An even hash of row numbers (the finalizer of splitmix64)."""
    mixed = (places + np.uint64(1)) * _FACTORS[0]
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FACTORS[1]
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    scattered: _Numbers = mixed ^ (mixed >> np.uint64(31))
    return scattered
