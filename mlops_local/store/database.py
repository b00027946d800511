"""The only door to project.duckdb: queue, attach, work, detach.

One warm in-memory DuckDB instance a process; the project's file is attached for milliseconds under `store.lock` and never
longer. Errors of DuckDB become ours here. Nothing of ours ever open()s the file: closing any descriptor of it would silently
drop DuckDB's own lock and lose rows (measured).
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mlops_local.domain.errors import IntegrityError, MlopsError, NewerStore, StoreBusy, Unwritable
from mlops_local.domain.sql import quote
from mlops_local.store import files, lock, migrations
from mlops_local.store.layout import Layout

if TYPE_CHECKING:
    import duckdb  # at runtime only where a file is attached: the import alone takes 90 ms, and plan or the hook need none

STORAGE_VERSION = "v2.0.0"
"""The file format we write; pinned so that an upgrade of DuckDB does not change it under us."""
CATALOG = "project"
FOREIGN_TRY_S = 0.2
"""A foreign client is tried this long before the queue is let go to others."""

Db: TypeAlias = "duckdb.DuckDBPyConnection"


class _Instance:
    """The process's warm DuckDB for one file. Two in one process could not attach the same file."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.owner = 0
        self.db: Db | None = None
        self._opened = ExitStack()

    def connection(self, layout: Layout) -> Db:
        """Return the warm connection, making it (10 ms) on first use."""
        if self.db is None:
            import duckdb  # noqa: PLC0415

            self.db = duckdb.connect(
                ":memory:",
                config={
                    "threads": 2,
                    "autoinstall_known_extensions": "false",  # an unknown function would otherwise try the network
                    "autoload_known_extensions": "false",
                    "python_enable_replacements": "false",
                    # A checkpoint at each DETACH took 27 of the 40 ms a small fold held the lock; replaying a log of small
                    # folds takes an ATTACH 1 ms for 10 kB of it.
                    "checkpoint_on_detach": "DISABLED",
                    "wal_autocheckpoint": "128KiB",
                },
            )
            self.db.execute(f"SET file_search_path = {quote(self._opened.enter_context(files.searched(layout.state)))}")
        return self.db

    def close(self) -> None:
        """Give the memory back; the next use makes a new one."""
        if self.db is not None:
            self.db.close()
            self.db = None
        self._opened.close()


_instances: dict[str, _Instance] = {}


def _before_fork() -> None:
    """A forked child that inherits a DuckDB connection dies when it ends: have none at that moment."""
    for instance in _instances.values():
        if instance.owner != threading.get_ident() and instance.mutex.acquire(timeout=5):
            instance.close()
            instance.mutex.release()


os.register_at_fork(before=_before_fork, after_in_child=_instances.clear)


