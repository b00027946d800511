"""A bundle that answers several targets: one whole bundle for each, in a folder of its name, under one manifest.

    manifest.json        which targets there are
    golden.parquet       raw rows to warm up with
    late/...             the bundle of target `late`, as any other
    minutes/...

The transform is the same in all of them and is run once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from mlops_local.engines.models import bundle, predictor


class Several(predictor.Predictor):
    """A loaded bundle of several targets: a column of numbers for each, in their order."""

    def __init__(
        self, manifest: bundle.Manifest, members: Sequence[predictor.Predictor], *, version: str = "", bundle_hash: str = ""
    ) -> None:
        super().__init__(manifest, _none, None, {}, pl.DataFrame(), version=version, bundle_hash=bundle_hash)
        self._members = members

    def predict(self, frame: pl.DataFrame) -> predictor.Floats:
        """A line a row, a column a target. Raises RowErrors."""
        if frame.height == 0:
            return np.zeros((0, len(self._members)), dtype=np.float64)
        made = self._members[0].made(frame)
        return np.column_stack([member.score(member.matrix(made)) for member in self._members])

    def golden_problem(self) -> str:
        """Why the golden rows of a target are not answered as they must be; empty when all are."""
        for target, member in zip(self.targets, self._members, strict=True):
            if problem := member.golden_problem():
                return f"{target}: {problem}"
        return ""


def _none(rows: object) -> predictor.Floats:
    raise TypeError("a bundle of several targets has no model of its own")


def build(folder: Path, targets: Sequence[str], *, label: str, metric: str) -> predictor.Predictor:
    """Put the manifest over the bundles that lie in `folder`, one for each target, and load the whole."""
    manifests = [bundle.read_manifest((folder / name / bundle.MANIFEST).read_bytes()) for name in targets]
    golden = pl.read_parquet(folder / targets[0] / bundle.GOLDEN, glob=False)
    golden.drop(bundle.EXPECTED).write_parquet(folder / bundle.GOLDEN)
    made = replace(
        manifests[0],
        features=(),
        form="several",
        library=", ".join(dict.fromkeys(one.library for one in manifests)),
        native="",
        reason="",
        output={},
        transform="",
        states=(),
        needs=tuple(sorted({name for one in manifests for name in one.needs})),
        parity={},
        label=label,
        metric=metric,
        targets=tuple(targets),
        format=bundle.FORMAT,
    )
    (folder / bundle.MANIFEST).write_bytes(bundle.write_manifest(made))
    return predictor.load(folder)


def load(manifest: bundle.Manifest, files: Mapping[str, Path], *, version: str, bundle_hash: str) -> Several:
    """Load each target's bundle."""
    members = [
        predictor.load(
            {name.removeprefix(f"{target}/"): path for name, path in files.items() if name.startswith(f"{target}/")}, version
        )
        for target in manifest.targets
    ]
    return Several(manifest, members, version=version, bundle_hash=bundle_hash)
