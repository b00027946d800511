"""Finding and hashing a source's files."""

from __future__ import annotations

import os
from pathlib import Path

import blake3
import pytest

from mlops_local.domain.errors import DataError
from mlops_local.domain.listing import Hashed
from mlops_local.engines.data import files


def _write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def test_files_come_relative_and_sorted(tmp_path: Path) -> None:
    """A pattern means its files relative to the root, in order of name, and no folder."""
    _write(tmp_path, "data/b.csv", "data/a.csv", "other/c.csv")
    (tmp_path / "data" / "d.csv").mkdir()
    assert files.find(tmp_path, "data/*.csv", source="s") == ["data/a.csv", "data/b.csv"]


def test_the_store_and_drafts_are_never_data(tmp_path: Path) -> None:
    """What lies in .mlops/ or begins with a dot is not part of a source that does not ask for it."""
    _write(tmp_path, "a.csv", ".draft.csv", ".mlops/x.csv", "data/.hidden/y.csv")
    assert files.find(tmp_path, "**/*.csv", source="s") == ["a.csv"]
    assert files.find(tmp_path, ".draft.csv", source="s") == [".draft.csv"]


def test_a_linked_folder_is_followed_by_its_own_name(tmp_path: Path) -> None:
    """Data may live elsewhere behind a link; the snapshot knows it by its path in the project."""
    _write(tmp_path, "elsewhere/a.csv")
    root = tmp_path / "project"
    root.mkdir()
    (root / "data").symlink_to(tmp_path / "elsewhere")
    assert files.find(root, "data/*.csv", source="s") == ["data/a.csv"]


@pytest.mark.parametrize(
    "pattern",
    ["*.csv", "**/*.csv", "data/**/a.*", "data/*/*.csv", "*/*", "**/*", "data/[ab].csv", "d?ta/a.csv", "**/x/**/*"],
)
def test_a_pattern_means_what_it_means_to_pathlib(tmp_path: Path, pattern: str) -> None:
    """Wildcards find the files `Path.glob` finds, through a linked folder only where it is named."""
    _write(tmp_path, "a.csv", "data/a.csv", "data/b.csv", "data/c.txt", "data/x/a.csv", "data/x/y/a.txt", "data/x/y/z/d.csv")
    (tmp_path / "data" / "link").symlink_to(tmp_path / "data" / "x")
    expected = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob(pattern) if path.is_file())
    try:
        assert files.find(tmp_path, pattern, source="s") == expected
    except DataError:
        assert expected == []


@pytest.mark.parametrize("pattern", ["/etc/*.csv", "../x.csv", ""])
def test_a_pattern_that_leaves_the_project_is_refused(tmp_path: Path, pattern: str) -> None:
    """A source lies in the project's folder: anything else would store an absolute path."""
    with pytest.raises(DataError, match="not a pattern inside"):
        files.find(tmp_path, pattern, source="s")


def test_no_match_says_the_pattern_the_folder_and_what_is_there(tmp_path: Path) -> None:
    """A source that matches nothing names pattern and folder; the hint tells what the nearest folder holds."""
    _write(tmp_path, "data/flight-01.parquet")
    with pytest.raises(DataError) as caught:
        files.find(tmp_path, "data/flights-*.parquet", source="flights")
    assert "source flights" in caught.value.message
    assert "data/flights-*.parquet" in caught.value.message and str(tmp_path) in caught.value.message
    assert "data/ holds flight-01.parquet" in caught.value.hint


def test_no_match_finds_the_nearest_existing_folder(tmp_path: Path) -> None:
    """When the pattern's folder does not exist, the hint speaks of the one above it."""
    _write(tmp_path, "dat/a.csv")
    with pytest.raises(DataError) as caught:
        files.find(tmp_path, "data/2013/*.csv", source="s")
    assert "the project's folder holds dat" in caught.value.hint