class Store:
    """A project's store as other parts hold it; making one touches no file."""

    def __init__(
        self,
        layout: Layout,
        wait_s: float = 30.0,
        on_wait: Callable[[str], None] = lambda holder: None,
        on_behind: Callable[[str], None] = lambda why: None,
    ) -> None:
        self.layout = layout
        self.wait_s = wait_s
        self.on_wait = on_wait
        self.on_behind = on_behind
        """Told why what is shown lacks the newest (see `projection.fold`)."""

    @contextmanager
    def reader(self) -> Iterator[Db]:
        """Attach the file read only, with other readers.

        Raises:
            StoreBusy: it stayed in use past `wait_s`.
            NewerStore: a newer version of this program changed it.
            IntegrityError: it does not open.
        """
        with self._use(read_only=True) as db:
            yield db

    @contextmanager
    def writer(self) -> Iterator[Db]:
        """Attach the file for writing, alone. Begin and commit inside; keep it under 50 ms. Raises as `reader`."""
        with self._use(read_only=False) as db:
            yield db

    @contextmanager
    def apart(self) -> Iterator[Db]:
        """As `reader`, on an instance that ends with the block: its settings may be locked, nobody else meets them."""
        deadline = time.monotonic() + self.wait_s
        with self._alone() as instance:
            instance.close()
            try:
                with self._attached(instance, deadline, read_only=True) as db:
                    yield db
            finally:
                instance.close()

    def close(self) -> None:
        """Give the warm instance's memory back."""
        instance = _instances.get(str(self.layout.database))
        if instance is not None:
            with instance.mutex:
                instance.close()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Keep everybody else out of the file without opening it. Raises StoreBusy."""
        with self._alone() as instance, lock.hold(self.layout.store_lock, wait_s=self.wait_s, on_wait=self.on_wait):
            instance.close()
            yield

    def take(self, draft: Path) -> None:
        """Within `turn`: give a whole, closed file the database's name. Killed at any moment, the old file or the new one is
        there with all it says; one that does not open goes first.
        """
        instance = _instances[str(self.layout.database)]
        try:
            if self.layout.database.exists():
                self._settle(instance)
            else:  # somebody removed it, and not its log
                self._wal.unlink(missing_ok=True)
        except MlopsError:
            for path in (self.layout.database, self._wal):
                path.unlink(missing_ok=True)
        finally:
            instance.close()
        self.layout.folded.unlink(missing_ok=True)  # it is of another database, whose inode this one may have
        self._swap(draft)

    def rewrite(self) -> bool:
        """Put a fresh copy in the file's place, made by DuckDB: without the holes that removals and many small folds left.

        Killed at any moment, the old file or the new one is there, whole. Raises as `writer`.

        Returns:
            False if the copy would not be smaller: the file stays as it was.
        """
        draft = self.layout.tmp / f"compact.{os.getpid()}.duckdb"
        drafts = (draft, draft.with_name(draft.name + ".wal"))
        deadline = time.monotonic() + self.wait_s
        with self._alone() as instance:
            db = instance.connection(self.layout)
            descriptor = self._attach(db, False, deadline)
            try:
                for path in drafts:
                    path.unlink(missing_ok=True)
                with translated():
                    db.execute(f"ATTACH {quote(str(draft))} AS fresh (STORAGE_VERSION '{STORAGE_VERSION}')")
                    db.execute(f"COPY FROM DATABASE {CATALOG} TO fresh")
                    db.execute("CHECKPOINT fresh")
                    db.execute("DETACH fresh")
                    smaller = draft.stat().st_size < sum(path.stat().st_size for path in self.files())
                    if smaller:
                        db.execute(f"CHECKPOINT {CATALOG}")  # a log that stayed behind would be taken for the new file's
                _detach(instance, db)
                if smaller:
                    self._swap(draft)
                return smaller
            finally:
                instance.close()  # whatever is still attached goes with it
                for path in drafts:
                    path.unlink(missing_ok=True)
                lock.release(descriptor, shared=False)

    def files(self) -> list[Path]:
        """Return the database's files that are there: to be asked for their size, never opened."""
        return [path for path in (self.layout.database, self._wal) if path.exists()]

    # -- within

    def _settle(self, instance: _Instance) -> None:
        """Bring what its log holds into the database: a log that stayed behind would be taken for the next one's."""
        db = instance.connection(self.layout)
        self._attach_file(db, self.layout.database, False)
        with translated():
            db.execute(f"CHECKPOINT {CATALOG}")
        _detach(instance, db)

    def _swap(self, draft: Path) -> None:
        """Give a whole, closed file the database's name, durably."""
        if self._wal.exists() or draft.with_name(draft.name + ".wal").exists():
            raise MlopsError("DuckDB kept a log beside the database, so it was left as it is", hint="run the command again")
        draft.chmod(0o600)
        files.sync_file(draft)  # by DuckDB closed, and not yet the project's: this descriptor drops no lock
        draft.rename(self.layout.database)
        files.sync_folder(self.layout.state)

    @property
    def _wal(self) -> Path:
        return self.layout.database.with_name(self.layout.database.name + ".wal")

    @contextmanager
    def _use(self, *, read_only: bool) -> Iterator[Db]:
        deadline = time.monotonic() + self.wait_s  # for both queues, of this process's threads and of all processes
        with self._alone() as instance, self._attached(instance, deadline, read_only=read_only) as db:
            yield db

    @contextmanager
    def _attached(self, instance: _Instance, deadline: float, *, read_only: bool) -> Iterator[Db]:
        db = instance.connection(self.layout)
        descriptor = self._attach(db, read_only, deadline)
        try:
            with translated():
                yield db
        finally:
            try:
                _detach(instance, db)
            finally:
                lock.release(descriptor, shared=read_only)

    @contextmanager
    def _alone(self) -> Iterator[_Instance]:
        """One thread at a time, before any queueing between processes."""
        instance = _instances.setdefault(str(self.layout.database), _Instance())
        if instance.owner == threading.get_ident():
            raise RuntimeError("the store is already open in this thread: finish that block first")
        if not instance.mutex.acquire(timeout=max(self.wait_s, 0.001)):
            raise StoreBusy(
                f"the store is in use by another thread of this process and stayed so for {self.wait_s:g} s",
                hint="pass a longer --wait",
            )
        instance.owner = threading.get_ident()
        try:
            yield instance
        finally:
            instance.owner = 0
            instance.mutex.release()

    def _attach(self, db: Db, read_only: bool, deadline: float) -> int:
        """Queue for the lock and attach; returns the lock's descriptor."""
        while True:
            left = max(0.0, deadline - time.monotonic())
            descriptor = lock.acquire(self.layout.store_lock, shared=read_only, wait_s=left, on_wait=self.on_wait)
            try:
                if not read_only:
                    lock.sign(descriptor)
                if self._open(db, read_only):
                    return descriptor
            except _ForeignClient as foreign:
                if time.monotonic() >= deadline:
                    lock.release(descriptor, shared=read_only)
                    raise StoreBusy(
                        f"project.duckdb is open in {foreign.client} and stayed so for {self.wait_s:g} s",
                        hint=f"close it there (`kill {foreign.pid}` ends it), or pass a longer --wait",
                    ) from foreign
                lock.release(descriptor, shared=read_only)
                self.on_wait(foreign.client)
                continue
            except BaseException:
                lock.release(descriptor, shared=read_only)
                raise
            lock.release(descriptor, shared=read_only)
            writing = self._attach(db, False, deadline)  # makes or migrates it; then once more as asked
            _detach(None, db)
            lock.release(writing, shared=False)

    def _open(self, db: Db, read_only: bool) -> bool:
        """Attach; False if the file must be made or migrated by a writer first."""
        new = not self.layout.database.exists()
        if new and read_only:
            return False
        if new:
            self._create(db)
        self._attach_file(db, self.layout.database, read_only)
        try:
            with translated():
                if migrations.number(db) == len(migrations.MIGRATIONS):
                    return True
                if not read_only:
                    migrations.migrate(db)
                    return True
        except BaseException:
            _detach(None, db)
            raise
        _detach(None, db)
        return False

    def _create(self, db: Db) -> None:
        """Make the file under another name first: one that a kill leaves half made is never the project's."""
        draft = self.layout.tmp / f"new.{os.getpid()}.duckdb"
        for path in (draft, draft.with_name(draft.name + ".wal"), self._wal):
            path.unlink(missing_ok=True)
        self._attach_file(db, draft, False)
        try:
            with translated():
                migrations.migrate(db)
                db.execute(f"CHECKPOINT {CATALOG}")  # its log would stay behind under the draft's name
        finally:
            _detach(None, db)
        draft.chmod(0o600)
        self.layout.folded.unlink(missing_ok=True)  # it is of another database, whose inode this one may have
        draft.rename(self.layout.database)

    def _attach_file(self, db: Db, path: Path, read_only: bool) -> None:
        import duckdb  # noqa: PLC0415

        how = "READ_ONLY" if read_only else f"STORAGE_VERSION '{STORAGE_VERSION}'"
        give_up = time.monotonic() + FOREIGN_TRY_S
        while True:
            try:
                db.execute(f"ATTACH {quote(str(path))} AS {CATALOG} ({how})")
                db.execute(f"USE {CATALOG}.main")
                return
            except duckdb.Error as error:
                client = _LOCKED.search(str(error))
                if client is None:
                    raise _unreadable(error) from error
                if time.monotonic() >= give_up:
                    raise _ForeignClient(int(client["pid"]), client["name"]) from error
                time.sleep(0.02)


