"""Version the data: snapshot a source's files, list and show snapshots.

A snapshot is made only when the bytes differ from the newest one of that source; unchanged files are known by their stat, so a
second call reads nothing. A new file is read once: hashed, cut and put into the packs in one pass; above `REFERENCE_BYTES` a
source is kept by reference (hashes only) unless it says otherwise. Never changes a user's file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from mlops_local.domain import events
from mlops_local.domain.assets import FileEntry, Snapshot
from mlops_local.domain.errors import AmbiguousReference, DataError, UsageError
from mlops_local.domain.graph import Source
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.engines.data import chunks, files, profile, refusal
from mlops_local.services import profiles, references
from mlops_local.services.project import CONFIG, Project
from mlops_local.store import cache, packs
from mlops_local.store.journal import Journal

_UNPACK = 'tables are Parquet, CSV, TSV, JSON lines and Arrow: unpack or convert it, or say kind="files" where a file is meant'
REFERENCE_BYTES = 1_000_000_000
"""A source larger than this is not copied into the object store."""


@dataclass(frozen=True)
class SourceLine:
    """A source and its newest snapshot, if it has one."""

    source: str
    pattern: str
    outcome: tuple[str, ...] = ()
    snapshot: str = ""
    files: int | None = None
    rows: int | None = None
    bytes: int | None = None


class _Files(NamedTuple):
    """A source's files at one moment, by path."""

    hashes: dict[str, str]
    sizes: dict[str, int]


_Describe = Callable[[_Files], Snapshot]


def snapshot(
    project: Project, source: Source, *, emit: Emit = ignore, run: str = "", reading: Callable[[], object] = lambda: None
) -> Snapshot:
    """Take a snapshot of a source, or return the newest one when no byte differs from it.

    Args:
        project: where the files and the store are.
        source: what to read.
        emit: told in one line what was found.
        run: the run that asks, for the journal.
        reading: called before files are read because some are new; whoever waits for that can begin something else.

    Raises:
        DataError: no file matches, a file is corrupt or does not fit, a declared column does not exist.
    """
    before = cache.snapshot(project.layout, source.name)
    stamps = _stamps(project, source)
    found = _remembered(project, stamps)
    kept = _kept(source, sum(stamp[1] for stamp in stamps.values()))
    whole = len(found) == len(stamps) and (kept == "reference" or not packs.missing(project.layout, found.values()))
    if before is None or not whole or kept != before.kept or _identity(source, found, before) != before.id:
        describe = partial(_described, project, source, before, reading)
        if kept == "reference":
            made = _refer(project, source, describe)
        else:
            earlier = {entry.path: entry.hash for entry in before.files} if before is not None else {}
            made = _store(project, source, stamps, found, earlier, describe)
    else:
        _require(source, before)
        made = before
    if before is not None and (made.id, made.kept) == (before.id, before.kept):
        emit(Progress("snapshot", f"{_line(before)}: unchanged", data=_said(before, new=False)))
        return before
    if kept == "reference" and not source.store:
        size = _size(made.bytes)
        text = (
            f"source {made.source} is {size}: kept by reference (hashes, not copies); its bytes would take up to {size}: "
            f"{fully(project, source.name)}"
        )
        emit(Progress("note", text, data=_said(made, new=True)))
    if plain := _no_table(source, made):
        text = f"source {made.source}: {plain}: kept as a file, without rows; {_UNPACK}"
        emit(Progress("warning", text, data=_said(made, new=True)))
    journal(project, made, run)
    cache.save_snapshot(project.layout, made)
    change = _difference(before, made) if before is not None else "new"
    emit(Progress("snapshot", f"{_line(made)}: {change}", data=_said(made, new=True)))
    return made


def fully(project: Project, source: str) -> str:
    """Say where to ask for a source's bytes to be kept: in the code, or in mlops.toml where `mlops data add` wrote it."""
    declared = any(source == item.name for item in project.config.sources)
    return f'store = "full" under [data.{source}] in {CONFIG}' if declared else 'mlops.data(..., store="full")'


