"""The page on tracking says what is true: its Python runs from top to bottom, and what it promises of the runs is there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "tracking.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_pages_python_runs(tmp_path: Path) -> None:
    """One script made of all its blocks ends without a word; every run of it is done, with its points, files and version."""
    (tmp_path / "mlops.toml").write_text('[project]\nname = "page"\n')
    (tmp_path / "pixel.png").write_bytes(b"\x89PNG")
    (tmp_path / "page.py").write_text("\n".join(BLOCK.findall(PAGE.read_text(encoding="utf-8"))))
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLOPS_")}
    done = subprocess.run([sys.executable, "page.py"], cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    paths = (tmp_path / ".mlops" / "journal").glob("*.jsonl")
    lines = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    names = {line["run"]: line["name"] for line in lines if line["k"] == "run_started"}
    assert list(names.values()) == [
        "baseline",
        "with files",
        "sweep",
        "fit",
        "fit",
        "fit",
        "from a notebook",
        "churn",
        "logistic",
    ]
    assert {line["state"] for line in lines if line["k"] == "run_ended"} == {"done"}
    assert [line["path"] for line in lines if line["k"] == "artifact"] == ["notes.txt", "worst.parquet", "one pixel.png"]
    logged = {(names[line["r"]], line["key"]) for line in lines if line["k"] == "m"}
    assert logged >= {
        ("baseline", "loss"),
        ("fit", "score"),
        ("sweep", "best"),
        ("churn", "valid.binary_logloss"),
        ("logistic", "accuracy"),
    }
    assert len(list((tmp_path / ".mlops" / "pending").glob("*.json"))) == 1
