"""Files whose paths say something: names in braces make them a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_local.api import declare
from mlops_local.domain.errors import ConfigError
from mlops_local.engines.data import patterns
from mlops_local.services.project import find
from mlops_local.services.train import train
from mlops_local.store import cache

PIPELINE = """
from pathlib import Path
import polars as pl
import mlops_local as mlops

photos = mlops.data("photos/{split}/{label}-*.txt", kind="files")

@mlops.step
def table(photos: pl.LazyFrame) -> pl.DataFrame:
    return photos.collect()

@mlops.step(each="photos")
def size(photos: Path) -> int:
    return len(photos.read_text())

@mlops.step(each="photos")
def what(photos: pl.DataFrame) -> str:
    return photos["label"].item()

@mlops.step
def together(photos, table, size, what, listed: pl.DataFrame) -> None:
    assert photos["path"][0] == "photos/test/cat-2.txt"
    assert photos.equals(table) and listed.equals(table) and table.columns == ["path", "split", "label"]
    assert list(what) == table["label"].to_list() == ["cat", "cat", "dog"]
    assert list(size) == [len(Path(path).read_text()) for path in table["path"]] == [1, 4, 3]

listed = mlops.command("cp {photos:csv} {output}", inputs={"photos": photos}, outputs="listed.csv")
"""


def test_what_paths_say_is_a_table(tmp_path: Path) -> None:
    """Steps and programs get path and labels; the profile counts them, and another name is another snapshot."""
    (tmp_path / "mlops.toml").write_text('[project]\nname = "zoo"\n')
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    for path, text in {"train/cat-1": "miau", "train/dog-1": "wau", "test/cat-2": "m"}.items():
        file = tmp_path / "photos" / f"{path}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    project = find(tmp_path)
    assert set(train(project).ran) == {"table", "size", "what", "together", "listed"}
    held = cache.snapshot(project.layout, "photos")
    assert held is not None
    found = {column.name: column.top for column in held.columns}
    assert found["label"] == (("cat", 2), ("dog", 1)) and found["split"] == (("train", 2), ("test", 1))
    (tmp_path / "pipeline.py").write_text(PIPELINE.replace("{split}", "{part}").replace('"split"', '"part"'))
    assert set(train(project, ["together"]).ran) == {"table", "size", "what", "listed", "together"}
    now = cache.snapshot(project.layout, "photos")
    assert now is not None and now.files == held.files and now.id != held.id and now.columns[-2].name == "part"


@pytest.mark.parametrize(
    ("pattern", "path", "labels"),
    [
        ("a/{x}/*.jpg", "a/b c/1.jpg", {"x": "b c"}),
        ("a/**/{x}/*", "a/b/c/1.jpg", {"x": "c"}),
        ("{x}/{y}_*.t?t", "u/v_w_1.txt", {"x": "u", "y": "v"}),
        ("a/[{]x}{y}.jpg", "a/{x}1.jpg", {"y": "1"}),
    ],
)
def test_a_name_stands_for_what_is_in_its_place(pattern: str, path: str, labels: dict[str, str]) -> None:
    """Within one part of the path, as little as can be; the files are those of the same pattern with `*`."""
    assert patterns.matches(patterns.unnamed(pattern), path)
    assert patterns.labels(pattern, [path]) == {name: [value] for name, value in labels.items()}


@pytest.mark.parametrize(
    ("pattern", "kind", "said"),
    [
        ("a/{x}/*.csv", "table", "names a part of files' paths, and this is a table"),
        ("a/{x}/{x}.jpg", "files", "{x} is there twice"),
        ("a/{type}/*.jpg", "files", "{type} is a column that files have anyway"),
        ("a/{x}*.jpg", "files", "nothing tells where a name in braces begins and ends"),
    ],
)
def test_a_name_that_tells_nothing_is_refused(pattern: str, kind: str, said: str) -> None:
    """When it is declared, with what to write instead."""
    with pytest.raises(ConfigError) as caught:
        declare.data(pattern, kind=kind)
    assert said in caught.value.message and caught.value.hint
