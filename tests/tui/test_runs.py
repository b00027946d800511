"""Runs and what opens from there: filter, marks, comparison, one run, and a list of any length."""

from __future__ import annotations

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from mlops_local.domain import events
from mlops_local.tui.app import MlopsApp
from mlops_local.tui.screens.compare import CompareScreen
from mlops_local.tui.screens.run import RunScreen
from mlops_local.tui.widgets.chart import Chart
from mlops_local.tui.widgets.grid import KEPT, Grid
from tests.tui.conftest import BIG, NARROW, Tale, seen, shows, toasts, until


def grid(app: MlopsApp) -> Grid:
    """The table of the screen shown now."""
    return app.screen.query_one(Grid)


async def test_a_filter_narrows_the_list_as_it_is_typed(trained: Tale) -> None:
    """Words are part of a name; a condition filters by fields; Escape shows everything again."""
    app = MlopsApp(trained.project)
    async with app.run_test(size=NARROW) as pilot:
        await pilot.press("r")
        await shows(pilot, "3 runs", "calm-otter", "0.7012")
        await pilot.press("slash", *"heron")
        await shows(pilot, "1 run")
        await until(pilot, lambda: grid(app).total == 1 and "calm-otter" not in seen(app))
        app.screen.query_one(Input).value = "state = failed and seconds > 1"
        await until(pilot, lambda: "sad-mole" in seen(app) and "brave-heron" not in seen(app))
        app.screen.query_one(Input).value = "no-such-name"
        await shows(pilot, "No run matches “no-such-name”.", "esc")
        await pilot.press("escape")
        await shows(pilot, "3 runs", "calm-otter")
        await until(pilot, lambda: grid(app).has_focus)
        assert grid(app).total == 3 and not app.screen.query_one(Input).value


async def test_a_filter_that_cannot_be_read_is_said_under_it(trained: Tale) -> None:
    """The list stays as it was; the complaint goes when the filter is mended."""
    app = MlopsApp(trained.project)
    async with app.run_test(size=NARROW) as pilot:
        await pilot.press("r")
        await shows(pilot, "3 runs")
        await pilot.press("slash")
        app.screen.query_one(Input).value = "metric.nothing > 1"
        await until(pilot, lambda: app.screen.query_one("#problem").display)
        problem = await shows(pilot, "calm-otter", "3 runs")
        assert "metric.nothing" in problem.splitlines()[3] + problem.splitlines()[2]
        assert toasts(app) == []
        app.screen.query_one(Input).value = "metric.auc > 0.71"
        await shows(pilot, "1 run")
        assert not app.screen.query_one("#problem").display


async def test_orders_put_the_best_first(trained: Tale) -> None:
    """`o` goes through the metrics, the best value on top whichever way better is, and back to newest first."""
    app = MlopsApp(trained.project)
    async with app.run_test(size=BIG) as pilot:
        await pilot.press("r")
        await shows(pilot, "3 runs", "brier")
        newest, tops = grid(app).keys, {}
        for order in ("metric.auc", "metric.brier", "metric.loss", "seconds"):
            await pilot.press("o")
            await shows(pilot, f"by {order}")
            tops[order] = await first_name(app, pilot)
        assert tops["metric.auc"] == tops["metric.brier"] == "brave-heron"
        assert tops["metric.loss"] == "calm-otter"
        await pilot.press("o")
        await until(pilot, lambda: "by seconds" not in seen(app) and grid(app).keys == newest)


async def first_name(app: MlopsApp, pilot: Pilot[None]) -> str:
    """The name in the first row, once what was asked for last is answered."""
    await until(pilot, lambda: "ask" not in {worker.group for worker in app.workers if not worker.is_finished})
    await pilot.pause()
    return next(name for line in seen(app).splitlines() for name in ("brave-heron", "calm-otter", "sad-mole") if name in line)


@pytest.mark.parametrize("size", [NARROW, BIG], ids=["80x24", "200x60"])
async def test_space_marks_and_c_compares(trained: Tale, size: tuple[int, int]) -> None:
    """Two marked runs stand side by side with what differs; `a` adds what is the same."""
    app = MlopsApp(trained.project)
    async with app.run_test(size=size) as pilot:
        await pilot.press("r")
        await shows(pilot, "3 runs", "calm-otter")
        await pilot.press("c")
        await until(pilot, lambda: any("Mark two or more" in toast for toast in toasts(app)))
        await pilot.press("j", "space", "space")
        await shows(pilot, "2 marked", "◆")
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        screen = await shows(pilot, "A brave-heron", "B calm-otter", "gbm.leaves", "63", "31", "0.7177 best")
        assert "gbm.rate" not in screen
        await pilot.press("a")
        await shows(pilot, "gbm.rate", "0.1")
        await pilot.press("escape")
        await shows(pilot, "2 marked")


