"""Read a source's files once: rows of each, and a profile of every column.

A file is read in batches and becomes a sketch of each column; what a file of these bytes was found to hold before is taken from
there, so that another month costs one month. Whatever cannot be read becomes a `DataError` that names the file and, for text,
the line. Never touches a project's store.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_local.domain.assets import ColumnProfile
from mlops_local.domain.errors import DataError
from mlops_local.domain.sql import twin
from mlops_local.engines.data import (
    appended,
    fitting,
    groups,
    images,
    joined,
    lines,
    patterns,
    refusal,
    sketch,
    summary,
    text,
    told,
)
from mlops_local.engines.data.sketch import Sketch

if TYPE_CHECKING:
    import polars as pl

FORMS = {
    ".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "lines", ".ndjson": "lines",
    ".arrow": "arrow", ".ipc": "arrow", ".feather": "arrow",
}  # fmt: skip
"""Suffix -> how a table is read, as the worker does; anything else has no rows."""
BATCH = 100_000
"""Rows looked at together: 5 million rows of 12 columns stay under 400 MB, a CSV of 40 columns under 500."""
_CELLS = 100 * BATCH
"""Values looked at together: of many columns fewer rows."""


@dataclass(frozen=True)
class Known:
    """Where to ask for what a file of the same bytes was found to hold, and to keep it."""

    load: Callable[[str], Mapping[str, Any] | None] = lambda path: None
    save: Callable[[str, Mapping[str, Any]], None] = lambda path, value: None
    begun: Callable[[str], tuple[Mapping[str, Any], int] | None] = lambda path: None
    """What a file that has only grown since was found to hold, and how many bytes that were."""
    group: Callable[[int, Sequence[str]], Mapping[str, Any] | None] = lambda number, paths: None
    """What files of the same bytes, in this order, were found to hold together."""
    save_group: Callable[[int, Sequence[str], Mapping[str, Any]], None] = lambda number, paths, value: None


def load() -> None:
    """Load what reads rows and makes sketches of them: it takes as long as hashing 1 GB."""
    import polars  # noqa: F401, PLC0415

    from mlops_local.engines.data import columns, spread  # noqa: F401, PLC0415


def version() -> str:
    """Return what a kept finding depends on besides the file: another polars hashes values otherwise."""
    import polars as pl  # noqa: PLC0415  (as in `scan`)

    return f"{sketch.FORM}-{pl.__version__}"


def form(path: str) -> str:
    """Return how a file is read: parquet, csv, lines (of JSON), arrow, or opaque."""
    return FORMS.get(Path(path).suffix.lower(), "opaque")


def read(
    root: Path,
    paths: Sequence[str],
    *,
    source: str,
    kind: str = "table",
    known: Known = Known(),
    schema: Mapping[str, str] | None = None,
    labels: str = "",
    sizes: Mapping[str, int] | None = None,
) -> tuple[dict[str, int | None], tuple[ColumnProfile, ...]]:
    """Count the rows of each file and profile the columns of all of them together.

    Args:
        root: the folder the paths are relative to.
        paths: files of one source, all of one form.
        source: the source's name, for messages.
        kind: `files` for images and other files that are no tables: no rows; size, type and picture size are profiled.
        known: what was found out before.
        schema: column -> name of the polars type that text is read as.
        labels: of other files: a pattern with names in braces; what stands in their place is profiled too.
        sizes: bytes of files, where they are known already.

    Raises:
        DataError: a file is corrupt, ragged, or does not fit the others.
    """
    if kind == "files" or {form(path) for path in paths} == {"opaque"}:
        about = {**images.about(root, paths, sizes or {}, known.load, known.save), **patterns.labels(labels, paths)}
        return {path: None for path in paths}, tuple(_of_files(name, values) for name, values in about.items())
    there = {path: root / path for path in paths}
    found = whole(there, label=f"source {source}", known=known, schema=schema)
    return dict(found.rows), tuple(summary.column(name, found.kinds[name], held) for name, held in found.columns.items())


@dataclass(frozen=True)
class Whole:
    """Tables of one source together."""

    rows: Mapping[str, int]
    """Of each file."""
    kinds: Mapping[str, Any]
    """The polars types they were read as."""
    columns: Mapping[str, Sketch]


def whole(files: Mapping[str, Path], *, label: str, known: Known = Known(), schema: Mapping[str, str] | None = None) -> Whole:
    """Return what the columns of all files hold together; of many files it is never held of each.

    Args:
        files: path as it is called -> where to read it; tables of one form.
        label: how messages name them together.
        known: what was found out before.
        schema: as in `read`.

    Raises:
        DataError: as `read`.
    """
    if len(files) >= 2 * groups.FILES and form(next(iter(files))) != "lines":
        return _many(files, label, known, schema)
    found = _sketches(files, label, known, schema)
    rows = {path: next(iter(held.values())).rows if held else 0 for path, held in found.files.items()}
    columns = {name: sketch.add(columns[name] for columns in found.files.values()) for name in found.kinds}
    return Whole(rows, found.kinds, columns)


def sketches(
    files: Mapping[str, Path], *, label: str, known: Known = Known(), schema: Mapping[str, str] | None = None
) -> dict[str, dict[str, Sketch]]:
    """Return the sketch of every column of every file, by path; otherwise as `whole`."""
    return dict(_sketches(files, label, known, schema).files)


@dataclass(frozen=True)
class _Found:
    """Files that were looked into."""

    files: Mapping[str, dict[str, Sketch]]
    schemas: Mapping[str, Mapping[str, str]]
    """The types that were told of each."""
    kinds: Mapping[str, Any]
    """Those they were read as."""


def _many(files: Mapping[str, Path], label: str, known: Known, schema: Mapping[str, str] | None) -> Whole:
    """As `whole`, a group of files at a time."""
    fitting.same_suffix(files, label)
    first, file = next(iter(files.items()))
    like = {first: _told(known.load(first), None) or _text(_schema(first, file, label))}
    try:
        kinds = types(files, label, schema)
    except DataError:
        fitting.same_columns(
            {path: _schema(path, file, label) for path, file in files.items()}, form(first), label
        )  # that one says which file
        raise
    fitting.some_columns(kinds, first, label)
    rows: dict[str, int] = {}
    sums = {name: sketch.Sum() for name in kinds}
    for number, paths in enumerate(groups.split(list(files))):
        group = groups.from_json(known.group(number, paths), _text(kinds), len(paths)) if paths else None
        if group is not None:
            fitting.same_columns({**like, **{paths[place]: held for place, held in group.schemas.items()}}, form(first), label)
        elif paths:
            group = _joined({path: files[path] for path in paths}, kinds)
            if group is None:
                found = _sketches({path: files[path] for path in paths}, label, known, schema, kinds=kinds, like=like)
                group = groups.gathered(found.schemas.values(), found.files.values(), kinds)
            known.save_group(number, paths, groups.to_json(group, _text(kinds)))
        if group is not None:
            rows.update(zip(paths, group.rows, strict=True))
            for name, total in sums.items():
                total.take(group.columns[name])
    return Whole({path: rows[path] for path in files}, kinds, {name: total.done() for name, total in sums.items()})


def _joined(files: Mapping[str, Path], kinds: Mapping[str, Any]) -> groups.Group | None:
    """What small CSVs hold together; None where they are others, or have to be looked into one by one."""
    first = next(iter(files))
    made = joined.sketched(list(files.values()), kinds, text.separator(Path(first))) if form(first) == "csv" else None
    return groups.Group({0: _text(kinds)}, *made) if made is not None else None


def _sketches(
    files: Mapping[str, Path],
    label: str,
    known: Known,
    schema: Mapping[str, str] | None,
    *,
    kinds: Mapping[str, Any] | None = None,
    like: Mapping[str, Mapping[str, str]] | None = None,
) -> _Found:
    """Look into files one by one.

    Args:
        files: as `sketches`, and so the next three.
        label: of them.
        known: about them.
        schema: of text.
        kinds: the types they are read as, where these are some of more files.
        like: the first of those, and its types.
    """
    fitting.same_suffix(files, label)
    first = next(iter(files))
    before = {path: known.load(path) for path in files}
    begun = {path: known.begun(path) for path in files if before[path] is None and form(path) in ("csv", "lines")}
    schemas, seen = {}, {}
    for path, file in files.items():
        told = _told(before[path], begun.get(path))
        if not told:
            seen = _schema(path, file, label)
        schemas[path] = told or _text(seen)
    apart = schema if schema and form(first) == "lines" else {}  # fields that not every file need have in its first rows
    fitting.same_columns({**(like or {}), **{path: {**held, **apart} for path, held in schemas.items()}}, form(first), label)
    if kinds is None:
        kinds = (seen or _typed(schemas[first])) if len(files) == 1 and not schema else {}
    kinds = dict(kinds or types(files, label, schema))
    fitting.some_columns(kinds, first, label)
    found = {}
    for path, file in files.items():
        made = _kept(before[path], kinds)
        if made is None:
            made = _grown(path, file, kinds, begun.get(path)) or _sketch(path, file, label, kinds)
            columns = {name: sketch.to_json(item) for name, item in made.items()}
            known.save(path, {"schema": schemas[path], "as": _text(kinds), "columns": columns})
        found[path] = made
    for name in apart:
        empty = all(columns[name].nulls == columns[name].rows for columns in found.values())
        if empty and not any(name in lines.fields(file) for file in files.values()):
            del kinds[name]  # no line has it: it is no column, and who declared it is told so
    return _Found(found, schemas, kinds)


def _told(held: Mapping[str, Any] | None, begun: tuple[Mapping[str, Any], int] | None) -> dict[str, str]:
    """The types of a file's columns, as they were told before from the rows that still tell them; nothing otherwise."""
    if held is None and begun is not None:
        first: Mapping[str, Any] = next(iter(begun[0].get("columns", {}).values()), {})
        held = begun[0] if first.get("rows", 0) >= told.ROWS else None
    return dict(held["schema"]) if held and isinstance(held.get("schema"), dict) else {}


