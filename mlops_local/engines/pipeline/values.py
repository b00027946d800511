"""Keep a value between two steps as files, and bring it back as the next step asks for it.

A kind a value: parquet, pandas, series (one-column tables), xy, json, npy, lightgbm, torch, models (a dict of those two), file,
folder, and pickle for what is left. Each has a logical hash, so that a step whose new output equals its old one stops the
chain although the files' bytes differ. Pickles (torch modules are pickles too) carry an HMAC of the store and load with
nothing else.

Python 3.10, and only the library a value belongs to is imported. Nothing here knows where files are kept for good.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import io
import json
import math
import os
import pickle
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlops_local.domain.errors import IntegrityError, StepFailed
from mlops_local.domain.jobs import Made
from mlops_local.domain.xy import XY

_SEAL = b"mlops-sealed-1\n"
Files = Mapping[str, str]


def save(value: Any, folder: Path, name: str, *, key: str = "") -> Made:
    """Write a value as files into `folder` and say what it is.

    Args:
        value: what a step returned.
        folder: exists; other outputs may lie beside.
        name: the output's name; files are named after it.
        key: the store's HMAC key, for kinds that are pickles.

    Raises:
        StepFailed: a value that cannot be kept.
    """
    if isinstance(value, (set, frozenset)):
        raise StepFailed(
            f"output '{name}' is a set, and sets have no order",
            hint="return a sorted list: the same set has another order in each process",
        )
    if isinstance(value, Iterator):
        raise StepFailed(f"output '{name}' is a {type(value).__name__}, which can be read only once", hint="return a list")
    return _SAVERS[kind_of(value)](value, folder, name, key)


def load(kind: str, files: Files, wants: str = "value", *, key: str = "", scratch: Path | None = None) -> Any:
    """Bring a value back.

    Args:
        kind: as `save` said; `each:KIND` for several values of it, their files in folders `00000/` and on.
        files: file name in the value -> path to read.
        wants: how the argument asks for it: lazy, frame, pandas, xy or value.
        key: the store's HMAC key.
        scratch: a folder where files and folders get their names back (kind file and folder).

    Raises:
        IntegrityError: a pickle that was not written by this store, or was altered.
    """
    if kind.startswith("each:"):
        return _load_each(kind.removeprefix("each:"), files, wants, key, scratch)
    if kind in {"parquet", "pandas", "series"}:
        return _load_table(kind, next(iter(files.values())), wants)
    if kind in {"file", "folder"}:
        return _load_files(kind, files, scratch)
    return _LOADERS[kind](files, key)


def kind_of(value: Any) -> str:
    """The kind a value is kept as."""
    names = {f"{base.__module__}.{base.__name__}" for base in type(value).__mro__}
    for name, kind in _KINDS.items():
        if name in names:
            return "pickle" if kind == "pandas" and not _has_polars() else kind
    if isinstance(value, XY):
        return "xy"
    if isinstance(value, Path):
        return "folder" if value.is_dir() else "file"
    if "numpy.ndarray" in names:
        return "pickle" if value.dtype.hasobject else "npy"
    if type(value) is dict and value and all(type(name) is str and kind_of(one) in _MODELS for name, one in value.items()):
        return "models"
    return "json" if _is_plain(value) else "pickle"


def _has_polars() -> bool:
    """Whether tables can be kept as tables: pandas itself writes none without pyarrow."""
    return "polars" in sys.modules or importlib.util.find_spec("polars") is not None


_KINDS = {
    "polars.lazyframe.frame.LazyFrame": "parquet",
    "polars.dataframe.frame.DataFrame": "parquet",
    "polars.series.series.Series": "series",
    "pandas.core.frame.DataFrame": "pandas",
    "pandas.DataFrame": "pandas",
    "lightgbm.basic.Booster": "lightgbm",
    "torch.nn.modules.module.Module": "torch",
    "torch.Tensor": "torch",
    "torch._tensor.Tensor": "torch",
}


def _is_plain(value: Any) -> bool:
    """Whether JSON brings exactly this value back (numpy scalars come back as Python's)."""
    if value is None or type(value) in (bool, int, float, str):
        return True
    if type(value) is list:
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(type(key) is str for key in value) and all(map(_is_plain, value.values()))
    return _numpy_scalar(value)


def _numpy_scalar(value: Any) -> bool:
    return type(value).__module__ == "numpy" and hasattr(value, "item") and getattr(value, "shape", None) == ()


def _digest(kind: str, *parts: bytes) -> str:
    hasher = hashlib.blake2b(digest_size=32, person=b"mlops-value")
    for part in (kind.encode(), *parts):
        hasher.update(len(part).to_bytes(8, "little") + part)
    return hasher.hexdigest()


# Tables


def _save_table(value: Any, folder: Path, name: str, key: str) -> Made:
    path = folder / f"{name}.parquet"
    logical, rows = _write_table(value, path)
    return Made(name, "parquet", logical, {path.name: str(path)}, rows)


def _write_table(value: Any, path: Path) -> tuple[str, int]:
    from mlops_local.engines.pipeline import logical  # noqa: PLC0415 - imports polars, 140 ms

    if hasattr(value, "collect"):  # a LazyFrame
        if not _small(value):
            value.sink_parquet(path, row_group_size=logical.SLICE)
            return logical.parquet_hash(path)
        value = value.collect(engine="in-memory")
    value.write_parquet(path)
    return logical.frame_hash(value), value.height


SMALL_CELLS = 1 << 23
"""Cells (rows times columns) read from files up to which a lazy frame is computed in memory: 64 MB of numbers.

In memory, sums of floats come out the same to the last digit each time; streamed they do not, and only there they may not fit.
"""


def _small(frame: Any) -> bool:
    """Whether what a lazy frame reads is known to be little. A scan that does not say how much it reads is not."""
    if os.environ.get("POLARS_ENGINE_AFFINITY", "in-memory") != "in-memory":  # the user chose to stream
        return False
    plan = frame.explain()
    scans = re.findall(r"SCAN.*?(?=\w+ SCAN|\Z)", plan, re.DOTALL)
    cells = 0
    for scan in scans:
        rows = re.search(r"ESTIMATED ROWS: (\d+)", scan)
        columns = re.search(r"PROJECT (\d+|\*)/(\d+) COLUMNS", scan)
        if rows is None or columns is None:
            return False
        cells += int(rows[1]) * int(columns[2] if columns[1] == "*" else columns[1])
    return cells <= SMALL_CELLS


def _save_series(value: Any, folder: Path, name: str, key: str) -> Made:
    made = _save_table(value.to_frame(), folder, name, key)
    return Made(name, "series", made.logical, made.files, made.rows)


def _save_pandas(value: Any, folder: Path, name: str, key: str) -> Made:
    import polars as pl  # noqa: PLC0415 - tables are kept through polars

    if value.index.nlevels != 1 or value.index.name is not None or list(value.index[:2]) != list(range(min(2, len(value)))):
        value = value.reset_index()
    columns = {str(column): _from_pandas(value[column]) for column in value.columns}
    if len(columns) != len(value.columns):
        raise StepFailed(f"output '{name}': two columns have the same name", hint="name the columns apart, as text")
    made = _save_table(pl.DataFrame(columns), folder, name, key)
    return Made(name, "pandas", made.logical, made.files, made.rows)


def _from_pandas(column: Any) -> Any:
    """A pandas column as a polars one, without pyarrow."""
    import polars as pl  # noqa: PLC0415

    values = column.to_numpy()
    if values.dtype == object or column.dtype.kind not in "biufmM":
        missing = column.isna().to_numpy()
        return pl.Series([None if gone else value for value, gone in zip(column.to_list(), missing, strict=True)], strict=False)
    if values.dtype.kind in "mM" and "[s]" in values.dtype.str:  # what pandas makes of dates, and polars has no unit for
        values = values.astype(f"{values.dtype.kind}8[ms]")
    return pl.Series(values)


def _to_pandas(frame: Any) -> Any:
    import pandas as pd  # noqa: PLC0415 - only for a step that asks for pandas, 0.4 s

    return pd.DataFrame({name: frame.get_column(name).to_numpy() for name in frame.columns}, columns=frame.columns)


def _load_table(kind: str, path: str, wants: str) -> Any:
    import polars as pl  # noqa: PLC0415 - tables are kept through polars

    if wants == "lazy":
        return pl.scan_parquet(path, glob=False)
    frame = pl.read_parquet(path, glob=False)
    if wants == "frame":
        return frame
    if kind == "series":
        return frame.to_series()
    return _to_pandas(frame) if wants == "pandas" or kind == "pandas" else frame


def _load_each(kind: str, files: Files, wants: str, key: str, scratch: Path | None) -> Any:
    """The values a step left for each file of a source: tables one after the other, anything else as a list."""
    parts: dict[str, dict[str, str]] = {}
    for name in sorted(files):
        number, _, own = name.partition("/")
        parts.setdefault(number, {})[own] = files[name]
    if kind in {"parquet", "pandas"}:
        import polars as pl  # noqa: PLC0415 - tables are kept through polars

        frame = pl.concat([pl.scan_parquet(next(iter(part.values())), glob=False) for part in parts.values()])
        if wants == "lazy":
            return frame
        whole = frame.collect(engine="in-memory")
        return _to_pandas(whole) if wants == "pandas" or (kind == "pandas" and wants == "value") else whole
    return [load(kind, part, wants, key=key, scratch=scratch and scratch / number) for number, part in parts.items()]


def _save_xy(value: XY, folder: Path, name: str, key: str) -> Made:
    several = hasattr(value.y, "get_columns")
    parts = {"X": value.X, "targets" if several else "y": value.y if several else value.y.to_frame(), "rows": value.rows}
    files: dict[str, str] = {}
    hashes = []
    for part, frame in parts.items():
        path = folder / f"{name}.{part}.parquet"
        hashes.append(_write_table(frame, path)[0].encode())
        files[f"{part}.parquet"] = str(path)
    return Made(name, "xy", _digest("xy", *hashes), files, len(value))


def _load_xy(files: Files, key: str) -> XY:
    import polars as pl  # noqa: PLC0415 - tables are kept through polars

    frames = {name.partition(".")[0]: pl.read_parquet(path, glob=False) for name, path in files.items()}
    return XY(frames["X"], frames["targets"] if "targets" in frames else frames["y"].to_series(), frames["rows"])


# Plain values, arrays, models


def _save_json(value: Any, folder: Path, name: str, key: str) -> Made:
    path = folder / f"{name}.json"
    data = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    path.write_bytes(data)
    return Made(name, "json", _digest("json", data), {path.name: str(path)}, len(value) if isinstance(value, list) else None)


def _plain(value: Any) -> Any:
    """numpy scalars as Python's; NaN and infinity stay (Python's JSON reads them back)."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if _numpy_scalar(value):
        value = value.item()
    return math.nan if isinstance(value, float) and math.isnan(value) else value


def _load_json(files: Files, key: str) -> Any:
    return json.loads(_only(files).decode("utf-8", "surrogatepass"))


def _save_npy(value: Any, folder: Path, name: str, key: str) -> Made:
    import numpy as np  # noqa: PLC0415 - only where arrays exist already

    from mlops_local.engines.pipeline import arrays  # noqa: PLC0415 - imports numpy

    path = folder / f"{name}.npy"
    np.save(path, value, allow_pickle=False)
    rows = value.shape[0] if value.ndim else None
    return Made(name, "npy", arrays.array_hash(value), {path.name: str(path)}, rows)


def _load_npy(files: Files, key: str) -> Any:
    import numpy as np  # noqa: PLC0415

    return np.load(io.BytesIO(_only(files)), allow_pickle=False)


def _save_lightgbm(value: Any, folder: Path, name: str, key: str) -> Made:
    path = folder / f"{name}.txt"
    data = value.model_to_string().encode()
    path.write_bytes(data)
    return Made(name, "lightgbm", _digest("lightgbm", data), {path.name: str(path)})


def _load_lightgbm(files: Files, key: str) -> Any:
    import lightgbm as lgb  # noqa: PLC0415 - 0.8 s

    return lgb.Booster(model_str=_only(files).decode())


def _save_torch(value: Any, folder: Path, name: str, key: str) -> Made:
    import torch  # noqa: PLC0415 - 1 s, and only where a module exists already

    sink = io.BytesIO()
    torch.save(value, sink)
    path = folder / f"{name}.pt"
    path.write_bytes(_seal(sink.getvalue(), key))
    if any(base.__module__.startswith("keras.") for base in type(value).__mro__):
        # It pickles as an archive with the time in it: its meaning is its configuration and weights.
        arrays = [(str(array.shape) + str(array.dtype)).encode() + array.tobytes() for array in value.get_weights()]
        return Made(name, "torch", _digest("keras", value.to_json().encode(), *arrays), {path.name: str(path)})
    with zipfile.ZipFile(sink) as archive:
        parts = [part for item in sorted(archive.namelist()) if "/data" in item for part in (item.encode(), archive.read(item))]
    return Made(name, "torch", _digest("torch", *parts), {path.name: str(path)})


def _load_torch(files: Files, key: str) -> Any:
    import torch  # noqa: PLC0415

    return torch.load(io.BytesIO(_unseal(files, key)), map_location="cpu", weights_only=False)


def _save_models(value: Mapping[str, Any], folder: Path, name: str, key: str) -> Made:
    """A model for each target: every one's file is called after its kind and target."""
    files: dict[str, str] = {}
    hashes: list[bytes] = []
    for target, model in value.items():
        made = _SAVERS[kind_of(model)](model, folder, f"{name}.{len(hashes)}", key)
        files[f"{made.kind}/{target}"] = next(iter(made.files.values()))
        hashes += [target.encode(), made.kind.encode(), made.logical.encode()]
    return Made(name, "models", _digest("models", *hashes), files)


def _load_models(files: Files, key: str) -> dict[str, Any]:
    found = {}
    for name, path in files.items():
        kind, _, target = name.partition("/")
        found[target] = _LOADERS[kind]({name: path}, key)
    return found


def _save_pickle(value: Any, folder: Path, name: str, key: str) -> Made:
    try:
        data = pickle.dumps(value, protocol=5)
    except Exception as error:  # pickling runs any class's code, which may raise anything
        raise StepFailed(
            f"output '{name}' is a {type(value).__name__}, which cannot be kept: {error}",
            hint="return a frame, an array, a model, plain JSON values or a path",
        ) from error
    path = folder / f"{name}.pickle"
    path.write_bytes(_seal(data, key))
    return Made(name, "pickle", _digest("pickle", data), {path.name: str(path)})


def _load_pickle(files: Files, key: str) -> Any:
    return pickle.loads(_unseal(files, key))


def _seal(data: bytes, key: str) -> bytes:
    return _SEAL + hmac.new(key.encode(), data, hashlib.sha256).hexdigest().encode() + b"\n" + data


def _unseal(files: Files, key: str) -> bytes:
    data = _only(files)
    seal, payload = data[: len(_SEAL)], data[len(_SEAL) + 65 :]
    mac = data[len(_SEAL) : len(_SEAL) + 64]
    if (
        not key
        or seal != _SEAL
        or not hmac.compare_digest(mac, hmac.new(key.encode(), payload, hashlib.sha256).hexdigest().encode())
    ):
        raise IntegrityError(
            f"{next(iter(files))} was not written by this store, so it is not unpickled",
            hint="a pickle can run code when it is loaded; train again, or copy the store with its .mlops/config",
        )
    return payload


def _only(files: Files) -> bytes:
    return Path(next(iter(files.values()))).read_bytes()


# Files and folders


def _save_file(value: Path, folder: Path, name: str, key: str) -> Made:
    if not value.is_file():
        raise StepFailed(
            f"output '{name}' is the path {value}, and nothing is there", hint="write the file before returning its path"
        )
    path = _owned(value, folder, f"{name}.file")
    return Made(name, "file", _digest("file", value.name.encode(), _file_hash(path)), {value.name: str(path)})


def _save_folder(value: Path, folder: Path, name: str, key: str) -> Made:
    files: dict[str, str] = {}
    parts: list[bytes] = []
    for source in sorted(value.rglob("*")):
        if source.is_file():
            relative = source.relative_to(value).as_posix()
            path = _owned(source, folder, f"{name}.{len(files)}.file")
            files[relative] = str(path)
            parts += [relative.encode("utf-8", "surrogateescape"), _file_hash(path)]
    return Made(name, "folder", _digest("folder", *parts), files)


def _owned(source: Path, folder: Path, name: str) -> Path:
    """A file that may be kept as it is: what lies in the step's own folder already, a copy of anything else."""
    if not source.is_symlink() and source.resolve().is_relative_to(folder.resolve()):
        return source
    shutil.copyfile(source, folder / name)
    return folder / name


def _file_hash(path: Path) -> bytes:
    hasher = hashlib.blake2b(digest_size=32)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.digest()


def _load_files(kind: str, files: Files, scratch: Path | None) -> Path:
    if scratch is None:
        raise ValueError("files and folders need a scratch folder to be named in")
    scratch.mkdir(parents=True, exist_ok=True)
    for name, path in files.items():
        link = scratch / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(path).resolve())
    return scratch if kind == "folder" else scratch / next(iter(files))


_MODELS = ("lightgbm", "torch")
"""Kinds of models, of which a step may return a dict: one for each target."""
_SAVERS: dict[str, Callable[[Any, Path, str, str], Made]] = {
    "parquet": _save_table,
    "pandas": _save_pandas,
    "series": _save_series,
    "xy": _save_xy,
    "json": _save_json,
    "npy": _save_npy,
    "lightgbm": _save_lightgbm,
    "torch": _save_torch,
    "models": _save_models,
    "file": _save_file,
    "folder": _save_folder,
    "pickle": _save_pickle,
}
_LOADERS: dict[str, Callable[[Files, str], Any]] = {
    "xy": _load_xy,
    "json": _load_json,
    "npy": _load_npy,
    "lightgbm": _load_lightgbm,
    "torch": _load_torch,
    "models": _load_models,
    "pickle": _load_pickle,
}
