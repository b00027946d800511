"""Name a row by what it holds, so that two versions can be compared on the same rows and trained rows can be left out.

The hash is of canonical values, computed column by column: equal numbers are equal whether they came as int32 or float64, times
are UTC microseconds, and nothing depends on polars' own hashes, which change between its versions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import polars as pl

_EXACT = 2.0**53


def identity(frame: pl.DataFrame, keys: Sequence[Sequence[str]], content: Sequence[str]) -> tuple[str, ...]:
    """The columns that identify a row.

    The longest declared key that is there and unique, so that a row stays the same row when other columns are added, dropped
    or corrected; without one, the content.

    Args:
        frame: the evaluation rows.
        keys: the sources' declared keys.
        content: columns to use when no key identifies rows.
    """
    for key in sorted(keys, key=len, reverse=True):
        if key and set(key) <= set(frame.columns) and not frame.select(pl.struct(key).is_duplicated().any()).item():
            return tuple(key)
    return tuple(content)


def row_hashes(frame: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """A hash of each row's values in those columns: 32 hexadecimal digits, in the frame's order."""
    if not columns:
        raise ValueError("a row needs at least one column to be named by")
    text = frame.select(pl.concat_str([_canonical(frame.schema[name], name) for name in sorted(columns)], separator="\x1f"))
    blake2b = hashlib.blake2b
    hashes = [blake2b(item.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() for item in text.to_series().to_list()]
    return pl.Series("row", hashes, dtype=pl.String)


def _canonical(dtype: pl.DataType, name: str) -> pl.Expr:
    """A column as text that is unambiguous beside others: a tag, and for text its length."""
    column = pl.col(name)
    if dtype == pl.Boolean or dtype.is_integer():
        made = column.cast(pl.Int128 if dtype in (pl.UInt64, pl.UInt128) else pl.Int64).cast(pl.String)
    elif dtype.is_float():
        made = _number(column.cast(pl.Float64))
    elif isinstance(dtype, pl.Datetime):
        zoned = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if dtype.time_zone else column
        made = pl.concat_str(pl.lit("t"), zoned.cast(pl.Datetime("us")).to_physical().cast(pl.String))
    elif dtype in (pl.Date, pl.Time, pl.Duration):
        made = pl.concat_str(pl.lit(str(dtype.base_type())), column.to_physical().cast(pl.String))
    elif dtype == pl.Null:
        made = pl.lit(None, dtype=pl.String)
    elif dtype in (pl.List, pl.Array, pl.Struct, pl.Binary, pl.Object):
        made = column.map_elements(repr, return_dtype=pl.String)
    else:
        text = column.cast(pl.String)
        made = pl.concat_str(pl.lit("s"), text.str.len_bytes().cast(pl.String), pl.lit(":"), text)
    return made.fill_null("n").alias(name)


def _number(column: pl.Expr) -> pl.Expr:
    """Whole numbers as integers would be written, others by their bits; one NaN."""
    whole = column.is_finite() & (column == column.round(0)) & (column.abs() <= _EXACT)
    bits = pl.concat_str(pl.lit("f"), column.reinterpret(dtype=pl.Int64).cast(pl.String))
    as_integer = pl.when(whole).then(column).otherwise(0.0).cast(pl.Int64).cast(pl.String)
    return (
        pl.when(column.is_null())
        .then(None)
        .when(column.is_nan())
        .then(pl.lit("nan"))
        .when(whole)
        .then(as_integer)
        .otherwise(bits)
    )
