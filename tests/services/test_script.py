"""Proposing a step for a script: what one real run of it shows."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from mlops_local.domain.errors import StepFailed, UsageError
from mlops_local.services import proposal, script
from mlops_local.services.project import Project, find
from mlops_local.services.proposal import Proposal
from mlops_local.services.witness import Seen

TRAIN = """\
import argparse, subprocess, sys
from pathlib import Path
import polars as pl
import lightgbm as lgb
import helper

parser = argparse.ArgumentParser()
parser.add_argument("--rows", default="data/rows.csv")
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--rate", type=float, default=0.1)
parser.add_argument("--note", default="")
parser.add_argument("--api-key", default="k")
parser.add_argument("--verbose", action="store_true")
parser.add_argument("--several", nargs="*", default=[])
options = parser.parse_args()
rows = pl.scan_csv(options.rows).collect()
more = pl.scan_parquet("more/*.parquet").collect()
data = lgb.Dataset(rows.select("a").to_numpy(), rows["b"].to_numpy())
model = lgb.train({"verbose": -1, "learning_rate": options.rate, "min_data_in_leaf": 1}, data, options.rounds)
options.out.parent.mkdir(exist_ok=True)
model.save_model(options.out)
lgb.Booster(model_file=options.out)
subprocess.run([sys.executable, "child.py"], check=True)
"""
CHILD = "open('scores.txt', 'w').write(open('names.txt').read())\n"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    import polars as pl

    for name in ("data", "more", "lib"):
        (tmp_path / name).mkdir()
    frame = pl.DataFrame({"a": range(60), "b": range(60)})
    frame.write_csv(tmp_path / "data" / "rows.csv")
    frame.write_parquet(tmp_path / "more" / "x.parquet")
    for name, text in (("helper.py", "X = 1\n"), ("train.py", TRAIN), ("child.py", CHILD), ("names.txt", "n")):
        (tmp_path / name).write_text(text)
    (tmp_path / "mlops.toml").write_text('[project]\nname = "p"')
    return find(tmp_path)


def proposed(project: Project, name: str, *arguments: str) -> tuple[Proposal, dict[str, Any]]:
    """What is proposed for a script, and its entry read as TOML."""
    made = script.propose(project, script.check(project, project.root / name, arguments), arguments)
    return made, tomllib.loads(made.text)["steps"][made.name]


def test_a_script_is_seen_with_its_libraries_flags_and_children(project: Project) -> None:
    """Native readers and writers, a cached module, a child process; flags given and left at their defaults, also paths."""
    for _ in range(2):  # the second time its modules come from their caches
        made, entry = proposed(project, "train.py", "--out", "out/m.txt", "--verbose", "--rounds=7", "--several", "p", "q")
        assert made.name == "train"
        assert made.notes == (
            "--verbose stays in the line as it is: a switch is there or not",
            "--several p q stays in the line as it is: it takes any number of values",
        )
        assert entry == {
            "command": "python train.py --rows {rows} --rate {rate} --out {out} --verbose --rounds={rounds} --several p q",
            "inputs": {"rows": "data/rows.csv", "more": "more/*.parquet", "names": "names.txt"},
            "outputs": {"out": "m.txt", "scores": "scores.txt"},
            "code": ["train.py", "child.py", "helper.py"],
            "params": {"rate": 0.1, "rounds": 7},
        }


PARSERS = """\
import argparse, enum, json
from pathlib import Path

class Kind(enum.Enum):
    fast = "fast"
    slow = "slow"

