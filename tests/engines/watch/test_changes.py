"""Debounce without a clock: time is a number here."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_local.engines.watch.changes import Settler, Stamp, ignored, kind


def settler(
    stamp: Callable[[str], Stamp | None] = lambda path: (1, 1), parses: Callable[[str], bool] = lambda path: True
) -> Settler:
    """A settler over files that do not change unless said otherwise."""
    return Settler(stamp=stamp, parses=parses)


def test_code_that_parses_acts_after_20_ms() -> None:
    """A saved module is handed over 20 ms after its last event, not before, and once."""
    watch = settler()
    watch.add("pipeline.py", 0.0)
    assert watch.due(0.019) == frozenset()
    watch.add("pipeline.py", 0.015)
    assert watch.due(0.021) == frozenset()
    assert watch.due(0.036) == {"pipeline.py"}
    assert watch.due(9.0) == frozenset()


def test_code_that_does_not_parse_waits_then_shows_its_error() -> None:
    """Half-written code waits for its rest; code that stays broken is handed over so that the error can be shown."""
    whole = False
    watch = settler(parses=lambda path: whole)
    watch.add("pipeline.py", 0.0)
    assert watch.due(0.1) == frozenset()
    assert watch.due(0.41) == {"pipeline.py"}
    watch.add("pipeline.py", 1.0)
    assert watch.due(1.1) == frozenset()
    whole = True
    assert watch.due(1.11) == {"pipeline.py"}


def test_code_that_is_saved_together_is_one_change() -> None:
    """A file does not act while others are still arriving, nor wait for ever for one that never rests."""
    watch = settler()
    for number in range(5):
        watch.add(f"m{number}.py", number * 0.015)
        assert watch.due(number * 0.015 + 0.014) == frozenset()
    assert len(watch.due(0.081)) == 5
    watch.add("a.py", 10.0)
    now = 10.0
    handed: set[str] = set()
    while now < 10.5:
        watch.add("endless.py", now)
        now += 0.01
        handed |= watch.due(now)
    assert handed == {"a.py"}


def test_data_act_when_quiet_and_equal_twice() -> None:
    """A data file needs 500 ms without events and two equal looks."""
    watch = settler()
    watch.add("data/a.csv", 0.0)
    assert watch.due(0.49) == frozenset()
    assert watch.due(0.5) == frozenset()
    assert watch.due(0.52) == {"data/a.csv"}


def test_data_that_grow_without_events_start_their_quiet_again() -> None:
    """A file whose size moves between two looks is still being written."""
    size = 1
    watch = settler(stamp=lambda path: (size, size))
    watch.add("data/a.csv", 0.0)
    assert watch.due(0.5) == frozenset()
    size = 2
    assert watch.due(0.55) == frozenset()
    assert watch.due(1.0) == frozenset()
    assert watch.due(1.06) == {"data/a.csv"}


def test_files_that_arrive_one_after_another_are_one_change() -> None:
    """Copying twelve files gives one set, not twelve trainings; one endless writer does not keep the rest back."""
    watch = settler()
    for number in range(12):
        watch.add(f"data/{number}.csv", number * 0.3)
        assert watch.due(number * 0.3 + 0.29) == frozenset()
    assert watch.due(3.81) == frozenset()
    assert len(watch.due(3.83)) == 12
    watch.add("data/a.csv", 10.0)
    now = 10.0
    handed: set[str] = set()
    while now < 16.0:
        watch.add("data/endless.csv", now)
        now += 0.1
        handed |= watch.due(now)
    assert handed == {"data/a.csv"}


def test_code_does_not_wait_for_data() -> None:
    """A saved module acts while data are still arriving."""
    watch = settler()
    watch.add("data/a.csv", 0.0)
    watch.add("pipeline.py", 0.0)
    assert watch.due(0.03) == {"pipeline.py"}


def test_a_deleted_data_file_is_a_change() -> None:
    """A file that is gone looks the same twice: absent."""
    watch = settler(stamp=lambda path: None)
    watch.add("data/a.csv", 0.0)
    assert watch.due(0.5) == frozenset()
    assert watch.due(0.53) == {"data/a.csv"}


def test_nothing_settles_while_git_works_and_nothing_is_lost() -> None:
    """While git holds its lock nothing is handed over; afterwards everything is; a lock left behind is believed for 30 s."""
    watch = settler()
    watch.add("pipeline.py", 0.0)
    assert watch.due(5.0, held=True) == frozenset()
    watch.add("late.py", 5.99)
    assert watch.due(6.0) == watch.due(6.09) == frozenset(), "the last events may still be on their way"
    assert watch.due(6.11) == {"pipeline.py", "late.py"}
    watch.add("pipeline.py", 10.0)
    assert watch.due(10.1, held=True) == frozenset()
    assert watch.due(40.0, held=True) == frozenset()
    assert watch.due(40.2, held=True) == {"pipeline.py"}


def test_wait_says_when_to_look_again() -> None:
    """With nothing pending there is no need to look; else it is never more than the quiet time away."""
    watch = settler()
    assert watch.wait_s(0.0) is None
    watch.add("data/a.csv", 0.0)
    assert watch.wait_s(0.0) == 0.5
    watch.add("pipeline.py", 0.0)
    assert watch.wait_s(0.0) == 0.02


@pytest.mark.parametrize(
    "path",
    [
        ".mlops/journal/a.jsonl",
        "sub/.git/index",
        "__pycache__/a.py",
        "pipeline.py~",
        ".pipeline.py.swp",
        ".#pipeline.py",
        "#pipeline.py#",
        "data/a.csv.part",
        "4913",
    ],
)
def test_our_store_git_caches_and_editor_backups_are_ignored(path: str) -> None:
    """None of these ever wakes the watcher."""
    assert ignored(path)
    watch = settler()
    watch.add(path, 0.0)
    assert watch.wait_s(0.0) is None


@pytest.mark.parametrize("path", ["pipeline.py", "data/a.parquet", "src/features/calendar.py", "mlops.toml", ".hidden/x.csv"])
def test_ordinary_files_are_not_ignored(path: str) -> None:
    """Project files pass the filter."""
    assert not ignored(path)


def test_kind() -> None:
    """What a person edits is code; the rest is data."""
    assert [kind("a.py"), kind("mlops.toml"), kind("a.csv"), kind("LICENSE")] == ["code", "code", "data", "data"]


PATHS = st.sampled_from(["a.py", "b.py", "mlops.toml", "data/x.csv", "data/y.csv", "data/z.parquet", ".git/index", "a.py~"])
EVENTS = st.lists(st.tuples(st.floats(0, 3), st.one_of(st.none(), PATHS), st.booleans()), max_size=60)


@given(EVENTS)
def test_no_path_is_lost(events: list[tuple[float, str | None, bool]]) -> None:
    """Whatever the order and spacing of events, looks and git locks: each wanted path is handed over after its last event."""
    growing: dict[str, int] = {}
    watch = settler(stamp=lambda path: (growing.get(path, 0), 0), parses=lambda path: growing.get(path, 0) % 2 == 0)
    now = 0.0
    last: dict[str, float] = {}
    handed: dict[str, float] = {}
    for pause, path, held in events:
        now += pause
        if path is None:
            for done in watch.due(now, held=held):
                assert now - last[done] >= 0.02
                handed[done] = now
        else:
            growing[path] = growing.get(path, 0) + 1
            watch.add(path, now)
            last[path] = now
    while (wait := watch.wait_s(now)) is not None:
        now += wait
        assert now < 1000, "a path never settles"
        for done in watch.due(now):
            handed[done] = now
    wanted = {path: at for path, at in last.items() if not ignored(path)}
    assert set(handed) == set(wanted)
    assert all(handed[path] >= at for path, at in wanted.items())
