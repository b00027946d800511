from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mlops_local.domain.errors import IntegrityError, StepFailed
from mlops_local.domain.xy import XY, concat
from mlops_local.engines.pipeline import arrays, logical, values
from mlops_local.engines.pipeline.values import load, save

KEY = "secret"
FRAME = pl.DataFrame(
    {
        "i": [1, None, 3],
        "f": [1.5, math.nan, None],
        "s": ["a", None, "ä"],
        "b": [True, None, False],
        "d": [dt.date(2024, 1, 1), None, dt.date(2024, 1, 3)],
        "t": [dt.datetime(2024, 1, 1, 5), None, dt.datetime(2024, 1, 3)],
        "l": [[1, 2], None, []],
        "st": [{"x": 1, "y": "a"}, None, {"x": None, "y": "b"}],
        "bin": [b"ab", None, b""],
        "dec": [Decimal("1.10"), None, Decimal("2.00")],
        "n": [None, None, None],
    }
).with_columns(pl.col("s").cast(pl.Categorical).alias("c"), pl.col("s").cast(pl.Enum(["a", "ä"])).alias("e"))


def kept(value: Any, folder: Path, wants: str = "value") -> Any:
    made = save(value, folder, "out", key=KEY)
    return load(made.kind, made.files, wants, key=KEY, scratch=folder / "scratch")


def test_frames_come_back_as_asked(tmp_path: Path) -> None:
    """A table comes back equal, lazily, eagerly or as pandas, from an eager or a lazy frame."""
    assert kept(FRAME, tmp_path, "frame").equals(FRAME)
    assert isinstance(kept(FRAME, tmp_path, "lazy"), pl.LazyFrame)
    assert kept(FRAME.lazy(), tmp_path, "frame").equals(FRAME)
    assert kept(FRAME.select("i", "s"), tmp_path, "pandas")["s"].tolist()[0] == "a"


def test_logical_hash_is_of_values_not_of_bytes(tmp_path: Path) -> None:
    """Chunks, masks, compression and the way a frame was made do not count; an eager frame and its file hash alike."""
    expected = logical.frame_hash(FRAME)
    chunked = pl.concat([FRAME[:1], FRAME[1:]], rechunk=False)
    assert logical.frame_hash(chunked) == expected
    assert logical.frame_hash(pl.concat([FRAME, FRAME])[3:]) == expected
    for number, compression in enumerate(("zstd", "uncompressed")):
        path = tmp_path / f"{number}.parquet"
        FRAME.write_parquet(path, compression=compression, row_group_size=2)  # type: ignore[arg-type]
        assert logical.parquet_hash(path) == (expected, 3)
    assert save(FRAME.lazy(), tmp_path, "lazy").logical == save(FRAME, tmp_path, "eager").logical


@pytest.mark.parametrize(
    "other",
    [
        FRAME[::-1],
        FRAME[:2],
        FRAME.rename({"i": "j"}),
        FRAME.select(reversed(FRAME.columns)),
        FRAME.with_columns(pl.col("i").cast(pl.Int32)),
        FRAME.with_columns(pl.col("i").fill_null(0)),
        FRAME.with_columns(pl.col("f").fill_nan(None)),
        FRAME.with_columns(pl.Series("s", ["aä", None, ""])),
        FRAME.with_columns(pl.Series("l", [[1], None, [2]])),
        FRAME.with_columns(pl.Series("l", [[1, 2], [], []])),
        FRAME.with_columns(pl.col("b").fill_null(False)),
        FRAME.with_columns(pl.col("s").cast(pl.Enum(["ä", "a"])).alias("e")),
    ],
)
def test_any_difference_in_schema_values_or_order_counts(other: pl.DataFrame) -> None:
    """Row order, column order, names, types, nulls, NaN and where one text ends and the next begins all count."""
    assert logical.frame_hash(other) != logical.frame_hash(FRAME)


