"""What earlier versions of the code declared is known without importing it again, where that is sure to be the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlops_local.domain.graph import to_json
from mlops_local.engines.pipeline.runner import Workers
from mlops_local.services import planning
from mlops_local.services.edits import Version, compare
from mlops_local.services.known import Code
from mlops_local.services.project import Project, find

PIPELINE = """\
import os
import mlops_local as mlops
from helper import shifted

raw = mlops.data("raw.csv", kind="files")
LIMIT = int(os.environ.get("LIMIT_OF_THE_TEST", "3"))
WORDS = open("words.txt").read().split()


@mlops.step
def first(raw: list, *, by: int = 2) -> int:
    return shifted(len(raw), by)


@mlops.step
def second(first: int) -> dict:
    return {"first": first}
"""
HELPER = """\
def shifted(value, by):
    return value + by
"""


class Never(Workers):
    """Workers that must not be asked."""

    def describe(self, *arguments: Any, **options: Any) -> Any:
        raise AssertionError("the pipeline is imported again")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose code was described once."""
    (tmp_path / "mlops.toml").write_text('[project]\nname = "small"\n')
    write(tmp_path, {"pipeline.py": PIPELINE, "helper.py": HELPER, "words.txt": "a b"})
    project = find(tmp_path)
    planning.read_code(project)
    return project


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).write_text(text)


def known(project: Project) -> Code:
    """The code, from what is known alone."""
    return planning.read_code(project, workers=Never(project.root))


def test_other_bodies_declare_what_was_declared_at_their_own_lines(project: Project) -> None:
    """After edits of bodies and comments the graph is, to the last field, the one that importing would describe."""
    edits = [
        {"helper.py": HELPER.replace("value + by", "by - value")},
        {"pipeline.py": "# a comment\n\n" + PIPELINE.replace("    return {", "    found = {}\n    return {**found, ")},
        {"pipeline.py": PIPELINE, "helper.py": "\n" + HELPER},
    ]
    for edit in edits:
        write(project.root, edit)
        code = known(project)
        assert known(project).graph == code.graph
        with Workers(project.root) as workers:
            described = workers.describe("pipeline.py", code.sources)
        assert to_json(code.graph) == to_json(described) | {"contents": dict(code.graph.contents)}
        step = code.graph.step("second")
        assert (project.root / "pipeline.py").read_text().splitlines()[step.line - 1].startswith("def second")
        assert code.parts(step) != ()


@pytest.mark.parametrize(
    "edit",
    [
        {"pipeline.py": PIPELINE.replace("by: int = 2", "by: int = 3")},
        {"words.txt": "c", "helper.py": HELPER + "\n"},
        {"helper.py": HELPER.replace("value + by", "__import__('json') and by")},
        {"pipeline.py": PIPELINE + "\nTABLE = [shifted(n, 1) for n in range(3)]\n"},
        {"pipeline.py": PIPELINE.replace("return {", "return {{")},
    ],
)
def test_what_importing_sees_is_described_anew(project: Project, edit: Mapping[str, str]) -> None:
    """A default, a file that was read, another import, a helper that is called at once, what does not compile."""
    write(project.root, edit)
    with pytest.raises(AssertionError, match="imported again"):
        known(project)


def test_a_variable_of_another_value_is_asked_for_anew(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment said while importing counts for every version of that outline."""
    write(project.root, {"helper.py": HELPER.replace("value + by", "by")})
    monkeypatch.setenv("LIMIT_OF_THE_TEST", "4")
    with pytest.raises(AssertionError, match="imported again"):
        known(project)


def test_a_watcher_sees_that_another_local_name_means_the_same(project: Project) -> None:
    """Nothing is run or imported to say so; a step that means something else, or another default, is no such edit."""
    helper = "def shifted(value, by):\n    total = value + by\n    return total\n"
    write(project.root, {"helper.py": helper})
    code, toml = known(project), (project.root / "mlops.toml").read_bytes()
    version = Version(code, project.config, toml, planning.parameters(code.graph, project.config))
    write(project.root, {"helper.py": helper.replace("total", "moved")})
    assert compare(project.root, version).same
    write(project.root, {"helper.py": HELPER.replace("value + by", "by")})
    assert compare(project.root, version).affected == {"first", "second"}
    write(project.root, {"helper.py": helper, "pipeline.py": PIPELINE.replace("by: int = 2", "by: int = 3")})
    assert not compare(project.root, version).same


def test_code_that_reads_its_own_text_is_described_at_each_edit(project: Project) -> None:
    """A module that opens another as a file may declare what that says."""
    write(project.root, {"pipeline.py": PIPELINE.replace("words.txt", "helper.py")})
    planning.read_code(project)
    write(project.root, {"helper.py": HELPER + "# more\n"})
    with pytest.raises(AssertionError, match="imported again"):
        known(project)
