"""Loading points in bulk: files read where they lie, others gathered, damaged ones line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_local.store import folding, journal, parts, points, projection
from mlops_local.store.database import Store
from mlops_local.store.journal import Journal
from mlops_local.store.layout import Layout


def segments(layout: Layout, each: int = 300) -> tuple[str, list[Path]]:
    """A finished run with three segments of points."""
    writer, run = Journal.open(layout.journal), journal.new_id()
    writer.state("run_started", run=run, name="r", kind="script")
    for segment in range(3):
        for step in range(each):
            writer.metric(run, f"m{step % 3}", step / 4, segment * each + step)
        writer.flush()
        writer._metric_size = journal.SEGMENT_BYTES
    writer.close()
    return run, sorted(layout.journal.glob("*.metric.*.jsonl"))


def rows(store: Store) -> list[tuple[object, ...]]:
    with store.reader() as db:
        table = db.execute("SELECT key, step, value FROM metric ORDER BY step").fetchall()
        return [*table, *db.execute("SELECT key, value, step, points FROM metric_last ORDER BY key").fetchall()]


@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize("whole", [True, False])
def test_damage_in_one_file_costs_its_own_lines_alone(
    layout: Layout, store: Store, monkeypatch: pytest.MonkeyPatch, where: int, whole: bool
) -> None:
    """Read in place or gathered: every sound line is there once, what is no line is noted, a torn end is nothing."""
    monkeypatch.setattr(points, "_WHOLE_BYTES", 1000 if whole else 1 << 30)
    _, files = segments(layout)
    damaged = files[where]
    first, _, rest = damaged.read_bytes().partition(b"\n")
    damaged.write_bytes(first + b"\n\x00 rubbish\n" + rest + b'{"k":"m","v":1,"t":17')
    assert projection.fold(store) == 902
    found = rows(store)
    assert [step for _, step, *_ in found[:900]] == [float(step) for step in range(900)]
    assert found[900:] == [(f"m{m}", (297 + m) / 4, 897.0 + m, 300) for m in range(3)]
    with store.reader() as db:
        assert db.execute("SELECT file, position FROM store.damage").fetchall() == [(damaged.name, len(first) + 1)]
    assert not list(layout.tmp.glob("*fold*")), "what was gathered is gone"


def test_a_file_that_grows_while_it_is_read_in_place_is_read_as_it_was(
    layout: Layout, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that come after a file was taken count once, with the next fold."""
    monkeypatch.setattr(points, "_WHOLE_BYTES", 1000)
    run, files = segments(layout)
    original = points.Points.stage
    grown: list[int] = []

    def stage(self: points.Points) -> int:
        if not grown:
            grown.append(1)
            with files[-1].open("ab") as file:
                file.write(f'{{"k":"m","v":1,"t":9,"n":9000,"r":"{run}","key":"m0","s":900,"x":1.5}}\n'.encode())
        return original(self)

    monkeypatch.setattr(points.Points, "stage", stage)
    projection.fold(store)
    projection.fold(store)
    assert [step for _, step, *_ in rows(store)[:901]] == [float(step) for step in range(901)]


def test_filling_again_in_many_transactions_unpacks_what_is_done_no_more(
    layout: Layout, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebuild gives the same rows, and each transaction reads only what those before it have not."""
    segments(layout, each=2_000)
    projection.fold(store)
    before = rows(store)
    monkeypatch.setattr(folding, "REBUILD_CHUNK_BYTES", 300_000)
    monkeypatch.setattr(points, "READ_BYTES", 100_000)
    read: list[tuple[str, int]] = []
    original = parts.Part.read

    def noted(self: parts.Part, position: int, size: int) -> bytes:
        read.append((self.name, position))
        return original(self, position, size)

    monkeypatch.setattr(parts.Part, "read", noted)
    projection.rebuild(store)
    assert rows(store) == before
    assert len(read) == len(set(read)) > 6