def _typed(said: Mapping[str, str]) -> dict[str, Any]:
    """The types that text calls so, where all are simple ones; nothing otherwise: to tell them costs as much as 100 MB."""
    import polars as pl  # noqa: PLC0415  (as in `scan`)

    simple = (pl.Int64(), pl.Float64(), pl.String(), pl.Boolean(), pl.Date(), pl.Time(), pl.Datetime("us"))
    known = {str(kind): kind for kind in simple}
    return {name: known[kind] for name, kind in said.items()} if known.keys() >= set(said.values()) else {}


def _grown(
    path: str, file: Path, kinds: Mapping[str, Any], begun: tuple[Mapping[str, Any], int] | None
) -> dict[str, Sketch] | None:
    """What a file holds of which only the end is new."""
    before = _kept(begun[0], kinds) if begun is not None else None
    if begun is None or before is None:
        return None
    return appended.grown(file, begun[1], before, kinds, form=form(path), delimiter=text.separator(Path(path)))


def _kept(held: Mapping[str, Any] | None, kinds: Mapping[str, Any]) -> dict[str, Sketch] | None:
    """What was found out before, where the columns were read as the same types."""
    if held is None or held.get("as") != _text(kinds):
        return None
    try:
        return {name: sketch.from_json(held["columns"][name]) for name in kinds}
    except (KeyError, TypeError, ValueError):  # damaged: it is found out again
        return None


