"""What differs between two versions of data: files, columns, rows, cells, and how the values are spread.

Files that both sides have are not read: between two months one month is compared. Row by row work spills to .mlops/tmp.
"""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mlops_local.domain.difference import ColumnChange, Difference, FileChanges, RowChanges, RowSample, SchemaChange
from mlops_local.domain.errors import AmbiguousReference, UsageError
from mlops_local.domain.graph import Source
from mlops_local.engines.data import diff, profile, relations, shift
from mlops_local.engines.data.profile import Whole
from mlops_local.services import contents, data, profiles, references
from mlops_local.services.contents import Held
from mlops_local.services.project import Project
from mlops_local.services.sql import put
from mlops_local.store import cache
from mlops_local.store import files as stored

HIDDEN = "(private)"
"""Shown in place of a private column's value."""


def sides(project: Project, sources: Sequence[Source], before: str, after: str = "", *, here: Path) -> tuple[Held, Held]:
    """Return what two texts name: snapshots, files or folders.

    Args:
        project: the project.
        sources: the pipeline's.
        before: a reference or a path; a source alone is its newest snapshot.
        after: likewise; empty: the source's files as they are now.
        here: the folder that paths start from.

    Raises:
        UsageError: one names nothing, or the second is missing and the first is no source.
        DataError: what is named cannot be read.
    """
    names = {source.name for source in sources}
    if after:
        return _side(project, names, before, here), _side(project, names, after, here)
    name = before.partition("@")[0]
    source = next((source for source in sources if source.name == name), None)
    if source is None:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"`mlops data diff {before} OTHER`"
        raise UsageError(f"{before!r} is no source, so a second side is needed", hint=hint)
    return _side(project, names, before, here), contents.working(project, source)


def _side(project: Project, names: Collection[str], text: str, here: Path) -> Held:
    """A source's name is that also where a folder is called so, which can be named `./photos`."""
    path = here / text
    if text not in names and path.exists():
        return contents.given(here, [path], text)
    try:
        named = references.snapshot(project, text)
    except AmbiguousReference:
        raise
    except UsageError as error:
        if "@" in text:
            raise
        hint = profile.near(text, sorted(names), "sources") if names else "see `mlops data ls`"
        raise UsageError(f"{text!r} is no source, snapshot, file or folder", hint=hint) from error
    return contents.of(project, named)


def private(project: Project, sources: Sequence[Source], *held: Held) -> list[str]:
    """Return the columns whose values are not shown: of the sources these are versions of, or that have such a file."""
    named = {item.source for item in held if item.source}
    given = {os.path.realpath(path) for item in held if not item.source for path in item.files.values()}
    if given:
        named |= {source.name for source in sources if source.private and given & _places(project, source)}
    return list(dict.fromkeys(column for name in sorted(named) for column in data.private(project, sources, name)))


def _places(project: Project, source: Source) -> set[str]:
    """Where the files of a source's newest snapshot are."""
    newest = cache.snapshot(project.layout, source.name)
    return {os.path.realpath(project.root / path) for path in newest.listed.paths} if newest is not None else set()


def compare(
    project: Project,
    before: Held,
    after: Held,
    *,
    key: Sequence[str] = (),
    private: Collection[str] = (),
    to: Path | None = None,
    samples: int = diff.SAMPLES,
) -> Difference:
    """Compare two versions.

    Args:
        project: whose store keeps what was found out, and whose tmp folder takes what does not fit into memory.
        before: the first side.
        after: the second.
        key: columns that identify a row; none: rows are compared as wholes.
        private: columns whose values are not shown.
        to: a Parquet file to write every row that differs to.
        samples: rows to show of each kind of change.

    Raises:
        DataError: a file cannot be read, or the key does not identify rows.
        UsageError: one side is a table, the other is not, or the file cannot be written.
    """
    single = len(before.files) == len(after.files) == 1  # another name for one file says nothing
    moved = FileChanges() if single else files(before.hashes, after.hashes)
    if "files" in (before.kind, after.kind):
        if before.kind != after.kind:
            raise UsageError(f"{before.label} and {after.label} are not both tables", hint="compare versions of one source")
        return Difference(before.label, after.label, (), moved)
    old, new = (_whole(project, held) for held in (before, after))
    schema = _schema(before, after)
    diff.require(key, [name for name in old.columns if name in new.columns])  # also where all files are on both sides
    tables = diff.Tables(*_unshared(project, before, after), key, private)
    counted = _rows(project, tables, to, samples)
    rows = replace(
        counted,
        before=sum(old.rows.values()),
        after=sum(new.rows.values()),
        samples=tuple(_without(sample, private) for sample in counted.samples),
    )
    return Difference(before.label, after.label, tuple(key), moved, schema, rows, _columns(old, new, rows))


