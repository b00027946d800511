"""Score rows in a fresh process from a bundle alone: `python -m mlops_local.engines.models.score BUNDLE ROWS OUT` (Parquet).

What this process answers is what a server will answer: the project is not on its path and the training libraries cannot be
imported (unless the manifest says that answering needs them). The reported metrics are computed from its answers.
"""

from __future__ import annotations

import importlib.abc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import polars as pl

from mlops_local.domain.errors import IntegrityError, MlopsError, StepFailed
from mlops_local.domain.jobs import SERVING_PYTHON
from mlops_local.engines.models import predictor
from mlops_local.engines.models.bundle import MANIFEST, read_manifest

BLOCKED = frozenset({"lightgbm", "torch", "sklearn", "pandas"})
"""What a server does without."""


class _Blocker(importlib.abc.MetaPathFinder):
    """Refuses the training libraries."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named '{name}' while serving: a bundle answers without it", name=name)
        return None


def block(names: frozenset[str]) -> None:
    """Make those packages unimportable in this process."""
    sys.meta_path.insert(0, _Blocker(names))


def fresh_table(bundle: Path, frame: pl.DataFrame, *, python: str = "") -> pl.DataFrame:
    """Score a frame in a fresh process: a column `prediction`, or one for each target.

    Args:
        bundle: the bundle's folder.
        frame: raw rows; columns beyond the signature are ignored.
        python: the interpreter; unless given the one that will serve.

    Raises:
        StepFailed: the bundle does not answer there; the message is the process's own.
    """
    with tempfile.TemporaryDirectory(prefix="mlops-score-") as folder:
        rows, out = Path(folder, "rows.parquet"), Path(folder, "out.parquet")
        frame.write_parquet(rows)
        package = str(Path(__file__).resolve().parents[3])
        start = (
            f"import sys; sys.path.append({json.dumps(package)}); from mlops_local.engines.models import score; score.main()"
        )
        # -I: neither the current folder nor PYTHONPATH, so no module of the project can be found.
        command = [
            python or os.environ.get(SERVING_PYTHON, sys.executable),
            "-I",
            "-c",
            start,
            str(bundle),
            str(rows),
            str(out),
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
        if done.returncode or not out.exists():
            lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
            raise StepFailed(
                f"the bundle does not answer outside the project: {lines[-1]}",
                hint="a transform may use polars, numpy, the standard library and what it reaches in the project",
                traceback=done.stderr,
            )
        return pl.read_parquet(out)


def fresh(bundle: Path, frame: pl.DataFrame, *, python: str = "") -> pl.Series:
    """As `fresh_table`, of a bundle that answers one number a row. Raises StepFailed."""
    return fresh_table(bundle, frame, python=python).get_column(predictor.PREDICTION)


def main(arguments: Sequence[str] | None = None) -> None:
    """Score ROWS.parquet with the bundle in a folder into OUT.parquet."""
    bundle, rows, out = map(Path, sys.argv[1:4] if arguments is None else arguments)
    needed = set(read_manifest((bundle / MANIFEST).read_bytes()).needs)
    block(frozenset() if needed & BLOCKED else BLOCKED)
    try:
        loaded = predictor.load(bundle)
        problem = loaded.golden_problem()
        if problem:
            raise IntegrityError(problem)
        answers = loaded.table(pl.read_parquet(rows))
    except MlopsError as error:
        sys.exit(error.message)
    answers.write_parquet(out)


if __name__ == "__main__":
    main()
