"""What is said of a snapshot that was taken: what it holds, what changed, and what nobody would expect.

Reads a file only to find the value that made text of a column, and rows that hold nothing.
"""

from __future__ import annotations

import difflib
import operator
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlops_local.domain.assets import Snapshot
from mlops_local.domain.graph import Source
from mlops_local.domain.progress import Progress
from mlops_local.engines.data import profile, refusal, strays
from mlops_local.services.transfer import size

UNPACK = 'tables are Parquet, CSV, TSV, JSON lines and Arrow: unpack or convert it, or say kind="files" where a file is meant'
_FEW = 5


def noted(source: Source, before: Snapshot | None, made: Snapshot, fully: str, root: Path) -> Iterator[Progress]:
    """What is to be known of a new snapshot before it is used.

    Args:
        source: whose it is.
        before: the one before, if there is one.
        made: the snapshot.
        fully: how to ask for its bytes to be kept.
        root: the folder its files are relative to.
    """
    data = facts(made, new=True)
    if made.kept == "reference" and not source.store:
        held = size(made.bytes)
        said = f"source {made.source} is {held}: kept by reference (hashes, not copies); its bytes would take up to {held}"
        yield Progress("note", f"{said}: {fully}", data=data)
    if before is not None and (turned := _turned(source, before, made, root)):
        told = "; schema={…} in its declaration says what a column is" if _is_text(made) else ""
        yield Progress("warning", f"source {made.source}: not as in {before.short}: {turned}{told}", data=data)
    if empty := _blank(before, made, root):
        yield Progress("warning", f"source {made.source}: {empty}", data=data)
    if apart := _parted(made):
        yield Progress("warning", f"source {made.source}: {apart}", data=data)
    if plain := no_table(source, made):
        yield Progress("warning", f"source {made.source}: {plain}: kept as a file, without rows; {UNPACK}", data=data)


def _turned(source: Source, before: Snapshot, made: Snapshot, root: Path) -> str:
    """Say which columns are of another type or gone, where the declaration did not ask for it: the files' values did."""
    if source.kind != "table" or made.rows == 0 or before.rows == 0 or before.read_as != made.read_as:
        return ""
    was, now = ({column.name: column.type for column in held.columns} for held in (before, made))
    said = [f"{name} is {now[name]} and was {kind}" for name, kind in was.items() if name in now and now[name] != kind]
    said += [f"{name} is gone{_renamed(name, was, now)}" for name in was if name not in now]
    fresh = _fresh(before, made)
    told = ", ".join(said[:_FEW]) + (f" and {len(said) - _FEW} more" if len(said) > _FEW else "")
    text = [name for name, kind in was.items() if now.get(name) == "String" and kind != "String"]
    if text and (odd := strays.find({path: root / path for path in made.listed.paths}, text)):
        return f"{told}; {'; '.join(item.told(hidden=item.column in source.private) for item in odd)}"
    return f"{told}, with {fresh[0]}" if said and len(fresh) == 1 else told


def _renamed(name: str, was: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Say which column may be the one that is gone: of its type, and called much as it was, or the only new one."""
    new = [column for column, kind in now.items() if column not in was and kind == was[name]]
    alone = len(new) == 1 and sum(column not in now for column in was) == 1
    found = new if alone else difflib.get_close_matches(name, new, n=1)
    return f" (called {found[0]} now?)" if found else ""


def _is_text(held: Snapshot) -> bool:
    """Whether its files do not say themselves what their columns are."""
    return profile.form(held.files[0].path) in ("csv", "lines")


def _fresh(before: Snapshot | None, made: Snapshot) -> list[str]:
    """The files that are not as the snapshot before has them."""
    other = before.listed.contents if before is not None else {}
    return [path for path, hash in made.listed.contents.items() if other.get(path) != hash]


def _blank(before: Snapshot | None, made: Snapshot, root: Path) -> str:
    """Say which new file has rows without any value; only looked for where there can be some: every column lacks values."""
    if len(made.columns) < 2 or not all(column.nulls for column in made.columns) or profile.form(made.files[0].path) != "csv":
        return ""
    path, count = strays.blank({path: root / path for path in _fresh(before, made)})
    rows = "1 row holds" if count == 1 else f"{count:,} rows hold"
    return f"{path}: {rows} no value at all: an empty line is a row too" if count else ""


def _parted(made: Snapshot) -> str:
    """Say where the values of a text table are probably parted by something else than it is read by; empty elsewhere."""
    path = made.files[0].path if made.listed.rows is not None and len(made.columns) == 1 else ""
    name = made.columns[0].name if path and profile.form(path) == "csv" else ""
    if not any(sign in name for sign in ";|\t,"):
        return ""
    return f"the only column of {path} is called {name!r}: values are parted by commas in .csv and by tabs in .tsv files"


def no_table(source: Source, held: Snapshot) -> str:
    """Say which file of a source that was to be a table is none, and why; empty where it is one."""
    if source.kind != "table" or held.listed.rows is not None:
        return ""
    path = held.files[0].path
    return f"{path} {refusal.no_table(path) or 'is of no kind that is read as a table'}"


def difference(before: Snapshot, made: Snapshot) -> str:
    """Say how many files came, went, changed and moved."""
    old, now = before.listed.contents, made.listed.contents
    added, removed = len(now.keys() - old.keys()), len(old.keys() - now.keys())
    differ = sum(map(operator.ne, map(old.get, now), now.values()))
    moved = _moved(old, now) if added and removed else 0
    counts = {"added": added - moved, "removed": removed - moved, "changed": differ - added, "moved": moved}
    said = [f"{count} {'file' if count == 1 else 'files'} {verb}" for verb, count in counts.items() if count]
    if not said and made.id == before.id:
        return "its bytes are kept now" if made.kept == "full" else "by reference from now on"
    return f"{', '.join(said) or 'read otherwise'} since {before.short}"


def _moved(old: Mapping[str, str], now: Mapping[str, str]) -> int:
    """How many files only have another path."""
    gone, come = (Counter(one[path] for path in one.keys() - other.keys()) for one, other in ((old, now), (now, old)))
    return (gone & come).total()


def line(held: Snapshot) -> str:
    """Say in one line what a snapshot holds."""
    count = len(held.files)
    rows = f"{held.rows:,} row{'' if held.rows == 1 else 's'}, " if held.listed.rows is not None else ""
    return f"{held.source} {held.short}, {count} file{'' if count == 1 else 's'}, {rows}{size(held.bytes)}"


def facts(held: Snapshot, *, new: bool) -> dict[str, Any]:
    """The same as JSON values, and whether it is new."""
    return {
        "source": held.source,
        "snapshot": held.id,
        "files": len(held.files),
        "rows": held.rows,
        "bytes": held.bytes,
        "new": new,
    }
