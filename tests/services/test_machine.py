"""What this machine has for steps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlops_local.domain.errors import UsageError
from mlops_local.domain.graph import Needs, Step
from mlops_local.engines.pipeline.schedule import Machine
from mlops_local.services import machine


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Control groups of a machine of eight cores; this process's is `/batch/job`."""
    own = tmp_path / "own"
    own.write_text("4:memory:/batch/job\n3:cpu,cpuacct:/batch/job\n0::/batch/job\n")
    monkeypatch.setattr(machine, "_CGROUP", tmp_path / "groups")
    monkeypatch.setattr(machine, "_OWN_CGROUP", own)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    return tmp_path / "groups"


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_machine_of_its_own_is_not_limited(groups: Path) -> None:
    """Where a process may use every core, a step that has them all has no limit."""
    put(groups / "batch/job/cpu.max", "max 100000\n")
    assert (machine.cores(), machine.limit()) == (8, 0)


def test_affinity_is_the_limit(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bound to three of eight cores, a step that has all it can have uses three threads."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 4, 5})
    assert (machine.cores(), machine.limit()) == (3, 3)


@pytest.mark.parametrize(
    "files",
    [
        {"batch/job/cpu.max": "250000 100000\n"},
        {"batch/cpu.max": "250000 100000\n", "batch/job/cpu.max": "max 100000\n"},
        {"cpu.max": "250000 100000\n"},
        {"cpu/batch/job/cpu.cfs_quota_us": "250000\n", "cpu/batch/job/cpu.cfs_period_us": "100000\n"},
    ],
    ids=["its own group's", "of the group around it", "as seen in a container", "of the first version"],
)
def test_a_quota_is_the_limit(groups: Path, files: dict[str, str]) -> None:
    """Two and a half cores of quota are three threads, wherever the control group says so."""
    for name, text in files.items():
        put(groups / name, text)
    assert (machine.cores(), machine.limit()) == (3, 3)


def test_memory_is_what_the_control_group_leaves(groups: Path) -> None:
    """The lowest limit on the way up counts."""
    put(groups / "batch/job/memory.max", "max\n")
    put(groups / "batch/memory.max", "1000000\n")
    assert machine.memory() == 1_000_000


def test_a_step_that_needs_gpus_is_refused_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few are an error that names the step and the way out; whoever says which there are has decided."""
    monkeypatch.delenv(machine.GPUS_VARIABLE, raising=False)
    steps = [Step("split", "step", ()), Step("mlp", "step", (), needs=Needs(gpus=2))]
    with pytest.raises(UsageError, match="step mlp declares 2 GPUs, and this machine has none that can be used") as caught:
        machine.check(steps, Machine(cpus=8))
    assert "MLOPS_GPUS=" in caught.value.hint
    with pytest.raises(UsageError, match="and this machine has 1"):
        machine.check(steps, Machine(cpus=8, gpus=("0",)))
    machine.check(steps, Machine(cpus=8, gpus=("0", "1")))
    monkeypatch.setenv(machine.GPUS_VARIABLE, "")
    machine.check(steps, Machine(cpus=8))
