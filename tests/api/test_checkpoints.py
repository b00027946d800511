"""A loop that can be interrupted: what it keeps comes back as it was, and outside a step it is a plain loop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mlops_local as mlops
from mlops_local.domain.errors import UsageError
from mlops_local.store.layout import Layout, create

PROLOGUE = """
import random, sys
from pathlib import Path
import numpy as np
import mlops_local as mlops
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "mlops.toml").write_text('[project]\nname = "steps"\n')
    create(Layout(tmp_path))
    return tmp_path


def step(project: Path, code: str, *, resume: bool = False, run: str = "0" * 31 + "1") -> str:
    """Run code as a step's process would; returns what it printed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLOPS_")}
    state = project / ".mlops"
    ours = {"MLOPS_RUN": run, "MLOPS_STATE": str(state), "MLOPS_STEP": "net", "MLOPS_RESUME": "1" if resume else ""}
    ours["MLOPS_CHECKPOINTS"] = str(state / "checkpoints" / "f")
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + code], cwd=project, env={**kept, **ours}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def journalled(project: Path, kind: str) -> list[dict[str, object]]:
    lines = [line for path in sorted((project / ".mlops/journal").glob("*.jsonl")) for line in path.read_text().splitlines()]
    return [value for value in map(json.loads, lines) if value["k"] == kind]


def test_outside_a_step_it_is_a_plain_loop() -> None:
    """A step's function called in a test runs all its epochs, keeps nothing and finds nothing."""
    part = {"n": 0}
    for epoch in mlops.epochs(3, part):
        part["n"] += epoch
        mlops.checkpoint(part, epoch)
    assert part["n"] == 3 and mlops.resume() is None and mlops.should_stop() is False


def test_parts_and_generators_come_back(project: Path) -> None:
    """Dicts, numpy generators and the generators of Python and numpy go on exactly where they were."""
    loop = (
        "own, dice = {'sum': 0.0}, np.random.default_rng(5)\n"
        "random.seed(1); np.random.seed(1)\n"
        "for epoch in mlops.epochs(6, own, dice):\n"
        "    own['sum'] += random.random() + dice.random() + np.random.rand()\n"
        "    if epoch == 4 and not Path('second').exists(): Path('second').touch(); sys.exit(0)\n"
        "print(repr(own['sum']))\n"
    )
    step(project, loop)
    resumed = step(project, loop, resume=True)
    assert resumed == step(project, loop) and resumed


def test_a_state_can_be_a_file_or_folder_of_a_framework(project: Path) -> None:
    """It is copied when it is kept, and comes back as a path to the same bytes."""
    step(
        project,
        "folder = Path('own'); folder.mkdir(); (folder / 'a.bin').write_bytes(b'1')\n"
        "mlops.checkpoint(folder, 3)\n"
        "(folder / 'a.bin').write_bytes(b'2')\n",
    )
    said = step(
        project,
        "kept = mlops.resume()\nprint(kept.epoch, kept.state.name, (kept.state / 'a.bin').read_bytes())\n",
        resume=True,
    )
    assert said == "3 own b'1'\n"
    assert step(project, "print(mlops.resume())") == "None\n"


def test_points_are_logged_again_once(project: Path) -> None:
    """A run that goes on has the points of the epochs before, also when it is interrupted a second time."""
    loop = (
        "stop = int(Path('stop').read_text())\n"
        "for epoch in mlops.epochs(6):\n"
        "    mlops.log(epoch, loss=float('nan') if epoch == 1 else epoch / 10)\n"
        "    if epoch == stop: sys.exit(0)\n"
    )
    for number, stop in enumerate((2, 4, 6), start=1):
        (project / "stop").write_text(str(stop))
        step(project, loop, resume=number > 1, run=f"{number:032x}")
    points = [(line["s"], line["x"]) for line in journalled(project, "m") if line["r"] == f"{3:032x}"]
    assert points == [(0, 0.0), (1, "NaN"), (2, 0.2), (3, 0.3), (4, 0.4), (5, 0.5)]


def test_a_metric_that_is_no_number_any_more_is_noted_once(project: Path) -> None:
    """The run says which one, of which step, and when; it goes on."""
    step(
        project,
        "for i in range(5): mlops.log(i, loss=float('nan') if i > 2 else i, gain=float('inf') if i == 4 else 1.0)\n"
        "mlops.log(auc=float('-inf'))\n",
    )
    notes = [line["text"] for line in journalled(project, "note")]
    assert notes == ["net: loss became NaN at step 3", "net: gain became infinite at step 4", "net: auc became infinite"]


def test_a_loop_ends_early_when_it_is_asked_to(project: Path) -> None:
    """It keeps its state after the epoch in progress and says how far it came; a request to cancel is not one to keep."""
    loop = (
        "import sys; from mlops_local.api import checkpoints\n"
        "place = Path('.mlops/stops'); place.mkdir(exist_ok=True)\n"
        "for epoch in mlops.epochs(9, every=100):\n"
        "    (place / ('0' * 31 + '1')).write_text('cancel' if epoch < 3 else 'keep')\n"
        "print(epoch, checkpoints.stopped())\n"
    )
    assert step(project, loop) == "3 after 4 of 9 epochs\n"
    assert step(project, "print(mlops.resume().epoch)", resume=True) == "3\n"


def test_what_cannot_be_kept_is_refused() -> None:
    """A part without a state, an epoch that is no number."""
    with pytest.raises(UsageError, match="the state of a list cannot be taken"):
        next(mlops.epochs(3, []))
    with pytest.raises(UsageError, match="whole number"):
        mlops.checkpoint({}, -1)


def test_another_loops_checkpoint_is_refused(project: Path) -> None:
    """A state that this loop did not keep is not forced into it."""
    step(project, "mlops.checkpoint({'my': 1}, 2)")
    code = "try:\n    next(mlops.epochs(3, {}))\nexcept Exception as error: print(error)\n"
    assert "was not kept by this loop" in step(project, code, resume=True)
