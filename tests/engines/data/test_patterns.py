"""The pattern as text against the same pattern on a real disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_local.domain.errors import DataError
from mlops_local.engines.data import files, patterns

TREE = [
    "a.csv",
    "data/a.csv",
    "data/b.csv",
    "data/b.csv.gz",
    "data/ab.csv",
    "data/[x].csv",
    "data/ü 1.csv",
    "data/2023/a.csv",
    "data/2023/01/a.csv",
    "data/2024/b.parquet",
    "data/.hidden.csv",
    "data/.git/a.csv",
    "data/2023/.b/a.csv",
    ".mlops/data/a.csv",
    "other/data/a.csv",
]
PATTERNS = [
    "a.csv",
    "./data/a.csv",
    "data/*.csv",
    "data/?.csv",
    "data/[ab].csv",
    "data/[!a].csv",
    "data/[a-z]b.csv",
    "data/[[]x].csv",
    "data/*",
    "data/**/*.csv",
    "**/a.csv",
    "*/*/*.csv",
    "data/202[34]/*",
    "data/.hidden.csv",
    "data/ü*.csv",
    "data/nothing-*.csv",
    "data/**",
    "**",
    "data/2023",
    "data/",
    "*/2023",
    "data/.git",
    ".",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_means_the_same_as_on_disk(pattern: str, tmp_path: Path) -> None:
    """For every path the answer from its text is the answer from the disk."""
    for path in TREE:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    try:
        found = files.find(tmp_path, pattern, source="s")
    except DataError:
        found = []
    assert sorted(path for path in TREE if patterns.matches(pattern, path)) == found


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.csv", {".": False, "a.csv": True}),
        ("data/flights-*.parquet", {"data": False}),
        ("data/2024/a.csv", {"data/2024": False, "data/2024/a.csv": True}),
        ("./photos/", {".": False, "photos": True}),
        ("data/*/a.csv", {"data": True}),
        ("data/**/*.csv", {"data": True}),
        ("data/**", {"data": True}),
        ("**/*.csv", {".": True}),
    ],
)
def test_folders_hold_everything_a_pattern_can_mean(pattern: str, expected: dict[str, bool]) -> None:
    """To watch: the pattern's fixed part, below it only if the pattern goes deeper, and a path that may be a folder."""
    assert patterns.folders(pattern) == expected
