"""A process's own record."""

from __future__ import annotations

import errno
import json
import math
import multiprocessing
import os
import subprocess
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_local.domain import events
from mlops_local.domain.errors import MlopsError
from mlops_local.store import files, journal
from mlops_local.store.journal import Journal
from mlops_local.store.layout import Layout

Start = Callable[..., "subprocess.Popen[str]"]


def points(layout: Layout) -> list[dict[str, Any]]:
    """Every metric line of every journal, read by nothing of ours."""
    paths = sorted(layout.journal.glob("*.metric.*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def states(layout: Layout) -> list[dict[str, Any]]:
    """Every state line."""
    return [json.loads(line) for path in layout.journal.glob("*.state.jsonl") for line in path.read_text().splitlines()]


def test_ids_sort_by_time_and_are_unique() -> None:
    """An id is its microseconds and 64 random bits, so that later ids sort later and two in one microsecond differ."""
    assert journal.new_id(1, 2) == "0000000000000001" + "0000000000000002"
    assert journal.new_id(5, 0) < journal.new_id(6, 0)
    assert len({journal.new_id(7) for _ in range(1000)}) == 1000


def test_a_state_is_on_the_disk_when_the_call_returns(layout: Layout) -> None:
    """Kind, version, time, number and every field are there, and the points logged before it too."""
    writer = Journal.open(layout.journal)
    writer.metric("r", "loss", 0.5, 1)
    writer.state(events.RUN_STARTED, run="r", name="n", targets=("a",), path=Path("x"), odd=math.nan)
    (line,) = states(layout)
    assert line["k"] == events.RUN_STARTED and line["v"] == 1 and line["t"] > 1_700_000_000_000_000
    assert line["targets"] == ["a"] and line["path"] == "x" and line["odd"] == "NaN"
    assert [point["x"] for point in points(layout)] == [0.5]
    writer.close()


def test_points_reach_the_system_without_anybody_flushing(layout: Layout) -> None:
    """A point is readable by other processes soon, though the trainer does nothing further."""
    writer = Journal.open(layout.journal)
    for value in range(3):
        writer.metric("r", "loss", float(value), value)
    waited = threading.Event()
    for _ in range(100):
        if len(list(layout.journal.glob("*.metric.*"))) and len(points(layout)) == 3:
            break
        waited.wait(0.05)
    assert [point["x"] for point in points(layout)] == [0.0, 1.0, 2.0]
    writer.close()


def test_nan_and_infinity_survive(layout: Layout) -> None:
    """They are kept as text, since JSON has no such numbers."""
    writer = Journal.open(layout.journal)
    for value in (math.nan, math.inf, -math.inf, 1e-300, 0.1 + 0.2):
        writer.metric("r", "x", value)
    writer.close()
    assert [point["x"] for point in points(layout)] == ["NaN", "Infinity", "-Infinity", 1e-300, 0.1 + 0.2]


def test_logging_never_raises(layout: Layout) -> None:
    """A value that is no number becomes NaN; an odd name is kept; after closing, points go nowhere, quietly."""
    writer = Journal.open(layout.journal)
    writer.metric("r", 'quote " and \n line \udc80', "not a number")  # type: ignore[arg-type]
    writer.close()
    writer.metric("r", "late", 1.0)
    (point,) = points(layout)
    assert point["x"] == "NaN" and point["key"].startswith('quote " and \n line')
    with pytest.raises(MlopsError, match="closed"):
        writer.state(events.NOTE, run="r", text="late")


def test_many_threads_log_every_point_once(layout: Layout) -> None:
    """Eight threads and a state change in between: nothing twice, nothing lost."""
    writer = Journal.open(layout.journal)

    def work(thread: int) -> None:
        for step in range(2000):
            writer.metric("r", f"t{thread}", float(step), step)
        writer.state(events.NOTE, run="r", text=str(thread))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    found = points(layout)
    assert len(found) == 16_000 == len({(point["key"], point["s"]) for point in found})
    assert len({line["n"] for line in [*found, *states(layout)]}) == 16_008


def test_segments_end_at_their_size(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric file that is full is followed by the next; together they hold every point in order."""
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 50_000)
    writer = Journal.open(layout.journal)
    for step in range(5000):
        writer.metric("r", "loss", float(step), step)
        if step % 500 == 0:
            writer.flush()
    writer.close()
    assert len(list(layout.journal.glob("*.metric.*"))) > 3
    assert [point["s"] for point in points(layout)] == list(range(5000))


def test_the_lock_tells_whether_the_writer_lives(layout: Layout) -> None:
    """Held from before the file has its name until the writer closes."""
    writer = Journal.open(layout.journal)
    state = layout.journal / f"{writer.id}.state.jsonl"
    metric = layout.journal / f"{writer.id}.metric.000.jsonl"
    assert journal.live(state) and journal.live(metric)
    writer.close()
    assert not journal.live(state) and not journal.live(layout.journal / f"{'0' * 32}.state.jsonl")


def test_kill_9_frees_the_lock_and_keeps_what_was_handed_over(layout: Layout, start: Start) -> None:
    """A killed process's journal is final, with every line it had handed to the system."""
    process = start(
        "import sys\nfrom pathlib import Path\nfrom mlops_local.store.journal import Journal\n"
        "from mlops_local.store.layout import Layout\n"
        "j = Journal.open(Layout(Path(sys.argv[1])).journal)\n"
        "for i in range(1000): j.metric('r', 'loss', i, i)\n"
        "j.flush(); print(j.id, flush=True); sys.stdin.read()\n"
    )
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    assert journal.live(layout.journal / f"{name}.state.jsonl")
    process.kill()
    process.wait()
    assert not journal.live(layout.journal / f"{name}.state.jsonl")
    assert len(points(layout)) == 1000


def _child_logs(writer: Journal) -> None:
    writer.metric("r", "child", 1.0)


def test_a_forked_child_has_a_journal_of_its_own(layout: Layout) -> None:
    """The parent's buffer is written once, by the parent; the child's points arrive though it never closes anything."""
    writer = Journal.open(layout.journal)
    writer.metric("r", "parent", 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork with threads
        child = multiprocessing.get_context("fork").Process(target=_child_logs, args=(writer,))
        child.start()
    child.join()
    writer.metric("r", "parent", 2.0)
    writer.close()
    assert child.exitcode == 0
    assert sorted((point["key"], point["x"]) for point in points(layout)) == [("child", 1.0), ("parent", 1.0), ("parent", 2.0)]
    assert len(list(layout.journal.glob("*.state.jsonl"))) == 2
    assert not any(journal.live(path) for path in layout.journal.glob("*.state.jsonl"))


def test_a_living_child_does_not_keep_its_parents_journal_alive(layout: Layout) -> None:
    """The child drops the inherited descriptor at once, so that the parent's end is seen."""
    here, there = os.pipe()
    ready, said = os.pipe()
    writer = Journal.open(layout.journal)
    child = os.fork()
    if child == 0:
        os.close(there)
        os.write(said, b"x")
        os.read(here, 1)
        os._exit(0)
    os.read(ready, 1)
    writer.close()
    alive = journal.live(layout.journal / f"{writer.id}.state.jsonl")
    os.close(there)
    os.waitpid(child, 0)
    for descriptor in (here, ready, said):
        os.close(descriptor)
    assert not alive


def test_an_id_is_never_opened_twice(layout: Layout) -> None:
    """A journal of another process is never overwritten."""
    writer = Journal.open(layout.journal)
    writer.state(events.NOTE, run="r", text="a")
    with pytest.raises(MlopsError):
        Journal.open(layout.journal, journal_id=writer.id)
    writer.close()
    assert len(states(layout)) == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=20), st.floats(), st.none() | st.integers(-(2**53), 2**53) | st.floats())))
