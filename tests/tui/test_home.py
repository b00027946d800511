"""Home: what is live, what needs attention, what ran last."""

from __future__ import annotations

import os

import pytest

from mlops_local.domain import events
from mlops_local.store import ledger
from mlops_local.tui import questions
from mlops_local.tui.app import MlopsApp
from mlops_local.tui.screens.run import RunScreen
from mlops_local.tui.widgets.grid import Grid
from tests.tui.conftest import BIG, NARROW, Tale, seen, shows, toasts, until


@pytest.mark.parametrize("size", [NARROW, BIG], ids=["80x24", "200x60"])
async def test_home_says_what_is_champion_and_how_good_it_is(trained: Tale, size: tuple[int, int]) -> None:
    """Champion, its metric with the interval, that nobody serves it, and the newest runs are on the first screen."""
    app = MlopsApp(trained.project)
    async with app.run_test(size=size) as pilot:
        screen = await shows(pilot, "delay@1", "sad-mole")
        assert "0.7012  [0.6812, 0.7312]" in screen
        assert "├" in screen and "●" in screen and "┤" in screen
        assert "nobody serves it  →  mlops serve delay" in screen
        places = [screen.index(name) for name in ("sad-mole", "brave-heron", "calm-otter")]
        assert places == sorted(places) or size == BIG
        assert app.query_one(Grid).total == 3


@pytest.mark.parametrize("size", [NARROW, BIG], ids=["80x24", "200x60"])
async def test_what_needs_attention_is_said_whole(trained: Tale, size: tuple[int, int]) -> None:
    """Neither the complaint nor the command that mends it is cut."""
    app = MlopsApp(trained.project)
    async with app.run_test(size=size) as pilot:
        screen = await shows(pilot, "needs attention", "sad-mole")
        left = " ".join("\n".join(line[: size[0] if size == NARROW else 78] for line in screen.splitlines()).split())
        assert "! delay@2: could not be judged: auc +0.0165 against delay@1 (max_drop 0.005) → mlops compare" in left
        assert "→  mlops compare delay@1 delay@2" in screen
        assert "sad-mole failed: ValueError: no rows left" in left
        assert "…" not in screen.partition("newest runs")[0]


@pytest.mark.parametrize("size", [NARROW, BIG], ids=["80x24", "200x60"])
async def test_an_empty_project_says_what_to_type(tale: Tale, size: tuple[int, int]) -> None:
    """Without a run or a model every screen names the command that makes the first one."""
    app = MlopsApp(tale.project)
    async with app.run_test(size=size) as pilot:
        screen = await shows(pilot, "No model yet.", "Nothing has run yet.")
        assert "→  mlops train" in screen
        await pilot.press("r")
        assert "→  mlops train" in await shows(pilot, "Nothing has run yet.")
        await pilot.press("m")
        assert "→  mlops train" in await shows(pilot, "No model version yet.")


async def test_home_tells_the_wish_from_the_fact(trained: Tale) -> None:
    """A server that runs another version than the champion, and one that is gone, are both told."""
    data = {"event": "deployed", "port": 8501, "pid": os.getpid(), "reason": ""}
    app = MlopsApp(trained.project)
    async with app.run_test(size=BIG) as pilot:
        assert "not the champion" not in await shows(pilot, "nobody serves it")
        ledger.append(trained.project.layout, events.DEPLOYMENT, "delay", "delay@2", data=data)
        assert "nobody serves it" not in await shows(pilot, "! delay@2  port 8501", "not the champion")
        ledger.append(trained.project.layout, events.DEPLOYMENT, "delay", "delay@1", data={**data, "pid": 2**22 + 1})
        assert "not the champion" not in await shows(pilot, f"its server is gone (pid {2**22 + 1}, port 8501)")


async def test_enter_on_home_opens_the_run_and_escape_comes_back(trained: Tale) -> None:
    """The list on Home has the cursor from the start."""
    app = MlopsApp(trained.project)
    async with app.run_test(size=NARROW) as pilot:
        await shows(pilot, "sad-mole")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        assert "newest runs" not in await shows(pilot, "✗ failed  sad-mole", "ValueError: no rows left")
        await pilot.press("escape")
        await shows(pilot, "newest runs")
        assert app.current_mode == "home" and not isinstance(app.screen, RunScreen)


