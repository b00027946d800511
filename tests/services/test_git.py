"""Real repositories, real indexes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mlops_local.domain.errors import UsageError
from mlops_local.services import git


def run(root: Path, *arguments: str, **env: str) -> str:
    """Run git as a user would."""
    return subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True, env={**os.environ, **env}
    ).stdout


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a project in a subfolder, one commit."""
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"):
        monkeypatch.setenv(name, "Ada")
    for name in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "ada@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    top = tmp_path / "top"
    (top / "sub" / "data").mkdir(parents=True)
    run(tmp_path, "init", "-q", "-b", "main", str(top))
    (top / "sub" / "pipeline.py").write_text("A = 1\n")
    (top / "sub" / "data" / "ü x.csv").write_text("a\n1\n")
    (top / "outside.py").write_text("B = 1\n")
    run(top, "add", "-A")
    run(top, "commit", "-qm", "first")
    return top


def test_outside_a_repository_nothing_is_known(tmp_path: Path) -> None:
    """Without a repository the commit is empty, nothing is dirty, and what needs one says so in one sentence."""
    assert git.head(tmp_path) == ""
    assert git.dirty_diff(tmp_path) == (b"", False)
    assert git.toplevel(tmp_path) is None
    with pytest.raises(UsageError, match="not in a git repository"):
        git.Tree.open(tmp_path)


