"""The promises about many processes, proved with real ones: nothing waits, nothing is lost, nothing counts twice.

The counting is done by readers that share no code with ours: plain JSON over the journals and a bare DuckDB connection.
"""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable

import duckdb
import pytest

from mlops_local.store import history, projection
from mlops_local.store.compression import zstd  # the library itself
from mlops_local.store.database import Store
from mlops_local.store.journal import Journal, new_id
from mlops_local.store.layout import Layout

Start = Callable[..., "subprocess.Popen[str]"]
POINTS = 20_000

WRITER = """
import sys, time
from pathlib import Path
from mlops_local.store.journal import Journal, new_id
from mlops_local.store.layout import Layout
j = Journal.open(Layout(Path(sys.argv[1])).journal)
run = new_id()
j.state("run_started", run=run, name=sys.argv[2], kind="train")
for i in range(int(sys.argv[3])):
    j.metric(run, f"m{i % 3}", i * 0.5, i)
    if i % 500 == 0:
        time.sleep(0.05)
if sys.argv[4] == "ends":
    j.state("run_ended", run=run, state="done", error="", seconds=1.0)
    j.close()
else:
    j.flush()
print(run, flush=True)
sys.stdin.read()
"""

FOLDER = """
import sys, time
from pathlib import Path
from mlops_local.store import projection
from mlops_local.store.database import Store
from mlops_local.store.layout import Layout
store = Store(Layout(Path(sys.argv[1])), wait_s=120)
print("folding", flush=True)
while True:
    projection.fold(store)
    time.sleep(0.005)
"""

READER = """
import sys, time
from pathlib import Path
from mlops_local.store.database import Store
from mlops_local.store.layout import Layout
store = Store(Layout(Path(sys.argv[1])), wait_s=120)
last = polls = 0
while last < int(sys.argv[2]):
    with store.reader() as db:
        now = db.execute("SELECT count(*) FROM metric").fetchone()[0]
    assert now >= last, (now, last)
    last, polls = now, polls + 1
    time.sleep(0.05)
print(polls)
"""


def _journalled(layout: Layout) -> Counter[tuple[str, str, float]]:
    """Every point in the journals, folded or not."""
    counted: Counter[tuple[str, str, float]] = Counter()
    texts = {path.name: path.read_bytes() for path in layout.journal.glob("*.metric.*.jsonl")}
    for path in layout.done.glob("*.metric.*.jsonl.zst"):
        texts[path.name.removesuffix(".zst")] = zstd.decompress(path.read_bytes())
    for data in texts.values():
        for line in data.splitlines():
            point = json.loads(line)
            counted[point["r"], point["key"], float(point["s"])] += 1
    return counted


def _stored(layout: Layout) -> Counter[tuple[str, str, float]]:
    with duckdb.connect(str(layout.database), read_only=True) as db:
        rows = db.execute("SELECT run, key, step, count(*) FROM metric GROUP BY ALL").fetchall()
    return Counter({(run, key, step): count for run, key, step, count in rows})


def test_every_point_is_there_once_though_the_folder_is_killed_at_random(layout: Layout, store: Store, start: Start) -> None:
    """Four writers of 20,000 points, a reader that polls, and a folding process killed with SIGKILL ten times."""
    writers = [start(WRITER, f"w{number}", POINTS, "ends") for number in range(4)]
    reader = start(READER, 4 * POINTS)
    random_times = random.Random(7)
    for _ in range(10):
        folder = start(FOLDER)
        assert folder.stdout is not None and folder.stdout.readline() == "folding\n"
        time.sleep(random_times.uniform(0.02, 0.4))
        folder.kill()
        folder.wait()
    runs = [process.stdout.readline().strip() for process in writers if process.stdout is not None]
    projection.fold(store)
    out, err = reader.communicate(timeout=120)
    assert reader.returncode == 0 and int(out) >= 1, err
    store.close()
    expected = Counter({(run, f"m{i % 3}", float(i)): 1 for run in runs for i in range(POINTS)})
    assert _journalled(layout) == expected
    assert _stored(layout) == expected
    with store.reader() as db:
        assert {run.name: run.state.value for run in history.runs(db)} == {f"w{number}": "done" for number in range(4)}
        latest = db.execute("SELECT run, key, value, points FROM metric_last").fetchall()
    assert len(latest) == 12 and sum(points for *_, points in latest) == 4 * POINTS
    assert {value for _, key, value, _ in latest if key == "m1"} == {19999 * 0.5}


def test_a_killed_trainer_has_crashed_with_all_it_logged(layout: Layout, store: Store, start: Start) -> None:
    """kill -9 of a training: until then it is running, afterwards `crashed` with every point, and its journal is put away."""
    trainer = start(WRITER, "w", 3000, "is killed")
    assert trainer.stdout is not None
    run = trainer.stdout.readline().strip()
    projection.fold(store)
    with store.reader() as db:
        before = history.run(db, run)
    assert before is not None and before.state.value == "running" and before.metrics["m2"] == 2999 * 0.5
    trainer.kill()
    trainer.wait()
    assert projection.fold(store) == 0
    with store.reader() as db:
        after = history.run(db, run)
        assert db.execute("SELECT count(*), count(DISTINCT step) FROM metric").fetchone() == (3000, 3000)
    assert after is not None and after.state.value == "crashed" and after.ended > after.started and after.seconds is not None
    assert list(layout.journal.glob("*.jsonl")) == [] and len(list(layout.done.iterdir())) == 2


