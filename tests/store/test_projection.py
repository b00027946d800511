"""Folding journals and ledger into tables."""

from __future__ import annotations

import errno
import json
import math
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_local.domain import events
from mlops_local.domain.assets import GateResult, ModelVersion, Verdict
from mlops_local.domain.errors import IntegrityError, NewerStore
from mlops_local.domain.plan import Output, StepResult, result_to_json
from mlops_local.store import archive, cache, files, folding, history, journal, ledger, objects, projection, search
from mlops_local.store import layout as layouts
from mlops_local.store.database import Store
from mlops_local.store.journal import Journal
from mlops_local.store.layout import Layout
from mlops_local.store.views import VIEWS
from tests.store.test_cache import SNAPSHOT

Views = dict[str, list[tuple[Any, ...]]]


def views(store: Store) -> Views:
    """Everything anybody can see, in a fixed order."""
    with store.reader() as db:
        found = {view: db.execute(f"SELECT * FROM {view}").fetchall() for view in [*VIEWS, "evaluation"]}
    plain = {view: [tuple("NaN" if item != item else item for item in row) for row in rows] for view, rows in found.items()}
    return {view: sorted(rows, key=repr) for view, rows in plain.items()}


def train(layout: Layout, *, ends: bool = True, points: int = 30) -> str:
    """One run that uses every kind of line."""
    writer = Journal.open(layout.journal)
    run = journal.new_id()
    writer.state(
        events.RUN_STARTED,
        run=run,
        name="calm-otter",
        kind="train",
        targets=["gbm"],
        argv=["mlops", "train"],
        message="m",
        commit="c0ffee",
        dirty=True,
        diff="",
        env={"LANG": "C"},
        python="3.11",
        host="h",
        pid=7,
    )
    writer.state(events.SNAPSHOT, run=run, snapshot=cache.snapshot_to_json(SNAPSHOT))
    writer.state(events.PARAMS, run=run, values={"gbm.lr": 0.1, "gbm.booster": "dart", "gbm.layers": [1, 2]})
    writer.state(events.PARAMS, run=run, values={"gbm.lr": 0.2})
    writer.state(events.STEP_STARTED, run=run, step="split", reason="never run", fingerprint="f1")
    hash = objects.put_bytes(layout, b"output")
    result = StepResult("split", "f1", (Output("train", "parquet", "l", {"t.parquet": hash}, 6, 3),), run, 2.0, 1.5, 1000)
    writer.state(events.STEP_ENDED, run=run, step="split", state="done", result=result_to_json(result))
    writer.state(events.STEP_STARTED, run=run, step="gbm", reason="code changed", fingerprint="f2")
    for step in range(points):
        writer.metric(run, "loss", 1.0 / (step + 1), step)
    writer.metric(run, "odd", math.nan)
    writer.state(events.SUMMARY, run=run, values={"auc": 0.7}, low={"auc": 0.6}, high={"auc": 0.8})
    writer.state(events.ARTIFACT, run=run, path="plot.png", object=hash, bytes=6)
    writer.state(events.TAG, run=run, key="team", value="a")
    writer.state(events.TAG, run=run, key="team", value="b")
    writer.state(events.NOTE, run=run, text="remember")
    writer.state(events.EVENT, source="watch", text="edited", data={"file": "pipeline.py"})
    if ends:
        writer.state(events.RUN_ENDED, run=run, state="done", error="", seconds=3.5)
    writer.close()
    return run


