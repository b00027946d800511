"""Programs in any language as steps, run as the worker runs them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mlops_local.domain.command import command
from mlops_local.domain.errors import StepFailed
from mlops_local.domain.graph import Graph, Input, Source, Step
from mlops_local.domain.jobs import Given, StepJob
from mlops_local.engines.pipeline.values import save
from mlops_local.worker import commands, programs

Made = tuple[dict[str, Any], dict[str, Any]]


def run(
    root: Path, line: str, given: dict[str, Any] | None = None, params: dict[str, Any] | None = None, **declared: Any
) -> Made:
    """Run a command in `root` with kept values (or lists of paths: a source) as its inputs."""
    names = list(given or {})
    made = command(line, inputs=names, params=params, **{"outputs": "out.txt", **declared})
    wants = programs.wants(made)
    inputs = []
    for name, value in (given or {}).items():
        kept = root / ".mlops" / "kept" / name
        kept.mkdir(parents=True, exist_ok=True)
        if isinstance(value, list):
            inputs.append(Given(Input(name, name, "", wants[name]), "source", {path: str(root / path) for path in value}))
        else:
            saved = save(value, kept, name)
            inputs.append(Given(Input(name, name, "", wants[name]), saved.kind, saved.files))
    step = Step("prog", "command", (), outputs=tuple(made.outputs), file="mlops.toml", **programs.fields(made))
    graph = Graph(sources=tuple(Source(name, "data/*") for name in names), steps=(step,))
    out = root / ".mlops" / "out"
    out.mkdir(parents=True)
    return commands.run(StepJob(step, graph, {}, dict(made.params), 1, tuple(inputs), out, out / "log"), root)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_values_are_never_split_and_never_a_shells(root: Path) -> None:
    """Spaces, quotes and dollar signs in a parameter or path arrive as one word, with a shell and without."""
    nasty = "a b'; $HOME \"x"
    (root / "show.py").write_text("import sys; open(sys.argv[1], 'w').write(repr(sys.argv[2:]))")
    for line, shell in (("python show.py {output} {k} --k={k}", False), ("python show.py {output} {k} --k={k} || true", True)):
        made, report = run(root, line, params={"k": nasty}, shell=shell)
        assert made["output"].read_text() == repr([nasty, f"--k={nasty}"]) and report == {}
        shutil.rmtree(root / ".mlops")


def test_a_source_is_its_files_and_a_table_a_file_of_the_format_asked_for(root: Path) -> None:
    """A source of several files is several words; a step's table is Parquet, or CSV where asked for; JSON is JSON."""
    (root / "data").mkdir()
    for name in ("a b.txt", "c.txt"):
        (root / "data" / name).write_text(name)
    frame = pl.DataFrame({"x": [1, 2]})
    given = {"src": ["data/a b.txt", "data/c.txt"], "rows": frame, "table": frame, "limits": {"low": 1}}
    (root / "show.py").write_text("import json, sys; json.dump(sys.argv[2:], open(sys.argv[1], 'w'))")
    made, _ = run(root, "python show.py {output} {src} {rows:csv} {table} {limits}", given, outputs="said.json")
    first, second, csv, parquet, limits = made["output"]
    assert [first, second] == ["data/a b.txt", "data/c.txt"]
    assert Path(csv).read_text() == "x\n1\n2\n" and pl.read_parquet(parquet).equals(frame)
    assert json.loads(Path(limits).read_text()) == {"low": 1}


def test_outputs_come_back_as_what_they_are(root: Path) -> None:
    """A table is a frame, JSON a value, a folder a folder; an output without placeholder is taken from where it is written."""
    line = "printf 'x\\n7\\n' > {t} && echo '[1]' > {j} && touch {d}/f && mkdir -p res && echo hi > res/own.txt"
    outputs = {"t": "t.csv", "j": "j.json", "d": "plots/", "own": "res/own.txt"}
    made, report = run(root, line, outputs=outputs, shell=True)
    assert made["t"].collect().to_dict(as_series=False) == {"x": [7]} and made["j"] == [1]
    assert [path.name for path in made["d"].iterdir()] == ["f"] and made["own"].read_text() == "hi\n"
    assert report == {}  # res/own.txt is declared


@pytest.mark.parametrize(
    ("line", "said", "traceback"),
    [
        ("echo first; echo last; exit 3", "'/bin/sh' ended with exit code 3", "first\nlast\n"),
        ("kill -SEGV $$", "'/bin/sh' was killed by SIGSEGV", ""),
        ("true", "its output 'output' (out.txt) is not there", ""),
    ],
)
def test_a_failure_says_how_and_shows_the_last_lines(root: Path, line: str, said: str, traceback: str) -> None:
    """An exit code, a signal and an output that was left out fail the step."""
    with pytest.raises(StepFailed) as caught:
        run(root, line + " # {output}", shell=True)
    assert said in caught.value.message and getattr(caught.value, "traceback", "") == traceback


def test_an_old_file_is_no_output(root: Path) -> None:
    """A file that was there before and was not written is not taken for this run's result."""
    (root / "model.txt").write_text("old")
    with pytest.raises(StepFailed, match="older than this run"):
        run(root, "true", outputs="model.txt")


def test_a_program_that_is_not_there(root: Path) -> None:
    """The step names the program that cannot be started."""
    with pytest.raises(StepFailed, match="cannot start 'no-such-program'"):
        run(root, "no-such-program {output}")


def test_what_it_writes_besides_is_said(root: Path) -> None:
    """A project file that changed while the program ran, and is no output of it, is named."""
    _, report = run(root, "touch {output} stray.txt", outputs="out.txt")
    assert len(report["warnings"]) == 1 and "stray.txt, which is none of its outputs" in report["warnings"][0]


def test_a_program_in_a_bare_python_can_log(root: Path) -> None:
    """`import mlops_local` works in a Python without it, as under `mlops run`, and finds nothing else of ours."""
    bare = Path(sys.base_prefix) / "bin" / "python3"
    (root / "log.py").write_text(
        "import sys, importlib.util, mlops_local as mlops\n"
        "mlops.log(1, loss=0.5)\n"
        "open(sys.argv[1], 'w').write(f'{callable(mlops.run)} {importlib.util.find_spec(\"duckdb\")}')\n"
    )
    made, _ = run(root, f"{bare} -S log.py {{output}}")
    assert made["output"].read_text() == "True None"
