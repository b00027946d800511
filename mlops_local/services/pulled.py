"""Sources that are no files of the user's: what a function returned or a query answered, kept as a file in `pulled/`.

From there on they are sources like any other: a snapshot a pull, if anything changed. The folder is mlops' own, and git ignores
it. A function runs in a worker, as steps do; a query runs here, over files of the project.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_local.domain.errors import DataError, StepFailed
from mlops_local.domain.graph import PULLED, Source, Step
from mlops_local.domain.jobs import Made, StepJob
from mlops_local.domain.names import counted
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.domain.sql import quote
from mlops_local.engines.data import files, profile
from mlops_local.services import interpreter, leases
from mlops_local.services.known import Code
from mlops_local.services.project import Project
from mlops_local.store import cache, layout
from mlops_local.store import files as stored

if TYPE_CHECKING:
    from mlops_local.engines.pipeline.runner import Workers

_QUOTED = re.compile(r"'((?:[^']|'')+)'")


@dataclass(frozen=True)
class Pulled:
    """What came of asking one source."""

    source: str
    rows: int | None
    changed: bool
    """The table is another than before."""


def due(project: Project, sources: Iterable[Source], *, now_s: float | None = None) -> list[Source]:
    """Return the sources whose function was never called, or longer ago than they allow; or later, by a clock put back."""
    wanted = [source for source in sources if source.pull is not None]
    if not wanted:
        return []
    now = time.time() if now_s is None else now_s
    return [
        source
        for source in wanted
        if not (project.root / source.pattern).is_file()
        or (source.every_s and abs(now - cache.pull(project.layout, source.name).get("at", 0.0)) >= source.every_s)
    ]


def times(project: Project, sources: Iterable[Source], *, tried_s: float) -> dict[str, float]:
    """When each source that says how often is due, in seconds since 1970.

    Args:
        project: the project.
        sources: any sources.
        tried_s: when all that was due was last asked for: what was and did not come waits its time from then.
    """
    found = {}
    for source in sources:
        if source.pull is not None and source.every_s:
            last = cache.pull(project.layout, source.name).get("at", 0.0)
            found[source.name] = (tried_s if abs(tried_s - last) >= source.every_s else last) + source.every_s
    return found


def pull(
    project: Project, code: Code, sources: Sequence[Source], *, workers: Workers | None = None, emit: Emit = ignore
) -> list[Pulled]:
    """Call the functions of these sources, one after the other, and keep what they return.

    One that another process is just calling is not called once more: what that brings is what was asked for.

    Args:
        project: the project.
        code: its code.
        sources: those that have a function.
        workers: processes to run them in; its own otherwise.
        emit: told what came.

    Raises:
        StepFailed: a function raised, or returned no table; what was pulled before stays as it is.
    """
    if not sources:
        return []
    asked_s = time.time()
    running = workers or interpreter.workers(project)
    try:
        return [_once(project, code, source, running, asked_s, emit) for source in sources]
    finally:
        if workers is None:
            running.close()


def _once(project: Project, code: Code, source: Source, workers: Workers, asked_s: float, emit: Emit) -> Pulled:
    before = cache.pull(project.layout, source.name)
    with _right(project, source, emit):
        now = cache.pull(project.layout, source.name)
        if now.get("at", 0.0) < asked_s or not (project.root / source.pattern).is_file():
            return _pull(project, code, source, workers, emit)
    emit(Progress("note", f"source {source.name}: pulled a moment ago by another process"))
    return Pulled(source.name, now.get("rows"), now.get("logical") != before.get("logical"))


def _right(project: Project, source: Source, emit: Emit) -> AbstractContextManager[None]:
    """The right to ask this source: what two write in one place in turn would not be what either remembers."""

    def waiting(holder: str) -> None:
        emit(Progress("note", f"source {source.name}: waiting for {holder}, which asks it"))

    name = f"pull-{hashlib.sha256(source.name.encode()).hexdigest()}"
    return leases.lease(project.layout, f"data pull {source.name}", name, waiting=waiting)


def _pull(project: Project, code: Code, source: Source, workers: Workers, emit: Emit) -> Pulled:
    assert source.pull is not None
    with tempfile.TemporaryDirectory(prefix="pull-", dir=project.layout.tmp) as scratch:
        step = Step(source.name, "step", (source.pull,))
        out, log = Path(scratch) / "out", Path(scratch) / "log"
        key = layout.hmac_key(project.layout).hex()
        graph = replace(code.graph, steps=(*code.graph.steps, step))
        job = StepJob(step, graph, code.sources, {}, 0, (), out, log, state=project.layout.state, key=key)
        outcome = workers.run_step(job)
        if not outcome.ok:
            raise StepFailed(f"source {source.name}: {outcome.error}", hint=outcome.hint, traceback=outcome.traceback)
        made = next((item for item in outcome.outputs if item.kind in ("parquet", "pandas")), None)
        if made is None:
            raise StepFailed(f"source {source.name}: its function returned no table", hint="return a polars or pandas frame")
        _require_columns(source, made)
        changed = _keep(project, source, made)
    said = counted(made.rows, "row") if made.rows is not None else "pulled"
    emit(Progress("note", f"source {source.name}: {said}{'' if changed else ', as before'}"))
    return Pulled(source.name, made.rows, changed)


def _require_columns(source: Source, made: Made) -> None:
    """Refuse a frame without columns, as of a service that answers nothing: what was pulled before stays."""
    import polars as pl  # noqa: PLC0415  (141 ms, and only where a source was pulled)

    if not pl.read_parquet_schema(Path(next(iter(made.files.values())))):
        raise StepFailed(
            f"source {source.name}: its function returned a table without columns", hint="raise an error where nothing was got"
        )


def _keep(project: Project, source: Source, made: Made) -> bool:
    """Put the table in its place, unless the same one is there; remember when."""
    target = project.root / source.pattern
    changed = cache.pull(project.layout, source.name).get("logical") != made.logical or not target.is_file()
    if changed:
        _place(project, Path(next(iter(made.files.values()))), target)
    cache.save_pull(project.layout, source.name, {"at": time.time(), "logical": made.logical, "rows": made.rows})
    return changed


def _place(project: Project, made: Path, target: Path) -> None:
    folder = project.root / PULLED
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        folder.mkdir(exist_ok=True)
        if not (folder / ".gitignore").exists():
            (folder / ".gitignore").write_text("*\n", encoding="utf-8")
        shutil.copyfile(made, draft)
        draft.replace(target)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise stored.cannot_write(target, error) from error


def answer(project: Project, source: Source) -> None:
    """Ask a source's query again if one of the files it names, or the query, is another than last time.

    Raises:
        DataError: it names no file of the project, or cannot be answered.
    """
    if _answered(project, source, _asked(project, source)):
        return
    with _right(project, source, ignore):
        key = _asked(project, source)  # of the files as they are now that it is our turn
        if not _answered(project, source, key):
            _ask(project, source, project.root / source.pattern)
            cache.save_pull(project.layout, source.name, {"at": time.time(), "asked": key})


def _answered(project: Project, source: Source, key: str) -> bool:
    there = (project.root / source.pattern).is_file()
    return there and cache.pull(project.layout, source.name).get("asked") == key


def _ask(project: Project, source: Source, target: Path) -> None:
    import duckdb  # noqa: PLC0415  (90 ms: only where a query has to be asked)

    from mlops_local.engines.data import relations  # noqa: PLC0415  (likewise)

    with (
        tempfile.TemporaryDirectory(prefix="query-", dir=project.layout.tmp) as scratch,
        relations.connect(Path(scratch)) as db,
        stored.searched(project.root) as start,
    ):
        made = Path(scratch) / "answer.parquet"
        try:
            db.execute("SET preserve_insertion_order = true")  # the same files give the same rows in the same order
            db.execute(f"SET file_search_path = {quote(start)}")
            db.execute(f"COPY (\n{source.sql}\n) TO {quote(str(made))} (FORMAT parquet)")
        except duckdb.Error as error:
            if isinstance(error, duckdb.IOException) and scratch in str(error):  # the answer, or what is spilled on the way
                raise stored.cannot_write(target, stored.told(error)) from error
            raise DataError(
                f"source {source.name}: its query cannot be answered: {relations.told(error, source.private)}",
                hint="it is one SELECT in DuckDB's SQL; paths start at the project's folder",
            ) from error
        _place(project, made, target)


def named(source: Source) -> list[str]:
    """The files and patterns that a source's query names; none of a source that is no query."""
    found = [text.replace("''", "'") for text in _QUOTED.findall(source.sql)]
    return [text for text in found if profile.form(text) != "opaque"]


def _asked(project: Project, source: Source) -> str:
    """A name for the query and for what its files look like now."""
    patterns = named(source)
    if not patterns:
        raise DataError(f"source {source.name}: its query names no file", hint="as in SELECT * FROM 'data/flights-*.parquet'")
    stamps: dict[str, Any] = {}
    for pattern in patterns:
        stamps |= files.stamps(project.root, pattern, source=source.name)
    return hashlib.sha256(repr((source.sql, sorted(stamps.items()))).encode("utf-8", "surrogateescape")).hexdigest()
