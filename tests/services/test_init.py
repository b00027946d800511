"""Making a project on a real disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mlops_local.domain.errors import DataError, MlopsError, UsageError
from mlops_local.domain.xy import XY
from mlops_local.services import init
from mlops_local.services.project import find


def _tree(root: Path) -> dict[str, bytes]:
    inside = (file for file in root.rglob("*") if file.is_file() and ".mlops" not in file.parts)
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in inside}


@pytest.fixture
def customers(tmp_path: Path) -> Path:
    rows = range(400)
    frame = pl.DataFrame(
        {
            "id": rows,
            "age": [20 + row % 50 for row in rows],
            "city": [("Ulm", "Bonn", "Köln")[row % 3] for row in rows],
            "churned": ["yes" if row % 50 > 30 or row % 7 == 0 else "no" for row in rows],
        }
    )
    frame.write_csv(tmp_path / "customers.csv")
    return tmp_path / "customers.csv"


def test_bare_init_writes_no_code(tmp_path: Path) -> None:
    """A bare init makes mlops.toml and .mlops/ and leaves every file of the user's as it was."""
    (tmp_path / "train.py").write_text("print('mine')\n")
    made = init.create(tmp_path)
    assert made.written == ("mlops.toml",)
    assert set(_tree(tmp_path)) == {"train.py", "mlops.toml"} and (tmp_path / ".mlops").is_dir()
    assert find(tmp_path).config.name == tmp_path.name


def test_bare_init_twice_keeps_everything(tmp_path: Path) -> None:
    """In a project that exists (a clone), init only makes the store ready."""
    (tmp_path / "mlops.toml").write_text('[project]\nname = "mine"\n')
    made = init.create(tmp_path)
    assert made.written == () and find(tmp_path).config.name == "mine"
    identity = (tmp_path / ".mlops" / "config").read_bytes()
    init.create(tmp_path)
    assert (tmp_path / ".mlops" / "config").read_bytes() == identity


def test_the_sample_comes_whole_and_clean(tmp_path: Path) -> None:
    """The flights template has code, configuration and data of January to December, and no state of anybody's runs."""
    made = init.create(tmp_path / "flights", template="flights")
    names = set(_tree(tmp_path / "flights"))
    assert set(made.written) == names
    assert {"mlops.toml", "pipeline.py", "features.py", "network.py", "README.md", "data/README.md"} <= names
    assert sum(name.startswith("data/flights-") for name in names) == 9
    assert sum(name.startswith("incoming/weather-") for name in names) == 3
    assert not any("__pycache__" in name or name == "mlops.lock" for name in names)


@pytest.mark.parametrize("template", ["flights", "blank"])
def test_nothing_is_overwritten(tmp_path: Path, template: str) -> None:
    """A file that would be written and exists stops everything before the first byte, and is named."""
    (tmp_path / "pipeline.py").write_text("mine")
    with pytest.raises(UsageError) as caught:
        init.create(tmp_path, template=template)
    assert "pipeline.py exists already; nothing was written" in caught.value.message
    assert _tree(tmp_path) == {"pipeline.py": b"mine"} and not (tmp_path / ".mlops").exists()


def test_a_dangling_link_counts_as_a_file(tmp_path: Path) -> None:
    """Writing through a link that leads nowhere would create a file elsewhere: refused."""
    (tmp_path / "pipeline.py").symlink_to(tmp_path / "elsewhere.py")
    with pytest.raises(UsageError, match=r"pipeline\.py"):
        init.create(tmp_path, template="blank")
    assert not (tmp_path / "elsewhere.py").exists()


def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """When writing fails half way, what was written a moment ago is removed and the error says why."""
    (tmp_path / "data").write_text("a file where the template needs a folder")
    with pytest.raises(MlopsError):
        init.create(tmp_path, template="flights")
    assert _tree(tmp_path) == {"data": b"a file where the template needs a folder"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"template": "flight"}, "no template 'flight'"),
        ({"data": Path("x.csv"), "target": "y"}, "--data goes with"),
        ({"template": "blank", "data": Path("x.csv")}, "--target COLUMN is missing"),
        ({"template": "blank", "target": "y"}, "--data FILE is missing"),
    ],
)
def test_arguments_that_do_not_fit_are_said(tmp_path: Path, arguments: dict[str, object], said: str) -> None:
    """A wrong template, or half of --data and --target, is a usage error with the full command."""
    with pytest.raises(UsageError, match=said):
        init.create(tmp_path / "p", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "p").exists()


