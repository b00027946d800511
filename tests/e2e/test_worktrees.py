"""One store for all branches and worktrees of a repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.e2e.conftest import Shop

PIPELINE = """\
import mlops_local as mlops

prices = mlops.data("prices.csv")

@mlops.step
def doubled(prices, *, factor: int = 2) -> list[float]:
    return [price * factor for price in prices["price"]]

@mlops.step
def total(doubled: list[float]) -> float:
    return sum(doubled)
"""


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def test_a_result_of_one_worktree_or_branch_is_one_of_all(tmp_path: Path) -> None:
    """What ran in a linked worktree runs nowhere again: not in the main one, and not after a branch was left and entered."""
    main, side = Shop(tmp_path / "main" / "project"), Shop(tmp_path / "side" / "project")
    main.root.mkdir(parents=True)
    (main.root / "mlops.toml").write_text('[project]\nname = "shared"\n')
    (main.root / "pipeline.py").write_text(PIPELINE)
    (main.root / "prices.csv").write_text("price\n1.5\n2.5\n")
    git(main.root.parent, "init", "-q", "-b", "main")
    git(main.root.parent, "add", "-A")
    git(main.root.parent, "commit", "-q", "-m", "first")
    assert main.json("train")["ran"] == ["doubled", "total"]
    git(main.root.parent, "worktree", "add", "-q", "-b", "triple", str(side.root.parent))
    assert side.json("train")["ran"] == []
    side.edit("pipeline.py", "factor: int = 2", "factor: int = 3")
    assert side.json("train")["ran"] == ["doubled", "total"]
    assert not (side.root / ".mlops").exists()
    git(side.root.parent, "commit", "-q", "-a", "-m", "triple")
    assert main.stale() == []
    git(main.root.parent, "merge", "-q", "--ff-only", "triple")
    assert main.stale() == [] and main.json("train")["ran"] == []
    git(main.root.parent, "reset", "-q", "--hard", "HEAD~1")
    assert main.stale() == []
    assert len(main.json("runs")["items"]) == 2 == len(side.json("runs")["items"])
    text = str(tmp_path).encode()
    kept = [path for path in (main.root / ".mlops" / "journal").rglob("*.jsonl") if text in path.read_bytes()]
    assert kept == []
