"""Installing beside other hooks, in every place git looks, and leaving no trace."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from mlops_local.services import hook, planning
from mlops_local.services.project import find
from tests.hook.conftest import Repository, make_plain, record_starts

FOREIGN = b"#!/bin/sh\n# not ours \xff\necho foreign ran\nexit ${FOREIGN_CODE:-0}\n"


def names(folder: Path) -> set[str]:
    """Files in a hooks folder, without git's samples."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(".sample")}


def test_install_status_uninstall(fresh: Repository) -> None:
    """Status follows; installing twice changes nothing; uninstalling leaves the folder as it was."""
    before = names(fresh.hook().parent)
    assert fresh.json("hook", "status")["state"] == "absent"
    fresh.mlops("hook", "install")
    text = fresh.hook().read_bytes()
    state = fresh.json("hook", "status")
    assert state["state"] == "installed" and state["problem"] == ""
    assert set(state["paths"]) == {
        ":(top,literal)pipeline.py",
        ":(top,literal)cleaning.py",
        ":(top,literal)mlops.toml",
        ":(top,literal)mlops.lock",
        ":(top,glob)data/visits-*.parquet",
    }
    fresh.mlops("hook", "install")
    assert fresh.hook().read_bytes() == text
    fresh.mlops("hook", "uninstall")
    assert names(fresh.hook().parent) == before
    fresh.mlops("hook", "uninstall")
    assert fresh.json("hook", "status")["state"] == "absent"


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o644])
def test_an_earlier_hook_is_kept_chained_and_restored(fresh: Repository, mode: int) -> None:
    """It runs first, its failure blocks, and uninstalling brings it back with the same bytes and mode."""
    fresh.hook().write_bytes(FOREIGN)
    fresh.hook().chmod(mode)
    assert fresh.json("hook", "status")["state"] == "foreign"
    fresh.mlops("hook", "install")
    fresh.mlops("hook", "install")
    assert Path(fresh.json("hook", "status")["chained"]).name == "pre-commit.before-mlops"
    (fresh.root / "README.md").write_text("x\n")
    fresh.git("add", "-A")
    if mode & 0o100:
        blocked = fresh.git("commit", "-qm", "x", code=1, FOREIGN_CODE="7")
        assert "foreign ran" in blocked.stderr
    said = fresh.commit()
    assert ("foreign ran" in said) == bool(mode & 0o100), "git ignores a hook that is not executable, so do we"
    fresh.mlops("hook", "uninstall")
    assert fresh.hook().read_bytes() == FOREIGN
    assert fresh.hook().stat().st_mode & 0o777 == mode
    assert names(fresh.hook().parent) == {"pre-commit"}


def test_an_earlier_hook_that_is_a_link_stays_one(fresh: Repository) -> None:
    """A link to a tracked hook is moved and brought back as a link."""
    (fresh.root / "tools").mkdir()
    (fresh.root / "tools" / "check").write_bytes(FOREIGN)
    (fresh.root / "tools" / "check").chmod(0o755)
    fresh.hook().symlink_to("../../tools/check")
    fresh.mlops("hook", "install")
    assert (fresh.root / "tools" / "check").read_bytes() == FOREIGN
    (fresh.root / "README.md").write_text("x\n")
    fresh.git("add", "README.md")
    assert "foreign ran" in fresh.commit()
    fresh.mlops("hook", "uninstall")
    assert fresh.hook().is_symlink() and str(fresh.hook().readlink()) == "../../tools/check"


def test_two_earlier_hooks_are_refused(fresh: Repository) -> None:
    """When another tool has put its hook over ours, nothing is overwritten and the way out is said."""
    fresh.hook().write_bytes(FOREIGN)
    fresh.mlops("hook", "install")
    fresh.hook().write_bytes(b"#!/bin/sh\n# another\n")
    done = fresh.mlops("hook", "install", code=2)
    assert "two earlier hooks" in done.stderr and "hint:" in done.stderr
    assert fresh.hook().read_bytes() == b"#!/bin/sh\n# another\n"
    assert fresh.hook().with_name("pre-commit.before-mlops").read_bytes() == FOREIGN
    fresh.mlops("hook", "uninstall")
    assert fresh.hook().read_bytes() == b"#!/bin/sh\n# another\n"


def change(repository: Repository, *, code: int = 0) -> str:
    """Commit a change that matters."""
    with (repository.root / "pipeline.py").open("a") as file:
        file.write("LAST = 1\n")
    repository.git("add", "-A")
    return repository.commit(code=code)


def test_core_hooks_path(fresh: Repository, tmp_path: Path) -> None:
    """A hooks folder inside the repository is used, made when it is missing."""
    fresh.git("config", "core.hooksPath", "tools/hooks")
    fresh.mlops("hook", "install")
    assert names(fresh.root / "tools" / "hooks") == {"pre-commit"}
    assert not fresh.hook().exists()
    mark = record_starts(fresh, tmp_path)
    change(fresh)
    assert mark.read_text() == ".\n"


