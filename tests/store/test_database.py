"""The door to project.duckdb."""

from __future__ import annotations

import multiprocessing
import subprocess
import threading
import warnings
from collections.abc import Callable

import pytest

from mlops_local.domain.errors import IntegrityError, MlopsError, NewerStore, StoreBusy
from mlops_local.store import lock, migrations
from mlops_local.store.database import Db, Store
from mlops_local.store.layout import Layout
from mlops_local.store.migrations import MIGRATIONS
from mlops_local.store.views import VIEWS

Start = Callable[..., "subprocess.Popen[str]"]

FOREIGN = """
import duckdb, sys
con = duckdb.connect(sys.argv[1] + "/.mlops/project.duckdb", read_only=sys.argv[2] == "ro")
print("open", flush=True)
sys.stdin.readline()
con.close()
print("closed", flush=True)
sys.stdin.readline()
"""


def test_a_new_store_answers_every_view(store: Store) -> None:
    """All documented views are there and empty before anything happened."""
    with store.reader() as db:
        for view in [*VIEWS, "evaluation"]:
            assert db.execute(f"SELECT * FROM {view}").fetchall() == []
    documented = {
        *("snapshot", "snapshot_file", "column_profile", "run", "param", "metric", "artifact", "step", "lineage", "model"),
        *("version", "alias", "deployment", "gate_result", "evaluation", "prediction", "feedback", "event"),
    }
    assert documented <= {*VIEWS, "evaluation"}


def test_the_file_is_let_go_after_each_use(store: Store, start: Start) -> None:
    """Between two uses any other DuckDB client can open the file, also for writing."""
    with store.writer() as db:
        db.execute("INSERT INTO store.gap VALUES ('r', 1, NULL)")
    other = start(FOREIGN, "rw")
    assert other.stdout is not None and other.stdout.readline() == "open\n"
    other.communicate("\n\n", timeout=60)
    with store.reader() as db:
        assert db.execute("SELECT count(*) FROM store.gap").fetchone() == (1,)


def test_a_foreign_client_is_named(layout: Layout, store: Store, start: Start) -> None:
    """A notebook that forgot to close the file: the error says which program, its pid and what to do."""
    with store.reader():
        pass
    other = start(FOREIGN, "rw")
    assert other.stdout is not None and other.stdout.readline() == "open\n"
    with pytest.raises(StoreBusy) as caught, Store(layout, wait_s=0.3).reader():
        pass
    assert f"(pid {other.pid})" in caught.value.message and "python" in caught.value.message
    assert f"kill {other.pid}" in caught.value.hint


def test_a_foreign_client_that_closes_in_time_is_waited_for(layout: Layout, store: Store, start: Start) -> None:
    """Meanwhile the lock is free for others of ours, and the waiting is said."""
    with store.reader():
        pass
    other = start(FOREIGN, "ro")
    assert other.stdout is not None and other.stdout.readline() == "open\n"
    told: list[str] = []

    def close(holder: str) -> None:
        if not told:
            assert other.stdin is not None
            other.stdin.write("\n")
            other.stdin.flush()
        told.append(holder)
        with lock.hold(layout.store_lock, wait_s=5):
            pass

    with Store(layout, wait_s=60, on_wait=close).writer() as db:
        db.execute("INSERT INTO store.gap VALUES ('r', 1, NULL)")
    assert f"(pid {other.pid})" in told[0]


def test_readers_of_other_programs_do_not_stop_ours(store: Store, start: Start) -> None:
    """A read-only notebook and our reading go together."""
    with store.reader():
        pass
    other = start(FOREIGN, "ro")
    assert other.stdout is not None and other.stdout.readline() == "open\n"
    with store.reader() as db:
        assert db.execute("SELECT count(*) FROM run").fetchone() == (0,)


def test_an_error_inside_rolls_back_and_lets_go(store: Store) -> None:
    """What was not committed is gone, and the store is free."""
    with pytest.raises(ValueError, match="mine"), store.writer() as db:
        db.execute("BEGIN")
        db.execute("INSERT INTO store.gap VALUES ('r', 1, NULL)")
        raise ValueError("mine")
    with store.reader() as db:
        assert db.execute("SELECT count(*) FROM store.gap").fetchone() == (0,)


def test_opening_it_twice_in_one_thread_is_our_bug_and_says_so(store: Store) -> None:
    """Not a wait of 30 s for oneself."""
    with store.reader(), pytest.raises(RuntimeError, match="already open"), store.reader():
        pass


def test_threads_take_turns(layout: Layout, store: Store) -> None:
    """Eight threads, two handles, readers and writers: every row arrives, nobody fails."""
    other = Store(layout, wait_s=60)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(5):
                with (store if number % 2 else other).writer() as db:
                    db.execute("INSERT INTO store.gap VALUES (?, 1, NULL)", [str(number)])
                with (other if number % 2 else store).reader() as db:
                    db.execute("SELECT count(*) FROM store.gap").fetchone()
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with store.reader() as db:
        assert db.execute("SELECT count(*) FROM store.gap").fetchone() == (40,)


