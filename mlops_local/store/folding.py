"""One transaction of the fold: what is new in journals and ledger goes into the tables, with how far was read.

Called with the database attached for writing. Bounded: about 50 ms or 100,000 rows. Killed at any moment, either nothing or
everything of it is there, so that every line counts once.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import zstandard

from mlops_local.domain import events
from mlops_local.domain.errors import IntegrityError
from mlops_local.store import decisions, facts, files, journal, ledger, registry, views
from mlops_local.store.database import quote
from mlops_local.store.layout import Layout

TRANSACTION_S = 0.05
TRANSACTION_ROWS = 100_000
CHUNK_BYTES = 2 << 20
"""Metric lines of one transaction; about 20,000."""
REBUILD_CHUNK_BYTES = 8 << 20
"""The same while a new database is filled: a commit costs as much as inserting 20,000 rows."""

Db = duckdb.DuckDBPyConnection

_COLUMNS = (
    "columns = {k: 'VARCHAR', v: 'INTEGER', t: 'BIGINT', n: 'BIGINT', r: 'VARCHAR', key: 'VARCHAR', s: 'DOUBLE', "
    "x: 'DOUBLE', dropped: 'BIGINT'}"
)


@dataclass
class Part:
    """One journal file, and how far it was read."""

    name: str
    """Without `.zst`."""
    path: Path
    journal: str
    segment: int
    """-1: the state file."""
    final: bool
    """Nobody writes to it any more."""
    packed: bool
    position: int = 0
    consumed: bool = False
    """Every whole line of it was read."""


@dataclass
class Step:
    """What one transaction did."""

    lines: int = 0
    finished: bool = True
    """Nothing was left to do."""
    parts: list[Part] = field(default_factory=list)
    ledger: list[int] = field(default_factory=list)
    """What the ledger looked like before it was read."""


class Folder:
    """One transaction in the making."""

    def __init__(self, db: Db, layout: Layout) -> None:
        self._db = db
        self._layout = layout
        self._deadline = time.monotonic() + TRANSACTION_S
        self._rows = facts.Rows()
        self._damage: list[tuple[str, int, int]] = []
        self._moved: dict[str, int] = {}
        self._chunk = bytearray()
        self._pieces: list[tuple[str, int, bytes]] = []
        self._step = Step()
        self._limit = CHUNK_BYTES

    def run(self) -> Step:
        """Fold up to the bound, commit, then put away what is final."""
        whole = self._meta("whole") is not None
        if not whole:
            self._limit = REBUILD_CHUNK_BYTES
        parts = self._step.parts = self._parts(whole)
        for part in parts:
            if self._full():
                break
            self._take(part)
        everything = all(part.consumed for part in parts)
        self._stage_points()
        self._db.execute("BEGIN")
        self._rows.insert(self._db)
        self._metrics()
        self._ledger()
        self._crashed(parts)
        self._save_positions()
        if everything and not whole:
            self._set_meta("whole", "1")
        self._db.execute("COMMIT")
        self._step.finished = everything and self._retire(parts)
        return self._step

    # -- reading

    def _parts(self, whole: bool) -> list[Part]:
        """Every journal file, state files first. Whether a writer is gone is asked before its files are read."""
        writers = {part.journal for part in _listing(self._layout.journal)}
        alive = {name for name in writers if journal.live(self._layout.journal / f"{name}.state.jsonl")}
        # Listed again: what a writer that is gone by now did in its last moments is all there.
        found = {part.name: part for part in _listing(self._layout.journal)}
        alive |= {part.journal for part in found.values()} - writers
        if not whole:  # a new database: what was put away counts too
            for part in _listing(self._layout.done):
                found.setdefault(part.name, part)
        newest: dict[str, int] = {}
        for part in found.values():
            newest[part.journal] = max(newest.get(part.journal, -1), part.segment)
        positions = self._positions(list(found))
        for part in found.values():
            part.position = positions.get(part.name, 0)
            part.final = part.packed or part.journal not in alive or -1 < part.segment < newest[part.journal]
        return sorted(found.values(), key=lambda part: (part.segment >= 0, part.journal, part.segment))

    def _positions(self, names: Sequence[str]) -> dict[str, int]:
        query = "SELECT file, position FROM store.position WHERE file IN (SELECT unnest(?::VARCHAR[]))"
        return dict(self._db.execute(query, [list(names)]).fetchall())

    def _full(self) -> bool:
        return (
            time.monotonic() > self._deadline or self._step.lines >= TRANSACTION_ROWS or len(self._chunk) >= self._limit
        ) and self._step.lines > 0

    def _take(self, part: Part) -> None:
        """Read a part as far as the bound lets; sets `consumed` when nothing whole is left."""
        while not part.consumed and not self._full():
            data = _read(part, CHUNK_BYTES)
            end = data.rfind(b"\n") + 1
            if end == 0 and len(data) == CHUNK_BYTES:  # no line is that long: whatever this is, step over it
                self._damage.append((part.name, part.position, len(data)))
                end = len(data)
            part.consumed = len(data) < CHUNK_BYTES
            if end == 0:
                return
            if part.segment < 0:
                self._states(part, data[:end])
            else:
                self._chunk += data[:end]
                self._pieces.append((part.name, part.position, data[:end]))
            self._step.lines += data.count(b"\n", 0, end)
            part.position += end
            self._moved[part.name] = part.position

    def _states(self, part: Part, data: bytes) -> None:
        lines, damaged = journal.decode(data)
        for line in lines:
            if not self._rows.add(part.journal, line):
                damaged.append((0, len(facts.text(line))))
        self._damage += [(part.name, part.position + offset, size) for offset, size in damaged]

    # -- writing

    def _stage_points(self) -> None:
        """Load the collected points, before the transaction: a failed load would end it."""
        if self._chunk and not self._stage(bytes(self._chunk)) and not self._stage(self._mended()):
            raise IntegrityError("journal lines that were mended still do not load", hint="run `mlops doctor`")

    def _metrics(self) -> None:
        """Insert the staged points and keep each metric's newest value."""
        if not self._chunk:
            return
        self._db.execute(
            "INSERT INTO store.metric SELECT r, key, s, x, make_timestamp(t), n FROM temp.batch WHERE k = 'm';"
            "INSERT INTO store.gap SELECT r, dropped, make_timestamp(t) FROM temp.batch WHERE k = 'gap';"
            """
            MERGE INTO store.latest l USING (
                SELECT r AS run, key, max_by(b, (t, n)) AS last, count(*) AS points FROM temp.batch b WHERE k = 'm' GROUP BY ALL
            ) b ON l.run = b.run AND l.key = b.key
            WHEN MATCHED AND (make_timestamp(b.last.t), b.last.n) >= (l.time, l.n) THEN UPDATE SET
                step = b.last.s, value = b.last.x, time = make_timestamp(b.last.t), n = b.last.n, points = l.points + b.points
            WHEN MATCHED THEN UPDATE SET points = l.points + b.points
            WHEN NOT MATCHED THEN INSERT VALUES
                (b.run, b.key, b.last.s, b.last.x, make_timestamp(b.last.t), b.last.n, b.points)"""
        )

    def _stage(self, data: bytes) -> bool:
        """Load lines into a temporary table; False if one is not what it should be. DuckDB reads JSON 4x as fast as Python."""
        path = self._layout.tmp / "fold.jsonl"
        files.replace(path, data)
        try:
            self._db.execute(
                "CREATE OR REPLACE TEMP TABLE batch AS SELECT * FROM "
                f"read_json({quote(str(path))}, format = 'newline_delimited', {_COLUMNS})"
            )
        except (duckdb.InvalidInputException, duckdb.ConversionException):
            return False
        odd = self._db.execute(
            "SELECT count(*) FROM temp.batch WHERE k IS NULL OR r IS NULL OR t IS NULL OR n IS NULL OR v IS NULL OR v > ? "
            "OR (k = 'm' AND (key IS NULL OR x IS NULL)) OR (k = 'gap' AND dropped IS NULL) OR k NOT IN ('m', 'gap')",
            [events.VERSIONS[events.METRIC]],
        ).fetchall()
        return odd == [(0,)]

    def _mended(self) -> bytes:
        """The pieces without their damaged lines, which are noted."""
        sound: list[bytes] = []
        for name, position, data in self._pieces:
            lines, damaged = journal.decode(data)
            for line in lines:
                facts.check_version(line)
                mended = _mend(line)
                if mended is None:
                    damaged.append((0, len(facts.text(line))))
                else:
                    sound.append(mended)
            self._damage += [(name, position + offset, size) for offset, size in damaged]
        return b"".join(sound)

    def _ledger(self) -> None:
        """Copy new decisions, and make the tables anew that they amount to."""
        self._step.ledger = ledger.key(self._layout)
        lines = ledger.read(self._layout)
        ((seq, hash),) = self._db.execute("SELECT coalesce(max(seq), 0), max_by(hash, seq) FROM store.ledger").fetchall()
        if seq and (len(lines) < seq or lines[seq - 1].hash != hash):
            raise IntegrityError(
                f"the ledger was cut or altered: decision {seq} is no longer in it",
                hint="`mlops doctor` says what is missing; `mlops doctor --fix` puts back what the database still knows",
            )
        if len(lines) == seq:
            return
        self._step.lines += len(lines) - seq
        facts.append(self._db, "ledger", decisions.ledger_rows(lines[seq:]))
        now = registry.apply(lines)
        for table, rows in decisions.registry_rows(now).items():
            self._db.execute(f"DELETE FROM store.{table}")
            facts.append(self._db, table, rows)
        views.evaluation(self._db, self._layout, [version.predictions for version in now.versions.values()])

    def _crashed(self, parts: Sequence[Part]) -> None:
        """A run whose writer is gone without a last word crashed, at the time of its last line."""
        gone = {part.journal: part for part in parts if part.segment < 0 and part.final and part.consumed}
        if not gone:
            return
        open_runs = self._db.execute(
            "SELECT run, journal, started FROM store.run_start WHERE journal IN (SELECT unnest(?::VARCHAR[])) "
            "AND run NOT IN (SELECT run FROM store.run_end)",
            [list(gone)],
        ).fetchall()
        rows = []
        for run, name, started in open_runs:
            last = facts.moment(max(_last_time(part) for part in parts if part.journal == name))
            rows.append((run, "crashed", "", max(0.0, (last - started).total_seconds()), max(last, started), 0))
        facts.append(self._db, "run_end", rows)

    def _save_positions(self) -> None:
        if self._moved:
            self._db.execute("DELETE FROM store.position WHERE file IN (SELECT unnest(?::VARCHAR[]))", [list(self._moved)])
            facts.append(self._db, "position", list(self._moved.items()))
        facts.append(self._db, "damage", self._damage)

    def _meta(self, name: str) -> str | None:
        rows = self._db.execute("SELECT value FROM store.meta WHERE name = ?", [name]).fetchall()
        return str(rows[0][0]) if rows else None

    def _set_meta(self, name: str, value: str) -> None:
        self._db.execute("INSERT INTO store.meta VALUES (?, ?)", [name, value])

    def _retire(self, parts: Sequence[Part]) -> bool:
        """Compress final files away, state files last; False if time ran out."""
        deadline = time.monotonic() + TRANSACTION_S
        for part in reversed(parts):
            if part.final and not part.packed and part.consumed:
                if time.monotonic() > deadline:
                    return False
                retire(self._layout, part.path)
        return True


