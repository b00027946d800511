"""The recipes of docs/neural.md train; interrupted, they go on to the same weights; told to stop, they keep what they have."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Shop, make_shop

PAGE = (Path(__file__).parents[2] / "docs" / "neural.md").read_text(encoding="utf-8")
RECIPES = {
    "A plain torch loop": ("plain", "torch"),
    "PyTorch Lightning": ("pl_net", "lightning"),
    "Hugging Face Trainer": ("hf", "transformers"),
    "Keras 3 on torch": ("keras_net", "keras"),
    "LightGBM": ("trees", "lightgbm"),
}
# What a recipe calls after each epoch; here it also interrupts the first attempt in the third epoch, or asks to stop.
BEHIND = """

def _interrupted(log=mlops.log, seen=set()):
    def logged(step=None, /, **values):
        log(step, **values)
        seen.add(step)
        then = Path("then").read_text()
        if then == "die" and len(seen) == 3:
            os.kill(os.getpid(), 9)
        if then == "stop" and len(seen) == 2:
            place = Path(os.environ["MLOPS_STATE"]) / "stops"
            place.mkdir(exist_ok=True)
            (place / os.environ["MLOPS_RUN"]).write_text("keep")
    return logged


mlops.log = _interrupted()
"""


def blocks(heading: str) -> str:
    """The Python of a section."""
    section = PAGE.split(f"# {heading}\n", 1)[1].split("\n## ", 1)[0]
    return "\n".join(re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL))


def weights(shop: Shop, name: str) -> str:
    """What the newest result of a candidate answers and holds, as text."""
    code = (
        "import json, sys, mlops_local as m\nmodel = m.load(sys.argv[1])\n"
        "held = model.get_weights() if hasattr(model, 'get_weights') else model.state_dict().values()\n"
        "print(json.dumps([value.tolist() for value in held]))"
    )
    variables = {**os.environ, "KERAS_BACKEND": "torch"}
    done = subprocess.run([sys.executable, "-c", code, name], cwd=shop.root, capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


def points(shop: Shop) -> list[tuple[str, float, float]]:
    newest = "(select id from run order by started desc limit 1)"
    sql = f"select key, step, value from metric where run = {newest} and step is not null"
    return sorted((item["key"], item["step"], item["value"]) for item in shop.json("sql", sql)["items"])


@pytest.mark.slow
@pytest.mark.parametrize("heading", RECIPES)
def test_a_recipe_is_interrupted_and_stopped(heading: str, tmp_path: Path) -> None:
    """Killed in its third epoch it goes on to the weights and points of a straight training; asked to stop, it is kept."""
    name, library = RECIPES[heading]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    shop = make_shop(tmp_path / "shop")
    (shop.root / "mlops.toml").write_text(
        (shop.root / "mlops.toml").read_text().replace("[project]\n", f'[project]\ntargets = ["{name}"]\n')
    )
    pipeline = (shop.root / "pipeline.py").read_text().replace('"""Will a visit end in a purchase?"""', "import os")
    code = blocks("Recipes") + BEHIND + blocks(heading)
    (shop.root / "pipeline.py").write_text(pipeline + "\n\n" + code.replace("@delay.", "@purchase."))
    then = shop.root / "then"

    def train(what: str, *arguments: str, epochs: int = 6, code: int = 0) -> subprocess.CompletedProcess[str]:
        then.write_text(what)
        return shop.mlops("train", "-S", f"{name}.epochs={epochs}", *arguments, code=code, KERAS_BACKEND="torch")

    if library in ("lightning", "transformers", "keras"):  # the plain loop's: test_interrupted; LightGBM's starts afresh
        assert "SIGKILL" in train("die", code=1).stderr
        resumed = train("go", "--resume")
        assert "goes on from its checkpoint of epoch 1" in resumed.stderr
        held, curve = weights(shop, name), points(shop)
        straight = train("go", "--force")
        assert weights(shop, name) == held and points(shop) == curve
        assert json.loads(held) and f"{name} is nondeterministic" not in straight.stderr
    stopped = train("stop", epochs=9)
    assert f"{name}, stopped" in stopped.stdout, stopped.stderr
    assert name in shop.stale("-S", f"{name}.epochs=9")
