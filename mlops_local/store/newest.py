"""Each step's newest result and how long it took before, in one file: a plan of hundreds of steps opens nothing else.

A line a step, the last one counts; a line that is damaged counts as absent. Appended under a lock of its own that is held for
a millisecond; written anew when more than half of it is old.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from mlops_local.domain.plan import StepResult, result_from_json, result_to_json
from mlops_local.store import files
from mlops_local.store.layout import Layout

REMEMBERED = 25
"""So many executions of a step are enough to say how long the next one takes."""
_SLACK = 256 * 1024
_FIELDS = 4
_Line = tuple[bytes, bytes, bytes]
"""Fingerprint, durations, result; as they stand in the file."""


class Newest:
    """What the file held when it was read; values are made of its text only when they are asked for."""

    def __init__(self, lines: Mapping[bytes, _Line]) -> None:
        self._lines = lines
        self._results: dict[bytes, StepResult | None] = {}
        self._stamps: dict[bytes, Mapping[str, Any]] = {}

    def result(self, step: str) -> StepResult | None:
        """The newest result of a step."""
        return self._at(_packed(step))

    def made(self, fingerprint: str) -> StepResult | None:
        """The result under that fingerprint, if it is some step's newest."""
        key = self._by_fingerprint.get(_packed(fingerprint))
        return self._at(key) if key is not None else None

    def stamps(self, step: str) -> Mapping[str, Any]:
        """What the files of a step's newest result looked like when they were written, by hash."""
        key = _packed(step)
        self._at(key)
        return self._stamps.get(key, {})

    def seconds(self, step: str) -> tuple[float, ...]:
        """How long the last executions of a step took, oldest first."""
        line = self._lines.get(_packed(step))
        return tuple(seconds for _, seconds in _durations(line[1])) if line is not None else ()

    def predicted(self, step: str) -> float | None:
        """How long the next execution is likely to take: the median of those; None before the first."""
        known = sorted(self.seconds(step))
        half = len(known) // 2
        return (known[half] + known[-half - 1]) / 2 if known else None

    @cached_property
    def _by_fingerprint(self) -> dict[bytes, bytes]:
        return {line[0]: key for key, line in self._lines.items()}

    def _at(self, key: bytes) -> StepResult | None:
        if key not in self._results:
            line = self._lines.get(key)
            self._results[key], self._stamps[key] = _result(line[2]) if line is not None else (None, {})
        return self._results[key]


def read(layout: Layout) -> Newest:
    """Read the file; nothing is remembered where there is none."""
    try:
        return Newest(_lines(_place(layout).read_bytes()))
    except OSError:
        return Newest({})


def add(layout: Layout, result: StepResult, stamps: Mapping[str, Any]) -> None:
    """Make a result its step's newest; its duration counts when its run is newer than those known.

    Args:
        layout: the store.
        result: what the step left.
        stamps: what its files look like, by hash, as far as they are known to be whole.

    Raises:
        MlopsError: the disk is full or the folder cannot be written.
    """
    place = _place(layout)
    try:
        with _held(place) as file:
            start = b"\n" + _packed(result.name) + b"\t"
            known = _durations(_before(file, start))
            if not known or result.run > known[-1][0]:  # ids of runs sort by time
                known = [*known, (result.run, result.seconds)][-REMEMBERED:]
            body = json.dumps({**result_to_json(result), "stamps": stamps}, separators=(",", ":")).encode()
            fields = (_packed(result.fingerprint), json.dumps(known, separators=(",", ":")).encode(), body)
            _append(file, start + b"\t".join(fields))
            _compact(place, file)
    except OSError as error:
        raise files.cannot_write(place, error) from error


def forget(layout: Layout, runs: Collection[str]) -> None:
    """Drop the results that these runs made. Raises MlopsError when the file cannot be written."""
    place = _place(layout)
    try:
        with _held(place) as file:
            lines = _lines(os.pread(file, os.fstat(file).st_size, 0))
            left = {key: line for key, line in lines.items() if (made := _result(line[2])[0]) is None or made.run not in runs}
            if len(left) < len(lines):
                _rewrite(place, left)
    except OSError as error:
        raise files.cannot_write(place, error) from error


def _place(layout: Layout) -> Path:
    return layout.cache / "latest.jsonl"


@contextmanager
def _held(place: Path) -> Iterator[int]:
    """The file, for one writer at a time."""
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(f"{place}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        file = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield file
        finally:
            os.close(file)
    finally:
        os.close(lock)


def _before(file: int, start: bytes) -> bytes:
    """The durations in the last line of a step."""
    if not os.fstat(file).st_size:
        return b""
    with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as held:
        at = held.rfind(start)
        if at < 0:
            return b""
        end = held.find(b"\n", at + 1)
        fields = held[at + 1 : end if end >= 0 else len(held)].split(b"\t", 3)
    return fields[2] if len(fields) == _FIELDS else b""


def _append(file: int, line: bytes) -> None:
    """A line begins with its break: what a crash left unfinished stands alone and is no line."""
    size = os.lseek(file, 0, os.SEEK_END)
    try:
        files.write_all(file, line)
    except OSError:
        os.ftruncate(file, size)
        raise


def _compact(place: Path, file: int) -> None:
    """Keep the last line of each step, when the file is more than twice as long as that was last time."""
    head = os.pread(file, 32, 0).split(b"\n", 1)[0]
    size = os.fstat(file).st_size
    if size <= 2 * (int(head) if head.isdigit() else 0) + _SLACK:
        return
    _rewrite(place, _lines(os.pread(file, size, 0)))


def _rewrite(place: Path, lines: Mapping[bytes, _Line]) -> None:
    kept = b"".join(b"\n" + b"\t".join((key, *line)) for key, line in lines.items())
    files.replace(place, str(len(kept)).encode() + kept)


def _lines(data: bytes) -> dict[bytes, _Line]:
    found: dict[bytes, _Line] = {}
    for line in data.split(b"\n"):
        fields = line.split(b"\t", 3)
        if len(fields) == _FIELDS and fields[3].endswith(b"}"):
            found[fields[0]] = (fields[1], fields[2], fields[3])
    return found


def _packed(text: str) -> bytes:
    return json.dumps(text).encode()


def _durations(text: bytes) -> list[tuple[str, float]]:
    try:
        return [(str(run), float(seconds)) for run, seconds in json.loads(text)]
    except (ValueError, TypeError):
        return []


def _result(text: bytes) -> tuple[StepResult | None, Mapping[str, Any]]:
    try:
        value: Any = json.loads(text)
        return result_from_json(value), value["stamps"]
    except (ValueError, KeyError, TypeError):
        return None, {}