def test_a_hooks_folder_shared_by_repositories_acts_in_this_one_only(fresh: Repository, tmp_path: Path) -> None:
    """With a global core.hooksPath the section asks whose repository it is in."""
    shared = tmp_path / "shared"
    fresh.git("config", "core.hooksPath", str(shared))
    fresh.mlops("hook", "install")
    mark = record_starts(fresh, tmp_path)
    other = make_plain(tmp_path / "other")
    other.git("init", "-q")
    other.git("config", "core.hooksPath", str(shared))
    other.git("add", "-A")
    other.commit()
    assert not mark.exists()
    change(fresh)
    assert mark.read_text() == ".\n"
    assert fresh.json("hook", "status")["state"] == "installed"


def test_a_linked_worktree_installs_for_all(fresh: Repository, tmp_path: Path) -> None:
    """Worktrees share the hooks folder: installed in one, it acts in each, on that one's files."""
    linked = Repository(tmp_path / "linked")
    fresh.git("worktree", "add", "-q", str(linked.root))
    linked.mlops("hook", "install")
    assert fresh.hook().exists()
    assert fresh.json("hook", "status")["state"] == "installed"
    mark = record_starts(fresh, tmp_path)
    change(fresh)
    change(linked)
    assert mark.read_text() == ".\n.\n"


def test_several_projects_in_one_repository(tmp_path: Path) -> None:
    """Each project has its section; a commit is checked by those it touches; the file goes with the last."""
    top = tmp_path / "top"
    first = make_plain(top / "first", top)
    second = make_plain(top / "it's second", top)
    first.git("init", "-q")
    first.git("add", "-A")
    first.commit()
    first.mlops("hook", "install")
    assert second.json("hook", "status")["state"] == "elsewhere"
    second.mlops("hook", "install")
    mark = record_starts(first, tmp_path)
    change(first)
    change(second)
    assert mark.read_text() == "first\nit's second\n"
    first.mlops("hook", "uninstall")
    change(first)
    change(second)
    assert mark.read_text() == "first\nit's second\nit's second\n"
    second.mlops("hook", "uninstall")
    assert not first.hook().exists()


def test_husky_is_left_alone(fresh: Repository) -> None:
    """A generated hooks folder is not written into; the line to add is said."""
    fresh.git("config", "core.hooksPath", ".husky/_")
    done = fresh.mlops("hook", "install", code=2)
    assert "husky" in done.stderr and "hook run" in done.stderr
    assert not (fresh.root / ".husky").exists()


def test_without_a_repository(tmp_path: Path) -> None:
    """Outside git the command says what to do."""
    shop = make_plain(tmp_path / "shop")
    done = shop.mlops("hook", "install", code=2)
    assert "not in a git repository" in done.stderr and "git init" in done.stderr


def test_a_pipeline_that_does_not_load_can_be_guarded(fresh: Repository) -> None:
    """The hook is installed with what the code names; once it loads, refreshing adds the rest."""
    good = (fresh.root / "pipeline.py").read_text()
    (fresh.root / "pipeline.py").write_text("import cleaning\nraise RuntimeError('not today')\n")
    fresh.mlops("hook", "install")
    paths = set(fresh.json("hook", "status")["paths"])
    assert {":(top,literal)pipeline.py", ":(top,literal)cleaning.py", ":(top,literal)mlops.toml"} <= paths
    (fresh.root / "pipeline.py").write_text(good)
    fresh.mlops("hook", "install")
    assert ":(top,glob)data/visits-*.parquet" in fresh.json("hook", "status")["paths"]


def test_refresh_follows_the_code_and_touches_only_our_file(fresh: Repository) -> None:
    """A new module is looked at after a refresh; without our hook nothing is written."""
    from mlops_local.services import hook
    from mlops_local.services.project import find

    project = find(fresh.root)
    assert hook.refresh(project) is False
    assert not fresh.hook().exists()
    fresh.hook().write_bytes(FOREIGN)
    assert hook.refresh(project) is False
    assert fresh.hook().read_bytes() == FOREIGN
    fresh.mlops("hook", "install")
    assert hook.refresh(project) is False
    (fresh.root / "prices.py").write_text("FACTOR = 2\n")
    fresh.edit("pipeline.py", "from cleaning import scale", "from cleaning import scale\nfrom prices import FACTOR")
    assert hook.refresh(project) is True
    assert ":(top,literal)prices.py" in hook.status(project).paths


def test_a_train_survives_a_hook_that_cannot_be_written(fresh: Repository) -> None:
    """A full disk under the hooks folder leaves the list of paths as it was; what trained counts all the same."""
    fresh.mlops("hook", "install")
    before = fresh.hook().read_bytes()
    (fresh.root / "more.py").write_text("")
    fresh.edit("pipeline.py", "import mlops_local as mlops\n", "import more\nimport mlops_local as mlops\n")
    project = find(fresh.root)
    code = planning.read_code(project)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        assert hook.refresh(project, code) is False
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert fresh.hook().read_bytes() == before
    assert hook.refresh(project, code) is True
    assert b"more.py" in fresh.hook().read_bytes()
    project.store.close()