@pytest.mark.parametrize("size", [NARROW, BIG], ids=["80x24", "200x60"])
async def test_enter_opens_a_run_whole(trained: Tale, size: tuple[int, int]) -> None:
    """Metrics, steps with why they ran, parameters and curves are there; short screens scroll to them."""
    app = MlopsApp(trained.project)
    async with app.run_test(size=size) as pilot:
        await pilot.press("r")
        await shows(pilot, "3 runs", "calm-otter")
        await pilot.press("end", "enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        screen = await shows(pilot, "✓ done  calm-otter", "auc", "0.7012", "gbm.leaves changed")
        if size == NARROW:
            await pilot.press("p")
            screen += await shows(pilot, "gbm.leaves", "31")
            await pilot.press("end")
        screen += await shows(pilot, "loss  ━ 0.2000")
        assert "gbm.rate" in screen and "0.1" in screen
        chart = app.screen.query_one(Chart)
        assert chart.series[0].ys == (0.9, 0.5, 0.3, 0.2)
        await pilot.press("l")
        await shows(pilot, "loss log")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen.query(Grid))


async def test_an_open_run_grows_while_it_is_looked_at(tale: Tale) -> None:
    """Points, steps and the end of a running run arrive on its screen by themselves."""
    journal, run = tale.begin("new-born")
    journal.state(events.STEP_STARTED, run=run, step="gbm", reason="never run", fingerprint="f")
    app = MlopsApp(tale.project)
    async with app.run_test(size=BIG) as pilot:
        await shows(pilot, "new-born")
        await pilot.press("enter")
        await shows(pilot, "● running  new-born", "● gbm")
        for step in range(10):
            journal.metric(run, "loss", 1.0 / (step + 1), step)
        await until(pilot, lambda: any(len(chart.series[0].xs) == 10 for chart in app.screen.query(Chart)))
        for step in range(10, 30):
            journal.metric(run, "loss", 1.0 / (step + 1), step)
        await until(pilot, lambda: any(len(chart.series[0].xs) == 30 for chart in app.screen.query(Chart)))
        journal.state(events.STEP_ENDED, run=run, step="gbm", state="done")
        journal.state(events.RUN_ENDED, run=run, state="done", error="", seconds=3.0)
        journal.close()
        screen = await shows(pilot, "✓ done  new-born", "✓ gbm", "3.0 s")
        assert "● gbm" not in screen and f"{1 / 30:.4f}" in screen


@pytest.mark.parametrize("size", [NARROW, BIG], ids=["80x24", "200x60"])
async def test_ten_thousand_runs_are_a_window_of_rows(crowded: Tale, size: tuple[int, int]) -> None:
    """Only rows near the screen are held; End reaches the first run ever, Home the newest; the count is whole."""
    app = MlopsApp(crowded.project)
    async with app.run_test(size=size) as pilot:
        await pilot.press("r")
        await shows(pilot, "10,000 runs", "run-09999")
        assert grid(app).total == 10_000
        assert grid(app).held <= KEPT
        await pilot.press("end")
        await shows(pilot, "run-00000", "run-00001")
        assert grid(app).cursor == 9_999
        for _ in range(12):
            await pilot.press("pageup")
            await until(pilot, lambda: grid(app).cursor_key)
            assert grid(app).held <= KEPT
        await pilot.press("home")
        await shows(pilot, "run-09999")
        assert grid(app).held <= KEPT


async def test_a_filter_reaches_past_the_rows_held(crowded: Tale) -> None:
    """What matches anywhere among the runs is found, and the cursor starts at its top."""
    app = MlopsApp(crowded.project)
    async with app.run_test(size=NARROW) as pilot:
        await pilot.press("r")
        await shows(pilot, "10,000 runs", "run-09999")
        await pilot.press("end")
        await shows(pilot, "run-00000")
        await pilot.press("slash", *"run-0012")
        await shows(pilot, "10 runs", "run-00129", "run-00120")
        assert grid(app).cursor == 0
