"""One transaction of the fold: what is new in journals and ledger goes into the tables, with how far was read.

Called with the database attached for writing. Bounded: about 50 ms or 100,000 rows. Killed at any moment, either nothing or
everything of it is there, so that every line counts once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from mlops_local.domain.errors import IntegrityError
from mlops_local.store import archive, decisions, facts, journal, ledger, points, registry, views
from mlops_local.store.layout import Layout
from mlops_local.store.parts import Part, listing, named

TRANSACTION_S = 0.05
TRANSACTION_ROWS = 100_000
CHUNK_BYTES = 10 << 20
"""Points of one transaction, about 90,000: DuckDB's checkpoint after it costs as much as inserting 40,000."""
REBUILD_S = 0.25
"""How long a new database is filled at once: nobody has anything to read yet, and each turn looks at all files anew."""
REBUILD_CHUNK_BYTES = 128 << 20
"""The same while a new database is filled, a little over a million: whole segments side by side take DuckDB half the time, and
each commit after the first writes the table's last groups of 122,880 rows once more."""
REBUILD_ROWS = 200_000

_SEVERAL = 8
"""From so many files on they are put away in archives of up to `_TOGETHER` files or `_TOGETHER_BYTES`."""
_TOGETHER = 200
_TOGETHER_BYTES = 1 << 20

Db = duckdb.DuckDBPyConnection

_REFUSED = (duckdb.DataError, duckdb.InvalidInputException, duckdb.InvalidTypeException, TypeError, ValueError, OverflowError)
"""What inserting a value says that its column cannot hold."""


@dataclass
class Step:
    """What one transaction did."""

    lines: int = 0
    finished: bool = True
    """Nothing was left to do."""
    parts: list[Part] = field(default_factory=list)
    ledger: list[int] = field(default_factory=list)
    """What the ledger looked like before it was read."""
    settled: bool = True
    """False: somebody was deciding at that moment, and the ledger was not read."""
    over: list[Part] = field(default_factory=list)
    """What is final and was read to its end: to be put away."""