def sound(name: str, line: Mapping[str, Any]) -> bool:
    """Say whether a line of the journal file `name` is one that the fold takes."""
    if ".metric." in name:
        return _mend(line) is not None
    return facts.Rows().add("", line)


def _listing(folder: Path) -> Iterator[Part]:
    for entry in folder.iterdir():
        packed = entry.name.endswith(".jsonl.zst")
        name = entry.name.removesuffix(".zst")
        match = journal.NAME.match(name)
        if match is not None:
            segment = int(match["segment"]) if match["segment"] else -1
            yield Part(name, entry, match["id"], segment, final=packed, packed=packed)


def _read(part: Part, limit: int) -> bytes:
    """Up to `limit` bytes from where the part was read to."""
    if part.packed:
        return unpack(part.path)[part.position : part.position + limit]
    with part.path.open("rb") as file:
        file.seek(part.position)
        return file.read(limit)


@lru_cache(maxsize=1)
def unpack(path: Path) -> bytes:
    """Return a retired file's content. A segment is 16 MiB, and is read in pieces.

    Raises:
        IntegrityError: it is damaged.
    """
    try:
        return zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()
    except zstandard.ZstdError as error:
        raise IntegrityError(f"journal/done/{path.name} is damaged: {error}", hint="restore it from a backup") from error


