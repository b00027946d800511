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
from typing import NamedTuple

from mlops_local.domain import events, listing
from mlops_local.domain.assets import Files, Snapshot
from mlops_local.domain.errors import AmbiguousReference, DataError, Unsettled, UsageError
from mlops_local.domain.graph import Source
from mlops_local.domain.listing import STAMP, Listing
from mlops_local.domain.progress import Emit, Progress, ignore
from mlops_local.engines.data import chunks, files, profile
from mlops_local.services import ahead, profiles, references, remarks
from mlops_local.services.project import CONFIG, Project
from mlops_local.store import cache, packs, stats
from mlops_local.store.journal import Journal

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


class _Now(NamedTuple):
    """A source's files at one moment."""

    files: Files
    begun: profiles.Begun = {}  # noqa: RUF012  (never changed)
    """Those that have only grown since the snapshot before."""


_Describe = Callable[[_Now], Snapshot]


def snapshot(
    project: Project,
    source: Source,
    *,
    emit: Emit = ignore,
    rehash: bool = False,
    reading: Callable[[], object] = lambda: None,
) -> Snapshot:
    """Take a snapshot of a source, or return the newest one when no byte differs from it.

    Args:
        project: where the files and the store are.
        source: what to read.
        emit: told in one line what was found.
        rehash: read every file, also those that look as they did when they were hashed.
        reading: called before files are read because some are new; whoever waits for that can begin something else.

    Raises:
        DataError: no file matches, a file is corrupt or does not fit, a declared column does not exist.
    """
    if rehash:
        stats.forget(project.layout, source.name)
    before = cache.snapshot(project.layout, source.name)
    now = _listing(project, source)
    known = _remembered(project, source, now)
    kept = _kept(source, sum(now.sizes))
    known_id = "" if before is None or "" in known else _identity(source, _files(now, known), before)
    if before is None or (known_id, kept) != (before.id, before.kept) or _lost(project, before):
        describe = partial(_described, project, source, before, reading)
        if "" in known:
            ahead.prepare(source, now)
        if kept == "reference":
            made = replace(describe(_hash(project, source, before)), kept="reference")
        else:
            made = _store(project, source, now, known, before, describe)
    else:
        _require(source, before)
        made = before
    made = replace(made, private=source.private)
    if before is not None and (made.id, made.kept) == (before.id, before.kept):
        if tuple(before.private) != source.private:
            _keep(project, made)
        emit(Progress("snapshot", f"{remarks.line(before)}: unchanged", data=remarks.facts(before, new=False)))
        return before
    for event in remarks.noted(source, before, made, fully(project, source.name), project.root):
        emit(event)
    _keep(project, made)
    change = remarks.difference(before, made) if before is not None else "new"
    emit(Progress("snapshot", f"{remarks.line(made)}: {change}", data=remarks.facts(made, new=True)))
    return made


def _keep(project: Project, made: Snapshot) -> None:
    """Make it the source's newest."""
    journal(project, made)
    cache.save_snapshot(project.layout, made)


def _lost(project: Project, held: Snapshot) -> bool:
    """Whether the bytes of a snapshot's files are not all stored, as they should be."""
    if held.kept == "reference":
        return False
    known = f"{held.id} {packs.looks(project.layout)}"
    if cache.kept(project.layout, held.source) == known:
        return False
    gone = packs.index(project.layout).lacking(held.listed.hashes)
    if not gone:
        cache.save_kept(project.layout, held.source, known)
    return bool(packs.missing(project.layout, gone))


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
    held = Files(list(read), [found.hash for found in read.values()], [found.size for found in read.values()])
    made = Snapshot(files.identity(zip(held.paths, held.hashes, strict=True)), source, held, rows=0, bytes=sum(held.sizes))
    journal(project, made)
    return made


def _kept(source: Source, size: int) -> str:
    return source.store or ("reference" if size > REFERENCE_BYTES else "full")


