"""`mlops check`: the states, what they say and how they exit. Here, beside the hook, for the trained repository they share."""

from __future__ import annotations

import pytest

from tests.hook.conftest import WORSE, Repository


def test_the_working_tree(judged: Repository) -> None:
    """Without --staged the files as they are count: unaffected exits 0, a regression 3, untrained 4."""
    assert "unaffected" in judged.mlops("check", code=0).stdout
    judged.edit("pipeline.py", *WORSE)
    assert "regression" in judged.mlops("check", code=3).stdout
    judged.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 31")
    assert "this code was never evaluated" in judged.mlops("check", code=4).stdout


def test_json(judged: Repository) -> None:
    """--json carries state, version, champion and every gate with numbers."""
    judged.edit("pipeline.py", *WORSE)
    judged.git("add", "-A")
    done = judged.mlops("check", "--staged", "--json", code=3)
    import json

    answer = json.loads(done.stdout)
    assert answer["schema"] == "mlops/check@1"
    assert answer["state"] == "regression" and answer["staged"] is True and len(answer["tree"]) == 64
    (model,) = answer["models"]
    assert (model["model"], model["version"], model["champion"]) == ("purchase", "purchase@2", "purchase@1")
    (gate,) = model["gates"]
    assert gate["metric"] == "auc" and gate["high"] < -0.02 and gate["rows"] > 100 and gate["clusters"] == 3


def test_nothing_staged_is_unaffected(repository: Repository) -> None:
    """An empty or unrelated stage exits 0, whatever the working tree holds."""
    repository.edit("pipeline.py", *WORSE)
    assert "unaffected" in repository.mlops("check", "--staged").stdout
    (repository.root / "notes.txt").write_text("x\n")
    repository.git("add", "notes.txt")
    assert "unaffected" in repository.mlops("check", "--staged").stdout


def test_another_champion_is_compared_again(judged: Repository) -> None:
    """A verdict against an earlier champion is not believed: the version is compared with today's, and nothing is written."""
    judged.mlops("model", "promote", "purchase@2", "--force", "--reason", "a test")
    ledger = (judged.root / ".mlops" / "journal" / "ledger.jsonl").read_bytes()
    said = judged.mlops("check", code=0).stdout
    assert "champion purchase@2" in said and "candidate purchase@1" in said and "difference +0." in said
    judged.edit("pipeline.py", *WORSE)
    assert "purchase@2, the champion" in judged.mlops("check", code=0).stdout
    assert (judged.root / ".mlops" / "journal" / "ledger.jsonl").read_bytes() == ledger


def test_the_gates_of_the_tree_count(judged: Repository) -> None:
    """A wider margin in the staged mlops.toml lets the worse code pass; one the interval straddles gives no verdict."""
    import json

    judged.edit("pipeline.py", *WORSE)
    gate = json.loads(judged.mlops("check", "--json", code=3).stdout)["models"][0]["gates"][0]
    judged.edit("mlops.toml", "max_drop = 0.02", "max_drop = 0.9")
    judged.git("add", "-A")
    assert "margin 0.9" in judged.mlops("check", "--staged", code=0).stdout
    judged.edit("mlops.toml", "max_drop = 0.9", f"max_drop = {-gate['difference']:.3f}")
    judged.git("add", "-A")
    said = judged.mlops("check", "--staged", code=4).stdout
    assert "inconclusive" in said and "no verdict" in said


def test_data_that_git_does_not_track_are_named(repository: Repository) -> None:
    """Data outside git are taken as they are now, and the output says which snapshot that is."""
    repository.git("rm", "-q", "--cached", "-r", "data")
    (repository.root / ".gitignore").write_text("data/\n")
    repository.git("add", "-A")
    said = repository.mlops("check", "--staged").stdout
    assert "unaffected" in said and "visits: not tracked by git, taken as it is now (" in said


def test_missing_data_give_no_verdict(repository: Repository) -> None:
    """In a clone without the data there is no comparison, and that is never a pass."""
    (repository.root / "data" / "visits-1.parquet").unlink()
    (repository.root / "mlops.lock").unlink()  # which would say what they were
    said = repository.mlops("check", code=4).stdout
    assert "no verdict, its data are not all here" in said and "no file matches" in said


def test_a_project_git_does_not_know(repository: Repository) -> None:
    """An mlops.toml or pipeline that is not tracked gives no verdict and the command to add it."""
    repository.git("rm", "-q", "--cached", "pipeline.py")
    assert "`git add pipeline.py`" in repository.mlops("check", "--staged", code=4).stdout
    repository.git("rm", "-q", "--cached", "mlops.toml")
    assert "`git add mlops.toml`" in repository.mlops("check", "--staged", code=4).stdout


def test_a_working_copy_that_differs_is_said(repository: Repository) -> None:
    """`mlops train` trains the working copy: where it is not what is staged, the line names the files."""
    repository.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = 31")
    repository.git("add", "-A")
    repository.edit("pipeline.py", "ROUNDS = 31", "ROUNDS = 32")
    assert "with pipeline.py as staged" in repository.mlops("check", "--staged", code=4).stdout


@pytest.mark.parametrize("what", ["fingerprint", "snapshot", "missing"])
def test_an_old_mlops_lock(repository: Repository, what: str) -> None:
    """Another champion, another snapshot, or no entry at all: each is said, with the way out; the state stays."""
    text = (repository.root / "mlops.lock").read_text()
    changed = "" if what == "missing" else text.replace(f"{what}=", f"{what}=0")
    (repository.root / "mlops.lock").write_text(changed)
    repository.git("add", "-A")
    said = repository.mlops("check", "--staged", code=0).stdout
    assert "mlops.lock is out of date" in said and "`mlops train && git add mlops.lock`" in said
    expected = {
        "fingerprint": "names purchase@1",
        "snapshot": "another snapshot of visits",
        "missing": "does not name purchase's",
    }
    assert expected[what] in said


def test_another_candidate_keeps_the_champion_safe(repository: Repository) -> None:
    """While the code still makes the champion, another candidate that was never evaluated does not matter."""
    with (repository.root / "pipeline.py").open("a") as file:
        file.write(
            "\n\n@purchase.candidate\ndef other(train: mlops.XY, valid: mlops.XY) -> lgb.Booster:\n"
            "    return gbm(train, valid)\n"
        )
    said = repository.mlops("check", code=0).stdout
    assert "unaffected, this code makes purchase@1" in said


def test_outside_git(repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> None:
    """--staged outside a repository is a usage error; the working tree can be checked anywhere."""
    import shutil

    root = tmp_path_factory.mktemp("elsewhere") / "shop"
    shutil.copytree(repository.root, root, ignore=shutil.ignore_patterns(".git"))
    other = Repository(root)
    assert "not in a git repository" in other.mlops("check", "--staged", code=2).stderr
    assert "unaffected" in other.mlops("check").stdout


def test_a_broken_rule_of_the_data_that_is_known_is_a_regression(repository: Repository) -> None:
    """Nothing is read for it: until a training or `mlops data check` found it out, the rule says nothing."""
    config = repository.root / "mlops.toml"
    config.write_text(config.read_text() + "\n[data.visits.checks]\nrow_count = [1, 2]\n")
    assert "data check failed" not in repository.mlops("check", code=0).stdout
    repository.mlops("data", "check", code=1)
    said = repository.mlops("check", code=3).stdout
    assert "data check failed: visits: row_count 1 to 2: 3,000 rows" in said