def test_hash_does_not_depend_on_where_slices_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file longer than one slice hashes like the frame it came from."""
    monkeypatch.setattr(logical, "SLICE", 100)
    frame = pl.DataFrame({"a": range(250), "s": [str(n) for n in range(250)]})
    frame.write_parquet(tmp_path / "a.parquet", row_group_size=70)
    assert logical.parquet_hash(tmp_path / "a.parquet") == (logical.frame_hash(frame), 250)
    assert logical.frame_hash(frame[:200]) != logical.frame_hash(frame[:100])


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"a": [1, 2.5, None, "ä", True], "b": {"c": []}}, "json"),
        ([math.inf], "json"),
        ("text", "json"),
        (None, "json"),
        ((1, 2), "pickle"),
        ({1: "a"}, "pickle"),
        (dt.date(2024, 1, 1), "pickle"),
    ],
)
def test_plain_values_are_json_and_others_pickles(value: Any, kind: str, tmp_path: Path) -> None:
    """What JSON brings back exactly is kept as JSON, the rest as a pickle; both come back equal, of the same type."""
    assert save(value, tmp_path, "out", key=KEY).kind == kind
    back = kept(value, tmp_path)
    assert back == value
    assert type(back) is type(value)


def test_numpy_scalars_and_arrays(tmp_path: Path) -> None:
    """Scalars become Python numbers; arrays keep type and shape, and their order counts."""
    assert kept({"a": np.float64(1.5), "b": np.int64(2)}, tmp_path) == {"a": 1.5, "b": 2}
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    back = kept(array, tmp_path)
    assert back.dtype == np.float32
    assert np.array_equal(back, array)
    assert arrays.array_hash(np.asfortranarray(array)) == arrays.array_hash(array)
    assert arrays.array_hash(array.reshape(3, 2)) != arrays.array_hash(array)


def test_xy_and_series(tmp_path: Path) -> None:
    """Features, label and rows come back together; a series stays a series."""
    xy = XY(pl.DataFrame({"x": [1.0, 2.0]}), pl.Series("y", [0, 1]), pl.DataFrame({"id": ["a", "b"]}))
    back = kept(xy, tmp_path)
    assert back.X.equals(xy.X)
    assert back.y.equals(xy.y)
    assert back.rows.equals(xy.rows)
    assert kept(xy.y, tmp_path).equals(xy.y)
    assert len(concat(xy, back)) == 4


def test_batches_cover_every_row_once() -> None:
    """`batches(n)` yields all rows in order, or shuffled alike for the same seed; the last batch may be short."""
    rows = pl.DataFrame({"id": range(7)})
    xy = XY(rows.rename({"id": "x"}), rows["id"].rename("y"), rows)
    assert [part.rows["id"].to_list() for part in xy.batches(3)] == [[0, 1, 2], [3, 4, 5], [6]]
    shuffled = [n for part in xy.batches(3, shuffle=True, seed=1) for n in part.rows["id"].to_list()]
    assert sorted(shuffled) == list(range(7))
    assert shuffled != list(range(7))
    assert shuffled == [n for part in xy.batches(2, shuffle=True, seed=1) for n in part.y.to_list()]
    with pytest.raises(ValueError, match="at least one row"):
        next(xy.batches(0))


def test_pandas_frames_come_back_as_pandas(tmp_path: Path) -> None:
    """A pandas frame is kept as a table and comes back as pandas, or as polars where a step asks for it."""
    import pandas as pd

    frame = pd.DataFrame({"a": [1, 2], "s": ["x", None], "t": pd.to_datetime(["2024-01-01", "2024-01-02"])})
    back = kept(frame, tmp_path)
    assert back["a"].tolist() == [1, 2]
    assert back["t"].tolist() == frame["t"].tolist()
    assert kept(frame, tmp_path, "frame")["s"].to_list() == ["x", None]
    grouped = frame.groupby("s").sum(numeric_only=True)
    assert kept(grouped, tmp_path).columns.tolist() == ["s", "a"]


def test_models_come_back_and_hash_alike(tmp_path: Path) -> None:
    """A LightGBM booster and a torch module predict the same afterwards; training again with the seed gives the same hash."""
    import lightgbm as lgb
    import torch

    x = np.random.default_rng(0).normal(size=(200, 3))

    def fit(seed: int) -> Any:
        params = {
            "objective": "binary",
            "verbose": -1,
            "seed": seed,
            "num_threads": 1,
            "bagging_fraction": 0.5,
            "bagging_freq": 1,
        }
        return lgb.train(params, lgb.Dataset(x, (x[:, 0] > 0).astype(int)), 3)

    booster = fit(1)
    assert np.array_equal(kept(booster, tmp_path).predict(x), booster.predict(x))
    hashes = [save(fit(seed), tmp_path, "m").logical for seed in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]

    def net(seed: int) -> Any:
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())

    back = kept(net(1), tmp_path)
    rows = torch.tensor(x, dtype=torch.float32)
    assert torch.equal(back(rows), net(1)(rows))
    hashes = [save(net(seed), tmp_path, f"n{number}", key=KEY).logical for number, seed in enumerate((1, 1, 2))]
    assert hashes[0] == hashes[1] != hashes[2]


def test_pickle_of_another_store_or_altered_is_not_loaded(tmp_path: Path) -> None:
    """A pickle loads only with the key it was written with, and only unaltered."""
    made = save((1, 2), tmp_path, "out", key=KEY)
    for key in ("other", ""):
        with pytest.raises(IntegrityError, match="was not written by this store"):
            load(made.kind, made.files, key=key)
    path = Path(made.files["out.pickle"])
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError):
        load(made.kind, made.files, key=KEY)


def test_files_and_folders_keep_their_names(tmp_path: Path) -> None:
    """A path comes back as a path with the same name and content; a folder with all that is in it."""
    source = tmp_path / "report"
    (source / "deep").mkdir(parents=True)
    (source / "a.txt").write_text("one")
    (source / "deep" / "b.txt").write_text("two")
    out = tmp_path / "out"
    out.mkdir()
    made = save(source, out, "folder")
    back = load(made.kind, made.files, scratch=tmp_path / "back")
    assert (back / "deep" / "b.txt").read_text() == "two"
    file = save(source / "a.txt", out, "file")
    assert load(file.kind, file.files, scratch=tmp_path / "one").name == "a.txt"
    (source / "a.txt").write_text("changed")
    assert save(source, out, "again").logical != made.logical


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1, 2}, "is a set"),
        (iter([1]), "can be read only once"),
        (lambda: 1, "cannot be kept"),
        (Path("nowhere"), "nothing is there"),
    ],
)
def test_values_that_cannot_be_kept_say_so(value: Any, message: str, tmp_path: Path) -> None:
    """Sets, iterators, unpicklable objects and missing files fail the step with one sentence and a way out."""
    with pytest.raises(StepFailed, match=message) as caught:
        save(value, tmp_path, "out", key=KEY)
    assert caught.value.hint


def test_what_lies_in_the_steps_own_folder_is_not_copied(tmp_path: Path) -> None:
    """A file or folder that a step wrote into its own folder is kept where it is; a link in there is copied."""
    (tmp_path / "out" / "made").mkdir(parents=True)
    (tmp_path / "elsewhere").write_bytes(b"mine")
    inside = tmp_path / "out" / "made" / "a.bin"
    inside.write_bytes(b"abc")
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    assert save(inside, tmp_path / "out", "a").files == {"a.bin": str(inside)}
    assert save(inside.parent, tmp_path / "out", "b").files == {"a.bin": str(inside)}
    (copied,) = save(tmp_path / "out" / "link", tmp_path / "out", "c").files.values()
    assert not Path(copied).is_symlink() and Path(copied).read_bytes() == b"mine"


def test_little_is_computed_in_memory_and_much_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a lazy frame that is known to read little is held whole; either way it is kept with equal content."""
    FRAME.select("i", "f", "s").write_parquet(tmp_path / "in.parquet")
    (tmp_path / "in.ndjson").write_text('{"i": 1}\n')
    scan = pl.scan_parquet(tmp_path / "in.parquet")
    little = save(scan, tmp_path, "little").logical
    assert values._small(scan) and values._small(scan.join(scan, on="s")) and values._small(FRAME.lazy())
    assert not values._small(pl.scan_ndjson(tmp_path / "in.ndjson"))  # does not say how much it reads
    monkeypatch.setattr(values, "SMALL_CELLS", 8)  # three rows of three columns are 9 cells
    assert not values._small(scan) and values._small(scan.select("i"))
    monkeypatch.setattr(values, "SMALL_CELLS", 0)
    assert not values._small(scan) and save(scan, tmp_path, "much").logical == little
