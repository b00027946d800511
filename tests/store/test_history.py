"""Reading runs back."""

from __future__ import annotations

import math

import pytest

from mlops_local.domain import events
from mlops_local.store import history, journal, projection
from mlops_local.store.database import Store
from mlops_local.store.journal import Journal
from mlops_local.store.layout import Layout


def _runs(layout: Layout, number: int) -> list[str]:
    writer = Journal.open(layout.journal)
    made = []
    for place in range(number):
        run = journal.new_id()
        writer.state(events.RUN_STARTED, run=run, name=f"run-{place}", kind="train" if place % 2 else "script")
        writer.state(events.PARAMS, run=run, values={"lr": place / 10})
        writer.metric(run, "auc", place / 10)
        writer.state(events.RUN_ENDED, run=run, state="failed" if place == 3 else "done", error="", seconds=float(place))
        made.append(run)
    writer.close()
    return made


def test_runs_come_newest_first_in_pages(layout: Layout, store: Store) -> None:
    """Order, limit and offset; the count is of all that match."""
    made = _runs(layout, 7)
    projection.fold(store)
    with store.reader() as db:
        assert [run.id for run in history.runs(db, limit=None)] == made[::-1]
        assert [run.id for run in history.runs(db, limit=2, offset=3)] == [made[3], made[2]]
        assert history.count_runs(db) == 7
        assert [run.name for run in history.page(db, order="seconds", limit=2)[0]] == ["run-0", "run-1"]


def test_runs_can_be_filtered_by_what_they_are_and_logged(layout: Layout, store: Store) -> None:
    """A condition over the view `run` and its companions, with bound parameters."""
    made = _runs(layout, 7)
    projection.fold(store)
    with store.reader() as db:
        assert [run.id for run in history.runs(db, where="run.state = ?", params=["failed"])] == [made[3]]
        where = "EXISTS (SELECT 1 FROM metric_last m WHERE m.run = run.id AND m.key = ? AND m.value > ?)"
        assert [run.id for run in history.runs(db, where=where, params=["auc", 0.45])] == [made[6], made[5]]
        assert history.count_runs(db, where, ["auc", 0.45]) == 2
        source = "run LEFT JOIN (FROM metric_last WHERE key = ?) m ON m.run = run.id"
        found, total = history.page(db, source=source, params=["auc"], order="m.value", limit=1)
        assert [run.id for run in found] == [made[0]] and total == 7


def test_a_long_curve_is_thinned_but_its_spikes_stay(layout: Layout, store: Store) -> None:
    """At most about `points` points, with the first, the last, the smallest and the largest among them, in order."""
    writer = Journal.open(layout.journal)
    run = journal.new_id()
    for step in range(10_000):
        writer.metric(run, "loss", 1000.0 if step == 7777 else -5.0 if step == 1234 else math.sin(step / 100), step)
    writer.metric(run, "short", 1.0, 5)
    writer.close()
    projection.fold(store)
    with store.reader() as db:
        curves = {curve.key: curve for curve in history.curves(db, [run], points=100)}
        assert history.curves(db, [run], keys=["none"]) == []
        whole = history.curves(db, [run], keys=["loss"], points=20_000)[0]
    loss = curves["loss"]
    assert len(loss.steps) <= 102 and list(loss.steps) == sorted(loss.steps)
    assert {0.0, 1234.0, 7777.0, 9999.0} <= set(loss.steps)
    assert max(loss.values) == 1000.0 and min(loss.values) == -5.0
    assert len(whole.steps) == 10_000 and curves["short"].steps == (5.0,)


def test_points_without_steps_count_by_their_place(layout: Layout, store: Store) -> None:
    """A curve is drawn also when nobody gave steps; NaN stays NaN."""
    writer = Journal.open(layout.journal)
    for value in (1.0, math.nan, 3.0):
        writer.metric("r" * 32, "x", value)
    writer.close()
    projection.fold(store)
    with store.reader() as db:
        (curve,) = history.curves(db, ["r" * 32])
    assert curve.steps == (0.0, 1.0, 2.0) and curve.values[0] == 1.0 and math.isnan(curve.values[1])


@pytest.mark.parametrize("first", ["state", "points"])
def test_the_last_value_is_the_latest_not_the_last_folded(layout: Layout, store: Store, first: str) -> None:
    """Two journals of one run: the newer point counts whichever is folded first; a summary goes over both."""
    run = "r" * 32
    old, new = journal.new_id(1), journal.new_id(2)
    names = (old, new) if first == "state" else (new, old)
    lines = {
        old: f'{{"k":"m","v":1,"t":1000,"n":0,"r":"{run}","key":"loss","s":1,"x":1.0}}\n',
        new: f'{{"k":"m","v":1,"t":2000,"n":0,"r":"{run}","key":"loss","s":2,"x":2.0}}\n',
    }
    for name in names:
        (layout.journal / f"{name}.metric.000.jsonl").write_text(lines[name])
        projection.fold(store)
    with store.reader() as db:
        assert db.execute("SELECT value, step, points FROM metric_last").fetchall() == [(2.0, 2.0, 2)]
    writer = Journal.open(layout.journal)
    writer.state(events.SUMMARY, run=run, values={"loss": 0.5})
    writer.close()
    projection.fold(store)
    with store.reader() as db:
        assert db.execute("SELECT value, points FROM metric_last").fetchall() == [(0.5, 2)]


def test_a_step_that_never_ended_is_what_its_run_is(layout: Layout, store: Store) -> None:
    """Running while the run is; crashed with it; a step taken from the cache has no time of its own."""
    writer = Journal.open(layout.journal)
    run = journal.new_id()
    writer.state(events.RUN_STARTED, run=run, name="n", kind="train")
    writer.state(events.STEP_ENDED, run=run, step="split", state="reused", result={"name": "split", "fingerprint": "f"})
    writer.state(events.STEP_STARTED, run=run, step="gbm", reason={"kind": "code"}, fingerprint="g")
    projection.fold(store)
    with store.reader() as db:
        assert {step.name: step.state for step in history.step_runs(db, run)} == {"split": "reused", "gbm": "running"}
    writer.close()
    projection.fold(store)
    with store.reader() as db:
        steps = {step.name: step for step in history.step_runs(db, run)}
        found = history.run(db, run)
    assert found is not None and found.state.value == "crashed"
    assert steps["gbm"].state == "crashed" and steps["gbm"].reason == '{"kind":"code"}'
    assert steps["split"].state == "reused" and steps["split"].seconds is None
