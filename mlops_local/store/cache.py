"""Answers kept in small files so that plan, status and the hook need no database.

Every file is replaced whole; one that is damaged counts as absent. All of it can be deleted: step results and snapshots
come back with `projection.rebuild`, the rest with the next command. Never loads DuckDB.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlops_local.domain.assets import ColumnProfile, Files, Snapshot
from mlops_local.domain.errors import MlopsError
from mlops_local.domain.plan import StepResult, result_from_json, result_to_json
from mlops_local.store import files, newest, objects
from mlops_local.store.layout import Layout
from mlops_local.store.newest import Newest

_LONG = 200
"""Characters of a file's name before it is cut and hashed."""


def step_result(layout: Layout, fingerprint: str, last: Newest | None = None) -> StepResult | None:
    """Return what the step of this fingerprint left, if it ever ran and every file of it is there as it was written.

    Args:
        layout: the store.
        fingerprint: of one execution.
        last: the newest results, when the caller has read them: they answer without opening a file.
    """
    if last is not None and (made := last.made(fingerprint)) is not None:
        written = last.stamps(made.name)
        if all(objects.stamp(layout, hash) == written.get(hash, ()) for hash in _objects(made)):
            return made
    home = at(layout, "steps", fingerprint)
    value = _load(home)
    result = _result(value)
    if value is None or result is None:
        return None
    known = value.get("stamps", {})
    stamps: dict[str, list[int] | None] = {}
    for hash in _objects(result):
        stamps[hash] = objects.stamp(layout, hash)
        # Another stamp (a copied project, a restored object) is no verdict: then the bytes are read.
        if stamps[hash] is None or (stamps[hash] != known.get(hash) and not objects.verify(layout, hash)):
            return None
    if stamps != known:
        _try_save(home, {**value, "stamps": stamps})
    return result


def recorded(layout: Layout, fingerprint: str, last: Newest | None = None) -> StepResult | None:
    """Return what the step of this fingerprint left, whether or not the files of it are there: to say, not to go on from it."""
    made = last.made(fingerprint) if last is not None else None
    return made or _result(_load(at(layout, "steps", fingerprint)))


def lost(layout: Layout, fingerprint: str) -> str:
    """Say in words why a result that was recorded is none any more; empty when it is there, or never was."""
    result = _result(_load(at(layout, "steps", fingerprint)))
    if result is None or step_result(layout, fingerprint) is not None:
        return ""
    gone = any(not objects.exists(layout, hash) for hash in _objects(result))
    return f"its stored result {'is gone' if gone else 'was altered'}"


def _objects(result: StepResult) -> list[str]:
    return [hash for output in result.outputs for hash in output.parts.values()]


def latest(layout: Layout, step: str) -> StepResult | None:
    """Return the newest recorded result of the step, whatever its fingerprint."""
    return newest.read(layout).result(step)


def record(layout: Layout, result: StepResult, *, written: bool = False) -> None:
    """Keep a result under its fingerprint, and as its step's latest.

    Args:
        layout: the store.
        result: what a step left.
        written: its objects were written or verified a moment ago, so that they need not be read at their next use.

    Raises:
        MlopsError: the disk is full.
    """
    value = result_to_json(result)
    stamps = {hash: objects.stamp(layout, hash) for hash in _objects(result)} if written else {}
    _save(at(layout, "steps", result.fingerprint), {**value, "stamps": stamps})
    if "sample" not in result.report:  # made from a part of the data: not what the step gave last
        newest.add(layout, result, stamps)


def record_part(layout: Layout, result: StepResult) -> None:
    """Keep the result of a part of a step (one file of many) under its own fingerprint. Its objects were written just now."""
    stamps = {hash: objects.stamp(layout, hash) for hash in _objects(result)}
    _save(at(layout, "steps", result.fingerprint), {**result_to_json(result), "stamps": stamps})


def graph(layout: Layout, key: str) -> dict[str, Any] | None:
    """Return the described graph kept under `key`."""
    return _load(at(layout, "graph", key))


def save_graph(layout: Layout, key: str, value: Mapping[str, Any]) -> None:
    """Keep a described graph; graphs of other keys are dropped beyond the newest 20."""
    _save_few(at(layout, "graph", key), value)


def outline(layout: Layout, key: str) -> dict[str, Any] | None:
    """Return what `save_outline` kept: the key of a graph that was described from such code, and the lines of that code."""
    return _load(at(layout, "outline", key))


def save_outline(layout: Layout, key: str, value: Mapping[str, Any]) -> None:
    """Keep which graph code of an outline declares; of the newest 20, as the graphs."""
    _save_few(at(layout, "outline", key), value)


def parts(layout: Layout, key: str) -> dict[str, Any] | None:
    """Return what `save_parts` kept under `key`: what the steps of a version of the code depend on."""
    return _load(at(layout, "parts", key))


