"""A step over more rows than it may hold in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from mlops_local.services import history
from mlops_local.services.project import find
from mlops_local.services.train import train

PIPELINE = """
import polars as pl
import mlops_local as mlops

rows = mlops.data("data/*.parquet")

@mlops.step(cpus=2)
def some(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.filter(pl.col("x0") < 0.02).with_columns(total=pl.sum_horizontal(pl.all()))
"""
HEIGHT, FILES, COLUMNS = 1_100_000, 4, 10


def test_a_lazy_frame_is_never_held_whole(tmp_path: Path) -> None:
    """A lazy frame over 350 MB of rows goes through a step in little more than what polars itself takes."""
    (tmp_path / "data").mkdir()
    values = np.random.default_rng(0).integers(0, 1000, HEIGHT) / 1000
    for number in range(FILES):
        frame = pl.DataFrame({f"x{column}": np.roll(values, 7 * column + number) for column in range(COLUMNS)})
        frame.write_parquet(tmp_path / "data" / f"{number}.parquet", compression="lz4", row_group_size=50_000)
    (tmp_path / "mlops.toml").write_text('[project]\nname = "streaming"\n')
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    project = find(tmp_path, wait_s=10)
    try:
        some = history.detail(project, train(project).run).results["some"]
    finally:
        project.store.close()
    whole = HEIGHT * FILES * COLUMNS * 8
    assert some.outputs[0].rows == FILES * int((values < 0.02).sum())
    assert 0 < some.peak_bytes < 0.5 * whole
