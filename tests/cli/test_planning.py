"""`mlops plan`, `why` and `dag` on a pipeline without libraries."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Mlops
from tests.conftest import MadeOnce

PIPELINE = """\
import mlops_local as mlops

words = mlops.data("data/*.txt", kind="files")


@mlops.step
def count(words: list[str]) -> int:
    return sum(len(open(path).read().split()) for path in words)


@mlops.step
def double(count: int, *, times: int = 2) -> int:
    return count * times


@mlops.step
def triple(count: int) -> int:
    return count * 3


@mlops.step
def both(double: int, triple: int) -> int:
    return double + triple
"""


@pytest.fixture
def ran(made_once: MadeOnce, mlops: Mlops, folder: Path) -> Path:
    """A project whose steps all ran."""

    def make(root: Path) -> None:
        (root / "data").mkdir(parents=True)
        (root / "mlops.toml").write_text('[project]\nname = "words"\n')
        (root / "pipeline.py").write_text(PIPELINE)
        (root / "data" / "a.txt").write_text("one two three")
        done = mlops("train", cwd=root)
        assert done.returncode == 0, done.stderr

    shutil.copytree(made_once("words", make), folder, symlinks=True, dirs_exist_ok=True)
    return folder


def _json(here: Mlops, *arguments: str) -> Any:
    done = here(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_states_reasons_and_times(here: Mlops, ran: Path) -> None:
    """Fresh after a train; an edit makes what it affects stale, with reasons, and says how long that took before."""
    assert "nothing to do: all 4 steps are fresh" in here("plan").stdout
    (ran / "pipeline.py").write_text(PIPELINE.replace("count * 3", "count + count + count"))
    found = _json(here, "plan", "-S", "times=5")
    items = {item["name"]: item for item in found["items"]}
    assert {name: item["state"] for name, item in items.items()} == {
        "count": "fresh",
        "double": "stale",
        "triple": "stale",
        "both": "stale",
    }
    assert [reason["text"] for reason in items["double"]["reasons"]] == ["params times: 2 → 5"]
    assert items["triple"]["reasons"][0]["kind"] == "code" and items["triple"]["reasons"][0]["where"] == "pipeline.py:17"
    assert found["seconds"] == sum(items[name]["seconds"] for name in ("double", "triple", "both")) > 0
    shown = here("plan", "-S", "times=5").stdout
    assert "3 of 4 steps to run, about" in shown and "unknown" not in shown


def test_what_never_ran_takes_an_unknown_time(here: Mlops, ran: Path) -> None:
    """Nothing is predicted for a step without a past, and the sum says how many there are."""
    (ran / "pipeline.py").write_text(PIPELINE + "\n\n@mlops.step\ndef last(both: int) -> int:\n    return both\n")
    shown = here("plan").stdout
    assert "never run" in shown and "1 of 5 steps to run, 1 of unknown length" in shown
    assert _json(here, "plan")["seconds"] is None


def test_why_shows_every_branch(here: Mlops, ran: Path) -> None:
    """Both ways to the step are followed to what was edited; what they share is explained once."""
    (ran / "pipeline.py").write_text(PIPELINE.replace("count * 3", "count + count + count"))
    (ran / "data" / "b.txt").write_text("four")
    shown = here("why", "both").stdout.splitlines()
    assert shown[0].startswith("both is stale")
    assert [line.lstrip("│├└─ ").split(":")[0] for line in shown[1:]] == [
        "data double will be made again",
        "data count will be made again",
        "data words",
        "data triple will be made again",
        "code pipeline.triple (pipeline.py",
        "data count will be made again (see above)",
    ]
    assert [item["name"] for item in _json(here, "why", "both")["items"]] == ["both", "double", "count", "triple"]
    (ran / "pipeline.py").write_text(PIPELINE)
    (ran / "data" / "b.txt").unlink()
    assert here("why", "both").stdout == "both is fresh\n└─ nothing it depends on changed\n"


def test_data_that_is_gone_blocks(here: Mlops, ran: Path) -> None:
    """Steps whose data cannot be read are blocked; the rest of the plan is shown, and where to look is said."""
    (ran / "data" / "a.txt").unlink()
    done = here("plan")
    assert done.returncode == 0 and done.stdout.count("blocked") == 5
    assert "no file matches data/*.txt" in done.stderr and "data words cannot be read" in done.stdout


def test_the_graph_as_a_tree(here: Mlops, mlops: Mlops, ran: Path) -> None:
    """What reads stands above what is read, each node is drawn once, and the states stand beside."""
    assert here("dag").stdout.splitlines() == [
        "node                 state   takes  because",
        "both                 fresh",
        "├─ double            fresh",
        "│  └─ count          fresh",
        "│     └─ words       source         data/*.txt",
        "└─ triple            fresh",
        "   └─ count (above)",
    ]
    ascii_only = mlops("dag", env={"PYTHONIOENCODING": "ascii"}).stdout
    assert "|- double" in ascii_only and ascii_only.isascii()
    assert [node["name"] for node in _json(here, "dag", "double")["items"]] == ["words", "count", "double"]


def test_colour_only_on_a_terminal(mlops: Mlops, ran: Path, environment: dict[str, str]) -> None:
    """States are coloured where somebody sees it, and nowhere else; NO_COLOR is heard."""
    assert "\x1b" not in mlops("dag").stdout
    for variables, expected in (({}, True), ({"NO_COLOR": "1"}, False)):
        mine, theirs = pty.openpty()
        subprocess.run(
            [sys.executable, "-m", "mlops_local", "dag"],
            cwd=ran,
            env={**environment, "TERM": "xterm", **variables},
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        os.close(theirs)
        shown = os.read(mine, 1 << 16).decode()
        os.close(mine)
        assert "both" in shown and ("\x1b[32mfresh" in shown) == expected


def test_a_target_nobody_knows(here: Mlops, ran: Path) -> None:
    """The nearest name is offered, the way out named."""
    for command in ("plan", "why", "dag"):
        done = here(command, "duble")
        assert done.returncode == 2 and "did you mean 'double'?" in done.stderr
