"""Hash what a table holds, not how its file happens to be written: equal schema and equal values in equal order, equal hash.

Parquet bytes differ between writers, chunkings and null bitmaps, and polars' own hashes are not stable across versions, so
each column is brought to canonical buffers (lengths and bytes of text, values with nulls zeroed, one NaN) in slices of fixed
height. Row order counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mlops_local.engines.pipeline.arrays import buffer

SLICE = 1 << 18
"""Rows hashed at a time: bounds memory, and is part of the hash's definition."""


_THREADED = 1 << 23
"""Bytes from which a slice's columns are hashed side by side."""


class _Columns:
    """A hash per column, fed slice by slice, so that a file can be hashed without holding it."""

    def __init__(self, schema: pl.Schema) -> None:
        self.schema = schema
        self.hashers = [hashlib.blake2b(digest_size=32) for _ in schema]
        self.rows = 0

    def feed(self, part: pl.DataFrame) -> None:
        pairs = list(zip(self.hashers, part.get_columns(), strict=True))
        threads = min(pl.thread_pool_size(), len(pairs)) if part.estimated_size() > _THREADED else 1
        if threads > 1:  # hashing releases the GIL: 3 GB take half as long on two cores
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(_feed_column, pairs))
        else:
            for pair in pairs:
                _feed_column(pair)
        self.rows += part.height

    def digest(self) -> str:
        total = hashlib.blake2b(digest_size=32, person=b"mlops-table")
        total.update(f"{self.rows}\0{len(self.hashers)}".encode())
        for (name, dtype), hasher in zip(self.schema.items(), self.hashers, strict=True):
            text = f"{name}\0{_dtype_text(dtype)}".encode("utf-8", "surrogatepass")
            total.update(len(text).to_bytes(8, "little") + text + hasher.digest())
        return total.hexdigest()


def _feed_column(pair: tuple[Any, pl.Series]) -> None:
    hasher, column = pair
    _feed(hasher.update, column.rechunk())


def frame_hash(frame: pl.DataFrame) -> str:
    """The hash of a frame's schema and values in order."""
    columns = _Columns(frame.schema)
    for start in range(0, frame.height, SLICE):
        columns.feed(frame.slice(start, SLICE))
    return columns.digest()


def parquet_hash(path: Path) -> tuple[str, int]:
    """The same hash of a Parquet file, read slice by slice, and its number of rows."""
    scan = pl.scan_parquet(path, glob=False)
    columns = _Columns(scan.collect_schema())
    while True:
        part = scan.slice(columns.rows, SLICE).collect(engine="in-memory")
        if part.height:
            columns.feed(part)
        if part.height < SLICE:
            return columns.digest(), columns.rows


def _dtype_text(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.Enum):  # its text form may leave categories out
        return "Enum " + "\0".join(dtype.categories.to_list())
    return str(dtype)


def _feed(update: Callable[[Any], None], series: pl.Series) -> None:
    dtype = series.dtype
    update(len(series).to_bytes(8, "little"))
    if series.null_count():
        update(b"nulls" + np.packbits(series.is_null().to_numpy()).tobytes())
    else:
        update(b"whole")
    if isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            _feed(update, series.struct.field(field.name))
    elif isinstance(dtype, (pl.List, pl.Array)):
        lists = series.cast(pl.List(dtype.inner)) if isinstance(dtype, pl.Array) else series
        lengths = lists.list.len().fill_null(0)
        update(buffer(lengths.to_numpy()))
        _feed(update, lists.filter(lengths > 0).explode())
    elif dtype != pl.Null:
        _feed_flat(update, series, dtype)


def _feed_flat(update: Callable[[Any], None], series: pl.Series, dtype: pl.DataType) -> None:
    if dtype == pl.Object:
        raise TypeError(f"column '{series.name}' holds Python objects, which a table cannot keep")
    if dtype in (pl.Categorical, pl.Enum, pl.Int128, pl.UInt128) or dtype.is_decimal():
        series = series.cast(pl.String)
        dtype = series.dtype
    if dtype == pl.String:
        texts = series.fill_null("")
        update(buffer(texts.str.len_bytes().to_numpy()))
        update("".join(texts.to_list()).encode("utf-8", "surrogatepass"))
    elif dtype == pl.Binary:
        blobs = series.fill_null(b"").to_list()
        update(buffer(np.array([len(blob) for blob in blobs], dtype=np.uint32)))
        update(b"".join(blobs))
    elif dtype == pl.Boolean:
        update(buffer(series.fill_null(False).cast(pl.UInt8).to_numpy()))
    else:
        values = series.to_physical().fill_null(0).to_numpy()
        if values.dtype.kind == "f":
            values = np.where(np.isnan(values), values.dtype.type("nan"), values)  # one NaN of the many
        update(buffer(values))