def test_the_hash_is_blake3_of_the_bytes(tmp_path: Path) -> None:
    """A file's identity is the BLAKE3 of its bytes, so another tool can check it; an empty file has one too."""
    (tmp_path / "a").write_bytes(b"x" * 300_000)
    (tmp_path / "empty").touch()
    assert files.digest(tmp_path / "a") == blake3.blake3(b"x" * 300_000).hexdigest()
    assert files.digest(tmp_path / "empty") == blake3.blake3(b"").hexdigest()


def test_same_size_and_mtime_do_not_fool_the_stat_cache(tmp_path: Path) -> None:
    """A rewrite that restores size and mtime is still seen: its ctime moved."""
    file = tmp_path / "a"
    file.write_text("x")
    before = files.listing(tmp_path, "a", source="s")
    file.write_text("y")
    os.utime(file, ns=(before.stamp(0)[2], before.stamp(0)[2]))
    after = files.listing(tmp_path, "a", source="s")
    assert after.stamp(0)[:3] == before.stamp(0)[:3]
    assert Hashed(before, ["abc"]).of(before) == ["abc"] and Hashed(before, ["abc"]).of(after) == [""]


def test_files_that_are_gone_or_no_files_are_not_listed(tmp_path: Path) -> None:
    """Of paths somebody names, those are listed that are files now; a link that leads nowhere is an error only for a source."""
    _write(tmp_path, "a", "folder/b")
    (tmp_path / "link").symlink_to("nowhere")
    listed = files.seen(tmp_path, ["a", "folder", "gone", "link"])
    assert listed.paths == ["a"] and listed.sizes == [1] and listed.stamp(0) == files.stamp(tmp_path / "a")
    with pytest.raises(DataError, match="a link to a file that is not there"):
        files.seen(tmp_path, ["link"], source="s")


def test_equal_files_are_one_snapshot_whatever_their_order() -> None:
    """The id depends on paths and contents alone, and a name cannot run into its neighbour."""
    one, two = ("a.csv", "11"), ("b.csv", "22")
    assert files.identity([one, two]) == files.identity([two, one])
    assert files.identity([one]) != files.identity([one, two])
    assert files.identity([("a", "11"), ("b", "22")]) != files.identity([("a:11 b", "22")])
    assert files.identity([("a", "11")]) != files.identity([("b", "11")])


def test_a_file_name_that_is_not_utf8_has_an_identity() -> None:
    """Names come with surrogates where their bytes are not UTF-8; they hash like any other."""
    assert files.identity([(os.fsdecode(b"\xff.csv"), "11")]) != files.identity([("x.csv", "11")])


def test_a_missing_file_is_said_by_name(tmp_path: Path) -> None:
    """A file that vanished between listing and hashing is an error that names it."""
    with pytest.raises(DataError, match=r"cannot read gone\.csv"):
        files.settled_digest(tmp_path / "gone.csv", source="s")


def test_a_link_that_leads_nowhere_is_said(tmp_path: Path) -> None:
    """A dangling link and one that leads to itself were meant to be files: they are refused by name, not left out."""
    _write(tmp_path, "data/a.csv")
    link = tmp_path / "data" / "b.csv"
    for target, said in (("nowhere.csv", "a link to a file that is not there"), ("b.csv", "a link that leads to itself")):
        link.symlink_to(target)
        with pytest.raises(DataError, match=rf"data/b\.csv is {said}"):
            files.find(tmp_path, "data/*.csv", source="s")
        link.unlink()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_looked_into_is_said(tmp_path: Path) -> None:
    """Files behind a closed door must not look as if they were not there."""
    _write(tmp_path, "data/open/a.csv", "data/closed/b.csv")
    (tmp_path / "data" / "closed").chmod(0)
    try:
        with pytest.raises(DataError, match="cannot look into data/closed/"):
            files.find(tmp_path, "data/*/*.csv", source="s")
    finally:
        (tmp_path / "data" / "closed").chmod(0o700)
