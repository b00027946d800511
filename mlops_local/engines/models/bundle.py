"""A bundle: everything a version needs to answer, as named files.

    manifest.json        what this is and how to run it (`Manifest`, format 1)
    model.onnx           the model as it is served (absent when the native form is served)
    native/...           the model in its own library's format
    transform.py         the transform and all it reaches, tree-shaken (absent when the raw columns are the features)
    states/NAME.*        what the transform learned, as JSON, Parquet or npy: data, never pickles
    golden.parquet       raw rows with the predictions a loaded bundle must give

Nothing here knows where bundles are kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mlops_local.domain.assets import Column
from mlops_local.domain.errors import IntegrityError, NewerStore

FORMAT = 2
"""Of a bundle of several targets (see `several`); one of a single model is still of format 1, and programs before read it."""
MANIFEST = "manifest.json"
ONNX = "model.onnx"
TRANSFORM = "transform.py"
GOLDEN = "golden.parquet"
EXPECTED = "__prediction__"
"""The column of golden.parquet that holds what the bundle must answer."""


@dataclass(frozen=True)
class State:
    """One learned argument of the transform."""

    name: str
    """The argument."""
    file: str
    kind: str
    """json, npy, frame, lazy or series: what the transform is given."""


@dataclass(frozen=True)
class Manifest:
    """manifest.json."""

    model: str
    candidate: str
    signature: tuple[Column, ...]
    """The raw columns the transform reads."""
    features: tuple[str, ...]
    """The columns the model takes, in its order."""
    form: str
    """onnx or native: what answers; several: the bundles of the targets do."""
    library: str
    """What fitted it: `lightgbm 4.7.0`."""
    native: str = ""
    """The native model's file."""
    reason: str = ""
    """Why the native form is served."""
    output: Mapping[str, Any] = field(default_factory=dict)
    """ONNX: `name` of the output and `column` in it (null: the only one). `kind`: probability or value."""
    transform: str = ""
    """The function's name in transform.py; empty: no transform."""
    rows: str = "frame"
    """What the transform takes: lazy, frame or pandas."""
    states: tuple[State, ...] = ()
    needs: tuple[str, ...] = ()
    """Top-level packages beyond polars, numpy and onnxruntime that answering imports."""
    parity: Mapping[str, Any] = field(default_factory=dict)
    """ONNX against native on real rows: rows, max_difference, above_tolerance, flips."""
    label: str = ""
    """The label's expression, as text."""
    metric: str = ""
    decision: float | None = None
    """Threshold on the prediction; None: the caller decides."""
    environment: Mapping[str, str] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    """Where it answers several: their names, each a bundle in a folder of its name."""
    format: int = 1


def write_manifest(manifest: Manifest) -> bytes:
    """manifest.json's bytes: sorted keys, so equal manifests are equal bytes."""
    values = asdict(manifest)
    if not manifest.targets:
        del values["targets"]  # format 1 does not know them
    return (json.dumps(values, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def read_manifest(data: bytes) -> Manifest:
    """The manifest back.

    Raises:
        IntegrityError: it is not a manifest.
        NewerStore: its format is newer than this program.
    """
    try:
        value = json.loads(data)
        if value["format"] > FORMAT:
            raise NewerStore(
                f"the bundle has format {value['format']}, this program reads up to {FORMAT}", hint="upgrade mlops-local"
            )
        known = {key: item for key, item in value.items() if key in Manifest.__dataclass_fields__}
        return Manifest(
            **{
                **known,
                "signature": tuple(Column(**column) for column in value["signature"]),
                "features": tuple(value["features"]),
                "states": tuple(State(**state) for state in value["states"]),
                "needs": tuple(value["needs"]),
                "targets": tuple(value.get("targets", ())),
            }
        )
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"the bundle's {MANIFEST} cannot be read: {error}") from error


def digest(files: Mapping[str, str] | Mapping[str, bytes]) -> str:
    """The bundle's hash, from each file's name and content hash (or bytes, hashed here)."""
    hasher = hashlib.blake2b(digest_size=32, person=b"mlops-bundle")
    for name in sorted(files):
        content = files[name]
        text = content if isinstance(content, str) else hashlib.blake2b(content, digest_size=32).hexdigest()
        for part in (name, text):
            encoded = part.encode()
            hasher.update(len(encoded).to_bytes(8, "big") + encoded)
    return hasher.hexdigest()
