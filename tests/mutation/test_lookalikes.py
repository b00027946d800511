"""Programs that differ in one place that is easy to overlook: they are run, and where they give something else, they look else.

`lookalikes.txt`: each begins with `== what it is about | one text | another`, of which each stands once for `@@`; further files
begin with `# name.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutation.oracle import Oracle, Version
from tests.mutation.shapes import Job, Shape

TEXT = Path(__file__).with_name("lookalikes.txt").read_text()
PROGRAMS = {text.partition(" | ")[0]: text for text in TEXT.removeprefix("== ").split("\n== ")}


def versions(program: str) -> list[dict[str, str]]:
    """The files of both versions."""
    head, _, text = program.partition("\n")
    _, *fillings = head.split(" | ")
    whole = [text.replace("@@", filling.encode().decode("unicode_escape")) for filling in fillings]
    return [_files(version) for version in whole]


def _files(text: str) -> dict[str, str]:
    found, name = {"pipeline.py": ""}, "pipeline.py"
    for line in text.splitlines(keepends=True):
        if line.startswith("# ") and line.rstrip().endswith(".py"):
            name = line[2:].rstrip()
            found[name] = ""
        else:
            found[name] += line
    return found


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    made = Oracle()
    yield made
    made.close()


def test_programs_that_give_something_else_are_told_apart(oracle: Oracle) -> None:
    """No step takes the result of its look-alike for its own."""
    job = Job("pipeline", "fit")
    wrong, idle = [], []
    for what, program in PROGRAMS.items():
        made: list[Version] = []
        for files in versions(program):
            version = oracle.run(Shape(what, files, (job,)), files, "pipeline.py")
            assert version is not None, f"{what}: it does not import"
            made.append(version)
        if made[0].outputs == made[1].outputs:
            idle.append(what)
        if made[0].prints == made[1].prints:
            wrong.append(what)
    assert not wrong, ", ".join(wrong)
    assert not idle, f"both versions give the same: {', '.join(idle)}"
