"""Real folders, real events."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlops_local.engines.watch.changes import Settler, Stamp
from mlops_local.engines.watch.observer import Observer


class Watching:
    """An observer read by a thread, as a watcher would."""

    def __init__(self, root: Path, folders: dict[str, bool], *, polling: bool = False) -> None:
        self.root = root
        self.sets: list[frozenset[str]] = []
        self.held = False
        self.stop = threading.Event()
        self.observer = Observer(root, polling=polling)
        self.observer.look(folders)
        self._grown = threading.Condition()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Watching:
        self.observer.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop.set()
        self._thread.join()
        self.observer.__exit__(None, None, None)

    def _read(self) -> None:
        settler = Settler(stamp=self._stamp, parses=lambda path: True)
        for paths in self.observer.changes(settler, self.stop, held=lambda: self.held):
            with self._grown:
                self.sets.append(paths)
                self._grown.notify_all()

    def _stamp(self, path: str) -> Stamp | None:
        try:
            found = (self.root / path).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def seen(self, path: str, *, within_s: float = 10.0) -> bool:
        """Wait until a path was handed over."""
        return self.until(lambda: any(path in paths for paths in self.sets), within_s)

    def until(self, condition: Callable[[], bool], within_s: float = 10.0) -> bool:
        """Wait until the condition holds for what was handed over."""
        with self._grown:
            return self._grown.wait_for(condition, timeout=within_s)

    def all(self) -> set[str]:
        """Everything handed over so far."""
        return set().union(*self.sets)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with code, data and a folder nobody wants."""
    for folder in ("data", "src", ".venv"):
        (tmp_path / folder).mkdir()
    (tmp_path / "pipeline.py").write_text("A = 1\n")
    (tmp_path / "data" / "a.csv").write_text("a\n1\n")
    return tmp_path


@pytest.fixture
def watching(root: Path) -> Iterator[Watching]:
    """A watcher of the project's code and data."""
    with Watching(root, {"data": False, "src": False}) as running:
        yield running


def test_a_plain_save_an_atomic_save_and_a_backup_save_are_seen(watching: Watching, root: Path) -> None:
    """Each way an editor saves ends in one change of the real name, never of a temporary one."""
    (root / "pipeline.py").write_text("A = 2\n")
    assert watching.seen("pipeline.py")
    (root / "src" / "x.py.tmp").write_text("A = 3\n")
    (root / "src" / "x.py.tmp").replace(root / "src" / "x.py")
    assert watching.seen("src/x.py")
    (root / "src" / "y.py").write_text("A = 1\n")
    assert watching.seen("src/y.py")
    watching.sets.clear()
    (root / "src" / "y.py").rename(root / "src" / "y.py~")
    (root / "src" / "y.py").write_text("A = 4\n")
    (root / "src" / "y.py~").unlink()
    assert watching.seen("src/y.py")
    assert watching.all() == {"src/y.py"}


def test_reading_wakes_nobody(watching: Watching, root: Path) -> None:
    """Our own hashing of a watched file is not a change."""
    (root / "data" / "a.csv").read_bytes()
    (root / "pipeline.py").read_bytes()
    (root / "src" / "mark.py").write_text("")
    assert watching.seen("src/mark.py")
    assert watching.all() == {"src/mark.py"}


def test_only_the_wanted_folders_are_watched(watching: Watching, root: Path) -> None:
    """A folder nobody asked for costs no watch and makes no change."""
    assert watching.observer.folders == (".", "data", "src")
    (root / ".venv" / "x.py").write_text("")
    (root / "src" / "mark.py").write_text("")
    assert watching.seen("src/mark.py")
    assert watching.all() == {"src/mark.py"}


