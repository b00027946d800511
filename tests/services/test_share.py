"""Stores that meet in a folder or a file: nothing is lost, nothing is sent twice, nothing altered is taken."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mlops_local.domain import events
from mlops_local.domain.assets import FileEntry, ModelVersion, Snapshot, Verdict
from mlops_local.domain.errors import IntegrityError, MlopsError, UsageError
from mlops_local.domain.plan import Output, StepResult, result_to_json
from mlops_local.services import doctor, locking, share
from mlops_local.services import project as projects
from mlops_local.services.project import Project
from mlops_local.store import cache, contents, holdings, ledger, lockfile, objects, projection, registry
from mlops_local.store import layout as layouts
from mlops_local.store.journal import Journal, new_id
from mlops_local.store.ledger import Entry

ROOT = Path(__file__).resolve().parents[2]
NAMED = lockfile.ModelEntry


class People:
    """Projects of one name in folders of their own, as clones are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[Project] = []

    def new(self, name: str, *, lock: Project | None = None, project: str = "late") -> Project:
        """Somebody's empty store, with the mlops.lock of another."""
        root = self.folder / name
        root.mkdir()
        (root / "mlops.toml").write_text(f"[project]\nname = '{project}'\n")
        if lock is not None:
            (root / "mlops.lock").write_bytes((lock.root / "mlops.lock").read_bytes())
        self.made.append(projects.find(root, wait_s=20))
        return self.made[-1]


@pytest.fixture
def people(tmp_path: Path) -> Iterator[People]:
    """Somebody to share with."""
    made = People(tmp_path)
    yield made
    for project in made.made:
        project.store.close()


def ran(project: Project, name: str, *, size: int = 1000) -> str:
    """A run on new data with points, an artifact, an output and a pickle, and the version it made; champion and locked."""
    layout, run = project.layout, new_id()
    (project.root / "data").mkdir(exist_ok=True)
    data = project.root / "data" / f"{name}.csv"
    data.write_bytes(os.urandom(size))
    hash = objects.put_file(layout, data)
    snapshot = Snapshot(f"s-{name}" + "0" * 60, "rows", (FileEntry(f"data/{name}.csv", hash, size, 1),), rows=1, bytes=size)
    outputs = (
        Output("table", "json", "logical", {"table.json": objects.put_bytes(layout, f"{name} table".encode())}),
        Output("model", "pickle", "logical", {"model.pickle": objects.put_bytes(layout, f"{name} pickle".encode())}),
    )
    result = StepResult("step", f"fp-{name}", outputs, run)
    journal = Journal.open(layout.journal)
    journal.state(events.RUN_STARTED, run=run, name=name, kind="train", snapshots={"rows": snapshot.id})
    journal.state(events.SNAPSHOT, run=run, snapshot=cache.snapshot_to_json(snapshot))
    journal.metric(run, "auc", 0.7, 1)
    journal.state(events.ARTIFACT, run=run, path="plot.svg", object=objects.put_bytes(layout, f"{name} plot".encode()), bytes=4)
    journal.state(events.STEP_ENDED, run=run, step="step", state="done", result=result_to_json(result))
    journal.state(events.RUN_ENDED, run=run, state="done", error="", seconds=1.0)
    journal.close()
    cache.record(layout, result, written=True)
    cache.save_snapshot(layout, snapshot)
    bundle = {"model.onnx": objects.put_bytes(layout, f"{name} model".encode())}
    answered = io.BytesIO()
    pl.DataFrame({"row": [name], "label": [1.0], "prediction": [0.5]}).write_parquet(answered)
    answers = objects.put_bytes(layout, answered.getvalue())

    def make(number: int) -> ModelVersion:
        return ModelVersion(
            f"m@{number}", "m", number, "gbm", run, f"fp-{name}", bundle, f"b-{name}", answers, "rows", "auc", 0.7,
            snapshots={"rows": snapshot.id},
        )  # fmt: skip

    version = ledger.append_version(layout, make)
    alias = Entry(events.ALIAS, "m@champion", version.id)
    verdict = asdict(Verdict(version.id, "", "pass"))
    ledger.append(layout, events.VERDICT, version.id, "pass", data=verdict, also=[alias])
    locking.write_champions(project)
    lock = lockfile.read(layout.lockfile)
    lockfile.write(layout, lockfile.LockFile({"rows": lockfile.SourceEntry(snapshot.id, 1, size)}, lock.models))
    return run