def keep_files(project: Project, source: str, paths: Sequence[str]) -> Snapshot:
    """Keep the bytes of some files as a snapshot of their own, without looking into them.

    The caller journals what the source's newest is after that.

    Raises:
        DataError: one cannot be read.
    """
    from mlops_local.store import packing  # noqa: PLC0415  (threads: 15 ms, and only when a file changed)

    with packing.writer(project.layout, chunks.cut, wait_s=project.store.wait_s) as writer:
        read = {path: writer.add(project.root / path, said=path) for path in paths}
        writer.commit()
    entries = tuple(FileEntry(path, found.hash, found.size) for path, found in read.items())
    id = files.identity((entry.path, entry.hash) for entry in entries)
    made = Snapshot(id, source, entries, rows=0, bytes=sum(entry.bytes for entry in entries))
    journal(project, made)
    return made


def _kept(source: Source, size: int) -> str:
    return source.store or ("reference" if size > REFERENCE_BYTES else "full")


def _refer(project: Project, source: Source, describe: _Describe) -> Snapshot:
    """Know the files by their hashes; the bytes stay where they are."""
    return replace(describe(_hash(project, source)), kept="reference")


def _store(
    project: Project,
    source: Source,
    stamps: Mapping[str, list[int]],
    found: dict[str, str],
    earlier: Mapping[str, str],
    describe: _Describe,
) -> Snapshot:
    """Read each file that is not known and put its bytes into the packs in the same pass; a refused source leaves none."""
    from mlops_local.store import packing  # noqa: PLC0415  (threads: 15 ms, and only when a file changed)

    fresh: dict[str, Any] = {}
    sizes = {path: stamp[1] for path, stamp in stamps.items()}
    with packing.writer(project.layout, chunks.cut, wait_s=project.store.wait_s) as writer:
        for path in stamps:
            if path in found and writer.contains(found[path]):
                continue
            read = writer.add(f"{project.root}/{path}", said=f"source {source.name}: {path}", earlier=earlier.get(path, ""))
            fresh[path] = [*read.stamp, time.time_ns(), read.hash]
            found[path], sizes[path] = read.hash, read.size
        _remember(project, fresh)
        made = describe(_Files({path: found[path] for path in stamps}, sizes))
        writer.commit()
    return replace(made, kept="full")


def _described(
    project: Project, source: Source, before: Snapshot | None, reading: Callable[[], object], found: _Files
) -> Snapshot:
    """The snapshot of these files: the one before when it is the same, else with rows and columns read."""
    identity = _identity(source, found.hashes, before)
    if before is not None and before.id == identity:
        _require(source, before)
        return before
    reading()
    return _read(project, source, identity, found)


def journal(project: Project, made: Snapshot, run: str = "") -> None:
    """Say that a source's files are, or were, what a snapshot has."""
    writer = Journal.open(project.layout.journal)
    try:
        writer.state(events.SNAPSHOT, run=run, snapshot=cache.snapshot_to_json(made))
    finally:
        writer.close()


def identify(project: Project, source: Source) -> str:
    """Return the id of the snapshot the files stand for right now, without looking into new ones; stores nothing.

    Raises:
        DataError: no file matches, one cannot be read, or a declared column is not in the files.
    """
    before = cache.snapshot(project.layout, source.name)
    identity = _identity(source, _hash(project, source).hashes, before)
    if before is not None and before.id == identity:
        _require(source, before)
    return identity


def _identity(source: Source, found: Mapping[str, str], before: Snapshot | None) -> str:
    """The id of these files; the newest snapshot's where they are the same, without hashing anything."""
    same = before is not None and (before.read_as, before.labels) == (source.schema, source.labels)
    if before is not None and same and found == {entry.path: entry.hash for entry in before.files}:
        return before.id
    return files.identity(found.items(), source.schema, source.labels)


def current(project: Project, source: Source) -> Snapshot:
    """Return the snapshot the files stand for right now; stores and journals nothing.

    Raises:
        DataError: as `snapshot`.
    """
    return _described(project, source, cache.snapshot(project.layout, source.name), lambda: None, _hash(project, source))


