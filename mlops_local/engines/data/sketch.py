"""What a column of one file holds, small enough to keep and made to be added up: a file that never changes is read once.

Counts, extremes, mean and spread add up exactly. Distinct values are estimated from the smallest hashes seen (exact below
`HASHES`), quantiles from a sample of `SAMPLE` rows a file that depends on the rows' places alone. Values are kept in their
physical form (times as whole numbers); `sketch` reads frames, everything else is arithmetic. Never opens a file.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

HASHES = 1024
"""So many smallest hashes are kept of a column: the estimate of its distinct values has a standard error of 3 %."""
SAMPLE = 50_000
"""Rows of a file whose values say its quantiles: they are off by less than 0.8 % of the rows, 99 times in 100."""
LEVELS = tuple(sorted({step / 128 for step in range(129)} | {0.001, 0.002, 0.004, 0.996, 0.998, 0.999}))
"""The shares of a file's values whose quantiles are kept: evenly spread, closer at both ends."""
FORM = 2
"""Raised when a sketch of before cannot be read or says something else."""
_TOP = 64
_FIRST = 16 * HASHES
"""Rows whose hashes are kept first: what is larger than the last of those need not be put in order."""
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
        return round((HASHES - 1) * _RANGE / max(self.hashes[-1], 1))


def add(sketches: Iterable[Sketch]) -> Sketch:
    """Return what several parts of a column amount to."""
    total = Sketch(counts={})
    for part in sketches:
        _add(total, part)
    return total


def _add(total: Sketch, part: Sketch) -> None:
    total.rows, total.nulls, total.nans = total.rows + part.rows, total.nulls + part.nulls, total.nans + part.nans
    total.low = part.low if total.low is None or (part.low is not None and part.low < total.low) else total.low
    total.high = part.high if total.high is None or (part.high is not None and part.high > total.high) else total.high
    both = total.finite + part.finite
    if part.finite:
        apart = part.mean - total.mean
        total.squares += part.squares + apart * apart * total.finite * part.finite / both
        total.mean += apart * part.finite / both
    total.finite = both
    if part.lengths:
        shortest, longest, together = total.lengths or [part.lengths[0], 0, 0]
        total.lengths = [min(shortest, part.lengths[0]), max(longest, part.lengths[1]), together + part.lengths[2]]
    total.hashes = sorted({*total.hashes, *part.hashes})[:HASHES]
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
    total.often = _most(total.often)


