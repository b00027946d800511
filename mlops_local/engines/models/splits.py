"""Divide rows into train, valid and test, fold by fold.

Pure: a frame in, frames out, the same for the same rows and seed. No fold learns from what it is tested on: by time, train and
valid end before the test window begins; by parts, no row and no group is in two parts.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mlops_local.domain.errors import StepFailed
from mlops_local.domain.splits import Folds, KFold, Rolling, duration

Integers = npt.NDArray[np.intp]

CLASSES = 50
"""Values a column may have for its shares to be kept."""


def parts(frame: pl.DataFrame, how: Folds, fold: int, *, seed: int, label: pl.Series | None = None) -> dict[str, pl.DataFrame]:
    """The rows of one fold, each part in the frame's order.

    Args:
        frame: all rows.
        how: the split.
        fold: from 1; 0: everything, as the model that is served learns it. Then train and valid are as long as in a fold and
            reach to the end, and test is what the folds hold out, one after the other.
        seed: of the parts, where they are drawn.
        label: the label of each row, where its shares are kept.

    Returns:
        train, valid and test.

    Raises:
        StepFailed: these rows cannot be divided so.
    """
    divided = _by_time(frame, how) if isinstance(how, Rolling) else _by_parts(frame, how, seed, label)
    if fold:
        return divided(fold)
    held_out = pl.concat([divided(number)["test"] for number in range(1, how.folds + 1)])
    return {**divided(0), "test": held_out}


# By time


@dataclass(frozen=True)
class Window:
    """The bounds of one fold, each the first moment that no longer belongs to what is before it."""

    train: Any
    """None: from the first row on."""
    valid: Any
    cut: Any
    """Where valid ends; None: with the last row."""
    test: Any
    end: Any


def windows(times: pl.Series, how: Rolling) -> list[Window]:
    """The bounds of every fold, fold 0 (what the served model learns from) first.

    Windows begin and end where the unit of `test` does: months on the first, weeks on Monday, in the column's own time zone. A
    last unit that the rows do not fill to its last day (hour, for hours) is not tested on.
    """
    count, unit = duration(how.test, "test")
    tick = {"h": "1h", "m": "1m"}.get(unit, "1d")
    last = pl.Series([times.max()], dtype=times.dtype).dt.offset_by(tick).dt.truncate(f"1{unit}")
    valid = how.valid or how.test

    def back(moment: pl.Series, text: str) -> pl.Series:
        return moment.dt.offset_by(f"-{''.join(map(str, duration(text, 'window')))}") if text else moment

    def window(end: pl.Series, start: pl.Series | None) -> Window:
        cut = back(end if start is None else start, "" if start is None else how.gap)
        begun = back(cut, valid)
        train = back(begun, how.train)[0] if how.train else None
        if start is None:
            return Window(train, begun[0], None, None, None)
        return Window(train, begun[0], cut[0], start[0], end[0])

    found = [window(last, None)]
    for left in range(how.folds, 0, -1):
        start = last.dt.offset_by(f"-{left * count}{unit}")
        end = last.dt.offset_by(f"-{(left - 1) * count}{unit}") if left > 1 else last
        found.append(window(end, start))
    return found


def _by_time(frame: pl.DataFrame, how: Rolling) -> Callable[[int], dict[str, pl.DataFrame]]:
    times = _column(frame, how.time, "time")
    kind = times.dtype
    if kind != pl.Date and not isinstance(kind, pl.Datetime):
        raise StepFailed(
            f"rolling: '{how.time}' is {kind}, not a date or a time",
            hint="make it one in the step that makes the rows, as pl.col(...).str.to_date()",
        )
    if kind == pl.Date:
        for text in (how.test, how.train, how.valid, how.gap):
            if text and duration(text, "")[1] in ("h", "m"):
                raise StepFailed(f"rolling: '{how.time}' is a date, and {text} is no whole day", hint="give days: '1d'")
    if times.null_count():
        raise StepFailed(
            f"rolling: {times.null_count():,} rows have no '{how.time}'", hint="leave them out in the step that makes the rows"
        )
    if not len(times):
        raise StepFailed("rolling: there are no rows to divide")
    bounds = windows(times, how)

    def divided(fold: int) -> dict[str, pl.DataFrame]:
        window = bounds[fold]
        found = {
            "train": frame.filter(_between(times, window.train, window.valid)),
            "valid": frame.filter(_between(times, window.valid, window.cut)),
            "test": frame.filter(_between(times, window.test, window.end)) if fold else frame.clear(),
        }
        empty = [part for part, rows in found.items() if not rows.height and (fold or part != "test")]
        if empty:
            which = f"fold {fold} of {how.folds}, tested from {window.test} to {window.end}," if fold else "the last fit"
            raise StepFailed(
                f"rolling: {which} has no {empty[0]} row; the rows are from {times.min()!s} to {times.max()!s}",
                hint="fewer folds, shorter windows, or more rows",
            )
        return found

    return divided


def _between(times: pl.Series, start: Any, end: Any) -> pl.Series:
    chosen = pl.Series([True] * len(times), dtype=pl.Boolean)
    if start is not None:
        chosen = chosen & (times >= start)
    return chosen & (times < end) if end is not None else chosen


# By parts


def _by_parts(frame: pl.DataFrame, how: KFold, seed: int, label: pl.Series | None) -> Callable[[int], dict[str, pl.DataFrame]]:
    groups = _groups(frame, how)
    strata = _strata(frame, how, label)
    number = assign(frame.height, how.folds, seed=seed, groups=groups, strata=strata)

    def divided(fold: int) -> dict[str, pl.DataFrame]:
        test = number == fold
        valid = number == fold % how.folds + 1
        return {
            "train": frame.filter(pl.Series(~test & ~valid)),
            "valid": frame.filter(pl.Series(valid)),
            "test": frame.filter(pl.Series(test)),
        }

    return divided


def assign(rows: int, folds: int, *, seed: int = 0, groups: Integers | None = None, strata: Integers | None = None) -> Integers:
    """Each row's part, from 1.

    Args:
        rows: how many there are.
        folds: how many parts.
        seed: of the draw; numpy promises that this generator gives the same for ever.
        groups: rows of one number stay together.
        strata: of each number every part gets its share.

    Raises:
        StepFailed: fewer rows than parts.
    """
    if rows < folds:
        raise StepFailed(f"kfold: {rows} rows cannot be divided into {folds} parts")
    draw = np.random.RandomState(seed)
    if groups is None:
        order = draw.permutation(rows)
        if strata is not None:
            order = order[np.argsort(strata[order], kind="stable")]
        found = np.empty(rows, dtype=np.intp)
        found[order] = np.arange(rows) % folds + 1
        return found
    count = int(groups.max()) + 1
    order = draw.permutation(count)
    of_groups = (
        _fill(np.bincount(groups, minlength=count), order, folds)
        if strata is None
        else _fill_alike(_counts(groups, strata, count), order, folds)
    )
    return np.asarray(of_groups[groups] + 1, dtype=np.intp)


def _fill(sizes: Integers, order: Integers, folds: int) -> Integers:
    """Groups to parts, the largest first, each into the part with the fewest rows."""
    found = np.empty(len(sizes), dtype=np.intp)
    parts = [(0, number) for number in range(folds)]
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        held, number = heapq.heappop(parts)
        found[group] = number
        heapq.heappush(parts, (held + int(sizes[group]), number))
    return found


def _counts(groups: Integers, strata: Integers, count: int) -> npt.NDArray[np.float64]:
    made = np.zeros((count, int(strata.max()) + 1))
    np.add.at(made, (groups, strata), 1)
    return made


def _fill_alike(counts: npt.NDArray[np.float64], order: Integers, folds: int) -> Integers:
    """Groups to parts, the most uneven first, each where the parts' shares of every stratum come out most alike."""
    found = np.empty(len(counts), dtype=np.intp)
    held = np.zeros((folds, counts.shape[1]))
    total = np.maximum(counts.sum(axis=0), 1)
    left = len(counts)
    for group in order[np.argsort(-counts[order].std(axis=1), kind="stable")]:
        empty = np.flatnonzero(held.sum(axis=1) == 0)
        allowed = empty if len(empty) >= left else np.arange(folds)
        tried = [np.std((held + np.eye(folds)[number][:, None] * counts[group]) / total, axis=0).mean() for number in allowed]
        best = np.flatnonzero(np.isclose(tried, np.min(tried)))
        number = allowed[best[np.argmin(held[allowed[best]].sum(axis=1))]]
        held[number] += counts[group]
        found[group] = number
        left -= 1
    return found