_LOCKED = re.compile(r"Could not set lock on file .*?Conflicting lock is held in (?P<name>.*?) \(PID (?P<pid>\d+)\)", re.S)
_FULL = ("No space left on device", "File too large", "Disk quota exceeded")
_FORBIDDEN = ("Permission denied", "Read-only file system")


class _ForeignClient(Exception):
    """Another DuckDB client, one that does not queue, has the file open."""

    def __init__(self, pid: int, name: str) -> None:
        super().__init__(name)
        self.pid = pid
        self.client = f"{Path(name).name} (pid {pid})"


def _detach(instance: _Instance | None, db: Db) -> None:
    """Roll back what is open and let the file go; at worst together with the whole instance."""
    import duckdb  # noqa: PLC0415

    try:
        with suppress(duckdb.TransactionException):  # nothing open: the usual case
            db.execute("ROLLBACK")
        db.execute("USE memory")
        db.execute(f"DETACH {CATALOG}")
    except duckdb.Error as error:
        if instance is not None:
            instance.close()
        if any(text in str(error) for text in _FULL):
            raise _no_space() from error


@contextmanager
def translated() -> Iterator[None]:
    """Turn DuckDB's errors about files into ours; an error in our own SQL stays what it is."""
    import duckdb  # noqa: PLC0415

    try:
        yield
    except duckdb.Error as error:
        about_files = (duckdb.IOException, duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)
        if isinstance(error, about_files) or any(text in str(error) for text in _FULL):
            raise _unreadable(error) from error
        raise


def _unreadable(error: duckdb.Error) -> MlopsError:
    text = str(error).partition("\n")[0]
    if any(full in str(error) for full in _FULL):
        return _no_space()
    if any(forbidden in text for forbidden in _FORBIDDEN):
        return Unwritable(f"project.duckdb may not be opened: {text}", hint="check the file's permissions")
    if "version number" in text and "can only read" in text:
        return NewerStore(
            "project.duckdb was written by a newer DuckDB than this one", hint="upgrade with `pip install --upgrade duckdb`"
        )
    return IntegrityError(
        f"project.duckdb does not open: {text}", hint="`mlops doctor --fix` rebuilds it from the journals; nothing is lost"
    )


def _no_space() -> MlopsError:
    return Unwritable("no space left to write project.duckdb", hint="free some disk space and run the command again")
