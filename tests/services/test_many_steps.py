"""Several steps at once, failures among them, and the ways to run less, more or without a trace."""

from __future__ import annotations

import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops_local.domain.errors import StepFailed, UsageError
from mlops_local.domain.progress import Progress
from mlops_local.services import history
from mlops_local.services.execution import Cancelled
from mlops_local.services.project import Project, find
from mlops_local.services.train import TrainResult, train

PIPELINE = """
    import os, sys, time
    import mlops_local as mlops

    @mlops.step
    def base(*, value: int = 1):
        return value

    @mlops.step
    def left(base: int, *, times: int = 2):
        return base * times

    @mlops.step
    def right(base: int):
        return base % 2

    @mlops.step
    def both(left: int, right: int):
        return left + right

    @mlops.step
    def tail(right: int):
        return right
"""

MEET = """
    import os, time
    import mlops_local as mlops

    def meet(me, other):
        open(me, "w").close()
        while not os.path.exists(other):
            time.sleep(0.01)

    @mlops.step
    def a():
        meet("a", "b")

    @mlops.step
    def b():
        meet("b", "a")
"""

FAILING = """
    import os, sys, time
    import mlops_local as mlops

    @mlops.step
    def good():
        return 1

    @mlops.step
    def better(good: int):
        return good + 1

    @mlops.step
    def bad(good: int):
        raise ValueError("no good")

    @mlops.step
    def worse():
        os._exit(9)

    @mlops.step
    def after(bad: int, better: int):
        return 1
"""

FLAKY = """
    import os
    import mlops_local as mlops

    @mlops.step(retries=2)
    def flaky():
        count = len(open("tries").read()) if os.path.exists("tries") else 0
        open("tries", "a").write("x")
        print("try", count)
        if count < 2:
            raise OSError("try again")
        return 1
"""

SLOW = """
    import os, time
    import mlops_local as mlops

    @mlops.step
    def sleeps():
        open("began", "w").close()
        time.sleep(600)

    @mlops.step
    def fails():
        while not os.path.exists("began"):
            time.sleep(0.01)
        raise ValueError("early")
"""


class Made:
    """A project of plain steps: trains it and hears what is said."""

    def __init__(self, root: Path, text: str) -> None:
        self.root = root
        root.mkdir()
        (root / "mlops.toml").write_text('[project]\nname = "many"\n')
        self.write(text)
        self.project: Project = find(root)
        self.said: list[Progress] = []

    def write(self, text: str) -> None:
        (self.root / "pipeline.py").write_text(textwrap.dedent(text))

    def train(self, *targets: str, **options: Any) -> TrainResult:
        return train(self.project, targets, emit=self.said.append, **options)

    def ended(self) -> dict[str, str]:
        return {event.step: event.data["state"] for event in self.said if event.kind == "step_ended"}

    def steps(self, run: str = "@latest") -> dict[str, str]:
        _, shown = history.show(self.project, run)
        assert isinstance(shown, history.RunDetail)
        return {step.name: step.state for step in shown.steps}

    def trace(self) -> set[str]:
        state = self.project.layout.state
        kinds = ("journal", "objects", "logs", "tmp")
        return {str(path) for kind in kinds for path in (state / kind).rglob("*")} | {
            str(path) for path in self.root.glob("mlops.lock")
        }


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "project"


def test_independent_steps_run_at_the_same_time(root: Path) -> None:
    """Two steps that wait for each other end when two may run at once."""
    made = Made(root, MEET)
    assert set(made.train(jobs=2).ran) == {"a", "b"}
    assert made.steps() == {"a": "done", "b": "done"}


def test_one_step_is_one_step(root: Path) -> None:
    """What is said counts things as people do."""
    made = Made(root, PIPELINE)
    made.train("base")
    made.train("base")
    assert [event.text for event in made.said if event.kind == "plan"] == [
        "1 of 1 step to run: base",
        "nothing to do: 1 step fresh",
    ]


def test_one_after_another_with_one_job(root: Path) -> None:
    """With one job a step begins when the one before it has ended, and early cutoff works as ever."""
    made = Made(root, PIPELINE)
    made.train(jobs=1)
    order = [(event.kind, event.step) for event in made.said if event.kind in ("step_started", "step_ended")]
    assert [kind for kind, _ in order] == ["step_started", "step_ended"] * 5
    assert made.train(params={"base.value": "3"}, jobs=1).reused == ("tail",)


def test_a_failure_ends_its_siblings(root: Path) -> None:
    """Without --keep-going the first failure ends what runs beside it; those are cancelled, not failed."""
    made = Made(root, SLOW)
    with pytest.raises(StepFailed, match=r"step fails failed: .*early"):
        made.train(jobs=2)
    assert made.steps() == {"sleeps": "cancelled", "fails": "failed"}


