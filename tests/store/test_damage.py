"""Files cut at any byte, filled with NULs or holding nonsense: nothing whole is lost, nothing half counts, the fold goes on."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from mlops_local.domain import events
from mlops_local.domain.errors import IntegrityError
from mlops_local.store import history, journal, ledger, projection
from mlops_local.store import layout as layouts
from mlops_local.store.database import Store
from mlops_local.store.layout import Layout
from mlops_local.store.lines import dumps
from tests.store.test_projection import train

ODD: list[Any] = [
    None, True, 0, -1, 2**63, 2**70, -(2**64), 1e308, 1.5, "", "x", "NaN", "\x00", "\udcff", [], [1], {},
    {"a": 1}, "9" * 400, 10**30,
]  # fmt: skip


def files_of(layout: Layout) -> dict[str, bytes]:
    """The journal files of a run, taken out of the store."""
    train(layout, points=4)
    found = {path.name: path.read_bytes() for path in layout.journal.glob("*.jsonl")}
    for name in found:
        (layout.journal / name).unlink()
    return found


@pytest.mark.parametrize("tail", [b"", b"\x00" * 64])
def test_a_journal_torn_at_any_byte_keeps_its_whole_lines(layout: Layout, store: Store, tail: bytes) -> None:
    """Every prefix of a metric file, as kills and lost power leave it, folded at once: whole lines once, half ones never."""
    (data,) = (data for name, data in files_of(layout).items() if ".metric." in name)
    whole = 0
    for end in range(0, len(data), 3):
        copy = journal.new_id()
        text = data[:end].replace(data.split(b'"r":"')[1][:32], copy.encode())
        (layout.journal / f"{copy}.state.jsonl").write_bytes(b"")
        (layout.journal / f"{copy}.metric.000.jsonl").write_bytes(text + tail)
        whole += text.count(b"\n")
    projection.fold(store)
    with store.reader() as db:
        once = "SELECT count(*) AS c, count(DISTINCT (key, step)) AS d FROM metric GROUP BY run"
        begun = sum(b"\n" in data[:end] for end in range(0, len(data), 3))
        assert db.execute(f"SELECT count(*), sum(c - d) FROM ({once})").fetchall() == [(begun, 0)]
        assert db.execute("SELECT count(*), (SELECT count(*) FROM store.damage) FROM metric").fetchall() == [(whole, 0)]


def test_a_state_file_torn_at_any_byte_says_what_it_had_said(layout: Layout, store: Store) -> None:
    """Runs whose start was whole are there; without a whole last word they crashed."""
    (data,) = (data for name, data in files_of(layout).items() if ".state." in name)
    run = json.loads(data.splitlines()[0])["run"].encode()
    started = ended = 0
    for end in range(0, len(data) + 1, 7):
        copy = journal.new_id()
        (layout.journal / f"{copy}.state.jsonl").write_bytes(data[:end].replace(run, copy.encode()))
        started += b"\n" in data[:end]
        ended += end == len(data)
    copy = journal.new_id()
    (layout.journal / f"{copy}.state.jsonl").write_bytes(data.replace(run, copy.encode()))
    projection.fold(store)
    with store.reader() as db:
        found = dict(db.execute("SELECT state, count(*) FROM run GROUP BY state").fetchall())
        assert found == {"crashed": started - ended, "done": ended + 1}
        assert db.execute("SELECT count(*) FROM store.damage").fetchall() == [(0,)]


def test_a_ledger_torn_at_any_byte_goes_on_from_its_last_whole_moment(layout: Layout) -> None:
    """A cut anywhere, with and without NULs behind it: the next decision follows the last whole one, and the chain verifies."""
    ledger.append(layout, events.ALIAS, "delay@champion", "delay@1")
    ledger.append(layout, events.ALIAS, "delay@champion", "delay@2", also=[ledger.Entry(events.STATE, "delay@2", "approved")])
    data = layout.ledger.read_bytes()
    ends = [place + 1 for place, byte in enumerate(data) if byte == 10]
    tails = (b"", b"\x00" * 40, b"\x00\x00\n\x00\n")
    for end in range(len(data) + 1):
        tail = tails[end % 3]
        layout.ledger.write_bytes(data[:end] + tail)
        kept = 3 if end >= ends[2] else 1 if end >= ends[0] else 0
        if any(abs(end - place) < 2 for place in ends) or end % 100 == 0:  # deciding takes a flush of the disk
            assert ledger.append(layout, events.ALIAS, "delay@x", "delay@1").seq == kept + 1
            assert ledger.verify(layout) == [] and len(ledger.read(layout)) == kept + 1
        else:
            assert len(ledger.read(layout)) == kept and (kept == 3 or ledger.torn(layout) >= len(tail))


def test_nonsense_inside_the_ledger_is_no_torn_end(layout: Layout) -> None:
    """NULs with a whole decision behind them are damage: it is said, never cut away."""
    for version in ("delay@1", "delay@2"):
        ledger.append(layout, events.ALIAS, "delay@champion", version)
    first, second = layout.ledger.read_bytes().splitlines(keepends=True)
    layout.ledger.write_bytes(b"\x00" * (len(first) - 1) + b"\n" + second)
    with pytest.raises(IntegrityError, match="line 1 of the ledger"):
        ledger.read(layout)
    assert any("line 1 cannot be read" in problem for problem in ledger.verify(layout))


@pytest.mark.parametrize(
    "text",
    [
        '{"k":"run_ended","v":1,"t":2,"n":2,"run":"r","state":"dode"}',
        '{"k":"snapshot","v":1,"t":2,"n":2,"snapshot":{"id":"i","source":"s","rows":1,"bytes":1,"files":[],"columns":[{"nbme":1}]}}',
        '{"k":"note","v":1,"t":1%s,"n":2,"run":"r","text":""}' % ("0" * 30),
        "[" * 100_000,
        '{"k":"run_started","v":1,"t":2,"n":2,"run":"../../x","name":"n","kind":"script"}',
    ],
    ids=["state", "column", "time", "brackets", "place"],
)
def test_one_bent_line_costs_itself_alone(layout: Layout, store: Store, text: str) -> None:
    """The run it stands in is there, read and listed."""
    sound = dumps({"k": "run_started", "v": 1, "t": 1, "n": 1, "run": "r", "name": "n", "kind": "script"})
    (layout.journal / f"{journal.new_id()}.state.jsonl").write_text(f"{sound}\n{text}\n")
    projection.fold(store)
    with store.reader() as db:
        (found,) = history.runs(db)
        assert found.state.value == "crashed" and found.incomplete


def bent(value: Any, chance: random.Random) -> Any:
    """The same JSON with one thing in it taken out or replaced by something odd."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        rest = {name: item for name, item in value.items() if name != key}
        return rest if chance.random() < 0.15 else {**rest, key: bent(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        return [*value[:place], bent(value[place], chance), *value[place + 1 :]]
    return chance.choice(ODD)


@pytest.mark.parametrize("seed", [1, 2])
def test_lines_bent_in_any_way_stop_nothing(layout: Layout, store: Store, seed: int, tmp_path: Path) -> None:
    """400 lines that are JSON but not what their kind holds, between sound ones: those are all there, the views answer."""
    chance = random.Random(seed)
    other = Layout(tmp_path / "other")
    other.root.mkdir()
    layouts.create(other)
    for name, data in files_of(other).items():
        lines = data.splitlines()
        for _ in range(200):
            copy = journal.new_id()
            line = chance.choice(lines)
            odd = bent(json.loads(line), chance)
            if not isinstance(odd, dict):
                continue
            sound = dumps({"k": "note", "v": 1, "t": 1, "n": 1, "run": copy, "text": "sound"}).encode()
            if ".metric." in name:
                sound = dumps({"k": "m", "v": 1, "t": 1, "n": 1, "r": copy, "key": "sound", "s": 1, "x": 1.0}).encode()
                (layout.journal / f"{copy}.state.jsonl").write_bytes(b"")
            if isinstance(odd.get("v"), int) and 1 < odd["v"] <= 10_000:
                odd["v"] = 1  # what only a newer program reads is refused, and is another test
            text = json.dumps(odd).encode()
            (layout.journal / name.replace(name[:32], copy)).write_bytes(text + b"\n" + sound + b"\n")
    count = len(list(layout.journal.glob("*.jsonl"))) - len(list(layout.journal.glob("*.metric.*")))
    projection.fold(store)
    with store.reader() as db:
        kept = db.execute(
            "SELECT (SELECT count(*) FROM note WHERE text = 'sound') + count(*) FROM metric WHERE key = 'sound'"
        ).fetchall()
        assert kept == [(count,)]
        assert db.execute("SELECT count(*) > 10 FROM store.damage").fetchall() == [(True,)]
        for (view,) in db.execute(
            "SELECT view_name FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal"
        ).fetchall():
            db.execute(f"SELECT count(*), any_value(v) FROM {view} v").fetchall()
    projection.rebuild(store)
