"""Checking and repairing a store."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlops_local.domain import events
from mlops_local.domain.assets import FileEntry, ModelVersion, Snapshot
from mlops_local.domain.errors import IntegrityError, MlopsError
from mlops_local.services import database, doctor, leases
from mlops_local.services import project as projects
from mlops_local.services.project import Project
from mlops_local.store import (
    archive,
    cache,
    history,
    journal,
    ledger,
    lock,
    lockfile,
    objects,
    packfiles,
    packing,
    packs,
    projection,
)
from mlops_local.store.finding import Finding
from mlops_local.store.journal import Journal
from mlops_local.store.layout import Layout


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project with a run, a snapshot and a champion."""
    (tmp_path / "mlops.toml").write_text("[project]\nname = 'p'\n")
    (tmp_path / "data.csv").write_bytes(b"a\n1\n")
    made = projects.find(tmp_path, wait_s=20)
    layout = made.layout
    run = journal.new_id()
    writer = Journal.open(layout.journal)
    writer.state(events.RUN_STARTED, run=run, name="r", kind="train")
    with packing.writer(layout) as packed:
        data = packed.add(tmp_path / "data.csv").hash
        packed.commit()
    snapshot = Snapshot("s1", "rows", (FileEntry("data.csv", data, 4, 1),), rows=1, bytes=4)
    writer.state(events.SNAPSHOT, run=run, snapshot=asdict(snapshot))
    for step in range(10):
        writer.metric(run, "loss", float(step), step)
    writer.state(events.RUN_ENDED, run=run, state="done", error="", seconds=1.0)
    writer.close()
    version = ModelVersion(
        id="",
        model="delay",
        number=0,
        candidate="gbm",
        run=run,
        fingerprint="f",
        bundle={"model.onnx": objects.put_bytes(layout, b"model")},
        bundle_hash="b",
        predictions="",
        evaluation="e",
        metric="auc",
        value=0.7,
    )
    ledger.append_version(layout, lambda number: version)
    ledger.append(layout, events.ALIAS, "delay@champion", "delay@1", reason="first")
    projection.fold(made.store)
    yield made
    made.store.close()


def tables(project: Project) -> dict[str, list[tuple[Any, ...]]]:
    """What a few views say."""
    with project.store.reader() as db:
        return {
            view: sorted(db.execute(f"FROM {view}").fetchall(), key=repr) for view in ("run", "metric", "alias", "decision")
        }


def texts(findings: list[Finding]) -> list[tuple[str, bool]]:
    """Kind and whether it is mended."""
    return [(finding.kind, finding.fixed) for finding in findings]


def test_a_sound_store_has_no_findings(project: Project) -> None:
    """Nothing is wrong, and looking changes nothing."""
    before = tables(project)
    assert doctor.doctor(project, deep=True) == [] == doctor.doctor(project, fix=True, deep=True)
    assert tables(project) == before


def test_a_database_that_does_not_open_is_made_anew(project: Project) -> None:
    """First it is said, then with --fix everything is back as it was."""
    before = tables(project)
    project.store.close()
    project.layout.database.write_bytes(b"no database" * 999)
    (found,) = doctor.doctor(project)
    assert found.kind == "database" and not found.fixed and "does not open" in found.text
    assert texts(doctor.doctor(project, fix=True)) == [("database", True)]
    assert tables(project) == before and doctor.doctor(project) == []


def test_a_torn_last_decision_is_cut(project: Project) -> None:
    """What a killed process left half written was never decided."""
    with project.layout.ledger.open("ab") as file:
        file.write(b'{"seq": 3, "prev"')
    assert texts(doctor.doctor(project)) == [("ledger", False)]
    assert texts(doctor.doctor(project, fix=True)) == [("ledger", True)]
    assert project.layout.ledger.read_bytes().endswith(b"}\n") and len(ledger.read(project.layout)) == 2