def runs(project: Project) -> dict[str, tuple[str, float | None]]:
    """Name -> state and last auc of every run."""
    projection.fold(project.store)
    sql = "SELECT r.name, r.state, m.value FROM run r LEFT JOIN metric_last m ON m.run = r.id"
    with project.store.reader() as db:
        return {name: (state, value) for name, state, value in db.execute(sql).fetchall()}


def sound(project: Project) -> None:
    """Nothing is missing or altered, and a rebuild says the same."""
    before = runs(project)
    assert doctor.doctor(project) == [] and ledger.verify(project.layout) == []
    projection.rebuild(project.store)
    assert runs(project) == before


def test_a_clone_has_the_champion_its_verdict_and_what_they_came_from(people: People, tmp_path: Path) -> None:
    """Only what mlops.lock names moves: version, verdict, run with its points, data; not the run before, and no pickle."""
    ann = people.new("ann")
    ran(ann, "first")
    ran(ann, "second")
    moved = share.push(ann, tmp_path / "usb")
    assert (moved.versions, moved.snapshots, moved.contents) == (("m@2",), ("rows s-second",), 5)
    bob = people.new("bob", lock=ann)
    assert share.pull(bob, tmp_path / "usb").champions == ("m@2",)
    mine, theirs = registry.load(bob.layout), registry.load(ann.layout)
    assert mine.champion("m") == theirs.champion("m") and mine.verdicts["m@2"] == theirs.verdicts["m@2"]
    assert list(mine.versions) == ["m@2"] and runs(bob) == {"second": ("done", 0.7)}
    assert layouts.project_id(bob.layout) == layouts.project_id(ann.layout), "the same seeds"
    assert layouts.hmac_key(bob.layout) != layouts.hmac_key(ann.layout), "the key stays each one's own"
    held = cache.recorded(bob.layout, "fp-second")
    assert held is not None and cache.step_result(bob.layout, "fp-second") is None, "known, but its pickle is not here"
    newest = cache.snapshot(bob.layout, "rows")
    assert newest is not None and newest.short == "s-second"
    assert (bob.root / "mlops.lock").read_bytes() == (ann.root / "mlops.lock").read_bytes()
    sound(bob)
    again = share.pull(bob, tmp_path / "usb")
    assert (again.contents, again.there, again.champions) == (0, 5, ()) and len(ledger.read(bob.layout)) == 3


def test_everything_moves_with_all(people: People, tmp_path: Path) -> None:
    """All runs, versions, snapshots; a second push sends nothing. A removed run does not travel, even in a shared journal."""
    ann = people.new("ann")
    for name in ("first", "second"):
        ran(ann, name)
    journal = Journal.open(ann.layout.journal)
    journal.state(events.RUN_STARTED, run=(kept := new_id()), name="third", kind="script")
    journal.state(events.RUN_STARTED, run=(gone := new_id()), name="gone", kind="script")
    for run in (kept, gone):
        journal.metric(run, "auc", 0.7, 1)
    journal.state(events.ARTIFACT, run=gone, path="x", object=objects.put_bytes(ann.layout, b"gone"), bytes=4)
    journal.close()
    ledger.append(ann.layout, events.DELETION, gone, None)
    share.push(ann, tmp_path / "usb", everything=True)
    before = sorted((tmp_path / "usb").rglob("*"))
    assert share.push(ann, tmp_path / "usb", everything=True).contents == 0
    assert share.push(ann, tmp_path / "usb").contents == 0 and sorted((tmp_path / "usb").rglob("*")) == before
    bob = people.new("bob")
    share.pull(bob, tmp_path / "usb", everything=True)
    assert set(runs(bob)) == {"first", "second", "third"} and len(registry.load(bob.layout).versions) == 2
    assert gone.encode() not in b"".join(data for _, data in holdings.journals(bob.layout))
    sound(bob)
    ledger.append(ann.layout, events.DELETION, gone, "kept")
    assert share.push(ann, tmp_path / "usb", everything=True).journals == 2, "taken back, it travels with its points"
    for _ in range(2):
        share.pull(bob, tmp_path / "usb", everything=True)
        assert runs(bob)["gone"] == ("crashed", 0.7), "also to where its journal came before, without it"
        assert sum(data.count(gone.encode()) for _, data in holdings.journals(bob.layout)) == 3
        sound(bob)
    cid = people.new("cid")
    share.pull(cid, tmp_path / "usb", everything=True)
    assert runs(cid)["gone"] == ("crashed", 0.7) and share.push(ann, tmp_path / "usb", everything=True).journals == 0


