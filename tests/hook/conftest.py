"""A real project in a real git repository, trained once; tests copy it and commit."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import MadeOnce
from tests.e2e.conftest import CORE, Shop, make_shop

GIT_ENVIRONMENT = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "PYTHONPATH": str(CORE),
}
WORSE = ('pages=scale(pl.col("pages"), means["pages"]), minutes=pl.col("minutes") - means["minutes"],', "")
"""The edit that takes the best features away."""


class Repository(Shop):
    """A project with git around it; `root` is the project, `top` the working tree's top."""

    def __init__(self, root: Path, top: Path | None = None) -> None:
        super().__init__(root)
        self.top = top or root

    def git(self, *arguments: str, code: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run git at the top."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "MLOPS_"))}
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.top,
            env={**kept, **GIT_ENVIRONMENT, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said = f"git {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert code is None or done.returncode == code, said
        return done

    def commit(self, *arguments: str, code: int | None = 0) -> str:
        """Commit what is staged; return what was said. A commit that is blocked ends with 1."""
        done = self.git("commit", "-qm", "a change", *arguments, code=code)
        return done.stdout + done.stderr

    def head(self) -> str:
        """The commit checked out."""
        return self.git("rev-parse", "HEAD").stdout.strip()

    def hook(self) -> Path:
        """The hook file."""
        return self.top / ".git" / "hooks" / "pre-commit"


def make_repository(root: Path, top: Path | None = None) -> Repository:
    """A project as a repository with one commit, nothing trained."""
    make_shop(root)
    with (root / "mlops.toml").open("a") as file:
        file.write("\n[hook]\ntimeout = 90\n")  # a busy machine is no reason
    made = Repository(root, top)
    made.git("init", "-q", "-b", "main")
    made.git("add", "-A")
    made.commit()
    return made


def copied(source: Path, target: Path) -> Repository:
    """A copy with its own store and history."""
    shutil.copytree(source, target, symlinks=True)
    return Repository(target)


PLAIN = """\
import mlops_local as mlops
from cleaning import scale

visits = mlops.data("data/visits-*.parquet")


@mlops.step
def count(visits: list) -> int:
    return scale(len(visits))
"""


def make_plain(root: Path, top: Path | None = None) -> Repository:
    """A project without libraries, quick to describe, not yet in a repository."""
    (root / "data").mkdir(parents=True)
    (root / "data" / "visits-1.parquet").write_bytes(b"not looked at")
    (root / "pipeline.py").write_text(PLAIN)
    (root / "cleaning.py").write_text("def scale(count):\n    return count\n")
    (root / "mlops.toml").write_text('[project]\nname = "plain"\n')
    return Repository(root, top)


def record_starts(repository: Repository, folder: Path) -> Path:
    """Make the installed hook start a recorder instead of Python; return the file it writes the checked projects to."""
    mark, recorder = folder / "started", folder / "recorder"
    recorder.write_text(f'#!/bin/sh\necho "$4" >> "{mark}"\n')
    recorder.chmod(0o755)
    state = repository.json("hook", "status")
    hook = Path(state["path"])
    hook.write_text(hook.read_text().replace(state["python"], str(recorder)))
    return mark


@pytest.fixture(scope="session")
def trained_repository(made_once: MadeOnce) -> Path:
    """Trained, mlops.lock committed, hook installed."""

    def make(root: Path) -> None:
        made = make_repository(root)
        made.mlops("train")
        made.git("add", "-A")
        made.commit()
        made.mlops("hook", "install")

    return made_once("repository", make)


@pytest.fixture(scope="session")
def judged_repository(trained_repository: Path, made_once: MadeOnce) -> Path:
    """The same, where the worse code was also trained; the working tree has the good code again."""

    def make(root: Path) -> None:
        made = copied(trained_repository, root)
        made.edit("pipeline.py", *WORSE)
        made.mlops("train")
        made.git("checkout", "-q", "--", ".")

    return made_once("judged-repository", make)


@pytest.fixture
def fresh(tmp_path: Path) -> Repository:
    """A repository with a plain project, nothing run, no hook."""
    made = make_plain(tmp_path / "fresh")
    made.git("init", "-q", "-b", "main")
    made.git("add", "-A")
    made.commit()
    return made


@pytest.fixture
def repository(trained_repository: Path, tmp_path: Path) -> Repository:
    """A trained repository with the hook."""
    return copied(trained_repository, tmp_path / "shop")


@pytest.fixture
def judged(judged_repository: Path, tmp_path: Path) -> Repository:
    """A repository whose worse code has a verdict."""
    return copied(judged_repository, tmp_path / "shop")
