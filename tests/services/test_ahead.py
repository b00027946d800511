"""Looking into a table's columns while its bytes are being kept."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import polars as pl
import pytest

from mlops_local.domain.errors import DataError
from mlops_local.domain.graph import Source
from mlops_local.domain.listing import Listing
from mlops_local.engines.data import columns, files, profile
from mlops_local.services import ahead, data, init
from mlops_local.services.project import Project, find
from mlops_local.store import cache, packfiles

SOURCE = Source("sales", "sales-*.csv", key=("id",))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(ahead, "LEAST", 1)
    monkeypatch.setattr(ahead, "RACY_NS", 0)
    init.create(tmp_path)
    for month in (1, 2):
        lines = [f"{month}{number:03},{number * 0.5},{'ab'[number % 2]}" for number in range(500)]
        (tmp_path / f"sales-{month}.csv").write_text("id,paid,kind\n" + "\n".join(lines) + "\n")
    return find(tmp_path)


def test_what_was_found_ahead_is_what_would_be_found_afterwards(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The snapshot is the same to the last figure; each file's rows were looked at once, beside the reading of its bytes."""
    fed: list[tuple[str, int]] = []
    feed = columns.Columns.feed

    def counted(self: columns.Columns, frame: pl.DataFrame) -> None:
        fed.append((threading.current_thread().name, frame.height))
        feed(self, frame)

    monkeypatch.setattr(columns.Columns, "feed", counted)
    made = data.snapshot(project, SOURCE)
    assert (made.rows, fed) == (1000, [("mlops-ahead", 500)] * 2)
    monkeypatch.setattr(ahead, "LEAST", 1_000_000)
    shutil.rmtree(project.layout.cache)
    assert data.current(project, SOURCE).columns == made.columns
    assert fed[2:] == [("MainThread", 500)] * 2


def test_what_was_found_in_a_file_that_changed_is_forgotten(project: Project) -> None:
    """Only of the file that still looks as it did when it was looked into something is kept."""
    looking = ahead.begin(project, SOURCE, _listed(project))
    assert looking is not None
    with (project.root / "sales-2.csv").open("a") as file:
        file.write("9999,7.5,a\n")
    looking.keep(_listed(project), {"sales-1.csv": "1" * 64, "sales-2.csv": "2" * 64})
    assert cache.sketches(project.layout, f"{'1' * 64}-{profile.version()}") is not None
    assert cache.sketches(project.layout, f"{'2' * 64}-{profile.version()}") is None


def test_a_file_written_a_moment_ago_is_not_looked_into(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write within the clock's grain would leave its stat as it is, so such a file is read in order."""
    monkeypatch.setattr(ahead, "RACY_NS", 3_600_000_000_000)
    assert ahead.begin(project, SOURCE, _listed(project)) is None


def test_a_wrong_file_is_refused_in_the_same_words_and_leaves_nothing(project: Project) -> None:
    """A line that is too long is told with its number, and no byte of the source stays in the packs."""
    with (project.root / "sales-2.csv").open("a") as file:
        file.write("1,2,3,4,5\n")
    with pytest.raises(DataError, match=r"sales-2\.csv, line 502: 5 values where the header has 3"):
        data.snapshot(project, SOURCE)
    assert not any(packfiles.lines(project.layout, name) for name in packfiles.names(project.layout))


def _listed(project: Project) -> Listing:
    return files.listing(project.root, SOURCE.pattern, source="sales")