def _groups(frame: pl.DataFrame, how: KFold) -> Integers | None:
    if not how.group:
        return None
    columns = [_column(frame, name, "group") for name in how.group]
    gaps = max(column.null_count() for column in columns)
    named = ", ".join(how.group)
    if gaps:
        raise StepFailed(
            f"kfold: {gaps:,} rows have no {named}, so nobody knows which rows they belong to",
            hint="fill the column or leave them out in the step that makes the rows",
        )
    codes = _codes(frame.select(how.group).rows())
    count = len(np.unique(codes))
    if count < how.folds:
        raise StepFailed(
            f"kfold: {named} has {count} groups, too few for {how.folds} folds", hint=f"at most {count} folds, or a finer group"
        )
    return codes


def _strata(frame: pl.DataFrame, how: KFold, label: pl.Series | None) -> Integers | None:
    if how.stratify is False:
        return None
    if how.stratify is True:
        assert label is not None  # the caller's duty: it knows the model
        name, values = "the label", label
    else:
        name, values = f"'{how.stratify}'", _column(frame, how.stratify, "stratify")
    held = values.drop_nulls()
    sizes = {value: 0 for value in held.unique().to_list()}
    if len(sizes) > CLASSES:
        raise StepFailed(
            f"kfold: stratify needs a few values, and {name} has {len(sizes):,}",
            hint="cut it into classes in a column of its own and give that: stratify='class'",
        )
    for value in held.to_list():
        sizes[value] += 1
    rare = min(sizes, key=lambda value: sizes[value], default=None)
    if rare is not None and sizes[rare] < how.folds:
        raise StepFailed(
            f"kfold: {name} is {rare!r} in {sizes[rare]} rows, too few for a share in each of {how.folds} folds",
            hint="fewer folds, or merge rare values",
        )
    return _codes(values.to_list())  # rows without a value are a stratum of their own


def _column(frame: pl.DataFrame, name: str, what: str) -> pl.Series:
    if name not in frame.columns:
        raise StepFailed(f"the split's {what} '{name}' is no column of the rows", hint="they have: " + ", ".join(frame.columns))
    return frame.get_column(name)


def _codes(values: Sequence[Any]) -> Integers:
    """Values as numbers from 0, in order of appearance."""
    seen: dict[Any, int] = {}
    return np.array([seen.setdefault(value, len(seen)) for value in values], dtype=np.intp)
