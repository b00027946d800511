"""A plain script: tracked with no edit, and with three lines its model is a version like any other."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Shop, rebuilt_is_the_same

SCRIPT = """\
import argparse
import numpy as np, lightgbm as lgb, polars as pl
import mlops_local as mlops

parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int, default=20)
rounds = parser.parse_args().rounds
random = np.random.default_rng(0)
frame = pl.DataFrame({"a": random.normal(size=2000), "b": random.normal(size=2000)})
y = (frame["a"].to_numpy() + random.normal(size=2000) > 0).astype(int)
options = {"objective": "binary", "verbose": -1, "num_threads": 1, "deterministic": True}
booster = lgb.train(options, lgb.Dataset(frame[:1500].to_numpy(), y[:1500]), rounds)
with mlops.run():
    mlops.log_model(booster, example=frame[:1500], name="churn")
    mlops.log_eval(frame[1500:], y[1500:])
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Shop:
    (tmp_path / "mlops.toml").write_text('[project]\nname = "scripts"\n')
    (tmp_path / "train.py").write_text(SCRIPT)
    return Shop(tmp_path)


def test_a_command_needs_no_edit(scripts: Shop) -> None:
    """Command line, options as parameters, output and end are kept; the exit status is told."""
    (scripts.root / "plain.py").write_text("import sys\nprint('hello from', sys.argv[1:])\nsys.exit(3)\n")
    done = scripts.mlops("run", "--name", "try", sys.executable, "plain.py", "--lr", "0.1", "--fast", code=1)
    assert done.stdout == "hello from ['--lr', '0.1', '--fast']\n"
    assert "exit 3" in done.stderr
    run = scripts.json("runs")["items"][0]
    assert (run["name"], run["state"], run["kind"]) == ("try", "failed", "script")
    assert run["params"] == {"lr": 0.1, "fast": True}
    assert "hello from" in scripts.mlops("logs", "@1").stdout
    rebuilt_is_the_same(scripts)


def test_no_such_program(scripts: Shop) -> None:
    """A program that is not there is a usage error, and no run."""
    assert "no such program" in scripts.mlops("run", "not-a-program-at-all", code=2).stderr
    assert scripts.json("runs")["items"] == []


def test_three_lines_make_a_version(scripts: Shop) -> None:
    """log_model and log_eval make a version that is judged, becomes champion, and is read back with the same answers."""
    scripts.mlops("run", sys.executable, "train.py", "--rounds", "30")
    view = scripts.json("model", "show", "churn@champion")
    assert view["version"]["run"] == scripts.json("runs")["items"][0]["id"]
    assert view["version"]["value"] > 0.7
    scripts.mlops("run", sys.executable, "train.py", "--rounds", "1")
    views = {item["version"]["id"]: item for item in scripts.json("model", "ls")["items"]}
    assert set(views) == {"churn@1", "churn@2"}
    assert views["churn@2"]["verdict"]["baseline"] == "churn@1"
    code = (
        "import json, mlops_local as mlops\n"
        "model = mlops.load_model('churn@1')\n"
        "print(json.dumps(list(model.predict([{'a': 1.0, 'b': 0.0}, {'a': -1.0, 'b': 0.5}]))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=scripts.root, capture_output=True, text=True, check=True)
    high, low = json.loads(done.stdout)
    assert 0 < low < high < 1
    rebuilt_is_the_same(scripts)


def test_a_script_alone_is_registered_by_the_next_command(scripts: Shop) -> None:
    """Without `mlops run` around it, the version waits and the next `model ls` registers it."""
    subprocess.run([sys.executable, "train.py"], cwd=scripts.root, check=True, capture_output=True)
    assert [item["version"]["id"] for item in scripts.json("model", "ls")["items"]] == ["churn@1"]
    assert scripts.json("runs")["items"][0]["state"] == "done"


def test_log_eval_without_a_model(scripts: Shop) -> None:
    """The order matters, and the error says so."""
    code = "import mlops_local as mlops\nwith mlops.run() as run:\n    run.log_eval([], [])\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=scripts.root, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no model was logged" in done.stderr


def test_the_hook_lets_a_project_of_scripts_commit(scripts: Shop) -> None:
    """Without a pipeline module there is nothing to gate in a commit, and the check says so."""

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.invalid"]
        subprocess.run(["git", *identity, *arguments], cwd=scripts.root, check=True, capture_output=True)

    git("init", "-q")
    scripts.mlops("hook", "install")
    git("add", "mlops.toml", "train.py")
    git("commit", "-m", "scripts")
    assert "no pipeline module" in scripts.mlops("check").stdout


def test_a_version_that_cannot_be_judged_blocks_nothing(scripts: Shop) -> None:
    """Other columns than the champion's: no comparison, said with the way out; every model command goes on working."""
    scripts.mlops("run", sys.executable, "train.py")
    wider = SCRIPT.replace('"b": random.normal(size=2000)', '"c": random.normal(size=2000), "d": random.normal(size=2000)')
    (scripts.root / "train.py").write_text(wider)
    (scripts.root / ".mlops" / "pending" / "torn.json").write_text("{}")
    said = scripts.mlops("run", sys.executable, "train.py").stderr
    assert "churn@1 does not answer the rows churn@2 was evaluated on" in said and "model promote churn@2 --force" in said
    assert "pending/torn.json is no version that a script left" in said
    views = {item["version"]["id"]: item for item in scripts.json("model", "ls")["items"]}
    assert set(views) == {"churn@1", "churn@2"} and views["churn@2"]["verdict"] is None
    assert views["churn@1"]["aliases"] == ["champion"]
    scripts.mlops("model", "promote", "churn@2", "--force", "--reason", "a wider model")
    assert scripts.json("model", "show", "churn@champion")["version"]["id"] == "churn@2"
