"""Steps and modules that do what no step should: one clear error with what, where and what next; nothing is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Shop

HEAD = "import os, sys\nfrom typing import NamedTuple\nimport mlops_local as mlops\n\n"
GOOD = "@mlops.step\ndef good() -> int:\n    return 1\n\n\n"
DATA = 'rows = mlops.data("d/*.txt", kind="files")\n\n\n'


@pytest.fixture
def small(tmp_path: Path) -> Shop:
    """A project without libraries."""
    root = tmp_path / "small"
    (root / "d").mkdir(parents=True)
    (root / "d" / "1.txt").write_text("1")
    (root / "mlops.toml").write_text('[project]\nname = "small"\n')
    return Shop(root)


def code(shop: Shop, text: str) -> None:
    """Write the pipeline."""
    (shop.root / "pipeline.py").write_text(HEAD + text)


@pytest.mark.parametrize(
    ("body", "error", "hint"),
    [
        ("raise ValueError('x' * 30_000_000)", ": ValueError: xxx", "mlops logs"),
        ("class Odd(Exception):\n        def __str__(self): raise RuntimeError\n    raise Odd", "Odd: (its text", "mlops logs"),
        ("os._exit(0)", "it ended its process with exit code 0", "mlops logs"),
        ("sys.exit('enough')", "it called sys.exit('enough')", "mlops logs"),
        ("return (lambda lock: lock)", "a function, which cannot be kept", "plain JSON values"),
        ("x = []; x.append(x); return x", "contains itself", "return a flat value"),
        ("return (1, 2, 3)", "returned a tuple of 3, and its annotation promises one, two", "NamedTuple"),
        ("sys.setrecursionlimit(200); f = lambda: f(); f()", "RecursionError", "mlops logs"),
    ],
)
def test_a_step_that_fails_in_its_own_way(small: Shop, body: str, error: str, hint: str) -> None:
    """The step is named with what it did, in a few lines whatever it raised; the step before it is kept."""
    shape = "Two" if "1, 2, 3" in body else "object"
    pair = "class Two(NamedTuple):\n    one: int\n    two: int\n\n"
    code(small, pair + GOOD.rstrip() + f"\n@mlops.step\ndef bad(good: int) -> {shape}:\n    {body}\n")
    done = small.mlops("train", code=1)
    assert "error: step bad failed: " in done.stderr and error in done.stderr and hint in done.stderr
    assert len(done.stderr) < 12_000 and "mlops_local/worker" not in done.stderr
    assert {item["name"]: item["state"] for item in small.json("plan")["items"]} == {"good": "fresh", "bad": "stale"}


def test_a_step_that_takes_its_inputs_away(small: Shop) -> None:
    """Deleted or changed inputs end the run as failed, with the source's name; the result is not kept."""
    for act, said in (("open(rows[0], 'a').write('more')", "changed while"), ("os.remove(rows[0])", "are gone or unreadable")):
        code(small, DATA + f"@mlops.step\ndef bad(rows: list[str]) -> int:\n    {act}\n    return 1\n")
        done = small.mlops("train", code=1)
        assert f"the files of rows {said}" in done.stderr and "leaves its inputs alone" in done.stderr
    assert [run["state"] for run in small.json("runs")["items"]] == ["failed", "failed"]


def test_a_step_that_writes_beside_its_outputs(small: Shop) -> None:
    """It is said which file a reused result would not bring back; files it cleans up and outputs by path are no matter."""
    text = "open('beside.txt', 'w').write('x'); open('gone.txt', 'w').close(); os.remove('gone.txt')"
    code(small, f"@mlops.step\ndef bad() -> int:\n    {text}\n    return 1\n")
    done = small.mlops("train")
    assert "writes beside.txt, which is no output" in done.stderr and "gone.txt" not in done.stderr


def test_a_step_that_prints_without_end(small: Shop) -> None:
    """Of 100 MB that are not even text the head and the tail are kept, and `logs` shows them."""
    loop = "for n in range(1600): os.write(1, b'\\xff' * 65536)"
    code(small, f"@mlops.step\ndef loud() -> int:\n    print('first')\n    {loop}\n    print('last')\n    return 1\n")
    run = small.json("train")["run"]
    log = small.root / ".mlops" / "logs" / run / "loud.log"
    assert log.stat().st_size < 60_000_000
    with log.open("rb") as file:
        head = file.read(6)
        file.seek(-5, 2)
        assert (head, file.read()) == (b"first\n", b"last\n")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"def a( -> int: return 1\n", "syntax error"),
        (b"# \xff\xfe\n", "not UTF-8 text"),
        (b"x = 1\0\n", "null bytes"),
        (b"x = " + b"+".join([b"1"] * 20_000) + b"\n", "nested too deep"),
        (b"x = " + b"(" * 300 + b"1" + b")" * 300 + b"\n", "too many nested parentheses"),
        (b"import sys\nsys.exit(4)\n", "it called sys.exit(4)"),
        (b"import os\nos._exit(4)\n", "ended its process with exit code 4"),
        (b"import os\nos.kill(os.getpid(), 11)\n", "SIGSEGV"),
        (b"import nothing_like_this\n", "No module named 'nothing_like_this'"),
        (b"def f(): f()\nf()\n", "RecursionError"),
        (b"import mlops_local as mlops\n@mlops.step\nasync def a() -> int: return 1\n", "'a' is async"),
    ],
)
def test_a_module_that_cannot_be_imported(small: Shop, text: bytes, error: str) -> None:
    """File, line where there is one, and a way on; none of our own frames, and no page of output."""
    (small.root / "pipeline.py").write_bytes(text)
    done = small.mlops("plan", code=2)
    assert "error: pipeline.py" in done.stderr and error in done.stderr and "hint: " in done.stderr
    assert "mlops_local/" not in done.stderr and len(done.stderr) < 2500


def test_an_import_without_an_end_can_be_interrupted(small: Shop) -> None:
    """^C ends it with 130, and nothing of it goes on."""
    (small.root / "pipeline.py").write_text("open('started', 'w').close()\nwhile True: pass\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops_local", "train"], cwd=small.root, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        while not (small.root / "started").exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130 and said.decode().strip() == "error: interrupted"


def test_a_pipeline_that_declares_nothing(small: Shop) -> None:
    """A train with nothing to train says so instead of calling nothing fresh."""
    code(small, "def make():\n    @mlops.step\n    def hidden() -> int:\n        return 1\n")
    assert "declares no step at its top level" in small.mlops("train").stderr


def test_a_store_that_cannot_be_written_still_answers(small: Shop) -> None:
    """What only spares work is not kept, and a plan is shown all the same."""
    code(small, GOOD)
    small.mlops("train")
    for name in ("trace", "parts"):
        folder = small.root / ".mlops" / "cache" / name
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        folder.write_text("in the way")  # as good as a folder without permission, also for root
    assert small.stale() == []


def test_a_target_in_the_configuration_that_is_not_there(small: Shop) -> None:
    """The key of mlops.toml is named."""
    code(small, GOOD)
    (small.root / "mlops.toml").write_text('[project]\nname = "small"\ntargets = ["god"]\n')
    said = small.mlops("plan", code=2).stderr
    assert "mlops.toml: project.targets: no step or model named 'god', did you mean 'good'?" in said
