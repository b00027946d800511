"""Read a source's files once: rows of each, and a profile of every column.

Parquet rows come from the footers, columns from one streaming pass of polars; CSV files are first checked for ragged lines by
an in-memory DuckDB (polars would fill a short line with nulls in silence). Whatever cannot be read becomes a `DataError` that
names the file and, for text, the line. Never touches a project's store.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_local.domain.assets import ColumnProfile
from mlops_local.domain.errors import DataError

if TYPE_CHECKING:
    import polars as pl

FORMS = {
    ".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "lines", ".ndjson": "lines",
    ".arrow": "arrow", ".ipc": "arrow", ".feather": "arrow",
}  # fmt: skip
"""Suffix -> how a table is read, as the worker does; anything else has no rows."""
SCHEMA_ROWS = 10_000
"""Rows of text from which column types are taken, as the worker does."""
_SHOWN = 60
"""Longest minimum or maximum kept, in characters."""


def form(path: str) -> str:
    """Return how a file is read: parquet, csv, lines (of JSON), arrow, or opaque."""
    return FORMS.get(Path(path).suffix.lower(), "opaque")


def read(
    root: Path, paths: Sequence[str], *, source: str, kind: str = "table"
) -> tuple[dict[str, int | None], tuple[ColumnProfile, ...]]:
    """Count the rows of each file and profile the columns of all of them together.

    Args:
        root: the folder the paths are relative to.
        paths: files of one source, all of one form.
        source: the source's name, for messages.
        kind: `files` for images and other files that are no tables: no rows, no columns.

    Raises:
        DataError: a file is corrupt, ragged, or does not fit the others.
    """
    forms = {form(path) for path in paths}
    if kind == "files" or forms == {"opaque"}:
        return {path: None for path in paths}, ()
    if len({Path(path).suffix.lower() for path in paths}) > 1:
        odd = next(path for path in paths if Path(path).suffix.lower() != Path(paths[0]).suffix.lower())
        raise DataError(
            f"source {source}: {odd} is not of the same kind as {paths[0]}",
            hint="one source is one table: narrow the pattern and declare a second source",
        )
    schemas = {path: _schema(root, path, source) for path in paths}
    _same_columns(schemas, source)
    rows: dict[str, int | None] = {path: _rows(root, path, source) for path in paths}
    return rows, profile(root, paths, source=source)


def scan(root: Path, paths: Sequence[str]) -> pl.LazyFrame:
    """Return the files as one lazy frame, as a step that asks for one gets it."""
    import polars as pl  # noqa: PLC0415  (141 ms, and only when a file changed)

    files = [root / path for path in paths]
    match form(paths[0]):
        case "parquet":
            return pl.scan_parquet(files, glob=False, hive_partitioning=False)
        case "csv":
            separator = _separator(files[0])
            return pl.scan_csv(files, glob=False, separator=separator, try_parse_dates=True, infer_schema_length=SCHEMA_ROWS)
        case "lines":
            return pl.scan_ndjson(files, infer_schema_length=SCHEMA_ROWS)
        case _:
            return pl.scan_ipc(files, glob=False)


def _separator(file: Path) -> str:
    return "\t" if file.suffix.lower() == ".tsv" else ","


def profile(root: Path, paths: Sequence[str], *, source: str) -> tuple[ColumnProfile, ...]:
    """Profile every column in one streaming pass: nulls, approximate distinct values, extremes and mean."""
    import polars as pl  # noqa: PLC0415  (as in `scan`)

    try:
        return _profile(scan(root, paths))
    except pl.exceptions.PolarsError as error:
        for path in paths:  # polars names no file: find the one that fails alone
            try:
                _profile(scan(root, [path]))
            except pl.exceptions.PolarsError as own:
                raise _unreadable(path, source, own) from own
        raise DataError(f"source {source}: its files do not fit together: {_first(error)}", hint=_FIT) from error


def _profile(frame: pl.LazyFrame) -> tuple[ColumnProfile, ...]:
    import polars as pl  # noqa: PLC0415  (as in `scan`)

    schema = frame.collect_schema()
    wanted: list[pl.Expr] = []
    for index, (name, kind) in enumerate(schema.items()):
        column = pl.col(name)
        wanted.append(column.null_count().alias(f"nulls {index}"))
        if not kind.is_nested() and kind not in (pl.Binary, pl.Null, pl.Object):
            wanted.append(column.approx_n_unique().alias(f"distinct {index}"))
            wanted += [column.min().alias(f"min {index}"), column.max().alias(f"max {index}")]
        if kind.is_numeric():
            wanted.append(column.mean().alias(f"mean {index}"))
    found = frame.select(wanted).collect().row(0, named=True) if wanted else {}
    return tuple(
        ColumnProfile(
            name=name,
            type=str(kind),
            nulls=int(found[f"nulls {index}"]),
            distinct=found.get(f"distinct {index}"),
            min=_text(found.get(f"min {index}")),
            max=_text(found.get(f"max {index}")),
            mean=None if found.get(f"mean {index}") is None else float(found[f"mean {index}"]),
        )
        for index, (name, kind) in enumerate(schema.items())
    )


def values(root: Path, path: str, column: str, *, most: int = 21) -> tuple[dict[Any, int], float]:
    """Return a column's most frequent values with their counts, nulls left out, and a number's standard deviation."""
    import polars as pl  # noqa: PLC0415  (as in `scan`)

    kept = scan(root, [path]).select(pl.col(column)).filter(pl.col(column).is_not_null())
    try:
        counts = kept.group_by(column).len().sort("len", column, descending=[True, False]).head(most).collect()
        numeric = counts.schema[column].is_numeric()
        spread = kept.select(pl.col(column).cast(pl.Float64).std()).collect().item() if numeric else None
    except pl.exceptions.PolarsError as error:
        raise _unreadable(path, path, error) from error
    return dict(counts.iter_rows()), float(spread or 1.0)


def exact(root: Path, path: str, columns: Sequence[ColumnProfile]) -> tuple[ColumnProfile, ...]:
    """Return the profile with exact counts of distinct values (nulls left out) where values can be compared."""
    import polars as pl  # noqa: PLC0415  (as in `scan`)

    names = [item.name for item in columns if item.distinct is not None]
    counts = scan(root, [path]).select(pl.col(names).drop_nulls().n_unique()).collect() if names else pl.DataFrame()
    return tuple(replace(item, distinct=int(counts[item.name][0])) if item.name in names else item for item in columns)


def require(columns: Sequence[str], wanted: Mapping[str, Sequence[str]], *, source: str) -> None:
    """Check that every declared column exists.

    Args:
        columns: what the files have.
        wanted: what the declaration names, by its argument: key, time, outcome.
        source: the source's name, for messages.

    Raises:
        DataError: with a suggestion, for the first column that does not exist.
    """
    for argument, names in wanted.items():
        for name in names:
            if name not in columns:
                raise DataError(
                    f"source {source}: {argument} names a column {name!r} that its files do not have", hint=near(name, columns)
                )


def near(name: str, columns: Sequence[str]) -> str:
    """Return `did you mean 'x'?`, or the columns there are."""
    close = difflib.get_close_matches(name, columns, n=1) or [column for column in columns if column.lower() == name.lower()]
    return f"did you mean {close[0]!r}?" if close else "columns: " + ", ".join(columns)


def _schema(root: Path, path: str, source: str) -> dict[str, Any]:
    import polars as pl  # noqa: PLC0415  (as in `scan`)

    if form(path) == "csv":
        header = _header(root / path, f"source {source}: {path}")
        _check_lines(root / path, header, f"source {source}: {path}")
    try:
        return dict(scan(root, [path]).collect_schema())
    except pl.exceptions.PolarsError as error:
        raise _unreadable(path, source, error) from error


def _same_columns(schemas: Mapping[str, Mapping[str, Any]], source: str) -> None:
    """Refuse files whose columns differ: by name for CSV, by name and type for Parquet."""
    (first, expected), *others = schemas.items()
    for path, schema in others:
        missing, extra = [name for name in expected if name not in schema], [name for name in schema if name not in expected]
        if missing or extra:
            said = [f"lacks {', '.join(missing)}"] if missing else []
            said += [f"has {', '.join(extra)} beyond it"] if extra else []
            raise DataError(f"source {source}: {path} does not have the columns of {first}: it {' and '.join(said)}", hint=_FIT)
        if list(schema) != list(expected) and form(path) == "csv":
            raise DataError(f"source {source}: {path} has the columns of {first} in another order", hint=_FIT)
        for name, kind in schema.items():
            if form(path) == "parquet" and kind != expected[name]:
                raise DataError(
                    f"source {source}: column {name} is {kind} in {path} and {expected[name]} in {first}", hint=_FIT
                )


_FIT = "mend the file, or give it a source of its own"


def _rows(root: Path, path: str, source: str) -> int:
    import polars as pl  # noqa: PLC0415  (as in `scan`)

    try:
        return int(scan(root, [path]).select(pl.len()).collect().item())
    except pl.exceptions.PolarsError as error:
        raise _unreadable(path, source, error) from error


def _header(file: Path, place: str) -> list[str]:
    try:
        with file.open(encoding="utf-8", newline="") as text:
            header = next(csv.reader(text, delimiter=_separator(file)), [])
    except UnicodeDecodeError as error:
        raise DataError(
            f"{place}: not UTF-8 text (byte {error.start})", hint="convert it, as in iconv -f latin1 -t utf-8"
        ) from error
    if not any(header):
        raise DataError(f"{place}: the file is empty", hint="its first line must name the columns")
    double = next((name for name in header if header.count(name) > 1), None)
    if double is not None:
        raise DataError(f"{place}, line 1: two columns are called {double!r}", hint="rename one of them")
    return [name.removeprefix("﻿") for name in header]


def _check_lines(file: Path, header: Sequence[str], place: str) -> None:
    """Refuse a CSV file in which a line has more or fewer values than the header, naming the line."""
    import duckdb  # noqa: PLC0415  (87 ms, and only when a CSV file changed)

    names = {f"c{index}": "VARCHAR" for index in range(len(header))}
    separator = _separator(file)
    query = (
        f"SELECT count(*) FROM read_csv(?, columns = {names!r}, auto_detect = false, header = true, delim = '{separator}', "
        "quote = '\"', escape = '\"', null_padding = false, strict_mode = true)"
    )
    safe: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    with duckdb.connect(config=safe) as connection:
        try:
            connection.execute(query, [str(file)]).fetchall()
        except duckdb.Error as error:
            raise _ragged(file, len(header), place, str(error)) from error


def _ragged(file: Path, expected: int, place: str, said: str) -> DataError:
    """Find the line DuckDB stumbled over; it counts records, an editor counts lines."""
    try:
        with file.open(encoding="utf-8", newline="") as text:
            reader = csv.reader(text, delimiter=_separator(file), strict=True)
            for values in reader:
                if values and len(values) != expected:
                    count = f"{len(values)} value{'' if len(values) == 1 else 's'} where the header has {expected}"
                    return DataError(f"{place}, line {reader.line_num}: {count}", hint="mend or remove that line")
    except (UnicodeDecodeError, csv.Error) as error:
        return DataError(f"{place}: {error}", hint="mend the file: UTF-8, values separated by commas, quotes doubled")
    return DataError(
        f"{place}: {said.splitlines()[0]}", hint="mend the file: UTF-8, values separated by commas, quotes doubled"
    )


def _unreadable(path: str, source: str, error: Exception) -> DataError:
    first = _first(error)
    if form(path) == "parquet":
        return DataError(
            f"source {source}: {path} is not a readable Parquet file: {first}",
            hint="copy it again from where it came, or move it out of the pattern",
        )
    return DataError(
        f"source {source}: {path}: {first}", hint="mend the value, or convert the file to Parquet with the types you mean"
    )


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
