"""A step that says how many threads it may use gets no more, measured."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path

import pytest

from mlops_local.services import history
from mlops_local.services.machine import cores
from mlops_local.services.project import find
from mlops_local.services.train import train

PIPELINE = """
    import ctypes, json, os, time
    import duckdb, lightgbm, numpy as np, polars as pl
    import mlops_local as mlops

    ASKED = ("scipy_openblas_get_num_threads64_", "openblas_get_num_threads", "MKL_Get_Max_Threads", "omp_get_max_threads")

    def pools(name):
        sizes = {"polars": pl.thread_pool_size(), "duckdb": duckdb.sql("SELECT current_setting('threads')").fetchall()[0][0]}
        paths = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
        for path in sorted(path for path in paths if any(word in path for word in ("openblas", "mkl_rt", "gomp", "omp5"))):
            library = ctypes.CDLL(path)
            sizes.update({what: getattr(library, what)() for what in ASKED if hasattr(library, what)})
        with open(name, "w") as file:
            json.dump(sizes, file)

    @mlops.step(cpus=1)
    def one():
        pools("one.json")
        rng = np.random.default_rng(1)
        square = rng.normal(size=(600, 600))
        frame = pl.LazyFrame({"k": rng.integers(0, 1000, 300_000), "v": rng.normal(size=300_000)})
        rows = lightgbm.Dataset(square, label=square[:, 0] > 0, params={"verbose": -1})
        for work in (lambda: square @ square, lambda: frame.group_by("k").agg(pl.col("v").sort().std()).collect()):
            until = time.process_time() + 0.3
            while time.process_time() < until:
                work()
        lightgbm.train({"objective": "binary", "verbose": -1}, rows, 10)

    @mlops.step(cpus=2)
    def two():
        pools("two.json")

    @mlops.step
    def whole():
        pools("whole.json")
"""


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says of threads stands over what a step declares: here it says nothing."""
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")


def test_threads_are_what_a_step_declares(tmp_path: Path) -> None:
    """One thread means one core's time: no library has a second; two mean two, where there are two."""
    (tmp_path / "mlops.toml").write_text('[project]\nname = "threads"\n')
    (tmp_path / "pipeline.py").write_text(textwrap.dedent(PIPELINE))
    project = find(tmp_path, wait_s=10)
    try:
        one = history.detail(project, train(project, ["one", "two"]).run).results["one"]
    finally:
        project.store.close()
    assert one.cpu_seconds > 0.6
    assert one.cpu_seconds / one.seconds <= 1.3
    sizes = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two")}
    assert set(sizes["one"].values()) == {1}
    assert {"polars", "omp_get_max_threads"} <= sizes["one"].keys()
    assert cores() < 2 or min(sizes["two"].values()) > 1


def test_a_step_with_every_core_has_those_that_may_be_used(tmp_path: Path) -> None:
    """Bound to one core of several, a step that declares nothing has one thread, also where a library counts the machine's."""
    (tmp_path / "mlops.toml").write_text('[project]\nname = "threads"\n')
    (tmp_path / "pipeline.py").write_text(textwrap.dedent(PIPELINE))
    project, whole = find(tmp_path, wait_s=10), os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(whole)})
    try:
        train(project, ["whole"])
    finally:
        os.sched_setaffinity(0, whole)
        project.store.close()
    assert set(json.loads((tmp_path / "whole.json").read_text()).values()) == {1}
