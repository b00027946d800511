"""A project written as the program writes it, and eyes and patience for the screens that show it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from mlops_local.domain import events
from mlops_local.domain.assets import GateResult, ModelVersion, Verdict
from mlops_local.services.project import Project, find
from mlops_local.store import ledger, projection
from mlops_local.store.journal import Journal, new_id, now_us
from mlops_local.tui.app import MlopsApp

NARROW, BIG = (80, 24), (200, 60)
PATIENCE_S = 20.0
"""A test fails when what it waits for has not come by then; nothing waits longer than it must."""
FACTS: dict[str, Any] = {"commit": "", "dirty": False, "diff": "", "env": {}, "python": "3.11", "host": "here", "pid": 1}


@dataclass
class Tale:
    """Writes runs and decisions into a project."""

    project: Project
    journals: list[Journal] = field(default_factory=list)

    def begin(self, name: str, **more: Any) -> tuple[Journal, str]:
        """A run of a living process: its journal, still open, and its id."""
        journal = Journal.open(self.project.layout.journal)
        self.journals.append(journal)
        run = new_id()
        facts = {**FACTS, "kind": "train", "argv": ["mlops"], "message": "", "targets": [], **more}
        journal.state(events.RUN_STARTED, run=run, name=name, **facts)
        return journal, run

    def run(
        self,
        name: str,
        *,
        state: str = "done",
        error: str = "",
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        curve: Sequence[float] = (),
        steps: Mapping[str, str] | None = None,
        **started: Any,
    ) -> str:
        """A run that ended; `steps` maps a step to why it ran."""
        journal, run = self.begin(name, **started)
        if params:
            journal.state(events.PARAMS, run=run, values=dict(params))
        for step, reason in (steps or {}).items():
            journal.state(events.STEP_STARTED, run=run, step=step, reason=reason, fingerprint="f")
            journal.state(events.STEP_ENDED, run=run, step=step, state="done", reason=reason)
        for place, value in enumerate(curve):
            journal.metric(run, "loss", value, place)
        for key, value in (metrics or {}).items():
            journal.metric(run, key, value)
        journal.state(events.RUN_ENDED, run=run, state=state, error=error, seconds=1.5)
        journal.close()
        return run

    def version(self, model: str, value: float, *, run: str = "") -> ModelVersion:
        """A model version of a candidate `gbm`."""

        def make(number: int) -> ModelVersion:
            return ModelVersion(
                id=f"{model}@{number}",
                model=model,
                number=number,
                candidate="gbm",
                run=run,
                fingerprint=f"{model}-{value}",
                bundle={},
                bundle_hash=f"{value}",
                predictions="",
                evaluation="rows",
                metric="auc",
                value=value,
                low=value - 0.02,
                high=value + 0.03,
                metrics={"auc": value},
            )

        return ledger.append_version(self.project.layout, make)

    def champion(self, version: ModelVersion) -> None:
        """A version becomes champion."""
        ledger.append(self.project.layout, events.ALIAS, f"{version.model}@champion", version.id, reason="passed its gates")

    def judged(self, version: ModelVersion, verdict: str, baseline: str = "", *gates: GateResult) -> None:
        """A version is judged."""
        value = asdict(Verdict(version.id, baseline, verdict, gates))
        ledger.append(self.project.layout, events.VERDICT, version.id, verdict, data=value)

    def fold(self) -> None:
        """Everything journalled so far is in the database."""
        projection.fold(self.project.store)

    @property
    def ledger_lines(self) -> int:
        """How many decisions there are."""
        return len(ledger.read(self.project.layout))


@pytest.fixture
def tale(tmp_path: Path) -> Iterator[Tale]:
    """An empty project to write into."""
    made = empty(tmp_path / "project")
    yield made
    for journal in made.journals:
        journal.close()
    made.project.store.close()


def empty(root: Path) -> Tale:
    """A project without a run."""
    root.mkdir()
    (root / "mlops.toml").write_text('[project]\nname = "late"\n')
    return Tale(find(root, wait_s=10))


@pytest.fixture
def trained(tale: Tale) -> Tale:
    """A project with three runs, one of them failed, and two versions of one model; the first one is champion."""
    first = tale.run(
        "calm-otter",
        params={"gbm.leaves": 31, "gbm.rate": 0.1},
        metrics={"auc": 0.7012, "brier": 0.2},
        curve=[0.9, 0.5, 0.3, 0.2],
        steps={"split": "never run", "gbm": "gbm.leaves changed"},
    )
    second = tale.run("brave-heron", params={"gbm.leaves": 63, "gbm.rate": 0.1}, metrics={"auc": 0.7177, "brier": 0.19})
    tale.run("sad-mole", state="failed", error="ValueError: no rows left")
    old, new = tale.version("delay", 0.7012, run=first), tale.version("delay", 0.7177, run=second)
    tale.judged(old, "pass")
    gate = GateResult("auc", "max_drop 0.005", "inconclusive", 0.7177, 0.7012, 0.0165, -0.009, 0.04, 4000, 12)
    tale.judged(new, "inconclusive", old.id, gate)
    tale.champion(old)
    tale.fold()
    return tale


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tale]:
    """A project with 10,000 runs, journalled by one process that is gone."""
    made = empty(tmp_path_factory.mktemp("crowded") / "project")
    began = now_us() - 20_000_000_000
    path = made.project.layout.journal / f"{new_id(began)}.state.jsonl"
    numbers = iter(range(10**6))
    with path.open("w", encoding="utf-8") as file:

        def line(event: str, at: int, **fields: Any) -> None:
            file.write(json.dumps({"k": event, "v": 1, "t": at, "n": next(numbers), **fields}) + "\n")

        for place in range(10_000):
            at = began + place * 1_000_000
            run = new_id(at)
            facts = {**FACTS, "kind": "train", "argv": ["mlops"], "message": "", "targets": []}
            line(events.RUN_STARTED, at, run=run, name=f"run-{place:05}", **facts)
            line(events.SUMMARY, at, run=run, values={"auc": place / 10_000})
            line(events.RUN_ENDED, at + 500_000, run=run, state="done", error="", seconds=0.5)
    made.fold()
    yield made
    made.project.store.close()


def seen(app: MlopsApp) -> str:
    """What is on the screen now, as a person would read it."""
    screen = app.screen
    strips = screen._compositor.render_strips(screen.size)
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


async def until(pilot: Pilot[None], true: Callable[[], object], *, what: str = "") -> None:
    """Let the application go on until something holds.

    Raises:
        AssertionError: it did not come to hold; shows the screen.
    """
    app = pilot.app
    assert isinstance(app, MlopsApp)
    limit = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > limit:
            raise AssertionError(f"waited in vain{' for ' + what if what else ''}:\n{seen(app)}")
        await pilot.pause(0.04)


async def shows(pilot: Pilot[None], *texts: str) -> str:
    """Wait until all the texts are on the screen; return the screen."""
    app = pilot.app
    assert isinstance(app, MlopsApp)
    screen = ""

    def there() -> bool:
        nonlocal screen
        screen = seen(app)
        return all(text in screen for text in texts)

    await until(pilot, there, what=repr(texts))
    return screen


def toasts(app: MlopsApp) -> list[str]:
    """What was said in a corner so far and has not gone by."""
    return [notification.message for notification in app._notifications]
