"""Many saves at random moments against a real pipeline: what the watcher promises of every one of them."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

from mlops_local.domain.progress import Progress
from tests.services.test_watch import Watched

PIPELINE = """\
import json
import pathlib
import time

import mlops_local as mlops

FIRST = 0
SECOND = 0


def seen(step, value):
    with pathlib.Path("seen.jsonl").open("a") as file:
        file.write(json.dumps([step, value]) + "\\n")


@mlops.step
def first() -> int:
    seen("first", FIRST)
    time.sleep(FIRST % 5 / 50)
    return FIRST


@mlops.step
def second(first: int) -> int:
    time.sleep(SECOND % 3 / 50)
    seen("second", [first, SECOND])
    return first * 1000 + SECOND
"""
SAVES = 25


def test_random_saves_end_in_the_result_of_the_last_one(tmp_path: Path) -> None:
    """Whenever the saves come: what is left is what the last code gives, at most one run works at a time, and each kept
    result is that of the code it is kept for."""
    (tmp_path / "mlops.toml").write_text('[project]\nname = "saves"\n')
    source = tmp_path / "pipeline.py"
    source.write_text(PIPELINE)
    dice = random.Random(11)
    first = second = 0
    with Watched(tmp_path) as watched:
        watched.said("ran first, second", state="done")
        for _ in range(SAVES):
            first, second = dice.choice([(first, second + 1), (first + 1, second), (dice.randrange(6), dice.randrange(6))])
            source.write_text(
                PIPELINE.replace("FIRST = 0", f"FIRST = {first}", 1).replace("SECOND = 0", f"SECOND = {second}", 1)
            )
            time.sleep(dice.random() * 0.25)
        source.write_text(PIPELINE.replace("FIRST = 0", "FIRST = 77", 1).replace("SECOND = 0", "SECOND = 78", 1))
        _until_second_saw(watched, [77, 78])
        events = list(watched.events)
        assert watched.json("plan")["items"][1]["state"] == "fresh"
    _one_run_at_a_time(events)
    for kept in (tmp_path / ".mlops" / "cache" / "steps").glob("*.json"):
        _belongs(tmp_path, json.loads(kept.read_text()))


def _until_second_saw(watched: Watched, values: list[int]) -> None:
    def settled() -> bool:
        lines = watched.lines()
        done = [line for line in lines if line.data["state"] == "done"]
        return bool(done) and "second" in done[-1].data["ran"] and _last(watched.root) == values and lines[-1] is done[-1]

    assert watched.wait(settled), [event.text for event in watched.events]


def _last(root: Path) -> object:
    seen = [json.loads(line) for line in (root / "seen.jsonl").read_text().splitlines()]
    return [value for step, value in seen if step == "second"][-1]


def _one_run_at_a_time(events: list[Progress]) -> None:
    running: set[str] = set()
    for event in events:
        if event.kind == "plan":
            running.clear()
        if event.kind == "step_started":
            assert not running, f"{event.step} began while {running} was running"
            running.add(event.step)
        elif event.kind == "step_ended":
            running.discard(event.step)


def _belongs(root: Path, kept: dict[str, object]) -> None:
    """A kept value of `second` is first * 1000 + SECOND for a pair that code really had while it ran."""
    if kept["name"] != "second":
        return
    value = _value(root, kept)
    ran = [tuple(pair) for step, pair in map(json.loads, (root / "seen.jsonl").read_text().splitlines()) if step == "second"]
    assert divmod(value, 1000) in ran


def _value(root: Path, kept: dict[str, object]) -> int:
    outputs = kept["outputs"]
    assert isinstance(outputs, list)
    (hash,) = outputs[0]["parts"].values()
    return int(json.loads((root / ".mlops" / "objects" / hash[:2] / hash).read_bytes()))
