"""The one ordered file of decisions: aliases, states, verdicts, versions, deployments, deletions.

Appended only under `ledger.lock`, by compare and set; every line carries the hash of the one before, so a change or a cut
is noticed. Holds digests and names, never data about persons. Reading needs no lock and no DuckDB.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from mlops_local.domain import events
from mlops_local.domain.assets import ModelVersion
from mlops_local.domain.errors import Conflict, IntegrityError
from mlops_local.domain.records import dataclass
from mlops_local.store import files, lock
from mlops_local.store.layout import Layout


class _Any:
    """Whatever the value is now."""

    def __repr__(self) -> str:
        return "ANY"


ANY: Final = _Any()
Value = str | None
Expect = str | None | _Any

_SETTLE_S = 0.02
"""A decision takes a few milliseconds to reach the disk; whoever can do without it waits no longer."""
FIRST = "0" * 64
"""What the first line names as its predecessor."""


@dataclass(frozen=True)
class Line:
    """One decision."""

    seq: int
    prev: str
    hash: str
    kind: str
    at: str
    """UTC, ISO 8601 with microseconds and Z."""
    actor: str
    host: str
    subject: str
    expect: str | None
    """The value it replaced, where the decider said so."""
    value: str | None
    reason: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    more: int = 0
    """How many lines follow that were decided in the same moment: all of them count, or none."""


@dataclass(frozen=True)
class Entry:
    """A further decision of the same moment."""

    kind: str
    subject: str
    value: str | None
    expect: Expect = ANY
    reason: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


def append(
    layout: Layout,
    kind: str,
    subject: str,
    value: Value,
    *,
    expect: Expect = ANY,
    reason: str = "",
    data: Mapping[str, Any] | None = None,
    actor: str | None = None,
    also: Sequence[Entry] = (),
    wait_s: float = 30.0,
) -> Line:
    """Decide: append one line, and `also` others in the same moment; all or none.

    Args:
        layout: the store.
        kind: one of `domain.events`, ledger part.
        subject: what is decided about (`delay@champion`).
        value: its new value.
        expect: the value it must have now; None means none yet.
        reason: why, for people.
        data: JSON values kept with it.
        actor: who; default the user.
        also: further decisions, each with its own `expect`.
        wait_s: how long to queue for the ledger.

    Raises:
        Conflict: a value is not what was expected; says who set it.
        StoreBusy: the ledger stayed locked.
        MlopsError: the disk is full; nothing was appended.
    """
    entries = [Entry(kind, subject, value, expect, reason, data or {}), *also]
    with _appending(layout, wait_s):
        return _append(layout, entries, actor)[0]


def append_version(
    layout: Layout,
    make: Callable[[int], ModelVersion],
    *,
    also: Callable[[ModelVersion], Sequence[Entry]] = lambda version: (),
    reason: str = "",
    actor: str | None = None,
    wait_s: float = 30.0,
) -> ModelVersion:
    """Register a version under the next number of its model.

    Args:
        layout: the store.
        make: called with a number, returns the version; called under the lock, so it only builds the value. Its id,
            number and (if empty) created are filled in here.
        also: decisions to append with it (a verdict, an alias), given the numbered version.
        reason: why, for people.
        actor: who; default the user.
        wait_s: how long to queue for the ledger.

    Returns:
        The version; the registered one if fingerprint and bundle are those of one that is there already.
    """
    with _appending(layout, wait_s):
        lines = read(layout)
        probe = make(0)
        numbers = [0]
        for line in lines:
            if line.kind != events.VERSION or line.data.get("model") != probe.model:
                continue
            numbers.append(int(line.data["number"]))
            same = line.data.get("fingerprint"), line.data.get("bundle_hash")
            if same == (probe.fingerprint, probe.bundle_hash):
                return version_from_json(line.data)
        number = max(numbers) + 1
        version = make(number)
        version = replace(
            version, id=f"{version.model}@{number}", number=number, state="new", created=version.created or _now()
        )
        first = Entry(events.VERSION, version.id, "new", None, reason, asdict(version))
        _append(layout, [first, *also(version)], actor)
        return version


def version_from_json(value: Mapping[str, Any]) -> ModelVersion:
    """A version from a line's data; keys this program does not know are ignored."""
    known: dict[str, Any] = {key: item for key, item in value.items() if key in ModelVersion.__dataclass_fields__}
    for key in ("value", "low", "high"):  # NaN travels as text
        known[key] = None if known.get(key) is None else float(known[key])
    known["metrics"] = {key: float(item) for key, item in known.get("metrics", {}).items() if item is not None}
    return ModelVersion(**known)


