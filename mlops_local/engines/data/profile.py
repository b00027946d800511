"""Read a source's files once: rows of each, and a profile of every column.

A file is read in batches and becomes a sketch of each column; what a file of these bytes was found to hold before is taken from
there, so that another month costs one month. Whatever cannot be read becomes a `DataError` that names the file and, for text,
the line. Never touches a project's store.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_local.domain.assets import ColumnProfile
from mlops_local.domain.errors import DataError
from mlops_local.engines.data import images, sketch, summary, text
from mlops_local.engines.data.sketch import Sketch

if TYPE_CHECKING:
    import polars as pl

FORMS = {
    ".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "lines", ".ndjson": "lines",
    ".arrow": "arrow", ".ipc": "arrow", ".feather": "arrow",
}  # fmt: skip
"""Suffix -> how a table is read, as the worker does; anything else has no rows."""
SCHEMA_ROWS = 10_000
"""Rows of text from which column types are taken, as the worker does."""
BATCH = 250_000
"""Rows looked at together: 5 million rows of 12 columns stay under 400 MB."""


@dataclass(frozen=True)
class Known:
    """Where to ask for what a file of the same bytes was found to hold, and to keep it."""

    load: Callable[[str], Mapping[str, Any] | None] = lambda path: None
    save: Callable[[str, Mapping[str, Any]], None] = lambda path, value: None


def version() -> str:
    """Return what a kept finding depends on besides the file: another polars hashes values otherwise."""
    import polars as pl  # noqa: PLC0415  (as in `scan`)

    return f"{sketch.FORM}-{pl.__version__}"


def form(path: str) -> str:
    """Return how a file is read: parquet, csv, lines (of JSON), arrow, or opaque."""
    return FORMS.get(Path(path).suffix.lower(), "opaque")


def read(
    root: Path, paths: Sequence[str], *, source: str, kind: str = "table", known: Known = Known()
) -> tuple[dict[str, int | None], tuple[ColumnProfile, ...]]:
    """Count the rows of each file and profile the columns of all of them together.

    Args:
        root: the folder the paths are relative to.
        paths: files of one source, all of one form.
        source: the source's name, for messages.
        kind: `files` for images and other files that are no tables: no rows; size, type and picture size are profiled.
        known: what was found out before.

    Raises:
        DataError: a file is corrupt, ragged, or does not fit the others.
    """
    if kind == "files" or {form(path) for path in paths} == {"opaque"}:
        about = images.table(root, paths, known.load, known.save)
        return {path: None for path in paths}, _profile(about, _sketched(about))
    found = sketches(root, paths, source=source, known=known)
    kinds = _joint(root, paths, source)
    rows = {path: next(iter(columns.values())).rows if columns else 0 for path, columns in found.items()}
    whole = {name: sketch.add(columns[name] for columns in found.values()) for name in kinds}
    return dict(rows), tuple(summary.column(name, kinds[name], whole[name]) for name in kinds)


def sketches(root: Path, paths: Sequence[str], *, source: str, known: Known = Known()) -> dict[str, dict[str, Sketch]]:
    """Return the sketch of every column of every file, by path.

    Args:
        root: the folder the paths are relative to.
        paths: tables of one form.
        source: the source's name, for messages.
        known: what was found out before.

    Raises:
        DataError: as `read`.
    """
    odd = next((path for path in paths if Path(path).suffix.lower() != Path(paths[0]).suffix.lower()), None)
    if odd is not None:
        raise DataError(
            f"source {source}: {odd} is not of the same kind as {paths[0]}",
            hint="one source is one table: narrow the pattern and declare a second source",
        )
    before = {path: known.load(path) for path in paths}
    schemas = {path: dict(held["schema"]) if (held := before[path]) else _text(_schema(root, path, source)) for path in paths}
    _same_columns(schemas, source)
    kinds = _joint(root, paths, source)
    found = {}
    for path in paths:
        made = _kept(before[path], kinds)
        if made is None:
            made = _sketch(root, path, source, kinds)
            columns = {name: sketch.to_json(item) for name, item in made.items()}
            known.save(path, {"schema": schemas[path], "as": _text(kinds), "columns": columns})
        found[path] = made
    return found


def _kept(held: Mapping[str, Any] | None, kinds: Mapping[str, Any]) -> dict[str, Sketch] | None:
    """What was found out before, where the columns were read as the same types."""
    if held is None or held["as"] != _text(kinds):
        return None
    return {name: sketch.from_json(held["columns"][name]) for name in kinds}


def _sketch(root: Path, path: str, source: str, kinds: Mapping[str, Any]) -> dict[str, Sketch]:
    import polars as pl  # noqa: PLC0415  (as in `scan`)

    columns = sketch.Columns(kinds)
    try:
        for batch in scan(root, [path], kinds).collect_batches(chunk_size=BATCH, maintain_order=True):
            columns.feed(batch)
    except pl.exceptions.PolarsError as error:
        raise _unreadable(path, source, error) from error
    return columns.done()


def _joint(root: Path, paths: Sequence[str], source: str) -> dict[str, Any]:
    """The type of each column as all files together are read."""
    import polars as pl  # noqa: PLC0415  (as in `scan`)

    try:
        return dict(scan(root, paths).collect_schema())
    except pl.exceptions.PolarsError as error:
        raise DataError(f"source {source}: its files do not fit together: {_first(error)}", hint=_FIT) from error


def _sketched(frame: pl.DataFrame) -> dict[str, Sketch]:
    columns = sketch.Columns(frame.schema)
    columns.feed(frame)
    return columns.done()


def _profile(frame: pl.DataFrame, found: Mapping[str, Sketch]) -> tuple[ColumnProfile, ...]:
    return tuple(summary.column(name, kind, found[name]) for name, kind in frame.schema.items())


def scan(root: Path, paths: Sequence[str], kinds: Mapping[str, Any] | None = None) -> pl.LazyFrame:
    """Return the files as one lazy frame, as a step that asks for one gets it.

    Args:
        root: the folder the paths are relative to.
        paths: files of one form.
        kinds: types that columns of text are read as, instead of what the values look like.
    """
    import polars as pl  # noqa: PLC0415  (141 ms, and only when a file changed)

    files = [root / path for path in paths]
    match form(paths[0]):
        case "parquet":
            return pl.scan_parquet(files, glob=False, hive_partitioning=False)
        case "csv":
            return pl.scan_csv(
                files,
                glob=False,
                separator=text.separator(files[0]),
                try_parse_dates=True,
                infer_schema_length=SCHEMA_ROWS,
                schema_overrides=dict(kinds) if kinds else None,
            )
        case "lines":
            return pl.scan_ndjson(files, infer_schema_length=SCHEMA_ROWS, schema_overrides=dict(kinds) if kinds else None)
        case _:
            return pl.scan_ipc(files, glob=False)


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
        text.check(root / path, f"source {source}: {path}")
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


def _text(kinds: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(kind) for name, kind in kinds.items()}
