"""Removing what nothing needs, and nothing else."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from mlops_local.domain import events
from mlops_local.domain.assets import FileEntry, ModelVersion, Snapshot
from mlops_local.domain.errors import IntegrityError
from mlops_local.domain.plan import Output, StepResult, result_to_json
from mlops_local.store import cache, collect, files, ledger, lock, newest, objects, pending, projection, reachable
from mlops_local.store import layout as layouts
from mlops_local.store.database import Store
from mlops_local.store.journal import Journal, new_id
from mlops_local.store.layout import Layout

LATER = 3 * 24 * 3600.0


def later() -> float:
    """A time at which everything made now is old."""
    return time.time() + LATER


def ran(layout: Layout, *contents: bytes, kept: bool = False, journal: Journal | None = None) -> tuple[str, list[str]]:
    """A run with a step that left these contents; with `kept` its result is in the cache. Returns its id and the objects."""
    run, own = new_id(), journal or Journal.open(layout.journal)
    hashes = [objects.put_bytes(layout, content) for content in contents]
    result = StepResult("step", f"fp-{run}", (Output("out", "json", "logical", dict(zip("abc", hashes, strict=False))),), run)
    own.state(events.RUN_STARTED, run=run, name="r", kind="train")
    own.state(events.STEP_ENDED, run=run, step="step", state="done", result=result_to_json(result))
    if journal is None:
        own.state(events.RUN_ENDED, run=run, state="done", error="", seconds=1.0)
        own.close()
    if kept:
        cache.record(layout, result, written=True)
    return run, hashes


def remove(layout: Layout, run: str) -> None:
    """Remove a run, as a person does."""
    ledger.append(layout, events.DELETION, run, None, reason="not wanted")


def there(layout: Layout) -> set[str]:
    """Every object that is kept."""
    return set(objects.every(layout))


def version(**named: object) -> ModelVersion:
    """A version that names these objects."""
    fixed = {"id": "", "model": "m", "number": 0, "candidate": "c", "run": "", "fingerprint": "f", "bundle_hash": "b"}
    known = {**fixed, "evaluation": "e", "metric": "auc", "value": 0.5, "bundle": {}, "predictions": "", **named}
    return ModelVersion(**known)  # type: ignore[arg-type]


def test_what_anything_names_is_kept(layout: Layout) -> None:
    """Runs (also crashed ones), versions, snapshots, artifacts, cached parts and what a script left keep their objects."""
    put = {name: objects.put_bytes(layout, name.encode()) for name in ("bundle", "answers", "data", "file", "part", "left")}
    _, outputs = ran(layout, b"output")
    journal = Journal.open(layout.journal)
    snapshot = Snapshot("s", "rows", (FileEntry("data.csv", put["data"], 4, 1),), rows=1, bytes=4)
    journal.state(events.SNAPSHOT, run="", snapshot=cache.snapshot_to_json(snapshot))
    journal.state(events.ARTIFACT, run=new_id(), path="a", object=put["file"], bytes=4)
    journal.close()
    ledger.append_version(layout, lambda number: version(bundle={"m": put["bundle"]}, predictions=put["answers"]))
    cache.record_part(layout, StepResult("s", "fp", (Output("o", "json", "l", {"p": put["part"]}),), run=new_id()))
    pending.leave(layout, "x", {"bundle": {"m": put["left"]}})
    assert collect.survey(layout, now_s=later()).items == ()
    assert collect.sweep(layout, now_s=later()).needed == 7 and there(layout) == {*put.values(), *outputs}
    assert [line.kind for line in ledger.read(layout)] == [events.VERSION], "nothing was removed, so nothing is said"


def test_what_nothing_names_goes_when_it_is_old(layout: Layout) -> None:
    """An object without a line is left while it is young; a day later it goes, and the ledger says so."""
    orphan = objects.put_bytes(layout, b"orphan")
    (layout.tmp / "draft").write_bytes(b"half")
    young = collect.sweep(layout)
    assert (young.items, young.young) == ((), 1) and there(layout) == {orphan}
    seen = collect.survey(layout, now_s=later())
    assert {(item.kind, item.bytes) for item in seen.items} == {("object", 6), ("draft", 4)} and there(layout) == {orphan}
    assert collect.sweep(layout, now_s=later()).bytes == 10
    assert there(layout) == set() == {path for path in layout.tmp.iterdir() if path.name != "leases"}
    (line,) = ledger.read(layout)
    assert line.kind == events.COLLECTED and line.data == {"objects": 1, "bytes": 10, "runs": []}


def test_a_removed_runs_files_go_but_not_what_others_use(layout: Layout, store: Store) -> None:
    """Its objects, cached results and logs go; what a kept run reused, and the data it saw, stay. The store stays sound."""
    gone, mine = ran(layout, b"mine", b"shared", kept=True)
    ran(layout, b"shared")
    (layout.logs / gone).mkdir()
    (layout.logs / gone / "step.log").write_text("said")
    remove(layout, gone)
    done = collect.sweep(layout, now_s=later())
    assert done.runs == (gone,) and {item.kind for item in done.items} == {"object", "result", "log"}
    assert there(layout) == {mine[1]} and not (layout.logs / gone).exists()
    assert cache.step_result(layout, f"fp-{gone}") is None and newest.read(layout).result("step") is None
    projection.rebuild(store)
    assert there(layout) == {mine[1]}


def test_a_run_removed_just_now_can_be_taken_back(layout: Layout) -> None:
    """Its log, results and objects are as young as any other: gc leaves them, and says of no run that it is gone for good."""
    run, outputs = ran(layout, b"mine", kept=True)
    (layout.logs / run).mkdir()
    remove(layout, run)
    assert collect.sweep(layout).runs == () and there(layout) == set(outputs) and (layout.logs / run).exists()
    assert cache.step_result(layout, f"fp-{run}") is not None


@pytest.mark.parametrize("where", ["ledger", "files"])
def test_a_run_whose_files_may_be_gone_is_said_to_be(layout: Layout, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """A collection that ends in the middle has said so of the run before, or has taken nothing of it."""
    run, outputs = ran(layout, b"mine")
    remove(layout, run)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        place, name = (ledger, "append") if where == "ledger" else (shutil, "rmtree")
        patch.setattr(place, name, Mock(side_effect=KeyboardInterrupt))
        collect.sweep(layout, now_s=later())
    said = [line.data["runs"] for line in ledger.read(layout) if line.kind == events.COLLECTED]
    assert (said, there(layout)) == (([], set(outputs)) if where == "ledger" else ([[run]], set()))
    collect.mend(layout)
    assert there(layout) == set(outputs)


def test_a_full_disk_does_not_stop_what_frees_it(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger takes no line: what is not needed goes all the same, and then it is said."""
    run, _ = ran(layout, b"mine")
    remove(layout, run)
    append, full = ledger.append, iter([True])

    def once(*given: Any, **named: Any) -> ledger.Line:
        if next(full, False):
            try:
                raise OSError(errno.ENOSPC, "full")
            except OSError as error:
                raise files.cannot_write(layout.ledger, error) from error
        return append(*given, **named)

    monkeypatch.setattr(ledger, "append", once)
    assert collect.sweep(layout, now_s=later()).runs == (run,) and there(layout) == set()
    assert ledger.read(layout)[-1].data["runs"] == [run]