def _most(counts: Mapping[Any, float]) -> dict[Any, float]:
    """The most frequent values."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))[:_TOP])


def to_json(sketch: Sketch) -> dict[str, Any]:
    """The sketch as JSON values."""
    return {
        **{key: value for key, value in vars(sketch).items() if key not in ("hashes", "counts", "often", "low", "high")},
        "low": _plain(sketch.low),
        "high": _plain(sketch.high),
        "hashes": base64.b64encode(b"".join(value.to_bytes(8, "big") for value in sketch.hashes)).decode(),
        "counts": None if sketch.counts is None else [[_plain(value), count] for value, count in sketch.counts.items()],
        "often": [[_plain(value), about] for value, about in sketch.often.items()],
    }


def from_json(value: Mapping[str, Any]) -> Sketch:
    """Back from `to_json`. Raises KeyError, TypeError, ValueError where it is no sketch."""
    packed = base64.b64decode(value["hashes"])
    return Sketch(
        **{
            **value,
            "low": _back(value["low"]),
            "high": _back(value["high"]),
            "hashes": [int.from_bytes(packed[at : at + 8], "big") for at in range(0, len(packed), 8)],
            "counts": None if value["counts"] is None else {_back(one): count for one, count in value["counts"]},
            "often": {_back(one): about for one, about in value["often"]},
            "points": [(count, points) for count, points in value["points"]],
        }
    )


def _plain(value: Any) -> Any:
    """Infinity and NaN as a list of one: JSON has no word for them."""
    return [str(value)] if isinstance(value, float) and not math.isfinite(value) else value


def _back(value: Any) -> Any:
    return float(value[0]) if isinstance(value, list) else value


# -- from rows


def plain(values: Sequence[Any]) -> Sketch:
    """Return the sketch of whole numbers or of text, None for a null: exact, and made without any library."""
    there = [value for value in values if value is not None]
    found = Sketch(rows=len(values), nulls=len(values) - len(there), counts=dict(Counter(there)))
    if not there:
        return found
    found.low, found.high = min(there), max(there)
    if isinstance(there[0], str):
        lengths = [len(value) for value in there]
        found.lengths = [min(lengths), max(lengths), sum(lengths)]
    else:
        found.finite, found.mean = len(there), sum(there) / len(there)
        found.squares = math.fsum((value - found.mean) ** 2 for value in there)
    return found


class Columns:
    """Sketches of every column of one file, fed with its rows a batch at a time."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = dict(schema)
        self.found = {name: Sketch(counts={} if comparable(kind) else None) for name, kind in schema.items()}
        self._rows = 0
        self._sample: list[pl.DataFrame] = []
        self._places: list[np.ndarray[Any, Any]] = []
        self._limit = 2**64 - 1

    def feed(self, frame: pl.DataFrame) -> None:
        """Take the next rows, in the file's order."""
        import polars.selectors as cs  # noqa: PLC0415  (polars is there: the caller has a frame)

        plain = frame.select(physical(name, kind) for name, kind in self.schema.items())
        self._exact(plain)
        values = plain.with_columns(cs.float().fill_nan(None))
        self._hashes(values)
        self._few(values)
        self._draw(values)
        self._rows += plain.height

    def done(self) -> dict[str, Sketch]:
        """Return the sketches of all rows that were fed."""
        if self._sample:
            self._thin()
        for sample in self._sample:
            for name in sample.columns:
                _quantiles(self.found[name], sample[name])
        return self.found

    def _exact(self, frame: pl.DataFrame) -> None:
        """Counts, extremes, mean, spread and lengths of one batch, added to what was there."""
        import polars as pl  # noqa: PLC0415

        wanted: list[pl.Expr] = []
        for index, (name, kind) in enumerate(frame.schema.items()):
            column = pl.col(name)
            wanted.append(column.null_count().alias(f"nulls {index}"))
            if kind.is_float():
                column = column.fill_nan(None)
                wanted.append(pl.col(name).is_nan().sum().alias(f"nans {index}"))
            if comparable(kind):
                wanted += [column.min().alias(f"low {index}"), column.max().alias(f"high {index}")]
            if kind.is_numeric() and comparable(self.schema[name]) and not self.schema[name].is_temporal():
                real = column.filter(column.is_finite()) if kind.is_float() else column.cast(pl.Float64)
                wanted += [real.mean().alias(f"mean {index}"), real.var(ddof=0).alias(f"spread {index}")]
                wanted.append(real.count().alias(f"finite {index}"))
            if kind == pl.String or isinstance(kind, pl.List):
                long = column.str.len_chars() if kind == pl.String else column.list.len()
                wanted += [long.min().alias(f"short {index}"), long.max().alias(f"long {index}")]
                wanted.append(long.sum().alias(f"all {index}"))
        said = frame.select(wanted).row(0, named=True) if wanted else {}
        for index, name in enumerate(frame.columns):
            _add(self.found[name], _part(said, index, frame.height, like=self.found[name]))

    def _hashes(self, frame: pl.DataFrame) -> None:
        """Keep the smallest hashes; once there are enough, a batch only has to be compared with the largest of them."""
        import polars as pl  # noqa: PLC0415

        if not self._rows and frame.height > 2 * _FIRST:
            self._hashes(frame.head(_FIRST))
            frame = frame.slice(_FIRST)
        names = [name for name, kind in self.schema.items() if comparable(kind)]
        wanted = []
        for name in names:
            kept, hashed = self.found[name].hashes, pl.col(name).drop_nulls().hash(0)
            small = hashed.filter(hashed < kept[-1]) if len(kept) == HASHES else hashed
            wanted.append(small.unique().bottom_k(HASHES).implode().alias(name))
        if not wanted:
            return
        found = frame.select(wanted)
        for name in names:
            fresh = found[name][0].to_list()
            if fresh:
                self.found[name].hashes = sorted({*self.found[name].hashes, *fresh})[:HASHES]

    def _few(self, frame: pl.DataFrame) -> None:
        """Count the values of columns that have few."""
        for name in frame.columns:
            sketch = self.found[name]
            if sketch.counts is None or len(sketch.hashes) == HASHES:
                sketch.counts = None
                continue
            for value, count in frame[name].drop_nulls().value_counts().iter_rows():
                sketch.counts[value] = sketch.counts.get(value, 0) + count

    def _draw(self, frame: pl.DataFrame) -> None:
        """Keep the rows whose places have the smallest hashes: a sample of all rows, the same whatever the batches."""
        import numpy as np  # noqa: PLC0415

        places = _scatter(np.arange(self._rows, self._rows + frame.height, dtype=np.uint64))
        chosen = np.flatnonzero(places <= np.uint64(self._limit))
        if len(chosen) > SAMPLE:  # no other row of these can be among all the smallest
            chosen = np.sort(chosen[np.argpartition(places[chosen], SAMPLE)[:SAMPLE]])
        self._sample.append(frame[chosen].select(name for name, kind in frame.schema.items() if comparable(kind)))
        self._places.append(places[chosen])
        every = np.concatenate(self._places)
        if len(every) > SAMPLE:
            self._limit = int(np.partition(every, SAMPLE - 1)[SAMPLE - 1])
        if len(every) > 3 * SAMPLE:
            self._thin()

    def _thin(self) -> None:
        """Leave the rows with the smallest hashes, `SAMPLE` at most."""
        import numpy as np  # noqa: PLC0415
        import polars as pl  # noqa: PLC0415

        every, rows = np.concatenate(self._places), pl.concat(self._sample)
        if len(every) > SAMPLE:
            best = np.flatnonzero(every <= np.uint64(self._limit))
            rows, every = rows[best], every[best]
        self._sample, self._places = [rows], [every]