def test_any_point_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, logged: list[tuple[str, float, Any]]) -> None:
    """Any name, value and step, however odd, is one JSON line with the same value."""
    folder = tmp_path_factory.mktemp("journal")
    writer = Journal.open(folder)
    for key, value, step in logged:
        writer.metric("r", key, value, step)
    writer.close()
    found = [json.loads(line) for path in sorted(folder.glob("*.metric.*")) for line in path.read_bytes().splitlines()]
    assert [(point["key"], repr(float(point["x"]))) for point in found] == [(key, repr(value)) for key, value, _ in logged]
    for point, (_, _, step) in zip(found, logged, strict=True):
        assert (point["s"] is None) == (step is None)
        if step is not None:
            assert repr(float(point["s"])) == repr(float(step))


FULL = """
import os, resource, signal, sys, threading
from pathlib import Path
from mlops_local.store import files, journal
from mlops_local.store.journal import Journal
from mlops_local.store.layout import Layout
limit = int(sys.argv[2])
said = []
j = Journal.open(Layout(Path(sys.argv[1])).journal, warn=said.append)
j.state("note", run="r", text="before")
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
j._ease = j._most = 400 * 5
for i in range(1000):
    j.metric("r", "loss", float(i), i)
    if i % 100 == 99: j.flush()
try:
    j.state("note", run="r", text="x" * limit)
except Exception as error:
    print(type(error).__name__, error)
print(len(said))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
j.state("note", run="r", text="after")
j.close()
"""


