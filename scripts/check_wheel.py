"""Build the wheel, install it in a clean environment and run `mlops init --template flights` from it.

The package lies flat in the repository, so the tests import the checkout; this proves that the wheel holds everything too.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Exit non-zero with the failing command's output when the wheel lacks anything."""
    with tempfile.TemporaryDirectory(prefix="mlops-wheel-") as folder:
        place = Path(folder)
        run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(ROOT))
        wheel = next(place.glob("*.whl"))
        venv.create(place / "env", with_pip=False)
        pip = [sys.executable, "-m", "pip", "--python", str(place / "env" / "bin" / "python")]
        run(*pip, "install", "--quiet", "--no-compile", "-c", str(ROOT / "constraints.txt"), str(wheel))
        mlops = str(place / "env" / "bin" / "mlops")
        run(mlops, "--version", cwd=place)
        run(mlops, "init", "sample", "--template", "flights", cwd=place)
        run(mlops, "plan", "--json", cwd=place / "sample")
        made = sorted(path.name for path in (place / "sample" / "data").iterdir())
        if len(made) < 18:
            raise SystemExit(f"the wheel's sample lacks data files: {made}")
        print(f"{wheel.name}: installed alone, made the sample ({len(made)} data files) and planned it")


def run(*command: str, cwd: Path = ROOT) -> None:
    """Run a command; on failure show what it said and stop."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")


if __name__ == "__main__":
    main()