def hashes(project: Project, source: Source) -> dict[str, str]:
    """Content hash of each file of the source, by path; files whose stat is remembered are not read.

    Raises:
        DataError: no file matches.
    """
    return _hash(project, source).hashes


def overview(project: Project, sources: Sequence[Source]) -> list[SourceLine]:
    """List the sources with what their newest snapshots hold."""
    lines = []
    for source in sources:
        held = cache.snapshot(project.layout, source.name)
        about = SourceLine(source.name, source.labels or source.pattern, tuple(source.outcome))
        lines.append(
            about if held is None else replace(about, snapshot=held.id, files=len(held.files), rows=held.rows, bytes=held.bytes)
        )
    return lines


def show(project: Project, sources: Sequence[Source], name: str) -> Snapshot:
    """Return the newest snapshot of a source, or the one a reference names; of private columns no values.

    Raises:
        UsageError: nothing is called so.
        DataError: the source has no snapshot yet.
    """
    known = {source.name: source for source in sources}
    found = cache.snapshot(project.layout, name) if name in known else _referred(project, name, list(known))
    if found is None:
        raise DataError(f"source {name} has no snapshot yet", hint=f"run `mlops data snapshot {name}` or `mlops train`")
    return shown(found, sources)


def shown(held: Snapshot, sources: Sequence[Source] | None) -> Snapshot:
    """Return a snapshot without the values of columns that its source declares private; of none where sources are not known."""
    private = [column.name for column in held.columns]
    if sources is not None:
        private = next((list(source.private) for source in sources if source.name == held.source), [])
    return replace(held, columns=tuple(item.without_values() if item.name in private else item for item in held.columns))


def _referred(project: Project, name: str, sources: Sequence[str]) -> Snapshot:
    try:
        return references.snapshot(project, name)
    except AmbiguousReference:
        raise
    except UsageError as error:
        if "@" in name:
            raise
        raise UsageError(
            f"no source or snapshot is called {name!r}",
            hint=profile.near(name, sources, "sources") if sources else "the pipeline declares no source",
        ) from error


def select(sources: Sequence[Source], names: Sequence[str]) -> list[Source]:
    """Return the sources of these names, or all of them when none is given.

    Raises:
        UsageError: with a suggestion, for the first name that is no source.
    """
    known = {source.name: source for source in sources}
    for name in names:
        if name not in known:
            raise UsageError(
                f"no source is called {name!r}",
                hint=profile.near(name, list(known), "sources") if known else "the pipeline declares none",
            )
    return [known[name] for name in names] if names else list(sources)


def _stamps(project: Project, source: Source) -> dict[str, list[int]]:
    """The source's files with what their stat says; the answer of a query is made first, where it is out of date."""
    if source.sql:
        from mlops_local.services import pulled  # noqa: PLC0415  (what runs queries: only for a source that is one)

        pulled.answer(project, source)
    if source.pull is not None and not (project.root / source.pattern).is_file():
        raise DataError(
            f"source {source.name} was never pulled", hint=f"`mlops data pull {source.name}`; a training does it by itself"
        )
    return files.stamps(project.root, source.pattern, source=source.name)


def _remembered(project: Project, stamps: Mapping[str, list[int]]) -> dict[str, str]:
    """Content hash of each file whose stat is remembered; the others have to be read."""
    known = files.remembered(cache.stats(project.layout))
    found = {path: files.trusted(known.get(path), stamp) for path, stamp in stamps.items()}
    return {path: value for path, value in found.items() if value is not None}


def _remember(project: Project, fresh: Mapping[str, Any]) -> None:
    if fresh:
        cache.save_stats(project.layout, {**cache.stats(project.layout), **fresh})


def _hash(project: Project, source: Source) -> _Files:
    """The source's files as they are now; those whose stat is remembered are not read."""
    stamps = _stamps(project, source)
    found = _remembered(project, stamps)
    sizes = {path: stamp[1] for path, stamp in stamps.items()}
    fresh: dict[str, Any] = {}
    for path in [path for path in stamps if path not in found]:
        value, stamp = files.settled_digest(project.root / path, source=source.name)
        fresh[path] = [*stamp, time.time_ns(), value]
        found[path], sizes[path] = value, stamp[1]
    _remember(project, fresh)
    return _Files({path: found[path] for path in stamps}, sizes)


