"""Real commits, made by real git, with the installed hook."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tests.hook.conftest import WORSE, Repository, make_repository, record_starts


def test_a_commit_that_touches_nothing_of_the_project_starts_no_python(repository: Repository, tmp_path: Path) -> None:
    """A README is committed by the shell part alone; the pipeline, its modules, data, mlops.toml and mlops.lock start it."""
    mark = record_starts(repository, tmp_path)
    (repository.root / "README.md").write_text("hello\n")
    (repository.root / "other.py").write_text("A = 1\n")
    repository.git("add", "-A")
    repository.commit()
    assert not mark.exists()
    for name in ("pipeline.py", "cleaning.py", "mlops.toml", "mlops.lock", "data/visits-9.parquet"):
        with (repository.root / name).open("a") as file:
            file.write("# x\n")
        repository.git("add", name)
        repository.commit()
        assert mark.exists(), name
        mark.unlink()


def test_an_edit_that_means_nothing_is_unaffected(repository: Repository) -> None:
    """A comment passes, with the champion it still makes."""
    repository.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 30  # rounds")
    repository.git("add", "-A")
    said = repository.commit()
    assert "purchase: unaffected, this code makes purchase@1, the champion (auc " in said


def test_a_regression_blocks_with_numbers(judged: Repository) -> None:
    """Code whose trained version lost more than the margin is not committed; one line a metric says by how much."""
    judged.edit("pipeline.py", *WORSE)
    judged.git("add", "-A")
    before = judged.head()
    said = judged.commit(code=1)
    assert judged.head() == before
    line = next(line for line in said.splitlines() if line.startswith("mlops: purchase: auc"))
    for words in (
        "champion purchase@1 0.",
        "candidate purchase@2 0.",
        "difference -0.",
        "margin 0.02",
        "rows in",
        "regression",
    ):
        assert words in line, line
    assert "commit blocked" in said
    judged.commit("--no-verify")
    assert judged.head() != before


def test_what_is_staged_counts_not_the_working_tree(judged: Repository) -> None:
    """Bad code staged under a good working copy is blocked; good code staged under a bad one passes; nothing is stashed."""
    judged.edit("pipeline.py", *WORSE)
    judged.git("add", "-A")
    good = judged.git("show", "HEAD:pipeline.py").stdout
    (judged.root / "pipeline.py").write_text(good)
    judged.commit(code=1)
    assert (judged.root / "pipeline.py").read_text() == good
    judged.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 30  # staged")
    judged.git("add", "-A")
    judged.edit("pipeline.py", *WORSE)
    assert "unaffected" in judged.commit()
    assert judged.git("stash", "list").stdout == ""
    assert WORSE[0] not in (judged.root / "pipeline.py").read_text()


def test_commit_all_and_commit_a_path_use_their_own_index(judged: Repository) -> None:
    """`git commit -a` and `git commit PATH` check what they are about to commit, not what lies in the usual index."""
    judged.edit("pipeline.py", *WORSE)
    assert "regression" in judged.commit("-a", code=1)
    assert "regression" in judged.commit("pipeline.py", code=1)
    judged.git("add", "-A")
    judged.edit("cleaning.py", '"""Helpers of the pipeline."""', '"""Helpers."""')
    assert "unaffected" in judged.commit("cleaning.py")


def test_code_that_was_never_evaluated_passes_with_one_line(repository: Repository) -> None:
    """No verdict is not a regression: the commit passes and says which command makes one."""
    repository.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 31")
    repository.git("add", "-A")
    said = repository.commit()
    lines = [line for line in said.splitlines() if line.startswith("mlops: ")]
    assert len(lines) == 1, said
    assert "no verdict, the staged code was never evaluated" in lines[0]
    assert "ROUNDS" in lines[0] and "`mlops train gbm`" in lines[0]


def test_a_project_can_ask_for_a_verdict(repository: Repository) -> None:
    """With [hook] untrained = "block" in the staged mlops.toml, code without a verdict is not committed."""
    with (repository.root / "mlops.toml").open("a") as file:
        file.write('untrained = "block"\n')
    repository.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 31")
    repository.git("add", "-A")
    (repository.root / "mlops.toml").write_text('[project]\nname = "shop"\n[hook]\ntimeout = 90\n')
    said = repository.commit(code=1)
    assert "commit blocked" in said and 'untrained = "block"' in said


def test_tracked_data_count_as_staged(repository: Repository) -> None:
    """Changed data that are not staged change nothing; staged, they are named as the reason that there is no verdict."""
    from tests.e2e.conftest import visits

    visits(500, first_day=21, days=2).write_parquet(repository.root / "data" / "visits-2.parquet")
    repository.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 30  # comment")
    repository.git("add", "pipeline.py")
    assert "unaffected" in repository.commit()
    repository.git("add", "data")
    said = repository.commit()
    assert "no verdict" in said and "visits" in said


def test_a_broken_project_is_blocked(repository: Repository) -> None:
    """A staged pipeline that does not load, or an mlops.toml that is not TOML, blocks with the reason; repaired it passes."""
    good = (repository.root / "pipeline.py").read_text()
    (repository.root / "pipeline.py").write_text("def broken(:\n")
    repository.git("add", "-A")
    (repository.root / "pipeline.py").write_text(good)
    said = repository.commit(code=1)
    assert "the staged project cannot be read" in said and "pipeline.py" in said
    repository.git("add", "-A")
    config = (repository.root / "mlops.toml").read_text()
    (repository.root / "mlops.toml").write_text("[project\n")
    repository.git("add", "-A")
    said = repository.commit(code=1)
    assert "mlops.toml is not valid TOML" in said
    (repository.root / "mlops.toml").write_text(config + "# fine\n")
    repository.git("add", "-A")
    (repository.root / "mlops.toml").write_text("[project\n")
    assert "unaffected" in repository.commit()


def test_an_old_mlops_lock_is_said(repository: Repository) -> None:
    """A staged mlops.lock that names another champion than the staged code makes is named."""
    text = (repository.root / "mlops.lock").read_text()
    (repository.root / "mlops.lock").write_text(text.replace("fingerprint=", "fingerprint=0"))
    repository.git("add", "-A")
    assert "mlops.lock is out of date" in repository.commit()


def test_amend_and_worktree(judged: Repository, tmp_path: Path) -> None:
    """Amending and committing in a linked worktree are checked like any commit, against the same store."""
    judged.edit("pipeline.py", *WORSE)
    judged.git("add", "-A")
    judged.commit("--amend", code=1)
    judged.git("reset", "-q", "--hard")
    linked = tmp_path / "linked"
    judged.git("worktree", "add", "-q", str(linked))
    other = Repository(linked)
    other.edit("pipeline.py", *WORSE)
    other.git("add", "-A")
    said = other.commit(code=1)
    assert "purchase@2" in said and "regression" in said
    assert not (linked / ".mlops").exists()


def test_a_check_that_takes_too_long_ends_without_a_verdict(repository: Repository) -> None:
    """Out of its budget the hook says so and lets the commit pass; it never hangs."""
    repository.edit("pipeline.py", "import polars as pl", "import time\nimport polars as pl\ntime.sleep(30)")
    repository.git("add", "-A")
    done = repository.mlops("hook", "run", "--budget", "1")
    assert "no verdict: the check took longer than 1 s" in done.stdout


def test_without_its_interpreter_the_hook_says_so_and_lets_pass(repository: Repository) -> None:
    """A removed virtual environment does not block the repository."""
    text = repository.hook().read_text()
    repository.hook().write_text(text.replace(repository.json("hook", "status")["python"], "/nowhere/python"))
    assert "gone" in repository.json("hook", "status")["problem"]
    repository.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 32")
    repository.git("add", "-A")
    said = repository.commit()
    assert "/nowhere/python is gone" in said and "mlops hook install" in said


def test_the_first_commit_of_all(tmp_path: Path) -> None:
    """A repository without a commit can be checked: everything is staged, nothing was evaluated."""
    fresh = make_repository(tmp_path / "shop")
    fresh.mlops("hook", "install")
    fresh.git("update-ref", "-d", "HEAD")
    said = fresh.commit()
    assert "no verdict, the staged code was never evaluated" in said


def test_the_hook_file_is_executable_and_plain_sh(repository: Repository) -> None:
    """Any POSIX shell runs it; a GUI client with a bare PATH still finds the interpreter."""
    assert repository.hook().stat().st_mode & stat.S_IXUSR
    assert os.path.isabs(repository.json("hook", "status")["python"])  # noqa: PTH117  (a text from JSON)
    repository.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 30  # x")
    repository.git("add", "-A")
    assert "unaffected" in repository.git("commit", "-qm", "x", PATH="/usr/bin:/bin").stderr


def test_training_brings_the_list_of_paths_up_to_date(repository: Repository, tmp_path: Path) -> None:
    """A module that the trained code began to import is looked at by the shell part from then on."""
    (repository.root / "prices.py").write_text("FACTOR = 2\n")
    repository.edit("pipeline.py", "from cleaning import scale\n", "from cleaning import scale\nfrom prices import FACTOR\n")
    repository.mlops("train")
    repository.git("add", "-A")
    repository.commit()
    mark = record_starts(repository, tmp_path)
    (repository.root / "prices.py").write_text("FACTOR = 3\n")
    repository.git("add", "-A")
    repository.commit()
    assert mark.exists()
