"""A teammate clones the repository, pulls, and has what was trained elsewhere."""

from __future__ import annotations

import subprocess
from pathlib import Path

from mlops_local.services import serve
from mlops_local.services.project import find
from mlops_local.store import registry
from tests.e2e.conftest import Shop


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    return subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_a_clone_that_pulls_has_the_champion_its_verdict_and_nothing_to_train(trained: Shop, tmp_path: Path) -> None:
    """Without the data `check` gives the same verdict and the champion answers; with `--data` a train finds all done."""
    (trained.root / ".gitignore").write_text("data/\n")
    git(trained.root, "init", "-q")
    git(trained.root, "add", "-A")
    git(trained.root, "commit", "-q", "-m", "trained")
    before = trained.json("check")
    trained.mlops("push", str(tmp_path / "usb"))
    clone = Shop(tmp_path / "clone")
    git(tmp_path, "clone", "-q", str(trained.root), "clone")
    assert "does not hold" in clone.mlops("push", str(tmp_path / "usb"), code=2).stderr
    assert "purchase@1 is the champion" in clone.mlops("pull", str(tmp_path / "usb")).stdout
    assert clone.json("model", "ls")["items"][0]["verdict"] == trained.json("model", "ls")["items"][0]["verdict"]
    after = clone.json("check")
    assert after["models"] == before["models"] and after["state"] == before["state"] == "unaffected"
    assert "no file of it is here, taken as mlops.lock names it" in after["notes"][0]
    answers = []
    for root in (trained.root, clone.root):
        project = find(root)
        version = registry.load(project.layout).champion("purchase")
        assert version is not None
        predictor = serve.load_version(project.layout, version).predictor  # golden rows are answered before this returns
        answers.append(predictor.signature)
    assert answers[0] == answers[1]
    assert "put back data/visits-1.parquet" in clone.mlops("pull", str(tmp_path / "usb"), "--data").stdout
    assert clone.stale() == [] and clone.json("train")["ran"] == []
    assert git(clone.root, "status", "--porcelain") == "", "mlops.lock is what it was"
    clone.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 31")
    assert clone.mlops("check", code=4).stdout.count("never evaluated") == 1