def test_decisions_cut_off_the_ledger_are_put_back_from_the_database(project: Project) -> None:
    """The file is byte for byte what it was; without --fix nothing is touched."""
    before = project.layout.ledger.read_bytes()
    project.layout.ledger.write_bytes(before.splitlines(keepends=True)[0])
    assert texts(doctor.doctor(project)) == [("ledger", False)]
    assert texts(doctor.doctor(project, fix=True)) == [("ledger", True)]
    assert project.layout.ledger.read_bytes() == before and doctor.doctor(project) == []


def test_decisions_made_after_a_cut_count_and_the_lost_ones_are_kept_aside(project: Project) -> None:
    """Nobody can tell which should hold, so the ledger's do, and the others can still be read."""
    lines = project.layout.ledger.read_bytes().splitlines(keepends=True)
    project.layout.ledger.write_bytes(lines[0])
    ledger.append(project.layout, events.ALIAS, "delay@challenger", "delay@1")
    (found,) = doctor.doctor(project, fix=True)
    assert found.fixed and "others were made since" in found.text
    (aside,) = project.layout.journal.glob("lost-decisions.*.jsonl")
    assert json.loads(aside.read_text())["subject"] == "delay@champion"
    assert [row[0] for row in tables(project)["alias"]] == ["delay@challenger"]
    assert doctor.doctor(project) == []


def test_a_changed_decision_cannot_be_mended(project: Project) -> None:
    """Tampering is said and stays open: only a backup helps."""
    text = project.layout.ledger.read_text()
    project.layout.ledger.write_text(text.replace('"reason":"first"', '"reason":"other"'))
    found = doctor.doctor(project, fix=True)
    assert texts(found) == [("ledger", False)] and "line 2 was altered" in found[0].text


@pytest.mark.parametrize("kind", ["state", "metric"])
def test_damaged_journal_lines_are_taken_out_and_the_run_stays_incomplete(project: Project, kind: str) -> None:
    """The rest of the journal is kept; before, after and in a rebuild the tables are the same."""
    (path,) = project.layout.done.glob(f"*.{kind}.*")
    data = archive.unpack(path)
    lines = data.splitlines(keepends=True)
    archive.put(project.layout, [(path.stem, b"".join([lines[0], b"\x00\x00 torn\n", *lines[1:]]))])
    database.rebuild(project)
    (found,) = doctor.doctor(project)
    assert found.kind == "journal" and "1 damaged lines" in found.text and not found.fixed
    assert texts(doctor.doctor(project, fix=True)) == [("journal", True)]
    assert doctor.doctor(project) == []
    mended = tables(project)
    with project.store.reader() as db:
        assert [run.incomplete for run in history.runs(db)] == [True]
    database.rebuild(project)
    assert tables(project) == mended and len(mended["metric"]) == 10
    assert [line for line in lines if line not in archive.unpack(path)] == []


def test_a_damaged_put_away_journal_is_said(project: Project) -> None:
    """One flipped byte in done/: the database still has the lines, a rebuild would not."""
    (path,) = project.layout.done.glob("*.metric.*")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    archive.unpack.cache_clear()
    (found,) = doctor.doctor(project, fix=True)
    assert found.kind == "journal" and "the database still has them" in found.text and not found.fixed


def test_altered_data_are_named_and_kept_again_from_the_project(project: Project) -> None:
    """The snapshots that need them are named; the file still lies in the project with that content, so nothing is lost."""
    (hash,) = packs.every(project.layout)
    (pack,) = packfiles.names(project.layout)
    home = packfiles.data(project.layout, pack)
    home.write_bytes(home.read_bytes().replace(b"a\n1\n", b"a\n2\n"))
    (found,) = doctor.doctor(project, deep=True)
    assert not found.fixed and "is not what was written: data data.csv of rows s1" in found.text
    assert texts(doctor.doctor(project, fix=True, deep=True)) == [("object", True)]
    assert packs.verify(project.layout, hash) and doctor.doctor(project, deep=True) == []


def test_a_missing_model_file_names_its_version_and_stays_open(project: Project) -> None:
    """It cannot be invented; the person reads which version cannot be served and what to do."""
    hash = next(hash for hash in objects.every(project.layout) if objects.get(project.layout, hash) == b"model")
    objects.path(project.layout, hash).unlink()
    (found,) = doctor.doctor(project, fix=True)
    assert not found.fixed and "version delay@1 model.onnx" in found.text and "cannot be served" in found.remedy


