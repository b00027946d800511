"""A smaller store that says the same."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import pytest

from mlops_local.store import archive, compacting, files, projection
from mlops_local.store.database import Store
from mlops_local.store.layout import Layout
from tests.store.test_projection import decide, train, views

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def used(layout: Layout, store: Store) -> Store:
    """A store with several runs, each folded by itself, and decisions."""
    for _ in range(4):
        decide(layout, train(layout))
        projection.fold(store)
    with store.writer() as db:  # holes, as removals leave them
        db.execute("CREATE TABLE store.gone AS SELECT random() AS x FROM range(1_000_000)")
        db.execute("CHECKPOINT project")
        db.execute("DROP TABLE store.gone")
        db.execute("CHECKPOINT project")
    return store


def test_a_compacted_store_says_the_same_from_fewer_files(layout: Layout, used: Store) -> None:
    """All views, before, after and after a rebuild from the archives; a second time changes nothing; new runs go on."""
    before = views(used)
    names = sorted(kept.name for kept in archive.listing(layout))
    inode = layout.database.stat().st_ino
    made = compacting.compact(used)
    assert views(used) == before and layout.database.stat().st_ino != inode
    assert made.journals_before.files == 8 and made.journals_after.files == 1
    assert made.journals_after.bytes < made.journals_before.bytes and made.database_after.bytes < made.database_before.bytes
    assert sorted(kept.name for kept in archive.listing(layout)) == names
    again = compacting.compact(used)
    assert again.database_after.bytes <= made.database_after.bytes
    assert again.journals_after == again.journals_before == made.journals_after
    projection.rebuild(used)
    assert views(used) == before
    train(layout)
    projection.fold(used)
    compacting.compact(used)
    projection.rebuild(used)
    assert len(views(used)["run"]) == 5 and not list(layout.tmp.glob("compact*"))


def test_a_journal_that_is_there_alone_and_in_an_archive_counts_once(layout: Layout, used: Store) -> None:
    """As a kill between writing the archive and removing its members leaves it; the next compaction keeps each once."""
    before = views(used)
    alone = {path: path.read_bytes() for path in layout.done.iterdir()}
    compacting.compact(used)
    for path, data in list(alone.items())[:5]:
        path.write_bytes(data)
    projection.rebuild(used)
    assert views(used) == before
    compacting.compact(used)
    names = [kept.name for kept in archive.listing(layout)]
    assert len(names) == len(set(names)) == 8


COMPACT = """
import sys
from pathlib import Path
from mlops_local.store import compacting
from mlops_local.store.database import Store
from mlops_local.store.layout import Layout
store = Store(Layout(Path(sys.argv[1])), wait_s=60)
print("begins", flush=True)
while True:
    compacting.compact(store)
"""


def test_a_kill_while_compacting_leaves_the_old_or_the_new(layout: Layout, used: Store, start: Start) -> None:
    """Whenever it comes, the next command finds a whole database and every journal."""
    before = views(used)
    used.close()
    for wait_s in (0.02, 0.09, 0.2):
        process = start(COMPACT)
        assert process.stdout is not None and process.stdout.readline() == "begins\n"
        time.sleep(wait_s)
        process.kill()
        process.wait()
        assert views(used) == before
        used.close()
    projection.rebuild(used)
    assert views(used) == before


def test_a_database_that_cannot_be_copied_stays(layout: Layout, used: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the copy fails at its last moment, the old file is there and the lock is free."""
    before = views(used)

    def fails(path: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync_file", fails)
    with pytest.raises(OSError, match="No space"):
        used.rewrite()
    assert views(used) == before and not list(layout.tmp.glob("compact*"))


def test_a_database_that_would_not_get_smaller_stays_as_it_is(layout: Layout, store: Store) -> None:
    """A few rows in the log are less than a file of whole blocks: nothing grows."""
    train(layout)
    projection.fold(store)
    made = compacting.compact(store)
    assert made.database_after == made.database_before and store.rewrite() is False
