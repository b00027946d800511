"""Files of a run: kept as they were, under names that stay within it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

import mlops_local as mlops
from mlops_local.domain.errors import UsageError
from mlops_local.store import objects
from mlops_local.store.layout import Layout
from tests.api.conftest import Lines


def content(project: Path, line: dict[str, Any]) -> bytes:
    return objects.get(Layout(project), line["object"])


def test_a_file_is_kept_as_it_was(project: Path, lines: Lines) -> None:
    """Later changes do not reach it; its name is its path in the project, or the one it is given."""
    (project / "out").mkdir()
    report = project / "out" / "report.txt"
    report.write_text("one")
    with mlops.run() as run:
        mlops.log_artifact("out/report.txt")
        report.write_text("two")
        mlops.log_artifact(report, "final/report.txt")
    one, two = lines("artifact")
    assert (one["run"], one["path"], one["bytes"], content(project, one)) == (run.id, "out/report.txt", 3, b"one")
    assert (two["path"], content(project, two)) == ("final/report.txt", b"two")


def test_a_folder_is_kept_file_by_file(project: Path, lines: Lines) -> None:
    """Every file with its path in it; a link within the folder is the file it leads to; one from elsewhere keeps its name."""
    (project / "model" / "layers").mkdir(parents=True)
    (project / "model" / "config.json").write_text("{}")
    (project / "model" / "layers" / "0.bin").write_bytes(b"0")
    (project / "model" / "last.bin").symlink_to("layers/0.bin")
    outside = project.parent / "outside"
    outside.mkdir()
    (outside / "a").write_text("a")
    with mlops.run():
        mlops.log_artifact("model")
        mlops.log_artifact(outside)
    names = [line["path"] for line in lines("artifact")]
    assert sorted(names) == ["model/config.json", "model/last.bin", "model/layers/0.bin", "outside/a"]


def test_what_cannot_be_kept_is_refused_by_name(project: Path, lines: Lines) -> None:
    """What is not there, leads out by `..` or a link, holds the store, or is a pipe: refused, and nothing half kept."""
    (project.parent / "secret.txt").write_text("s")
    (project / "link.txt").symlink_to("../secret.txt")
    (project / "folder").mkdir()
    (project / "folder" / "fine.txt").write_text("f")
    (project / "folder" / "leak").symlink_to(project.parent)
    (project / "empty").mkdir()
    os.mkfifo(project / "pipe")
    cases = {
        "nowhere.txt": "no file or folder nowhere.txt",
        "../secret.txt": "leads out of the project",
        "link.txt": "leads out of the project",
        "folder": "leak in folder leads out of the folder",
        ".": "holds the store itself",
        ".mlops/config": "holds the store itself",
        "empty": "holds no file",
        "pipe": "is no file",
    }
    with mlops.run():
        for path, said in cases.items():
            with pytest.raises(UsageError, match=said):
                mlops.log_artifact(path)
        for name in ("../up.txt", "/abs.txt", "a/../../b", "nul\0", "n" * 2000):
            with pytest.raises(UsageError, match="cannot be called"):
                mlops.log_artifact("mlops.toml", name)
            with pytest.raises(UsageError, match="cannot be called"):
                mlops.log_table(name, [{"a": 1}])
    assert lines("artifact") == []
    assert not list((project / ".mlops" / "tmp").iterdir())


@pytest.mark.parametrize("kind", ["polars", "lazy", "pandas", "columns", "rows"])
def test_a_table_is_parquet(kind: str, project: Path, lines: Lines) -> None:
    """Whatever library it comes from, the rows come back the same."""
    columns = {"word": ["a", "b"], "count": [1, 2]}
    frame = pl.DataFrame(columns)
    given = {
        "polars": frame,
        "lazy": frame.lazy(),
        "pandas": pd.DataFrame(columns),
        "columns": columns,
        "rows": frame.to_dicts(),
    }
    with mlops.run():
        mlops.log_table("errors/worst", given[kind])
    (kept,) = lines("artifact")
    assert kept["path"] == "errors/worst.parquet"
    assert pl.read_parquet(io.BytesIO(content(project, kept))).equals(frame)


def test_what_is_no_table_or_picture(project: Path, lines: Lines) -> None:
    """It is said what would be one."""
    with mlops.run():
        with pytest.raises(UsageError, match="'t' is no table"):
            mlops.log_table("t", object())
        with pytest.raises(UsageError, match="a dict is no picture"):
            mlops.log_figure("f", {})
    assert lines("artifact") == []


class Figure:
    """What matplotlib's has."""

    def savefig(self, path: Path, format: str) -> None:
        path.write_bytes(b"\x89PNG drawn as " + format.encode())


class Axes:
    """What matplotlib's have."""

    figure = Figure()


class Image:
    """What Pillow's has."""

    def save(self, path: Path, format: str) -> None:
        path.write_bytes(b"\x89PNG saved as " + format.encode())


def test_a_picture_by_what_it_can_do(project: Path, lines: Lines) -> None:
    """A figure or its axes, an image, or bytes, whose form is seen from how they begin."""
    pictures = {"fig": Figure(), "axes": Axes(), "image.png": Image(), "photo": b"\xff\xd8\xff\xe0", "own.bin": b"any"}
    with mlops.run():
        for name, picture in pictures.items():
            mlops.log_figure(name, picture)
    found = {line["path"]: content(project, line) for line in lines("artifact")}
    assert found == {
        "fig.png": b"\x89PNG drawn as png",
        "axes.png": b"\x89PNG drawn as png",
        "image.png": b"\x89PNG saved as PNG",
        "photo.jpg": b"\xff\xd8\xff\xe0",
        "own.bin": b"any",
    }


def test_outside_any_run_nothing_is_kept(project: Path) -> None:
    """As with `log`: a function that keeps files can be called in a test."""
    mlops.log_artifact("nowhere")
    mlops.log_table("t", [])
    mlops.log_figure("f", b"")
    assert not (project / ".mlops").exists()