def save_parts(layout: Layout, key: str, value: Mapping[str, Any]) -> None:
    """Keep what the steps of a version of the code depend on; of the newest 20 versions, as the graphs."""
    _save_few(at(layout, "parts", key), value)


def trace(layout: Layout, entry: str) -> dict[str, Any] | None:
    """Return what `save_trace` kept: where the project's code was looked for, and found."""
    return _load(at(layout, "trace", entry))


def save_trace(layout: Layout, entry: str, value: Mapping[str, Any]) -> None:
    """Keep where the project's code was looked for, and found."""
    _try_save(at(layout, "trace", entry), value)


def interpreter(layout: Layout, stamp: str) -> tuple[str, str, str] | None:
    """Return what the Python with this stamp said of itself: path, prefix and version."""
    value = _load(layout.cache / "interpreter.json") or {}
    said = value.get("said")
    if value.get("stamp") != stamp or not isinstance(said, list) or len(said) != 3:
        return None
    return (str(said[0]), str(said[1]), str(said[2]))


def save_interpreter(layout: Layout, stamp: str, said: Sequence[str]) -> None:
    """Keep what a Python said of itself, in place of what another one did."""
    _save(layout.cache / "interpreter.json", {"stamp": stamp, "said": list(said)})


def kept(layout: Layout, source: str) -> str:
    """Return what `save_kept` kept: of which files, and in packs that look how, it is known that they are all there."""
    return str((_load(at(layout, "kept", source)) or {}).get("known", ""))


def save_kept(layout: Layout, source: str, value: str) -> None:
    """Keep that files were found to be there."""
    _try_save(at(layout, "kept", source), {"known": value})


def blobs(layout: Layout) -> dict[str, Any]:
    """Return what `save_blobs` kept: git's id of a content -> its BLAKE3."""
    return _load(layout.cache / "blobs.json") or {}


def save_blobs(layout: Layout, value: Mapping[str, Any]) -> None:
    """Keep the hashes of contents that git stores."""
    _save(layout.cache / "blobs.json", value)


def sketches(layout: Layout, key: str) -> dict[str, Any] | None:
    """Return what `save_sketches` kept: what the columns of a file of these bytes hold."""
    return _load_large(at(layout, "sketches", key))


def save_sketches(layout: Layout, key: str, value: Mapping[str, Any]) -> None:
    """Keep what the columns of a file hold."""
    _try_save(at(layout, "sketches", key), value)


def group(layout: Layout, source: str, number: int, of: str) -> dict[str, Any] | None:
    """Return what `save_group` kept of a group of a source's files, where it is of the same bytes."""
    value = _load_large(at(layout, "groups", f"{source}.{number}"))
    return value if value is not None and value.get("of") == of else None


def save_group(layout: Layout, source: str, number: int, of: str, value: Mapping[str, Any]) -> None:
    """Keep what a group of a source's files holds, in place of what it held before."""
    _try_save(at(layout, "groups", f"{source}.{number}"), {"of": of, **value})


def findings(layout: Layout, key: str) -> dict[str, Any] | None:
    """Return what `save_findings` kept: what the checks of a snapshot found."""
    return _load(at(layout, "findings", key))


def save_findings(layout: Layout, key: str, value: Mapping[str, Any]) -> None:
    """Keep what the checks of a snapshot found."""
    _try_save(at(layout, "findings", key), value)


def pull(layout: Layout, source: str) -> dict[str, Any]:
    """Return what `save_pull` kept: when a source was asked last, and what came."""
    return _load(at(layout, "pulls", source)) or {}


def save_pull(layout: Layout, source: str, value: Mapping[str, Any]) -> None:
    """Keep when a source was asked, and what came."""
    _try_save(at(layout, "pulls", source), value)


def pictures(layout: Layout, source: str) -> dict[str, Any]:
    """Return what `save_pictures` kept: hash of a picture of the source -> its size."""
    return _load(at(layout, "pictures", source)) or {}


def save_pictures(layout: Layout, source: str, value: Mapping[str, Any]) -> None:
    """Keep the sizes of a source's pictures."""
    _try_save(at(layout, "pictures", source), value)


def snapshot(layout: Layout, source: str) -> Snapshot | None:
    """Return the newest snapshot of a source."""
    value = _load(at(layout, "snapshots", source))
    try:
        return snapshot_from_json(value) if value is not None else None
    except (KeyError, TypeError, ValueError):
        return None


def save_snapshot(layout: Layout, value: Snapshot) -> None:
    """Keep a snapshot as its source's newest."""
    listed = value.listed
    columns = {"path": listed.paths, "hash": listed.hashes, "bytes": listed.sizes, "rows": listed.rows}
    _save(at(layout, "snapshots", value.source), _snapshot(value, columns))