def _store(
    project: Project, source: Source, now: Listing, known: Sequence[str], before: Snapshot | None, describe: _Describe
) -> Snapshot:
    """Read each file that is not known and put its bytes into the packs in the same pass; a refused source leaves none."""
    from mlops_local.store import packing  # noqa: PLC0415  (threads: 15 ms, and only when a file changed)

    hashes, hashed_at, begun = list(known), {}, {}
    earlier = before.listed.contents if before is not None else {}
    with packing.writer(project.layout, chunks.cut, wait_s=project.store.wait_s) as writer:
        looking = ahead.begin(project, source, now) if not earlier and not any(known) else None
        lacking = writer.lacking(hash for hash in known if hash)
        for place in [place for place, hash in enumerate(known) if not hash or hash in lacking]:
            path = now.paths[place]
            read = writer.add(f"{project.root}/{path}", said=f"source {source.name}: {path}", earlier=earlier.get(path, ""))
            hashes[place], hashed_at[place] = read.hash, time.time_ns()
            if read.begun:
                begun[path] = (earlier[path], read.begun)
            _restamp(now, place, read.stamp)
        _remember(project, source, now, hashes, hashed_at)
        held = _files(now, hashes)
        if looking is not None:
            looking.keep(now, held.contents)
        made = describe(_Now(held, begun))
        writer.commit()
    return replace(made, kept="full")


def _described(
    project: Project, source: Source, before: Snapshot | None, reading: Callable[[], object], found: _Now
) -> Snapshot:
    """The snapshot of these files: the one before when it is the same, else with rows and columns read."""
    identity = _identity(source, found.files, before)
    if before is not None and before.id == identity:
        _require(source, before)
        return before
    reading()
    return _read(project, source, identity, found)


def journal(project: Project, made: Snapshot) -> None:
    """Say that a source's files are, or were, what a snapshot has."""
    writer = Journal.open(project.layout.journal)
    try:
        writer.state(events.SNAPSHOT, run="", snapshot=cache.snapshot_to_json(made))
    finally:
        writer.close()


def identify(project: Project, source: Source) -> str:
    """Return the id of the snapshot the files stand for right now, without looking into new ones; stores nothing.

    Raises:
        DataError: no file matches, one cannot be read, or a declared column is not in the files.
    """
    before = cache.snapshot(project.layout, source.name)
    identity = _identity(source, _hash(project, source).files, before)
    if before is not None and before.id == identity:
        _require(source, before)
    return identity


def _identity(source: Source, found: Files, before: Snapshot | None) -> str:
    """The id of these files; the newest snapshot's where they are the same, without hashing anything."""
    if before is not None and (before.read_as, before.labels) == (source.schema, source.labels):
        held = before.listed
        if (held.paths, held.hashes) == (found.paths, found.hashes):
            return before.id
    return files.identity(zip(found.paths, found.hashes, strict=True), source.schema, source.labels)


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
    return _hash(project, source).files.contents


def overview(project: Project, sources: Sequence[Source]) -> list[SourceLine]:
    """List the sources with what their newest snapshots hold."""
    lines = []
    for source in sources:
        held = cache.snapshot(project.layout, source.name)
        about = SourceLine(source.name, source.labels or source.pattern, tuple(source.outcome))
        if held is not None:
            rows = held.rows if held.listed.rows is not None else None
            about = replace(about, snapshot=held.id, files=len(held.files), rows=rows, bytes=held.bytes)
        lines.append(about)
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
    return shown(project, found, sources)


def shown(project: Project, held: Snapshot, sources: Sequence[Source] | None) -> Snapshot:
    """Return a snapshot without the values of columns that its source declares private; of none where sources are not known."""
    hidden = [column.name for column in held.columns] if sources is None else private(project, sources, held.source)
    return replace(held, columns=tuple(item.without_values() if item.name in hidden else item for item in held.columns))


def private(project: Project, sources: Iterable[Source], name: str) -> Sequence[str]:
    """Return the columns of a source whose values are not shown: those it declares, or declared when it was there last."""
    declared = next((source for source in sources if source.name == name), None)
    if declared is not None:
        return declared.private
    newest = cache.snapshot(project.layout, name)
    return newest.private if newest is not None else ()


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


