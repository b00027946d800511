"""A reader of the documents, who types the commands they show."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import CORE

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXIT = re.compile(r"\s+# exit (\d+)\b.*$")


def commands(document: Path) -> list[str]:
    """The lines that start with `$ ` in a document's ```console blocks, in order."""
    blocks = BLOCK.findall(document.read_text(encoding="utf-8"))
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def run_in_order(lines: list[str], folder: Path) -> list[str]:
    """Run a document's commands as one person would, one after the other; `cd` stays; `# exit N` expects that code.

    Returns what each but `cd` printed.

    Raises:
        AssertionError: one ended otherwise, or with a traceback.
    """
    home = folder / ".home"
    home.mkdir(exist_ok=True)
    (home / ".gitconfig").write_text("[user]\n\tname = Reader\n\temail = reader@example.org\n[init]\n\tdefaultBranch = main\n")
    programs = folder / ".bin"
    programs.mkdir(exist_ok=True)
    mlops = programs / "mlops"
    mlops.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m mlops_local "$@"\n')
    mlops.chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLOPS", "GIT_"))}
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**kept, "HOME": str(home), "PATH": path, "PYTHONPATH": os.pathsep.join([str(CORE), str(ROOT)])}
    place, printed = folder, []
    for line in lines:
        expected = int(found[1]) if (found := EXIT.search(line)) else 0
        command = EXIT.sub("", line)
        if command.startswith("cd "):
            place = place / shlex.split(command)[1]
            continue
        ended = subprocess.run(
            ["bash", "-c", command],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
            stdin=subprocess.DEVNULL,
        )
        assert ended.returncode == expected, (
            f"$ {line}\nexit {ended.returncode}\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}"
        )
        assert "Traceback" not in ended.stderr, f"$ {line}\n{ended.stderr[-2000:]}"
        printed.append(ended.stdout + ended.stderr)
    return printed


def follow_the_readme(folder: Path) -> None:
    """Do what the README says; `said` in the folder holds what was printed."""
    folder.mkdir()
    (folder / "said").write_text("".join(run_in_order(commands(ROOT / "README.md"), folder)))
