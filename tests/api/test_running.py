"""What a script can say of a run: nested, grouped, decorated, begun by hand, switched off; and what cannot break it."""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mlops_local as mlops
from mlops_local.api.run import current
from mlops_local.domain.errors import ProjectNotFound, UsageError
from tests.api.conftest import Lines


def params(lines: Lines) -> dict[str, Any]:
    return {name: value for line in lines("params") for name, value in line["values"].items()}


def test_a_step_is_given_by_name_or_by_place(project: Path, lines: Lines) -> None:
    """`log(step=3, loss=…)` and `log(3, loss=…)` say the same, in any order of steps, and without a step there is none."""
    with mlops.run():
        mlops.log(step=3, loss=0.5)
        mlops.log(1, loss=0.25, auc=1)
        mlops.log(step=2.5, loss=np.float32(0.125))
        mlops.log(lr=0.1)
    points = [(line["key"], line["s"], line["x"]) for line in lines("m")]
    assert points == [("loss", 3, 0.5), ("loss", 1, 0.25), ("auc", 1, 1), ("loss", 2.5, 0.125), ("lr", None, 0.1)]
    assert len({line["t"] for line in lines("m")[1:3]}) == 1, "values of one call are of one moment"


def test_scalars_are_read_when_they_are_logged(project: Path, lines: Lines) -> None:
    """A tensor that goes on changing does not change what was logged; numpy's and torch's scalars and steps are numbers."""
    total = torch.zeros((), requires_grad=False)
    with mlops.run():
        for step in np.arange(3):
            total += 1
            mlops.log(step, total=total, best=np.int64(7), share=np.float64(0.5), done=True)
    assert [(line["s"], line["x"]) for line in lines("m") if line["key"] == "total"] == [(0, 1.0), (1, 2.0), (2, 3.0)]
    assert {line["key"]: line["x"] for line in lines("m")} == {"total": 3.0, "best": 7, "share": 0.5, "done": 1}


