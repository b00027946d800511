"""A project whose store was written as the program writes it: through journals and the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mlops_local.domain import events
from mlops_local.domain.assets import FileEntry, GateResult, ModelVersion, Snapshot, Verdict
from mlops_local.domain.plan import Output, Part, StepResult, result_to_json
from mlops_local.services.project import Project, find
from mlops_local.store import cache, ledger
from mlops_local.store.journal import Journal, new_id

CLOCK_US = 1_770_000_000_000_000
"""2026-02-02 02:40 UTC."""


@dataclass
class Story:
    """Writes runs and decisions into a project, each a minute after the one before."""

    project: Project
    minutes: int = 0
    journals: list[Journal] = field(default_factory=list)

    def run(
        self,
        name: str,
        *,
        state: str | None = "done",
        kind: str = "train",
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        results: tuple[StepResult, ...] = (),
        snapshots: tuple[Snapshot, ...] = (),
        tags: Mapping[str, str] | None = None,
        random: int | None = None,
        **started: Any,
    ) -> str:
        """Journal one run and return its id; with state None it is still running."""
        self.minutes += 1
        run = new_id(CLOCK_US + self.minutes * 60_000_000, random)
        journal = Journal.open(self.project.layout.journal)
        facts = {
            "commit": "",
            "dirty": False,
            "diff": "",
            "env": {},
            "python": "3.11",
            "host": "here",
            "pid": 1,
            "argv": ["mlops"],
        }
        facts |= {"message": "", "targets": [], **started}
        journal.state(events.RUN_STARTED, run=run, name=name, kind=kind, **facts)
        if params:
            journal.state(events.PARAMS, run=run, values=dict(params))
        for snapshot in snapshots:
            journal.state(events.SNAPSHOT, run=run, snapshot=cache.snapshot_to_json(snapshot))
        for result in results:
            journal.state(events.STEP_STARTED, run=run, step=result.name, reason="never run", fingerprint=result.fingerprint)
            journal.state(events.STEP_ENDED, run=run, step=result.name, state="done", result=result_to_json(result))
        for key, value in (tags or {}).items():
            journal.state(events.TAG, run=run, key=key, value=value)
        for key, number in (metrics or {}).items():
            journal.metric(run, key, number)
        if state is None:
            self.journals.append(journal)
            journal.flush()
            return run
        if state != "crashed":
            journal.state(events.RUN_ENDED, run=run, state=state, error="it broke" if state == "failed" else "", seconds=1.5)
        journal.close()
        return run

    def version(self, model: str, value: float, *, run: str = "", evaluation: str = "rows", **more: Any) -> ModelVersion:
        """Register one version."""

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
                predictions=more.get("predictions", ""),
                evaluation=evaluation,
                metric=more.get("metric", "auc"),
                value=value,
                low=value - 0.01,
                high=value + 0.01,
                metrics={"auc": value, "brier": 0.1},
                snapshots=more.get("snapshots", {}),
            )

        return ledger.append_version(self.project.layout, make)

    def champion(self, version: ModelVersion) -> None:
        """Make a version the champion."""
        ledger.append(self.project.layout, events.ALIAS, f"{version.model}@champion", version.id, reason="passed its gates")

    def verdict(self, version: ModelVersion, verdict: str, baseline: str, *gates: GateResult) -> None:
        """Judge a version."""
        value = asdict(Verdict(version.id, baseline, verdict, gates))
        ledger.append(self.project.layout, events.VERDICT, version.id, verdict, data=value)

    def deployed(self, version: ModelVersion, *, pid: int, event: str = "deployed", port: int = 8501) -> None:
        """A server says what it serves."""
        data = {"event": event, "port": port, "pid": pid, "reason": ""}
        ledger.append(self.project.layout, events.DEPLOYMENT, version.model, version.id, data=data)


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    """An empty project to write into."""
    yield from _story(tmp_path / "project")


@pytest.fixture(scope="module")
def shared_story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """One for all the tests of a module, which only read what is written into it once."""
    yield from _story(tmp_path_factory.mktemp("shared") / "project")


def _story(root: Path) -> Iterator[Story]:
    root.mkdir()
    (root / "mlops.toml").write_text('[project]\nname = "late"\n')
    made = Story(find(root, wait_s=10))
    yield made
    for journal in made.journals:
        journal.close()
    made.project.store.close()


def snapshot(source: str, identifier: str, rows: int = 10) -> Snapshot:
    """A snapshot of one file."""
    return Snapshot(
        id=identifier, source=source, files=(FileEntry(f"data/{source}.csv", identifier, 100, rows),), rows=rows, bytes=100
    )


def result(name: str, run: str = "", **parts: Mapping[str, str]) -> StepResult:
    """What a step left: `code`, `params`, `data` and `env` parts by what they are."""
    covered = tuple(
        Part(kind, what, value, f"pipeline.py:{index}" if kind == "code" else "")
        for kind, items in parts.items()
        for index, (what, value) in enumerate(items.items(), start=1)
    )
    return StepResult(name, f"fp-{name}", (Output("result", "json", f"hash-{name}"),), run=run, seconds=1.0, parts=covered)


MakeSnapshot = Callable[..., Snapshot]
MakeResult = Callable[..., StepResult]


@pytest.fixture
def make_snapshot() -> MakeSnapshot:
    """Makes a snapshot."""
    return snapshot


@pytest.fixture
def make_result() -> MakeResult:
    """Makes a step's result."""
    return result
