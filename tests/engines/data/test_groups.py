"""Many small tables are added up in groups: to the same figures, and only what a change touches is looked at again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_local.domain.errors import DataError
from mlops_local.engines.data import groups, profile, sketch
from mlops_local.engines.data.columns import Columns
from mlops_local.engines.data.sketch import Sketch

NUMBERS = st.lists(st.one_of(st.none(), st.floats(width=32), st.integers(-3, 3).map(float)), max_size=12)
WORDS = st.lists(st.one_of(st.none(), st.sampled_from(["a", "bb", "ccc"]), st.text("xyz", max_size=4)), max_size=12)


def _of(values: list[Any], kind: Any) -> Sketch:
    columns = Columns({"x": kind})
    columns.feed(pl.DataFrame({"x": pl.Series(values, dtype=kind)}))
    return columns.done()["x"]


@settings(max_examples=60, deadline=None)
@given(files=st.one_of(st.lists(NUMBERS, min_size=1, max_size=8), st.lists(WORDS, min_size=1, max_size=8)), data=st.data())
def test_groups_add_up_to_what_their_files_do(files: list[list[Any]], data: st.DataObject) -> None:
    """However files are grouped, and kept in between, all exact figures are those of the files added one by one."""
    kind = pl.String() if any(isinstance(value, str) for values in files for value in values) else pl.Float64()
    parts = [_of(values, kind) for values in files]
    number = st.integers(0, 2)
    places = [data.draw(number) for _ in parts]
    total = sketch.Sum()
    for group in range(3):
        held = [part for part, place in zip(parts, places, strict=True) if place == group]
        made = groups.gathered([{"x": "T"}] * len(held), [{"x": part} for part in held], ["x"])
        kept = json.loads(json.dumps(groups.to_json(made, {"x": "T"})))
        back = groups.from_json(kept, {"x": "T"}, len(held))
        assert back is not None and back.rows == [part.rows for part in held]
        assert len(back.columns["x"].points) <= 1
        total.take(back.columns["x"])
    found, whole = total.done(), sketch.add(parts)
    for name in ("rows", "nulls", "nans", "low", "high", "finite", "lengths", "hashes", "counts", "distinct"):
        assert getattr(found, name) == getattr(whole, name), name
    assert found.mean == pytest.approx(whole.mean, rel=1e-9, abs=1e-9)
    assert found.squares == pytest.approx(whole.squares, rel=1e-5, abs=1e-5 * (abs(whole.mean) + 1) ** 2)


Tables = Callable[[int], list[str]]


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    """Write so many small tables of numbers and words."""

    def write(count: int) -> list[str]:
        names = [f"{number:03d}.csv" for number in range(count)]
        for number, name in enumerate(names):
            (tmp_path / name).write_text("n,t\n" + "".join(f"{number * 7 + row},w{row % 3}\n" for row in range(7)))
        return names

    return write


class _Kept:
    """What is found out, in memory, by the bytes of the files; and what of it was new."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._held: dict[object, Mapping[str, Any]] = {}
        self.saved: list[object] = []

    def known(self) -> profile.Known:
        return profile.Known(
            load=self._load,
            save=lambda path, value: self._save(self._bytes(path), value),
            group=lambda number, paths: self._held.get(tuple(map(self._bytes, paths))),
            save_group=lambda number, paths, value: self._save(tuple(map(self._bytes, paths)), value),
        )

    def _bytes(self, path: str) -> bytes:
        return (self._root / path).read_bytes()

    def _load(self, path: str) -> Mapping[str, Any] | None:
        return self._held.get(self._bytes(path))

    def _save(self, key: object, value: Mapping[str, Any]) -> None:
        self.saved.append(key)
        self._held[key] = value


def test_one_of_many_tables_that_changed_costs_its_group(tmp_path: Path, tables: Tables) -> None:
    """Of many small tables one changed: those of its group are looked at; the profile is that of all of them."""
    paths, kept = tables(130), _Kept(tmp_path)
    rows, columns = profile.read(tmp_path, paths, source="s", known=kept.known())
    assert set(rows.values()) == {7} and list(rows) == paths
    number, word = columns
    assert (number.min, number.max, number.distinct, number.mean) == ("0", "909", 910, 454.5)
    assert number.quantiles == pytest.approx((45, 227, 455, 682, 864), abs=10)
    assert word.top == (("w0", 390), ("w1", 260), ("w2", 260))
    (tmp_path / paths[50]).write_text("n,t\n5000,w9\n")
    kept.saved.clear()
    again = profile.read(tmp_path, paths, source="s", known=kept.known())
    touched = next(part for part in groups.split(paths) if paths[50] in part)
    assert kept.saved == [tuple((tmp_path / path).read_bytes() for path in touched)] and len(touched) < 60
    assert again == profile.read(tmp_path, paths, source="s")
    assert again[0][paths[50]] == 1 and again[1][0].max == "5000"


def test_a_table_that_does_not_fit_is_named_though_its_group_is_kept(tmp_path: Path, tables: Tables) -> None:
    """When the first of many tables gets another column, one of the others is said to lack it, whatever is known of them."""
    paths, kept = tables(70), _Kept(tmp_path)
    profile.read(tmp_path, paths, source="s", known=kept.known())
    (tmp_path / paths[0]).write_text("n,t,more\n1,w,2\n")
    with pytest.raises(DataError, match=r"\.csv does not have the columns of 000\.csv: it lacks more"):
        profile.read(tmp_path, paths, source="s", known=kept.known())
