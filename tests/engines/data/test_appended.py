"""Profiles of files that grew: the new rows are added to what was known, and the profile is that of the whole file."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_local.domain.assets import ColumnProfile
from mlops_local.domain.errors import DataError
from mlops_local.engines.data import appended, profile, sketch, spread
from mlops_local.engines.data.profile import Known

CELLS = st.sampled_from(
    [
        "1",
        "-7",
        "2.5",
        "",
        "a",
        "é",
        '"x, y"',
        '"two\nlines"',
        '""',
        "2024-02-03",
        "NaN",
        "inf",
        "true",
        " 1",
        "1e3",
        '"',
        "a,b",
        'a"b',
    ]
)
LINES = st.lists(st.tuples(CELLS, CELLS).map(",".join), max_size=5).map("\n".join)
OBJECTS = st.lists(
    st.sampled_from(
        ['{"a":1,"b":"x"}', '{"a":null}', '{"a":2.5,"b":"y"}', '{"b":null,"c":3}', "{}", "nothing", "", '{"a":[1],"b":{"c":1}}']
    ),
    max_size=5,
).map("\n".join)


def _profile(
    folder: Path, name: str, known: Known | None = None
) -> tuple[Mapping[str, int | None], tuple[ColumnProfile, ...]] | str:
    try:
        return profile.read(folder, [name], source="s", known=known or Known())
    except DataError as error:
        return str(error)


def _grown(folder: Path, name: str, old: bytes, more: bytes) -> tuple[Any, Any]:
    """The profile of a file that grew, when it is known what it held before, and when it is not."""
    kept: dict[str, Any] = {}
    (folder / name).write_bytes(old)
    _profile(folder, name, Known(save=kept.__setitem__))
    (folder / name).write_bytes(old + more)
    begun = (kept[name], len(old)) if kept else None
    return _profile(folder, name, Known(begun=lambda path: begun)), _profile(folder, name)


def _about(columns: Sequence[ColumnProfile]) -> list[ColumnProfile]:
    """Mean and spread rounded, for they are sums."""
    return [
        replace(item, mean=item.mean and float(f"{item.mean:.9g}"), std=item.std and float(f"{item.std:.9g}"))
        for item in columns
    ]


@given(
    st.one_of(
        st.tuples(st.just("a.csv"), LINES.map("n,m\n1,2\n".__add__), LINES),
        st.tuples(st.just("a.jsonl"), OBJECTS.map('{"a":1,"b":"x"}\n'.__add__), OBJECTS),
    ),
    st.sampled_from(["\n", "\r\n", ""]),
    st.sampled_from(["", "\n"]),
)
@settings(max_examples=40, deadline=None)
def test_whatever_is_appended_the_profile_is_that_of_the_whole_file(case: tuple[str, str, str], end: str, last: str) -> None:
    """Rows, quoted lines, other types, empty lines, text that is no table: what is said is what a look at all of it says."""
    name, old, more = case
    with tempfile.TemporaryDirectory() as made:
        grown, whole = _grown(Path(made), name, (old + end).encode(), (more + last).encode())
    if isinstance(whole, str) or isinstance(grown, str):
        assert grown == whole
    else:
        assert grown[0] == whole[0] and _about(grown[1]) == _about(whole[1])


def _table(rows: int, seed: int) -> pl.DataFrame:
    chance = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "id": np.arange(rows) + seed * 100_000,
            "x": np.round(chance.normal(seed, 3, rows), 3),
            "few": chance.integers(0, 5, rows),
            "turns": chance.integers(0, 900 + seed, rows),
            "word": np.array([f"word, {index}" for index in range(3000)])[chance.integers(0, 3000, rows)],
            "none": pl.Series([None] * rows, dtype=pl.Int64),
        }
    )


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_new_rows_alone_are_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact figures are those of the whole file, quantiles and frequent values about; neither types nor old rows are read."""
    old, more = _table(70_000, 1), _table(9_000, 2)
    csv = name == "a.csv"
    first = (old.write_csv() if csv else old.write_ndjson()).encode()
    rest = (more.write_csv(include_header=False) if csv else more.write_ndjson()).encode()
    kept: dict[str, Any] = {}
    (tmp_path / name).write_bytes(first)
    profile.read(tmp_path, [name], source="s", known=Known(save=kept.__setitem__))
    (tmp_path / name).write_bytes(first + rest)
    rows, whole = profile.read(tmp_path, [name], source="s")
    with monkeypatch.context() as patch:
        patch.delattr(profile, "_sketch")
        patch.delattr(profile, "_schema")
        patch.setattr(appended, "_STRETCH", 1 << 17)
        if csv:  # a quoted line may go on in the next stretch, then all is read: here none does
            patch.setattr(appended, "_STRETCH", 1 << 20)
        found = profile.read(tmp_path, [name], source="s", known=Known(begun=lambda path: (kept[name], len(first))))
    assert found[0] == rows
    values = pl.concat([old, more])
    for one, other in zip(found[1], whole, strict=True):
        exact = [(item.name, item.type, item.nulls, item.distinct, item.min, item.max, item.lengths) for item in (one, other)]
        assert exact[0] == exact[1]
        assert (one.mean, one.std) == pytest.approx((other.mean, other.std))
        assert sum(one.bins) == pytest.approx(sum(other.bins), rel=0.001)
        for level, quantile in zip(ColumnProfile.LEVELS, one.quantiles, strict=bool(one.quantiles)):
            assert (values[one.name] <= quantile).mean() == pytest.approx(level, abs=0.012 if one.name != "few" else 0.2)
    few = next(item for item in found[1] if item.name == "few")
    assert few.top == next(item for item in whole if item.name == "few").top


def test_many_small_additions_stay_about_right() -> None:
    """A file that grew 200 times keeps few quantiles, and they are as near as those of a sample."""
    chance = np.random.default_rng(4)
    parts = [chance.normal(0, 1, 20_000), *(chance.normal(step / 40, 1 + step / 100, 200).round(2) for step in range(200))]
    total = sketch.Sketch(counts=None)
    for values in parts:
        levels = [float(value) for value in np.quantile(values, sketch.LEVELS, method="inverted_cdf")]
        total.points = spread.fewer([*total.points, (float(len(values)), levels)])
        assert len(total.points) <= spread.PARTS
    everything = np.concatenate(parts)
    assert sum(weight for weight, _ in total.points) == len(everything)
    found = spread.of(total)
    assert found is not None
    for level in (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99):
        assert (everything <= found.quantile(level)).mean() == pytest.approx(level, abs=0.008)
