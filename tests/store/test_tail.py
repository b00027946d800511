"""Following living processes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from mlops_local.domain import events
from mlops_local.store import projection
from mlops_local.store.database import Store
from mlops_local.store.journal import Journal
from mlops_local.store.layout import Layout
from mlops_local.store.tail import Tail

Start = Callable[..., "subprocess.Popen[str]"]


def test_each_line_is_given_once_in_order(layout: Layout) -> None:
    """What was logged before, then what comes, states before points; nothing twice."""
    writer = Journal.open(layout.journal)
    writer.metric("r", "loss", 1.0, 0)
    writer.state(events.RUN_STARTED, run="r", name="n", kind="train")
    with Tail(layout) as tail:
        assert [line["k"] for line in tail.poll()] == ["run_started", "m"]
        assert tail.poll() == []
        for step in range(1, 4):
            writer.metric("r", "loss", 1.0, step)
        writer.flush()
        assert [line["s"] for line in tail.poll()] == [1, 2, 3]
    writer.close()


def test_the_last_lines_of_a_run_that_ends_are_not_missed(layout: Layout, store: Store) -> None:
    """Between two polls the process ends and its files are folded, compressed and removed: its last lines still come."""
    writer = Journal.open(layout.journal)
    writer.metric("r", "loss", 1.0, 0)
    writer.flush()
    with Tail(layout) as tail:
        assert len(tail.poll()) == 1
        writer.metric("r", "loss", 2.0, 1)
        writer.state(events.RUN_ENDED, run="r", state="done", error="", seconds=1.0)
        writer.close()
        projection.fold(store)
        assert not list(layout.journal.glob("*.jsonl"))
        assert [line["k"] for line in tail.poll()] == ["run_ended", "m"]
        assert tail.poll() == []


def test_processes_that_ended_before_are_left_to_the_database(layout: Layout) -> None:
    """A new follower is not flooded with old runs; a process that starts later is followed from its first line."""
    old = Journal.open(layout.journal)
    old.state(events.NOTE, run="old", text="x")
    old.close()
    with Tail(layout) as tail:
        assert tail.poll() == []
        new = Journal.open(layout.journal)
        new.state(events.NOTE, run="new", text="y")
        assert [line["run"] for line in tail.poll()] == ["new"]
        new.close()
        assert tail.poll() == []


def test_it_can_begin_with_what_comes(layout: Layout) -> None:
    """Without `whole`, the first poll gives nothing and the next what was added."""
    writer = Journal.open(layout.journal)
    writer.state(events.NOTE, run="r", text="before")
    with Tail(layout, whole=False) as tail:
        assert tail.poll() == []
        writer.state(events.NOTE, run="r", text="after")
        assert [line["text"] for line in tail.poll()] == ["after"]
    writer.close()


WRITER = """
import sys, time
from pathlib import Path
from mlops_local.store.journal import Journal
from mlops_local.store.layout import Layout
j = Journal.open(Layout(Path(sys.argv[1])).journal)
j.metric("r", "loss", 0.0, 0)
j.flush()
print("open", flush=True)
sys.stdin.readline()
for i in range(1, 3000):
    j.metric("r", "loss", float(i), i)
    if i % 300 == 0: time.sleep(0.02)
j.close()
"""


def test_a_follower_sees_every_point_of_another_process_once(layout: Layout, store: Store, start: Start) -> None:
    """While the other logs and a third folds and puts away."""
    writer = start(WRITER)
    assert writer.stdout is not None and writer.stdout.readline() == "open\n"
    seen: list[float] = []
    with Tail(layout) as tail:
        seen += [line["s"] for line in tail.poll()]
        print(file=writer.stdin, flush=True)  # it may be gone before the next poll: its file is open by now
        while writer.poll() is None:
            projection.fold(store)
            seen += [line["s"] for line in tail.poll()]
        projection.fold(store)
        seen += [line["s"] for line in tail.poll()]
    assert seen == list(range(3000))
