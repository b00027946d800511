from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_local.domain.errors import ConfigError
from mlops_local.domain.graph import Graph, Input, Param, Source, Step, Symbol
from mlops_local.domain.plan import Output, Part, Plan, StepResult
from mlops_local.engines.pipeline.fingerprint import EDGES, digest, fingerprint
from mlops_local.engines.pipeline.plan import changes, dag, decide, why


@dataclass
class World:
    """A pipeline whose steps are pure functions of their code and inputs, and a cache of what ran."""

    graph: Graph
    codes: dict[str, int]
    snapshots: dict[str, str]
    params: dict[str, dict[str, float]] = field(default_factory=dict)
    cache: dict[str, StepResult] = field(default_factory=dict)
    newest: dict[str, StepResult] = field(default_factory=dict)

    def parts(self, step: Step) -> tuple[Part, ...]:
        return (Part("code", f"pipeline.{step.name}", str(self.codes[step.name]), "pipeline.py:1"), Part("code", EDGES, "same"))

    def plan(self, force: tuple[str, ...] = (), seconds: Callable[[str], float | None] = lambda step: None) -> Plan:
        return decide(
            self.graph,
            [],
            parts=self.parts,
            params=self.params,
            snapshots=self.snapshots,
            cached=self.cache.get,
            latest=self.newest.get,
            force=force,
            seconds=seconds,
        )

    def content(self, item: Input) -> str:
        return self.snapshots.get(item.node) or self.newest[item.node].outputs[0].logical

    def value(self, step: Step, inputs: Mapping[str, str]) -> str:
        """What running the step gives: only the last digit of its code matters, so that some edits change no output."""
        return digest("value", step.name, str(self.codes[step.name] % 2), *inputs.values())

    def execute(self, name: str) -> None:
        step = self.graph.step(name)
        inputs = {item.argument: self.content(item) for item in step.inputs}
        found, parts = fingerprint(step, self.parts(step), self.params.get(name, {}), inputs)
        result = StepResult(name, found, (Output("result", "json", self.value(step, inputs)),), parts=parts)
        self.cache[found] = self.newest[name] = result

    def train(self) -> list[str]:
        """Run the first stale step and decide again, until nothing is stale."""
        ran: list[str] = []
        while True:
            plan = self.plan()
            for decision in plan.decisions:
                if decision.state == "fresh":
                    self.newest[decision.name] = self.cache[decision.fingerprint]
            stale = [decision for decision in plan.stale if decision.fingerprint]
            if not stale:
                return ran
            self.execute(stale[0].name)
            ran.append(stale[0].name)


def graph_of(edges: Mapping[str, list[str]]) -> Graph:
    steps = [
        Step(name, "step", (Symbol("pipeline", name),), tuple(Input(node, node) for node in nodes))
        for name, nodes in edges.items()
    ]
    return Graph(sources=(Source("data", "data/*.csv"),), steps=tuple(steps))


@st.composite
def worlds(draw: Callable[..., int]) -> World:
    count = draw(st.integers(1, 7))
    names = [f"s{number}" for number in range(count)]
    edges = {
        name: [other for other in names[:number] if draw(st.integers(0, 2)) == 0] or ["data"]
        for number, name in enumerate(names)
    }
    return World(graph_of(edges), {name: draw(st.integers(0, 3)) for name in names}, {"data": "a"})


def downstream(graph: Graph, roots: set[str]) -> set[str]:
    found = set(roots)
    for step in graph.steps:
        if any(item.node in found for item in step.inputs):
            found.add(step.name)
    return found


@settings(max_examples=120, deadline=None)
@given(worlds(), st.data())
def test_plan_never_runs_a_fresh_step_and_never_skips_a_dependant(world: World, data: st.DataObject) -> None:
    """After any edits, exactly the edited steps and what depends on them are stale; all others are fresh."""
    world.train()
    assert world.plan().stale == ()
    names = [step.name for step in world.graph.steps]
    edits = data.draw(st.dictionaries(st.sampled_from(names), st.integers(4, 9)))
    changed = {name for name in edits if edits[name] != world.codes[name]}
    world.codes.update(edits)
    assert {decision.name for decision in world.plan().stale} == downstream(world.graph, changed)


