"""What each process of the torture does, through the program's own functions.

Each notes in a file of its own, outside the store, what it was promised: the points and decisions that were acknowledged, the
turns it got and how long it waited for them. `oracle` holds the store against those notes.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from mlops_local.domain import events
from mlops_local.domain.assets import ModelVersion
from mlops_local.domain.errors import Conflict, MlopsError, StoreBusy
from mlops_local.store import journal, ledger, lock, projection
from mlops_local.store.database import Store
from mlops_local.store.journal import Journal
from mlops_local.store.layout import Layout

LIMIT_S = 20.0
"""How long each of them is willing to queue."""
_LONG_S = 0.05
"""Waits from here on are noted."""


class Notes:
    """One process's notes: JSON lines, each with the system before the next thing is done."""

    def __init__(self, folder: Path, role: str) -> None:
        path = folder / f"{role}.{os.getpid()}.{time.monotonic_ns()}.jsonl"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.folder = folder
        self.role = role

    def write(self, kind: str, **values: Any) -> None:
        """Note one thing."""
        os.write(self._descriptor, json.dumps({"kind": kind, "role": self.role, **values}).encode() + b"\n")


def forked(role: str, work: Callable[[Notes], None], notes: Path) -> int:
    """Run `work` in a child that dies with this process; returns its pid. An error in it is noted."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        mine = Notes(notes, role)
        try:
            work(mine)
            code = 0
        except BaseException:  # noqa: BLE001  (noted, for the oracle)
            mine.write("error", text=traceback.format_exc()[-1500:])
    finally:
        os._exit(code)


@contextmanager
def timed_turns(notes: Notes) -> Iterator[None]:
    """Note every lock that was long waited for, and how many were taken in all."""
    original = lock.acquire

    def acquire(path: Path, **options: Any) -> int:
        started = time.monotonic()
        try:
            return original(path, **options)
        finally:
            waited = time.monotonic() - started
            if waited > _LONG_S:
                notes.write("waited", lock=path.name, seconds=round(waited, 3), limit=options["wait_s"])

    lock.acquire = acquire
    try:
        yield
    finally:
        lock.acquire = original


@contextmanager
def accepting(notes: Notes) -> Iterator[None]:
    """What may fail while the disk is full or somebody decided first; anything else is an error of the store."""
    started = time.monotonic()
    try:
        yield
    except Conflict:
        notes.write("conflict")
    except StoreBusy as error:
        notes.write("busy", seconds=round(time.monotonic() - started, 3), text=error.message)
    except MlopsError as error:
        if "no space left" not in error.message:
            raise
        notes.write("full", text=error.message)
        time.sleep(0.05)


# -- the processes


def trainer(layout: Layout, notes: Notes, chance: random.Random, *, short_of_space: bool) -> None:
    """Log to run after run: points, parameters, forked children that log too; on a clock that jumps back and forth."""
    _jumping_clock(chance)
    while True:
        with accepting(notes):
            _one_run(layout, notes, chance, short_of_space)


def _jumping_clock(chance: random.Random) -> None:
    """An hour back or forth, about every fifth of a second."""
    real, jumps = time.time_ns, [0, 0]

    def time_ns() -> int:
        now = real()
        if now > jumps[0]:
            jumps[:] = now + 200_000_000, chance.randint(-3600, 3600) * 1_000_000_000
        return now + jumps[1]

    time.time_ns = time_ns


def _one_run(layout: Layout, notes: Notes, chance: random.Random, short_of_space: bool) -> None:
    writer = Journal.open(layout.journal, warn=lambda text: notes.write("warned", text=text))
    run = journal.new_id(random=chance.getrandbits(64))
    try:
        writer.state(events.RUN_STARTED, run=run, name="r", kind="script")
        notes.write("run", run=run)
        points = 0
        for turn in range(chance.randint(5, 200)):
            if short_of_space and chance.random() < 0.05:
                _little_room(writer, run, points)
            for _ in range(chance.randint(1, 40)):
                writer.metric(run, f"m{points % 3}", points * 0.5, points)
                points += 1
            if writer.flush():
                notes.write("points", run=run, upto=points)
            if chance.random() < 0.1:
                writer.state(events.PARAMS, run=run, values={f"p{turn}": turn})
                notes.write("param", run=run, name=f"p{turn}", value=turn)
            if chance.random() < 0.02:
                _child(writer, run, notes, chance)
            time.sleep(chance.uniform(0.002, 0.12))
            with suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
        writer.state(events.RUN_ENDED, run=run, state="done", error="", seconds=1.0)
        notes.write("ended", run=run)
    finally:
        writer.close()


def _child(writer: Journal, run: str, notes: Notes, chance: random.Random) -> None:
    """A forked child that logs to its parent's run, as a data loader does; it ends by itself or is cut short."""
    series = f"c{chance.getrandbits(48):012x}"

    def work(mine: Notes) -> None:
        for points in range(chance.randint(1, 200)):
            writer.metric(run, series, points * 0.5, points)
        if writer.flush():
            mine.write("series", run=run, key=series, upto=points + 1)

    forked("child", work, notes.folder)