def positive(text):
    assert int(text) > 0
    return [int(text)]

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("-q", action="store_false", dest="loud")
commands = parser.add_subparsers(dest="command", required=True)
fit = commands.add_parser("fit")
fit.add_argument("rows")
fit.add_argument("-n", "--rounds", type=int, default=10)
fit.add_argument("--metric", choices=["auc", "brier"], default="auc")
fit.add_argument("--kind", type=Kind, default=Kind.slow)
fit.add_argument("--depth", type=positive, default=[3])
fit.add_argument("--grid", type=json.loads, default=None)
fit.add_argument("--cache", action=argparse.BooleanOptionalAction, default=True)
fit.add_argument("-v", action="count", default=0)
fit.add_argument("--tag", action="append")
fit.add_argument("--out", default="model.json")
commands.add_parser("score").add_argument("--rows", default="never.csv")
options = parser.parse_args()
rows = Path(options.rows).read_text()
Path(options.out).write_text(json.dumps([len(rows), options.rounds, options.depth, options.kind.value]))
"""


def test_subcommands_types_and_switches(project: Project) -> None:
    """A subcommand's own options are parameters, in short and long, with a type of the script's as text; what stays is said."""
    (project.root / "cli.py").write_text(PARSERS)
    line = "-q fit -n7 --met brier data/rows.csv --kind fast --depth=4 --no-cache -vv --tag a --tag b --grid {}".split()
    made, entry = proposed(project, "cli.py", *line)
    assert entry == {
        "command": "python cli.py --seed {seed} -q fit --out {out} -n{rounds} --met {metric} {rows} --kind {kind} "
        "--depth={depth} --no-cache -vv --tag a --tag b --grid {grid}",
        "inputs": {"rows": "data/rows.csv"},
        "outputs": {"out": "model.json"},
        "code": ["cli.py"],
        "params": {"seed": 1, "rounds": 7, "metric": "brier", "kind": "fast", "depth": 4, "grid": "{}"},
    }
    assert [note.partition(" stays in the line as it is: ")[::2] for note in made.notes] == [
        ("-q", "a switch is there or not"),
        ("fit", "it names a subcommand"),
        ("--no-cache", "a switch is there or not"),
        ("-vv", "a switch is there or not"),
        ("--tag a --tag b", "it may be given again and again"),
    ]


def test_the_entry_is_appended_and_nothing_else_changes(project: Project) -> None:
    """What was there stays byte for byte; a second script of that name is refused before it runs."""
    before = (project.root / "mlops.toml").read_bytes()
    made, _ = proposed(project, "child.py")
    assert (project.root / "mlops.toml").read_bytes() == before
    script.write(project, made)
    after = (project.root / "mlops.toml").read_bytes()
    assert after == before + b"\n\n" + made.text.encode()
    with pytest.raises(UsageError, match="has something named 'child' already; nothing was run"):
        script.check(find(project.root), project.root / "child.py", ())
    with pytest.raises(UsageError, match="does not fit into mlops"):
        script.write(project, made)
    assert (project.root / "mlops.toml").read_bytes() == after


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        (
            "open('half.txt', 'w').write('x')\nraise SystemExit(3)",
            StepFailed,
            "bad.py ended with exit code 3; nothing is proposed",
        ),
        ("import os\nos.kill(os.getpid(), 9)", StepFailed, "bad.py ended with signal 9"),
        ("print(1)", UsageError, "bad.py wrote no file in the project"),
    ],
)
def test_a_script_that_fails_or_makes_nothing_proposes_nothing(
    text: str, error: type[Exception], said: str, project: Project
) -> None:
    """One clear error."""
    (project.root / "bad.py").write_text(text)
    with pytest.raises(error, match=said):
        proposed(project, "bad.py")


def test_what_cannot_become_a_step_is_not_run(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No file, another language, a place outside, a secret among the arguments."""
    outside = tmp_path_factory.mktemp("outside") / "x.py"
    outside.write_text("")
    (project.root / "run.sh").write_text("")
    for path, arguments, said in (
        (project.root / "no.py", (), "is not there"),
        (project.root / "run.sh", (), "is no Python script"),
        (outside, (), "lies outside the project"),
        (project.root / "child.py", ("--token", "abc"), "looks like a secret"),
    ):
        with pytest.raises(UsageError, match=said):
            script.check(project, path, arguments)


def test_paths_are_told_from_values(tmp_path: Path) -> None:
    """Without a parser, words that name files are placeholders, others and braces stay; folders, patterns and odd places."""
    for number in range(3):
        (tmp_path / f"{number}.csv").write_text("")
    reads = {f"{number}.csv": f"{number}.csv" for number in range(3)} | {"a/t.json": "a/t.json", "own.txt": "own.txt"}
    reads |= {"../far.csv": "../far.csv", "LICENSE": "LICENSE", "mlops.toml": "mlops.toml"}
    writes = ("own.txt", "out/1.txt", "out/2.txt", "sub/a", "sub/b", "sub/c")
    seen = Seen("run me.py", ("./a/t.json", "out", "it's", "{5}", "a/t.json"), reads, writes)
    made = proposal.propose(seen, tmp_path)
    entry = tomllib.loads(made.text)["steps"]["run_me"]
    assert entry == {
        "command": "python 'run me.py' {t} {out} 'it'\"'\"'s' '{{5}}' {t}",
        "inputs": {"t": "a/t.json", "rows": "*.csv"},
        "outputs": {"out": "out/", "own": "own.txt", "sub": "sub/"},
        "code": ["run me.py", "LICENSE"],
    }
    assert made.notes == (
        "reads ../far.csv, which lies beside the project: changes to it are not noticed",
        "reads own.txt and writes it anew: it is taken as an output, not as an input",
    )