def decide(layout: Layout, run: str) -> ModelVersion:
    """A version with predictions, a verdict, an alias and a deployment."""
    frame = pl.DataFrame({"row": ["r1", "r2"], "label": [0, 1], "prediction": [0.25, 0.75], "carrier": ["UA", "AA"]})
    path = layout.tmp / "p.parquet"
    frame.write_parquet(path)
    predictions = objects.put_file(layout, path)
    path.unlink()
    made = ledger.append_version(
        layout,
        lambda number: ModelVersion(
            id="",
            model="delay",
            number=number,
            candidate="gbm",
            run=run,
            fingerprint=f"f{run}",
            bundle={"manifest.json": "a"},
            bundle_hash="b",
            predictions=predictions,
            evaluation="e",
            metric="auc",
            value=0.7,
            low=math.nan,
            metrics={"auc": 0.7},
            snapshots={"flights": "s1"},
        ),
    )
    verdict = Verdict(made.id, "", "pass", (GateResult("auc", "max_drop 0.005", "pass", 0.7, rows=2, note="first version"),))
    ledger.append(layout, events.VERDICT, made.id, "pass", data=asdict(verdict))
    ledger.append(layout, events.ALIAS, "delay@champion", made.id, reason="first")
    ledger.append(layout, events.DEPLOYMENT, "delay", made.id, data={"event": "deployed", "port": 8501, "pid": 9})
    return made


def test_every_kind_of_line_reaches_its_view(layout: Layout, store: Store) -> None:
    """A run in full, read back as domain values."""
    run = train(layout)
    projection.fold(store)
    with store.reader() as db:
        (found,) = history.runs(db)
        assert (found.id, found.name, found.kind, found.state.value) == (run, "calm-otter", "train", "done")
        assert (found.message, found.commit, found.dirty, found.incomplete, found.seconds) == ("m", "c0ffee", True, False, 3.5)
        assert found.params == {"gbm.lr": 0.2, "gbm.booster": "dart", "gbm.layers": [1, 2]} == history.params(db, run)
        assert found.metrics["auc"] == 0.7 and found.metrics["loss"] == 1 / 30 and math.isnan(found.metrics["odd"])
        assert found.targets == ("gbm",) and found.started.endswith("Z") and found.ended > found.started
        steps = {step.name: step for step in history.step_runs(db, run)}
        assert (steps["split"].state, steps["split"].seconds, steps["split"].peak_bytes) == ("done", 2.0, 1000)
        assert (steps["gbm"].state, steps["gbm"].reason, steps["gbm"].fingerprint) == ("done", "code changed", "f2")
        assert history.step_results(db, run)["split"].outputs[0].rows == 3
        assert history.snapshots(db, "flights") == [SNAPSHOT] == history.snapshots(db)
        assert history.run_snapshots(db, run) == {"flights": "s1"}
        assert history.tags(db, run) == {"team": "b"} and [text for _, text in history.notes(db, run)] == ["remember"]
        assert history.intervals(db, run) == {"auc": (0.6, 0.8)} and history.seconds(db) == {"split": 2.0}
        assert [path for path, *_ in history.artifacts(db, run)] == ["plot.png"]
        assert [event[1:] for event in history.events(db)] == [("watch", "edited", {"file": "pipeline.py"})]
        environment = history.environment(db, run)
        assert environment["argv"] == ["mlops", "train"] and environment["env"] == {"LANG": "C"} and environment["pid"] == 7
        assert history.run(db, "0" * 32) is None and history.count_runs(db, "run.name = ?", ["calm-otter"]) == 1


def test_decisions_reach_their_views(layout: Layout, store: Store) -> None:
    """Version, alias, model, verdict, deployment, lineage, and the predictions row by row with their keys."""
    run = train(layout)
    made = decide(layout, run)
    projection.fold(store)
    seen = views(store)
    assert [row[:6] for row in seen["version"]] == [("delay@1", "delay", 1, "gbm", run, "new")]
    assert [row[:4] for row in seen["alias"]] == [("delay@champion", "delay", "champion", "delay@1")]
    assert [row[:4] for row in seen["model"]] == [("delay", "delay@1", 1, "delay@1")]
    assert [row[4] for row in seen["gate_result"]] == ["pass"]
    assert [row[:4] for row in seen["deployment"]] == [("delay", "delay@1", "deployed", 8501)]
    links = {(kind, source) for kind, _, source, *_ in seen["lineage"]}
    assert {("run", "snapshot"), ("version", "run"), ("version", "snapshot"), ("object", "run")} <= links
    assert seen["evaluation"] == [
        ("delay@1", "r1", 0.0, 0.25, '{"carrier":"UA"}'),
        ("delay@1", "r2", 1.0, 0.75, '{"carrier":"AA"}'),
    ]
    objects.path(layout, made.predictions).unlink()
    ledger.append(layout, events.STATE, made.id, "approved")
    projection.fold(store)
    assert views(store)["version"][0][5] == "approved"