def _listing(project: Project, source: Source) -> Listing:
    """The source's files with what their stat says; the answer of a query is made first, where it is out of date."""
    if source.sql:
        from mlops_local.services import pulled  # noqa: PLC0415  (what runs queries: only for a source that is one)

        pulled.answer(project, source)
    if source.pull is not None and not (project.root / source.pattern).is_file():
        raise DataError(
            f"source {source.name} was never pulled", hint=f"`mlops data pull {source.name}`; a training does it by itself"
        )
    return files.listing(project.root, source.pattern, source=source.name)


def _remembered(project: Project, source: Source, now: Listing) -> Sequence[str]:
    """Content hash of each file whose stat is remembered; empty text for the others, which have to be read."""
    held = stats.read(project.layout, source.name)
    return [""] * len(now.paths) if held is None else held.of(now)


def _remember(project: Project, source: Source, now: Listing, hashes: list[str], hashed_at: Mapping[int, int]) -> None:
    stats.save(project.layout, source.name, listing.settled(now, hashes, hashed_at))


def _restamp(now: Listing, place: int, stamp: Sequence[int]) -> None:
    """A file was read: what its stat said then counts."""
    now.stamps[place * STAMP : (place + 1) * STAMP] = listing.stamps(stamp)


def _files(now: Listing, hashes: Sequence[str]) -> Files:
    return Files(now.paths, hashes, now.sizes)


def _hash(project: Project, source: Source, before: Snapshot | None = None) -> _Now:
    """The source's files as they are now; those whose stat is remembered are not read.

    Args:
        project: the project.
        source: whose files.
        before: of files that are read, it is found out whether they have only grown since.
    """
    now = _listing(project, source)
    hashes, hashed_at, begun = list(_remembered(project, source, now)), {}, {}
    earlier: dict[str, tuple[str, int]] = {}
    if before is not None and source.kind == "table" and "" in hashes:
        earlier = dict(zip(before.listed.paths, zip(before.listed.hashes, before.listed.sizes, strict=True), strict=True))
    for place in [place for place, hash in enumerate(hashes) if not hash]:
        path = now.paths[place]
        held = earlier.get(path, ("", 0))
        hashes[place], stamp, begins = files.settled_digest(project.root / path, source=source.name, first=held[1])
        if held[1] and begins == held[0] != hashes[place]:
            begun[path] = held
        hashed_at[place] = time.time_ns()
        _restamp(now, place, stamp)
    if hashed_at:
        _remember(project, source, now, hashes, hashed_at)
    return _Now(_files(now, hashes), begun)


def _read(project: Project, source: Source, identity: str, now: _Now) -> Snapshot:
    found = now.files
    if source.kind == "table":
        _require_names(source, found.paths)
    try:
        with profiles.known(project, source, found.contents, now.begun) as known:
            rows, columns = profile.read(
                project.root,
                found.paths,
                source=source.name,
                kind=source.kind,
                known=known,
                schema=source.schema,
                labels=source.labels,
                sizes=dict(zip(found.paths, found.sizes, strict=True)),
            )
    except DataError as error:
        if error.column in source.private:
            raise DataError(error.hidden, hint=error.hint) from None
        raise
    except OSError as error:  # it went, or was emptied, since its bytes were read
        raise Unsettled(
            f"source {source.name}: a file cannot be read: {error}", hint="run the command again when the writer is done"
        ) from error
    made = Snapshot(
        id=identity,
        source=source.name,
        files=Files(found.paths, found.hashes, found.sizes, [rows[path] for path in found.paths]),
        rows=sum(count or 0 for count in rows.values()),
        bytes=sum(found.sizes),
        columns=columns,
        read_as=source.schema,
        labels=source.labels,
    )
    _require(source, made)
    # A table was read twice, for its bytes and for its columns.
    if source.kind == "table" and _identity(source, _hash(project, source).files, None) != identity:
        raise Unsettled(
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
    if named and (plain := remarks.no_table(source, held)):
        raise DataError(f"source {source.name}: {plain}: it has no columns, and {named} names one", hint=remarks.UNPACK)
    if source.kind == "table" and (held.columns or any(wanted.values())):
        profile.require([column.name for column in held.columns], wanted, source=source.name)