@settings(max_examples=120, deadline=None)
@given(worlds(), st.data())
def test_training_runs_what_it_must_and_nothing_twice(world: World, data: st.DataObject) -> None:
    """A step runs exactly when its code or an input's content is new, and the results equal those of a run from nothing."""
    world.train()
    names = [step.name for step in world.graph.steps]
    for _ in range(3):
        world.codes.update(data.draw(st.dictionaries(st.sampled_from(names), st.integers(0, 5))))
        if data.draw(st.booleans()):
            world.snapshots["data"] = data.draw(st.sampled_from("abc"))
        seen = set(world.cache)
        ran = world.train()
        assert len(ran) == len(set(ran))
        assert len(world.cache) == len(seen) + len(ran), "nothing that was known ran again"
        scratch = World(world.graph, dict(world.codes), dict(world.snapshots))
        scratch.train()
        assert {name: world.newest[name].outputs for name in names} == {name: scratch.newest[name].outputs for name in names}


def chain() -> World:
    world = World(graph_of({"a": ["data"], "b": ["a"], "c": ["b"]}), {"a": 0, "b": 0, "c": 0}, {"data": "old"})
    world.train()
    return world


def test_an_output_that_comes_out_equal_stops_the_chain() -> None:
    """Early cutoff: an edit that leaves a step's output as it was runs that step alone."""
    world = chain()
    world.codes["a"] = 2
    assert [decision.name for decision in world.plan().stale] == ["a", "b", "c"]
    assert world.train() == ["a"]


def test_reasons_name_what_changed() -> None:
    """A stale step says code with its place, params and data old and new; one behind it says which input is made again."""
    world = chain()
    world.codes["a"] = 1
    texts = {decision.name: [reason.text() for reason in decision.reasons] for decision in world.plan().stale}
    assert texts == {
        "a": ["code pipeline.a (pipeline.py:1) changed"],
        "b": ["data a will be made again"],
        "c": ["data b will be made again"],
    }
    world = chain()
    world.snapshots["data"] = "new"
    assert world.plan().decisions[0].reasons[0].text() == "data data: old → new"


def test_param_change_shows_both_values() -> None:
    """A changed parameter is named with its old and new value."""
    step = Step("fit", "step", (Symbol("pipeline", "fit"),), params=(Param("rate", 0.1),))
    world = World(Graph(steps=(step,)), {"fit": 0}, {}, {"fit": {"rate": 0.1}})
    world.train()
    world.params = {"fit": {"rate": 0.2}}
    assert [reason.text() for reason in world.plan().decisions[0].reasons] == ["params rate: 0.1 → 0.2"]


def test_first_run_forced_and_lost_results_have_reasons() -> None:
    """Never run, forced and a result that is gone are told apart."""
    world = World(graph_of({"a": ["data"]}), {"a": 0}, {"data": "x"})
    assert [reason.text() for reason in world.plan().decisions[0].reasons] == ["never run"]
    world.train()
    assert [reason.text() for reason in world.plan(force=("a",)).decisions[0].reasons] == ["forced"]
    world.cache.clear()
    assert world.plan().decisions[0].reasons[0].what == "its stored result is gone"


def test_step_without_a_snapshot_and_all_behind_it_are_blocked() -> None:
    """A source nobody can read blocks the steps that need it, with the reason."""
    world = World(graph_of({"a": ["data"], "b": ["a"], "c": ["data"]}), {"a": 0, "b": 0, "c": 0}, {})
    plan = world.plan()
    assert [decision.state for decision in plan.decisions] == ["blocked"] * 3
    assert plan.decisions[1].reasons[-1].text() == "data a cannot be made"


def test_why_leads_to_the_root_cause() -> None:
    """The causes of a step end where something was edited, and go on where that is not the only reason."""
    world = chain()
    world.codes["a"] = 1
    assert [decision.name for decision in why(world.plan(), world.graph, "c").chain()] == ["c", "b", "a"]
    world.codes["b"] = 1
    cause = why(world.plan(), world.graph, "c").behind["b"]
    assert [reason.kind for reason in cause.decision.reasons] == ["code", "data"]
    assert list(cause.behind) == ["a"]


