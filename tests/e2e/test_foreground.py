"""One step in the user's own terminal: a real pseudo-terminal, the real command."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Shop

PIPELINE = """\
import mlops_local as mlops

@mlops.step
def numbers() -> list[int]:
    print("counting")
    return [1, 2, 3]

@mlops.step
def shares(numbers: list[int], *, total: int = 6) -> list[float]:
    first = numbers[0]
    scale = 1 / total
    return [number * scale for number in numbers]
"""


@pytest.fixture
def small(tmp_path: Path) -> Shop:
    (tmp_path / "mlops.toml").write_text('[project]\nname = "small"\n')
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    return Shop(tmp_path)


def talk(shop: Shop, arguments: list[str], answers: list[tuple[str, str]]) -> tuple[int, str]:
    """Run `mlops ARGUMENTS` on a terminal; whenever the next text was shown, type what belongs to it."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mlops_local", *arguments]
    process = subprocess.Popen(command, cwd=shop.root, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown, seen, left, until = "", 0, list(answers), time.monotonic() + 90
    try:
        while time.monotonic() < until:
            if not select.select([ours], [], [], 0.2)[0]:
                if process.poll() is not None:
                    break
                continue
            try:
                shown += os.read(ours, 1 << 16).decode("utf-8", "replace")
            except OSError:  # the terminal's other end is closed
                break
            if left and left[0][0] in shown[seen:]:
                seen = len(shown)
                os.write(ours, left.pop(0)[1].encode() + b"\n")
        return process.wait(30), shown
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_an_exception_opens_the_debugger_where_it_was_raised(small: Shop) -> None:
    """`train STEP --debug` shows the user's traceback and stops in the failing frame; nothing is recorded."""
    small.mlops("train", "numbers")
    runs = small.json("runs")
    said = [("(Pdb)", "p 'first is', first"), ("first is", "q")]
    code, shown = talk(small, ["train", "shares", "--debug", "-S", "shares.total=0"], said)
    assert code == 1 and "ZeroDivisionError" in shown and "('first is', 1)" in shown.replace('"', "'")
    assert 'File "pipeline.py"' in shown and "mlops_local/worker" not in shown.partition("post-mortem")[0]
    assert small.json("runs") == runs and small.stale("shares") == ["shares"]


def test_a_breakpoint_stops_in_this_terminal(small: Shop) -> None:
    """`breakpoint()` in a step works, and the step goes on to its end."""
    small.edit("pipeline.py", "    first = numbers[0]\n", "    first = numbers[0]\n    breakpoint()\n")
    small.mlops("train", "numbers")
    code, shown = talk(small, ["train", "shares", "--debug"], [("(Pdb)", "p numbers"), ("[1, 2, 3]", "c")])
    assert code == 0 and "shares: result is json, 3 rows; nothing was kept" in shown


def test_a_shell_has_inputs_parameters_and_the_function(small: Shop) -> None:
    """`mlops shell STEP` is a Python in which the step can be called as the pipeline would."""
    small.mlops("train", "numbers")
    (small.root / "IPython.py").write_text("raise ImportError")  # its prompt is another, where it is installed
    said = [(">>>", "print('got', shares(numbers, total=total))"), ("got [0.1666", "exit()")]
    code, shown = talk(small, ["shell", "shares"], said)
    assert code == 0 and "numbers: list" in shown and "total: int" in shown and "got [0.1666" in shown


def test_inputs_must_be_made_first(small: Shop) -> None:
    """What is not up to date is named with the command that makes it; a wrong name has its neighbour."""
    failed = small.mlops("train", "shares", "--debug", code=2).stderr
    assert "shares needs numbers, which is not up to date" in failed and "mlops train numbers" in failed
    assert "did you mean 'shares'" in small.mlops("shell", "share", code=2).stderr
    assert "--debug takes one step" in small.mlops("train", "--debug", code=2).stderr


def test_without_a_terminal_it_is_a_traceback(small: Shop) -> None:
    """With no one to ask, an exception is shown and the exit code is 1; what the step prints is on stdout."""
    assert "counting" in small.mlops("train", "numbers", "--debug").stdout
    small.mlops("train", "numbers")
    failed = small.mlops("train", "shares", "--debug", "-S", "shares.total=0", code=1)
    assert "ZeroDivisionError" in failed.stderr and "(Pdb)" not in failed.stdout
