"""Give a step its inputs: a snapshot's explicit file list as a table, or a kept value as the step asks for it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlops_local.domain.errors import DataError
from mlops_local.domain.graph import Source
from mlops_local.domain.jobs import Given, StepJob
from mlops_local.engines.data import lines, patterns
from mlops_local.worker.values import load

_PANDAS = {"Boolean": "boolean", "String": "string", "Time": "string", "Date": "string", "Datetime": "string"}
"""polars type -> what pandas reads it as, where that has not the same name."""
_LINES = (".jsonl", ".ndjson")
_CSV = (".csv", ".tsv", ".txt")


def read(job: StepJob) -> dict[str, Any]:
    """Every input's value, by argument, in the step's order."""
    values = {}
    for given in job.inputs:
        if given.kind == "source":
            values[given.input.argument] = _source(job, given)
        else:
            scratch = job.out / "inputs" / given.input.argument
            values[given.input.argument] = load(given.kind, given.files, given.input.wants, key=job.key, scratch=scratch)
    return values


def _source(job: StepJob, given: Given) -> Any:
    source = job.graph.source(given.input.node)
    alone = job.step.each == source.name and len(given.files) == 1  # run for each file
    if source.kind == "files" and alone and (given.input.wants == "value" or not source.labels):
        return Path(next(iter(given.files.values())))
    if source.kind == "files" and not source.labels:
        return [Path(given.files[name]) for name in sorted(given.files)]
    if given.input.wants == "pandas" and not _has_polars():
        return _pandas(source, given.files)
    frame = scan(source, given.files)
    if source.sample and not source.labels:
        frame = sample(frame, source)
    if given.input.wants == "lazy":
        return frame
    made = frame.collect(engine="in-memory")
    if given.input.wants == "pandas":
        import pandas as pd  # 0.4 s, and only for a step that asks for pandas

        return pd.DataFrame({name: made.get_column(name).to_numpy() for name in made.columns}, columns=made.columns)
    return made


def sample(frame: Any, source: Source) -> Any:
    """A part of a lazy frame's rows in their order, always the same: by the hash of the key, else spread evenly."""
    import polars as pl

    among = 10_000
    if source.key:
        return frame.filter(pl.struct(*source.key).hash(0) % among < int(source.sample * among))
    column = "_row_of_a_sample"
    spread = pl.col(column).cast(pl.UInt64) * 2_654_435_761 % 2**32  # Knuth's multiplicative hash: no run of rows is left out
    return frame.with_row_index(column).filter(spread < int(source.sample * 2**32)).drop(column)


def scan(source: Source, files: Mapping[str, str]) -> Any:
    """A lazy frame over the files of a table source, in the order of their names; of labelled files, a row for each.

    Args:
        source: names the error.
        files: path relative to the root (its suffix says the format) -> path to read.

    Raises:
        DataError: no files, several formats, or one nobody reads.
    """
    import polars as pl

    if source.labels:
        return pl.LazyFrame(_labelled(source, files))
    suffix, paths = _format(source, files)
    types = {column: getattr(pl, kind) for column, kind in source.schema.items()} or None
    if suffix == ".parquet":
        return pl.scan_parquet(list(paths), glob=False, hive_partitioning=False)
    if suffix in _CSV:
        separator = "\t" if suffix == ".tsv" else ","
        return pl.scan_csv(
            list(paths),
            glob=False,
            separator=separator,
            try_parse_dates=True,
            infer_schema_length=10_000,
            schema_overrides=types,
        )
    if suffix in _LINES:
        return lines.scan([Path(path) for path in paths], types)
    return pl.scan_ipc(list(paths), glob=False)


def _labelled(source: Source, files: Mapping[str, str]) -> dict[str, list[str]]:
    """The columns of labelled files: `path`, from the project's folder, in which steps run, and what the names stand for."""
    paths = sorted(files)
    return {"path": paths, **patterns.labels(source.labels, paths)}


def _has_polars() -> bool:
    return "polars" in sys.modules or importlib.util.find_spec("polars") is not None


def _pandas(source: Source, files: Mapping[str, str]) -> Any:
    """The files as a pandas frame, in a project that has no polars."""
    import pandas as pd

    if source.labels:
        return pd.DataFrame(_labelled(source, files))
    suffix, paths = _format(source, files)
    types: Any = {column: _PANDAS.get(kind, kind) for column, kind in source.schema.items()}
    if suffix in _CSV:
        separator = "\t" if suffix == ".tsv" else ","
        parts = [pd.read_csv(path, sep=separator, dtype=types) for path in paths]
    elif suffix in _LINES:
        parts = [pd.read_json(path, lines=True, dtype=types or None) for path in paths]
    else:  # these ask for pyarrow, and say so
        return pd.concat(
            [(pd.read_parquet if suffix == ".parquet" else pd.read_feather)(path) for path in paths], ignore_index=True
        )
    frame = pd.concat(parts, ignore_index=True)
    dates = [column for column, kind in source.schema.items() if kind in ("Date", "Datetime") and column in frame]
    return frame.assign(**{column: pd.to_datetime(frame[column]) for column in dates})


def _format(source: Source, files: Mapping[str, str]) -> tuple[str, Sequence[str]]:
    """The one suffix of a table's files, and the files in the order of their names. Raises DataError."""
    suffixes = {Path(name).suffix.lower() for name in files}
    if len(suffixes) != 1:
        raise DataError(
            f"source '{source.name}' ({source.pattern}) mixes formats: {', '.join(sorted(suffixes)) or 'no file matches'}",
            hint="one source is one table; declare several",
        )
    suffix = suffixes.pop()
    if suffix in (".parquet", ".arrow", ".ipc", ".feather", *_CSV, *_LINES):
        return suffix, [files[name] for name in sorted(files)]
    raise DataError(
        f"source '{source.name}': nobody reads {suffix or 'files without a suffix'} as a table",
        hint='Parquet, CSV, TSV, JSON lines or Arrow; or declare it with kind="files" and read it in a step',
    )