def test_a_pipeline_is_written_for_a_file(tmp_path: Path, customers: Path) -> None:
    """The file is copied into data/ (the original stays), the pipeline names its columns, and what was seen is said."""
    before = customers.read_bytes()
    made = init.create(tmp_path / "churn", template="blank", data=customers, target="churned")
    assert set(made.written) == {"mlops.toml", "pipeline.py", "data/customers.csv"}
    assert (tmp_path / "churn/data/customers.csv").read_bytes() == before == customers.read_bytes()
    code = (tmp_path / "churn/pipeline.py").read_text()
    assert 'mlops.data("data/customers.csv", key="id", outcome="churned")' in code
    assert 'NUMBERS = ["age"]' in code and 'CATEGORIES = ["city"]' in code
    assert "whether churned is yes (binary)" in made.said[0] and "400 rows" in made.said[0]
    compile(code, "pipeline.py", "exec")


def test_a_pipeline_learns_from_columns_of_any_name(tmp_path: Path) -> None:
    """LightGBM takes no brackets, colons or quotation marks in names; the pipeline that is written does."""
    rows = {"price [EUR]": range(80), "a:b": ["x", "y"] * 40, 'say "c"': [0.5, 1.5, 2.5, 3.5] * 20, "sold": ["yes", "no"] * 40}
    pl.DataFrame(rows).write_parquet(tmp_path / "rows.parquet")
    init.create(tmp_path, template="blank", data=tmp_path / "rows.parquet", target="sold")
    written: dict[str, Any] = {"__name__": "pipeline"}
    exec(compile((tmp_path / "pipeline.py").read_text(), "pipeline.py", "exec"), written)
    table = pl.DataFrame({name: [float(n * n % 7) for n in range(80)] for name in written["NUMBERS"] + written["CATEGORIES"]})
    part = XY(table, pl.Series([n % 2 for n in range(80)]), table)
    model = written["gbm"](part, part, rounds=3)
    assert model.num_feature() == 3


def test_a_file_inside_the_project_is_used_in_place(tmp_path: Path, customers: Path) -> None:
    """A file that lies in the project is referred to where it is."""
    made = init.create(tmp_path, template="blank", data=customers, target="churned")
    assert set(made.written) == {"mlops.toml", "pipeline.py"}
    assert 'mlops.data("customers.csv"' in (tmp_path / "pipeline.py").read_text()


@pytest.mark.parametrize(
    ("name", "target", "message", "hint"),
    [
        ("customers.csv", "churn", "no column 'churn'", "did you mean 'churned'?"),
        ("custmers.csv", "churned", "there is no file", "did you mean 'customers.csv'?"),
        ("notes.txt", "churned", "neither CSV nor Parquet", ".parquet"),
        ("broken.parquet", "churned", "not a readable Parquet file", "copy it again"),
    ],
)
def test_a_file_that_does_not_do_is_said(
    tmp_path: Path, customers: Path, name: str, target: str, message: str, hint: str
) -> None:
    """A wrong column, name, kind or content is refused with a way out, and nothing is written."""
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "broken.parquet").write_text("x")
    with pytest.raises(DataError) as caught:
        init.create(tmp_path / "p", template="blank", data=tmp_path / name, target=target)
    assert message in caught.value.message and hint in caught.value.hint and caught.value.exit_code == 2
    assert not (tmp_path / "p").exists()


def test_the_command_says_what_to_type_next(tmp_path: Path, customers: Path) -> None:
    """`mlops init` tells on stdout only what to type; a second call is refused with exit 2."""
    command = [
        sys.executable,
        "-m",
        "mlops_local",
        "init",
        "churn",
        "--template",
        "blank",
        "--data",
        str(customers),
        "--target",
        "churned",
    ]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert first.stdout.split("\n") == ["  cd churn", "  mlops plan", "  mlops train", ""]
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 2 and "never overwrites" in again.stderr and again.stdout == ""