@pytest.mark.parametrize("altered", [b"", b"no parquet", b"PAR1" + b"x" * 50 + (20).to_bytes(4, "little") + b"PAR1"])
def test_predictions_that_were_altered_do_not_stop_the_fold(layout: Layout, store: Store, altered: bytes) -> None:
    """They are left out of the view `evaluation`; every other row of every view is there."""
    made = decide(layout, train(layout))
    home = objects.path(layout, made.predictions)
    home.chmod(0o600)
    home.write_bytes(altered)
    projection.fold(store)
    seen = views(store)
    assert [row[0] for row in seen["version"]] == ["delay@1"] and seen["evaluation"] == []


def test_dropping_the_database_and_rebuilding_gives_the_same(layout: Layout, store: Store) -> None:
    """Also for runs still going, crashed and decided; and the cache comes back with it."""
    done, crashed = train(layout), train(layout, ends=False)
    decide(layout, done)
    projection.fold(store)
    going = Journal.open(layout.journal)
    going.state(events.RUN_STARTED, run=journal.new_id(), name="going", kind="script")
    going.metric("x" * 32, "loss", 1.0, 1)
    going.flush()
    projection.fold(store)
    before = views(store)
    assert {row[3] for row in before["run"]} == {"done", "crashed", "running"} and len(before["run"]) == 3
    for path in layout.cache.rglob("*.json"):
        path.unlink()
    assert projection.rebuild(store) > 0
    assert views(store) == before
    assert cache.snapshot(layout, "flights") == SNAPSHOT
    kept = cache.step_result(layout, "f1")
    assert kept is not None and kept.run == crashed
    going.close()
    layout.database.unlink()
    projection.fold(store)  # somebody removed the file by hand: the next fold sees to it
    after = views(store)
    assert after["metric"] == before["metric"] and after["version"] == before["version"]
    assert {row[3] for row in after["run"]} == {"done", "crashed"}