def test_why_follows_every_branch_and_knows_what_they_share() -> None:
    """Two ways to one edit: both are told, and the step they meet in is one cause."""
    world = World(
        graph_of({"a": ["data"], "left": ["a"], "right": ["a"], "end": ["left", "right"]}),
        dict.fromkeys(("a", "left", "right", "end"), 0),
        {"data": "x"},
    )
    world.train()
    world.codes["a"] = 1
    cause = why(world.plan(), world.graph, "end")
    assert list(cause.behind) == ["left", "right"]
    assert cause.behind["left"].behind["a"] is cause.behind["right"].behind["a"]
    assert [decision.name for decision in cause.chain()] == ["end", "left", "a", "right"]


def test_a_fresh_step_has_nothing_behind_it() -> None:
    """What is fresh has no causes, whatever else is stale."""
    world = chain()
    assert why(world.plan(), world.graph, "c").behind == {}


def test_code_that_moved_is_named_with_both_places() -> None:
    """A helper that was moved and changed is one reason with the new and the old place; what only went is said so."""
    before = StepResult("fit", "f", parts=(Part("code", "pipeline.scale", "1" * 9, "pipeline.py:4"),))
    moved = changes(before, [Part("code", "helpers.scale", "2" * 9, "helpers.py:9")])
    assert [reason.text() for reason in moved] == ["code helpers.scale (helpers.py:9, before pipeline.py:4) changed"]
    other = changes(before, [Part("code", "helpers.other", "2" * 9, "helpers.py:9")])
    assert [reason.text() for reason in other] == [
        "code helpers.other (helpers.py:9) is new",
        "code pipeline.scale (pipeline.py:4) is gone",
    ]


def test_the_plan_says_how_long_it_takes_when_every_step_is_known() -> None:
    """The sum of what the stale steps took before; nothing is guessed for one that never ran."""
    world = chain()
    world.codes["a"] = 1
    times = {"a": 1.0, "b": 2.0, "c": 4.0}
    assert world.plan(seconds=times.get).seconds == 7.0
    assert world.plan(seconds={"a": 1.0}.get).seconds is None


def test_the_dag_holds_sources_steps_and_what_they_read() -> None:
    """Every node once with its state; a source without a snapshot is blocked."""
    graph = graph_of({"a": ["data"], "b": ["a", "other"]})
    world = World(replace(graph, sources=(*graph.sources, Source("other", "*.csv"))), {"a": 0, "b": 0}, {"data": "x"})
    found = dag(world.plan(), world.graph, ["b"], world.snapshots)
    assert [(node.name, node.kind, node.state) for node in found.nodes] == [
        ("data", "source", "fresh"),
        ("other", "source", "blocked"),
        ("a", "step", "stale"),
        ("b", "step", "blocked"),
    ]
    assert found.nodes[-1].inputs == (("a", ""), ("other", ""))


def test_targets_limit_the_plan() -> None:
    """Only the targets and what they need are planned."""
    world = World(graph_of({"a": ["data"], "b": ["a"], "other": ["data"]}), {"a": 0, "b": 0, "other": 0}, {"data": "x"})
    plan = decide(
        world.graph,
        ["b"],
        parts=world.parts,
        params={},
        snapshots=world.snapshots,
        cached=world.cache.get,
        latest=world.newest.get,
    )
    assert [decision.name for decision in plan.decisions] == ["a", "b"]


def test_parameter_without_a_value_is_refused() -> None:
    """A parameter without default that nobody sets is a configuration error with the place and three ways out."""
    step = Step("fit", "step", (Symbol("pipeline", "fit"),), params=(Param("rate", required=True),), file="pipeline.py", line=7)
    world = World(Graph(steps=(step,)), {"fit": 0}, {}, {"fit": {}})
    with pytest.raises(ConfigError) as caught:
        world.plan()
    assert caught.value.message == "pipeline.py:7: step 'fit' needs a value for its parameter 'rate'"
    assert "-S fit.rate=" in caught.value.hint
