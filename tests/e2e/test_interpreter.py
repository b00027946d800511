"""mlops in its own environment, the code in the project's: another Python, other packages, and no mlops_local there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interpreters import others

PLAIN = """\
import os
import sys

import mlops_local as mlops

numbers = mlops.data("numbers.csv", kind="files")

@mlops.step
def read(numbers) -> list:
    return [int(line) for line in numbers[0].read_text().split()[1:]]

@mlops.step
def where(read: list) -> dict:
    ours = [name for name in ("click", "duckdb", "blake3", "msgspec", "polars", "textual") if found(name)]
    return {"python": sys.version.split()[0], "ours": ours, "sum": sum(read), "path": os.environ["PATH"].split(os.pathsep)[0]}

def found(name):
    import importlib.util
    return importlib.util.find_spec(name) is not None
"""

PIPELINE = """\
from typing import NamedTuple

import lightgbm as lgb
import pandas as pd
import polars as pl

import mlops_local as mlops
from shoplib import sizes, tidy

shop = mlops.data("shop.csv", key="id")

class Split(NamedTuple):
    train: pl.DataFrame
    valid: pl.DataFrame
    test: pl.DataFrame

@mlops.step
def sums(shop: pd.DataFrame) -> pd.DataFrame:
    return shop.groupby("kind").agg(n=("id", "size")).reset_index()

@mlops.step
def split(shop: pl.DataFrame) -> Split:
    rows = tidy.tidy(shop)
    return Split(*(rows.filter(pl.col("id") % 3 == part) for part in range(3)))

@mlops.transform
def features(rows: pl.DataFrame) -> pl.DataFrame:
    return sizes.sized(rows)

buys = mlops.model("buys", label=pl.col("y") == 1, split=split, features=features)

@buys.candidate
def gbm(train: mlops.XY, valid: mlops.XY) -> lgb.Booster:
    options = {"objective": "binary", "verbose": -1, "num_threads": 1, "seed": 1}
    return lgb.train(options, lgb.Dataset(train.X.to_numpy(), train.y.to_numpy()), 10)
"""
LIBRARY = {
    "pyproject.toml": '[build-system]\nrequires = ["flit_core"]\nbuild-backend = "flit_core.buildapi"\n'
    '[project]\nname = "shoplib"\nversion = "0.1"\ndescription = "x"\n',
    "src/shoplib/__init__.py": "",
    "src/shoplib/tidy.py": "LEAST = -9\n\n\ndef tidy(rows):\n    return rows.filter(rows['a'] > LEAST)\n\n\n"
    "def unused():\n    return 1\n",
    "src/shoplib/sizes.py": "import polars as pl\n\n\ndef sized(rows):\n"
    "    return rows.select((pl.col('a') * 2).alias('size'), pl.col('b'))\n",
}


def mlops(root: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH")}
    command = [sys.executable, "-m", "mlops_local", *words]
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    environment["PYTHONSAFEPATH"] = "1"
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env=environment, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


def states(root: Path, *words: str) -> dict[str, str]:
    return {item["name"]: item["state"] for item in json.loads(mlops(root, "plan", "--json", *words).stdout)["items"]}


@pytest.mark.parametrize("python", others() or [sys.executable], ids=lambda python: Path(python).name)
def test_any_python_runs_the_code(python: str, tmp_path: Path) -> None:
    """An environment with nothing installed will do: it gets mlops_local and none of mlops' own packages."""
    subprocess.run([python, "-m", "venv", "--without-pip", str(tmp_path / ".venv")], check=True)
    (tmp_path / "mlops.toml").write_text("[project]\n")
    (tmp_path / "pipeline.py").write_text(PLAIN)
    (tmp_path / "numbers.csv").write_text("n\n1\n2\n")
    assert "the code runs in Python 3." in mlops(tmp_path, "train").stderr
    script = tmp_path / "look.py"
    script.write_text("import json, mlops_local; print(json.dumps(mlops_local.load('where@latest')))\n")
    found = json.loads(mlops(tmp_path, "run", sys.executable, str(script)).stdout.splitlines()[-1])
    version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    assert found == {"python": version, "ours": [], "sum": 3, "path": str(tmp_path / ".venv" / "bin")}
    assert set(states(tmp_path).values()) == {"fresh"}
    assert f"code runs in Python {version} of .venv" in mlops(tmp_path, "status").stdout
    (run,) = json.loads(mlops(tmp_path, "sql", "--json", "SELECT python, interpreter FROM run WHERE kind = 'train'").stdout)[
        "items"
    ]
    assert run == {"python": version, "interpreter": ".venv"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_another_environment_with_another_polars(tmp_path: Path) -> None:
    """Pandas, polars 1 and a package being edited: everything works, and an edit there reruns what uses it and no more."""
    root, library = tmp_path / "project", tmp_path / "shoplib"
    root.mkdir()
    for name, text in LIBRARY.items():
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_text(text)
    python = (others() or [sys.executable])[0]
    subprocess.run([python, "-m", "venv", "--without-pip", str(root / ".venv")], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(root / ".venv/bin/python"), "--disable-pip-version-check"]
    packages = ["pandas", "polars<2", "lightgbm", "-e", str(library)]
    done = subprocess.run([*pip, "install", "-q", "--no-compile", *packages], capture_output=True, text=True, check=False)
    if done.returncode and ("No matching distribution" in done.stderr or "connection" in done.stderr.lower()):
        pytest.skip("the package registry cannot be reached")
    assert done.returncode == 0, done.stderr
    mlops(root, "init")
    (root / "pipeline.py").write_text(PIPELINE)
    rows = (f"{n},{(n * 37 % 101) / 50 - 1},{n % 5},{'ab'[n % 2]},{int((n * 37 % 101) + n % 5 * 9 > 60)}" for n in range(900))
    (root / "shop.csv").write_text("\n".join(["id,a,b,kind,y", *rows]) + "\n")

    said = mlops(root, "train", "buys", "sums").stderr
    assert "served with the native model: ONNX export needs onnxmltools" in said
    assert set(states(root, "buys", "sums").values()) == {"fresh"}
    (run,) = json.loads(mlops(root, "sql", "--json", "SELECT packages FROM run").stdout)["items"]
    assert json.loads(run["packages"])["polars"].startswith("1.") and "shoplib" in run["packages"]

    tidy, sizes = library / "src/shoplib/tidy.py", library / "src/shoplib/sizes.py"
    tidy.write_text(tidy.read_text().replace("return 1", "return 2  # nobody asks"))
    assert set(states(root, "buys", "sums").values()) == {"fresh"}
    sizes.write_text(sizes.read_text().replace("* 2", "* 3"))
    assert states(root, "buys", "sums") == {
        "sums": "fresh",
        "split": "fresh",
        "buys.features": "stale",
        "gbm": "stale",
        "gbm.evaluate": "stale",
    }
    assert "shoplib.sizes.sized" in mlops(root, "why", "gbm").stdout
    mlops(root, "train", "buys")
    tidy.write_text(tidy.read_text().replace("-9", "-8"))
    assert states(root, "split", "sums") == {"sums": "fresh", "split": "stale"}