def test_log_takes_anything_and_raises_nothing(project: Path, lines: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    """No number, a huge one, a name of 10 kB, one with terminal codes or SQL: kept as well as can be, said once, harmless."""

    class Hostile:
        def __float__(self) -> float:
            raise RuntimeError("no")

    long, sql, codes = "n" * 10_000, "'; DROP TABLE run; --", "\x1b[2J\x07\n"
    values: dict[str, Any] = {long: 1.0, sql: 2.0, codes: 3.0, "text": "abc", "many": np.zeros(3), "odd": Hostile()}
    with mlops.run() as run:
        for _ in range(3):
            run.log(0, **values)
        run.log(0, huge=10**400, self=4.0)
        run.log("first", x=1.0)  # type: ignore[arg-type]
    found = {line["key"]: line["x"] for line in lines("m")}
    assert found == {
        long: 1.0,
        sql: 2.0,
        codes: 3.0,
        "text": "NaN",
        "many": "NaN",
        "odd": "NaN",
        "huge": "Infinity",
        "self": 4.0,
        "x": 1.0,
    }
    said = capsys.readouterr().err
    assert said.splitlines() == [
        "mlops: 'text' was logged as a str, not a number; kept as NaN",
        "mlops: 'many' was logged as a ndarray, not a number; kept as NaN",
        "mlops: 'odd' was logged as a Hostile, not a number; kept as NaN",
        "mlops: 'step' was logged as a str, not a number; kept as NaN",
    ]


def test_logging_after_the_end_is_said_once(project: Path, lines: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    """`log` warns and goes on; what must not get lost quietly (parameters, files, models) is refused with the way out."""
    with mlops.run() as run:
        run.log(a=1)
    run.log(b=2)
    run.log(c=3)
    assert capsys.readouterr().err == f"mlops: run {run.id[16:24]} has ended; what is logged to it from now on is not kept\n"
    assert [line["key"] for line in lines("m")] == ["a"]
    for refused in (lambda: run.log_params(a=1), lambda: run.log_artifact("mlops.toml"), lambda: run.log_eval([], [])):
        with pytest.raises(UsageError, match="has ended"):
            refused()


def test_parameters_of_any_nesting(project: Path, lines: Lines) -> None:
    """Mappings, dataclasses and parsed arguments become dotted names; what is no JSON is its text; nothing fails."""

    @dataclasses.dataclass
    class Optimizer:
        lr: float = 0.1
        betas: tuple[float, float] = (0.9, 0.999)
        steps: int = dataclasses.field(init=False)

    circle: dict[str, Any] = {"a": 1}
    circle["again"] = circle
    rounds: list[Any] = [1]
    rounds.append(rounds)
    with mlops.run(params={"opt": Optimizer(), "deep": {"a": {"b": {3: [1, {"c": None}]}}}, "empty": {}}):
        mlops.log_params(
            argparse.Namespace(layers=2, api_key="abc"), where=Path("/x"), what=math.sqrt, object=object(), odd=math.nan
        )
        mlops.log_params(circle=circle, rounds=rounds, scalar=np.float32(0.5), tensor=torch.tensor(3), kinds={"b", "a"})
        mlops.log_params({"step": 1, "values": 2, "flag": np.True_, "large": 2**100, "huge": 10**5000})
    found = params(lines)
    assert found.pop("huge") == hex(10**5000) and found.pop("flag") is True
    assert found["circle.a"] == 1 and found["rounds"][0] == 1 and isinstance(found["circle.again"], str)
    for name in ("circle.a", "circle.again", "rounds"):
        del found[name]
    assert found == {
        "opt.lr": 0.1,
        "opt.betas": [0.9, 0.999],
        "deep.a.b.3": [1, {"c": None}],
        "empty": {},
        "layers": 2,
        "api_key": "***",
        "where": "/x",
        "what": "math.sqrt",
        "object": "<object object>",
        "odd": "NaN",
        "scalar": 0.5,
        "tensor": 3,
        "kinds": ["a", "b"],
        "step": 1,
        "values": 2,
        "large": 2**100,
    }
    with mlops.run(), pytest.raises(UsageError, match="of type int has no names"):
        mlops.log_params(3)


def test_a_value_of_any_length_is_kept(project: Path, lines: Lines) -> None:
    """A parameter longer than a line may be is a file of the run, and the parameter says which."""
    with mlops.run(params={"words": ["word"] * 500_000}) as run:
        pass
    (shown,), (kept,) = params(lines).values(), lines("artifact")
    assert shown.startswith('["word", "word"') and len(shown) < 400 and "params/words.json" in shown
    assert (kept["run"], kept["path"], kept["bytes"]) == (run.id, "params/words.json", 4_000_000)


def test_nested_and_grouped(project: Path, lines: Lines) -> None:
    """A run inside another is its child and of its group; what is logged goes to the innermost."""
    with mlops.run("sweep", group="lr") as outer:
        for lr in (0.1, 0.03):
            with mlops.run(params={"lr": lr}) as inner:
                mlops.log(loss=lr)
                assert current() is inner
        mlops.log(best=0.03)
    tags = [(line["run"] == outer.id, line["key"], line["value"]) for line in lines("tag")]
    assert tags == [(True, "group", "lr"), *[(False, "group", "lr"), (False, "parent", outer.id)] * 2]
    assert [(line["r"] == outer.id, line["key"]) for line in lines("m")] == [(False, "loss"), (False, "loss"), (True, "best")]
    assert {line["state"] for line in lines("run_ended")} == {"done"} and len(lines("run_ended")) == 3


def test_runs_in_threads_do_not_mix(project: Path, lines: Lines) -> None:
    """Each thread's own run gets what the thread logs; a helper thread without one logs to the main thread's."""
    barrier = threading.Barrier(3)

    def work(number: int) -> None:
        with mlops.run(f"t{number}"):
            barrier.wait()
            for step in range(100):
                mlops.log(step, own=number)
            barrier.wait()

    with mlops.run("main") as main:
        threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2)]
        for thread in threads:
            thread.start()
        barrier.wait()
        helper = threading.Thread(target=lambda: mlops.log(helped=1))
        helper.start()
        helper.join()
        barrier.wait()
        for thread in threads:
            thread.join()
    names = {line["run"]: line["name"] for line in lines("run_started")}
    assert {(names[line["r"]], line["x"]) for line in lines("m") if line["key"] == "own"} == {("t1", 1), ("t2", 2)}
    assert [line["r"] for line in lines("m") if line["key"] == "helped"] == [main.id]


def test_a_decorated_function_is_a_run_each_time(project: Path, lines: Lines) -> None:
    """Its settings are the parameters, data are not; an error fails that run and passes on; the function stays what it was."""

    @mlops.run
    def fit(rows: Any, *, lr: float = 0.1, layers: tuple[int, ...] = (3, 2)) -> float:
        """Fit."""
        mlops.log(loss=lr)
        return 1 / lr

    @mlops.run("named", group="g")
    def other(kind: str) -> None:
        raise ValueError(kind)

    assert fit([object()], lr=0.5) == 2.0 and fit.__doc__ == "Fit."
    with pytest.raises(ZeroDivisionError):
        fit(np.zeros(3), lr=0.0)
    with pytest.raises(ValueError, match="odd"):
        other("odd")
    assert [line["name"] for line in lines("run_started")] == ["fit", "fit", "named"]
    assert [line["values"] for line in lines("params")] == [
        {"lr": 0.5, "layers": [3, 2]},
        {"lr": 0.0, "layers": [3, 2]},
        {"kind": "odd"},
    ]
    assert [line["state"] for line in lines("run_ended")] == ["done", "failed", "failed"]
    with pytest.raises(UsageError, match="does not end when it returns"):

        @mlops.run
        async def later() -> None: ...

    with pytest.raises(UsageError, match="does not end when it returns"):

        @mlops.run
        async def rows() -> AsyncIterator[int]:
            yield 1