def read(layout: Layout) -> list[Line]:
    """Return every decision, oldest first. A torn end is not there yet.

    Raises:
        IntegrityError: a line before the last cannot be read.
    """
    return _read(layout.ledger)[0]


def head(layout: Layout) -> Line | None:
    """Return the newest decision."""
    lines = read(layout)
    return lines[-1] if lines else None


@contextmanager
def settled(layout: Layout) -> Iterator[bool]:
    """Hold the ledger still for the block, if nobody is deciding: what it holds then is on the disk. False if somebody is."""
    with lock.glance(layout.ledger_lock, _SETTLE_S) as still:
        yield still


def key(layout: Layout) -> list[int]:
    """What the ledger looks like by stat: equal means nothing was decided in between."""
    try:
        stat = layout.ledger.stat()
    except FileNotFoundError:
        return []
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns]


def current(lines: Sequence[Line], kind: str, subject: str) -> Line | None:
    """Return the line that set the present value of (kind, subject)."""
    for line in reversed(lines):
        if line.subject == subject and (line.kind == kind or (kind == events.STATE and line.kind == events.VERSION)):
            return line
    return None


def verify(layout: Layout) -> list[str]:
    """Check the whole chain. Returns every problem, one line each; empty means sound."""
    try:
        raw = layout.ledger.read_bytes()
    except FileNotFoundError:
        return []
    problems: list[str] = []
    before = FIRST
    for number, text in enumerate(raw[: _decided(raw)].splitlines(), start=1):
        try:
            value = json.loads(text)
            line = _line(value)
        except _ODD:
            problems.append(f"ledger line {number} cannot be read")
            before = ""
            continue
        if line.seq != number:
            problems.append(f"ledger line {number} has number {line.seq}: a line is missing or was added")
        if before and line.prev != before:
            problems.append(f"ledger line {number} does not follow the one before it")
        if _hash(value) != line.hash:
            problems.append(f"ledger line {number} was altered: its hash does not fit")
        before = line.hash
    return problems


def sound(value: Mapping[str, Any]) -> bool:
    """Say whether a line from elsewhere is what was decided there: its hash fits, and its fields are a line's."""
    try:
        line = _line(value)
        texts = (line.kind, line.at, line.actor, line.host, line.subject, line.reason, "" if line.value is None else line.value)
        typed = isinstance(line.seq, int) and isinstance(line.data, dict) and all(isinstance(text, str) for text in texts)
        return bool(typed and _hash(value) == line.hash)
    except (KeyError, TypeError, ValueError):
        return False


def torn(layout: Layout) -> int:
    """Return how many bytes at the end are no whole decision: what a process that died while appending left."""
    try:
        size = layout.ledger.stat().st_size
    except FileNotFoundError:
        return 0
    return size - _read(layout.ledger)[1]


def cut_torn(layout: Layout, *, wait_s: float = 30.0) -> None:
    """Remove a torn end, as the next appender would."""
    with _appending(layout, wait_s):
        _write(layout.ledger, _read(layout.ledger)[1], b"")


def restore(layout: Layout, lost: Sequence[Mapping[str, Any]], *, wait_s: float = 30.0) -> None:
    """Put back decisions that were cut off the end, from a copy of their lines.

    Raises:
        Conflict: they do not follow what the ledger holds now, or are not what was written; nothing is changed.
    """
    with _appending(layout, wait_s):
        lines, end = _read(layout.ledger)
        before = lines[-1].hash if lines else FIRST
        for value in lost:
            if value["prev"] != before or _hash(value) != value["hash"]:
                raise Conflict("the lost decisions do not follow what the ledger holds now")
            before = value["hash"]
        _write(layout.ledger, end, b"".join(_text(_line(value)) for value in lost))


# -- within


def _appending(layout: Layout, wait_s: float) -> Any:
    return lock.hold(layout.ledger_lock, wait_s=wait_s)


