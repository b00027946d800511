"""Metrics in what a program prints."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from mlops_local.domain.spoken import LONGEST_LINE, Listener

TALK = b"""starting: now
loss: 0.5
val loss = 1e-3
  auc : .75
epoch: 2
loss: nan
time: 12:30
speed: 3 rows/s
step: 10
loss: -4
url: http://a/b
"""


def test_lines_that_are_a_name_and_a_number() -> None:
    """Nothing else is read; a step or epoch line places what follows; without one the values are counted."""
    points = [(point.key, point.value, point.step) for point in Listener().hear(TALK)]
    assert points[:3] == [("loss", 0.5, 0), ("val_loss", 0.001, 0), ("auc", 0.75, 0)]
    assert points[3][0] == "loss" and math.isnan(points[3][1]) and points[3][2] == 2
    assert points[4:] == [("loss", -4.0, 10)]


def test_values_without_a_step_are_counted() -> None:
    """The third loss is at step 2."""
    assert [point.step for point in Listener().hear(b"loss: 3\nacc: 1\nloss: 2\nloss: 1\n")] == [0, 0, 1, 2]


def test_a_step_that_is_no_place_on_a_curve_places_nothing() -> None:
    """Steps that are infinite or no number are passed over: what follows stands where it stood."""
    assert [point.step for point in Listener().hear(b"step: nan\nloss: 3\nstep: 4\nstep: inf\nloss: 2\n")] == [0, 4]


@given(st.lists(st.integers(1, 7), max_size=60))
def test_it_does_not_matter_how_the_bytes_arrive(sizes: list[int]) -> None:
    """Whatever the pieces, the points are the same."""
    listener, found, rest = Listener(), [], TALK
    for size in sizes:
        found += listener.hear(rest[:size])
        rest = rest[size:]
    found += listener.hear(rest)
    assert [repr(point) for point in found] == [repr(point) for point in Listener().hear(TALK)]


def test_a_line_without_end_costs_no_memory() -> None:
    """A progress bar that never ends a line, or binary output, is forgotten but for its end."""
    listener = Listener()
    for _ in range(100):
        assert listener.hear(b"\r50% " * 1000) == []
    assert len(listener._rest) <= LONGEST_LINE
    assert [point.key for point in listener.hear(b"\nloss: 1\n")] == ["loss"]
