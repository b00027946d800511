"""A graph over a sample."""

from __future__ import annotations

from mlops_local.domain.assets import ColumnProfile, Snapshot
from mlops_local.domain.graph import Graph, Input, Source, Step, Symbol
from mlops_local.domain.plan import Part
from mlops_local.engines.pipeline.sources import SourceFile
from mlops_local.services.known import Code
from mlops_local.services.smoke import sampled


def snapshot(name: str, rows: int) -> Snapshot:
    """A table of so many rows."""
    return Snapshot(id=name, source=name, files=(), rows=rows, bytes=rows, columns=(ColumnProfile("a", "Int64"),))


def test_large_sources_are_sampled_and_every_step_means_something_else() -> None:
    """What the large table is joined with stays whole; no step has the fingerprint of the whole, whatever it reads."""
    steps = (
        Step("read", "step", (Symbol("p", "read"),), (Input("flights", "flights"), Input("airports", "airports"))),
        Step("alone", "step", (Symbol("p", "alone"),)),
    )
    sources = (Source("flights", "f"), Source("airports", "a"), Source("weather", "w"), Source("tiny", "t"))
    files = {"p": SourceFile("p.py", b"def read(flights, airports): ...\ndef alone(): ...\n")}
    code = Code(files, Graph(sources=sources, steps=steps), "key", "described")
    rows = {"flights": 100_000, "airports": 50, "weather": 60_000, "tiny": 3}
    made = sampled(code, {name: snapshot(name, count) for name, count in rows.items()}, 0.05)
    assert {source.name: source.sample for source in made.graph.sources} == {
        "flights": 0.05,
        "airports": 0.0,
        "weather": 0.05,
        "tiny": 0.0,
    }
    for step in steps:
        assert code.parts(step) != made.parts(made.graph.step(step.name))
    assert made.described == "", "its parts are not kept beside those of the whole"


def test_a_program_counts_in_a_sample_too() -> None:
    """A command step whose program changed runs again on the sample: nothing else tells one version from the other."""
    step = Step("fit", "command", (), extras={"code": '["fit.py"]'})
    parts = []
    for value in ("old", "new"):
        code = Code({}, Graph(steps=(step,)), "key", programs={"fit": (Part("code", "fit.py", value, "fit.py"),)})
        made = sampled(code, {}, 0.05)
        parts.append(made.parts(made.graph.step("fit")))
    assert parts[0] != parts[1]