def _little_room(writer: Journal, run: str, points: int) -> None:
    """Where no small file system can be mounted: this process's files may not grow for a moment."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        writer.flush()
        time.sleep(0.1)
        writer.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def folder(layout: Layout, notes: Notes, chance: random.Random) -> None:
    """Fold what is new, again and again, as several commands at once do."""
    store = Store(layout, wait_s=LIMIT_S)
    with timed_turns(notes):
        while True:
            with accepting(notes):
                if projection.fold(store, budget_s=0.5):
                    notes.write("turn")
            time.sleep(chance.uniform(0.0, 0.05))


def reader(layout: Layout, notes: Notes, chance: random.Random) -> None:
    """Poll like the terminal interface; sometimes be stopped in mid-read. What was seen once stays."""
    store = Store(layout, wait_s=LIMIT_S)
    last = 0
    with timed_turns(notes):
        while True:
            with accepting(notes), store.reader() as db:
                ((count,),) = db.execute("SELECT count(*) FROM metric").fetchall()
                if chance.random() < 0.02:
                    os.kill(os.getpid(), signal.SIGSTOP)
                ((again,),) = db.execute("SELECT count(*) FROM metric").fetchall()
                if count < last or again != count:
                    raise AssertionError(f"points vanished: {last}, {count}, {again}")
                last = count
                notes.write("turn")
            time.sleep(chance.uniform(0.0, 0.1))


def contender(layout: Layout, notes: Notes, number: int) -> None:
    """Open the database for writing as often as it can, and keep it 5 ms each time."""
    store = Store(layout, wait_s=LIMIT_S)
    notes.write("contender", number=number)
    while True:
        with store.writer():
            time.sleep(0.005)
        notes.write("contest", number=number)


def promoter(layout: Layout, notes: Notes, chance: random.Random) -> None:
    """Register a version, then move the champion to and fro by compare and set, sometimes two decisions at once."""
    kept = lambda number: ModelVersion(  # noqa: E731
        id="", model="delay", number=number, candidate="gbm", run="", fingerprint=f"{os.getpid()}", bundle={},
        bundle_hash=f"{chance.random()}", predictions="", evaluation="", metric="auc", value=0.5,
    )  # fmt: skip
    with timed_turns(notes):
        while True:
            with accepting(notes):
                made = ledger.append_version(layout, kept, wait_s=LIMIT_S)
                notes.write("version", id=made.id)
                for _ in range(chance.randint(1, 50)):
                    _promote(layout, made.id, notes, chance)


def _promote(layout: Layout, version: str, notes: Notes, chance: random.Random) -> None:
    now = ledger.current(ledger.read(layout), events.ALIAS, "delay@champion")
    also = [ledger.Entry(events.STATE, version, chance.choice(["approved", "rejected"]))] * chance.randint(0, 2)
    with accepting(notes):
        line = ledger.append(
            layout, events.ALIAS, "delay@champion", version, expect=now.value if now else None, also=also, wait_s=LIMIT_S
        )
        notes.write("decided", seq=line.seq, hash=line.hash, value=version, more=len(also))
    time.sleep(chance.uniform(0.0, 0.1))


def command(layout: Layout, notes: Notes, chance: random.Random) -> None:
    """The commit hook and reading commands, as whole processes: no stack trace, no bug, no other exit code."""
    words = (["hook", "run"], ["runs", "--limit", "5"], ["status"], ["model", "ls"])
    while True:
        chosen = chance.choice(words)
        started = time.monotonic()
        ended = subprocess.run(
            [sys.executable, "-m", "mlops_local", "--wait", str(LIMIT_S), *chosen],
            cwd=layout.root, capture_output=True, text=True,
        )  # fmt: skip
        full = ended.returncode == 1 and "no space left" in ended.stderr
        if "Traceback" in ended.stderr or (ended.returncode not in {0, 4} and not full):
            notes.write("error", text=f"{chosen}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
        notes.write("command", words=chosen, code=ended.returncode, seconds=round(time.monotonic() - started, 3))
        time.sleep(chance.uniform(0.2, 1.0))


def foreigner(layout: Layout, notes: Notes, chance: random.Random) -> None:
    """A DuckDB client that knows nothing of the queue and keeps the file open for a while."""
    while True:
        time.sleep(chance.uniform(0.3, 2.0))
        with suppress(duckdb.IOException), duckdb.connect(str(layout.database), read_only=chance.random() < 0.5) as db:
            db.execute("SELECT count(*) FROM metric").fetchall()
            time.sleep(chance.uniform(0.0, 0.5))
            notes.write("turn")