def retire(layout: Layout, path: Path) -> None:
    """Move a final, folded file to done/, compressed; at every moment one whole copy is there."""
    data = path.read_bytes()
    if data:
        pack(layout.done / f"{path.name}.zst", data)
    path.unlink()


def pack(path: Path, data: bytes) -> None:
    """Write a retired file, durably."""
    packed = zstandard.ZstdCompressor(level=3, write_checksum=True, write_content_size=True).compress(data)
    files.replace(path, packed, sync=True)
    unpack.cache_clear()


def _last_time(part: Part) -> int:
    """Microseconds of the part's last whole line; 0 when there is none."""
    lines, _ = journal.decode(_tail(part))
    times = [line["t"] for line in lines if isinstance(line.get("t"), int)]
    return int(times[-1]) if times else 0


def _tail(part: Part, size: int = 1 << 16) -> bytes:
    if part.packed:
        data = unpack(part.path)
    else:
        with part.path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - (1 << 20)))
            data = file.read()
    data = data[: data.rfind(b"\n") + 1]
    start = max(0, len(data) - size)
    return data[data.find(b"\n", start - 1) + 1 :] if start else data


def _mend(line: Mapping[str, Any]) -> bytes | None:
    """A metric file's line as the bulk reader takes it; None if it is not one."""
    try:
        made: dict[str, Any] = {"k": line["k"], "v": int(line["v"]), "t": int(line["t"]), "n": int(line["n"])}
        made["r"] = facts.clean(line["r"])
        if line["k"] == events.METRIC:
            float(line["x"])
            made |= {"key": facts.clean(line["key"]), "s": line["s"], "x": line["x"]}
            if line["s"] is not None:
                float(line["s"])
        elif line["k"] == events.GAP:
            made["dropped"] = int(line["dropped"])
        else:
            return b""  # a kind of a newer program: it stays in the journal
    except (KeyError, TypeError, ValueError):
        return None
    return json.dumps(made).encode() + b"\n"
