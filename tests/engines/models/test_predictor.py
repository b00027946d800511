"""A loaded bundle answers what the model answers, and refuses what is not a row."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mlops_local.domain.errors import IntegrityError, NewerStore
from mlops_local.engines.models import bundle, predictor
from mlops_local.engines.models.signature import RowErrors
from tests.engines.models import made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle on disk."""
    return made.write(tmp_path / "bundle", made.files())


def test_rows_are_answered_in_order(folder: Path) -> None:
    """JSON rows go through validation, transform, states and model to one number each."""
    rows: list[dict[str, Any]] = [
        {"x": 1.0, "carrier": "UA"},
        {"x": 2, "carrier": "??", "more": 1},
        {"x": -0.5, "carrier": None},
    ]
    loaded = predictor.load(folder, "delay@3")
    assert loaded.predict(loaded.validate(rows)) == pytest.approx(made.expected(rows), abs=1e-6)
    assert (loaded.model, loaded.version, loaded.form) == ("delay", "delay@3", "onnx")


def test_paths_from_anywhere_and_a_folder_are_the_same(folder: Path, tmp_path: Path) -> None:
    """The files may lie under other names, as in an object store."""
    moved = {}
    for number, (name, path) in enumerate(predictor.folder(folder).items()):
        moved[name] = path.rename(tmp_path / str(number))
    assert predictor.load(moved).golden_ok()


def test_one_row_and_many_give_the_same_bits(folder: Path) -> None:
    """An answer does not depend on the batch it came in."""
    loaded = predictor.load(folder)
    frame = pl.DataFrame({"x": [index / 7 for index in range(200)], "carrier": ["AA", "UA"] * 100})
    single = [loaded.predict(frame[at])[0] for at in range(200)]
    assert loaded.predict(frame).tolist() == single


def test_a_frame_may_hold_more_columns_in_any_order(folder: Path) -> None:
    """`predict` takes what it needs by name and widens whole numbers."""
    loaded = predictor.load(folder)
    frame = pl.DataFrame({"arr_delay": [99], "carrier": ["AA"], "x": [3]})
    assert loaded.predict(frame) == pytest.approx(made.expected([{"x": 3.0, "carrier": "AA"}]), abs=1e-6)


def test_no_rows_no_answers(folder: Path) -> None:
    """An empty frame is answered with an empty array."""
    assert predictor.load(folder).predict(pl.DataFrame({"x": [], "carrier": []})).shape == (0,)


def test_a_frame_without_a_needed_column_is_refused(folder: Path) -> None:
    """The missing column is named."""
    with pytest.raises(RowErrors, match="column 'x'"):
        predictor.load(folder).predict(pl.DataFrame({"carrier": ["AA"]}))


def test_golden_rows_notice_another_model(tmp_path: Path) -> None:
    """A bundle whose model answers otherwise is noticed before it serves."""
    files = {**made.files(), bundle.ONNX: made.linear((0.5, -1.0))}
    problem = predictor.load(made.write(tmp_path, files)).golden_problem()
    assert "3 of 3 golden rows differ" in problem


def test_golden_rows_notice_a_transform_that_raises(tmp_path: Path) -> None:
    """An exception of the transform is a problem with its text, not a crash of the loader."""
    files = {**made.files(), bundle.TRANSFORM: b"def features(rows, codes):\n    raise OSError('no table')\n"}
    assert "OSError: no table" in predictor.load(made.write(tmp_path, files)).golden_problem()


@pytest.mark.parametrize("name", [bundle.MANIFEST, bundle.ONNX, bundle.TRANSFORM, "states/codes.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    """A bundle that is not whole is an integrity error."""
    (folder / name).unlink()
    with pytest.raises(IntegrityError, match=name):
        predictor.load(folder)


@pytest.mark.parametrize("name", [bundle.MANIFEST, bundle.ONNX, "states/codes.json", bundle.GOLDEN])
def test_a_torn_file_is_an_integrity_error(folder: Path, name: str) -> None:
    """Half a file never loads."""
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(IntegrityError):
        predictor.load(folder)


def test_a_newer_bundle_is_refused_with_a_hint(tmp_path: Path) -> None:
    """A format this program does not know is not guessed at."""
    with pytest.raises(NewerStore, match="format 3") as refused:
        predictor.load(made.write(tmp_path, made.files(format=3)))
    assert "upgrade" in refused.value.hint


def test_equal_files_have_one_digest_and_any_change_another() -> None:
    """The bundle hash covers names and contents, not their order."""
    files = made.files()
    assert bundle.digest(files) == bundle.digest(dict(reversed(files.items())))
    assert bundle.digest(files) != bundle.digest({**files, "states/codes.json": b"{}"})
    assert bundle.digest({"a": b"1", "b": b"2"}) != bundle.digest({"a": b"2", "b": b"1"})


def test_answering_imports_no_training_library(folder: Path) -> None:
    """Loading and answering leave lightgbm, torch, scikit-learn and pandas alone."""
    script = (
        "import sys; from pathlib import Path; from mlops_local.engines.models import predictor\n"
        f"loaded = predictor.load(Path({str(folder)!r})); assert loaded.golden_ok()\n"
        "print(sorted({'lightgbm', 'torch', 'sklearn', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