def test_data_that_are_moved_in_or_deleted_are_seen(
    watching: Watching, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A file moved in from elsewhere and one that is deleted are changes."""
    outside = tmp_path_factory.mktemp("outside") / "b.csv"
    outside.write_text("a\n2\n")
    outside.rename(root / "data" / "b.csv")
    (root / "data" / "a.csv").unlink()
    assert watching.seen("data/a.csv") and watching.seen("data/b.csv")


def test_a_folder_that_is_removed_and_made_again_is_followed(watching: Watching, root: Path) -> None:
    """Deleting the data folder is a change; files in the folder made anew are seen, also those written at once."""
    shutil.rmtree(root / "data")
    assert watching.seen("data/a.csv")
    (root / "data").mkdir()
    (root / "data" / "b.csv").write_text("b\n")
    assert watching.seen("data/b.csv")
    (root / "data" / "c.csv").write_text("c\n")
    assert watching.seen("data/c.csv")


def test_a_folder_that_is_moved_away_and_back_is_followed(watching: Watching, root: Path) -> None:
    """Moving the data folder makes no event for the files in it: they count as changed all the same, both ways."""
    (root / "data").rename(root / "elsewhere")
    assert watching.seen("data/a.csv")
    (root / "elsewhere" / "b.csv").write_text("b\n")
    watching.sets.clear()
    (root / "elsewhere").rename(root / "data")
    assert watching.until(lambda: watching.all() >= {"data/a.csv", "data/b.csv"})
    (root / "data" / "c.csv").write_text("c\n")
    assert watching.seen("data/c.csv")


def test_a_folder_below_a_deep_one_that_is_moved_away_is_a_change(root: Path) -> None:
    """A month's folder that leaves the project takes its files with it."""
    (root / "deep" / "2024" / "05").mkdir(parents=True)
    (root / "deep" / "2024" / "05" / "a.csv").write_text("a\n")
    with Watching(root, {"deep": True}) as watching:
        (root / "deep" / "2024").rename(root / "2024")
        assert watching.seen("deep/2024/05/a.csv")


def test_when_the_system_lost_events_everything_is_looked_at(watching: Watching, root: Path) -> None:
    """A queue that overflowed costs a look at every file, never a change."""
    (root / "src" / "x.py").write_text("A = 1\n")
    assert watching.seen("src/x.py")
    watching.sets.clear()
    logging.getLogger("watchdog.observers.inotify_c").warning("Inotify queue overflowed; filesystem events were lost")
    assert watching.until(lambda: watching.all() >= {"src/x.py", "data/a.csv", "pipeline.py"})
    (root / "data" / "b.csv").write_text("b\n")
    assert watching.seen("data/b.csv")


def test_a_wanted_folder_that_does_not_exist_yet_is_found(root: Path) -> None:
    """A nested folder that is made later is followed from its first file on."""
    with Watching(root, {"incoming/2024": False, "deep": True}) as watching:
        (root / "incoming" / "2024").mkdir(parents=True)
        (root / "incoming" / "2024" / "a.csv").write_text("a\n")
        (root / "deep" / "x" / "y").mkdir(parents=True)
        (root / "deep" / "x" / "y" / "b.csv").write_text("b\n")
        assert watching.seen("incoming/2024/a.csv")
        assert watching.seen("deep/x/y/b.csv")


def test_folders_asked_for_later_are_watched_and_others_dropped(watching: Watching, root: Path) -> None:
    """When the pipeline names other files, the watches follow, and files already there count as changed."""
    (root / "more").mkdir()
    (root / "more" / "a.csv").write_text("a\n")
    (root / "src" / "mark.py").write_text("")
    assert watching.seen("src/mark.py")
    watching.observer.look({"more": False})
    assert watching.observer.folders == (".", "more")
    assert watching.seen("more/a.csv")


def test_nothing_is_handed_over_while_git_holds_its_lock(watching: Watching, root: Path) -> None:
    """Changes made while git works come when it is done."""
    watching.held = True
    (root / "pipeline.py").write_text("A = 5\n")
    assert not watching.seen("pipeline.py", within_s=0.6)
    watching.held = False
    assert watching.seen("pipeline.py")


def test_wake_yields_an_empty_set(watching: Watching) -> None:
    """Another thread can make the loop turn."""
    watching.observer.wake()
    assert watching.until(lambda: frozenset() in watching.sets)


def test_polling_sees_the_same(root: Path) -> None:
    """Where the system cannot tell of changes, looking each second finds them."""
    with Watching(root, {"data": False}, polling=True) as watching:
        (root / "data" / "b.csv").write_text("b\n")
        assert watching.seen("data/b.csv")
        (root / "data" / "b.csv").write_text("b\nlonger\n")
        watching.sets.clear()
        assert watching.seen("data/b.csv")


def test_without_system_watches_it_falls_back_to_polling(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the kernel's limit of watches is reached, the watcher looks each second instead of failing."""
    from watchdog.observers.inotify import InotifyObserver

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(InotifyObserver, "schedule", refuse)
    with Watching(root, {"data": False}) as watching:
        assert watching.observer.polling
        (root / "data" / "b.csv").write_text("b\n")
        assert watching.seen("data/b.csv")


def test_stop_ends_the_iteration_and_every_thread(root: Path) -> None:
    """After stop no thread of the watcher is left."""
    before = threading.active_count()
    with Watching(root, {"data": False, "src": True}):
        assert threading.active_count() > before
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() == before