def test_a_newer_database_is_refused_unchanged(store: Store) -> None:
    """A file with a migration we do not know is not touched; the hint says to upgrade."""
    with store.writer() as db:
        db.execute("INSERT INTO store.migration VALUES (?, 'future', NULL)", [len(MIGRATIONS) + 1])
    for use in (store.reader, store.writer):
        with pytest.raises(NewerStore) as caught, use():
            pass
        assert "upgrade" in caught.value.hint and caught.value.exit_code == 6


def test_a_migration_is_done_once_and_recorded(layout: Layout, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older file is brought up to date by the next use, even a reading one; one that fails leaves no trace."""
    with store.reader():
        pass

    def grow(db: Db) -> None:
        db.execute("CREATE TABLE store.grown (x INTEGER)")

    def fail(db: Db) -> None:
        db.execute("CREATE TABLE store.half (x INTEGER)")
        raise MlopsError("stop")

    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, ("grow", grow), ("fail", fail)))
    with pytest.raises(MlopsError, match="stop"), store.reader():
        pass
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, ("grow", grow)))
    for _ in range(2):
        with store.reader() as db:
            assert db.execute("SELECT number, name FROM store.migration ORDER BY ALL").fetchall() == [
                *((place, name) for place, (name, _) in enumerate(MIGRATIONS, start=1)),
                (len(MIGRATIONS) + 1, "grow"),
            ]
            tables = {name for (name,) in db.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
            assert "grown" in tables and "half" not in tables


def test_a_file_that_is_no_database_says_how_to_mend_it(layout: Layout, store: Store) -> None:
    """Integrity, exit 6, and that nothing is lost."""
    layout.database.write_bytes(b"rubbish" * 1000)
    with pytest.raises(IntegrityError) as caught, store.reader():
        pass
    assert "doctor --fix" in caught.value.hint and "nothing is lost" in caught.value.hint


def test_the_storage_version_is_pinned_and_extensions_never_load_by_themselves(store: Store) -> None:
    """A newer DuckDB must not write files an older one cannot read; an unknown function must not try the network."""
    with store.reader() as db:
        tags = db.execute("SELECT tags FROM duckdb_databases() WHERE database_name = 'project'").fetchone()
        assert tags is not None and "v2.0.0" in str(tags[0])
        for setting in ("autoinstall_known_extensions", "autoload_known_extensions"):
            assert db.execute(f"SELECT current_setting('{setting}')").fetchone() == (False,)


def _reads(layout: Layout) -> None:
    with Store(layout, wait_s=20).reader() as db:
        assert db.execute("SELECT count(*) FROM run").fetchone() == (0,)


def test_a_forked_child_can_use_the_store_and_end(layout: Layout, store: Store) -> None:
    """DuckDB does not survive a fork: the child gets its own instance and exits cleanly; so does the parent go on."""
    with store.reader():
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = multiprocessing.get_context("fork").Process(target=_reads, args=(layout,))
        child.start()
    child.join()
    assert child.exitcode == 0
    with store.reader() as db:
        assert db.execute("SELECT count(*) FROM run").fetchone() == (0,)


CREATE = """
import sys
from pathlib import Path
from mlops_local.store.database import Db, Store
from mlops_local.store.layout import Layout
with Store(Layout(Path(sys.argv[1]))).reader() as db:
    print(db.execute("SELECT count(*) FROM store.migration").fetchone()[0])
"""


def test_many_processes_create_one_database(start: Start) -> None:
    """Six first commands at once: one makes it, all read it."""
    running = [start(CREATE) for _ in range(6)]
    assert [process.communicate(timeout=60)[0] for process in running] == [f"{len(MIGRATIONS)}\n"] * 6


def test_a_full_disk_is_said_and_the_store_opens_afterwards(layout: Layout, store: Store, start: Start) -> None:
    """With no room to write the error names it; what was committed before is there."""
    with store.writer() as db:
        db.execute("INSERT INTO store.gap VALUES ('before', 1, NULL)")
    process = start(
        "import resource, sys\nfrom pathlib import Path\nfrom mlops_local.store.database import Db, Store\n"
        "from mlops_local.store.layout import Layout\nlayout = Layout(Path(sys.argv[1]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (layout.database.stat().st_size, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    with Store(layout).writer() as db:\n"
        "        db.execute('BEGIN')\n"
        "        db.execute('INSERT INTO store.note SELECT range::VARCHAR, md5(range::VARCHAR), NULL, 1 FROM range(400000)')\n"
        "        db.execute('COMMIT')\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    out, err = process.communicate(timeout=60)
    assert out.startswith("Unwritable no space left"), (out, err)
    with store.reader() as db:
        assert db.execute("SELECT run FROM store.gap").fetchall() == [("before",)]


def test_removing_it_keeps_the_rest(layout: Layout, store: Store) -> None:
    """A database that somebody removed is made anew, empty, at the next use."""
    with store.writer() as db:
        db.execute("INSERT INTO store.gap VALUES ('r', 1, NULL)")
    store.close()
    for path in store.files():
        path.unlink()
    with store.reader() as db:
        assert db.execute("SELECT count(*) FROM store.gap").fetchone() == (0,)
    assert list(layout.tmp.iterdir()) == []