def test_a_data_object_whose_file_changed_stays_open(project: Project) -> None:
    """The project's file is something else by now: it is not put in the old one's place."""
    (hash,) = packs.every(project.layout)
    for path in project.layout.packs.iterdir():
        path.unlink()
    (project.root / "data.csv").write_bytes(b"a\n9\n")
    (found,) = doctor.doctor(project, fix=True)
    assert not found.fixed and "data data.csv" in found.text and not packs.contains(project.layout, hash)


@pytest.mark.parametrize("resumed", [False, True])
def test_a_run_whose_journal_vanished_is_ended(project: Project, resumed: bool) -> None:
    """Nobody will ever say how it ended; with --fix it counts as crashed, also when it had ended before it was resumed."""
    run = journal.new_id()
    if resumed:
        with closing(Journal.open(project.layout.journal)) as first:
            first.state(events.RUN_STARTED, run=run, name="lost", kind="script")
            first.state(events.RUN_ENDED, run=run, state="failed", error="", seconds=1.0)
    writer = Journal.open(project.layout.journal)
    begun = {"pid": 1, "host": "h"} if resumed else {"name": "lost", "kind": "train"}
    writer.state(events.RUN_RESUMED if resumed else events.RUN_STARTED, run=run, **begun)
    projection.fold(project.store)
    for path in project.layout.journal.glob(f"{writer.id}.*"):
        path.unlink()
    writer.close()
    (found,) = doctor.doctor(project)
    assert found.kind == "run" and "lost (" in found.text
    assert texts(doctor.doctor(project, fix=True)) == [("run", True)]
    with project.store.reader() as db:
        ended = history.run(db, run)
    assert ended is not None and ended.state.value == "crashed" and doctor.doctor(project) == []


def test_old_drafts_are_removed_and_young_ones_left(project: Project) -> None:
    """What a killed process left a day ago goes; what may be in the making stays."""
    layout: Layout = project.layout
    for name, age in (("object.old", 2 * 86400), ("object.new", 10)):
        path = layout.tmp / name
        path.write_bytes(b"x")
        os.utime(path, (path.stat().st_atime - age, path.stat().st_mtime - age))
    assert doctor.doctor(project) == []
    assert texts(doctor.doctor(project, fix=True)) == [("draft", True)]
    assert [path.name for path in layout.tmp.iterdir() if path.name.startswith("object")] == ["object.new"]


def test_rebuild_brings_back_tables_and_cache(project: Project) -> None:
    """`mlops db rebuild`: the same answers, and the newest snapshot is known again."""
    before = tables(project)
    for path in project.layout.cache.rglob("*.json"):
        path.unlink()
    assert database.rebuild(project) > 10
    assert tables(project) == before
    snapshot = cache.snapshot(project.layout, "rows")
    assert snapshot is not None and snapshot.id == "s1"


def test_claims_of_killed_trains_are_said_and_taken_away(project: Project) -> None:
    """A lease whose holder is gone is a finding and goes with --fix; the next train sweeps them too. One that is held stays."""
    folder = project.layout.leases
    folder.mkdir()
    held, left = folder / "held", folder / "left"
    with lock.hold(held, passing=True):
        left.write_text("train gbm (pid 1, since 10:00:00 UTC)\n")
        (found,) = doctor.doctor(project)
        assert (found.kind, found.text) == ("lease", "1 result was being made by a train that was killed")
        (found,) = doctor.doctor(project, fix=True)
        assert found.fixed and held.exists() and not left.exists()
        left.write_text("train gbm (pid 1, since 10:00:00 UTC)\n")
        leases.sweep(project.layout)
        assert held.exists() and not left.exists()
    assert doctor.doctor(project) == []


