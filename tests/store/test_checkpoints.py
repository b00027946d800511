"""A state is whole and this store's own, or it is not found; the newest two stay."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mlops_local.domain.errors import MlopsError
from mlops_local.store import checkpoints, files
from mlops_local.store.checkpoints import Attempt
from mlops_local.store.layout import Layout

KEY = b"key"


def keep(attempt: Attempt, epoch: int, text: str = "state") -> None:
    def write(folder: Path) -> None:
        (folder / "state").write_text(text)

    attempt.save(epoch, "pickle", write)


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    """The third newest goes, and the furthest is found."""
    attempt = Attempt(tmp_path, "a", KEY)
    for epoch in range(12):
        keep(attempt, epoch, str(epoch))
    assert sorted(path.name.partition(".")[2] for path in (tmp_path / "a").iterdir() if path.is_dir()) == ["10", "11"]
    found = checkpoints.furthest(tmp_path, KEY)
    assert found is not None and found.epoch == 11 and (found.folder / "state").read_text() == "11"
    assert checkpoints.form(found) == "pickle"


@pytest.mark.parametrize("damage", ["altered", "cut", "gone", "no proof", "added"])
def test_a_state_that_is_not_what_was_written_is_passed_over(tmp_path: Path, damage: str) -> None:
    """The one before it is taken; with another store's key there is none."""
    attempt = Attempt(tmp_path, "a", KEY)
    keep(attempt, 0)
    keep(attempt, 1)
    newest = max(path for path in (tmp_path / "a").iterdir() if path.is_dir())
    match damage:
        case "altered":
            (newest / "state").write_text("steal")
        case "cut":
            os.truncate(newest / "state", 2)
        case "gone":
            (newest / "state").unlink()
        case "added":
            (newest / "random").write_text("more")
        case _:
            (newest / "meta.json").write_text('{"epoch": 1, "form": "pickle", "points": 0, "files": {}}')
    found = checkpoints.furthest(tmp_path, KEY)
    assert found is not None and found.epoch == 0
    assert checkpoints.furthest(tmp_path, b"another") is None


def test_points_belong_to_the_state_they_came_before(tmp_path: Path) -> None:
    """What was heard after a state was kept is not part of it."""
    attempt = Attempt(tmp_path, "a", KEY)
    attempt.hear(b"one\n")
    keep(attempt, 0)
    attempt.hear(b"two\n")
    keep(attempt, 1)
    attempt.hear(b"x" * (5 << 20))  # more than is held in memory
    found = checkpoints.furthest(tmp_path, KEY)
    assert found is not None and found.lines == b"one\ntwo\n"


def test_only_the_attempt_that_came_furthest_stays(tmp_path: Path) -> None:
    """A next attempt begins beside it: a home does not grow with each interruption."""
    for name, epochs in (("a", 3), ("b", 1)):
        attempt = Attempt(tmp_path, name, KEY)
        for epoch in range(epochs):
            keep(attempt, epoch)
    found = checkpoints.begin(tmp_path, KEY)
    assert found is not None and found.epoch == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """An error while the state is written leaves the ones before, and no half of one."""
    attempt = Attempt(tmp_path, "a", KEY)
    keep(attempt, 0)

    def write(folder: Path) -> None:
        (folder / "state").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(MlopsError, match="no space left"):
        attempt.save(1, "pickle", write)
    assert [path.name.partition(".")[2] for path in (tmp_path / "a").iterdir() if path.is_dir()] == ["0"]


def test_points_that_did_not_fit_are_there_once_when_they_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the middle of a line leaves no half of it among the points, and none twice."""
    attempt = Attempt(tmp_path, "a", KEY)
    attempt.hear(b'{"s":1}\n{"s":2}\n')
    write_all = files.write_all

    def full(descriptor: int, data: bytes) -> None:
        write_all(descriptor, data[:11])
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch, pytest.raises(MlopsError, match="no space left"):
        patch.setattr(files, "write_all", full)
        keep(attempt, 0)
    attempt.hear(b'{"s":3}\n')
    keep(attempt, 1)
    found = checkpoints.furthest(tmp_path, KEY)
    assert found is not None and found.lines == b'{"s":1}\n{"s":2}\n{"s":3}\n'


def test_what_nobody_came_back_to_is_dropped(tmp_path: Path) -> None:
    """After two weeks a fingerprint's states go; younger ones stay."""
    layout = Layout(tmp_path)
    place = checkpoints.home(layout, "f" * 64)
    keep(Attempt(place, "a", KEY), 0)
    now = place.stat().st_mtime
    checkpoints.prune(layout, now + checkpoints.OLD_S - 60)
    assert checkpoints.furthest(place, KEY) is not None
    checkpoints.prune(layout, now + checkpoints.OLD_S + 60)
    assert not place.exists()
