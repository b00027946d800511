"""What a candidate fits on: features, label and the raw rows they came from, of one part of the split.

Lives in the domain so that the user's code (`mlops.XY`) and the worker share one class. It holds polars frames but never
imports polars at import time: an annotation must cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl


class XY:
    """Features `X`, label `y` and raw `rows`, aligned row by row."""

    def __init__(self, X: pl.DataFrame, y: Any, rows: pl.DataFrame) -> None:
        """Keep three frames of equal height.

        Args:
            X: what the transform made of the rows.
            y: the label, without nulls: a series, or a frame with a column for each target where the model has several.
            rows: the split part's rows that have a label, every column.
        """
        if not X.height == len(y) == rows.height:
            raise ValueError(f"X, y and rows differ in length: {X.height}, {len(y)}, {rows.height}")
        self.X = X
        self.y = y
        self.rows = rows

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        label = ", ".join(self.y.columns) if hasattr(self.y, "columns") else self.y.name
        return f"XY({len(self)} rows, {self.X.width} features, label {label!r})"

    def batches(self, n: int, *, shuffle: bool = False, seed: int | None = None) -> Iterator[XY]:
        """Yield the rows in batches of `n`; the last may be shorter.

        Args:
            n: rows in a batch.
            shuffle: draw the rows in another order at each call; reproducible within a step, whose seeds are fixed.
            seed: of the shuffle; by default drawn from Python's own generator, which the worker seeds.
        """
        if n < 1:
            raise ValueError(f"a batch has at least one row, got {n}")
        source = self.shuffled(seed) if shuffle else self
        for start in range(0, len(source), n):
            yield source.slice(start, n)

    def slice(self, start: int, length: int) -> XY:
        """The rows from `start` on, at most `length` of them."""
        return XY(self.X.slice(start, length), self.y.slice(start, length), self.rows.slice(start, length))

    def shuffled(self, seed: int | None = None) -> XY:
        """The same rows in another order."""
        import random  # noqa: PLC0415 - 3 ms, and only when shuffling

        order = list(range(len(self)))
        random.Random(random.getrandbits(64) if seed is None else seed).shuffle(order)
        return XY(self.X[order], self.y[order], self.rows[order])


def concat(*parts: XY) -> XY:
    """Several parts one after the other, as for a final fit on train and valid.

    Raises:
        ValueError: nothing given.
    """
    if not parts:
        raise ValueError("concat needs at least one part")
    import polars as pl  # noqa: PLC0415 - 140 ms, and only where frames exist already

    return XY(
        pl.concat([part.X for part in parts]),
        pl.concat([part.y for part in parts]),
        pl.concat([part.rows for part in parts]),
    )
