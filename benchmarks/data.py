"""Versioning data: a CSV of 1 GB and 50,000 files of 4 kB, beside `dvc` (`make bench-peers`) and `cp`, in turns.

Each command is a process of its own; wall and processor seconds are medians of ROUNDS (3). `bytes` is a source of plain files,
`table` the same file with its columns profiled. Needs 8 GB of disk. SIZE (bytes) and FILES make it smaller.

A virtual machine that hands free memory back to its host pays for each page anew: the same `cp` of 1 GB takes 0.6 to 5 s.
With SIZE=250000000 the pages of one turn serve the next, and the ratios are steadier.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl

SIZE, FILES, ROUNDS = (
    int(os.environ.get("SIZE", "1000000000")),
    int(os.environ.get("FILES", "50000")),
    int(os.environ.get("ROUNDS", "3")),
)
DVC = Path(__file__).parent / ".peers" / "bin" / "dvc"
PIPELINE = 'import mlops_local as mlops\n\ndata = mlops.data("{pattern}", kind="{kind}", store="full")\n'
measured: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
sizes: dict[tuple[str, str], int] = {}


def rows(count: int, seed: int, first: int, *, header: bool = False) -> bytes:
    """Rows of 40 columns as text: keys, times, noise, amounts, counts, words."""
    chance = np.random.default_rng(seed)
    columns = {"id": np.arange(first, first + count), "ts": 1_700_000_000 + np.arange(first, first + count) * 7}
    columns |= {f"x{i}": np.round(chance.normal(i, 1 + i, count), 4) for i in range(20)}
    columns |= {f"amount{i}": np.round(chance.lognormal(3, 1, count), 2) for i in range(6)}
    columns |= {f"n{i}": chance.poisson(3 * (i + 1), count) for i in range(6)}
    for i, words in enumerate((3, 6, 3, 12, 5000, 2)):
        columns[f"c{i}"] = np.array([f"word-{word}" for word in range(words)])[chance.integers(0, words, count)]
    return pl.DataFrame(columns).write_csv(include_header=header).encode()


def run(peer: str, case: str, folder: Path, *command: str | Path) -> None:
    """Run a command and note what it took."""
    os.sync()
    began = time.perf_counter()
    process = subprocess.Popen([str(word) for word in command], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read() if process.stderr else b""
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    if status:
        sys.exit(f"{peer} {case}: {said.decode()[-500:]}")
    measured[peer, case].append((wall, used.ru_utime + used.ru_stime))


def snapshot(peer: str, case: str, folder: Path, name: str) -> None:
    if peer == "dvc":
        run(peer, case, folder, DVC, "add", "-q", name)
    else:
        run(peer, case, folder, sys.executable, "-m", "mlops_local", "-q", "data", "snapshot")
    store = folder / (".dvc/cache" if peer == "dvc" else ".mlops/objects")
    sizes[peer, case] = sum(path.stat().st_blocks * 512 for path in store.rglob("*") if path.is_file())


def status(peer: str, case: str, folder: Path) -> None:
    if peer == "dvc":
        run(peer, case, folder, DVC, "status", "-q")
    else:
        run(peer, case, folder, sys.executable, "-m", "mlops_local", "-q", "data", "snapshot")


def project(home: Path, peer: str, pattern: str) -> Path:
    folder = home / peer
    folder.mkdir()
    if peer == "dvc":
        subprocess.run([DVC, "init", "-q", "--no-scm"], cwd=folder, check=True)
        subprocess.run([DVC, "config", "core.analytics", "false"], cwd=folder, check=True)
    else:
        subprocess.run([sys.executable, "-m", "mlops_local", "-q", "init"], cwd=folder, check=True, capture_output=True)
        kind = "table" if peer == "table" else "files"
        (folder / "pipeline.py").write_text(PIPELINE.format(pattern=pattern, kind=kind))
    return folder


def one_file(home: Path, peer: str, base: Path, more: bytes) -> None:
    """First, unchanged, 1 % of rows appended, then 1 % put into the middle; then back to a file."""
    folder = project(home, peer, "data.csv")
    target = folder / "data.csv"
    shutil.copy(base, target)
    time.sleep(2.1)  # a younger file is hashed again
    snapshot(peer, "1 GB first", folder, "data.csv")
    status(peer, "1 GB unchanged", folder)
    with target.open("ab") as file:
        file.write(more)
    time.sleep(2.1)
    snapshot(peer, "1 GB, 1 % appended", folder, "data.csv")
    if peer != "dvc":
        with base.open("rb") as file, target.open("wb") as made:
            middle = SIZE // 2
            made.write(file.read(middle) + file.readline() + more)
            shutil.copyfileobj(file, made, 1 << 22)
        time.sleep(2.1)
        snapshot(peer, "1 GB, 1 % in the middle", folder, "data.csv")
        run(peer, "1 GB restore", folder, sys.executable, "-m", "mlops_local", "-q", "data", "restore", "data", "--to", "out")
        run("cp", "1 GB restore", folder, "cp", "data.csv", "copy.csv")
    shutil.rmtree(folder)


def many_files(home: Path, peer: str, source: Path) -> None:
    """First, unchanged, one changed."""
    folder = project(home, peer, "many/*/*")
    shutil.copytree(source, folder / "many")
    time.sleep(2.1)
    case = f"{FILES:,} files"
    snapshot(peer, f"{case} first", folder, "many")
    status(peer, f"{case} unchanged", folder)
    (folder / "many" / "00" / "00000.bin").write_bytes(os.urandom(4096))
    time.sleep(2.1)
    snapshot(peer, f"{case}, one changed", folder, "many")
    shutil.rmtree(folder)


def main() -> None:
    peers = ["bytes", "table", *(["dvc"] if DVC.exists() else [])]
    with tempfile.TemporaryDirectory(prefix="bench-data-") as temporary:
        home = Path(temporary)
        os.environ["HOME"] = temporary
        base = home / "base.csv"
        count = SIZE // (len(rows(10_000, 1, 3_000_000)) // 10_000)
        with base.open("wb") as file:
            for part in range(10):
                file.write(rows(count // 10, 100 + part, part * (count // 10), header=part == 0))
        more = rows(count // 100, 999, count)
        chance = random.Random(5)
        for number in range(FILES):
            path = home / "source" / f"{number * 50 // FILES:02d}" / f"{number:05d}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(chance.randbytes(4096))
        for turn in range(ROUNDS):
            for peer in peers[turn % len(peers) :] + peers[: turn % len(peers)]:
                one_file(home, peer, base, more)
                if peer != "table":
                    many_files(home, peer, home / "source")
        report(base.stat().st_size)


def report(size: int) -> None:
    print(f"CSV of {size / 1e9:.2f} GB; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; medians (min-max) of {ROUNDS}")
    print(
        f"{'case':<28}{'who':<7}{'wall s':>8}{'min':>8}{'max':>8}{'cpu s':>8}{'wall/peer':>11}{'cpu/peer':>10}{'store MB':>10}"
    )
    for (peer, case), found in sorted(measured.items(), key=lambda item: (item[0][1], item[0][0])):
        wall, cpu = (statistics.median(values) for values in zip(*found, strict=True))
        beside = measured.get(("cp" if "restore" in case else "dvc", case))
        ratios = (
            [
                f"{mine / statistics.median(theirs):.2f}"
                for mine, theirs in zip((wall, cpu), zip(*beside, strict=True), strict=True)
            ]
            if beside
            else ["", ""]
        )
        stored = f"{sizes[peer, case] / 1e6:.0f}" if (peer, case) in sizes else ""
        walls = [value for value, _ in found]
        print(
            f"{case:<28}{peer:<7}{wall:>8.2f}{min(walls):>8.2f}{max(walls):>8.2f}{cpu:>8.2f}{ratios[0]:>11}{ratios[1]:>10}{stored:>10}"
        )


if __name__ == "__main__":
    main()