def files(before: Mapping[str, str], after: Mapping[str, str]) -> FileChanges:
    """Say what became of files: path -> content on either side. One that only has another path now was moved."""
    gone = {path: content for path, content in before.items() if path not in after}
    come = {path: content for path, content in after.items() if path not in before}
    places: dict[str, list[str]] = {}
    for path, content in sorted(come.items(), reverse=True):
        places.setdefault(content, []).append(path)
    moved = tuple((path, places[content].pop()) for path, content in sorted(gone.items()) if places.get(content))
    went, arrived = {old for old, _ in moved}, {new for _, new in moved}
    return FileChanges(
        added=tuple(sorted(set(come) - arrived)),
        removed=tuple(sorted(set(gone) - went)),
        changed=tuple(sorted(path for path in before if path in after and before[path] != after[path])),
        moved=moved,
    )


def _whole(project: Project, held: Held) -> Whole:
    known = profiles.by_content(project, held.hashes, source=held.source)
    return profile.whole(held.files, label=held.label, known=known, schema=held.schema)


def _schema(before: Held, after: Held) -> tuple[SchemaChange, ...]:
    old, new = (
        {name: str(kind) for name, kind in profile.types(held.files, held.label, held.schema).items()}
        for held in (before, after)
    )
    names = dict.fromkeys([*old, *new])
    return tuple(
        SchemaChange(name, old.get(name, ""), new.get(name, "")) for name in names if old.get(name, "") != new.get(name, "")
    )


def _rows(project: Project, tables: diff.Tables, to: Path | None, samples: int) -> RowChanges:
    if to is not None and not to.parent.is_dir():
        raise UsageError(f"cannot write {to}: there is no folder {to.parent}", hint="name a file in a folder you may write to")
    with stored.scratch(project.layout.tmp, "diff") as scratch:
        draft = scratch / "changes.parquet" if to is not None else None
        with relations.connect(scratch) as db:
            found = diff.rows(db, tables, to=draft, samples=samples)
        if to is not None and draft is not None and draft.exists():
            put(draft, to)
    return found


def _unshared(project: Project, before: Held, after: Held) -> tuple[list[Path], list[Path]]:
    shared = Counter(before.hashes.values()) & Counter(after.hashes.values())
    return _own(project, before, Counter(shared)), _own(project, after, Counter(shared))


def _own(project: Project, held: Held, shared: Counter[str]) -> list[Path]:
    """The files of a side that the other does not have, as Parquet."""
    own = []
    for path, content in held.hashes.items():
        if shared[content] > 0:
            shared[content] -= 1
        else:
            own.append(path)
    found = contents.tables(project, held, own)
    return [found[path] for path in own]


def _columns(old: Whole, new: Whole, rows: RowChanges) -> tuple[ColumnChange, ...]:
    return tuple(
        shift.column(name, column, new.columns[name], cells=None if rows.cells is None else rows.cells.get(name))
        for name, column in old.columns.items()
        if name in new.columns
    )


def _without(sample: RowSample, private: Collection[str]) -> RowSample:
    if not private:
        return sample
    before, after = (
        {name: HIDDEN if name in private else value for name, value in side.items()} for side in (sample.before, sample.after)
    )
    return RowSample(sample.change, before, after)
