"""Decide which step may begin now, and with what: cores, memory, GPUs. Pure: who runs it says what ended.

A step without declared cores gets an equal share of the machine among as many steps as can run beside it, so a chain of steps
has all cores and two candidates half of them each. A step that runs once for each file divides its share among several files.
Of the steps that could begin, the one with the longest way behind it is first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlops_local.domain.graph import Needs, Step
from mlops_local.domain.names import counted
from mlops_local.domain.records import dataclass

UNKNOWN_S = 1.0
"""What a step that never ran is taken to last."""


@dataclass(frozen=True)
class Machine:
    """What there is to share."""

    cpus: int
    memory: int = 0
    """Bytes; 0: not known, and not looked at."""
    gpus: tuple[str, ...] = ()
    """As CUDA_VISIBLE_DEVICES names them."""


@dataclass(frozen=True)
class Place:
    """What one step runs with."""

    step: str
    threads: int
    """How many its libraries may use, for each file at once; 0 when it has every core."""
    gpus: tuple[str, ...] | None
    """None when it declares none: it sees what the environment lets it."""
    load: int
    """Cores taken, in units of one core divided by the number of jobs."""
    memory: int
    files: int = 1
    """How many executions it may be at once: more than one only for a step that runs once for each file."""


class Schedule:
    """The steps of one run, as they wait, run and end."""

    def __init__(
        self,
        steps: Sequence[Step],
        machine: Machine,
        *,
        jobs: int,
        stale: Sequence[str],
        memory: Mapping[str, int] | None = None,
        seconds: Mapping[str, float] | None = None,
    ) -> None:
        """Lay out the steps.

        Args:
            steps: in an order in which they can run; what they need besides each other is there.
            machine: what there is to share.
            jobs: how many may run at once.
            stale: those that are likely to run; they share the cores.
            memory: step -> bytes it took last time, for steps that do not declare any.
            seconds: step -> how long it took last time.
        """
        self._steps = {step.name: step for step in steps}
        self._machine, self._jobs = machine, max(1, jobs)
        self._before = {s.name: {item.node for item in s.inputs if item.node in self._steps} for s in steps}
        self._ahead = _ahead(self._before, seconds or {})
        self._memory = memory or {}
        self._rivals = _rivals(self._before, set(stale))
        self._untouched = dict.fromkeys(self._steps)
        self._queued: dict[str, int] = {}
        self._running: dict[str, Place] = {}
        self._done: set[str] = set()
        self._failed: set[str] = set()

    def ready(self) -> list[str]:
        """Take every step whose inputs are all made by now; each comes once, and then goes to `settle` or `queue`."""
        found = [name for name in self._untouched if self._before[name] <= self._done]
        for name in found:
            del self._untouched[name]
        return found

    def settle(self, step: str) -> None:
        """A step's result is there, without running it."""
        self._done.add(step)

    def queue(self, step: str, *, files: int = 1) -> None:
        """A step has to run, so often if once for each file; `start` says when."""
        self._queued[step] = max(1, files)

    def start(self) -> list[Place]:
        """Take the queued steps that may begin now, the one with the longest way behind it first."""
        begun: list[Place] = []
        if self._free <= 0:
            return begun
        for name in sorted(self._queued, key=lambda name: -self._ahead[name]):
            if self._free <= 0:
                break
            place = self.place(name)
            if not self._running or self._fits(place):
                del self._queued[name]
                self._running[name] = place
                begun.append(place)
        return begun

    def end(self, step: str, *, ok: bool) -> None:
        """A step that ran has ended; what depends on a failed one is never ready."""
        del self._running[step]
        (self._done if ok else self._failed).add(step)

    @property
    def running(self) -> tuple[str, ...]:
        """The steps that run now."""
        return tuple(self._running)

    @property
    def left(self) -> tuple[str, ...]:
        """The steps that have not begun, in order."""
        return tuple(name for name in self._steps if name in self._untouched or name in self._queued)

    @property
    def _free(self) -> int:
        """How many executions more may run at once."""
        return self._jobs - sum(place.files for place in self._running.values())

    def place(self, name: str) -> Place:
        """What a step would run with if it began now."""
        step = self._steps[name]
        needs, cpus = step.needs, self._machine.cpus
        beside = min(self._jobs, 1 + self._rivals.get(step.name, len(self._steps)))
        share = max(1, cpus // beside)
        memory = needs.memory or self._memory.get(step.name, 0)
        files = self._files(step, self._jobs // beside, share, memory)
        threads = needs.cpus or max(1, share // files)
        load = min(needs.cpus, cpus) * self._jobs if needs.cpus else cpus if self._jobs > cpus else threads * self._jobs
        taken = {gpu for place in self._running.values() for gpu in place.gpus or ()}
        free = [gpu for gpu in self._machine.gpus if gpu not in taken]
        return Place(
            step.name,
            threads=0 if threads == cpus else threads,
            gpus=tuple(free[: needs.gpus]) if needs.gpus and self._machine.gpus else None,
            load=load * files,
            memory=memory * files,
            files=files,
        )

    def _files(self, step: Step, jobs: int, share: int, memory: int) -> int:
        """How many of a step's files at once: as many as its share of jobs, cores and memory has room for."""
        room = [self._queued.get(step.name, 1), jobs, self._free, share // step.needs.cpus if step.needs.cpus else jobs]
        room += [self._machine.memory // memory] if self._machine.memory and memory else []
        return 1 if step.needs.gpus else max(1, min(room))

    def _fits(self, place: Place) -> bool:
        running = self._running.values()
        load = place.load + sum(other.load for other in running)
        memory = place.memory + sum(other.memory for other in running)
        gpus = min(self._steps[place.step].needs.gpus, len(self._machine.gpus))
        return (
            load <= self._machine.cpus * self._jobs
            and (not self._machine.memory or memory <= self._machine.memory)
            and len(place.gpus or ()) == gpus
        )


def beyond(needs: Needs, machine: Machine) -> list[str]:
    """What a step declares that the machine does not have, in words; it runs alone or without."""
    found = []
    if needs.cpus > machine.cpus:
        found.append(f"{counted(needs.cpus, 'cpu')}, and there are {machine.cpus}: it runs with {needs.cpus} threads on those")
    if machine.memory and needs.memory > machine.memory:
        found.append(f"{needs.memory / 1e9:.1f} GB of memory, and there are {machine.memory / 1e9:.1f}: nothing runs beside it")
    if needs.gpus > len(machine.gpus):
        there = f"there are {len(machine.gpus)}" if machine.gpus else "there is none"
        found.append(f"{counted(needs.gpus, 'gpu')}, and {there}: it runs with what there is")
    return found


def _ahead(before: Mapping[str, set[str]], seconds: Mapping[str, float]) -> dict[str, float]:
    """Step -> seconds from its beginning to the end of the longest chain of steps behind it."""
    ahead = {name: seconds.get(name, UNKNOWN_S) for name in before}
    for name in reversed(list(before)):
        for earlier in before[name]:
            ahead[earlier] = max(ahead[earlier], seconds.get(earlier, UNKNOWN_S) + ahead[name])
    return ahead


def _rivals(before: Mapping[str, set[str]], stale: set[str]) -> dict[str, int]:
    """Stale step -> how many other stale ones may run beside it: the most of one depth that it neither needs nor makes."""
    above: dict[str, set[str]] = {}
    depth: dict[str, int] = {}
    for name, earlier in before.items():
        above[name] = set().union(*(above[one] | {one} for one in earlier))
        depth[name] = max((depth[one] + (one in stale) for one in earlier), default=0)
    found = {}
    for name in before:
        if name in stale:
            counts: dict[int, int] = {}
            for other in stale:
                if other != name and other in above and other not in above[name] and name not in above[other]:
                    counts[depth[other]] = counts.get(depth[other], 0) + 1
            found[name] = max(counts.values(), default=0)
    return found
