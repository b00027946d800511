from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_local.domain import events
from mlops_local.services.project import find
from mlops_local.store import ledger

Mlops = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ledger_file(folder: Path) -> Path:
    """A project with two decisions in its ledger."""
    (folder / "mlops.toml").write_text("")
    project = find(folder, wait_s=10)
    ledger.append(project.layout, events.ALIAS, "delay@champion", "delay@1")
    ledger.append(project.layout, events.ALIAS, "delay@champion", "delay@2")
    project.store.close()
    return project.layout.ledger


def test_a_sound_store_is_said_to_be_sound(ledger_file: Path, mlops: Mlops) -> None:
    """Exit 0 and one line."""
    shown = mlops("doctor")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "the store is sound\n", "")
    assert json.loads(mlops("doctor", "--json").stdout) == {"schema": "mlops/doctor@1", "items": [], "sound": True}


def test_a_torn_ledger_is_found_and_repaired(ledger_file: Path, mlops: Mlops) -> None:
    """Exit 6 with the problem and the way out; --fix mends it; then the store is sound."""
    whole = ledger_file.read_bytes()
    ledger_file.write_bytes(whole + b'{"seq": 3, "torn')
    shown = mlops("doctor")
    assert shown.returncode == 6 and shown.stdout.startswith("ledger: ") and "→ mlops doctor --fix" in shown.stdout
    mended = mlops("doctor", "--fix")
    assert mended.returncode == 0 and "(repaired)" in mended.stdout
    assert ledger_file.read_bytes() == whole and mlops("doctor").stdout == "the store is sound\n"


def test_the_database_can_be_thrown_away(ledger_file: Path, mlops: Mlops) -> None:
    """`mlops db rebuild` makes it anew from what was written; nothing is lost."""
    before = mlops("sql", "select * from alias", "--csv").stdout
    database = ledger_file.parents[1] / "project.duckdb"
    database.unlink()
    shown = mlops("db", "rebuild")
    assert shown.returncode == 0 and "rebuilt from 2 " in shown.stdout and database.exists()
    assert mlops("sql", "select * from alias", "--csv").stdout == before != ""


def test_a_database_that_does_not_open_is_found_and_made_anew(ledger_file: Path, mlops: Mlops) -> None:
    """Garbage where the database was: exit 6 and a hint; --fix rebuilds it."""
    assert "delay@2" in mlops("sql", "select * from alias").stdout
    (ledger_file.parents[1] / "project.duckdb").write_bytes(b"not a database" * 1000)
    broken = mlops("runs")
    assert broken.returncode == 6 and "doctor --fix" in broken.stderr and "Traceback" not in broken.stderr
    assert mlops("doctor", "--fix").returncode == 0
    assert "delay@2" in mlops("sql", "select * from alias").stdout
