"""The short form of `make torture`, and that its oracle stands on its own feet."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.torture import oracle

ROOT = Path(__file__).parents[2]


def test_nothing_acknowledged_is_lost_under_fire() -> None:
    """A few seconds of kills, a filling disk, stopped readers, jumping clocks and torn tails: every promise is kept."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.torture", "--seconds", "6"], cwd=ROOT, capture_output=True, text=True, timeout=150
    )
    assert ended.returncode == 0 and "every promise kept" in ended.stdout, ended.stdout + ended.stderr


def test_the_oracle_shares_no_code_with_the_program() -> None:
    """What counts the rows imports nothing of ours."""
    assert "import mlops_local" not in (text := Path(oracle.__file__).read_text()) and "from mlops_local" not in text


def test_the_oracle_notices_a_loss(tmp_path: Path) -> None:
    """A store that lost what was acknowledged is not called sound."""
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "trainer.1.jsonl").write_text('{"kind": "points", "role": "trainer", "run": "r", "upto": 3}\n{"kind": "poi')
    made = oracle.Verdict()
    oracle._journals(made, tmp_path, {("r", "m"): 3})
    (tmp_path / "1.metric.000.jsonl").write_text("".join(f'{{"k":"m","r":"r","key":"m0","s":{step}}}\n' for step in (0, 1, 1)))
    oracle._journals(made, tmp_path, {("r", "m"): 3})
    assert [problem.partition(":")[0] for problem in made.problems] == [
        "3 acknowledged points are not in the journals",
        "1 points are in the journals twice",
        "1 acknowledged points are not in the journals",
    ]
    assert [note["kind"] for note in oracle.notes(notes)] == ["points"]


def test_the_oracle_notices_unfairness() -> None:
    """A process that got less than half of the mean number of turns is said."""
    made = oracle.Verdict()
    oracle._fairness(made, Counter({0: 10, 1: 11, 2: 9}))
    assert made.problems == []
    oracle._fairness(made, Counter({0: 20, 1: 20, 2: 7}))
    assert made.problems == ["turns are not fair: [7, 20, 20]"]