def test_a_database_that_was_removed_is_filled_to_its_end(
    layout: Layout, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look that ended early, at a file that may have the inode of the one before, does not pass for all there is."""
    monkeypatch.setattr(folding, "REBUILD_ROWS", 5)
    for _ in range(3):
        train(layout)
    projection.fold(store)
    before = views(store)
    store.close()
    layout.database.unlink()
    projection.fold(store, budget_s=0.0)
    assert not layout.folded.exists()
    projection.fold(store)
    assert views(store) == before


def test_a_disk_that_takes_nothing_more_hides_nothing(layout: Layout, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the database is answered though nothing can be put away or remembered; later it is."""
    train(layout)

    put = files.replace

    def full(path: Path, *given: Any, **named: Any) -> None:
        if layout.cache in path.parents or layout.done in path.parents:
            try:
                raise OSError(errno.ENOSPC, "full")
            except OSError as error:
                raise files.cannot_write(path, error) from error
        put(path, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(files, "replace", full)
        assert projection.fold(store) > 30 and projection.fold(store) == 0
        assert len(views(store)["metric"]) == 31
    before = views(store)
    projection.fold(store)
    assert views(store) == before and not list(layout.journal.glob("*.jsonl"))


def test_with_nothing_new_the_store_is_not_opened(layout: Layout, store: Store, start: Any) -> None:
    """A fold with nothing to do takes no lock and loads no DuckDB."""
    train(layout)
    projection.fold(store)
    process = start(
        "import sys\nfrom pathlib import Path\nfrom mlops_local.store import projection\n"
        "from mlops_local.store.database import Store\nfrom mlops_local.store.layout import Layout\n"
        "print(projection.fold(Store(Layout(Path(sys.argv[1])), wait_s=0)), 'duckdb' in sys.modules)\n"
    )
    with store.writer():
        out, err = process.communicate(timeout=60)
    assert out == "0 False\n", err


def test_a_long_backlog_is_folded_in_bounded_pieces(layout: Layout, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each transaction stays small, the sum is right, and a budget stops early and goes on later."""
    monkeypatch.setattr(folding, "REBUILD_CHUNK_BYTES", 10_000)
    monkeypatch.setattr(folding, "CHUNK_BYTES", 10_000)
    pieces: list[int] = []
    original = folding.Folder.run

    def run(self: folding.Folder) -> folding.Step:
        step = original(self)
        pieces.append(step.lines)
        return step

    monkeypatch.setattr(folding.Folder, "run", run)
    train(layout, points=2000)
    assert 0 < projection.fold(store, budget_s=0) < 2000
    projection.fold(store)
    assert len(pieces) > 10 and max(pieces) < 400
    with store.reader() as db:
        assert db.execute("SELECT count(*) FROM metric").fetchone() == (2001,)
        assert db.execute("SELECT points, value FROM metric_last WHERE key = 'loss'").fetchone() == (2000, 1 / 2000)


def test_torn_and_damaged_lines_are_stepped_over_and_counted(layout: Layout, store: Store) -> None:
    """A torn last line of a dead process is no damage; rubbish in the middle is, is noted, and marks the run incomplete."""
    run = train(layout)
    (metric,) = layout.journal.glob("*.metric.*.jsonl")
    (state,) = layout.journal.glob("*.state.jsonl")
    with metric.open("ab") as file:
        file.write(b'{"k":"m","v":1,"t":17')
    projection.fold(store)
    with store.reader() as db:
        assert db.execute("SELECT count(*) FROM store.damage").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM metric").fetchone() == (31,)
    store.close()
    for path in store.files():
        path.unlink()
    for path in layout.done.iterdir():
        data = archive.unpack(path)
        (layout.journal / path.name.removesuffix(".zst")).write_bytes(data)
        path.unlink()
    lines = metric.read_bytes().splitlines(keepends=True)
    odd = [b"rubbish\n", b"null\n", b'{"k":"m","v":1,"t":1,"n":1,"r":"r","key":"k","s":1,"x":"abc"}\n', b'{"k":"m"}\n']
    metric.write_bytes(b"".join([*lines[:3], *odd, *lines[3:]]))
    broken = b'{"k":"step_ended","v":1,"t":1,"n":1,"run":"r"}\n'
    state.write_bytes(state.read_bytes() + b"\x00\x00\n" + broken)
    projection.fold(store)
    with store.reader() as db:
        assert db.execute("SELECT count(*) FROM store.damage").fetchone() == (6,)
        assert db.execute("SELECT count(*) FROM metric").fetchone() == (31,)
        found = history.run(db, run)
        assert found is not None and found.incomplete and found.state.value == "done"


def test_a_gap_marks_the_run_incomplete(layout: Layout, store: Store) -> None:
    """Points lost to a full buffer are known to be missing."""
    run = train(layout)
    (path,) = layout.journal.glob("*.metric.*.jsonl")
    path.write_bytes(path.read_bytes() + f'{{"k":"gap","v":1,"t":1,"n":99,"r":"{run}","dropped":7}}\n'.encode())
    projection.fold(store)
    with store.reader() as db:
        found = history.run(db, run)
        assert found is not None and found.incomplete and db.execute("SELECT dropped FROM store.gap").fetchall() == [(7,)]


@pytest.mark.parametrize("kind", ["state", "metric"])
def test_lines_of_a_newer_version_are_refused_not_misread(layout: Layout, store: Store, kind: str) -> None:
    """A known kind with a higher version stops the fold with a hint; an unknown kind stays in the journal for later."""
    name = "state" if kind == "state" else "metric.000"
    line = {"k": "note" if kind == "state" else "m", "v": 2, "t": 1, "n": 0, "run": "r", "r": "r", "text": "", "key": "k"}
    path = layout.journal / f"{journal.new_id()}.{name}.jsonl"
    path.write_text(json.dumps({"k": "future", "v": 1, "t": 1, "n": 0, "r": "r"}) + "\n")
    assert projection.fold(store) == 1
    second = layout.journal / f"{journal.new_id()}.{name}.jsonl"
    second.write_text(json.dumps({**line, "s": 1, "x": 1.0}) + "\n")
    with pytest.raises(NewerStore, match="of version 2"):
        projection.fold(store)
    with store.reader() as db:
        assert db.execute("SELECT count(*) FROM store.damage").fetchone() == (0,)
    assert second.exists()


def test_a_cut_ledger_is_noticed(layout: Layout, store: Store) -> None:
    """Decisions that the database knows and the file no longer holds are an integrity error, not a quiet change of champion."""
    decide(layout, "r")
    projection.fold(store)
    lines = layout.ledger.read_bytes().splitlines(keepends=True)
    layout.ledger.write_bytes(b"".join(lines[:-2]))
    with pytest.raises(IntegrityError, match="ledger was cut or altered") as caught:
        projection.fold(store)
    assert "doctor" in caught.value.hint


def test_a_deleted_run_is_in_no_view_also_after_a_rebuild(layout: Layout, store: Store) -> None:
    """Deletion is a decision that rebuild obeys."""
    gone, kept = train(layout), train(layout)
    ledger.append(layout, events.DELETION, gone, None, reason="asked")
    projection.fold(store)
    for _ in range(2):
        for view, rows in views(store).items():
            if view not in {"lineage", "decision"}:
                assert gone not in repr(rows), view
        with store.reader() as db:
            assert [run.id for run in history.runs(db)] == [kept]
        projection.rebuild(store)


def test_a_moved_project_works(layout: Layout, store: Store, tmp_path: Path) -> None:
    """Nothing in the store names its place: after a rename all views answer, the one that reads files too."""
    decide(layout, train(layout))
    projection.fold(store)
    before = views(store)
    store.close()
    layout.root.rename(tmp_path / "else, where ' odd")
    moved = Store(Layout(tmp_path / "else, where ' odd"))
    assert projection.fold(moved) == 0
    assert views(moved) == before and len(before["evaluation"]) == 2
    assert projection.rebuild(moved) and views(moved)["evaluation"] == before["evaluation"]
    moved.close()


def test_rows_may_have_a_column_of_any_name(layout: Layout, store: Store) -> None:
    """Pictures are told apart by a column `filename`, which is also what DuckDB calls the file a row is from."""
    frame = pl.DataFrame({"row": ["r1"], "label": [0], "prediction": [0.25], "filename": ["cat.jpg"]})
    path = layout.tmp / "q.parquet"
    frame.write_parquet(path)
    made = replace(decide(layout, train(layout)), predictions=objects.put_file(layout, path), fingerprint="other")
    ledger.append_version(layout, lambda number: made)
    projection.fold(store)
    with store.reader() as db:
        found = db.execute("SELECT keys ->> 'filename' FROM evaluation WHERE version = 'delay@2'").fetchall()
    assert found == [("cat.jpg",)]


@pytest.mark.parametrize("kind", [events.PARAMS, events.SNAPSHOT])
def test_a_line_is_as_long_as_it_is(layout: Layout, store: Store, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A snapshot of a hundred thousand files is one line, as are parameters: longer than what is read at once, and whole."""
    monkeypatch.setattr(folding, "CHUNK_BYTES", 1000)
    run = journal.new_id()
    files = [{"path": f"{number}.jpg", "hash": "a" * 64, "bytes": 1} for number in range(100)]
    snapshot = {"id": "s1", "source": "photos", "rows": 0, "bytes": 1, "files": files}
    fields = {"values": {"words": "x" * 9000}} if kind == events.PARAMS else {"snapshot": snapshot}
    with closing(Journal.open(layout.journal)) as writer:
        writer.state(events.RUN_STARTED, run=run, name="n", kind="script")
        writer.state(kind, run=run, **fields)
        writer.state(events.RUN_ENDED, run=run, state="done", error="", seconds=1)
    for _ in range(2):  # from journal/, then from done/
        projection.rebuild(store)
        with store.reader() as db:
            found = history.run(db, run)
            assert found is not None and not found.incomplete and found.state.value == "done"
            held = [*found.params.values(), *(entry.path for one in history.snapshots(db) for entry in one.files)]
        assert held == ["x" * 9000] or len(held) == 100


def test_half_a_pair_stops_neither_the_fold_nor_a_filter(layout: Layout, store: Store) -> None:
    """Text that is no UTF-8, as another program's JSON or an odd path leaves it, is shown by a sign; its run is there."""
    with closing(Journal.open(layout.journal)) as writer:
        writer.state(events.RUN_STARTED, run="r", name="n\ud83d", kind="script")
        writer.state(events.PARAMS, run="r", values={"path": "a\udcff", "back": "\\ud83d", "smile": "\U0001f600"})
    projection.fold(store)
    with store.reader() as db:
        (found,) = search.runs(db, "not param.path = 'b'", sort="param.path").runs
        assert found.name == "n\ufffd" and found.params == {"path": "a\ufffd", "back": "\\ud83d", "smile": "\U0001f600"}


def test_names_that_are_not_utf8_are_kept_readable(layout: Layout, store: Store) -> None:
    """A path with stray bytes does not stop the fold."""
    writer = Journal.open(layout.journal)
    writer.state(
        events.ARTIFACT, run="r", path=b"odd\xff.png".decode(sys.getfilesystemencoding(), "surrogateescape"), object="o"
    )
    writer.metric("r", "m\udcff", 1.0)
    writer.metric("r", "fine", 1.0)
    writer.close()
    projection.fold(store)
    with store.reader() as db:
        assert db.execute("SELECT path FROM artifact").fetchone() == ("odd\ufffd.png",)
        assert {row[0] for row in db.execute("SELECT key FROM metric").fetchall()} >= {"fine"}
        assert db.execute("SELECT count(*) FROM metric").fetchone() == (2,)


LINES = st.lists(
    st.one_of(
        st.tuples(st.just("metric"), st.sampled_from("ab"), st.floats(), st.none() | st.integers(-5, 5)),
        st.tuples(st.just("params"), st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=2)),
        st.tuples(st.just("note"), st.text(max_size=5)),
        st.tuples(st.just("fold")),
        st.tuples(st.just("end")),
    ),
    max_size=15,
)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for the many stores of a property test."""
    yield tmp_path_factory.mktemp("stores")


@settings(max_examples=8, deadline=None)
@given(LINES)
def test_folding_twice_is_folding_once_and_when_does_not_matter(many: Path, script: list[tuple[Any, ...]]) -> None:
    """However a process logs and whenever somebody folds: a second fold changes nothing, and a rebuild gives the same."""
    layout = Layout(many / journal.new_id())
    layout.root.mkdir()
    layouts.create(layout)
    store = Store(layout)
    writer = Journal.open(layout.journal)
    run = journal.new_id()
    writer.state(events.RUN_STARTED, run=run, name="n", kind="script")
    logged = 0
    for action, *values in script:
        match action:
            case "metric":
                writer.metric(run, *values)
                logged += 1
            case "params":
                writer.state(events.PARAMS, run=run, values=values[0])
            case "note":
                writer.state(events.NOTE, run=run, text=values[0])
            case "end":
                writer.state(events.RUN_ENDED, run=run, state="done", error="", seconds=1.0)
            case _:
                writer.flush()
                projection.fold(store)
    writer.close()
    projection.fold(store)
    once = views(store)
    assert len(once["metric"]) == logged and len(once["run"]) == 1
    layout.folded.unlink()
    assert projection.fold(store) == 0
    assert views(store) == once
    projection.rebuild(store)
    assert views(store) == once
    store.close()