def test_many_folding_at_once_count_every_line_once(layout: Layout, store: Store, start: Start) -> None:
    """Four processes fold the same journals at the same time."""
    writers = [start(WRITER, f"w{number}", 5000, "ends") for number in range(2)]
    folders = [start(FOLDER) for _ in range(4)]
    for process in [*writers, *folders]:
        assert process.stdout is not None and process.stdout.readline()
    projection.fold(store)
    for process in folders:
        process.kill()
        process.wait()
    store.close()
    stored = _stored(layout)
    assert len(stored) == 10_000 and set(stored.values()) == {1}


def test_a_folder_killed_while_putting_files_away_loses_nothing(layout: Layout, store: Store, start: Start) -> None:
    """A whole copy in done/ beside the original, as a kill between the two steps leaves it, counts once, also in a rebuild."""
    writer = start(WRITER, "w", 1000, "ends")
    writer.communicate(timeout=60)
    originals = {path.name: path.read_bytes() for path in layout.journal.glob("*.jsonl")}
    projection.fold(store)
    for name, data in originals.items():
        (layout.journal / name).write_bytes(data)
    projection.fold(store)
    store.close()
    assert sum(_stored(layout).values()) == 1000
    assert list(layout.journal.glob("*.jsonl")) == []
    for name, data in originals.items():
        (layout.journal / name).write_bytes(data)
    projection.rebuild(store)
    store.close()
    assert sum(_stored(layout).values()) == 1000


FULL = """
import resource, sys
from pathlib import Path
from mlops_local.store import projection
from mlops_local.store.database import Store
from mlops_local.store.layout import Layout
store = Store(Layout(Path(sys.argv[1])))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    projection.catch_up(store)
    print("folded")
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("limit", [1_000, 400_000, 900_000])
def test_a_disk_that_fills_while_folding_loses_nothing(layout: Layout, store: Store, start: Start, limit: int) -> None:
    """Wherever room runs out (the draft, the database, putting away): one clear error, and later every point is there once."""
    writer = Journal.open(layout.journal)
    run = new_id()
    writer.state("run_started", run=run, name="w", kind="train")
    for step in range(POINTS):
        writer.metric(run, f"m{step % 3}", float(step), step)
    writer.close()
    out, err = start(FULL, limit).communicate(timeout=60)
    assert out.startswith("Unwritable no space left"), (out, err)
    projection.fold(store)
    store.close()
    expected = Counter({(run, f"m{i % 3}", float(i)): 1 for i in range(POINTS)})
    assert _journalled(layout) == expected and _stored(layout) == expected


KILLED = """
import os, sys
from pathlib import Path
from mlops_local.store import folding, projection
from mlops_local.store.database import Store
from mlops_local.store.layout import Layout
when, run, swap = sys.argv[2], folding.Folder.run, Store._swap
def folded(self):
    run(self)
    os.kill(os.getpid(), 9)
def swapped(self, draft):
    if when == "before":
        os.kill(os.getpid(), 9)
    swap(self, draft)
    os.kill(os.getpid(), 9)
if when == "midway":
    folding.Folder.run = folded
Store._swap = swapped
projection.rebuild(Store(Layout(Path(sys.argv[1]))))
"""


@pytest.mark.parametrize("when", ["midway", "before", "after"])
def test_a_rebuild_that_is_killed_leaves_a_database_with_all_there_is(
    layout: Layout, store: Store, start: Start, when: str
) -> None:
    """The old one until the new one is whole, its log included; the next rebuild is not in the way of what is left."""
    run = new_id()
    for part in range(3):
        writer = Journal.open(layout.journal)
        if not part:
            writer.state("run_started", run=run, name="w", kind="train")
        writer.metric(run, "m", float(part), part)
        writer.close()
        projection.fold(store)  # its rows are in the log by now, its journal is put away
    store.close()
    start(KILLED, when).communicate(timeout=60)
    with store.reader() as db:  # nothing is folded before
        assert db.execute("SELECT value FROM metric ORDER BY value").fetchall() == [(0.0,), (1.0,), (2.0,)]
    assert projection.fold(store) == 0
    projection.rebuild(store)
    assert not list(layout.tmp.glob("rebuild*"))
    with store.reader() as db:
        assert db.execute("SELECT value FROM metric ORDER BY value").fetchall() == [(0.0,), (1.0,), (2.0,)]


def test_another_process_may_have_the_last_word_on_a_run(layout: Layout, store: Store) -> None:
    """A tracker ends the run of a script that died: its word goes before our conclusion, whichever is folded first."""
    for order in (("a", "b"), ("b", "a")):
        run = new_id()
        owner, tracker = (new_id(random=int(name, 16)) for name in order)
        script = Journal.open(layout.journal, journal_id=owner)
        script.state("run_started", run=run, name="".join(order), kind="script")
        other = Journal.open(layout.journal, journal_id=tracker)
        other.state("run_ended", run=run, state="failed", error="exit 1", seconds=1.0)
        script.state("note", run=run, text="later than the end")
        script.close()
        projection.fold(store)
        other.close()
        projection.fold(store)
    for _ in range(2):
        with store.reader() as db:
            assert [(run.state.value, run.error) for run in history.runs(db)] == [("failed", "exit 1")] * 2
        projection.rebuild(store)