def _read(project: Project, source: Source, identity: str, found: _Files) -> Snapshot:
    if source.kind == "table":
        _require_names(source, found.hashes)
    try:
        with profiles.known(project, source, found.hashes) as known:
            rows, columns = profile.read(
                project.root,
                list(found.hashes),
                source=source.name,
                kind=source.kind,
                known=known,
                schema=source.schema,
                labels=source.labels,
                sizes=found.sizes,
            )
    except OSError as error:  # it went, or was emptied, since its bytes were read
        raise DataError(
            f"source {source.name}: a file cannot be read: {error}", hint="run the command again when the writer is done"
        ) from error
    made = Snapshot(
        id=identity,
        source=source.name,
        files=tuple(FileEntry(path, value, found.sizes[path], rows[path]) for path, value in found.hashes.items()),
        rows=sum(count or 0 for count in rows.values()),
        bytes=sum(found.sizes.values()),
        columns=columns,
        read_as=source.schema,
        labels=source.labels,
    )
    _require(source, made)
    # A table was read twice, for its bytes and for its columns.
    if source.kind == "table" and _identity(source, _hash(project, source).hashes, None) != identity:
        raise DataError(
            f"source {source.name}: its files changed while they were read",
            hint="run the command again when the writer is done",
        )
    return made


def _require_names(source: Source, paths: Iterable[str]) -> None:
    """What reads tables takes names as UTF-8 only."""
    odd = next((path for path in paths if any("\ud800" <= sign <= "\udfff" for sign in path)), None)
    if odd is not None and profile.form(odd) != "opaque":
        raise DataError(
            f"source {source.name}: the name of {odd!r} is not UTF-8, so it cannot be read as a table",
            hint='rename it, or keep the files as they are: kind="files"',
        )


def _require(source: Source, held: Snapshot) -> None:
    wanted = {"key": source.key, "time": (source.time,) if source.time else (), "outcome": source.outcome}
    wanted |= {"private": source.private, "schema": tuple(source.schema)}
    named = next((argument for argument, columns in wanted.items() if columns), "")
    if named and (plain := _no_table(source, held)):
        raise DataError(f"source {source.name}: {plain}: it has no columns, and {named} names one", hint=_UNPACK)
    if source.kind == "table" and (held.columns or any(wanted.values())):
        profile.require([column.name for column in held.columns], wanted, source=source.name)


def _no_table(source: Source, held: Snapshot) -> str:
    """Say which file of a source that was to be a table is none, and why; empty where it is one."""
    if source.kind != "table" or any(entry.rows is not None for entry in held.files):
        return ""
    path = held.files[0].path
    return f"{path} {refusal.no_table(path) or 'is of no kind that is read as a table'}"


def _difference(before: Snapshot, made: Snapshot) -> str:
    old = {entry.path: entry.hash for entry in before.files}
    now = {entry.path: entry.hash for entry in made.files}
    counts = {
        "added": sum(path not in old for path in now),
        "removed": sum(path not in now for path in old),
        "changed": sum(path in old and old[path] != value for path, value in now.items()),
    }
    said = [f"{count} {'file' if count == 1 else 'files'} {verb}" for verb, count in counts.items() if count]
    return f"{', '.join(said) or 'profiled again'} since {before.short}"


def _line(held: Snapshot) -> str:
    count = len(held.files)
    rows = f"{held.rows:,} row{'' if held.rows == 1 else 's'}, " if any(entry.rows is not None for entry in held.files) else ""
    return f"{held.source} {held.short}, {count} file{'' if count == 1 else 's'}, {rows}{_size(held.bytes)}"


def _said(held: Snapshot, *, new: bool) -> dict[str, Any]:
    return {
        "source": held.source,
        "snapshot": held.id,
        "files": len(held.files),
        "rows": held.rows,
        "bytes": held.bytes,
        "new": new,
    }


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