def test_points_travel_whatever_the_clock_said(people: People, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was made by a clock an hour ahead has its points where it is unpacked."""
    ann, bob = people.new("ann"), people.new("bob")
    real = time.time_ns
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: real() + 3_600_000_000_000)
        run = ran(ann, "ahead")
    projection.fold(ann.store)
    share.pack(ann, tmp_path / "run.mlops", [run])
    share.unpack(bob, tmp_path / "run.mlops")
    assert runs(bob) == {"ahead": ("done", 0.7)}


def test_both_ways_until_all_have_all(people: People, tmp_path: Path) -> None:
    """Two people who worked apart: each gets what the other did, under free numbers, and keeps what was decided here."""
    ann, bob = people.new("ann"), people.new("bob")
    ran(ann, "hers")
    ran(bob, "his")
    for _ in range(2):
        for who in (ann, bob):
            share.push(who, tmp_path / "usb", everything=True)
            share.pull(who, tmp_path / "usb", everything=True)
    assert runs(ann) == runs(bob) == {"hers": ("done", 0.7), "his": ("done", 0.7)}
    for who, own in ((ann, "hers"), (bob, "his")):
        state = registry.load(who.layout)
        assert {version.fingerprint for version in state.versions.values()} == {"fp-hers", "fp-his"}
        champion = state.champion("m")
        assert champion is not None and champion.fingerprint == f"fp-{own}" and champion.id == "m@1"
        sound(who)


PUSH = """\
import sys
from pathlib import Path
from mlops_local.services import outgoing, share
from mlops_local.services.project import find
from mlops_local.store.shelf import Folder
outgoing.BOX_BYTES = 10_000
write = Folder.write
def told(self, member, data):
    write(self, member, data)
    print(member, flush=True)
    if len(sys.argv) > 3:
        sys.stdin.readline()
Folder.write = told
share.push(find(Path(sys.argv[1])), Path(sys.argv[2]), everything=True)
"""


def pushing(project: Project, folder: Path, *more: str) -> subprocess.Popen[str]:
    """A process that pushes in boxes of 10 kB and says each; with an argument it waits for a line after each."""
    return subprocess.Popen(
        [sys.executable, "-c", PUSH, str(project.root), str(folder), *more],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_push_that_was_killed_counts_nothing_and_goes_on(people: People, tmp_path: Path) -> None:
    """SIGKILL after two boxes: nothing is pulled of it; the next push sends only what is not there, and all is well."""
    ann = people.new("ann")
    for name in ("first", "second", "third"):
        ran(ann, name, size=12_000)
    projection.fold(ann.store)
    with pushing(ann, tmp_path / "usb", "slowly") as process:
        assert process.stdin is not None and process.stdout is not None
        first = process.stdout.readline().strip()
        process.stdin.write("\n")
        process.stdin.flush()
        second = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
    assert first.startswith("boxes/") and second.startswith("boxes/")
    bob = people.new("bob", lock=ann)
    with pytest.raises(MlopsError, match="does not hold m@3"):
        share.pull(bob, tmp_path / "usb")
    with pushing(ann, tmp_path / "usb") as process:
        sent = process.communicate()[0].split()
    assert process.returncode == 0 and first not in sent and second not in sent and sent[-1].startswith("pushes/")
    share.pull(bob, tmp_path / "usb", everything=True)
    assert set(runs(bob)) == {"first", "second", "third"}
    sound(bob)


def test_two_who_push_at_once_lose_nothing(people: People, tmp_path: Path) -> None:
    """Two processes push different stores into one new folder at the same time; a third person gets both."""
    ann, bob = people.new("ann"), people.new("bob")
    for who in (ann, bob):
        for number in range(3):
            ran(who, f"{who.root.name}{number}", size=30_000)
        projection.fold(who.store)
    with pushing(ann, tmp_path / "usb") as one, pushing(bob, tmp_path / "usb") as two:
        assert one.communicate()[1] is None and two.communicate()[1] is None
    assert (one.returncode, two.returncode) == (0, 0)
    with pytest.raises(UsageError, match="something else"):
        share.push(ann, people.folder)
    eve = people.new("eve")
    share.pull(eve, tmp_path / "usb", everything=True)
    assert set(runs(eve)) == {f"{who}{number}" for who in ("ann", "bob") for number in range(3)}
    assert len(registry.load(eve.layout).versions) == 6
    sound(eve)


PULL = """\
import os, sys
from pathlib import Path
from mlops_local.services import share
from mlops_local.services.project import find
from mlops_local.store import cache, contents, holdings, ledger
left = int(sys.argv[3])
def counted(module, name):
    real = getattr(module, name)
    def call(*arguments, **more):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
        return real(*arguments, **more)
    setattr(module, name, call)
counted(contents, "keep"); counted(cache, "record"); counted(holdings, "place"); counted(ledger, "append")
share.pull(find(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def test_a_pull_that_was_killed_anywhere_goes_on(people: People, tmp_path: Path) -> None:
    """SIGKILL before each thing a pull writes, one after the other on the same store: in the end all is there, once."""
    ann = people.new("ann")
    ran(ann, "only")
    share.push(ann, tmp_path / "usb")
    bob = people.new("bob", lock=ann)
    for steps in range(2, 40, 3):
        done = subprocess.run(
            [sys.executable, "-c", PULL, str(bob.root), str(tmp_path / "usb"), str(steps)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode in (0, -signal.SIGKILL)
        if done.returncode == 0:
            break
    assert done.returncode == 0 and steps > 2, "it was killed at least once"
    assert runs(bob) == {"only": ("done", 0.7)} and registry.load(bob.layout).champion("m") is not None
    assert len(ledger.read(bob.layout)) == 3
    sound(bob)


def test_what_was_altered_is_refused_by_name(people: People, tmp_path: Path) -> None:
    """A flipped bit in a box or in a push: said with the file and what needs it; no run, version or object of it counts."""
    ann = people.new("ann")
    ran(ann, "only")
    share.push(ann, tmp_path / "usb")
    for kind in ("boxes", "pushes"):
        (path,) = (tmp_path / "usb" / kind).iterdir()
        whole = path.read_bytes()
        path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
        bob = people.new(f"bob-{kind}", lock=ann)
        with pytest.raises(IntegrityError, match=path.name):
            share.pull(bob, tmp_path / "usb")
        assert runs(bob) == {} and ledger.read(bob.layout) == [] and list(objects.every(bob.layout)) == []
        path.write_bytes(whole)
    (box,) = (tmp_path / "usb" / "boxes").iterdir()
    box.unlink()
    with pytest.raises(IntegrityError, match=r"is missing.*needs it"):
        share.pull(people.new("eve", lock=ann), tmp_path / "usb")
    assert share.push(ann, tmp_path / "usb").contents == 5, "what is gone from the folder is sent again"
    share.pull(people.new("joe", lock=ann), tmp_path / "usb")


def test_a_content_that_is_another_than_its_name_is_refused(people: People, tmp_path: Path) -> None:
    """A push made up by somebody (names and hashes that fit each other, not the content) is found out on arrival."""
    ann = people.new("ann")
    ran(ann, "only")
    share.push(ann, tmp_path / "usb")
    (path,) = (tmp_path / "usb" / "pushes").iterdir()
    told: dict[str, Any] = json.loads(path.read_bytes())
    model = next(iter(registry.load(ann.layout).versions["m@1"].bundle.values()))
    told["contents"][model] = next(item for hash, item in told["contents"].items() if hash != model and len(item) == 1)
    other = next(hash for hash, item in told["contents"].items() if hash != model and len(item) == 1)
    told["contents"][model] = [told["contents"][other][0], other]
    import blake3

    data = json.dumps(told).encode()
    path.unlink()
    (tmp_path / "usb" / "pushes" / f"{blake3.blake3(data).hexdigest()}.json").write_bytes(data)
    bob = people.new("bob", lock=ann)
    with pytest.raises(IntegrityError, match="not what its name says"):
        share.pull(bob, tmp_path / "usb")
    assert runs(bob) == {} and model not in set(objects.every(bob.layout))


def test_a_dry_run_changes_nothing(people: People, tmp_path: Path) -> None:
    """It says the same as the real one does, and neither folder nor store are touched."""
    ann = people.new("ann")
    ran(ann, "only")
    said = share.push(ann, tmp_path / "usb", dry_run=True)
    assert not (tmp_path / "usb").exists()
    done = share.push(ann, tmp_path / "usb")
    assert (said.contents, said.bytes, said.versions) == (done.contents, done.bytes, done.versions)
    (tmp_path / "empty").mkdir()
    assert share.push(ann, tmp_path / "empty", dry_run=True).contents == done.contents and not list(
        (tmp_path / "empty").iterdir()
    )
    with pytest.raises(UsageError, match="something else"):
        share.push(ann, ann.root, dry_run=True)
    bob = people.new("bob", lock=ann)
    assert share.pull(bob, tmp_path / "usb", dry_run=True).contents == 5
    assert ledger.read(bob.layout) == [] and list(objects.every(bob.layout)) == [] and runs(bob) == {}


def test_projects_do_not_mix(people: People, tmp_path: Path) -> None:
    """A folder of another project is refused both ways, and so is a store with nothing to say."""
    ann = people.new("ann")
    ran(ann, "only")
    share.push(ann, tmp_path / "usb")
    other = people.new("other", project="churn")
    ran(other, "theirs")
    for verb in (share.push, share.pull):
        with pytest.raises(UsageError, match=r"holds the project 'late', this is 'churn'"):
            verb(other, tmp_path / "usb")
    empty = people.new("empty")
    for verb in (share.push, share.pull):
        with pytest.raises(UsageError, match=r"no mlops\.lock"):
            verb(empty, tmp_path / "usb")
    with pytest.raises(UsageError, match="names m@1, which this store does not hold"):
        share.push(people.new("clone", lock=ann), tmp_path / "usb")


def test_data_files_come_back_where_they_are_missing_and_nowhere_else(people: People, tmp_path: Path) -> None:
    """With --data missing files are written, equal ones left, and one that differs refuses all of it."""
    ann = people.new("ann")
    ran(ann, "only")
    share.push(ann, tmp_path / "usb")
    bob = people.new("bob", lock=ann)
    mine = bob.root / "data" / "only.csv"
    mine.parent.mkdir()
    mine.write_text("my own")
    with pytest.raises(UsageError, match=r"data/only\.csv would be written over"):
        share.pull(bob, tmp_path / "usb", data=True)
    assert mine.read_text() == "my own"
    mine.unlink()
    assert share.pull(bob, tmp_path / "usb", data=True).files == ("data/only.csv",)
    assert mine.read_bytes() == (ann.root / "data" / "only.csv").read_bytes()
    assert share.pull(bob, tmp_path / "usb", data=True).files == ()


def test_one_file_holds_what_was_asked_for(people: People, tmp_path: Path) -> None:
    """A pack of a run or version lists and brings just that; the same pack is the same bytes; everything is everything."""
    ann = people.new("ann")
    run = ran(ann, "first")
    ran(ann, "second")
    share.pack(ann, tmp_path / "one", ["first"])
    share.pack(ann, tmp_path / "same", [run[16:24]])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "same").read_bytes()
    found = share.listing(tmp_path / "one")
    assert found.runs == ((run, "first"),) and found.versions == () and found.contents == 2 and found.project == "late"
    share.pack(ann, tmp_path / "version", ["m@1"])
    assert [version.id for version in share.listing(tmp_path / "version").versions] == ["m@1"]
    share.pack(ann, tmp_path / "all", everything=True)
    assert len(share.listing(tmp_path / "all").runs) == 2
    bob = people.new("bob")
    share.unpack(bob, tmp_path / "version")
    assert list(runs(bob)) == ["first"] and list(registry.load(bob.layout).versions) == ["m@1"]
    share.unpack(bob, tmp_path / "all")
    assert set(runs(bob)) == {"first", "second"}
    sound(bob)
    with pytest.raises(UsageError, match="there already"):
        share.pack(ann, tmp_path / "one", ["first"])


def test_what_is_pulled_outlives_a_collection(people: People, tmp_path: Path) -> None:
    """gc after a pull finds nothing to free, and a lost object comes back with the next pull."""
    from mlops_local.store import collect

    ann = people.new("ann")
    ran(ann, "only")
    share.push(ann, tmp_path / "usb", everything=True)
    bob = people.new("bob", lock=ann)
    share.pull(bob, tmp_path / "usb", everything=True)
    assert [item for item in collect.sweep(bob.layout, now_s=time.time() + 9e5).items if item.kind == "object"] == []
    lost = next(iter(registry.load(bob.layout).versions["m@1"].bundle.values()))
    objects.path(bob.layout, lost).unlink()
    assert share.pull(bob, tmp_path / "usb").contents == 1 and contents.has(bob.layout, lost)
