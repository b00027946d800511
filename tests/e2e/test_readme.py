"""The README's commands that do not end by themselves, or need a machine: each is run as it stands there."""

import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path

import pytest

from tests.e2e.conftest import Shop

ROOT = Path(__file__).resolve().parents[2]
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def shell_lines() -> list[str]:
    """Every command of the README's ```sh blocks, comments cut off."""
    blocks = SHELL.findall((ROOT / "README.md").read_text())
    return [command for block in blocks for line in block.splitlines() if (command := line.partition("#")[0].strip())]


def is_a_target(shop: Shop, line: str) -> None:
    """`make NAME` is a target make can plan from a bare checkout."""
    done = subprocess.run([*line.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def installs(shop: Shop, line: str) -> None:
    """pip can build the package from the checkout."""
    command = [sys.executable, "-m", *line.split(), "--dry-run", "--no-deps", "--no-build-isolation", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def ends(shop: Shop, line: str) -> None:
    """The command ends well."""
    (shop.root / "train.py").write_text("import mlops_local as mlops\nmlops.log(1, loss=0.5)\n")
    shop.mlops(*line.replace("python", sys.executable).split()[1:])
    assert shop.json("runs")["items"][0]["metrics"] == {"loss": 0.5}


def meets(shop: Shop, line: str) -> None:
    """The command works with another folder in the place of the team's: its champion is what a project without a store gets."""
    _, verb, folder = line.split()
    shelf = shop.root.parent / folder.replace("/", "-")
    shop.mlops("push", str(shelf))
    champion = shop.json("model", "show", "@champion")["version"]
    assert any(path.is_file() for path in shelf.rglob("*"))
    if verb == "pull":
        clone = Shop(shop.root.parent / f"clone{shelf.name}")
        shutil.copytree(shop.root, clone.root, ignore=shutil.ignore_patterns(".mlops"))
        clone.mlops(verb, str(shelf))
        assert clone.json("model", "show", "@champion")["version"] == champion


def says(text: str, last: bytes | signal.Signals, code: int = 0) -> Callable[[Shop, str], None]:
    """The command, in a terminal, comes to say `text`; then a key or a signal ends it with that exit code."""

    def run(shop: Shop, line: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = shop.root / "mlops.toml"
        config.write_text(config.read_text() + f"\n[serve]\nport = {port}\n")
        said, status = in_terminal(shop, line.split()[1:], text, last)
        assert text in said, said
        assert status == code, said

    return run


def in_terminal(shop: Shop, arguments: list[str], text: str, last: bytes | signal.Signals) -> tuple[str, int]:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(shop.root)
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [sys.executable, "-m", "mlops_local", *arguments])
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    said = read_until(terminal, text, 60)
    os.write(terminal, last) if isinstance(last, bytes) else os.kill(pid, last)
    said += read_until(terminal, None, 30)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return said, os.waitstatus_to_exitcode(status)


def read_until(terminal: int, text: str | None, limit_s: float) -> str:
    """What the terminal shows until `text`, or to its end."""
    said = ""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline and (text is None or text not in said):
        if not select.select([terminal], [], [], 0.1)[0]:
            continue
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
        if not data:
            break
        said += data.decode("utf-8", "replace")
    return said


HOW: dict[str, Callable[[Shop, str], None]] = {
    "make demo": is_a_target,
    "make test": is_a_target,
    "pip install .": installs,
    "mlops serve": says("/predict", signal.SIGTERM),
    "mlops watch --serve": says("/predict", signal.SIGINT, 130),
    "mlops ui": says("purchase@1", b"q"),
    "mlops push /mnt/team/flights": meets,
    "mlops pull /mnt/team/flights": meets,
    "mlops run python train.py --lr 0.1": ends,
    "mlops run -S lr=.1,.03,.01 python train.py": ends,
}


def test_every_command_is_known() -> None:
    """A command added to the README needs a way to be tested here; one that is gone needs none."""
    assert sorted(shell_lines()) == sorted(HOW)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("line", sorted(HOW))
def test_the_command_does_what_it_says(line: str, trained: Shop) -> None:
    """Each command, as it stands in the README, works in a trained project, and leaves the champion as it was."""
    before = trained.json("model", "show", "@champion")["version"]
    HOW[line](trained, line)
    assert trained.json("model", "show", "@champion")["version"] == before