def _append(layout: Layout, entries: Sequence[Entry], actor: str | None) -> list[Line]:
    """Check what is expected and append; the caller holds the lock."""
    lines, end = _read(layout.ledger)
    lines = list(lines)
    values = {(entry.kind, entry.subject): current(lines, entry.kind, entry.subject) for entry in entries}
    made: list[Line] = []
    for place, entry in enumerate(entries):
        now = values[entry.kind, entry.subject]
        if not isinstance(entry.expect, _Any) and (now.value if now else None) != entry.expect:
            raise _conflict(entry, now)
        prev = made[-1] if made else lines[-1] if lines else None
        line = _sealed(entry, prev, actor or _actor(), len(entries) - place - 1)
        values[entry.kind, entry.subject] = line
        made.append(line)
    _write(layout.ledger, end, b"".join(_text(line) for line in made))
    return made


def _sealed(entry: Entry, prev: Line | None, actor: str, more: int) -> Line:
    value: dict[str, Any] = {
        "seq": prev.seq + 1 if prev else 1,
        "prev": prev.hash if prev else FIRST,
        "kind": entry.kind,
        "at": _now(),
        "actor": actor,
        "host": socket.gethostname(),
        "subject": entry.subject,
        "expect": None if isinstance(entry.expect, _Any) else entry.expect,
        "value": entry.value,
        "reason": entry.reason,
        "data": json.loads(json.dumps(_finite(entry.data))),
        "more": more,
    }
    return _line({**value, "hash": _hash(value)})


def _write(path: Path, end: int, data: bytes) -> None:
    """Append durably after `end`, the last whole line; a torn rest behind it goes."""
    new = not path.exists()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, end)
            os.lseek(descriptor, end, os.SEEK_SET)
            try:
                files.write_all(descriptor, data)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)
        if new:
            files.sync_folder(path.parent)
    except OSError as error:
        raise files.cannot_write(path, error) from error


def _read(path: Path) -> tuple[list[Line], int]:
    """Every whole line, and where they end; lines of a moment that did not arrive whole are left out."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return [], 0
    key = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    kept = _kept.get(path)
    if kept is not None and kept[0] == key:
        return kept[1], kept[2]
    raw = path.read_bytes()
    lines: list[Line] = []
    whole = end = position = 0
    for number, text in enumerate(raw[: _decided(raw)].splitlines(keepends=True), start=1):
        position += len(text)
        try:
            line = _line(json.loads(text))
        except _ODD as error:
            raise unreadable(number) from error
        lines.append(line)
        if line.more == 0:
            whole, end = len(lines), position
    del lines[whole:]
    if len(raw) == stat.st_size:
        _kept[path] = key, lines, end
    return lines, end


def _decided(raw: bytes) -> int:
    """Where the whole lines end. Those at the end with NULs are none: lost power leaves NULs where bytes never arrived."""
    end = raw.rfind(b"\n") + 1
    while end and b"\x00" in raw[(start := raw.rfind(b"\n", 0, end - 1) + 1) : end]:
        end = start
    return end


_kept: dict[Path, tuple[tuple[int, int, int], list[Line], int]] = {}
"""Ledger file -> (what it looked like, its lines, where they end)."""


_ODD = (ValueError, KeyError, TypeError, AttributeError)
"""What taking a line apart raises that is not what was written."""


def unreadable(number: int) -> IntegrityError:
    """The error of a line that is not what was written."""
    return IntegrityError(
        f"line {number} of the ledger cannot be read", hint="run `mlops doctor`; restore journal/ledger.jsonl"
    )


def _line(value: Mapping[str, Any]) -> Line:
    known = Line.__dataclass_fields__
    return Line(**{key: item for key, item in value.items() if key in known})


def _text(line: Line) -> bytes:
    return json.dumps(asdict(line), separators=(",", ":")).encode() + b"\n"


def _hash(value: Mapping[str, Any]) -> str:
    """SHA-256 of the line without its hash, as sorted compact JSON: checkable with any language's standard library."""
    body = {key: item for key, item in value.items() if key != "hash"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _finite(value: Any) -> Any:
    """NaN and infinity as text, so that every JSON reader takes the line."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _conflict(entry: Entry, now: Line | None) -> Conflict:
    wanted = entry.expect if entry.expect is not None else "nothing"
    if now is None:
        return Conflict(f"{entry.subject} is not set, expected {wanted}", hint="look again and repeat the command")
    is_now = now.value if now.value is not None else "nothing"
    return Conflict(
        f"{entry.subject} is {is_now}, not {wanted}: {now.actor} on {now.host} set it at {now.at}"
        + (f" ({now.reason})" if now.reason else ""),
        hint="look at that decision and repeat the command if it should be replaced",
    )


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _actor() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
