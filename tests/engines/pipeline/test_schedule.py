"""Which step begins when, and with what."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlops_local.domain.graph import Input, Needs, Step, Symbol
from mlops_local.engines.pipeline.schedule import Machine, Schedule, beyond

FOUR = Machine(cpus=4, memory=8_000, gpus=("0", "1"))


def step(name: str, *after: str, needs: Needs | None = None) -> Step:
    return Step(name, "step", (Symbol("m", name),), tuple(Input(a, a) for a in after), needs=needs or Needs())


def schedule(*steps: Step, jobs: int = 4, machine: Machine = FOUR, **more: dict[str, float]) -> Schedule:
    stale = [one.name for one in steps]
    memory = {name: int(size) for name, size in more.get("memory", {}).items()}
    made = Schedule(steps, machine, jobs=jobs, stale=stale, memory=memory, seconds=more.get("seconds"))
    for name in made.ready():
        made.queue(name)
    return made


def names(made: Schedule) -> list[str]:
    return [place.step for place in made.start()]


def test_a_chain_has_every_core_and_two_branches_half() -> None:
    """Steps that can only run alone are not limited; of those that can run side by side each gets its share."""
    made = schedule(step("split"), step("gbm", "split"), step("mlp", "split"), step("compare", "gbm", "mlp"))
    seen = {}
    while True:
        begun = made.start()
        if not begun:
            break
        for place in begun:
            seen[place.step] = place.threads
            made.end(place.step, ok=True)
        for name in made.ready():
            made.queue(name)
    assert seen == {"split": 0, "gbm": 2, "mlp": 2, "compare": 0}


def test_declared_cores_win() -> None:
    """A step gets the threads it declares, and others wait while those are taken."""
    made = schedule(step("big", needs=Needs(cpus=3)), step("two", needs=Needs(cpus=2)), step("one", needs=Needs(cpus=1)))
    begun = {place.step: place.threads for place in made.start()}
    assert begun == {"big": 3, "one": 1}
    made.end("big", ok=True)
    assert names(made) == ["two"]


def test_more_jobs_than_cores_share_them() -> None:
    """Whoever asks for more steps at once than there are cores gets them, one thread each."""
    made = schedule(*(step(f"s{n}") for n in range(10)), jobs=8)
    begun = made.start()
    assert len(begun) == 8
    assert {place.threads for place in begun} == {1}


def test_one_job_is_one_step() -> None:
    """With -j 1 the steps run one after another, each with every core."""
    made = schedule(step("a"), step("b"), jobs=1)
    assert [(place.step, place.threads) for place in made.start()] == [("a", 0)]
    assert made.start() == []


def test_files_of_a_step_share_what_it_has() -> None:
    """A step that runs once for each file has as many at once as there are jobs for it, and divides its cores among them."""

    def files(needs: Needs, count: int, jobs: int, beside: int = 0, memory: int = 0) -> tuple[int, int]:
        made = schedule(step("each", needs=needs), *(step(f"s{n}") for n in range(beside)), jobs=jobs, memory={"each": memory})
        made.queue("each", files=count)
        place = next(place for place in made.start() if place.step == "each")
        return place.files, place.threads

    assert files(Needs(), 10, 4) == (4, 1)
    assert files(Needs(), 10, 2) == (2, 2)
    assert files(Needs(), 1, 4) == (1, 0)
    assert files(Needs(), 10, 4, beside=1) == (2, 1)
    assert files(Needs(cpus=2), 10, 4) == (2, 2)
    assert files(Needs(gpus=1), 10, 4) == (1, 0)
    assert files(Needs(), 10, 4, memory=3_000) == (2, 2)
    assert files(Needs(), 10, 8) == (8, 1)


def test_gpus_are_exclusive() -> None:
    """A GPU belongs to one step at a time; what asks for none sees what the environment lets it."""
    made = schedule(*(step(name, needs=Needs(gpus=count)) for name, count in (("a", 1), ("b", 1), ("c", 2), ("d", 0))))
    places = {place.step: place.gpus for place in made.start()}
    assert places == {"a": ("0",), "b": ("1",), "d": None}
    made.end("b", ok=True)
    assert names(made) == []
    made.end("a", ok=True)
    assert [place.gpus for place in made.start()] == [("0", "1")]


def test_memory_is_not_promised_twice() -> None:
    """What steps declare, or took last time, fits the machine together; a step larger than the machine runs alone."""
    needs = Needs(memory=5_000)
    made = schedule(step("a", needs=needs), step("b", needs=needs), step("c"), jobs=4, memory={"c": 3_000})
    assert names(made) == ["a", "c"]
    huge = schedule(step("huge", needs=Needs(memory=9_000)), step("small"), memory={"small": 1})
    assert names(huge) == ["huge"]


def test_what_the_machine_lacks_is_said_and_does_not_stop() -> None:
    """A step that declares more than there is runs with what there is."""
    small = Machine(cpus=1, memory=1_000_000_000)
    needs = Needs(cpus=2, memory=2_000_000_000, gpus=1)
    assert [text.partition(",")[0] for text in beyond(needs, small)] == ["2 cpus", "2.0 GB of memory", "1 gpu"]
    place = schedule(step("a", needs=needs), machine=small).start()[0]
    assert (place.threads, place.gpus) == (2, None)


def test_the_longest_way_is_first() -> None:
    """Of two steps that could begin, the one with more work behind it does."""
    steps = (step("short"), step("long"), step("after", "long"))
    assert names(schedule(*steps, jobs=1)) == ["long"]
    assert names(schedule(*steps, jobs=1, seconds={"short": 10.0, "long": 1.0, "after": 1.0})) == ["short"]


def test_what_depends_on_a_failure_is_left() -> None:
    """After a failure the others run, and those behind it are never ready."""
    made = schedule(step("a"), step("b"), step("c", "a"), step("d", "b"), step("e", "c", "d"))
    assert names(made) == ["a", "b"]
    made.end("a", ok=False)
    made.end("b", ok=True)
    assert made.ready() == ["d"]
    made.queue("d")
    assert names(made) == ["d"]
    made.end("d", ok=True)
    assert (made.ready(), made.left) == ([], ("c", "e"))


@st.composite
def graphs(draw: st.DrawFn) -> list[Step]:
    count = draw(st.integers(1, 12))
    steps: list[Step] = []
    for number in range(count):
        before = draw(st.sets(st.sampled_from(range(number)), max_size=3)) if number else set()
        needs = Needs(draw(st.integers(0, 6)), draw(st.integers(0, 9_000)), draw(st.integers(0, 3)))
        steps.append(step(f"s{number}", *(f"s{one}" for one in sorted(before)), needs=needs))
    return steps


@given(graphs(), st.integers(1, 6), st.randoms(use_true_random=False))
def test_every_step_runs_once_after_its_inputs_within_the_machine(steps: list[Step], jobs: int, random: object) -> None:
    """Whatever is declared: all run, none before its inputs, never more at once than jobs, and a GPU never twice."""
    made = schedule(*steps, jobs=jobs)
    inputs = {one.name: {item.node for item in one.inputs} for one in steps}
    done: list[str] = []
    running: dict[str, tuple[str, ...]] = {}
    while len(done) < len(steps):
        for place in made.start():
            assert inputs[place.step] <= set(done)
            assert place.step not in running
            running[place.step] = place.gpus or ()
        assert 0 < len(running) <= jobs
        gpus = [gpu for given in running.values() for gpu in given]
        assert len(gpus) == len(set(gpus))
        name = random.choice(sorted(running))  # type: ignore[attr-defined]
        del running[name]
        made.end(name, ok=True)
        done.append(name)
        for ready in made.ready():
            made.queue(ready)
    assert sorted(done) == sorted(one.name for one in steps)