def test_a_rebuild_drops_nothing_while_a_put_away_journal_is_damaged(project: Project) -> None:
    """The database is all that still has its lines; only when that does not open either, the journal is set aside."""
    before = tables(project)
    (path,) = project.layout.done.glob("*.metric.*")
    path.write_bytes(path.read_bytes()[:-9])
    archive.unpack.cache_clear()
    with pytest.raises(IntegrityError, match="is damaged"):
        database.rebuild(project)
    assert tables(project) == before
    project.store.close()
    project.layout.database.write_bytes(b"no database" * 999)
    found = doctor.doctor(project, fix=True)
    assert texts(found) == [("journal", True), ("database", True)] and "its runs are lost" in found[0].text
    assert tables(project) == {**before, "metric": []} and doctor.doctor(project) == []
    assert (project.layout.tmp / f"altered.{path.name}").exists()


def test_a_rebuild_drops_nothing_where_there_is_no_room(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk there would be no database at all until somebody made room."""
    before = tables(project)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
        with pytest.raises(
            MlopsError, match=r"no room to make project\.duckdb anew: it takes about .* MB, and 0\.0 MB are free"
        ):
            database.rebuild(project)
    assert tables(project) == before


def test_what_the_store_stands_on_is_said(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that others can read, strange files, no room, a clock put back: each with what to do; no integrity fault."""
    layout = project.layout
    layout.config.chmod(0o644)
    (layout.journal / "notes.txt").write_text("mine")
    (layout.done / "copy of x.zst").write_bytes(b"")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5_000_000))
    writer = Journal.open(layout.journal)
    monkeypatch.setattr(journal, "now_us", lambda: 4_000_000_000_000_000)
    writer.state(events.RUN_STARTED, run=journal.new_id(), name="r", kind="train")
    writer.state(events.RUN_ENDED, run="r", state="done", error="", seconds=1.0)
    writer.close()
    found = doctor.doctor(project)
    assert [finding.kind for finding in found] == ["permission", "space", "file", "file", "clock"]
    assert all(finding.remedy for finding in found) and not any(finding.integrity for finding in found)
    assert "5 MB are free" in found[1].text and "notes.txt" in found[2].text and "in the future" in found[4].text
    assert doctor.doctor(project, fix=True)[0].fixed and layout.config.stat().st_mode & 0o777 == 0o600


def test_what_the_lock_file_names_and_is_not_here_is_said(project: Project) -> None:
    """A clone that did not pull: the snapshot and the champion that are missing, and how to get them; a torn file too.

    A champion is what it is made of: its number may be another in this store, and the same number another version.
    """
    entry = lockfile.ModelEntry("delay@1", "of another", "e", "auc", 0.7, "b")
    there = lockfile.ModelEntry("delay@7", "f", "e", "auc", 0.7, "b")
    sources = {"rows": lockfile.SourceEntry("s1", 1, 4), "gone": lockfile.SourceEntry("abcdef0123456", 1, 4)}
    lockfile.write(project.layout, lockfile.LockFile(sources, {"delay": entry, "kept": there}))
    first, second = doctor.doctor(project)
    assert first.text == "mlops.lock names snapshot abcdef01 of gone, not in this store" and "mlops pull" in first.remedy
    assert second.text == "mlops.lock names delay@1 as champion of delay, not in this store"
    project.layout.lockfile.write_text("source rows\n")
    (found,) = doctor.doctor(project)
    assert found.kind == "lock" and found.remedy


def test_each_problem_of_a_project_file_is_said_once(project: Project) -> None:
    """The first is in the error and among its problems."""
    (project.root / "mlops.toml").write_text("[serve]\nprot = 1\nhots = 2\n")
    opened, (found,) = doctor.find(project.root)
    assert found.text.count("prot") == found.text.count("hots") == 1
    opened.store.close()


def test_a_broken_project_file_is_a_finding_and_the_rest_is_checked(project: Project) -> None:
    """mlops.toml that is no TOML: said with its line, and the store is looked at all the same."""
    (project.root / "mlops.toml").write_text("[project\n")
    opened, (found,) = doctor.find(project.root)
    assert found.kind == "config" and "not valid TOML" in found.text and found.remedy
    assert doctor.doctor(opened) == []
    opened.store.close()