def comparable(kind: Any) -> bool:
    """Whether values of a polars type have an order and can be counted."""
    import polars as pl  # noqa: PLC0415

    return not kind.is_nested() and kind not in (pl.Binary, pl.Null, pl.Object)


def physical(name: str, kind: Any) -> pl.Expr:
    """A column as plain numbers, text or truth."""
    import polars as pl  # noqa: PLC0415

    column = pl.col(name)
    if kind.is_temporal():
        return column.to_physical()
    if kind.is_decimal():
        return column.cast(pl.Float64)
    return column.cast(pl.String) if isinstance(kind, (pl.Categorical, pl.Enum)) else column


def _scatter(places: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An even hash of row numbers (the finalizer of splitmix64)."""
    import numpy as np  # noqa: PLC0415

    mixed = (places + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    scattered: np.ndarray[Any, Any] = mixed ^ (mixed >> np.uint64(31))
    return scattered


def _part(said: Mapping[str, Any], index: int, rows: int, *, like: Sketch) -> Sketch:
    finite = int(said.get(f"finite {index}") or 0)
    short = said.get(f"short {index}")
    return Sketch(
        rows=rows,
        nulls=int(said[f"nulls {index}"]),
        nans=int(said.get(f"nans {index}") or 0),
        low=said.get(f"low {index}"),
        high=said.get(f"high {index}"),
        finite=finite,
        mean=float(said[f"mean {index}"]) if finite else 0.0,
        squares=float(said[f"spread {index}"]) * finite if finite else 0.0,
        lengths=[] if short is None else [int(short), int(said[f"long {index}"]), int(said[f"all {index}"])],
        counts=None if like.counts is None else {},
    )


def _quantiles(sketch: Sketch, sample: pl.Series) -> None:
    """Say from the sample how the values are spread and which are frequent."""
    import numpy as np  # noqa: PLC0415
    import polars as pl  # noqa: PLC0415

    values = sample.drop_nulls()
    if sketch.counts is None and len(values):
        share = (sketch.rows - sketch.nulls - sketch.nans) / len(values)
        counted = values.value_counts(sort=True).filter(pl.col("count") > 2).head(_TOP)
        sketch.often = {value: count * share for value, count in counted.iter_rows()}
    if not values.dtype.is_numeric():
        return
    real = values.cast(pl.Float64).to_numpy()
    real = real[np.isfinite(real)]
    if len(real):
        spread = np.sort(real)[np.maximum(np.ceil(np.asarray(LEVELS) * len(real)).astype(np.int64) - 1, 0)]
        weight = (sketch.rows - sketch.nulls - sketch.nans) * len(real) / len(values)
        sketch.points = [(weight, [float(value) for value in spread])]