def test_without_git_installed_nothing_is_known(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no git on PATH the tool works on and what needs git says that git is missing."""
    empty = tmp_path / "bin"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    assert git.head(repo) == ""
    assert git.dirty_diff(repo) == (b"", False)
    with pytest.raises(UsageError, match="git is not installed"):
        git.hooks_path(repo)


def test_head_is_the_commit(repo: Path) -> None:
    """The commit is the full id; a repository without a commit has none."""
    assert git.head(repo / "sub") == run(repo, "rev-parse", "HEAD").strip()
    run(repo, "checkout", "-q", "--orphan", "empty")
    assert git.head(repo) == ""


def test_dirty_diff_holds_tracked_changes_only(repo: Path) -> None:
    """The diff covers staged and unstaged changes of tracked files of the whole repository; a clean tree has none."""
    assert git.dirty_diff(repo / "sub") == (b"", False)
    (repo / "untracked.txt").write_text("not recorded\n")
    assert git.dirty_diff(repo / "sub") == (b"", False)
    (repo / "sub" / "pipeline.py").write_text("A = 2\n")
    run(repo, "add", "-A", "sub")
    (repo / "outside.py").write_text("B = 3\n")
    diff, dirty = git.dirty_diff(repo / "sub")
    assert dirty
    assert b"+A = 2" in diff and b"+B = 3" in diff and b"not recorded" not in diff
    (repo / "outside.py").write_text("x = 1\n" * 50_000)
    diff, dirty = git.dirty_diff(repo, limit=1000)
    assert dirty and len(diff) == 1000


def test_dirty_diff_keeps_no_secret(repo: Path) -> None:
    """Neither an .env file nor the value of a name like API_KEY reaches the diff; a data key is left alone."""
    (repo / ".env").write_text("A=1\n")
    run(repo, "add", "-f", ".env")
    run(repo, "commit", "-qm", "env")
    (repo / ".env").write_text("DB=plain-secret-in-env\n")
    (repo / "outside.py").write_text('API_KEY = "abcdef123456"\nkey = ["time_hour"]\n')
    diff, dirty = git.dirty_diff(repo)
    assert dirty
    assert b"abcdef123456" not in diff and b"plain-secret" not in diff
    assert b'API_KEY = "***"' in diff and b'key = ["time_hour"]' in diff


def test_dirty_diff_before_the_first_commit(tmp_path: Path) -> None:
    """A repository without a commit shows its staged files as new."""
    run(tmp_path, "init", "-q")
    assert git.dirty_diff(tmp_path) == (b"", False)
    (tmp_path / "a.py").write_text("A = 1\n")
    run(tmp_path, "add", "a.py")
    diff, dirty = git.dirty_diff(tmp_path)
    assert dirty and b"+A = 1" in diff


def test_the_tree_is_the_index_not_the_working_tree(repo: Path) -> None:
    """Staged bytes are read, whatever the working tree holds; unstaged and foreign paths are not there."""
    (repo / "sub" / "pipeline.py").write_text("A = 2\n")
    run(repo, "add", "-A")
    (repo / "sub" / "pipeline.py").write_text("A = 3\n")
    (repo / "sub" / "new.py").write_text("N = 1\n")
    with git.Tree.open(repo / "sub") as tree:
        assert tree.read("pipeline.py") == b"A = 2\n"
        assert tree.read("data/ü x.csv") == b"a\n1\n"
        assert tree.read("new.py") is None
        assert tree.read("outside.py") is None
        assert set(tree.entries) == {"pipeline.py", "data/ü x.csv"}
        before = tree.id
    run(repo, "add", "sub/pipeline.py")
    with git.Tree.open(repo / "sub") as tree:
        assert tree.read("pipeline.py") == b"A = 3\n"
        assert tree.id != before
    assert git.staged_paths(repo / "sub") == ("pipeline.py",)


def test_reading_the_tree_writes_nothing(repo: Path) -> None:
    """Index, stash, refs and objects stay byte for byte as they were."""
    (repo / "sub" / "pipeline.py").write_text("A = 2\n")
    run(repo, "add", "-A")

    def state() -> dict[str, tuple[int, bytes]]:
        files = [path for path in (repo / ".git").rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    before = state()
    with git.Tree.open(repo / "sub") as tree:
        tree.read("pipeline.py")
        assert tree.id
    git.staged_paths(repo)
    git.dirty_diff(repo)
    assert state() == before


def test_staged_links_are_followed(repo: Path) -> None:
    """A staged symbolic link reads as the staged file it names; one that leads out of the folder reads as absent."""
    (repo / "sub" / "link.py").symlink_to("pipeline.py")
    (repo / "sub" / "out.py").symlink_to("../outside.py")
    run(repo, "add", "-A")
    with git.Tree.open(repo / "sub") as tree:
        assert tree.read("link.py") == b"A = 1\n"
        assert tree.read("out.py") is None


def test_the_index_of_a_running_commit_is_used(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GIT_INDEX_FILE, as `git commit -- PATH` sets it, counts in its own repository and nowhere else."""
    (repo / "sub" / "pipeline.py").write_text("A = 9\n")
    other = repo / ".git" / "next-index-1.lock"
    other.write_bytes((repo / ".git" / "index").read_bytes())
    run(repo, "add", "-A", GIT_INDEX_FILE=str(other))
    elsewhere = repo.parent / "elsewhere"
    run(repo.parent, "init", "-q", str(elsewhere))
    (elsewhere / "a.py").write_text("here\n")
    run(elsewhere, "add", "-A")

    monkeypatch.chdir(repo)
    for value in (".git/next-index-1.lock", str(other)):
        monkeypatch.setenv("GIT_INDEX_FILE", value)
        monkeypatch.setenv("GIT_DIR", ".git")
        monkeypatch.setenv("GIT_PREFIX", "")
        with git.Tree.open(repo / "sub") as tree:
            assert tree.read("pipeline.py") == b"A = 9\n"
        assert git.staged_paths(repo / "sub") == ("pipeline.py",)
        with git.Tree.open(elsewhere) as tree:
            assert set(tree.entries) == {"a.py"}
        assert git.head(elsewhere) == ""


def test_large_blobs_come_in_chunks(repo: Path) -> None:
    """A staged file larger than a chunk is read whole, and the next read starts clean."""
    content = os.urandom(2_500_000)
    (repo / "sub" / "big.bin").write_bytes(content)
    run(repo, "add", "-A")
    with git.Tree.open(repo / "sub") as tree:
        chunks = list(tree.stream(tree.blob("big.bin")))
        assert b"".join(chunks) == content and len(chunks) == 3
        assert tree.read("pipeline.py") == b"A = 1\n"


def test_filtered_paths_read_as_a_checkout_would_write_them(repo: Path) -> None:
    """Where .gitattributes changes bytes, the path is named and its checked-out form can be read."""
    (repo / "sub" / ".gitattributes").write_text("*.csv text eol=crlf\n")
    run(repo, "add", "-A")
    with git.Tree.open(repo / "sub") as tree:
        assert tree.filtered(["pipeline.py", "data/ü x.csv"]) == {"data/ü x.csv"}
        assert b"".join(tree.stream_filtered("data/ü x.csv")) == b"a\r\n1\r\n"
        assert tree.read("data/ü x.csv") == b"a\n1\n"


def test_hooks_path(repo: Path, tmp_path: Path) -> None:
    """The folder is the common one from a linked worktree, and core.hooksPath where it is set."""
    linked = tmp_path / "linked"
    run(repo, "worktree", "add", "-q", str(linked))
    assert git.hooks_path(repo / "sub").resolve() == (repo / ".git" / "hooks").resolve()
    assert git.hooks_path(linked / "sub").resolve() == (repo / ".git" / "hooks").resolve()
    assert git.git_dir(linked) == repo.resolve() / ".git" / "worktrees" / "linked"
    assert git.git_dir(linked / "sub", common=True) == repo.resolve() / ".git"
    run(repo, "config", "core.hooksPath", ".githooks")
    assert git.hooks_path(repo / "sub") == repo.resolve() / ".githooks"
