"""`mlops data add`: versions of files that no pipeline declares."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mlops_local.cli.main import cli
from mlops_local.domain.errors import Unsettled, UsageError
from mlops_local.engines.data import profile
from mlops_local.services import adding, data, init, planning
from mlops_local.services.project import Project, find
from mlops_local.store import lockfile


@pytest.fixture
def project(tmp_path: Path) -> Project:
    init.create(tmp_path)
    for path, text in {"raw/x.csv": "a,b\n1,2\n", "pics/m.txt": "x\ny,z,w\n", "pics/[1].bin": "hello"}.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    return find(tmp_path)


def test_a_file_has_versions_without_a_pipeline(project: Project) -> None:
    """It is a source of its own for every member of `data`: listed, compared, given back; mlops.lock names its snapshot."""
    root, file = project.root, project.root / "raw" / "x.csv"

    def mlops(*arguments: str) -> str:
        done = CliRunner().invoke(cli, ["-C", str(root), "data", *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    first = json.loads(mlops("add", "raw/x.csv", "--json"))
    assert (first["source"], first["rows"]) == ("x", 1)
    config = (root / "mlops.toml").read_bytes()
    assert config.endswith(b'\n[data.x]\npath = "raw/x.csv"\n')
    file.write_text("a,b\n1,3\n")
    second = json.loads(mlops("add", "raw/x.csv", "--json"))
    assert second["id"] != first["id"] and (root / "mlops.toml").read_bytes() == config
    assert lockfile.read(project.layout.lockfile).sources["x"].snapshot == second["id"]
    assert [item["snapshot"] for item in json.loads(mlops("ls", "--json"))["items"]] == [second["id"]]
    assert "1 added, 1 removed" in mlops("diff", "x@~1", "x", "--stat")
    mlops("restore", "x@~1", "--force")
    assert file.read_text() == "a,b\n1,2\n"


def test_a_folder_is_all_its_files(project: Project) -> None:
    """What is no table is kept as files; a name with signs of a pattern means itself; a pipeline's own sources stay."""
    (project.root / "pipeline.py").write_text('import mlops_local as mlops\n\nraw = mlops.data("raw/*.csv")\n')
    said: list[str] = []
    made = adding.add(project, project.root / "pics", emit=lambda event: said.append(event.text))
    assert [entry.path for entry in made.files] == ["pics/[1].bin", "pics/m.txt"] and "kept as files" in said[0]
    (project.root / "pics" / "new.bin").write_text("new")
    done = CliRunner().invoke(cli, ["-C", str(project.root), "data", "diff", "pics", "--json"])
    changed = json.loads(done.stdout)["files"]
    assert changed["added"] == ["pics/new.bin"] and not changed["moved"] and not changed["removed"]
    one = adding.add(find(project.root), project.root / "pics" / "[1].bin", "one")
    assert [entry.path for entry in one.files] == ["pics/[1].bin"]
    sources = planning.read_code(find(project.root)).graph.sources
    assert [(source.name, source.kind) for source in sources] == [("raw", "table"), ("pics", "files"), ("one", "files")]


def test_a_packed_table_is_kept_as_a_file_and_that_is_said(project: Project) -> None:
    """Once, when it is added: as a source it is files, which is what it is then meant as."""
    said: list[str] = []
    for name in ("y.csv.gz", "y.csv.gz"):
        (project.root / name).write_bytes(b"\x1f\x8b")
        adding.add(find(project.root), project.root / name, "packed", emit=lambda event: said.append(event.text))
    assert [text for text in said if "compressed" in text] == ["y.csv.gz is compressed, so packed has no rows: kept as files"]


def test_what_cannot_be_added_is_said(project: Project) -> None:
    """Nothing is written then."""
    before = (project.root / "mlops.toml").read_bytes()
    (project.root / "pipeline.py").write_text('import mlops_local as mlops\n\nraw = mlops.data("raw/*.csv")\n')
    for path, name, said in [
        ("nix", "", "is not there"),
        ("..", "", "lies outside the project"),
        (".", "", "the project's folder itself"),
        ("raw", "", "source raw is declared already: raw/*.csv"),
        ("raw", "1st", "is no name for a source"),
    ]:
        with pytest.raises(UsageError, match=said.replace("*", r"\*")):
            adding.add(project, project.root / path, name)
    odd = project.root / os.fsdecode(b"caf\xe9.csv")
    odd.write_text("a\n1\n")
    with pytest.raises(UsageError, match="its name is not UTF-8"):
        adding.add(project, odd, "odd")
    assert (project.root / "mlops.toml").read_bytes() == before


def test_a_large_folder_says_where_to_ask_for_its_bytes(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """In mlops.toml, where its entry is: there is no call to change."""
    monkeypatch.setattr(data, "REFERENCE_BYTES", 1)
    said: list[str] = []
    adding.add(project, project.root / "pics", emit=lambda event: said.append(event.text))
    assert any(text.endswith('store = "full" under [data.pics] in mlops.toml') for text in said)
    path = project.root / "mlops.toml"
    path.write_text(path.read_text() + 'store = "full"\n')
    assert adding.add(find(project.root), project.root / "pics").kept == "full"


def test_a_link_to_nothing_is_called_one(project: Project) -> None:
    """It is there, as `ls` shows: what is missing is what it leads to."""
    link = project.root / "raw" / "link.csv"
    link.symlink_to("gone.csv")
    with pytest.raises(UsageError, match=r"link\.csv is a link to a file that is not there"):
        adding.add(project, link)


def test_a_table_that_is_just_being_written_is_not_taken_for_a_file(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What changes between its bytes and its columns is refused for now, and nothing declared; the next time it is a table."""
    file, read = project.root / "raw" / "x.csv", profile.read

    def growing(*arguments: Any, **more: Any) -> Any:
        found = read(*arguments, **more)
        with file.open("a") as rows:
            rows.write("3,4\n")
        return found

    before = (project.root / "mlops.toml").read_bytes()
    with monkeypatch.context() as patched, pytest.raises(Unsettled):
        patched.setattr(profile, "read", growing)
        adding.add(project, file, "")
    assert (project.root / "mlops.toml").read_bytes() == before
    assert adding.add(project, file, "").rows == 2