def test_a_removed_run_names_no_folder_but_its_own(layout: Layout) -> None:
    """An id that leads out of the logs, as a store that was fetched may say, takes nothing with it."""
    (layout.root / "mine").mkdir()
    for run in ("../../mine", "..", str(layout.root / "mine"), ""):
        remove(layout, run)
    assert collect.sweep(layout, now_s=later()).items == () and (layout.root / "mine").exists()


def test_a_run_taken_back_before_is_whole(layout: Layout) -> None:
    """A removal that was taken back removes nothing."""
    run, _ = ran(layout, b"mine", kept=True)
    remove(layout, run)
    assert len(collect.survey(layout, now_s=later()).items) == 2
    ledger.append(layout, events.DELETION, run, "kept")
    assert collect.sweep(layout, now_s=later()).items == ()


def test_beside_a_writer_results_it_may_use_stay(layout: Layout) -> None:
    """While a process holds a journal, results of removed runs and all that is newer than its journal are left."""
    gone, outputs = ran(layout, b"mine", kept=True)
    remove(layout, gone)
    journal = Journal.open(layout.journal)
    orphan = objects.put_bytes(layout, b"orphan")
    begun = ran(layout, b"new", journal=journal)[1]
    assert collect.sweep(layout, now_s=later()).waiting and there(layout) == {orphan, *outputs, *begun}
    journal.close()
    assert not collect.sweep(layout, now_s=later()).waiting and there(layout) == set(begun)