class Folder:
    """One transaction in the making."""

    def __init__(self, db: Db, layout: Layout) -> None:
        self._db = db
        self._layout = layout
        self._deadline = 0.0
        self._rows = facts.Rows()
        self._stated: list[tuple[Part, Mapping[str, Any]]] = []
        self._damage: list[tuple[str, int, int]] = []
        self._moved: dict[str, int] = {}
        self._points = points.Points(db, layout)
        self._step = Step()
        self._limit, self._most = CHUNK_BYTES, TRANSACTION_ROWS

    def run(self) -> Step:
        """Fold up to the bound and commit; say what is final and can be put away."""
        try:
            return self._folded()
        finally:
            self._points.drop()

    def _folded(self) -> Step:
        whole = self._meta("whole") is not None
        if not whole:
            self._limit, self._most = REBUILD_CHUNK_BYTES, REBUILD_ROWS
        started = time.monotonic()
        parts = self._step.parts = self._parts(whole)
        # From here, and as long as that took: looking at thousands of files must leave time to read as many.
        now = time.monotonic()
        self._deadline = now + max(TRANSACTION_S if whole else REBUILD_S, now - started)
        for part in parts:
            if self._full():
                break
            self._take(part)
        everything = all(part.consumed for part in parts)
        staged = self._points.stage()  # before the transaction: a load that fails would end it
        self._step.lines += staged
        self._damage += self._points.damage
        self._db.execute("BEGIN")
        self._insert_states()
        if staged:
            self._metrics()
        self._ledger()
        self._crashed(parts)
        self._save_positions()
        if everything and not whole:
            self._set_meta("whole", "1")
        self._db.execute("COMMIT")
        self._step.finished = everything
        # Points before the states: a journal's state file is what says whether its writer lives.
        self._step.over = [part for part in reversed(parts) if part.final and part.kept is None and part.consumed]
        return self._step

    # -- reading

    def _parts(self, whole: bool) -> list[Part]:
        """Every journal file, state files first. Whether a writer is gone is asked before its files are read."""
        writers = {part.journal for part in listing(self._layout.journal)}
        alive = {name for name in writers if journal.live(self._layout.journal / f"{name}.state.jsonl")}
        # Listed again: what a writer that is gone by now did in its last moments is all there.
        found = {part.name: part for part in listing(self._layout.journal)}
        alive |= {part.journal for part in found.values()} - writers
        if not whole:  # a new database: what was put away counts too
            for kept in archive.listing(self._layout):
                found.setdefault(kept.name, named(kept.name, self._layout.journal / kept.name, kept))
        newest: dict[str, int] = {}
        for part in found.values():
            newest[part.journal] = max(newest.get(part.journal, -1), part.segment)
        positions = self._positions(list(found))
        for part in found.values():
            part.position = positions.get(part.name, 0)
            part.final = part.kept is not None or part.journal not in alive or -1 < part.segment < newest[part.journal]
        return sorted(found.values(), key=lambda part: part.order)

    def _positions(self, names: Sequence[str]) -> dict[str, int]:
        query = "SELECT file, position FROM store.position WHERE file IN (SELECT unnest(?::VARCHAR[]))"
        return dict(self._db.execute(query, [list(names)]).fetchall())

    def _full(self) -> bool:
        return bool(self._moved) and (
            time.monotonic() > self._deadline or self._step.lines >= self._most or self._points.size >= self._limit
        )

    def _take(self, part: Part) -> None:
        """Read a part as far as the bound lets; sets `consumed` when nothing whole is left."""
        if part.kept is not None and part.position and part.position == part.kept.length():
            part.consumed = True  # an earlier transaction's: unpacked once more in each, filling took the square of its time
            return
        if self._limit > CHUNK_BYTES and part.final and part.segment >= 0 and self._points.take_whole(part):
            part.consumed = True
            self._move(part, part.path.stat().st_size)
            return
        size = min(points.READ_BYTES, self._limit)
        while not part.consumed and not self._full():
            limit, data = part.read_lines(part.position, size)
            end = data.rfind(b"\n") + 1
            damaged = end == 0 and len(data) == limit  # no point's line is that long: whatever this is, step over it
            if damaged:
                self._damage.append((part.name, part.position, len(data)))
                end = len(data)
            part.consumed = len(data) < limit
            if end == 0:
                return
            if part.segment < 0:
                self._step.lines += data.count(b"\n")
                self._states(part, data[:end])
            elif not damaged:
                self._points.take(part, part.position, data[:end])
            self._move(part, part.position + end)

    def _move(self, part: Part, position: int) -> None:
        part.position = self._moved[part.name] = position

    def _states(self, part: Part, data: bytes) -> None:
        lines, damaged = journal.decode(data)
        for line in lines:
            if self._rows.add(part.journal, line):
                self._stated.append((part, line))
            else:
                damaged.append((0, len(facts.text(line))))
        self._damage += [(part.name, part.position + offset, size) for offset, size in damaged]

    # -- writing

    def _insert_states(self) -> None:
        """Insert what the state lines say. A line that no table takes, as a flipped bit leaves it, must not stop the others."""
        try:
            self._rows.insert(self._db)
            return
        except _REFUSED:
            self._db.execute("ROLLBACK")
        self._rows = facts.Rows()
        for part, line in self._taken(self._stated):
            self._rows.add(part.journal, line)
        self._db.execute("BEGIN")
        self._rows.insert(self._db)

    def _taken(self, lines: Sequence[tuple[Part, Mapping[str, Any]]]) -> list[tuple[Part, Mapping[str, Any]]]:
        """Those of the lines that the tables take; the others are damage, found by halving."""
        trial = facts.Rows()
        for part, line in lines:
            trial.add(part.journal, line)
        self._db.execute("BEGIN")
        try:
            trial.insert(self._db)
        except _REFUSED:
            taken = False
        else:
            taken = True
        self._db.execute("ROLLBACK")
        if taken:
            return list(lines)
        if len(lines) > 1:
            middle = len(lines) // 2
            return [*self._taken(lines[:middle]), *self._taken(lines[middle:])]
        part, line = lines[0]
        self._damage.append((part.name, part.position, len(facts.text(line))))
        return []

    def _metrics(self) -> None:
        """Insert the staged points and keep each metric's newest value."""
        self._db.execute(
            "INSERT INTO store.metric SELECT r, key, s, x, make_timestamp(t), n FROM temp.batch WHERE k = 'm';"
            "INSERT INTO store.gap SELECT r, dropped, make_timestamp(t) FROM temp.batch WHERE k = 'gap';"
            """
            MERGE INTO store.latest l USING (
                SELECT r AS run, key, count(*) AS points,
                    max_by({s: s, x: x, t: t, n: n}, t::HUGEINT * 9223372036854775808 + n) AS last  -- (t, n): twice as long
                FROM temp.batch WHERE k = 'm' GROUP BY ALL
            ) b ON l.run = b.run AND l.key = b.key
            WHEN MATCHED AND (make_timestamp(b.last.t), b.last.n) >= (l.time, l.n) THEN UPDATE SET
                step = b.last.s, value = b.last.x, time = make_timestamp(b.last.t), n = b.last.n, points = l.points + b.points
            WHEN MATCHED THEN UPDATE SET points = l.points + b.points
            WHEN NOT MATCHED THEN INSERT VALUES
                (b.run, b.key, b.last.s, b.last.x, make_timestamp(b.last.t), b.last.n, b.points)"""
        )

    def _ledger(self) -> None:
        """Copy new decisions, and make the tables anew that they amount to."""
        with ledger.settled(self._layout) as settled:
            self._step.settled = settled
            if not settled:  # a decision is on its way to the disk, and could still be taken back
                return
            key, lines = ledger.key(self._layout), ledger.read(self._layout)
        self._step.ledger = key
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
            "SELECT run, journal, started FROM store.run_start WHERE journal IN (SELECT unnest($1::VARCHAR[])) "
            "AND run NOT IN (SELECT run FROM store.run_end) AND run NOT IN (SELECT run FROM store.run_resume) "
            "UNION ALL SELECT a.run, a.journal, a.time FROM store.run_resume a "
            "WHERE a.journal IN (SELECT unnest($1::VARCHAR[])) "
            "AND NOT EXISTS (SELECT 1 FROM store.run_end e WHERE e.run = a.run AND e.time >= a.time)",
            [list(gone)],
        ).fetchall()
        if open_runs:  # how a run ended before it was resumed is no longer how it ended
            again = [run for run, *_ in open_runs]
            self._db.execute("DELETE FROM store.run_end WHERE run IN (SELECT unnest(?::VARCHAR[]))", [again])
        rows = []
        written: dict[str, list[Part]] = {}
        for part in parts:
            written.setdefault(part.journal, []).append(part)
        # By the files they lie in: each archive is unpacked once.
        for run, name, started in sorted(open_runs, key=lambda found: max(part.place for part in written[found[1]])):
            last = facts.moment(max(part.last_time() for part in written[name]))
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


