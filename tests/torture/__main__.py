"""`make torture`: a project under fire. Ends with what was counted, and 1 when a promise was not kept.

Trainers, folders, readers, promoters, commands and foreign clients work on one project; every 100-300 ms one of them is
killed and another begins in its place. Beside that: the disk fills, readers are stopped in mid-read, clocks jump, torn lines
and NULs are left where the killed wrote. Then `oracle` counts.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from mlops_local.store.layout import Layout
from tests.torture import actors, oracle
from tests.torture.actors import Notes

ROOT = Path(__file__).parents[2]
_INSIDE = "MLOPS_TORTURE_INSIDE"
DISK_MIB = 256
ROLES: dict[str, int] = {"trainer": 8, "folder": 3, "reader": 2, "promoter": 2, "command": 1, "foreigner": 1}
"""How many processes of each kind work at any moment."""
CONTENDERS = 6
"""How many want the database at once in the contest that follows."""


def own_mounts(arguments: list[str]) -> bool:
    """Go on in a mount namespace of this program's own, where a small disk can be mounted; False where that is not allowed."""
    if _INSIDE in os.environ:
        return os.environ[_INSIDE] == "yes"
    probe = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=1m none /mnt"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True).returncode:
        return False
    os.environ[_INSIDE] = "yes"
    os.execvp("unshare", ["unshare", "-rm", sys.executable, "-m", "tests.torture", *arguments])


class Torture:
    """One project and the processes on it."""

    def __init__(self, place: Path, seed: int, *, mounted: bool) -> None:
        self.chance = random.Random(seed)
        self.mounted = mounted
        self.notes = place / "notes"
        self.notes.mkdir()
        disk = place / "disk"
        disk.mkdir()
        if mounted:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "none", disk], check=True)
        self.filler = disk / "filler"
        self.layout = _project(disk / "project")
        self.second: Layout | None = None
        """The same project where nothing can be written, as another machine's mount shows it."""
        if mounted:
            view = place / "read-only"
            view.mkdir()
            subprocess.run(["mount", "--bind", self.layout.root, view], check=True)
            subprocess.run(["mount", "-o", "remount,ro,bind", view], check=True)
            self.second = Layout(view)
        self.alive: dict[int, str] = {}
        self.stopped: dict[int, float] = {}
        self.kills = 0
        self.faults = {"full disk": 0, "stopped reader": 0, "torn tail": 0}

    def begin(self, role: str) -> None:
        """Start a process of this kind."""
        chance = random.Random(self.chance.getrandbits(64))
        work: dict[str, Callable[[Notes], None]] = {
            "trainer": partial(_trainer, self.layout, chance, not self.mounted),
            "folder": lambda notes: actors.folder(self.layout, notes, chance),
            "reader": lambda notes: actors.reader(self.layout, notes, chance),
            "looker": lambda notes: actors.reader(self.second or self.layout, notes, chance),
            "promoter": lambda notes: actors.promoter(self.layout, notes, chance),
            "command": lambda notes: actors.command(self.layout, notes, chance),
            "foreigner": lambda notes: actors.foreigner(self.layout, notes, chance),
        }
        self.alive[actors.forked(role, work[role], self.notes)] = role

    def run(self, seconds: float, kills: int) -> None:
        """Kill and replace until the time is over, or so many were killed."""
        for role, number in {**ROLES, "looker": 1 if self.second else 0}.items():
            for _ in range(number):
                self.begin(role)
        end = time.monotonic() + seconds
        next_kill, next_full = time.monotonic() + 1, time.monotonic() + self.chance.uniform(2, 5)
        full_until = 0.0
        while time.monotonic() < end and (not kills or self.kills < kills):
            time.sleep(0.01)
            now = time.monotonic()
            self._reap(now)
            if now > next_kill:
                next_kill = now + self.chance.uniform(0.1, 0.3)
                self._kill()
            if self.mounted and now > next_full:
                full_until, next_full = now + self.chance.uniform(0.1, 0.8), now + self.chance.uniform(3, 10)
                self._fill()
            elif full_until and now > full_until:
                full_until = 0.0
                self.filler.unlink(missing_ok=True)
        self.filler.unlink(missing_ok=True)
        for pid in self.alive:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.alive.clear()
        time.sleep(0.5)  # commands and forked children of the killed end with them, a moment later

    def contest(self, seconds: float) -> None:
        """Let several processes want the database at once, nothing else going on: their notes say who got how many turns."""
        pids = [
            actors.forked("contender", partial(_contender, self.layout, number), self.notes) for number in range(CONTENDERS)
        ]
        time.sleep(seconds)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _reap(self, now: float) -> None:
        """Let stopped readers go on after a while; a process that ended by itself is replaced (its error is in its notes)."""
        for pid, role in list(self.alive.items()):
            ended, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
            if ended and os.WIFSTOPPED(status):
                self.faults["stopped reader"] += 1
                self.stopped[pid] = now + self.chance.uniform(0.3, 1.5)
            elif ended:
                del self.alive[pid]
                self.begin(role)
            if pid in self.stopped and now > self.stopped[pid]:
                del self.stopped[pid]
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def _kill(self) -> None:
        pid, role = self.chance.choice(list(self.alive.items()))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        del self.alive[pid]
        self.stopped.pop(pid, None)
        self.kills += 1
        if self.chance.random() < 0.3 and role in {"trainer", "promoter"}:
            self._tear(role)
        self.begin(role)

    def _tear(self, role: str) -> None:
        """Leave what a process can leave that is killed, or loses its power, while it appends."""
        torn = self.chance.choice([b'{"k":"m","v":1,"t":17', b"\x00" * 100, b"{", b'{"seq":', b"\x00\x00\n", b'"x":1.0}\n'])
        with suppress(OSError):
            if role == "promoter":  # the dead one had the lock: nobody appends at this moment
                with self.layout.ledger_lock.open("a") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    with self.layout.ledger.open("ab") as file:
                        file.write(torn.rstrip(b"\n") if b"\x00" not in torn else torn)
            else:
                for path in sorted(self.layout.journal.glob("*.jsonl"))[:50]:
                    if path != self.layout.ledger and _free(path):
                        with path.open("ab") as file:
                            file.write(torn)
                        break
                else:
                    return
            self.faults["torn tail"] += 1

    def _fill(self) -> None:
        self.faults["full disk"] += 1
        with suppress(OSError), self.filler.open("wb") as file:
            while True:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), 1 << 20)
        with suppress(OSError), self.filler.open("ab") as file:
            while True:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), 1 << 12)


