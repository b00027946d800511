"""Which models saw some rows: by what names a row in each version's own list of the rows it learned from.

What cannot be told is said with its reason, never left out: a version whose result is gone, or whose rows are named by columns
that the file does not have.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_local.domain.assets import ModelVersion, Snapshot
from mlops_local.domain.errors import DataError, UsageError
from mlops_local.domain.plan import StepResult
from mlops_local.domain.sql import quote
from mlops_local.services import contents, data
from mlops_local.services.contents import Held
from mlops_local.services.project import Project
from mlops_local.store import cache, history, objects, projection, registry
from mlops_local.store import files as stored

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Seen:
    """How many of the rows one version saw."""

    version: str
    state: str
    aliases: tuple[str, ...]
    learned: int | None
    """Rows it was fitted on; None where that is not known."""
    judged: int | None
    """Rows it was evaluated on."""
    note: str = ""
    """Why something is not known."""


@dataclass(frozen=True)
class Impact:
    """What some rows went into."""

    path: str
    rows: int
    """Rows of the file that were asked about."""
    snapshots: tuple[str, ...]
    """The snapshots that hold the file, as `flights 3f2a91b0`."""
    versions: tuple[Seen, ...]
    """Every version made from one of those, newest first."""


def impact(project: Project, path: Path, *, where: str = "") -> Impact:
    """Return which versions saw the rows of a file.

    Args:
        project: the project.
        path: the file, as it is now or, if it is gone, as the newest snapshot with it has it.
        where: a condition in SQL over its columns; empty for all its rows.

    Raises:
        UsageError: no snapshot holds the file, or the condition cannot be read.
        DataError: the file cannot be read.
    """
    name = Path(os.path.relpath(path.absolute(), project.root)).as_posix()
    projection.fold(project.store)
    with project.store.reader() as db:
        found = [item for item in history.snapshots(db) if any(entry.path == name for entry in item.files)]
    if not found:
        raise UsageError(f"no snapshot holds {name}", hint="paths start at the project's folder: see `mlops data show SOURCE`")
    private = [column for item in found for column in data.private(project, (), item.source)]
    frame = _rows(project, _held(project, path, name, found[0]), name, where, private)
    ids = {item.id for item in found}
    known = registry.load(project.layout)
    versions = [item for item in known.versions.values() if ids & set(item.snapshots.values())]
    aliases = {item.id: [alias.partition("@")[2] for alias, id in known.aliases.items() if id == item.id] for item in versions}
    return Impact(
        name,
        frame.height,
        tuple(f"{item.source} {item.short}" for item in found),
        tuple(
            _seen(project, item, tuple(aliases[item.id]), frame)
            for item in sorted(versions, key=lambda item: (item.model, -item.number))
        ),
    )


def _held(project: Project, path: Path, name: str, newest: Snapshot) -> Held:
    if path.is_file():
        held = contents.given(project.root, [path], name)
        return Held(name, {name: next(iter(held.hashes.values()))}, {name: path}, held.kind)
    entries = tuple(entry for entry in newest.files if entry.path == name)
    return contents.of(project, Snapshot(newest.id, newest.source, entries, newest.rows, newest.bytes, newest.columns))


def _rows(project: Project, held: Held, name: str, where: str, private: Sequence[str]) -> pl.DataFrame:
    """The rows that are asked about, every column."""
    import duckdb  # noqa: PLC0415  (90 ms: only where rows are read)
    import polars as pl  # noqa: PLC0415  (likewise)

    from mlops_local.engines.data import relations  # noqa: PLC0415  (likewise)

    if held.kind != "table":
        raise DataError(f"{name} is no table: rows cannot be told apart in it", hint="name a Parquet, CSV or JSON lines file")
    (file,) = contents.tables(project, held).values()
    if not where:
        return pl.read_parquet(file)
    with (
        stored.scratch(project.layout.tmp, "impact") as scratch,
        relations.connect(scratch) as db,
    ):
        chosen = scratch / "rows.parquet"
        try:
            db.execute(
                f"COPY (SELECT * FROM {relations.table([file])} WHERE ({where})) TO {quote(str(chosen))} (FORMAT parquet)"
            )
        except duckdb.Error as error:
            raise UsageError(
                f"--where cannot be read: {relations.told(error, list(dict.fromkeys(private)))}",
                hint="as in \"carrier = 'UA'\"",
            ) from error
        return pl.read_parquet(chosen)


def _seen(project: Project, version: ModelVersion, aliases: tuple[str, ...], frame: pl.DataFrame) -> Seen:
    from mlops_local.engines.models import rows  # noqa: PLC0415  (polars: only where rows are read)

    result = cache.step_result(project.layout, version.fingerprint)
    if result is None:
        return Seen(version.id, version.state, aliases, None, None, "what it was made of is not kept any more")
    identity = list(result.report.get("identity", ()))
    missing = [column for column in identity if column not in frame.columns]
    if missing or not identity:
        why = (
            f"its rows are named by {', '.join(identity)}: {', '.join(missing)} is not in the file"
            if identity
            else "it kept no names of rows"
        )
        return Seen(version.id, version.state, aliases, None, None, why)
    asked = set(rows.row_hashes(frame, identity).to_list())
    return Seen(
        version.id,
        version.state,
        aliases,
        len(asked & set(_hashes(project, result, "trained"))),
        len(asked & set(_hashes(project, result, "predictions"))),
    )


def _hashes(project: Project, result: StepResult, output: str) -> Sequence[str]:
    import polars as pl  # noqa: PLC0415  (loaded)

    for item in result.outputs:
        if item.name == output:
            (stored,) = item.parts.values()
            found: list[str] = pl.read_parquet(objects.path(project.layout, stored), columns=["row"])["row"].to_list()
            return found
    return ()
