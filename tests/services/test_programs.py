"""The files that are a command step's program: in the project's folder, in the staged tree, and for the hook."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_local.domain.errors import ConfigError
from mlops_local.services import git, hook, planning, programs
from mlops_local.services.known import Code
from mlops_local.services.project import Project, find
from tests.hook.conftest import Repository, record_starts

TOML = """\
[project]
name = "p"
[steps.made]
command = "sh lib/run.sh {output}"
outputs = "made.txt"
code = ["lib/*.sh", "main.cfg"]
"""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A project of one command, committed."""
    (tmp_path / "project" / "lib").mkdir(parents=True)
    for name, text in (("mlops.toml", TOML), ("lib/run.sh", "echo 1 > $1\n"), ("main.cfg", "a"), ("other.sh", "")):
        (tmp_path / "project" / name).write_text(text)
    made = Repository(tmp_path / "project")
    made.git("init", "-q", "-b", "main")
    made.git("add", "-A")
    made.commit()
    return made


def staged(project: Project) -> Code:
    """The project's code as the index has it."""
    with git.Tree.open(project.root) as tree:
        return planning.read_code(project, load=tree.read, listed=tree.entries)


def names(code: Code) -> list[str]:
    """The files that count."""
    return [part.what for part in code.programs["made"]]


def test_the_staged_program_is_asked_about(repository: Repository) -> None:
    """An edit, a new file and a deletion count once they are staged; a clean tree and the disk are the same."""
    project, root = find(repository.root), repository.root
    before = staged(project).programs
    assert before == planning.read_code(project).programs and names(staged(project)) == ["lib/run.sh", "main.cfg"]
    (root / "lib" / "run.sh").write_text("echo 2 > $1\n")
    (root / "lib" / "new.sh").write_text("")
    assert staged(project).programs == before != planning.read_code(project).programs
    repository.git("add", "-A")
    assert staged(project).programs == planning.read_code(project).programs
    repository.git("rm", "-q", "-f", "lib/run.sh")
    (root / "lib" / "run.sh").write_text("back, and not staged\n")
    assert names(staged(project)) == ["lib/new.sh", "main.cfg"]


def test_a_pattern_git_knows_nothing_of_is_looked_up_in_the_folder(repository: Repository) -> None:
    """A program that is ignored by git is taken as it is; one that is nowhere is an error."""
    repository.git("rm", "-q", "-r", "--cached", "lib")
    project = find(repository.root)
    assert names(staged(project)) == ["lib/run.sh", "main.cfg"]
    (repository.root / "lib" / "run.sh").unlink()
    with pytest.raises(ConfigError, match=r"the code of made, lib/\*\.sh, is not there"):
        staged(project)


def test_the_hook_starts_for_a_program_and_not_beside_it(repository: Repository, tmp_path: Path) -> None:
    """A commit of a declared file, also a new one, is looked at; other scripts are not."""
    repository.mlops("hook", "install")
    mark = record_starts(repository, tmp_path)
    code = planning.read_code(find(repository.root))
    assert {"glob:lib/*.sh", "glob:main.cfg"} <= set(hook.relevant(code, "pipeline.py"))
    for name, starts in (("other.sh", False), ("lib/run.sh", True), ("lib/new.sh", True), ("main.cfg", True)):
        with (repository.root / name).open("a") as file:
            file.write("# x\n")
        repository.git("add", name)
        repository.commit()
        assert mark.exists() is starts, name
        mark.unlink(missing_ok=True)


def test_files_that_are_code_now(repository: Repository) -> None:
    """A pattern means what is there; a named file counts also when it is gone."""
    graph = planning.read_code(find(repository.root)).graph
    (repository.root / "main.cfg").unlink()
    assert programs.files(repository.root, graph) == {"lib/run.sh", "main.cfg"}