def test_an_error_without_words_is_the_error(project: Path, lines: Lines) -> None:
    """An error whose own text fails ends the run as any other, and is what the caller gets."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with pytest.raises(Mute), mlops.run():
        raise Mute
    (end,) = lines("run_ended")
    assert (end["state"], end["error"]) == ("failed", "Mute")


def test_begun_and_ended_by_hand(project: Path, lines: Lines) -> None:
    """`start` makes it the current run until `end`; logging to one that has not begun begins it; twice is refused."""
    run = mlops.run("by hand").start()
    mlops.log(loss=1)
    with pytest.raises(UsageError, match="begun already"):
        run.start()
    run.end()
    run.end()
    lazy = mlops.run("lazy")
    lazy.log(loss=2)
    lazy.end()
    assert [(line["name"]) for line in lines("run_started")] == ["by hand", "lazy"]
    assert [line["run"] for line in lines("run_ended")] == [run.id, lazy.id]
    assert "by hand" in run._repr_html_() and "<script>" not in mlops.run("<script>")._repr_html_()


def test_off_tracks_nothing_and_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With MLOPS_MODE=off every call does nothing, outside any project too; any other word is refused when a run begins."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLOPS_MODE", "off")
    with mlops.run("x", params={"a": 1}) as run:
        run.log(1, a=1)
        mlops.log_params(a=1)
        mlops.log_artifact("not there")
        mlops.log_table("t", [{"a": 1}])
        mlops.log_figure("f", b"")
        mlops.log_model(None, example=None)
        assert mlops.log_eval([], []) == {}
    mlops.log_model(None, example=None)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("MLOPS_MODE", "of")
    with pytest.raises(UsageError, match="MLOPS_MODE is 'of'"):
        mlops.run().start()
    monkeypatch.delenv("MLOPS_MODE")
    with pytest.raises(ProjectNotFound):
        mlops.run().start()


def test_a_process_of_a_run_joins_it_once(project: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started by `mlops run`: the first run(), and what is logged outside any, is that run; further ones are its children."""
    monkeypatch.setenv("MLOPS_RUN", "a" * 32)
    monkeypatch.setenv("MLOPS_STATE", str(project / ".mlops"))
    mlops.log(before=1)
    with mlops.run("ignored") as first:
        mlops.log(inside=1)
    with mlops.run("second") as second:
        mlops.log(other=1)
    mlops.log(after=1)
    assert first.id == "a" * 32
    assert {line["key"]: line["r"] == first.id for line in lines("m")} == {
        "before": True,
        "inside": True,
        "other": False,
        "after": True,
    }
    assert [(line["run"], line["key"], line["value"]) for line in lines("tag")] == [(second.id, "parent", first.id)]
    assert [line["run"] for line in lines("run_ended")] == [second.id]


def test_the_end_of_a_script(project: Path, lines: Lines) -> None:
    """sys.exit(0) in the block is done, another status is failed; a run begun by hand ends with the script, as it did."""
    code = (
        "import sys, mlops_local as mlops\n"
        "for status in (0, 3):\n"
        "    try:\n"
        "        with mlops.run(): sys.exit(status)\n"
        "    except SystemExit: pass\n"
        "mlops.run().start()\n"
        "raise KeyError('rows')\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLOPS_")}
    subprocess.run([sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, check=False)
    ended = [(line["state"], line["error"]) for line in lines("run_ended")]
    assert ended == [("done", ""), ("failed", "SystemExit: 3"), ("failed", "KeyError: 'rows'")]


def test_seeds_are_set_and_recorded(project: Path, lines: Lines) -> None:
    """The same numbers come again from Python, numpy and torch, and the run says from which seed."""
    import random

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        with mlops.run():
            assert mlops.seed_everything(7) == 7
            first = draw()
            assert mlops.seed_everything(7) == 7 and draw() == first
            assert mlops.seed_everything() == 0 and draw() != first
    finally:
        random.setstate(state[0])
        np.random.set_state(state[1])
        torch.set_rng_state(state[2])
    assert [line["values"] for line in lines("params")] == [{"seed": 7}, {"seed": 7}, {"seed": 0}]
