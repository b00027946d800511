"""Other Pythons of this machine, for what has to work in the project's and not only in ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


def others() -> list[str]:
    """Pythons of other minor versions that start, the oldest first: on PATH, or beside pyenv's shims."""
    found = []
    for minor in (10, 12, 13, 14):
        name = f"python3.{minor}"
        if minor == sys.version_info.minor or (first := shutil.which(name)) is None:
            continue
        kept = Path(first).parent.parent / "versions"
        places = [first, *map(str, sorted(kept.glob(f"3.{minor}.*/bin/{name}")))]
        found += [place for place in places if _starts(place, minor)][:1]
    return found


def _starts(python: str, minor: int) -> bool:
    done = subprocess.run([python, "-c", "import sys; print(sys.version_info[1])"], capture_output=True, text=True, check=False)
    return done.stdout.strip() == str(minor)
