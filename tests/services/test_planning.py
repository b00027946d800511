"""What a plan rests on beside the code it can see: files, variables and modules that were read while the code was imported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlops_local.services import planning
from mlops_local.services.project import find

STEP = "\n\n@mlops.step\ndef count(*, rounds: int = {default}) -> int:\n    return {value}\n"


def _plan(root: Path, code: str = "", *, default: str = "1", value: str = "rounds") -> dict[str, str]:
    """The fingerprint of each step, as a new process would find it."""
    if code:
        (root / "mlops.toml").write_text('[project]\nname = "small"\n')
        (root / "pipeline.py").write_text(code + STEP.format(default=default, value=value))
    project = find(root)
    try:
        return {decision.name: decision.fingerprint for decision in planning.plan(project).decisions}
    finally:
        project.store.close()


def test_a_file_read_at_import_counts(tmp_path: Path) -> None:
    """A configuration file that the code opens while it is imported is an input of its steps, by content."""
    (tmp_path / "rounds.json").write_text('{"rounds": 3}')
    code = 'import json\nimport mlops_local as mlops\n\nROUNDS = json.load(open("rounds.json"))["rounds"]\n'
    before = _plan(tmp_path, code, value="ROUNDS")
    assert _plan(tmp_path) == before
    (tmp_path / "rounds.json").write_text('{"rounds": 4}')
    changed = _plan(tmp_path)
    assert changed != before
    (tmp_path / "rounds.json").write_text('{"rounds": 3}')
    assert _plan(tmp_path) == before


def test_a_variable_read_at_import_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A default that comes from the environment is today's, not the one kept when the code was described."""
    monkeypatch.delenv("ROUNDS", raising=False)
    code = "import os\nimport mlops_local as mlops\n"
    _plan(tmp_path, code, default='int(os.environ.get("ROUNDS", "7"))')
    monkeypatch.setenv("ROUNDS", "31")
    project = find(tmp_path)
    code_now = planning.read_code(project)
    project.store.close()
    assert planning.parameters(code_now.graph, project.config) == {"count": {"rounds": 31}}


def test_a_variable_asked_for_by_a_hidden_name_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name put together while the code runs cannot be seen in it; who asked for it is still noticed."""
    monkeypatch.setenv("SHOP_ROUNDS", "3")
    code = 'import os\nimport mlops_local as mlops\n\nROUNDS = int(os.environ["_".join(["SHOP", "ROUNDS"])])\n'
    before = _plan(tmp_path, code, value="ROUNDS")
    assert _plan(tmp_path) == before
    monkeypatch.setenv("SHOP_ROUNDS", "4")
    assert _plan(tmp_path) != before


def test_a_module_on_the_python_path_counts_by_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper beside the project has no version; an edit of it is noticed although the project's own files stand still."""
    place, root = tmp_path / "lib", tmp_path / "project"
    place.mkdir()
    root.mkdir()
    (place / "besides.py").write_text("def rounds():\n    return 3\n")
    monkeypatch.setenv("PYTHONPATH", str(place))
    code = "import besides\nimport mlops_local as mlops\n"
    before = _plan(root, code, value="besides.rounds()")
    assert _plan(root) == before
    (place / "besides.py").write_text("def rounds():\n    return 4\n")
    assert _plan(root) != before


def test_a_secret_parameter_is_kept_as_a_digest(tmp_path: Path) -> None:
    """A parameter named like a secret changes the fingerprint, and its value is in no part that is stored."""
    from mlops_local.domain.graph import Step
    from mlops_local.engines.pipeline.fingerprint import fingerprint

    step = Step("load", "step", ())
    first, parts = fingerprint(step, (), {"api_key": "open-sesame", "rows": 3}, {})
    second, _ = fingerprint(step, (), {"api_key": "another", "rows": 3}, {})
    assert first != second
    assert "open-sesame" not in json.dumps([part.value for part in parts])
    assert [part.value for part in parts if part.what == "rows"] == ["3"]


def test_a_value_that_came_from_elsewhere_counts_when_the_code_is_read_again(tmp_path: Path) -> None:
    """What a file outside the project held is seen in the value it became, although the code that reads it stands still."""
    root, outside = tmp_path / "project", tmp_path / "outside.txt"
    root.mkdir()
    outside.write_text("3")
    code = "import os\nimport mlops_local as mlops\n\nROUNDS = [int(os.popen('cat ../outside.txt').read())]\n"
    before = _plan(root, code, value="ROUNDS")
    assert _plan(root, code + "# a comment\n", value="ROUNDS") == before
    outside.write_text("4")
    assert _plan(root, code + "# another\n", value="ROUNDS") != before
