"""Dividing rows: by parts every row once and no group twice, by time never from the future."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_local.domain.errors import StepFailed
from mlops_local.domain.splits import Folds, KFold, Rolling
from mlops_local.engines.models import splits

START = dt.datetime(2025, 1, 1)
hours = st.lists(st.integers(0, 24 * 200), min_size=30, max_size=120)


def frame(moments: Iterable[int], **columns: Any) -> pl.DataFrame:
    """A row an hour given, hours after the start of 2025."""
    at = [START + dt.timedelta(hours=hour) for hour in moments]
    return pl.DataFrame({"id": range(len(at)), "at": pl.Series(at, dtype=pl.Datetime("us")), **columns})


def every_fold(rows: pl.DataFrame, how: Folds, **options: Any) -> list[dict[str, pl.DataFrame]]:
    """Fold 0 (all rows) and the folds."""
    return [splits.parts(rows, how, fold, seed=3, **options) for fold in range(how.folds + 1)]


def ids(part: pl.DataFrame) -> list[int]:
    return part["id"].to_list()


@given(st.integers(3, 6), st.integers(6, 60), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_parts_hold_every_row_once(folds: int, rows: int, seed: int) -> None:
    """Held-out parts cover all rows, differ by one row at most, and in each fold no row is in two parts."""
    table = pl.DataFrame({"id": range(rows)})
    whole, *each = [splits.parts(table, KFold(folds), fold, seed=seed) for fold in range(folds + 1)]
    assert sorted(row for fold in each for row in ids(fold["test"])) == list(range(rows))
    assert ids(whole["test"]) == [row for fold in each for row in ids(fold["test"])]
    sizes = [fold["test"].height for fold in each]
    assert max(sizes) - min(sizes) <= 1
    for fold in each:
        assert sorted(ids(fold["train"]) + ids(fold["valid"]) + ids(fold["test"])) == list(range(rows))
    assert sorted(ids(whole["train"]) + ids(whole["valid"])) == list(range(rows)), "the last fit has all rows"


@given(st.lists(st.integers(0, 11), min_size=12, max_size=90), st.booleans(), st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_a_group_is_never_in_two_parts(groups: list[int], stratify: bool, seed: int) -> None:
    """With and without shares to keep; every part has a row."""
    codes = np.unique(np.array([*groups, *range(12)]), return_inverse=True)[1]
    strata = np.arange(len(codes)) % 3 if stratify else None
    found = splits.assign(len(codes), 4, seed=seed, groups=codes, strata=strata)
    assert set(found) == {1, 2, 3, 4}
    for group in np.unique(codes):
        assert len(set(found[codes == group])) == 1


@given(st.lists(st.integers(0, 2), min_size=20, max_size=90), st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_every_part_has_its_share_of_each_label(labels: list[int], seed: int) -> None:
    """Counts of one label differ by one row at most between the parts, and so do the parts."""
    strata = np.array(labels)
    found = splits.assign(len(labels), 4, seed=seed, strata=strata)
    for value in range(3):
        counts = np.bincount(found[strata == value], minlength=5)[1:]
        assert counts.max() - counts.min() <= 1
    sizes = np.bincount(found, minlength=5)[1:]
    assert sizes.max() - sizes.min() <= 1


def test_groups_spread_their_labels() -> None:
    """Forty groups, half of them nearly all late: no part gets more than its share of those."""
    random = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), 25)
    late = (random.random(1000) < np.where(groups % 2, 0.9, 0.1)).astype(int)
    found = splits.assign(1000, 5, seed=0, groups=groups, strata=late)
    shares = [late[found == part].mean() for part in range(1, 6)]
    assert max(shares) - min(shares) < 0.06


def test_the_draw_is_the_seed_s() -> None:
    """The same seed gives the same parts in every process and version; another gives others."""
    assert splits.assign(8, 4, seed=7).tolist() == [3, 2, 1, 1, 3, 2, 4, 4]
    assert splits.assign(8, 4, seed=8).tolist() != splits.assign(8, 4, seed=7).tolist()


@given(hours, st.sampled_from(["1w", "10d", "1mo"]), st.integers(1, 3), st.sampled_from(["", "3d", "1w"]))
@settings(max_examples=25, deadline=None)
def test_no_fold_learns_from_the_future(moments: list[int], test: str, folds: int, gap: str) -> None:
    """Train ends before valid, valid before the gap, the gap before test; test windows do not overlap and go forward."""
    rows = frame([*moments, *range(0, 24 * 200, 24)])
    how = Rolling("at", test, folds, gap=gap)
    whole, *each = every_fold(rows, how)
    room = dt.timedelta(days={"": 0, "3d": 3, "1w": 7}[gap])
    for fold in each:
        assert fold["train"]["at"].max() < fold["valid"]["at"].min()  # type: ignore[operator]
        assert fold["valid"]["at"].max() + room < fold["test"]["at"].min()  # type: ignore[operator]
    for before, after in itertools.pairwise(each):
        assert before["test"]["at"].max() < after["test"]["at"].min()  # type: ignore[operator]
    held_out = [row for fold in each for row in ids(fold["test"])]
    assert len(held_out) == len(set(held_out)) and ids(whole["test"]) == held_out
    assert set(ids(whole["train"]) + ids(whole["valid"])) == set(rows["id"])


def test_windows_are_calendar_months() -> None:
    """Three months back from the last whole one; the begun month is learned from in the last fit, and tested on by nobody."""
    rows = frame(range(0, 24 * 190, 6))  # to 9 July
    whole, *each = every_fold(rows, Rolling("at", "1mo", 3))
    assert [(f["test"]["at"].min(), f["test"]["at"].max()) for f in each] == [
        (dt.datetime(2025, 4, 1), dt.datetime(2025, 4, 30, 18)),
        (dt.datetime(2025, 5, 1), dt.datetime(2025, 5, 31, 18)),
        (dt.datetime(2025, 6, 1), dt.datetime(2025, 6, 30, 18)),
    ]
    assert [f["valid"]["at"].min() for f in each] == [dt.datetime(2025, month, 1) for month in (3, 4, 5)]
    assert whole["valid"]["at"].min() == dt.datetime(2025, 6, 1)
    assert whole["valid"]["at"].max() == rows["at"].max()


def test_a_training_window_slides() -> None:
    """`train` and `valid` say how far back a fold looks."""
    rows = frame(range(0, 24 * 181, 6))  # to 30 June
    how = Rolling("at", "1mo", 2, train="2mo", valid="2w", gap="1w")
    last = splits.parts(rows, how, 2, seed=0)
    assert (last["valid"]["at"].min(), last["valid"]["at"].max()) == (
        dt.datetime(2025, 5, 11),
        dt.datetime(2025, 5, 24, 18),
    )
    assert (last["train"]["at"].min(), last["train"]["at"].max()) == (dt.datetime(2025, 3, 11), dt.datetime(2025, 5, 10, 18))


def test_months_are_those_of_the_column_s_time_zone() -> None:
    """A flight at 23:30 on 31 May in New York is one of May, though UTC says June."""
    rows = frame(range(0, 24 * 182)).with_columns(
        pl.col("at").dt.replace_time_zone("UTC").dt.convert_time_zone("America/New_York")
    )
    last = splits.parts(rows, Rolling("at", "1mo", 1), 1, seed=0)
    assert str(last["test"]["at"].min()) == "2025-06-01 00:00:00-04:00"


def test_dates_are_times_too() -> None:
    """A date column divides by days, weeks and months; an hour is no length for it."""
    rows = frame(range(0, 24 * 100, 8)).with_columns(pl.col("at").dt.date())
    fold = splits.parts(rows, Rolling("at", "1w", 2), 2, seed=0)
    assert fold["test"]["at"].min() == dt.date(2025, 3, 31) and fold["test"]["at"].max() == dt.date(2025, 4, 6)
    with pytest.raises(StepFailed, match="6h is no whole day"):
        splits.parts(rows, Rolling("at", "6h", 2), 1, seed=0)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (Rolling("when", "1mo", 2), "time 'when' is no column"),
        (Rolling("id", "1mo", 2), "'id' is Int64, not a date or a time"),
        (Rolling("gone", "1mo", 2), "1 rows have no 'gone'"),
        (Rolling("at", "1mo", 9), "fold 1 of 9, tested from 2024-08-01 00:00:00 .* has no train row"),
        (KFold(3, ("kind", "nobody")), "group 'nobody' is no column"),
        (KFold(4, ("kind",)), "kind has 3 groups, too few for 4 folds"),
        (KFold(3, ("holes",)), "20 rows have no holes"),
        (KFold(3, stratify="id"), "stratify needs a few values, and 'id' has 120"),
        (KFold(3, stratify="rare"), "'rare' is 1 in 2 rows, too few for a share in each of 3 folds"),
        (KFold(500), "120 rows cannot be divided into 500 parts"),
    ],
)
def test_what_cannot_be_divided_is_said(how: Folds, told: str) -> None:
    """Each refusal names the column, what is wrong with it and what was asked for."""
    rows = frame(
        list(range(0, 24 * 120, 24)),
        kind=[("a", "b", "c")[at % 3] for at in range(120)],
        holes=[None if at < 20 else "x" for at in range(120)],
        rare=[int(at < 2) for at in range(120)],
    ).with_columns(gone=pl.when(pl.col("id") > 0).then(pl.col("at")))
    with pytest.raises(StepFailed, match=told):
        splits.parts(rows, how, 1, seed=0)


def test_rows_without_a_label_are_shared_out_too() -> None:
    """Nulls are a stratum of their own and never refused."""
    label = pl.Series([None] * 9 + [0, 1] * 18)
    rows = pl.DataFrame({"id": range(45)})
    each = every_fold(rows, KFold(3, stratify=True), label=label)[1:]
    assert [sum(label[row] is None for row in ids(fold["test"])) for fold in each] == [3, 3, 3]