def test_keep_going_runs_what_does_not_depend_on_a_failure(root: Path) -> None:
    """What failed and what was not run for it is listed; the rest is kept and is not run again."""
    made = Made(root, FAILING)
    with pytest.raises(StepFailed) as caught:
        made.train(jobs=2, keep_going=True)
    assert caught.value.message in ("2 steps failed: bad, worse", "2 steps failed: worse, bad")
    assert "not run, for what they need failed: after" in caught.value.problems
    assert any("it ended its process with exit code 9" in line for line in caught.value.problems)
    assert "no good" in caught.value.traceback
    assert made.steps() == {"good": "done", "better": "done", "bad": "failed", "worse": "failed"}
    assert set(made.train("better").reused) == {"good", "better"}


def test_a_step_is_tried_as_often_as_it_declares(root: Path) -> None:
    """Each failed attempt is said and keeps its own log; the result counts them."""
    made = Made(root, FLAKY)
    made.train()
    assert [event.text.partition(":")[2] for event in made.said if "attempt" in event.text][:2] == [
        " attempt 1 of 3 failed: pipeline.py:11: OSError: try again; it is tried again",
        " attempt 2 of 3 failed: pipeline.py:11: OSError: try again; it is tried again",
    ]
    shown = history.show(made.project, "@latest")[1]
    assert isinstance(shown, history.RunDetail)
    (flaky,) = shown.steps
    assert shown.results["flaky"].attempts == flaky.attempts == 3
    assert flaky.threads is not None
    assert not list(made.project.layout.leases.iterdir())
    logs = {log.name: log.path.read_text() for log in history.logs(made.project)}
    assert {name: text.split()[1] for name, text in logs.items()} == {
        "flaky (attempt 1)": "0",
        "flaky (attempt 2)": "1",
        "flaky": "2",
    }


def test_a_step_that_always_fails_says_how_often(root: Path) -> None:
    """The last attempt's error is the step's, with the number of attempts."""
    made = Made(root, FLAKY.replace("count < 2", "True"))
    with pytest.raises(StepFailed, match=r"step flaky failed \(attempt 3 of 3\)"):
        made.train()
    shown = history.show(made.project, "@latest")[1]
    assert isinstance(shown, history.RunDetail)
    (flaky,) = shown.steps
    assert flaky.seconds and flaky.cpu_seconds and flaky.peak_bytes  # what a failure took is known as well
    assert flaky.attempts == 3 and flaky.threads is not None


def test_cancel_ends_every_running_step(root: Path) -> None:
    """A cancelled run ends the steps in progress, and the run is cancelled."""
    made = Made(root, SLOW.replace('raise ValueError("early")', "time.sleep(600)"))
    cancel = threading.Event()

    def hear(event: Progress) -> None:
        if event.kind == "step_started":
            cancel.set()

    with pytest.raises(Cancelled):
        train(made.project, emit=hear, cancel=cancel, jobs=2)
    assert set(made.steps().values()) == {"cancelled"}


def test_single_uses_inputs_as_they_are_kept(root: Path) -> None:
    """--single runs the named step alone although what it reads is out of date, and says that."""
    made = Made(root, PIPELINE)
    made.train()
    made.write(PIPELINE.replace("return base * times", "return base * times * 10").replace("value: int = 1", "value: int = 5"))
    result = made.train("left", single=True)
    assert result.ran == ("left",)
    assert any("out of date: base" in event.text for event in made.said)
    assert set(made.train("left").ran) == {"base", "left"}


def test_single_needs_what_it_reads(root: Path) -> None:
    """Without a kept input there is nothing to run on, and the way out is named."""
    made = Made(root, PIPELINE)
    with pytest.raises(UsageError, match="left reads base, and no result of that is kept"):
        made.train("left", single=True)
    with pytest.raises(UsageError, match="--single needs the steps to run"):
        made.train(single=True)


def test_downstream_goes_on_behind_the_target(root: Path) -> None:
    """--downstream brings what depends on the named steps up to date too, and nothing beside it."""
    made = Made(root, PIPELINE + "\n    @mlops.step\n    def beside():\n        return 1\n")
    assert set(made.train("left", downstream=True).ran) == {"base", "left", "right", "both"}


def test_scratch_leaves_no_trace(root: Path) -> None:
    """--scratch runs what is stale, hands values on, and leaves no run, object, log, version or mlops.lock."""
    made = Made(root, PIPELINE)
    made.train()
    before = made.trace()
    result = made.train(params={"base.value": "4", "left.times": "7"}, scratch=True)
    assert result.scratch and not result.run
    assert set(result.ran) == {"base", "left", "right", "both", "tail"}
    assert made.trace() == before
    assert made.train().ran == ()


def test_scratch_shows_what_a_failed_step_printed(root: Path) -> None:
    """The log is gone afterwards, so its last lines are in the hint."""
    made = Made(root, FAILING.replace("os._exit(9)", "print('the last word', flush=True); os._exit(9)"))
    with pytest.raises(StepFailed) as caught:
        made.train("worse", scratch=True)
    assert "the last word" in caught.value.hint