def sound(db: Db, name: str, line: Mapping[str, Any]) -> bool:
    """Say whether a line of the journal file `name` is one that the fold takes."""
    if ".metric." in name:
        return facts.check_version(line) and points.mend(line) is not None
    trial = facts.Rows()
    if not trial.add("", line):
        return False
    db.execute("BEGIN")
    try:
        trial.insert(db)
    except _REFUSED:
        return False
    finally:
        db.execute("ROLLBACK")
    return True


def retire(layout: Layout, parts: Sequence[Part]) -> list[Part]:
    """Move final, folded files to done/, compressed, for about 50 ms; return those that are left. The store's lock is held.

    One file costs a flush of the disk; where many are over at once, they share one.
    """
    deadline = time.monotonic() + TRANSACTION_S
    left = list(parts)
    while left and time.monotonic() < deadline:
        taken = [left.pop(0)]
        if len(left) >= _SEVERAL:
            while left and sum(part.position for part in taken) < _TOGETHER_BYTES and len(taken) < _TOGETHER:
                taken.append(left.pop(0))
        there = [part for part in taken if part.path.exists() and b"\n" not in part.read(part.position, -1)]  # else it has more
        if len(there) == 1 and there[0].position > _TOGETHER_BYTES:
            archive.put_file(layout, there[0].path)
        elif contents := [(part.name, data) for part in there if (data := part.path.read_bytes())]:
            archive.put(layout, contents)
        for part in there:
            part.path.unlink()
    return left
