"""Check that a transform treats each row by itself, and find which raw columns it reads.

A served row comes alone, a training row among a quarter of a million others. A transform that looks at its neighbours (a mean,
a rank, a shift, a dummy per category present) gives each of them other features, and no metric shows it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from mlops_local.domain.errors import StepFailed
from mlops_local.engines.models import transform

SINGLE = 48
"""Rows computed one by one."""
TOGETHER = 4096
"""Rows computed shuffled and in batches."""
_CLOSE = 1e-6
"""Vectorised functions round the last bit by position in the batch; float32 keeps seven digits."""
_HINT = "what is learned from other rows belongs in a step that takes `train`; the transform takes its result as an argument"


class Transform:
    """A transform with its states: a frame in, a frame of features out."""

    def __init__(self, function: Callable[..., Any], states: Mapping[str, Any], rows: str) -> None:
        self.function = function
        self.states = states
        self.rows = rows

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Run it as it is run everywhere."""
        return transform.run(self.function, frame, self.states, self.rows)


def check(made: Transform, frame: pl.DataFrame, features: pl.DataFrame, *, seed: int) -> None:
    """Compare what the transform made of all rows with what it makes of some alone, shuffled and in batches.

    Args:
        made: the transform.
        frame: raw rows it may see.
        features: what it made of them.
        seed: of the sample.

    Raises:
        StepFailed: naming the column that depends on other rows.
    """
    if features.height != frame.height:
        raise StepFailed(f"the transform is not row-wise: it returns {features.height} rows for {frame.height}", hint=_HINT)
    draw = random.Random(seed)
    some = sorted(draw.sample(range(frame.height), min(SINGLE, frame.height)))
    for at in some:
        _same(features[at], _again(made, frame[at], "a row alone"), "the row is computed alone")
    many = sorted(draw.sample(range(frame.height), min(TOGETHER, frame.height)))
    rows, expected = frame[many], features[many]
    order = draw.sample(range(len(many)), len(many))
    _same(expected[order], _again(made, rows[order], "shuffled rows"), "the rows are in another order")
    cuts = [0, *sorted({len(many) // 7, len(many) // 2, len(many)} - {0})]
    for start, end in itertools.pairwise(cuts):
        _same(expected[start:end], _again(made, rows[start:end], "a batch of rows"), "the rows come in batches")


def needed(made: Transform, frame: pl.DataFrame, candidates: Sequence[str]) -> tuple[str, ...]:
    """The columns the transform cannot do without: all those whose absence makes it fail or answer otherwise.

    Each is taken away in turn and stays away if nothing changes, so what is left is enough, by construction.
    """
    left = frame.select(candidates)
    expected = made(left)
    for name in candidates:
        if left.width == 1:
            break
        without = left.drop(name)
        try:
            same = _difference(expected, made(without)) == ""
        except Exception:  # noqa: BLE001 - whatever the user's code raises without the column, it needs it
            same = False
        if same:
            left = without
    return tuple(left.columns)


def _again(made: Transform, frame: pl.DataFrame, what: str) -> pl.DataFrame:
    try:
        return made(frame)
    except Exception as error:
        raise StepFailed(
            f"the transform is not row-wise: it works on all rows but raises {type(error).__name__} on {what}: "
            + " ".join(str(error).split())[:200],
            hint=_HINT,
        ) from error


def _same(expected: pl.DataFrame, got: pl.DataFrame, when: str) -> None:
    difference = _difference(expected, got)
    if difference:
        raise StepFailed(f"the transform is not row-wise: {difference} when {when}", hint=_HINT)


def _difference(expected: pl.DataFrame, got: pl.DataFrame) -> str:
    """What differs between two feature frames, in words; empty when nothing does."""
    if expected.height != got.height:
        return f"it returns {got.height} rows for {expected.height}"
    if set(expected.columns) != set(got.columns):
        names = sorted(set(expected.columns) ^ set(got.columns))
        return f"column '{names[0]}' is not always there, it differs"
    for name in expected.columns:
        if not _equal(expected.get_column(name), got.get_column(name)):
            return f"column '{name}' changes"
    return ""


def _equal(expected: pl.Series, got: pl.Series) -> bool:
    numbers = [series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null) for series in (expected, got)]
    if not all(numbers):
        return expected.dtype == got.dtype and expected.equals(got, null_equal=True)
    a, b = (series.cast(pl.Float64).cast(pl.Float32).to_numpy() for series in (expected, got))
    return bool(np.isclose(a, b, rtol=_CLOSE, atol=_CLOSE, equal_nan=True).all())