def _sketch(path: str, file: Path, label: str, kinds: Mapping[str, Any]) -> dict[str, Sketch]:

    import polars as pl  # noqa: PLC0415  (as in `scan`)

    from mlops_local.engines.data.columns import Columns, threads  # noqa: PLC0415  (numpy, 60 ms: `scan` and `form` need none)

    with threads() as pool:
        columns = Columns(kinds, pool)
        try:
            size = min(BATCH, _CELLS // len(kinds) + 1)
            for batch in opened(path, [file], kinds, every=True).collect_batches(chunk_size=size, maintain_order=True):
                columns.feed(batch)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _refused(path, file, label, kinds, error) from error
        found = columns.done()
    if form(path) == "csv":
        # Polars refuses a line with too many values, and fills one with too few by nulls from the last column on.
        last = found[next(reversed(found))]
        between = (last.rows + 1) * (len(found) - 1) if last.nulls else None
        if not text.plain(file, text.separator(Path(path)), between):
            _check_text(path, file, label)
    if form(path) == "lines" and found and next(iter(found.values())).rows > lines.ROWS:
        lines.require(file, f"{label}: {path}", kinds)
    return found


def types(files: Mapping[str, Path], label: str, schema: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the polars type of each column as all files together are read. Raises DataError."""
    import polars as pl  # noqa: PLC0415  (as in `scan`)

    try:
        wanted = {column: getattr(pl, kind) for column, kind in (schema or {}).items()}
        return _types(next(iter(files)), list(files.values()), wanted)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{label}: its files do not fit together: {refusal.first(error)}", hint=fitting.HINT) from error


def _types(name: str, files: Sequence[Path], kinds: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The types of the columns, as `opened` tells them."""
    if form(name) == "csv":
        return told.types(files, text.separator(Path(name)), kinds)
    return dict(opened(name, files, kinds).collect_schema())


def convert(path: str, file: Path, kinds: Mapping[str, Any], to: Path, label: str) -> None:
    """Write the rows of a table as a Parquet file, its columns as these types.

    Raises:
        DataError: the table cannot be read.
        OSError: the file cannot be written; none is left.
    """
    import polars as pl  # noqa: PLC0415  (as in `scan`)

    try:
        opened(path, [file], kinds, every=True).sink_parquet(to, compression="zstd", compression_level=1)
    except OSError:
        to.unlink(missing_ok=True)
        raise
    except pl.exceptions.PolarsError as error:
        to.unlink(missing_ok=True)
        if full := re.search(rf"os error ({errno.ENOSPC}|{errno.EDQUOT}|{errno.EFBIG})\)", str(error)):
            raise OSError(int(full[1]), os.strerror(int(full[1]))) from error
        raise refusal.unreadable(path, file, form(path), label, kinds, error) from error


def _of_files(name: str, values: Sequence[Any]) -> ColumnProfile:
    text = any(isinstance(value, str) for value in values)
    return summary.column(name, summary.Plain("String" if text else "Int64"), sketch.plain(values))


def scan(root: Path, paths: Sequence[str], kinds: Mapping[str, Any] | None = None) -> pl.LazyFrame:
    """Return the files as one lazy frame, as a step that asks for one gets it.

    Args:
        root: the folder the paths are relative to.
        paths: files of one form.
        kinds: types that columns of text are read as, instead of what the values look like.
    """
    return opened(paths[0], [root / path for path in paths], kinds)


def opened(name: str, files: Sequence[Path], kinds: Mapping[str, Any] | None = None, *, every: bool = False) -> pl.LazyFrame:
    """As `scan`, of files that may be called otherwise.

    Args:
        name: its suffix says their form.
        files: to read.
        kinds: types that columns of text are read as.
        every: `kinds` has all columns in order: none has to be told from its values, which costs as much as reading 100 MB.
    """
    import polars as pl  # noqa: PLC0415  (141 ms, and only when a file changed)

    match form(name):
        case "parquet":
            return pl.scan_parquet(list(files), glob=False, hive_partitioning=False)
        case "csv" if every and kinds:
            times = any(kind.is_temporal() for kind in kinds.values())
            separator = text.separator(Path(name))
            return pl.scan_csv(list(files), glob=False, separator=separator, try_parse_dates=times, schema=dict(kinds))
        case "csv":
            return told.scan(files, text.separator(Path(name)), kinds)
        case "lines":
            return lines.scan(files, kinds, every=every)
        case _:
            return pl.scan_ipc(list(files), glob=False)


def values(root: Path, path: str, column: str, *, most: int = 21) -> tuple[dict[Any, int], float]:
    """Return a column's most frequent values with their counts, nulls left out, and a number's standard deviation."""
    import polars as pl  # noqa: PLC0415  (as in `scan`)

    kept = scan(root, [path]).select(pl.col(column)).filter(pl.col(column).is_not_null())
    try:
        counts = kept.group_by(column).len().sort("len", column, descending=[True, False]).head(most).collect()
        numeric = counts.schema[column].is_numeric()
        spread = kept.select(pl.col(column).cast(pl.Float64).std()).collect().item() if numeric else None
    except pl.exceptions.PolarsError as error:
        raise refusal.unreadable(path, root / path, form(path), f"source {Path(path).stem}", {}, error) from error
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
        DataError: with a suggestion, for the first column that does not exist; or that SQL takes for another one.
    """
    for argument, names in wanted.items():
        for name in names:
            if name not in columns:
                raise DataError(
                    f"source {source}: {argument} names a column {name!r} that its files do not have", hint=near(name, columns)
                )
            if other := twin(name, columns):
                raise DataError(
                    f"source {source}: {argument} names a column {name!r}, beside {other!r}: SQL takes one for the other",
                    hint="call one of them otherwise",
                )


def near(name: str, there: Sequence[str], what: str = "columns") -> str:
    """Return `did you mean 'x'?`, or what there is, and what that is called."""
    close = difflib.get_close_matches(name, there, n=1) or [one for one in there if one.lower() == name.lower()]
    return f"did you mean {close[0]!r}?" if close else f"{what}: {', '.join(there) or 'none'}"


def _schema(path: str, file: Path, label: str) -> dict[str, Any]:
    import polars as pl  # noqa: PLC0415  (as in `scan`)

    if form(path) == "csv":
        text.header(file, f"{label}: {path}", text.separator(Path(path)))
    elif not file.stat().st_size:
        raise refusal.empty(f"{label}: {path}")
    try:
        return _types(path, [file])
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _refused(path, file, label, {}, error) from error


def _refused(path: str, file: Path, label: str, kinds: Mapping[str, Any], error: Exception) -> DataError:
    """What to say of a file that cannot be read as a table. Raises the system's error where it is no more than that."""
    if isinstance(error, OSError) and (
        form(path) != "arrow" or not file.exists()
    ):  # of an Arrow file polars says so that it is cut
        raise error
    return refusal.unreadable(path, file, form(path), label, kinds, error)


def _check_text(path: str, file: Path, label: str) -> None:
    text.check(file, f"{label}: {path}", text.separator(Path(path)))


def _text(kinds: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(kind) for name, kind in kinds.items()}


def digest(kinds: Mapping[str, Any]) -> str:
    """Return a short name for column types."""
    import hashlib  # noqa: PLC0415  (only for text that is converted)

    return hashlib.sha256(repr(_text(kinds)).encode()).hexdigest()[:12]
