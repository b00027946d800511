from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_local.domain.errors import ConfigError
from mlops_local.services import interpreter
from mlops_local.services.project import Project, find


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty virtual environment, not the one these tests run in."""
    place = tmp_path_factory.mktemp("envs") / "another"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    return place


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    (tmp_path / "mlops.toml").write_text("[project]\n")
    made = find(tmp_path)
    yield made
    made.store.close()


def configured(root: Path, python: str) -> Project:
    (root / "mlops.toml").write_text(f'[project]\npython = "{python}"\n')
    return find(root)


def test_without_an_environment_the_code_runs_where_mlops_does(project: Project) -> None:
    """Nothing is started to find that out, and nothing is said of it."""
    found = interpreter.of(project)
    assert (found.path, found.ours, found.remark(project.root)) == (sys.executable, True, "")


def test_the_order(project: Project, environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting goes before the active environment, that before the project's .venv, that before conda's."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    variables = {"VIRTUAL_ENV": str(environment), "CONDA_PREFIX": str(environment), "PATH": os.environ["PATH"]}

    def found(setting: str = "", **environ: str) -> str:
        place = interpreter.choose(tmp_path, setting, environ)
        return place.found if place else ""

    assert found(str(environment), **variables) == "[project] python"
    assert found(**variables) == "$VIRTUAL_ENV"
    assert found(CONDA_PREFIX=str(environment)) == ".venv"
    shutil.rmtree(tmp_path / ".venv")
    assert found(CONDA_PREFIX=str(environment)) == "$CONDA_PREFIX"
    assert found() == ""


def test_an_active_environment_beside_the_projects_own_is_said(
    project: Project, environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two environments could be meant: the line names the one that was taken and the one that was not."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setenv("VIRTUAL_ENV", str(environment))
    said = interpreter.of(project).remark(tmp_path)
    assert said == "the code runs in the active environment another, not in the project's .venv"


def test_an_active_environment_that_is_gone_is_passed_over(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell may hold the name of a folder that was deleted since."""
    monkeypatch.setenv("VIRTUAL_ENV", str(project.root / "gone"))
    assert interpreter.of(project).ours


@pytest.mark.parametrize("form", ["folder", "python", "relative"])
def test_the_setting_names_an_environment_or_its_python(form: str, environment: Path, tmp_path: Path) -> None:
    """Each way to write it leads to the same Python, started by its own path."""
    (tmp_path / "linked").symlink_to(environment)
    setting = {"folder": str(environment), "python": str(environment / "bin" / "python"), "relative": "linked"}[form]
    project = configured(tmp_path, setting)
    try:
        found = interpreter.of(project)
        assert Path(found.prefix).resolve() == environment.resolve()
        assert (found.found, found.version) == ("[project] python", sys.version.split()[0])
        assert "another" not in found.remark(tmp_path) or str(environment) not in found.remark(tmp_path)
    finally:
        project.store.close()


def test_the_setting_names_a_command(tmp_path: Path, environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare name is looked up on PATH; a script that starts a Python leads to the one it starts."""
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin" / "python3.77"
    shim.write_text(f'#!/bin/sh\nexec {environment}/bin/python "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}{os.pathsep}{os.environ['PATH']}")
    project = configured(tmp_path, "python3.77")
    try:
        assert interpreter.of(project).path == str(environment / "bin" / "python")
    finally:
        project.store.close()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("nowhere/python", "'nowhere/python' is not there"),
        ("python9.99", "there is no command 'python9.99'"),
        ("data", "the folder 'data' is no Python environment"),
        ("plain", "'plain' cannot be executed"),
        ("wrong", "'wrong' is no Python that can be used: what?"),
        ("old", "'old' is Python 3.8.1"),
    ],
)
def test_a_setting_that_cannot_be_is_one_clear_error(setting: str, said: str, tmp_path: Path) -> None:
    """It says what is wrong with it, and that mlops.toml is the place."""
    (tmp_path / "data").mkdir()
    (tmp_path / "plain").write_text("text")
    for name, text in (("wrong", "echo what?"), ("old", 'echo \'["/x/python", "/x", "3.8.1"]\'')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    project = configured(tmp_path, setting)
    try:
        with pytest.raises(ConfigError) as caught:
            interpreter.of(project)
    finally:
        project.store.close()
    assert caught.value.message.startswith("mlops.toml: project.python: ")
    assert said in caught.value.message
    assert caught.value.hint


def test_a_python_is_asked_once(project: Project, environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later commands look at the file only, until another Python is put in its place."""
    monkeypatch.setenv("VIRTUAL_ENV", str(environment))
    first = interpreter.of(project)
    monkeypatch.setattr(interpreter, "_asked", lambda place: pytest.fail("asked again"))
    assert interpreter.of(project) == first
    os.utime(environment / "pyvenv.cfg", (1, 1))
    monkeypatch.setattr(interpreter, "_asked", lambda place: (first.path, first.prefix, "3.99.0"))
    assert interpreter.of(project).version == "3.99.0"
    assert interpreter.of(project).stamp != first.stamp