def snapshot_to_json(value: Snapshot) -> dict[str, Any]:
    """The snapshot as JSON values, as a journal has it."""
    names = ("path", "hash", "bytes", "rows")
    listed = value.listed
    columns = (listed.paths, listed.hashes, listed.sizes, listed.rows or repeat(None, len(listed)))
    return _snapshot(value, [dict(zip(names, entry, strict=True)) for entry in zip(*columns, strict=True)])


def _snapshot(value: Snapshot, listed: Any) -> dict[str, Any]:
    return {
        "id": value.id,
        "source": value.source,
        "rows": value.rows,
        "bytes": value.bytes,
        "files": listed,
        "columns": [vars(column) for column in value.columns],
        "kept": value.kept,
        "schema": dict(value.read_as),
        **({"labels": value.labels} if value.labels else {}),
        **({"private": list(value.private)} if value.private else {}),
    }


def snapshot_from_json(value: Mapping[str, Any]) -> Snapshot:
    """Back from `snapshot_to_json`; keys this version does not know are ignored. Raises KeyError, TypeError."""
    return Snapshot(
        id=value["id"],
        source=value["source"],
        rows=value["rows"],
        bytes=value["bytes"],
        files=_files(value["files"]),
        columns=tuple(_column(item) for item in value.get("columns", ())),
        kept=value.get("kept", "full"),
        read_as=value.get("schema", {}),
        labels=value.get("labels", ""),
        private=tuple(value.get("private", ())),
    )


def _files(value: Any) -> Files:
    if isinstance(value, dict):  # a column each, as only this cache has them: read in a third of the time
        return Files(value["path"], value["hash"], value["bytes"], value["rows"])
    held = [(item["path"], item["hash"], item["bytes"], item.get("rows")) for item in value]
    paths, hashes, sizes, rows = (list(column) for column in zip(*held, strict=True)) if held else ([], [], [], [])
    return Files(paths, hashes, sizes, rows)


def _column(value: Mapping[str, Any]) -> ColumnProfile:
    held: dict[str, Any] = {
        key: tuple(item) if isinstance(item, list) else item for key, item in _known(ColumnProfile, value).items()
    }
    return ColumnProfile(**{**held, "top": tuple((text, count) for text, count in held.get("top", ()))})


def _known(kind: type, value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key in kind.__dataclass_fields__}  # type: ignore[attr-defined]


def _result(value: dict[str, Any] | None) -> StepResult | None:
    try:
        return result_from_json(value) if value is not None else None
    except (KeyError, TypeError):
        return None


def of_others(layout: Layout, sources: Collection[str]) -> list[Path]:
    """Return the files that spare work with sources that are none of these; their newest snapshots are not among them."""
    names = {at(layout, "", source).stem for source in sources}
    found: list[Path] = []
    for kind in ("groups", "stats", "kept", "pulls", "pictures"):
        for path in sorted((layout.cache / kind).glob("[!.]*")):
            # A group's number follows the name of its source; where that is too long for a file's, a hash has both.
            owner = path.stem.rpartition(".")[0] if kind == "groups" else path.stem
            if owner not in names and not (kind == "groups" and len(path.stem) >= 100 + 64):
                found.append(path)
    return found


def at(layout: Layout, kind: str, name: str, suffix: str = ".json") -> Path:
    """Where an answer of some kind is kept, whatever its name is."""
    safe = quote(name, safe="@ =+,")
    if len(safe) > _LONG:  # longer than a file name may be
        safe = safe[:100] + hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return layout.cache / kind / f"{safe}{suffix}"


def _load(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _load_large(path: Path) -> dict[str, Any] | None:
    """As `_load`, for what there may be thousands of: in half the time."""
    import msgspec  # noqa: PLC0415  (30 ms)

    try:
        value = msgspec.json.decode(path.read_bytes())
    except OSError:
        return None
    except msgspec.DecodeError:  # damaged, or a number that JSON has no word for
        return _load(path)
    return value if isinstance(value, dict) else None


def _save_few(path: Path, value: Mapping[str, Any]) -> None:
    """Save, and drop all of that kind but the newest twenty."""
    if not _try_save(path, value):
        return
    old = sorted(path.parent.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)[20:]
    for other in old:
        other.unlink(missing_ok=True)


def _try_save(path: Path, value: Mapping[str, Any]) -> bool:
    """Save what only spares work; a folder that takes nothing (read-only, full) is no reason to answer nothing."""
    try:
        _save(path, value)
    except MlopsError:
        return False
    return True


def _save(path: Path, value: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise files.cannot_write(path, error) from error
    files.replace(path, json.dumps(value, separators=(",", ":")).encode())