async def test_a_run_that_begins_meanwhile_appears_and_its_curve_grows(trained: Tale) -> None:
    """Home follows journals as they are written: the run, its last value, its chart; at the end its mark changes."""
    app = MlopsApp(trained.project)
    async with app.run_test(size=BIG) as pilot:
        await shows(pilot, "sad-mole")
        journal, run = trained.begin("new-born")
        for step in range(5):
            journal.metric(run, "loss", 1.0 / (step + 1), step)
        screen = await shows(pilot, "● new-born", "0.2000", "● 1 running")
        assert any("\u2801" <= character <= "\u28ff" for character in screen)
        for step in range(5, 20):
            journal.metric(run, "loss", 1.0 / (step + 1), step)
        await shows(pilot, "0.0500", "19")
        journal.state(events.RUN_ENDED, run=run, state="done", error="", seconds=2.0)
        journal.close()
        await shows(pilot, "✓  new-born")
        await until(pilot, lambda: "running" not in seen(app))


async def test_a_run_whose_process_was_killed_stops_running_on_screen(trained: Tale) -> None:
    """A journal that ends without a last word is a crash, in the list and in the bar."""
    app = MlopsApp(trained.project)
    async with app.run_test(size=BIG) as pilot:
        journal, run = trained.begin("doomed")
        journal.metric(run, "loss", 1.0, 0)
        assert "!  doomed" not in await shows(pilot, "doomed", "● 1 running")
        journal.close()
        assert "● doomed" not in await shows(pilot, "!  doomed", "crashed")
        await until(pilot, lambda: "1 running" not in seen(app))


async def test_names_with_markup_and_escapes_are_harmless(tale: Tale) -> None:
    """Brackets are shown as they are; no control character of a name, message or error reaches the terminal."""
    evil = "[red]not red[/] \x1b[31mred\x1b]0;title\x07 \x9b2J \u202egnol"
    tale.run(evil, message=evil, state="failed", error=evil, params={evil: evil}, metrics={"[bold]m\x1b[0m": 1.0})
    tale.fold()
    app = MlopsApp(tale.project)
    async with app.run_test(size=BIG) as pilot:
        for keys in ([], ["r"], ["enter"]):
            await pilot.press(*keys)
            screen = await shows(pilot, "[red]not red[/] [31mred")
            assert not [character for character in screen if not character.isprintable() and character != "\n"]
            assert {len(line) <= BIG[0] for line in screen.splitlines()} == {True}


async def test_a_bug_in_a_service_is_a_toast_and_not_the_end(trained: Tale, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error nobody foresaw is told once with its traceback's place; the bar keeps it until it is mended; keys work on."""

    def broken(*asked: object) -> questions.Answer:
        raise ValueError("of another shape")

    monkeypatch.setattr(questions, "answer", broken)
    app = MlopsApp(trained.project)
    async with app.run_test(size=NARROW) as pilot:
        await until(pilot, lambda: toasts(app))
        assert len(toasts(app)) == 1
        assert "a bug in mlops: ValueError" in toasts(app)[0]
        assert ".mlops/logs/crash.log" in toasts(app)[0]
        assert "Traceback" in (trained.project.layout.logs / "crash.log").read_text()
        for key, mode in (("r", "runs"), ("m", "models"), ("h", "home")):
            await pilot.press(key)
            await until(pilot, lambda mode=mode: app.current_mode == mode and "! a bug in mlops" in seen(app).splitlines()[0])  # type: ignore[misc]
        assert len(toasts(app)) == 1
        monkeypatch.undo()
        trained.run("calm-elk")
        await shows(pilot, "delay@1", "calm-elk")
        await until(pilot, lambda: "! a bug" not in seen(app).splitlines()[0])


async def test_a_damaged_ledger_is_told(trained: Tale) -> None:
    """A ledger that cannot be read is a toast and a word in the bar, and the program lives."""
    app = MlopsApp(trained.project)
    async with app.run_test(size=NARROW) as pilot:
        await shows(pilot, "sad-mole")
        assert "! " not in seen(app).splitlines()[0]
        trained.project.layout.ledger.write_text('{"seq": "nonsense"}\n[]\n')
        await until(pilot, lambda: any("ledger" in toast for toast in toasts(app)))
        await pilot.press("m")
        await until(pilot, lambda: app.current_mode == "models" and "! " in seen(app).splitlines()[0])
        assert app.is_running and not any("a bug" in toast for toast in toasts(app))