def test_what_is_kept_once_more_is_young_again(layout: Layout) -> None:
    """A content that is there already is not written twice, but somebody is about to name it: it is left for a day."""
    hash = objects.put_bytes(layout, b"abc")
    home = objects.path(layout, hash)
    long_ago = time.time() - 10 * 24 * 3600
    os.utime(home, (long_ago, long_ago))
    inode = home.stat().st_ino
    assert objects.put_bytes(layout, b"abc") == hash
    assert home.stat().st_ino == inode and time.time() - home.stat().st_mtime < 60


def test_what_is_named_while_it_is_set_aside_comes_back(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the removal a run may name an object: it is asked again, and put back."""
    hash, other = objects.put_bytes(layout, b"late"), objects.put_bytes(layout, b"never")
    asked = reachable.needs

    def naming(layout: Layout, present: object, **more: float) -> reachable.Needs:
        if not there(layout):  # everything is aside by now
            journal = Journal.open(layout.journal)
            journal.state(events.ARTIFACT, run=new_id(), path="a", object=hash, bytes=4)
            journal.close()
        return asked(layout, present, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(reachable, "needs", naming)
    done = collect.sweep(layout, now_s=later())
    assert there(layout) == {hash} and [item.path.name for item in done.items] == [other]


def test_a_collection_that_was_killed_loses_nothing(layout: Layout) -> None:
    """What it had set aside goes back first; then it is asked again what needs it."""
    hash, other = objects.put_bytes(layout, b"needed"), objects.put_bytes(layout, b"orphan")
    aside = layout.tmp / "gc.0123"
    aside.mkdir()
    for name in (hash, other):
        objects.path(layout, name).rename(aside / name)
    ledger.append_version(layout, lambda number: version(bundle={"m": hash}))
    with lock.hold(layout.state / "gc.lock"):
        collect.mend(layout)
        assert there(layout) == set(), "a collection that works is left alone"
    collect.mend(layout)
    assert there(layout) == {hash, other}
    aside.mkdir()
    objects.path(layout, hash).rename(aside / hash)
    collect.sweep(layout, now_s=later())
    assert there(layout) == {hash} and objects.get(layout, hash) == b"needed" and not aside.exists()


def test_a_journal_that_cannot_be_read_stops_it(layout: Layout, store: Store) -> None:
    """Nobody knows what a damaged journal needs, so nothing goes."""
    ran(layout, b"output")
    objects.put_bytes(layout, b"orphan")
    projection.fold(store)
    (path,) = layout.done.glob("*.state.jsonl.zst")
    path.write_bytes(path.read_bytes()[:-8] + b"12345678")
    with pytest.raises(IntegrityError):
        collect.sweep(layout, now_s=later())
    assert len(there(layout)) == 2


def test_lines_of_kinds_that_are_not_known_keep_what_they_name(layout: Layout) -> None:
    """A journal line that a later version added, a torn one, and a file of a new kind keep their objects."""
    first, second, third = (objects.put_bytes(layout, name) for name in (b"1", b"2", b"3"))
    journal = Journal.open(layout.journal)
    journal.state("picture", run=new_id(), of={"deep": [first]})
    journal.close()
    with (layout.journal / f"{journal.id}.state.jsonl").open("a") as file:
        file.write(f'{{"k":"artifact","object":"{second}"')
    (layout.state / "news").mkdir()
    (layout.state / "news" / "x.json").write_text(json.dumps({"x": third}))
    assert collect.survey(layout, now_s=later()).items == ()


@settings(max_examples=10)
@given(data=some.data())
def test_exactly_the_unneeded_goes(data: some.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """For any runs over a few contents and any removals, what is left is what the runs that are left name."""
    layout = Layout(tmp_path_factory.mktemp("store"))
    layouts.create(layout)
    contents = [str(number).encode() for number in range(6)]
    hashes = [objects.put_bytes(layout, content) for content in contents]
    runs = [
        (ran(layout, *(contents[place] for place in places), kept=cached)[0], places)
        for places, cached in data.draw(
            some.lists(some.tuples(some.sets(some.integers(0, 5), max_size=3), some.booleans()), max_size=4)
        )
    ]
    gone = data.draw(some.sets(some.sampled_from([run for run, _ in runs]))) if runs else set()
    for run in gone:
        remove(layout, run)
    collect.sweep(layout, now_s=later())
    assert there(layout) == {hashes[place] for run, places in runs if run not in gone for place in places}


def test_copies_that_nobody_reads_go(layout: Layout) -> None:
    """Files of old snapshots made to be read go after a week without use, figures of a content with its last snapshot."""
    kept, gone = "a" * 64, "b" * 64
    named = Snapshot("s", "d", (FileEntry("x.csv", kept, 1, 1),), 1, 1, kept="reference")
    journal = Journal.open(layout.journal)
    journal.state(events.SNAPSHOT, run="", snapshot=cache.snapshot_to_json(named))
    journal.close()
    for hash in (kept, gone):
        cache.save_sketches(layout, f"{hash}-1-1.0", {"n": 1})
        for folder in ("rows", "contents"):
            (layout.cache / folder).mkdir(exist_ok=True)
            (layout.cache / folder / f"{hash}-x").write_bytes(b"12345")
    assert collect.survey(layout).items == ()
    (found,) = collect.sweep(layout, now_s=later()).items
    assert found.path.name.startswith(gone) and cache.sketches(layout, f"{kept}-1-1.0") == {"n": 1}
    swept = collect.sweep(layout, now_s=time.time() + collect.UNUSED_S + 60)
    assert swept.bytes == 4 * 5 and {item.kind for item in swept.items} == {"cache"}
    assert cache.sketches(layout, f"{kept}-1-1.0") == {"n": 1}


def test_what_spared_work_with_a_source_goes_after_it(layout: Layout) -> None:
    """A week after a source is declared no more; never while it is, nor while it is not known which are."""
    for source in ("here", "here.1", "gone", "gone.2", "x" * 300):
        cache.save_group(layout, source, 12, "of", {"n": 1})
        cache.save_pull(layout, source, {"n": 1})
        cache.save_pictures(layout, source, {"n": 1})
    sources, week = ("here", "here.1", "x" * 300), time.time() + collect.UNUSED_S + 60
    assert collect.survey(layout, now_s=later(), sources=sources).items == ()
    assert collect.survey(layout, now_s=week).items == ()
    swept = collect.sweep(layout, now_s=week, sources=sources)
    assert {item.why for item in swept.items} == {"of sources that are declared no more"}
    assert sorted(item.path.name for item in swept.items if item.path.parent.name == "groups") == [
        "gone.12.json",
        "gone.2.12.json",
    ]
    for source in ("here", "here.1", "gone", "gone.2", "x" * 300):
        there = source not in ("gone", "gone.2")
        assert (cache.group(layout, source, 12, "of") is not None) == there
        assert bool(cache.pull(layout, source)) == bool(cache.pictures(layout, source)) == there