def test_a_loop_that_does_nothing_but_log_loses_nothing(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points come faster than the writing thread takes them: calls stand back rather than drop what the disk would take."""
    monkeypatch.setattr(journal, "EASE_POINTS", 1_000)
    monkeypatch.setattr(journal, "BUFFER_POINTS", 2_000)
    writer = Journal.open(layout.journal)
    for step in range(60_000):
        writer.metric("r", "m", 0.5, step)
    writer.close()
    assert [line.get("s") for line in points(layout)] == list(range(60_000))


def test_a_full_disk_keeps_points_then_drops_the_oldest_and_says_so(layout: Layout, start: Start) -> None:
    """While nothing fits: no exception from metric, one warning, no torn line; later the newest points and the number lost."""
    process = start(FULL, 30_000)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.splitlines()[0].startswith("Unwritable no space left to write journal/") and out.splitlines()[1] == "1"
    found = points(layout)
    kept = [point["s"] for point in found if point["k"] == "m"]
    dropped = sum(point["dropped"] for point in found if point["k"] == "gap")
    assert dropped > 0 and len(kept) + dropped == 1000 and len(set(kept)) == len(kept)
    assert kept == sorted(kept) and kept[-400:] == list(range(600, 1000))
    assert [line["text"] for line in states(layout)] == ["before", "after"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
@pytest.mark.parametrize("fits", [0, 1, 95, 300, 10_000])
def test_a_write_that_stops_half_way_leaves_whole_lines_that_stay(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, error: BaseException, fits: int
) -> None:
    """What somebody read in between is still there afterwards, at its place; the rest follows, each point once, also gaps."""
    writer = Journal.open(layout.journal, warn=lambda text: None)
    monkeypatch.setattr(writer, "_stir", lambda: None)
    for step in range(20):
        writer.metric("r", "loss", 0.5, step)
    writer._dropped = {"a": 3, "b": 4}
    write_all = files.write_all

    def stops(descriptor: int, data: bytes) -> None:
        write_all(descriptor, data[:fits])
        raise error

    monkeypatch.setattr(files, "write_all", stops)
    with suppress(KeyboardInterrupt):
        assert not writer.flush()
    (path,) = layout.journal.glob("*.metric.*")
    seen = path.read_bytes()
    assert seen == b"" or seen.endswith(b"\n")
    monkeypatch.setattr(files, "write_all", write_all)
    assert writer.flush()
    assert path.read_bytes().startswith(seen)
    assert [line["s"] for line in points(layout) if line["k"] == "m"] == list(range(20))
    assert [(line["r"], line["dropped"]) for line in points(layout) if line["k"] == "gap"] == [("a", 3), ("b", 4)]
    writer.close()


def test_an_interrupt_before_the_write_loses_no_point(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """^C while lines are made of points: they are in the buffer again, and the next flush writes them."""
    writer = Journal.open(layout.journal)
    monkeypatch.setattr(writer, "_stir", lambda: None)
    writer.metric("r", "loss", 0.5, 1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(journal, "of_points", Mock(side_effect=KeyboardInterrupt))
        writer.flush()
    writer.metric("r", "loss", 0.5, 2)
    writer.close()
    assert [line["s"] for line in points(layout)] == [1, 2]


def test_time_never_goes_back_within_a_journal(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the clock is put back an hour, what follows is not before what was: the newest value stays the newest."""
    writer = Journal.open(layout.journal)
    writer.metric("r", "loss", 1.0, 1)
    writer.state(events.NOTE, run="r", text="before")
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 3_600_000_000_000)
    writer.metric("r", "loss", 2.0, 2)
    writer.state(events.NOTE, run="r", text="after")
    writer.close()
    assert [line["t"] for line in points(layout)] == sorted(line["t"] for line in points(layout))
    first, second = states(layout)
    assert points(layout)[0]["t"] <= first["t"] <= points(layout)[1]["t"] <= second["t"]


def test_points_that_cannot_be_written_at_the_end_are_said(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that is closed on a full disk says how many points are lost."""
    said: list[str] = []
    writer = Journal.open(layout.journal, warn=said.append)
    monkeypatch.setattr(writer, "_stir", lambda: None)

    def full(descriptor: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(files, "write_all", full)
    writer.metrics("r", {"a": 1.0, "b": 2.0})
    writer.close()
    assert said[-1] == "mlops: 2 points could not be written and are lost"
