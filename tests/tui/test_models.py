"""Models: versions, and the decisions a person makes about them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from textual.pilot import Pilot

from mlops_local.domain.plan import StepResult
from mlops_local.domain.project import parse
from mlops_local.store import cache, registry
from mlops_local.tui.app import MlopsApp
from mlops_local.tui.screens.confirm import Confirm
from mlops_local.tui.screens.run import RunScreen
from tests.tui.conftest import BIG, NARROW, Tale, shows, toasts, until


def champion(tale: Tale) -> str:
    """Who the ledger says is champion."""
    return registry.load(tale.project.layout).aliases["delay@champion"]


async def ask_to_promote(app: MlopsApp, pilot: Pilot[None]) -> str:
    """Go to Models and ask to promote the newest version; the question's screen."""
    await pilot.press("m")
    await shows(pilot, "delay@2", "delay@1")
    await pilot.press("p")
    await until(pilot, lambda: isinstance(app.screen, Confirm))
    return await shows(pilot, "Promote delay@2?")


@pytest.mark.parametrize("size", [NARROW, BIG], ids=["80x24", "200x60"])
async def test_a_version_shows_its_verdict_as_an_interval(trained: Tale, size: tuple[int, int]) -> None:
    """Rule, numbers, rows and the drawn interval against zero and the limit; Enter opens the run it came from."""
    app = MlopsApp(trained.project)
    async with app.run_test(size=size) as pilot:
        await pilot.press("m")
        screen = await shows(pilot, "★  delay@1", "? inconclusive", "max_drop 0.005", "4,000 rows in 12 clusters")
        assert "0.7177 against 0.7012" in screen
        assert "difference +0.0165 [−0.0090, +0.0400]" in screen
        assert "├" in screen and "−0.0050" in screen
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await shows(pilot, "brave-heron")


async def test_a_model_that_learned_by_heart_is_said_to_have(trained: Tale) -> None:
    """With `max_gap`, the version's page warns as `mlops model show` does."""
    version = registry.load(trained.project.layout).versions["delay@2"]
    report = {"seen": {"train": 0.95, "valid": 0.72}}
    cache.record(trained.project.layout, StepResult("gbm.evaluate", version.fingerprint, report=report))
    project = replace(trained.project, config=parse({"models": {"delay": {"max_gap": 0.1}}}))
    async with MlopsApp(project).run_test(size=BIG) as pilot:
        await pilot.press("m")
        screen = await shows(pilot, "! auc is 0.9500 on train and 0.7200 on valid: 0.2300 apart, max_gap is 0.1")
        assert screen.count("max_gap is") == 1, "of the version that is shown alone"


async def test_a_promotion_with_a_reason_is_in_the_ledger(trained: Tale) -> None:
    """The question says what will change and that the gates did not pass; without a reason nothing is decided."""
    app = MlopsApp(trained.project)
    async with app.run_test(size=NARROW) as pilot:
        question = await ask_to_promote(app, pilot)
        assert "in place of delay@1 with 0.7012" in question
        assert "verdict is inconclusive" in question
        await pilot.press("enter")
        await shows(pilot, "say why")
        assert champion(trained) == "delay@1"
        await pilot.press(*"better", "enter")
        await until(pilot, lambda: champion(trained) == "delay@2")
        await shows(pilot, "★  delay@2")
        assert any("delay@2 is the champion" in toast for toast in toasts(app))
        line = next(line for line in registry.load(trained.project.layout).lines[::-1] if line.subject == "delay@champion")
        assert (line.value, line.expect, line.reason) == ("delay@2", "delay@1", "better")


async def test_cancel_writes_nothing(trained: Tale) -> None:
    """Escape leaves ledger and champion as they are, whatever was typed."""
    app = MlopsApp(trained.project)
    before = trained.ledger_lines
    async with app.run_test(size=NARROW) as pilot:
        await ask_to_promote(app, pilot)
        await pilot.press(*"because", "escape")
        await until(pilot, lambda: not isinstance(app.screen, Confirm))
        await shows(pilot, "★  delay@1")
    assert trained.ledger_lines == before
    assert champion(trained) == "delay@1"


async def test_somebody_decided_meanwhile(trained: Tale) -> None:
    """The second decider is told who is champion now, and nothing is overwritten."""
    app = MlopsApp(trained.project)
    async with app.run_test(size=NARROW) as pilot:
        await ask_to_promote(app, pilot)
        other = trained.version("delay", 0.73)
        trained.champion(other)
        await pilot.press(*"mine", "enter")
        await until(pilot, lambda: any("not promoted" in toast and "delay@3" in toast for toast in toasts(app)))
        await shows(pilot, "★  delay@3")
    assert champion(trained) == "delay@3"


async def test_roll_back_gives_the_champion_before(trained: Tale) -> None:
    """`b` asks, the champion before becomes champion and the present one is rejected, with the reason."""
    trained.champion(registry.load(trained.project.layout).versions["delay@2"])
    app = MlopsApp(trained.project)
    async with app.run_test(size=NARROW) as pilot:
        await pilot.press("m")
        await shows(pilot, "★  delay@2")
        await pilot.press("b")
        await shows(pilot, "Roll back delay?", "delay@2 is rejected")
        await pilot.press(*"slow", "enter")
        await until(pilot, lambda: champion(trained) == "delay@1")
        await shows(pilot, "★  delay@1", "rejected")
    assert registry.load(trained.project.layout).versions["delay@2"].state == "rejected"


async def test_the_champion_is_not_promoted_again(trained: Tale) -> None:
    """Promoting who is champion already is said and asks nothing."""
    app = MlopsApp(trained.project)
    async with app.run_test(size=NARROW) as pilot:
        await pilot.press("m")
        await shows(pilot, "★  delay@1")
        await pilot.press("end", "p")
        await until(pilot, lambda: any("champion already" in toast for toast in toasts(app)))
        assert not isinstance(app.screen, Confirm)