def _trainer(layout: Layout, chance: random.Random, short_of_space: bool, notes: Notes) -> None:
    actors.trainer(layout, notes, chance, short_of_space=short_of_space)


def _contender(layout: Layout, number: int, notes: Notes) -> None:
    actors.contender(layout, notes, number)


def _free(path: Path) -> bool:
    """Whether the writer of this journal is gone."""
    state = path.with_name(f"{path.name[:32]}.state.jsonl")
    try:
        with state.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _project(root: Path) -> Layout:
    """A git repository with a staged change, for the hook."""
    root.mkdir()
    (root / "mlops.toml").write_text("[project]\nname = 'torture'\n")
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    subprocess.run(["git", "add", "mlops.toml"], cwd=root, check=True)
    layout = Layout(root)
    # The file is there before anybody who may only look, or knows nothing of us. This process itself never opens DuckDB.
    if text := _mlops(layout, "db", "rebuild"):
        raise SystemExit(text)
    return layout


def _mlops(layout: Layout, *words: str) -> str:
    """Run a command of the program as its user would; what it says when it fails, else nothing."""
    ended = subprocess.run(
        [sys.executable, "-m", "mlops_local", *words], cwd=layout.root, capture_output=True, text=True, timeout=3000
    )
    # Of a small disk and of clocks that jump doctor says what they are, and ends with 1; with 6 where something was altered.
    if ended.returncode == 0 or (words[0] == "doctor" and ended.returncode == 1):
        return ""
    return f"mlops {' '.join(words)} ended with {ended.returncode}: {ended.stdout}{ended.stderr}"


def main(arguments: list[str]) -> int:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--kills", type=int, default=0, help="stop after so many")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", action="store_true", help="leave the folder for a look (only without mounts)")
    options = parser.parse_args(arguments)
    os.environ["PYTHONPATH"] = str(ROOT)
    mounted = not options.keep and own_mounts(arguments)
    place = Path(tempfile.mkdtemp(prefix="torture."))
    try:
        torture = Torture(place, options.seed, mounted=mounted)
        torture.run(options.seconds, options.kills)
        torture.contest(min(3.0, options.seconds / 3))
        problems, counted = _count(torture)
    finally:
        if mounted:
            for mount in ("read-only", "disk"):
                subprocess.run(["umount", "-l", place / mount], capture_output=True)
        if options.keep:
            print(place)
        else:
            shutil.rmtree(place, ignore_errors=True)
    print(f"seed {options.seed}: {torture.kills} kills, {torture.faults}, disk: {'tmpfs' if mounted else 'RLIMIT_FSIZE'}")
    for name, value in counted.items():
        print(f"{name:24} {value:>12,.0f}" if float(value).is_integer() else f"{name:24} {value:>12,.3f}")
    for problem in problems[:20]:
        print("NOT KEPT:", problem)
    print(f"{len(problems)} promises not kept" if problems else "every promise kept")
    return 1 if problems else 0


def _count(torture: Torture) -> tuple[list[str], dict[str, float]]:
    """Fold what is left, judge, rebuild, judge again: the same."""
    noted = list(oracle.notes(torture.notes))
    # Lines that a power cut left unreadable are said until they are taken out; nothing else may be wrong.
    words = (["runs"], ["doctor", "--fix"], ["doctor"])
    problems = [text for command in words if (text := _mlops(torture.layout, *command))]
    verdict = oracle.judge(torture.layout.state, noted)
    before = oracle.contents(torture.layout.state)
    if text := _mlops(torture.layout, "db", "rebuild"):
        problems.append(text)
    after = oracle.contents(torture.layout.state)
    problems += [
        f"after a rebuild view {view} differs: {before[view]}, {after[view]}" for view in before if before[view] != after[view]
    ]
    return problems + verdict.problems, verdict.counted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
